/* POST /v1/blind/completions: one sealed request to one provider (docs/reference/blind-mode.md). */
#include "coordinator/gateway/admit.h"
#include "coordinator/gateway/blind.h"
#include "coordinator/gateway/call.h"

#include "core/clock.h"
#include "core/log.h"

#include <stdlib.h>

#define WHOLE_MAX_BYTES     (16u << 20) /* of the chunks of an answer that is not streamed */
#define OUTPUT_SLACK_TOKENS 64
#define TOKENS_PER_BYTE     2

struct blind_call {
	struct list_link link;
	struct gateway *gateway;
	struct exchange *exchange; /* NULL: answered, or the consumer left */
	unsigned busy;             /* entered from outside; freed when the last leaves */
	bool over;

	char id[ID_UUID_SIZE]; /* of the hold and on the wire */
	char model[ROUTE_MODEL_SIZE];
	char provider_id[ID_UUID_SIZE];
	struct caller caller;
	struct admission admission;
	bool service;
	struct blind_completion_request request; /* in the exchange's arena */

	struct ledger_hold *hold; /* NULL: none yet, or ended */
	struct price price;

	struct fleet_job *job; /* NULL: not started, or over */
	bool accepted, sent;   /* sent: the provider had it */
	struct fleet_waiter waiter;
	bool waiting;
	struct net_timer queue_timer, deadline, keepalive;

	bool started;     /* status and headers of a stream are out */
	struct buf whole; /* of an answer that is not streamed: base64 texts with commas between */
	uint64_t chunks, bytes, began_us;
	uint32_t unconsumed;
};

static void start(struct blind_call *call);

/* --- life --- */

static void enter(struct blind_call *call)
{
	call->busy++;
}

static void leave(struct blind_call *call)
{
	if (--call->busy > 0 || !call->over)
		return;
	list_remove(&call->gateway->blind_calls, &call->link);
	buf_free(&call->whole);
	free(call);
}

static void let_go(struct blind_call *call)
{
	if (!call->exchange)
		return;
	call->exchange->on_gone = NULL;
	call->exchange->owner = NULL;
	call->exchange = NULL;
	call->gateway->inflight--;
}

static void stop_waiting(struct blind_call *call)
{
	if (call->waiting)
		fleet_wait_cancel(&call->waiter);
	call->waiting = false;
	net_timer_stop(&call->queue_timer);
}

/* The hold must have ended. */
static void over(struct blind_call *call)
{
	if (call->over)
		return;
	call->over = true;
	admit_leave(&call->admission, &call->caller);
	stop_waiting(call);
	net_timer_stop(&call->deadline);
	net_timer_stop(&call->keepalive);
	if (call->job)
		fleet_job_cancel(call->job);
	call->job = NULL;
	let_go(call);
}

static void release(struct blind_call *call, const char *reason)
{
	if (call->hold)
		ledger_release(call->hold, reason);
	call->hold = NULL;
}

static void put_error(const struct api_error *error, struct buf *out)
{
	buf_append_str(out, STR("event: error\ndata: "));
	api_error_write(error, out);
	while (out->len > 0 && out->at[out->len - 1] == '\n')
		out->len--;
	buf_append_str(out, STR("\n\n"));
}

/* Nobody pays; the consumer hears why. */
static void fail(struct blind_call *call, const char *reason, const struct api_error *error)
{
	struct exchange *exchange = call->exchange;
	bool started = call->started;
	release(call, reason);
	over(call);
	if (!exchange)
		return;
	if (!started) {
		exchange_error(exchange, error);
		return;
	}
	struct buf out;
	buf_init(&out, 4096);
	put_error(error, &out);
	(void)exchange_stream_write(exchange, buf_str(&out));
	buf_free(&out);
	exchange_stream_end(exchange);
}

/* The consumer does not take what it is sent: the stream ends, and what the provider signs is paid for. */
static void cut(struct blind_call *call)
{
	struct exchange *exchange = call->exchange;
	struct api_error error;
	struct buf out;
	api_fail(&error, 0, "consumer_too_slow", NULL, NULL,
	         "The answer was read too slowly and had to be cut; you pay for what the provider made.");
	metric_add(call->gateway->aborted, 1);
	buf_init(&out, 4096);
	put_error(&error, &out);
	(void)exchange_stream_write(exchange, buf_str(&out));
	buf_free(&out);
	net_timer_stop(&call->deadline);
	net_timer_stop(&call->keepalive);
	let_go(call);
	exchange_stream_end(exchange);
	fleet_job_park(call->job);
}

/* Another provider has another key: only the consumer can go on. */
static void fail_reseal(struct blind_call *call, const char *reason, int status, const char *why, struct str detail)
{
	struct api_error error;
	api_fail(&error, status, "blind_provider_unavailable", "seal_again", "provider_id",
	         "%s%s%.*s. Ask POST /v1/blind/offer for other providers and seal the request again for one of them.", why,
	         detail.len ? ": " : "", STR_ARG(str_sub(detail, 0, 120)));
	if (status == 429 || status == 503)
		error.retry_after_s = 2;
	fail(call, reason, &error);
}

static void on_gone(struct exchange *exchange)
{
	struct blind_call *call = exchange->owner;
	enter(call);
	if (call->job && call->chunks > 0 && call->request.stream) {
		let_go(call);
		net_timer_stop(&call->deadline);
		net_timer_stop(&call->keepalive);
		metric_add(call->gateway->parked, 1);
		fleet_job_park(call->job);
	} else {
		release(call, "client_gone");
		over(call);
	}
	leave(call);
}

void blind_stop(struct gateway *gateway)
{
	for (struct list_link *link; (link = list_first(&gateway->blind_calls));) {
		struct blind_call *call = LIST_OF(link, struct blind_call, link);
		enter(call);
		release(call, "shutdown");
		over(call);
		leave(call);
	}
}

/* --- money --- */

static bool hold(struct blind_call *call, struct api_error *error)
{
	const struct blind_ask *ask = &call->request.ask;
	struct ledger_hold_options options = {
	    .request_id = str_of(call->id),
	    .key_id = str_of(call->caller.key_id),
	    .group = call->caller.group,
	    .amount_uusd = price_cost(
	        call->price, (struct price_tokens){(uint64_t)ask->max_prompt_tokens, (uint64_t)ask->max_tokens, 0}, call->service),
	    .price = call->price};
	enum db_err err = ledger_hold(call->gateway->options.ledger, call->caller.account, &options, &call->hold);
	return !err || admit_fail_hold(error, err, options.amount_uusd, call->caller.account, "The declared limits need",
	                               "declare lower ones");
}

static uint64_t at_most(uint64_t value, uint64_t bound)
{
	return value < bound ? value : bound;
}

/* What the provider signed, within what was declared and what the bytes that came can have held. */
static struct chat_usage bounded(const struct blind_call *call, const struct fleet_job_end *end)
{
	const struct blind_ask *ask = &call->request.ask;
	uint64_t bytes = call->bytes / 4 * 3;
	struct chat_usage usage = end->usage;
	if (call->exchange) /* of one who left, what came later was not counted here */
		usage.completion_tokens = at_most(usage.completion_tokens, OUTPUT_SLACK_TOKENS + TOKENS_PER_BYTE * bytes);
	usage.completion_tokens = at_most(usage.completion_tokens, (uint64_t)ask->max_tokens);
	usage.reasoning_tokens = at_most(usage.reasoning_tokens, usage.completion_tokens);
	usage.prompt_tokens = at_most(usage.prompt_tokens, (uint64_t)ask->max_prompt_tokens);
	usage.cached_tokens = at_most(usage.cached_tokens, usage.prompt_tokens);
	return usage;
}

static int64_t settle(struct blind_call *call, const struct fleet_provider_view *provider, const struct fleet_job_end *end)
{
	struct gateway *gateway = call->gateway;
	struct chat_usage billed = bounded(call, end);
	struct ledger_usage usage = {
	    .provider_account = provider->account,
	    .provider_id = provider->id,
	    .model = str_of(call->model),
	    .public_model = str_of(call->model),
	    .price = call->price,
	    .prompt_tokens = billed.prompt_tokens,
	    .completion_tokens = billed.completion_tokens,
	    .reasoning_tokens = billed.reasoning_tokens,
	    .fee_percent = call->caller.fee_percent,
	    .outcome = call->exchange ? "success" : "partial_success",
	};
	admit_note_output(&call->admission, &call->caller, billed.completion_tokens);
	int64_t charged = ledger_settle(call->hold, &usage);
	call->hold = NULL;
	learn_output(&gateway->learn, str_of(call->model), str_of(ledger_account_id(call->caller.account)),
	             billed.completion_tokens);
	gateway->settled++;
	metric_add(gateway->prompt_tokens, billed.prompt_tokens);
	metric_add(gateway->completion_tokens, billed.completion_tokens);
	metric_add(gateway->charged, charged > 0 ? (uint64_t)charged : 0);
	return charged;
}

/* --- the answer --- */

static void put_headers(struct blind_call *call)
{
	struct fleet_provider_view p;
	fleet_job_provider(call->job, &p);
	exchange_header(call->exchange, "X-Inference-Job-ID", str_of(call->id));
	exchange_header(call->exchange, "X-Provider-Encrypted", STR("true"));
	exchange_header(call->exchange, "X-Provider-Blind", STR("true"));
	exchange_header(call->exchange, "X-Provider-Attested", p.attested ? STR("true") : STR("false"));
	exchange_header(call->exchange, "X-Provider-Trust-Level", str_of(route_trust_name(p.trust)));
	exchange_header(call->exchange, "X-Provider-Id", p.id);
	exchange_header(call->exchange, "X-Provider-Chip", p.chip_name);
	exchange_header(call->exchange, "X-Attestation-Se-Public-Key", p.se_public_key);
}

static void consumed(struct blind_call *call)
{
	if (call->job && call->unconsumed > 0)
		fleet_job_consumed(call->job, call->unconsumed);
	call->unconsumed = 0;
}

static void on_room(struct http_request *http, void *user)
{
	struct exchange *exchange = user;
	struct blind_call *call = exchange->owner;
	(void)http;
	if (!call)
		return;
	enter(call);
	consumed(call);
	leave(call);
}

static void begin_stream(struct blind_call *call)
{
	if (call->started)
		return;
	if (call->job)
		put_headers(call);
	call->started = true;
	exchange_stream_start(call->exchange, on_room);
}

static void on_keepalive(struct net_timer *timer)
{
	struct blind_call *call = LIST_OF(timer, struct blind_call, keepalive);
	enter(call);
	if (call->exchange && call->chunks == 0) {
		begin_stream(call);
		(void)exchange_stream_write(call->exchange, STR(": keepalive\n\n"));
	}
	leave(call);
}

static enum db_err send_chunk(struct blind_call *call, struct str chunk)
{
	struct buf event;
	begin_stream(call);
	buf_init(&event, chunk.len + 16);
	buf_append_str(&event, STR("data: "));
	buf_append_str(&event, chunk);
	buf_append_str(&event, STR("\n\n"));
	enum db_err err = event.failed ? DB_E_LIMIT : exchange_stream_write(call->exchange, buf_str(&event));
	buf_free(&event);
	call->unconsumed++;
	if (call->exchange && exchange_stream_room(call->exchange) > 0)
		consumed(call);
	return err;
}

static enum db_err keep_chunk(struct blind_call *call, struct str chunk)
{
	if (call->whole.len > 0)
		buf_append_byte(&call->whole, ',');
	buf_append_byte(&call->whole, '"');
	buf_append_str(&call->whole, chunk); /* base64, as the fleet has made sure */
	buf_append_byte(&call->whole, '"');
	call->unconsumed++;
	consumed(call);
	return call->whole.failed ? DB_E_LIMIT : DB_OK;
}

static void put_receipt(struct json_writer *w, const struct blind_call *call, const struct fleet_provider_view *provider,
                        const struct fleet_job_end *end, int64_t charged)
{
	json_begin_object(w);
	json_put_str(w, "object", STR("blind.receipt"));
	json_put_cstr(w, "request_id", call->id);
	json_put_str(w, "provider_id", provider->id);
	json_put_cstr(w, "model", call->model);
	json_key(w, "usage");
	json_begin_object(w);
	json_put_i64(w, "prompt_tokens", (int64_t)end->usage.prompt_tokens);
	json_put_i64(w, "completion_tokens", (int64_t)end->usage.completion_tokens);
	json_put_i64(w, "reasoning_tokens", (int64_t)end->usage.reasoning_tokens);
	json_end_object(w);
	json_put_str(w, "transcript_sha256", end->transcript);
	json_put_str(w, "usage_signature", end->usage_signature);
	json_put_str(w, "se_public_key", provider->se_public_key);
	json_put_i64(w, "cost_micro_usd", charged);
	json_end_object(w);
}

static void finish(struct blind_call *call, const struct fleet_provider_view *provider, const struct fleet_job_end *end,
                   int64_t charged)
{
	struct exchange *exchange = call->exchange;
	struct buf out;
	struct json_writer w;
	bool stream = call->request.stream;
	buf_init(&out, call->whole.len + 16384);
	json_writer_init(&w, &out);
	if (stream) {
		begin_stream(call);
		buf_append_str(&out, STR("event: receipt\ndata: "));
		put_receipt(&w, call, provider, end, charged);
		buf_append_str(&out, STR("\n\n"));
		(void)exchange_stream_write(exchange, buf_str(&out));
	} else {
		json_begin_object(&w);
		json_put_str(&w, "object", STR("blind.completion"));
		json_put_cstr(&w, "id", call->id);
		json_key(&w, "chunks");
		json_begin_array(&w);
		json_raw(&w, buf_str(&call->whole));
		json_end_array(&w);
		json_key(&w, "receipt");
		put_receipt(&w, call, provider, end, charged);
		json_end_object(&w);
		put_headers(call);
	}
	call->job = NULL;
	over(call);
	if (stream)
		exchange_stream_end(exchange);
	else
		exchange_json(exchange, 200, buf_str(&out));
	buf_free(&out);
}

/* --- what the fleet says --- */

static void on_deadline(struct net_timer *timer)
{
	struct blind_call *call = LIST_OF(timer, struct blind_call, deadline);
	enter(call);
	if (call->unconsumed > 0)
		cut(call);
	else
		fail_reseal(call, "provider_timeout", 504, "The provider did not answer in time", STR_NONE);
	leave(call);
}

static void watch(struct blind_call *call, uint64_t after_ms)
{
	net_timer_start(call->gateway->options.loop, &call->deadline, after_ms, 0, on_deadline);
}

static void on_accepted(struct fleet_job *job, bool loading, void *user)
{
	(void)loading;
	struct blind_call *call = user;
	(void)job;
	call->accepted = true;
	if (call->chunks == 0)
		watch(call, call->gateway->options.accepted_ms);
}

static void on_chunk(struct fleet_job *job, struct str chunk, void *user)
{
	struct blind_call *call = user;
	(void)job;
	if (!call->exchange)
		return;
	enter(call);
	metric_add(call->gateway->chunks, 1);
	if (call->chunks == 0)
		metric_observe(call->gateway->first_content,
		               net_now_us(call->gateway->options.loop) - http_started_us(call->exchange->http));
	call->chunks++;
	call->bytes += chunk.len;
	net_timer_stop(&call->keepalive);
	watch(call, call->gateway->options.idle_ms);
	enum db_err err = call->request.stream ? send_chunk(call, chunk) : keep_chunk(call, chunk);
	if (err == DB_E_LIMIT && call->request.stream) {
		cut(call);
	} else if (err == DB_E_LIMIT) {
		struct api_error error;
		api_fail(&error, 502, "provider_error", NULL, NULL, "The answer is larger than can be relayed: ask for a stream.");
		fail(call, "provider_error", &error);
	}
	leave(call);
}

static void on_complete(struct fleet_job *job, const struct fleet_job_end *end, void *user)
{
	struct blind_call *call = user;
	struct fleet_provider_view provider;
	enter(call);
	fleet_job_provider(job, &provider);
	int64_t charged = settle(call, &provider, end);
	if (call->exchange) {
		finish(call, &provider, end, charged);
	} else {
		call->job = NULL;
		over(call);
	}
	leave(call);
}

static void on_error(struct fleet_job *job, const struct fleet_job_end *end, void *user)
{
	struct blind_call *call = user;
	struct api_error error;
	(void)job;
	enter(call);
	call->job = NULL;
	log_info("blind.failed", "id=%s status=%d capacity=%d chunks=%llu", call->id, end->status, end->capacity,
	         (unsigned long long)call->chunks);
	/* What the provider cannot open or run, the consumer has sealed. */
	bool client_fault = end->status == 400 || end->status == 413 || end->status == 422;
	if (client_fault) {
		api_fail(&error, end->status, "invalid_request_error", NULL, NULL, "The provider refused the sealed request: %.*s.",
		         STR_ARG(str_sub(end->text, 0, 200)));
		fail(call, "reservation_refund", &error);
	} else if (call->chunks > 0) {
		fail_reseal(call, "provider_error", 502, "The provider failed while it answered", end->text);
	} else {
		fail_reseal(call, "provider_error", end->capacity ? 503 : 502, "The provider could not take the request", end->text);
	}
	leave(call);
}

static const struct fleet_job_callbacks callbacks = {
    .on_accepted = on_accepted, .on_chunk = on_chunk, .on_complete = on_complete, .on_error = on_error};

/* --- starting, now or when the provider has room --- */

static void on_queue_timeout(struct net_timer *timer)
{
	struct blind_call *call = LIST_OF(timer, struct blind_call, queue_timer);
	enter(call);
	fail_reseal(call, "reservation_refund", 429, "The provider stayed busy", STR_NONE);
	leave(call);
}

static void on_wake(struct fleet_waiter *waiter)
{
	struct blind_call *call = LIST_OF(waiter, struct blind_call, waiter);
	enter(call);
	if (!call->over)
		start(call);
	leave(call);
}

/* What routing must know; strings are borrowed from the call. */
static struct route_request route_of(const struct blind_call *call)
{
	struct str account = str_of(ledger_account_id(call->caller.account));
	const struct blind_ask *ask = &call->request.ask;
	uint64_t expected = learn_expect(&call->gateway->learn, str_of(call->model), account);
	return (struct route_request){
	    .model = str_of(call->model),
	    .prompt_tokens = (uint64_t)ask->prompt_tokens,
	    .max_tokens = (uint64_t)ask->max_tokens,
	    .expected_tokens = at_most(expected, (uint64_t)ask->max_tokens),
	    .blind = true,
	    .only = fleet_blind_node(call->gateway->options.fleet, str_of(call->provider_id)),
	    .caller_account = account,
	};
}

static void wait_for_provider(struct blind_call *call)
{
	const struct gateway_options *options = &call->gateway->options;
	bool first = !call->waiting;
	struct route_request request = route_of(call);
	call->waiter.wake = on_wake;
	if (fleet_wait(options->fleet, &request, &call->waiter, !first) != DB_OK) {
		call->waiting = false;
		fail_reseal(call, "reservation_refund", 429, "The provider is busy and too many requests wait", STR_NONE);
		return;
	}
	if (!first)
		return;
	call->waiting = true;
	metric_add(call->gateway->queued, 1);
	net_timer_start(options->loop, &call->queue_timer, options->queue_wait_ms, 0, on_queue_timeout);
}

static void start(struct blind_call *call)
{
	struct gateway *gateway = call->gateway;
	const struct gateway_options *options = &gateway->options;
	const struct blind_ask *ask = &call->request.ask;
	struct route_decision decision = {0};
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
	enum db_err err = fleet_job_start(options->fleet, &request, &callbacks, call, &call->job, &decision);
	if (err == DB_E_AGAIN) {
		wait_for_provider(call);
		return;
	}
	stop_waiting(call);
	if (err) {
		fail_reseal(call, "reservation_refund", 503, "The provider is gone, or can take no sealed request now", STR_NONE);
		return;
	}
	metric_add(gateway->attempts, 1);
	watch(call, options->first_content_ms + (uint64_t)ask->prompt_tokens);
	if (call->request.stream && !call->keepalive.loop)
		net_timer_start(options->loop, &call->keepalive, options->keepalive_ms, options->keepalive_ms, on_keepalive);
}

/* --- admission --- */

/* The offer's terms, or those of now; false with *error. */
static bool agree(struct gateway *gateway, const struct exchange *exchange, struct blind_completion_request *request,
                  struct price *price, struct api_error *error)
{
	bool service = ledger_account_is_service(exchange->caller.account);
	struct fleet_provider_view provider;
	if (request->offer_id.len == 0) {
		bool known = fleet_blind_provider(gateway->options.fleet, request->provider_id, &provider);
		*price = ledger_price(gateway->options.ledger, known ? provider.account : STR_NONE, request->ask.model, service);
		return true;
	}
	const struct blind_offer *offer = blind_offer_find(gateway, request->offer_id, exchange->caller.account);
	if (!offer)
		return api_fail(error, 404, "offer_not_found", NULL, "offer_id",
		                "The offer is unknown or has expired: ask POST /v1/blind/offer again.");
	for (size_t i = 0; i < offer->count; i++) {
		if (!str_is(request->provider_id, offer->candidates[i].provider_id))
			continue;
		request->ask = offer->ask; /* copied below before the offer can go */
		*price = offer->candidates[i].price;
		return true;
	}
	return api_fail(error, 400, "invalid_request_error", NULL, "provider_id",
	                "The provider is none of the offer's candidates.");
}

static struct blind_call *call_new(struct gateway *gateway, struct exchange *exchange,
                                   const struct blind_completion_request *request, struct price price)
{
	struct blind_call *call = calloc(1, sizeof *call);
	if (!call)
		return NULL;
	call->gateway = gateway;
	call->exchange = exchange;
	call->request = *request;
	call->price = price;
	call->caller = exchange->caller;
	call->service = ledger_account_is_service(call->caller.account);
	(void)str_copy(request->ask.model, call->model, sizeof call->model);
	(void)str_copy(request->provider_id, call->provider_id, sizeof call->provider_id);
	id_uuid7(call->id);
	buf_init(&call->whole, WHOLE_MAX_BYTES);
	exchange->owner = call;
	exchange->on_gone = on_gone;
	list_push_back(&gateway->blind_calls, &call->link);
	gateway->inflight++;
	return call;
}

void gateway_blind_complete(struct gateway *gateway, struct exchange *exchange)
{
	struct blind_completion_request request;
	struct price price;
	struct api_error error;
	if (!blind_completion_parse(exchange_body(exchange), http_arena(exchange->http), &request, &error) ||
	    !agree(gateway, exchange, &request, &price, &error)) {
		exchange_error(exchange, &error);
		return;
	}
	if (request.ask.model.len >= ROUTE_MODEL_SIZE) {
		api_fail(&error, 404, "model_not_found", NULL, "model", "No model has so long a name.");
		exchange_error(exchange, &error);
		return;
	}
	struct blind_call *call = call_new(gateway, exchange, &request, price);
	if (!call) {
		api_fail(&error, 503, "service_unavailable", NULL, NULL, "The request needs more memory than there is.");
		exchange_error(exchange, &error);
		return;
	}
	enter(call);
	struct admit_request asked = {.model = request.ask.model,
	                              .prompt_tokens = (uint64_t)request.ask.max_prompt_tokens,
	                              .max_output = (uint64_t)request.ask.max_tokens};
	if (admit(&call->admission, gateway->options.limits, exchange, &asked, &error) && hold(call, &error))
		start(call);
	else
		fail(call, "reservation_refund", &error);
	leave(call);
}
