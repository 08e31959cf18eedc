/* The answer of a sealed request: chunks pass as they come, and the receipt ends it. */
#include "coordinator/gateway/blind_call.h"

#include "core/log.h"

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
	relay_put_position(call->exchange, call->queue_position);
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
	blind_enter(call);
	consumed(call);
	blind_leave(call);
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

void blind_on_keepalive(struct net_timer *timer)
{
	struct blind_call *call = LIST_OF(timer, struct blind_call, keepalive);
	blind_enter(call);
	if (call->exchange && call->chunks == 0) {
		begin_stream(call);
		(void)exchange_stream_write(call->exchange, STR(": keepalive\n\n"));
	}
	blind_leave(call);
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
	blind_over(call);
	if (stream)
		exchange_stream_end(exchange);
	else
		exchange_json(exchange, 200, buf_str(&out));
	buf_free(&out);
}

/* --- what the fleet says --- */

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
	blind_put_error(&error, &out);
	(void)exchange_stream_write(exchange, buf_str(&out));
	buf_free(&out);
	net_timer_stop(&call->deadline);
	net_timer_stop(&call->keepalive);
	blind_let_go(call);
	exchange_stream_end(exchange);
	fleet_job_park(call->job);
}

static void on_deadline(struct net_timer *timer)
{
	struct blind_call *call = LIST_OF(timer, struct blind_call, deadline);
	blind_enter(call);
	bool began = call->accepted || call->chunks > 0;
	if (call->unconsumed > 0) {
		cut(call);
	} else {
		fleet_job_outcome(call->job, began ? ROUTE_OUTCOME_TIMEOUT : ROUTE_OUTCOME_LATE);
		blind_fail_reseal(call, "provider_timeout", 504, "The provider did not answer in time", STR_NONE);
	}
	blind_leave(call);
}

void blind_watch(struct blind_call *call, uint64_t after_ms)
{
	net_timer_start(call->gateway->options.loop, &call->deadline, after_ms, 0, on_deadline);
}

static void on_accepted(struct fleet_job *job, bool loading, uint32_t queue_position, void *user)
{
	(void)loading;
	struct blind_call *call = user;
	(void)job;
	bool again = call->accepted;
	call->accepted = true;
	if (queue_position > call->queue_position)
		call->queue_position = queue_position;
	if (call->chunks == 0 && !again) /* else only its place has changed */
		blind_watch(call, call->gateway->options.accepted_ms);
}

static void first_chunk(struct blind_call *call)
{
	uint64_t now = net_now_us(call->gateway->options.loop);
	fleet_job_first_content(call->job);
	call->record.ttft_ms = (double)(now - call->sent_at_us) / 1000;
	metric_observe(call->gateway->first_content, now - http_started_us(call->exchange->http));
}

static void on_chunk(struct fleet_job *job, struct str chunk, void *user)
{
	struct blind_call *call = user;
	(void)job;
	if (!call->exchange)
		return;
	blind_enter(call);
	metric_add(call->gateway->chunks, 1);
	if (call->chunks == 0)
		first_chunk(call);
	call->chunks++;
	call->bytes += chunk.len;
	net_timer_stop(&call->keepalive);
	blind_watch(call, call->gateway->options.idle_ms);
	enum db_err err = call->request.stream ? send_chunk(call, chunk) : keep_chunk(call, chunk);
	if (err == DB_E_LIMIT && call->request.stream) {
		cut(call);
	} else if (err == DB_E_LIMIT) {
		struct api_error error;
		api_fail(&error, 502, "provider_error", NULL, NULL, "The answer is larger than can be relayed: ask for a stream.");
		blind_fail(call, "provider_error", &error);
	}
	blind_leave(call);
}

static void on_complete(struct fleet_job *job, const struct fleet_job_end *end, void *user)
{
	struct blind_call *call = user;
	struct fleet_provider_view provider;
	blind_enter(call);
	fleet_job_provider(job, &provider);
	int64_t charged = blind_settle(call, &provider, end);
	const char *outcome = call->exchange ? "success" : "partial_success";
	call->record.status = call->exchange ? 200 : 0;
	(void)str_copy(str_of(outcome), call->record.outcome, sizeof call->record.outcome);
	if (call->exchange) {
		finish(call, &provider, end, charged);
	} else {
		call->job = NULL;
		blind_over(call);
	}
	blind_leave(call);
}

static void on_error(struct fleet_job *job, const struct fleet_job_end *end, void *user)
{
	struct blind_call *call = user;
	struct api_error error;
	(void)job;
	blind_enter(call);
	call->job = NULL;
	log_info("blind.failed", "id=%s status=%d capacity=%d chunks=%llu", call->id, end->status, end->capacity,
	         (unsigned long long)call->chunks);
	/* What the provider cannot open or run, the consumer has sealed. */
	bool client_fault = end->status == 400 || end->status == 413 || end->status == 422;
	if (client_fault) {
		api_fail(&error, end->status, "invalid_request_error", NULL, NULL, "The provider refused the sealed request: %.*s.",
		         STR_ARG(str_sub(end->text, 0, 200)));
		blind_fail(call, "reservation_refund", &error);
	} else if (call->chunks > 0) {
		blind_fail_reseal(call, "provider_error", 502, "The provider failed while it answered", end->text);
	} else {
		blind_fail_reseal(call, "provider_error", end->capacity ? 503 : 502, "The provider could not take the request",
		                  end->text);
	}
	blind_leave(call);
}

const struct fleet_job_callbacks blind_callbacks = {
    .on_accepted = on_accepted, .on_chunk = on_chunk, .on_complete = on_complete, .on_error = on_error};
