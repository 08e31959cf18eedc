#include "swarm/fleet_internal.h"

#include <stdlib.h>

#include "core/clock.h"
#include "core/encode.h"
#include "core/log.h"
#include "crypto/secret.h"

#define REQUEST_ID_SIZE 64
#define HEAD_MAX        256
#define CHUNK_TAIL      "\"}}"

/* One made-up answer. It goes: accepted, role, content chunks, finish, usage, [DONE], complete. */
struct swarm_answer {
	struct list_link link;
	struct swarm_provider *provider;
	char id[REQUEST_ID_SIZE];
	struct box_shared shared;
	struct net_timer timer;
	uint64_t arrived_us;
	uint32_t sent; /* frames, the role frame included */
	bool paced;
	int64_t credit;
	bool cancelled;
	enum swarm_fault fault; /* SWARM_FAULTS = none */
	size_t head_len;
	char head[HEAD_MAX]; /* of every chunk's message, up to the ciphertext */
};

static const char *const fault_names[SWARM_FAULTS] = {"error",   "busy",       "hang",     "silent",  "stall",
                                                      "drop",    "early-drop", "break",    "garbage", "plaintext",
                                                      "foreign", "replay",     "oversize", "lie"};

const char *swarm_fault_name(enum swarm_fault fault)
{
	return fault_names[fault];
}

enum db_err swarm_faults_parse(struct str text, double faults[SWARM_FAULTS], struct error *error)
{
	while (text.len) {
		struct str item, name;
		text = str_cut(text, ',', &item);
		struct str value = str_cut(item, ':', &name);
		double probability = 1;
		int fault = 0;
		while (fault < SWARM_FAULTS && !str_is(name, fault_names[fault]))
			fault++;
		if (fault == SWARM_FAULTS || (value.len && !str_to_double(value, &probability)) || probability < 0 || probability > 1)
			return error_set(error, DB_E_INVALID, "\"%.*s\" is not a fault: use name:probability, such as drop:0.02",
			                 STR_ARG(item));
		faults[fault] = probability;
	}
	return DB_OK;
}

/* --- sending --- */

static void end(struct swarm_answer *answer)
{
	net_timer_stop(&answer->timer);
	list_remove(&answer->provider->answers, &answer->link);
	secret_wipe(&answer->shared, sizeof answer->shared);
	free(answer);
}

static void send_error(struct swarm_answer *answer, int status, const char *text)
{
	struct wire_message message = {
	    .type = WIRE_ERROR, .as.error = {.request_id = str_of(answer->id), .error = str_of(text), .status_code = status}};
	swarm_send_message(answer->provider, &message);
	end(answer);
}

/* Tries again when the socket takes data again. */
static void send_complete(struct swarm_answer *answer)
{
	struct swarm_fleet *fleet = answer->provider->fleet;
	bool lie = answer->fault == SWARM_FAULT_LIE;
	uint32_t said = answer->sent > 1 ? answer->sent - 1 : 0; /* but for the role */
	if (said > fleet->options.chunks)
		said = fleet->options.chunks;
	struct wire_message message = {.type = WIRE_COMPLETE,
	                               .as.complete = {.request_id = str_of(answer->id),
	                                               .prompt_tokens = SWARM_PROMPT_TOKENS,
	                                               .completion_tokens = lie ? 1000000 : (int64_t)said}};
	if (swarm_send_message(answer->provider, &message) == DB_E_AGAIN)
		return;
	answer->provider->served++;
	fleet->counts.completed++;
	fleet->last_turnaround_us = clock_mono_us() - answer->arrived_us;
	fleet->counts.turnaround_us += fleet->last_turnaround_us;
	end(answer);
}

/* A chunk's message but for its ciphertext is the same in the whole answer. */
static bool make_head(struct swarm_answer *answer)
{
	struct buf text;
	buf_init(&text, HEAD_MAX + sizeof CHUNK_TAIL);
	wire_encode_chunk(str_of(answer->id), str_of(answer->provider->box_b64), NULL, 0, &text);
	bool good = !text.failed && str_ends(buf_str(&text), STR(CHUNK_TAIL));
	answer->head_len = good ? text.len - strlen(CHUNK_TAIL) : 0;
	good = good && answer->head_len <= HEAD_MAX;
	if (good)
		memcpy(answer->head, text.at, answer->head_len);
	buf_free(&text);
	return good;
}

/* The message stays in fleet->scratch. */
static enum db_err send_frame(struct swarm_answer *answer, struct str frame)
{
	struct swarm_fleet *fleet = answer->provider->fleet;
	struct buf *sealed = &fleet->sealed, *out = &fleet->scratch;
	size_t sealed_len = frame.len + BOX_OVERHEAD;
	sealed->len = out->len = 0;
	out->failed = false;
	buf_append(out, answer->head, answer->head_len);
	if (buf_reserve(sealed, sealed_len) || buf_reserve(out, BASE64_ENCODED_LEN(sealed_len) + strlen(CHUNK_TAIL)))
		return DB_E_NOMEM;
	box_seal(&answer->shared, frame.at, frame.len, (uint8_t *)sealed->at);
	out->len += base64_encode(sealed->at, sealed_len, out->at + out->len);
	buf_append_str(out, STR(CHUNK_TAIL));
	enum db_err err = swarm_send(answer->provider, buf_str(out));
	if (!err) {
		fleet->counts.chunks++;
		answer->sent++;
		answer->credit--;
	}
	return err;
}

/* The n-th frame of the answer; false after the last. Content is numbered, so that a consumer can tell a gap. */
static bool frame_at(const struct swarm_answer *answer, uint32_t n, struct buf *out)
{
	const struct swarm_fleet *fleet = answer->provider->fleet;
	uint32_t chunks = fleet->options.chunks;
	enum swarm_frame kind = n == 0            ? SWARM_FRAME_ROLE
	                        : n <= chunks     ? SWARM_FRAME_DELTA
	                        : n == chunks + 1 ? SWARM_FRAME_FINISH
	                        : n == chunks + 2 ? SWARM_FRAME_USAGE
	                        : n == chunks + 3 ? SWARM_FRAME_DONE
	                                          : SWARM_FRAME_KINDS;
	if (kind == SWARM_FRAME_KINDS)
		return false;
	char number[24];
	struct str text = kind == SWARM_FRAME_DELTA ? swarm_decimal(n, number) : STR_NONE;
	out->len = 0;
	swarm_frame_write(&fleet->frames, kind, str_of(answer->id), str_of(answer->provider->model), text, buf_str(&fleet->text),
	                  out);
	return true;
}

/* --- misbehaving --- */

static void send_plaintext_chunk(const struct swarm_answer *answer)
{
	struct wire_message message = {.type = WIRE_CHUNK,
	                               .as.chunk = {.request_id = str_of(answer->id), .data = STR("data: {\"choices\":[]}\n\n")}};
	swarm_send_message(answer->provider, &message);
}

static void send_foreign_chunk(struct swarm_answer *answer)
{
	struct buf *out = &answer->provider->fleet->scratch;
	buf_clear(out);
	wire_seal_chunk(&answer->shared, STR("00000000-0000-4000-8000-000000000000"), str_of(answer->provider->box_b64),
	                STR("data: {}\n\n"), out);
	swarm_send(answer->provider, buf_str(out));
}

static void send_oversize(const struct swarm_answer *answer)
{
	struct buf huge;
	buf_init(&huge, WIRE_MAX_TO_COORDINATOR + 4096);
	if (!buf_reserve(&huge, WIRE_MAX_TO_COORDINATOR + 1)) {
		memset(huge.at, ' ', WIRE_MAX_TO_COORDINATOR + 1);
		huge.len = WIRE_MAX_TO_COORDINATOR + 1;
		ws_send(answer->provider->ws, WS_TEXT, buf_str(&huge));
	}
	buf_free(&huge);
}

/* What a fault does in the middle of an answer. Returns false when the answer is over (and freed). */
static bool misbehave(struct swarm_answer *answer)
{
	struct swarm_fleet *fleet = answer->provider->fleet;
	bool first = answer->sent == 1, middle = answer->sent == 1 + fleet->options.chunks / 2;
	switch (answer->fault) {
	case SWARM_FAULT_EARLY_DROP:
		if (!first)
			return true;
		ws_abort(answer->provider->ws);
		end(answer);
		return false;
	case SWARM_FAULT_DROP:
		if (!middle)
			return true;
		ws_abort(answer->provider->ws);
		end(answer);
		return false;
	case SWARM_FAULT_BREAK:
		if (!middle)
			return true;
		send_error(answer, 500, "internal error: simulated fault");
		return false;
	case SWARM_FAULT_GARBAGE:
		if (first || middle)
			swarm_send(answer->provider, STR("\x01\x02 {\"type\":\"inference_response_chunk\",\"request_id\":7"));
		return true;
	case SWARM_FAULT_PLAINTEXT:
		if (first)
			send_plaintext_chunk(answer);
		return true;
	case SWARM_FAULT_FOREIGN:
		if (first || middle)
			send_foreign_chunk(answer);
		return true;
	case SWARM_FAULT_OVERSIZE:
		if (middle)
			send_oversize(answer);
		return true;
	default:
		return true;
	}
}

/* --- running --- */

static void on_pace(struct net_timer *timer);

/* The last words; a provider that replays adds a chunk to an answer that is over. */
static void finish(struct swarm_answer *answer)
{
	struct swarm_provider *provider = answer->provider;
	struct buf *out = &provider->fleet->scratch;
	struct swarm_answer copy = *answer;
	send_complete(answer);
	if (copy.fault == SWARM_FAULT_REPLAY) {
		buf_clear(out);
		wire_seal_chunk(&copy.shared, str_of(copy.id), str_of(provider->box_b64), STR("data: {\"late\":true}\n\n"), out);
		swarm_send(provider, buf_str(out));
	}
}

static void pump(struct swarm_answer *answer)
{
	struct swarm_fleet *fleet = answer->provider->fleet;
	struct buf *frame = &fleet->frame;
	for (;;) {
		if (answer->provider->blocked)
			break;
		if (answer->cancelled && !fleet->options.ignore_cancel) {
			if (answer->sent > 1)
				send_complete(answer);
			else
				send_error(answer, 499, "request cancelled");
			break;
		}
		if (answer->paced && answer->credit <= 0)
			break;
		if (answer->fault == SWARM_FAULT_STALL && answer->sent == 1)
			break;
		if (!misbehave(answer))
			break;
		if (!frame_at(answer, answer->sent, frame)) {
			finish(answer);
			break;
		}
		if (send_frame(answer, buf_str(frame)))
			break;
		if (answer->fault == SWARM_FAULT_REPLAY && answer->sent == 2)
			swarm_send(answer->provider, buf_str(&fleet->scratch)); /* the very same message again */
		if (fleet->options.pace_us && answer->sent <= fleet->options.chunks) {
			net_timer_start(fleet->loop, &answer->timer, fleet->options.pace_us / 1000 ? fleet->options.pace_us / 1000 : 1, 0,
			                on_pace);
			break;
		}
	}
}

static void on_pace(struct net_timer *timer)
{
	pump((struct swarm_answer *)(void *)((char *)timer - offsetof(struct swarm_answer, timer)));
}

static enum swarm_fault draw_fault(struct swarm_fleet *fleet)
{
	double at = swarm_random(fleet);
	for (int i = 0; i < SWARM_FAULTS; i++) {
		at -= fleet->options.faults[i];
		if (at < 0) {
			fleet->counts.faults++;
			return (enum swarm_fault)i;
		}
	}
	return SWARM_FAULTS;
}

/* Opens the request as a real provider does; the prompt is thrown away. */
static bool open_request(struct swarm_answer *answer, const struct wire_request *request)
{
	uint8_t sender[BOX_KEY_BYTES];
	struct buf *plain = &answer->provider->fleet->scratch;
	buf_clear(plain);
	return request->has_encrypted_body && wire_key_decode(request->encrypted_body.sender_key, sender) == DB_OK &&
	       box_shared_derive(&answer->shared, sender, answer->provider->box.secret_key) == DB_OK &&
	       wire_payload_open(&answer->shared, request->encrypted_body.ciphertext, plain) == DB_OK;
}

void swarm_answer_start(struct swarm_provider *provider, const struct wire_request *request)
{
	struct swarm_fleet *fleet = provider->fleet;
	struct swarm_answer *answer = calloc(1, sizeof *answer);
	if (!answer)
		return;
	answer->provider = provider;
	answer->arrived_us = clock_mono_us();
	answer->paced = request->has_credit && fleet->options.credit;
	answer->credit = request->credit;
	answer->fault = draw_fault(fleet);
	list_push_back(&provider->answers, &answer->link);
	fleet->counts.requests++;
	if (!str_copy(request->request_id, answer->id, sizeof answer->id) || !make_head(answer) || !open_request(answer, request)) {
		send_error(answer, 400, "decryption failed");
		return;
	}
	if (answer->fault == SWARM_FAULT_SILENT)
		return;
	if (answer->fault == SWARM_FAULT_ERROR) {
		send_error(answer, 500, "internal error: simulated fault");
		return;
	}
	if (answer->fault == SWARM_FAULT_BUSY) {
		send_error(answer, 503, "server busy");
		return;
	}
	struct wire_message accepted = {.type = WIRE_ACCEPTED, .as.accepted = {.request_id = str_of(answer->id)}};
	swarm_send_message(provider, &accepted);
	if (answer->fault == SWARM_FAULT_HANG)
		return;
	if (fleet->options.think_us)
		net_timer_start(fleet->loop, &answer->timer, fleet->options.think_us / 1000 ? fleet->options.think_us / 1000 : 1, 0,
		                on_pace);
	else
		pump(answer);
}

static struct swarm_answer *find(const struct swarm_provider *provider, struct str request_id)
{
	LIST_EACH (link, &provider->answers) {
		struct swarm_answer *answer = LIST_OF(link, struct swarm_answer, link);
		if (str_is(request_id, answer->id))
			return answer;
	}
	return NULL;
}

void swarm_answer_cancel(struct swarm_provider *provider, struct str request_id)
{
	struct swarm_answer *answer = find(provider, request_id);
	if (!answer || answer->cancelled)
		return;
	provider->fleet->counts.cancelled++;
	answer->cancelled = true;
	if (answer->fault == SWARM_FAULT_HANG || answer->fault == SWARM_FAULT_SILENT)
		end(answer);
	else if (!provider->fleet->options.ignore_cancel)
		pump(answer);
}

void swarm_answer_credit(struct swarm_provider *provider, struct str request_id, int64_t chunks)
{
	struct swarm_answer *answer = find(provider, request_id);
	if (!answer)
		return;
	answer->credit += chunks;
	if (!answer->timer.loop)
		pump(answer);
}

void swarm_answers_pump(struct swarm_provider *provider)
{
	LIST_EACH_SAFE (link, next, &provider->answers) {
		struct swarm_answer *answer = LIST_OF(link, struct swarm_answer, link);
		bool stuck = answer->fault == SWARM_FAULT_HANG || answer->fault == SWARM_FAULT_SILENT;
		if (!stuck && !answer->timer.loop && !provider->blocked)
			pump(answer);
	}
}

void swarm_answers_drop(struct swarm_provider *provider)
{
	LIST_EACH_SAFE (link, next, &provider->answers)
		end(LIST_OF(link, struct swarm_answer, link));
}
