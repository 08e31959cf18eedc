/* Admission of a request in any dialect, and the life of a call around its attempts. */
#include "coordinator/gateway/call.h"

#include "core/clock.h"

#include <stdlib.h>

struct gateway *gateway_new(const struct gateway_options *options)
{
	struct gateway *gateway = calloc(1, sizeof *gateway);
	if (!gateway)
		return NULL;
	gateway->options = *options;
	struct gateway_options *o = &gateway->options;
	o->first_content_ms = o->first_content_ms ? o->first_content_ms : 5000;
	o->accepted_ms = o->accepted_ms ? o->accepted_ms : 600000;
	o->preamble_ms = o->preamble_ms ? o->preamble_ms : 90000;
	o->idle_ms = o->idle_ms ? o->idle_ms : 600000;
	o->stall_ms = o->stall_ms ? o->stall_ms : 60000;
	o->queue_wait_ms = o->queue_wait_ms ? o->queue_wait_ms : 120000;
	o->keepalive_ms = o->keepalive_ms ? o->keepalive_ms : 10000;
	o->relay_buffer_bytes = o->relay_buffer_bytes ? o->relay_buffer_bytes : 4u << 20;
	if (o->relay_buffer_bytes > HTTP_STREAM_HARD_BYTES / 2) /* in the end it is handed to HTTP whole */
		o->relay_buffer_bytes = HTTP_STREAM_HARD_BYTES / 2;
	learn_init(&gateway->learn);
	struct hedge_policy hedge = hedge_default_policy;
	hedge.extra_share = o->hedge_percent / 100.0;
	hedges_init(&gateway->hedge_buckets, &hedge);
	list_init(&gateway->calls);
	list_init(&gateway->excluding);
	fleet_on_node_gone(o->fleet, dispatch_node_gone, gateway);
	list_init(&gateway->blind_calls);
	blind_offers_init(&gateway->blind_offers);
	records_init(&gateway->records);
	memcpy(gateway->record_seed, o->record_key, sizeof gateway->record_seed);
	if (!gateway->record_seed[0] && !gateway->record_seed[1])
		id_random(gateway->record_seed, sizeof gateway->record_seed);
	buf_init(&gateway->body, GATEWAY_MAX_BODY + (1u << 20));
	buf_init(&gateway->out, 2 * CHAT_ANSWER_MAX_BYTES);
	gateway->scratch = arena_new(0);
	if (!gateway->scratch) {
		gateway_free(gateway);
		return NULL;
	}
	struct metrics *m = o->metrics;
	gateway->attempts = metrics_counter(m, "darkbloom_attempts_total", NULL, "Requests sent to a provider, retries included.");
	gateway->failovers = metrics_counter(m, "darkbloom_failovers_total", NULL, "Attempts that failed before content.");
	gateway->resumed = metrics_counter(m, "darkbloom_resumed_total", "outcome=\"tried\"",
	                                   "Answers whose provider was lost and that another one was to go on with.");
	gateway->resume_done = metrics_counter(m, "darkbloom_resumed_total", "outcome=\"done\"", "... and went on with.");
	gateway->hedges =
	    metrics_counter(m, "darkbloom_hedges_total", "outcome=\"started\"", "Requests that a second provider was asked for.");
	gateway->hedges_won = metrics_counter(m, "darkbloom_hedges_total", "outcome=\"won\"", "... whose answer came first.");
	gateway->hedges_lost = metrics_counter(m, "darkbloom_hedges_total", "outcome=\"lost\"", "... whose answer came second.");
	gateway->hedges_refused =
	    metrics_counter(m, "darkbloom_hedges_total", "outcome=\"refused\"", "... that nobody could or was to be asked for.");
	gateway->hedge_tokens = metrics_counter(m, "darkbloom_hedge_tokens_total", NULL,
	                                        "Tokens that providers worked off beside the one that answered.");
	gateway->queued = metrics_counter(m, "darkbloom_queued_total", NULL, "Requests that waited for a free provider.");
	gateway->parked = metrics_counter(m, "darkbloom_parked_total", NULL, "Consumers that left after content was sent.");
	gateway->aborted =
	    metrics_counter(m, "darkbloom_aborted_total", NULL, "Streams that were ended because they could not go on.");
	gateway->prompt_tokens = metrics_counter(m, "darkbloom_tokens_total", "kind=\"prompt\"", "Tokens that were billed.");
	gateway->completion_tokens =
	    metrics_counter(m, "darkbloom_tokens_total", "kind=\"completion\"", "Tokens that were billed.");
	gateway->charged = metrics_counter(m, "darkbloom_charged_microdollars_total", NULL, "What consumers were charged.");
	gateway->chunks = metrics_counter(m, "darkbloom_relayed_chunks_total", NULL, "Chunks taken from providers.");
	gateway->first_content = metrics_histogram(m, "darkbloom_first_content_seconds", NULL,
	                                           "From the first byte of a request to its first content.", 1e6);
	return gateway;
}

struct learn *gateway_learn(struct gateway *gateway)
{
	return &gateway->learn;
}

void gateway_free(struct gateway *gateway)
{
	if (!gateway)
		return;
	struct list_link *link;
	while ((link = list_first(&gateway->calls))) {
		struct call *call = LIST_OF(link, struct call, link);
		call_enter(call);
		money_release(call, "shutdown");
		call_over(call);
		call_leave(call);
	}
	fleet_on_node_gone(gateway->options.fleet, NULL, NULL);
	blind_stop(gateway);
	blind_offers_free(&gateway->blind_offers);
	records_free(&gateway->records);
	learn_free(&gateway->learn);
	hedges_free(&gateway->hedge_buckets);
	buf_free(&gateway->body);
	buf_free(&gateway->out);
	arena_free(gateway->scratch);
	free(gateway);
}

void gateway_totals(const struct gateway *gateway, struct gateway_totals *out)
{
	*out = (struct gateway_totals){.requests = gateway->settled,
	                               .prompt_tokens = metric_count(gateway->prompt_tokens),
	                               .completion_tokens = metric_count(gateway->completion_tokens)};
}

size_t gateway_inflight(const struct gateway *gateway)
{
	return gateway->inflight;
}

/* --- the life of a call --- */

void call_enter(struct call *call)
{
	call->busy++;
}

void call_leave(struct call *call)
{
	if (--call->busy > 0 || !call->over)
		return;
	list_remove(&call->gateway->calls, &call->link);
	free(call);
}

void call_let_go(struct call *call)
{
	if (call->exchange) {
		call->exchange->on_gone = NULL;
		call->exchange->owner = NULL;
		call->gateway->inflight--;
	}
	call->exchange = NULL;
	call->request = NULL;
	LIST_EACH (link, &call->attempts) {
		struct attempt *attempt = LIST_OF(link, struct attempt, link);
		dialect_answer_free(attempt->answer); /* it lives in the arena that goes now */
		attempt->answer = NULL;
	}
	dialect_answer_free(call->carried);
	call->carried = NULL;
}

void call_ended(struct call *call, const char *outcome, uint64_t completion_tokens)
{
	call->record.completion_tokens = completion_tokens;
	call->record.status = call->exchange ? 200 : 0;
	(void)str_copy(str_of(outcome), call->record.outcome, sizeof call->record.outcome);
}

void call_over(struct call *call)
{
	if (call->over)
		return;
	call->over = true;
	keep_end(call);
	admit_leave(&call->admission, &call->caller);
	net_timer_stop(&call->queue_timer);
	net_timer_stop(&call->keepalive_timer);
	ledger_room_cancel(&call->room);
	ledger_room_cancel(&call->more);
	dispatch_forget_exclusions(call);
	race_stop(call, call->prompt_estimate, 0);
	if (call->waiting)
		fleet_wait_cancel(&call->waiter);
	call->waiting = false;
	struct list_link *link;
	while ((link = list_first(&call->attempts)))
		dispatch_drop(LIST_OF(link, struct attempt, link));
	buf_free(&call->pending);
	resume_stop(call);
	call_let_go(call);
}

void call_fail(struct call *call, const struct api_error *error)
{
	struct exchange *exchange = call->exchange;
	keep_note_error(&call->record, error, exchange ? exchange->refused_by : NULL);
	if (exchange && call->started) {
		struct buf *out = &call->gateway->out;
		buf_clear(out);
		if (call->pending.len > call->pending_at)
			(void)exchange_stream_write(exchange, str_sub(buf_str(&call->pending), call->pending_at, call->pending.len));
		struct api_error said = *error;
		said.request_id = exchange->request_id;
		struct dialect_answer *begun = call->winner ? call->winner->answer : call->carried;
		call->dialect->fail(begun, &said, begun != NULL, out);
		(void)exchange_stream_write(exchange, buf_str(out));
		buf_clear(out);
	}
	bool started = call->started;
	char id[ID_UUID_SIZE];
	memcpy(id, call->id, sizeof id);
	call_over(call); /* lets go of the exchange before it ends */
	if (!exchange)
		return;
	if (started) {
		exchange_stream_end(exchange);
		return;
	}
	exchange_header(exchange, "X-Inference-Job-ID", str_of(id));
	exchange_error(exchange, error);
}

/* The consumer left. Before content nobody pays; after it the provider's count is waited for (billing 4.5). */
static void on_gone(struct exchange *exchange)
{
	struct call *call = exchange->owner;
	struct attempt *winner = call->winner;
	call_enter(call);
	if (winner && call->stream) {
		call->text_bytes = winner->answer->text_bytes;
		call->chunks = winner->answer->chunks;
		call_let_go(call);
		buf_free(&call->pending);
		net_timer_stop(&winner->deadline);
		metric_add(call->gateway->parked, 1);
		if (!winner->ended)
			fleet_job_park(winner->job);
	} else {
		money_release(call, "client_gone");
		call_over(call);
	}
	call_leave(call);
}

/* --- admission --- */

int call_retry_after_s(const struct call *call)
{
	return (int)fleet_retry_after_s(call->gateway->options.fleet, str_of(call->model));
}

static struct call *call_new(struct gateway *gateway, struct exchange *exchange, const struct dialect *dialect,
                             const struct chat_request *request)
{
	struct call *call = calloc(1, sizeof *call);
	if (!call)
		return NULL;
	call->gateway = gateway;
	call->dialect = dialect;
	call->exchange = exchange;
	call->request = request;
	call->caller = exchange->caller;
	call->service = ledger_account_is_service(call->caller.account);
	call->stream = request->stream;
	call->prompt_estimate = request->prompt_estimate_tokens;
	call->prompt_bound = request->prompt_bound_tokens;
	call->max_tokens = request->max_tokens > 0 ? request->max_tokens : CHAT_DEFAULT_MAX_TOKENS;
	call->answers = chat_request_answers(request);
	call->prompts = request->prompts != NULL;
	call->output_tokens = call->answers * call->max_tokens;
	str_copy(request->model, call->model, sizeof call->model);
	str_copy(request->model, call->public_model, sizeof call->public_model);
	id_uuid7(call->id); /* a key of the ledger: ordered by time, so that its index grows at one end */
	list_init(&call->attempts);
	buf_init(&call->pending, (size_t)gateway->options.relay_buffer_bytes + (1u << 20));
	keep_begin(call);
	exchange->owner = call;
	exchange->on_refused = NULL;
	exchange->on_gone = on_gone;
	list_push_back(&gateway->calls, &call->link);
	gateway->inflight++;
	return call;
}

static void on_room(struct ledger_room *room, enum db_err err)
{
	struct call *call = LIST_OF(room, struct call, room);
	struct api_error error;
	call_enter(call);
	if (err)
		admit_fail_hold(&error, err, money_wanted(call), call->caller.account, "This request needs", "lower max_tokens");
	if (!err && money_hold(call, &error) == DB_OK)
		dispatch_next(call);
	else
		call_fail(call, &error);
	call_leave(call);
}

static void begin(struct call *call)
{
	struct api_error error;
	uint64_t parsed = clock_mono_us();
	enum db_err err = money_hold(call, &error);
	call->reserve_us = clock_mono_us() - parsed;
	if (!err) {
		dispatch_next(call);
	} else if (err == DB_E_AGAIN) {
		call->room.done = on_room;
		ledger_room_ask(call->caller.account, call->caller.group, money_wanted(call), &call->room);
	} else {
		call_fail(call, &error);
	}
}

/* Before there is a call. */
static void refuse(struct gateway *gateway, struct exchange *exchange, const struct api_error *error)
{
	struct record record;
	record_init(&record);
	keep_asked_model(exchange_body(exchange), &record);
	keep_refused(gateway, exchange, error, &record);
	exchange_error(exchange, error);
}

void gateway_infer(struct gateway *gateway, struct exchange *exchange, const struct dialect *dialect)
{
	uint64_t began = clock_mono_us();
	struct arena *arena = http_arena(exchange->http);
	struct chat_request *request = arena_alloc(arena, sizeof *request);
	struct api_error error;
	if (!request) {
		api_fail(&error, 503, "service_unavailable", NULL, NULL, "The request needs more memory than there is.");
		exchange_error(exchange, &error);
		return;
	}
	request->dialect_input = exchange->dialect_input;
	if (!dialect->parse(exchange_body(exchange), arena, request, &error)) {
		refuse(gateway, exchange, &error);
		return;
	}
	if (request->task != dialect->task) {
		api_fail(&error, 400, "invalid_request_error", NULL, "endpoint", "endpoint is no parameter of this API.");
		refuse(gateway, exchange, &error);
		return;
	}
	if (json_get(request->root, CHAT_RESUME_MEMBER)) {
		api_fail(&error, 400, "invalid_request_error", NULL, CHAT_RESUME_MEMBER,
		         CHAT_RESUME_MEMBER " is no parameter of this API.");
		refuse(gateway, exchange, &error);
		return;
	}
	if (request->model.len >= ROUTE_MODEL_SIZE) {
		api_fail(&error, 404, "model_not_found", NULL, "model", "No model has so long a name.");
		refuse(gateway, exchange, &error);
		return;
	}
	struct call *call = call_new(gateway, exchange, dialect, request);
	if (!call) {
		api_fail(&error, 503, "service_unavailable", NULL, NULL, "The request needs more memory than there is.");
		exchange_error(exchange, &error);
		return;
	}
	call_enter(call);
	resume_begin(call);
	uint64_t parsed = clock_mono_us();
	call->parse_us = parsed - began;
	if (!wishes_read(&call->wishes, exchange, &request->places, &error)) {
		call_fail(call, &error);
		call_leave(call);
		return;
	}
	wishes_note(&call->wishes, &call->record);
	struct admit_request asked = {.model = request->model,
	                              .prompt_tokens = call->prompt_estimate,
	                              .max_output = (uint64_t)call->output_tokens,
	                              .own_only = call->wishes.own_only};
	struct route_request named = {.model = request->model,
	                              .prompt_tokens = call->prompt_estimate,
	                              .max_tokens = (uint64_t)call->output_tokens,
	                              .tools = request->has_tools,
	                              .vision = request->has_media,
	                              .caller_account = call_account(call)};
	wishes_ask(&call->wishes, &named);
	if (!naming_resolve(call, &named)) {
		if (!wishes_explain(&call->wishes, gateway->options.fleet, call_account(call), str_of(call->model), &error)) {
			api_fail(&error, 503, "model_unavailable", NULL, "model",
			         "None of the providers that were asked for serves this model.");
			error.retry_after_s = call_retry_after_s(call);
		}
		call_fail(call, &error);
	} else if (admit(&call->admission, gateway->options.limits, exchange, &asked, &error)) {
		begin(call);
	} else {
		call_fail(call, &error);
	}
	call_leave(call);
}
