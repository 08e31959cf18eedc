/* From a provider's chunks to a consumer's bytes (http-api 2.7, 2.8). What the consumer has not taken is not asked for again: a
 * provider that knows credit pauses, for others a bounded buffer stands between, and what does not fit ends the stream. */
#include "coordinator/gateway/call.h"

#include <stdio.h>

#include "core/log.h"

#define PENDING_KEPT_BYTES (64u << 10)
#define FRAMES_MAX         256 /* of one chunk: they are read at once, while everybody else waits */

/* --- sending to the consumer --- */

static size_t pending_bytes(const struct call *call)
{
	return call->pending.len - call->pending_at;
}

static void consumed(struct call *call)
{
	if (call->winner && !call->winner->ended && call->unconsumed > 0)
		fleet_job_consumed(call->winner->job, call->unconsumed);
	call->unconsumed = 0;
}

/* As much as there is room for, in whole events: a stream that is cut ends between two of them. At least one event, which HTTP
 * takes above its room too. */
static struct str whole_events(struct str bytes, size_t room)
{
	if (bytes.len <= room)
		return bytes;
	size_t end = room;
	while (end >= 2 && !(bytes.at[end - 1] == '\n' && bytes.at[end - 2] == '\n'))
		end--;
	if (end < 2)
		for (end = room < 2 ? 2 : room; end < bytes.len && !(bytes.at[end - 1] == '\n' && bytes.at[end - 2] == '\n');)
			end++;
	return str_sub(bytes, 0, end);
}

static void flush(struct call *call)
{
	while (call->exchange && pending_bytes(call) > 0) {
		size_t room = exchange_stream_room(call->exchange);
		if (room == 0)
			return;
		struct str piece = whole_events(str_sub(buf_str(&call->pending), call->pending_at, SIZE_MAX), room);
		if (exchange_stream_write(call->exchange, piece) != DB_OK)
			return;
		call->pending_at += piece.len;
	}
	if (call->pending.cap > PENDING_KEPT_BYTES)
		buf_free(&call->pending);
	else
		buf_clear(&call->pending);
	call->pending_at = 0;
	consumed(call);
}

static void on_room(struct http_request *http, void *user)
{
	(void)http;
	struct exchange *exchange = user;
	struct call *call = exchange->owner;
	if (!call) /* the answer is complete, only HTTP still has to deliver it */
		return;
	call_enter(call);
	flush(call);
	call_leave(call);
}

/* DB_E_LIMIT when the consumer is too far behind. */
static enum db_err send(struct call *call, struct str bytes)
{
	if (!call->exchange || bytes.len == 0)
		return DB_OK;
	if (pending_bytes(call) == 0 && exchange_stream_room(call->exchange) > 0)
		return exchange_stream_write(call->exchange, bytes) == DB_E_LIMIT ? DB_E_LIMIT : DB_OK;
	if (pending_bytes(call) + bytes.len > call->gateway->options.relay_buffer_bytes)
		return DB_E_LIMIT;
	if (call->pending_at > call->pending.len / 2) {
		buf_consume(&call->pending, call->pending_at);
		call->pending_at = 0;
	}
	return buf_append_str(&call->pending, bytes);
}

/* The buffer that is filled with what goes out next. */
static struct buf *fresh_out(struct gateway *gateway)
{
	if (gateway->out.cap > CALL_KEPT_BUFFER_BYTES)
		buf_free(&gateway->out);
	else
		buf_clear(&gateway->out);
	return &gateway->out;
}

/* --- headers (http-api 2.10) --- */

static void put_flag(struct exchange *exchange, const char *name, bool value)
{
	exchange_header(exchange, name, value ? STR("true") : STR("false"));
}

static void put_timing(struct call *call, const struct attempt *attempt)
{
	struct buf text;
	struct json_writer w;
	uint64_t route_us, encrypt_us;
	fleet_job_timing(attempt->job, &route_us, &encrypt_us);
	buf_init(&text, 512);
	json_writer_init(&w, &text);
	json_begin_object(&w);
	json_put_i64(&w, "parse_us", (int64_t)call->parse_us);
	json_put_i64(&w, "reserve_us", (int64_t)call->reserve_us);
	json_put_i64(&w, "route_us", (int64_t)route_us);
	json_put_i64(&w, "queue_us", (int64_t)call->queue_us);
	json_put_i64(&w, "encrypt_us", (int64_t)encrypt_us);
	json_put_i64(&w, "dispatch_us", (int64_t)call->dispatch_us);
	json_put_i64(&w, "provider_us", (int64_t)call->provider_us);
	json_end_object(&w);
	exchange_header(call->exchange, "X-Timing", buf_str(&text));
	buf_free(&text);
}

/* How far back it stood among those that wait for the provider's engine. */
void relay_put_position(struct exchange *exchange, uint32_t position)
{
	char text[16];
	if (!position)
		return;
	snprintf(text, sizeof text, "%u", position);
	exchange_header(exchange, "X-Provider-Queue-Position", str_of(text));
}

static void put_headers(struct call *call, const struct attempt *attempt)
{
	struct exchange *exchange = call->exchange;
	struct fleet_provider_view p;
	fleet_job_provider(attempt->job, &p);
	exchange_header(exchange, "X-Inference-Job-ID", str_of(call->id));
	put_flag(exchange, "X-Provider-Encrypted", p.encrypted);
	put_flag(exchange, "X-Provider-Attested", p.attested);
	exchange_header(exchange, "X-Provider-Trust-Level", str_of(route_trust_name(p.trust)));
	exchange_header(exchange, "X-Provider-Id", p.id);
	exchange_header(exchange, "X-Provider-Chip", p.chip_name);
	exchange_header(exchange, "X-Provider-Region", p.region);
	exchange_header(exchange, "X-Provider-Model", p.machine_model);
	if (p.attested) {
		exchange_header(exchange, "X-Provider-Serial", p.serial);
		put_flag(exchange, "X-Provider-Secure-Enclave", p.secure_enclave);
	}
	if (p.mda_verified)
		put_flag(exchange, "X-Provider-Mda-Verified", true);
	if (p.se_public_key.len > 0) {
		exchange_header(exchange, "X-Attestation-Se-Public-Key", p.se_public_key);
		exchange_header(exchange, "X-Attestation-Device-Serial", p.serial);
	}
	relay_put_position(exchange, attempt->queue_position);
	put_timing(call, attempt);
}

/* --- committing to an attempt --- */

/* The first content came: this attempt's answer is the one the consumer gets. */
static void commit(struct attempt *attempt)
{
	struct call *call = attempt->call;
	struct gateway *gateway = call->gateway;
	uint64_t now = net_now_us(gateway->options.loop);
	call->winner = attempt;
	tries_chosen(attempt);
	call->provider_us = now - attempt->started_us;
	call->record.ttft_ms = (double)call->provider_us / 1000;
	if (call->resuming)
		metric_add(gateway->resume_done, 1);
	else
		metric_observe(gateway->first_content, now - http_started_us(call->exchange->http));
	call->resuming = false;
	call->held_price = attempt->price;
	fleet_job_first_content(attempt->job);
	net_timer_stop(&call->keepalive_timer);
	silence_after_content(attempt);
	race_won(attempt);
	if (!call->stream)
		return;
	if (!call->started) {
		put_headers(call, attempt);
		exchange_stream_start(call->exchange, on_room);
	}
	call->started = true;
	send(call, buf_str(&attempt->held));
	buf_free(&attempt->held);
}

void relay_keepalive(struct call *call)
{
	if (!call->started) {
		exchange_header(call->exchange, "X-Inference-Job-ID", str_of(call->id));
		exchange_stream_start(call->exchange, on_room);
	}
	call->started = true;
	send(call, str_of(call->dialect->keepalive));
}

/* --- chunks --- */

static uint64_t pending_events(const struct call *call)
{
	uint64_t count = 0;
	struct str rest = str_sub(buf_str(&call->pending), call->pending_at, SIZE_MAX);
	for (size_t i = 1; i < rest.len; i++)
		count += rest.at[i] == '\n' && rest.at[i - 1] == '\n';
	return count;
}

/* Ends a stream that cannot go on with an error event; the job is parked, to be settled for what was delivered: what was given
 * to HTTP is, what still waits here is not. */
static void abort_stream(struct call *call, const struct api_error *error)
{
	struct exchange *exchange = call->exchange;
	struct attempt *winner = call->winner;
	struct buf *out = fresh_out(call->gateway);
	uint64_t came = winner->answer->chunks, waiting = pending_events(call);
	call->cut_from = came;
	call->chunks = came > waiting ? came - waiting : 0;
	call->text_bytes = came > 0 ? (size_t)(winner->answer->text_bytes * call->chunks / came) : 0;
	metric_add(call->gateway->aborted, 1);
	log_info("request.aborted", "id=%s reason=%s chunks=%llu", call->id, error->type, (unsigned long long)call->chunks);
	struct api_error said = *error;
	said.request_id = exchange->request_id;
	call->dialect->fail(winner->answer, &said, true, out);
	(void)exchange_stream_write(exchange, buf_str(out));
	if (!call->exchange) /* the consumer left over it, and the job is parked already */
		return;
	buf_free(&call->pending);
	call->pending_at = 0;
	net_timer_stop(&winner->deadline);
	call_let_go(call);
	exchange_stream_end(exchange);
	fleet_job_park(winner->job);
}

void relay_abort_slow(struct call *call)
{
	struct api_error error;
	api_fail(&error, 0, "consumer_too_slow", NULL, NULL,
	         "The answer was read too slowly and had to be cut; you pay for what was delivered.");
	abort_stream(call, &error);
}

static void abort_unpaid(struct call *call)
{
	struct api_error error;
	api_fail(&error, 402, "insufficient_funds", "insufficient_quota", NULL,
	         "The balance does not cover a longer answer; you pay for what was delivered.");
	if (call->stream) {
		abort_stream(call, &error);
		return;
	}
	money_release(call, "insufficient_funds");
	call_fail(call, &error);
}

static uint64_t tokens_so_far(const struct dialect_answer *answer)
{
	return money_tokens(answer->chunks, answer->text_bytes);
}

/* False when the attempt or the call came to an end. */
static bool take_frame(struct attempt *attempt, const struct chat_frame *frame)
{
	struct call *call = attempt->call;
	if (frame->kind == CHAT_FRAME_EMPTY || (call->resuming && frame->kind == CHAT_FRAME_PREAMBLE))
		return true;
	bool preamble = !call->winner && frame->kind == CHAT_FRAME_PREAMBLE && attempt->held_count < CALL_MAX_HELD;
	if (!preamble && !call->winner)
		commit(attempt);
	if (!call->exchange)
		return false;
	struct buf *out = preamble ? &attempt->held : fresh_out(call->gateway);
	if (call->dialect->frame(attempt->answer, frame, out) != DB_OK) {
		dispatch_give_up(attempt, 502, "its answer is larger than can be relayed.");
		return false;
	}
	attempt->held_count += preamble;
	if (preamble)
		return true;
	if (call->stream && send(call, buf_str(out)) == DB_E_LIMIT) {
		relay_abort_slow(call);
		return false;
	}
	if (!call->exchange)
		return false;
	if (!money_grow(call, tokens_so_far(attempt->answer))) {
		abort_unpaid(call);
		return false;
	}
	return true;
}

static void look_at(const struct chat_frame *frame, struct resume_seen *seen)
{
	struct json_iter iter = json_iter(json_get(frame->root, "choices"));
	seen->content |= frame->kind == CHAT_FRAME_CONTENT || frame->kind == CHAT_FRAME_WHOLE || frame->kind == CHAT_FRAME_OTHER;
	for (json_val *choice; (choice = json_next(&iter, NULL));)
		seen->tool_calls |= json_len(json_get(json_get(choice, "delta"), "tool_calls")) > 0;
}

void relay_chunk(struct attempt *attempt, struct str chunk)
{
	struct call *call = attempt->call;
	struct gateway *gateway = call->gateway;
	if (!call->exchange) /* parked: only the count is waited for */
		return;
	metric_add(gateway->chunks, 1);
	attempt->last_chunk_us = net_now_us(gateway->options.loop);
	struct resume_seen seen = {false, false};
	struct str rest = chunk;
	for (unsigned frames = 0; frames == 0 || rest.len > 0; frames++) {
		struct chat_frame frame;
		arena_reset(gateway->scratch);
		if (frames == FRAMES_MAX || chat_frame_read(rest, gateway->scratch, &frame, &rest) != DB_OK) {
			dispatch_give_up(attempt, 502, "it sent something that is no answer.");
			return;
		}
		look_at(&frame, &seen);
		if (!take_frame(attempt, &frame))
			return;
	}
	if (call->winner == attempt)
		resume_took(call, chunk, &seen);
	if (pending_bytes(call) > 0)
		call->unconsumed++;
	else
		fleet_job_consumed(attempt->job, 1);
}

/* --- the end --- */

/* Asked of the store before the consumer hears the end, so that whoever asks for it then finds it. */
static void keep(struct call *call, struct attempt *attempt, const struct chat_answer_end *end)
{
	const struct gateway_options *options = &call->gateway->options;
	struct buf record;
	if (!options->keep || !call->dialect->record)
		return;
	buf_init(&record, 2 * CHAT_ANSWER_MAX_BYTES);
	if (call->dialect->record(attempt->answer, end, &record) != DB_OK)
		log_warn("request.not_kept", "id=%s", call->id);
	else if (record.len > 0)
		options->keep(options->keep_user, str_of(ledger_account_id(call->caller.account)), call->id, &record);
	buf_free(&record);
}

static void finish_whole(struct call *call, struct attempt *attempt, const struct chat_answer_end *end)
{
	struct gateway *gateway = call->gateway;
	struct buf *out = fresh_out(gateway);
	struct exchange *exchange = call->exchange;
	struct api_error error;
	enum db_err err = call->dialect->finish(attempt->answer, end, out);
	put_headers(call, attempt);
	if (!err)
		keep(call, attempt, end);
	call_let_go(call);
	if (err) {
		api_fail(&error, 502, "provider_error", NULL, NULL, "The answer is larger than can be sent.");
		exchange_error(exchange, &error);
	} else {
		exchange_json(exchange, 200, buf_str(out));
	}
	fresh_out(gateway);
}

static void finish_stream(struct call *call, struct attempt *attempt, const struct chat_answer_end *end)
{
	struct buf *out = fresh_out(call->gateway);
	struct exchange *exchange = call->exchange;
	if (call->dialect->finish(attempt->answer, end, out) == DB_OK)
		keep(call, attempt, end);
	/* HTTP takes what is left at the consumer's pace: together it is less than a stream may queue. */
	if (pending_bytes(call) > 0)
		(void)exchange_stream_write(exchange, str_sub(buf_str(&call->pending), call->pending_at, call->pending.len));
	(void)exchange_stream_write(exchange, buf_str(out));
	call_let_go(call);
	exchange_stream_end(exchange);
	fresh_out(call->gateway);
}

void relay_complete(struct attempt *attempt, const struct fleet_job_end *end)
{
	struct call *call = attempt->call;
	struct chat_usage billed;
	if (call->exchange && !call->winner)
		commit(attempt);
	if (!call->exchange) { /* the consumer has left */
		money_settle(call, attempt, end, "partial_success", &billed);
		tries_end(attempt, RECORD_TRY_ANSWERED, 0, billed.completion_tokens);
		call_ended(call, "partial_success", billed.completion_tokens);
		call_over(call);
		return;
	}
	naming_answered(call);
	call->text_bytes = attempt->answer->text_bytes;
	call->chunks = attempt->answer->chunks;
	/* Settled before the consumer hears the end, so that a look at the usage right afterwards shows it. */
	money_settle(call, attempt, end, "success", &billed);
	tries_end(attempt, RECORD_TRY_ANSWERED, 0, billed.completion_tokens);
	call_ended(call, "success", billed.completion_tokens);
	struct chat_answer_end last = {
	    .usage = billed, .has_usage = true, .se_signature = end->se_signature, .response_hash = end->response_hash};
	if (call->stream)
		finish_stream(call, attempt, &last);
	else
		finish_whole(call, attempt, &last);
	call_over(call);
}
