/* POST /v1/blind/completions: one sealed request to one provider (docs/reference/blind-mode.md). */
#include "coordinator/gateway/blind_call.h"

#include "core/clock.h"

#include <stdlib.h>

static void start(struct blind_call *call);

/* --- life --- */

void blind_enter(struct blind_call *call)
{
	call->busy++;
}

void blind_leave(struct blind_call *call)
{
	if (--call->busy > 0 || !call->over)
		return;
	list_remove(&call->gateway->blind_calls, &call->link);
	buf_free(&call->whole);
	free(call);
}

void blind_let_go(struct blind_call *call)
{
	if (!call->exchange)
		return;
	call->exchange->on_gone = NULL;
	call->exchange->owner = NULL;
	call->exchange = NULL;
	call->gateway->inflight--;
}

static void record_begin(struct blind_call *call)
{
	struct record *record = &call->record;
	record_init(record);
	record->at_us = clock_wall_us();
	record->account = keep_digest(call->gateway, &call->caller);
	record->blind = true;
	record->stream = call->request.stream;
	record->prompt_tokens = (uint64_t)call->request.ask.prompt_tokens;
	record->max_tokens = (uint64_t)call->request.ask.max_tokens;
	memcpy(record->id, call->id, sizeof record->id);
	memcpy(record->model, call->model, sizeof record->model);
	memcpy(record->public_model, call->model, sizeof record->public_model);
	wishes_note(&call->wishes, record);
}

static void record_end(struct blind_call *call)
{
	struct record *record = &call->record;
	if (!record->outcome[0])
		(void)str_copy(STR("client_gone"), record->outcome, sizeof record->outcome);
	keep_record(call->gateway, record);
}

static void stop_waiting(struct blind_call *call)
{
	if (call->waiting) {
		fleet_wait_cancel(&call->waiter);
		call->record.queue_us = clock_mono_us() - call->queued_at_us;
	}
	call->waiting = false;
	net_timer_stop(&call->queue_timer);
}

void blind_over(struct blind_call *call)
{
	if (call->over)
		return;
	call->over = true;
	record_end(call);
	admit_leave(&call->admission, &call->caller);
	stop_waiting(call);
	ledger_room_cancel(&call->room);
	net_timer_stop(&call->deadline);
	net_timer_stop(&call->keepalive);
	if (call->job)
		fleet_job_cancel(call->job);
	call->job = NULL;
	blind_let_go(call);
}

void blind_put_error(const struct api_error *error, struct buf *out)
{
	buf_append_str(out, STR("event: error\ndata: "));
	api_error_write(error, out);
	while (out->len > 0 && out->at[out->len - 1] == '\n')
		out->len--;
	buf_append_str(out, STR("\n\n"));
}

/* Nobody pays; the consumer hears why. */
void blind_fail(struct blind_call *call, const char *reason, const struct api_error *error)
{
	struct exchange *exchange = call->exchange;
	bool started = call->started;
	keep_note_error(&call->record, error, exchange ? exchange->refused_by : NULL);
	blind_release(call, reason);
	blind_over(call);
	if (!exchange)
		return;
	if (!started) {
		exchange_header(exchange, "X-Inference-Job-ID", str_of(call->id));
		exchange_error(exchange, error);
		return;
	}
	struct buf out;
	buf_init(&out, 4096);
	blind_put_error(error, &out);
	(void)exchange_stream_write(exchange, buf_str(&out));
	buf_free(&out);
	exchange_stream_end(exchange);
}

/* Another provider has another key: only the consumer can go on. */
void blind_fail_reseal(struct blind_call *call, const char *reason, int status, const char *why, struct str detail)
{
	struct api_error error;
	api_fail(&error, status, "blind_provider_unavailable", "seal_again", "provider_id",
	         "%s%s%.*s. Ask POST /v1/blind/offer for other providers and seal the request again for one of them.", why,
	         detail.len ? ": " : "", STR_ARG(str_sub(detail, 0, 120)));
	if (status == 429 || status == 503)
		error.retry_after_s = 2;
	blind_fail(call, reason, &error);
}

static void on_gone(struct exchange *exchange)
{
	struct blind_call *call = exchange->owner;
	blind_enter(call);
	if (call->job && call->chunks > 0 && call->request.stream) {
		blind_let_go(call);
		net_timer_stop(&call->deadline);
		net_timer_stop(&call->keepalive);
		metric_add(call->gateway->parked, 1);
		fleet_job_park(call->job);
	} else {
		blind_release(call, "client_gone");
		blind_over(call);
	}
	blind_leave(call);
}

void blind_stop(struct gateway *gateway)
{
	for (struct list_link *link; (link = list_first(&gateway->blind_calls));) {
		struct blind_call *call = LIST_OF(link, struct blind_call, link);
		blind_enter(call);
		blind_release(call, "shutdown");
		blind_over(call);
		blind_leave(call);
	}
}

/* --- starting, now or when the provider has room --- */

static void on_queue_timeout(struct net_timer *timer)
{
	struct blind_call *call = LIST_OF(timer, struct blind_call, queue_timer);
	blind_enter(call);
	blind_fail_reseal(call, "reservation_refund", 429, "The provider stayed busy", STR_NONE);
	blind_leave(call);
}

static void on_wake(struct fleet_waiter *waiter)
{
	struct blind_call *call = LIST_OF(waiter, struct blind_call, waiter);
	blind_enter(call);
	if (!call->over)
		start(call);
	blind_leave(call);
}

static struct str account_of(const struct blind_call *call)
{
	return str_of(ledger_account_id(call->caller.account));
}

/* What routing must know; strings are borrowed from the call. */
static struct route_request route_of(const struct blind_call *call)
{
	const struct blind_ask *ask = &call->request.ask;
	uint64_t expected = learn_expect(&call->gateway->learn, str_of(call->model), account_of(call));
	struct route_request request = {
	    .model = str_of(call->model),
	    .prompt_tokens = (uint64_t)ask->prompt_tokens,
	    .max_tokens = fleet_model_room(call->gateway->options.fleet, str_of(call->model), (uint64_t)ask->prompt_tokens,
	                                   (uint64_t)ask->max_tokens),
	    .expected_tokens = expected < (uint64_t)ask->max_tokens ? expected : (uint64_t)ask->max_tokens,
	    .blind = true,
	    .only = fleet_blind_node(call->gateway->options.fleet, str_of(call->provider_id)),
	    .caller_account = account_of(call),
	};
	wishes_ask(&call->wishes, &request);
	return request;
}

static void wait_for_provider(struct blind_call *call)
{
	const struct gateway_options *options = &call->gateway->options;
	bool first = !call->waiting;
	struct route_request request = route_of(call);
	call->waiter.wake = on_wake;
	if (fleet_wait(options->fleet, &request, &call->waiter, !first) != DB_OK) {
		call->waiting = false;
		blind_fail_reseal(call, "reservation_refund", 429, "The provider is busy and too many requests wait", STR_NONE);
		return;
	}
	if (!first)
		return;
	call->waiting = true;
	call->queued_at_us = clock_mono_us();
	metric_add(call->gateway->queued, 1);
	net_timer_start(options->loop, &call->queue_timer, options->queue_wait_ms, 0, on_queue_timeout);
}

static void start(struct blind_call *call)
{
	struct gateway *gateway = call->gateway;
	const struct gateway_options *options = &gateway->options;
	const struct blind_ask *ask = &call->request.ask;
	struct route_decision decision = {0};
	struct api_error error;
	struct fleet_blind_request blind = {.provider_id = str_of(call->provider_id),
	                                    .sender_key = call->request.ephemeral_public_key,
	                                    .ciphertext = call->request.ciphertext,
	                                    .max_prompt_tokens = ask->max_prompt_tokens,
	                                    .max_tokens = ask->max_tokens};
	struct fleet_job_request request = {
	    .route = route_of(call),
	    .request_id = str_of(call->id),
	    .job_id = str_of(call->id),
	    .stream = call->request.stream,
	    .blind = &blind,
	};
	enum db_err err = fleet_job_start(options->fleet, &request, &blind_callbacks, call, &call->job, &decision);
	record_note_decision(&call->record, &decision);
	if (err == DB_E_AGAIN) {
		wait_for_provider(call);
		return;
	}
	stop_waiting(call);
	if (err && wishes_explain(&call->wishes, options->fleet, account_of(call), str_of(call->model), &error)) {
		blind_fail(call, "reservation_refund", &error);
		return;
	}
	if (err) {
		blind_fail_reseal(call, "reservation_refund", 503, "The provider is gone, or can take no sealed request now", STR_NONE);
		return;
	}
	call->record.attempts = 1;
	call->sent_at_us = net_now_us(options->loop);
	memcpy(call->record.provider, call->provider_id, sizeof call->record.provider);
	metric_add(gateway->attempts, 1);
	blind_watch(call, options->first_content_ms + (uint64_t)ask->prompt_tokens);
	if (call->request.stream && !call->keepalive.loop)
		net_timer_start(options->loop, &call->keepalive, options->keepalive_ms, options->keepalive_ms, blind_on_keepalive);
}

/* --- admission --- */

/* On which a request is taken. */
struct terms {
	struct wishes wishes;
	struct price price;
	bool free;
};

/* What was wished when the offer was made counts too. */
static bool wish_as_offered(struct wishes *wishes, const struct blind_offer *offer, struct arena *arena,
                            struct api_error *error)
{
	struct chat_places offered = {.regions = arena_alloc(arena, CHAT_PLACES_REGIONS * sizeof *offered.regions)};
	wishes->own_only |= offer->own_only;
	wishes->prefers_own |= offer->prefers_own;
	if (wishes->min_trust < offer->min_trust)
		wishes->min_trust = offer->min_trust;
	if (!offered.regions)
		return api_fail(error, 503, "service_unavailable", NULL, NULL, "The request needs more memory than there is.");
	for (; offered.region_count < offer->region_count; offered.region_count++)
		offered.regions[offered.region_count] = arena_str(arena, str_of(offer->regions[offered.region_count]));
	return offered.region_count == 0 || chat_places_narrow(&wishes->places, &offered, arena, error);
}

/* The offer's terms, or those of now; false with *error. */
static bool agree(struct gateway *gateway, const struct exchange *exchange, struct blind_completion_request *request,
                  struct terms *terms, struct api_error *error)
{
	bool service = ledger_account_is_service(exchange->caller.account);
	struct str account = str_of(ledger_account_id(exchange->caller.account));
	struct fleet_provider_view provider;
	if (!wishes_read(&terms->wishes, exchange, &request->places, error))
		return false;
	bool known = fleet_blind_provider(gateway->options.fleet, request->provider_id, &provider);
	if (request->offer_id.len == 0) {
		terms->price = ledger_price(gateway->options.ledger, known ? provider.account : STR_NONE, request->ask.model, service);
		terms->free = known && wishes_granted(&terms->wishes, account, &provider);
		return true;
	}
	const struct blind_offer *offer = blind_offer_find(gateway, request->offer_id, exchange->caller.account);
	if (!offer)
		return api_fail(error, 404, "offer_not_found", NULL, "offer_id",
		                "The offer is unknown or has expired: ask POST /v1/blind/offer again.");
	if (!wish_as_offered(&terms->wishes, offer, http_arena(exchange->http), error))
		return false;
	terms->free = known && wishes_granted(&terms->wishes, account, &provider);
	for (size_t i = 0; i < offer->count; i++) {
		if (!str_is(request->provider_id, offer->candidates[i].provider_id))
			continue;
		request->ask = offer->ask; /* copied below before the offer can go */
		terms->price = offer->candidates[i].price;
		return true;
	}
	return api_fail(error, 400, "invalid_request_error", NULL, "provider_id",
	                "The provider is none of the offer's candidates.");
}

static struct blind_call *call_new(struct gateway *gateway, struct exchange *exchange,
                                   const struct blind_completion_request *request, const struct terms *terms)
{
	struct blind_call *call = calloc(1, sizeof *call);
	if (!call)
		return NULL;
	call->gateway = gateway;
	call->exchange = exchange;
	call->request = *request;
	call->price = terms->price;
	call->free = terms->free;
	call->wishes = terms->wishes;
	call->caller = exchange->caller;
	call->service = ledger_account_is_service(call->caller.account);
	(void)str_copy(request->ask.model, call->model, sizeof call->model);
	(void)str_copy(request->provider_id, call->provider_id, sizeof call->provider_id);
	id_uuid7(call->id);
	buf_init(&call->whole, BLIND_WHOLE_MAX_BYTES);
	record_begin(call);
	exchange->on_refused = NULL;
	exchange->owner = call;
	exchange->on_gone = on_gone;
	list_push_back(&gateway->blind_calls, &call->link);
	gateway->inflight++;
	return call;
}

static void on_room(struct ledger_room *room, enum db_err err)
{
	struct blind_call *call = LIST_OF(room, struct blind_call, room);
	struct api_error error;
	blind_enter(call);
	if (err)
		admit_fail_hold(&error, err, blind_wanted(call), call->caller.account, "The declared limits need",
		                "declare lower ones");
	if (!err && blind_hold(call, &error) == DB_OK)
		start(call);
	else
		blind_fail(call, "reservation_refund", &error);
	blind_leave(call);
}

static void begin(struct blind_call *call)
{
	struct api_error error;
	enum db_err err = blind_hold(call, &error);
	if (!err) {
		start(call);
	} else if (err == DB_E_AGAIN) {
		call->room.done = on_room;
		ledger_room_ask(call->caller.account, call->caller.group, blind_wanted(call), &call->room);
	} else {
		blind_fail(call, "reservation_refund", &error);
	}
}

void gateway_blind_complete(struct gateway *gateway, struct exchange *exchange)
{
	struct blind_completion_request request;
	struct terms terms = {0};
	struct api_error error;
	if (!blind_completion_parse(exchange_body(exchange), http_arena(exchange->http), &request, &error) ||
	    !agree(gateway, exchange, &request, &terms, &error)) {
		exchange_error(exchange, &error);
		return;
	}
	if (request.ask.model.len >= ROUTE_MODEL_SIZE) {
		api_fail(&error, 404, "model_not_found", NULL, "model", "No model has so long a name.");
		exchange_error(exchange, &error);
		return;
	}
	struct blind_call *call = call_new(gateway, exchange, &request, &terms);
	if (!call) {
		api_fail(&error, 503, "service_unavailable", NULL, NULL, "The request needs more memory than there is.");
		exchange_error(exchange, &error);
		return;
	}
	blind_enter(call);
	struct admit_request asked = {.model = request.ask.model,
	                              .prompt_tokens = (uint64_t)request.ask.max_prompt_tokens,
	                              .max_output = (uint64_t)request.ask.max_tokens,
	                              .own_only = call->wishes.own_only};
	if (admit(&call->admission, gateway->options.limits, exchange, &asked, &error))
		begin(call);
	else
		blind_fail(call, "reservation_refund", &error);
	blind_leave(call);
}
