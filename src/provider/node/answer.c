/* What the engine says of a request, and how it goes out: sealed frames, as much as credit allows, and one signed end. The
 * engine tells its progress on its own thread; each step is posted to the loop as a struct step. */
#include "provider/node/request.h"

#include <stdlib.h>

#include "core/log.h"

#define FRAME_MAX   (4u << 20)
#define BEHIND_HIGH 64 /* steps of one request that wait for the loop: its engine pauses above ... */
#define BEHIND_LOW  16 /* ... and goes on below */

enum step_kind { STEP_DELTA, STEP_FINISH, STEP_ERROR };

struct step {
	struct node_request *request;
	enum step_kind kind;
	uint32_t choice;
	bool choice_ended;
	bool replayed;
	uint64_t print;
	size_t sampled_len; /* bytes */
	size_t content_len, reasoning_len, tool_calls_len, logprobs_len, stop_len;
	enum engine_finish finish;
	int status;
	enum engine_reason reason;
	char error[256];
	struct chat_usage usage;
	size_t text_len;
	_Alignas(
	    int32_t) char text[]; /* ids of tokens, content, reasoning, tool calls, logprobs, stop string, one after the other */
};

struct step *request_last_step(struct node_request *request)
{
	struct step *step = calloc(1, sizeof *step);
	if (step)
		step->request = request;
	return step;
}

/* --- sending --- */

static bool may_send(const struct node_request *request, const struct outbound *outbound)
{
	return !request->node->blocked && (!outbound->chunk || !request->paced || request->credit > 0);
}

void request_flush(struct node_request *request)
{
	for (struct outbound *first; (first = outbound_first(&request->unsent)) && may_send(request, first);) {
		if (node_send_text(request->node, buf_str(&first->text)) == DB_E_AGAIN)
			break;
		if (first->chunk && request->paced)
			request->credit--;
		outbound_free(&request->unsent, first);
	}
	unsigned behind = atomic_load_explicit(&request->behind, memory_order_relaxed);
	bool pause = request->unsent.count > 0 || behind > (request->paused ? BEHIND_LOW : BEHIND_HIGH);
	if (request->call && !request->ended && !request->orphaned && pause != request->paused) {
		request->paused = pause;
		(pause ? engine_pause : engine_resume)(request->call);
	}
	request_finish_if_done(request);
}

/* Every request that was accepted ends with one terminal message. Where it cannot even be made, the session ends. */
static void queue_terminal(struct node_request *request, const struct wire_message *message)
{
	if (request->orphaned || request->failed)
		return;
	enum db_err err = outbound_push_message(&request->unsent, message);
	if (!err)
		return;
	log_error("node.encode_failed", "type=%s error=%s", wire_type_name(message->type), error_name(err));
	ws_abort(request->node->ws);
}

void request_queue_error(struct node_request *request, int status, enum engine_reason reason, const char *text)
{
	struct wire_message message = {.type = WIRE_ERROR,
	                               .as.error = {.request_id = str_of(request->id),
	                                            .error = str_of(text),
	                                            .status_code = status,
	                                            .error_reason = str_of(engine_reason_name(reason))}};
	queue_terminal(request, &message);
}

/* What the signature of a blind request covers. */
static void note_chunk(struct node_request *request)
{
	const struct outbound *last = LIST_OF(request->unsent.head.prev, struct outbound, link);
	struct wire_chunk chunk;
	if (wire_chunk_peek(buf_str(&last->text), &chunk))
		blind_transcript_add(&request->blind->transcript, chunk.encrypted_data.ciphertext);
}

static void queue_frame(struct node_request *request, struct str frame)
{
	if (request->failed)
		return;
	struct node *node = request->node;
	enum db_err err = frame.len ? outbound_push_chunk(&request->unsent, &request->shared, str_of(request->id),
	                                                  str_of(node->box_public_b64), frame)
	                            : DB_E_NOMEM; /* the frame itself could not be made */
	if (!err && request->blind)
		note_chunk(request);
	if (!err)
		return;
	log_error("node.seal_failed", "request=%s error=%s", request->id, error_name(err));
	node->stats.chunk_encryption_errors++;
	outbound_drop_chunks(&request->unsent);
	request_queue_error(request, 500, ENGINE_REASON_FAULT, "response encryption failed");
	request->failed = true;
	request_stop_engine(request);
}

/* --- what the engine says, back on the loop --- */

/* The made frame goes out, and the buffer is ready for the next. */
static void queue_made(struct node_request *request, struct buf *frame)
{
	if (request->blind)
		(void)blind_pad_frame(frame, 0);
	queue_frame(request, frame->failed ? STR_NONE : buf_str(frame));
	buf_clear(frame);
}

static void queue_choice_end(struct node_request *request, uint32_t choice, enum engine_finish finish, struct str stop)
{
	struct buf frame;
	if (request->told & (UINT32_C(1) << choice))
		return;
	request->told |= UINT32_C(1) << choice;
	buf_init(&frame, FRAME_MAX);
	chat_frame_finish(&request->head, choice, engine_finish_name(finish), stop, &frame);
	queue_made(request, &frame);
	buf_free(&frame);
}

static void put_note(const struct step *step, struct buf *frame)
{
	struct chat_resume note = {step->print, (const int32_t *)(const void *)step->text, step->sampled_len / sizeof(int32_t)};
	if (note.count > 0)
		chat_resume_note(&note, frame);
}

/* Prompts are answered one after the other, and choices numbered through. */
static uint32_t first_choice(const struct node_request *request)
{
	return request->prompt * request->choices;
}

static void on_delta(struct node_request *request, const struct step *step)
{
	uint32_t choice = first_choice(request) + step->choice;
	if (request->orphaned || request->cancelled || request->failed)
		return;
	struct buf frame;
	buf_init(&frame, FRAME_MAX);
	if (request->task == CHAT_TASK_EMBED) {
		struct str vector = {step->text, step->content_len};
		response_hash_add(&request->hash, vector, STR_NONE);
		chat_frame_embedding(&request->head, step->choice, vector, &frame);
		queue_made(request, &frame);
		buf_free(&frame);
		return;
	}
	if (!(request->spoke & (UINT32_C(1) << choice))) {
		chat_frame_role(&request->head, choice, &frame);
		queue_made(request, &frame);
		request->spoke |= UINT32_C(1) << choice;
	}
	struct str all = {step->text + step->sampled_len, step->text_len - step->sampled_len};
	struct str content = str_sub(all, 0, step->content_len);
	struct str reasoning = str_sub(all, step->content_len, step->reasoning_len);
	struct str tool_calls = str_sub(all, step->content_len + step->reasoning_len, step->tool_calls_len);
	struct str logprobs = str_sub(all, step->content_len + step->reasoning_len + step->tool_calls_len, step->logprobs_len);
	if (content.len + reasoning.len + tool_calls.len + logprobs.len > 0) {
		response_hash_add(&request->hash, content, reasoning);
		response_hash_add_tool_calls(&request->hash, tool_calls);
	}
	if (content.len + reasoning.len + tool_calls.len + logprobs.len > 0 && !step->replayed) {
		put_note(step, &frame);
		chat_frame_delta(&request->head, choice, content, reasoning, tool_calls, logprobs, &frame);
		queue_made(request, &frame);
	}
	buf_free(&frame);
	if (step->choice_ended)
		queue_choice_end(request, choice, step->finish, str_sub(all, all.len - step->stop_len, step->stop_len));
}

/* --- the signed terminal message: an enclave takes milliseconds to sign, so a worker does it --- */

/* Of a blind request nothing may be told that depends on its text: not even a digest. */
static void sign_blind(struct node_request *request)
{
	const struct node_blind *blind = request->blind;
	char transcript[SHA256_HEX_SIZE];
	blind_transcript_end(&blind->transcript, transcript);
	struct blind_usage usage = {.request_id = str_of(request->id),
	                            .consumer_key = str_of(blind->consumer_key),
	                            .model = str_of(request->head.model),
	                            .prompt_tokens = (int64_t)request->usage.prompt_tokens,
	                            .completion_tokens = (int64_t)request->usage.completion_tokens,
	                            .reasoning_tokens = (int64_t)request->usage.reasoning_tokens,
	                            .transcript = str_of(transcript)};
	if (blind_usage_sign(&usage, &request->node->signer, &request->signature))
		buf_clear(&request->signature);
}

static void sign_work(void *arg)
{
	struct node_request *request = arg;
	char hash[SHA256_HEX_SIZE];
	if (request->blind) {
		sign_blind(request);
		return;
	}
	if (response_hash_final(&request->hash, str_of(request->id), (int64_t)request->usage.completion_tokens, hash) ||
	    response_hash_sign(hash, &request->node->signer, &request->signature))
		return;
	str_copy(str_of(hash), request->hash_hex, sizeof request->hash_hex);
}

static void sign_done(void *arg)
{
	struct node_request *request = arg;
	if (!request->signature.len)
		log_error("node.sign_failed", "request=%s", request->id);
	struct wire_message message = {
	    .type = WIRE_COMPLETE,
	    .as.complete = {.request_id = str_of(request->id),
	                    .prompt_tokens = (int64_t)request->usage.prompt_tokens,
	                    .completion_tokens = (int64_t)request->usage.completion_tokens,
	                    .reasoning_tokens = (int64_t)request->usage.reasoning_tokens,
	                    .se_signature = request->hash_hex[0] ? buf_str(&request->signature) : STR_NONE,
	                    .response_hash = str_of(request->hash_hex),
	                    .usage_signature = request->blind ? buf_str(&request->signature) : STR_NONE}};
	queue_terminal(request, &message);
	request->ended = true;
	request_flush(request);
}

static void queue_prompt_end(struct node_request *request, enum engine_finish finish)
{
	for (uint32_t i = 0; request->task == CHAT_TASK_ANSWER && i < request->choices; i++)
		queue_choice_end(request, first_choice(request) + i, finish, str_of(request->stop));
}

static void queue_last_frames(struct node_request *request)
{
	struct buf frame;
	buf_init(&frame, FRAME_MAX);
	chat_frame_usage(&request->head, &request->usage, &frame);
	queue_made(request, &frame);
	chat_frame_done(&frame);
	queue_made(request, &frame);
	buf_free(&frame);
}

static void add_usage(struct chat_usage *sum, const struct chat_usage *usage)
{
	sum->prompt_tokens += usage->prompt_tokens;
	sum->completion_tokens += usage->completion_tokens;
	sum->reasoning_tokens += usage->reasoning_tokens;
	sum->cached_tokens += usage->cached_tokens;
}

/* The engine goes on with the next prompt. False when there is none, or it cannot: then *status says why. */
static bool begin_next_prompt(struct node_request *request, int *status, struct error *error)
{
	const json_val *prompts = request->chat.prompts; /* gone once the last one was begun */
	if (request->cancelled || request->failed || request->orphaned || !prompts)
		return false;
	request->last = request_last_step(request);
	if (!request->last) {
		*status = 503;
		error_set(error, DB_E_NOMEM, "insufficient memory for another prompt");
		return false;
	}
	engine_call_release(request->call);
	request->call = NULL;
	if (request->stop)
		secret_wipe(request->stop, strlen(request->stop));
	free(request->stop);
	request->stop = NULL;
	request->paused = false;
	request->prompt++;
	*status = request_submit(request, request->engine, error);
	return *status == 0;
}

static void on_finish(struct node_request *request, const struct step *step)
{
	struct node *node = request->node;
	struct error error = {0};
	int status = 0;
	add_usage(&request->usage, &step->usage);
	node->stats.tokens_generated += (int64_t)step->usage.completion_tokens;
	if (!request->cancelled && !request->orphaned && !request->failed)
		queue_prompt_end(request, step->finish);
	if (step == request->last)
		request->last = NULL; /* whoever handles it frees it */
	if (step->finish != ENGINE_FINISH_CANCELLED && begin_next_prompt(request, &status, &error))
		return;
	if (status) {
		request_queue_error(request, status, ENGINE_REASON_NONE, error.text);
		request->ended = true;
		return;
	}
	node->stats.requests_served++;
	if (step->finish == ENGINE_FINISH_CANCELLED)
		node->stats.cancellations_partial_complete++;
	if (request->orphaned || request->failed) {
		request->ended = true;
		return;
	}
	if (!request->cancelled)
		queue_last_frames(request);
	net_work(node->loop, sign_work, sign_done, request);
}

static void on_error(struct node_request *request, const struct step *step)
{
	if (step->status == 499)
		request->node->stats.cancellations_before_output++;
	else if (request->spoke)
		request->node->stats.generation_errors_after_output++;
	request_queue_error(request, step->status, step->reason, step->error);
	request->ended = true;
}

static void step_on_loop(void *arg)
{
	struct step *step = arg;
	struct node_request *request = step->request;
	switch (step->kind) {
	case STEP_DELTA:
		atomic_fetch_sub_explicit(&request->behind, 1, memory_order_relaxed);
		on_delta(request, step);
		break;
	case STEP_FINISH:
		on_finish(request, step);
		break;
	case STEP_ERROR:
		on_error(request, step);
		break;
	}
	if (step == request->last)
		request->last = NULL;
	secret_wipe(step->text, step->text_len);
	free(step);
	request_flush(request);
}

/* --- callbacks on the engine's thread --- */

static char *append(char *at, struct str text)
{
	if (text.len)
		memcpy(at, text.at, text.len);
	return at + text.len;
}

static void engine_said_delta(struct engine_call *call, const struct engine_delta *delta, void *user)
{
	struct node_request *request = user;
	struct str sampled = {(const char *)delta->sampled.tokens, delta->sampled.count * sizeof *delta->sampled.tokens};
	if (!request->notes)
		sampled = STR_NONE;
	size_t len =
	    sampled.len + delta->content.len + delta->reasoning.len + delta->tool_calls.len + delta->logprobs.len + delta->stop.len;
	struct step *step = malloc(sizeof *step + len);
	if (!step) {
		engine_cancel(call);
		return;
	}
	*step = (struct step){.request = request,
	                      .kind = STEP_DELTA,
	                      .choice = delta->choice,
	                      .replayed = delta->replayed,
	                      .print = delta->sampled.print,
	                      .sampled_len = sampled.len,
	                      .choice_ended = delta->ended,
	                      .finish = delta->finish,
	                      .content_len = delta->content.len,
	                      .reasoning_len = delta->reasoning.len,
	                      .tool_calls_len = delta->tool_calls.len,
	                      .logprobs_len = delta->logprobs.len,
	                      .stop_len = delta->stop.len,
	                      .text_len = len};
	char *at = append(append(append(append(step->text, sampled), delta->content), delta->reasoning), delta->tool_calls);
	append(append(at, delta->logprobs), delta->stop);
	atomic_fetch_add_explicit(&request->behind, 1, memory_order_relaxed);
	net_post(request->node->loop, step_on_loop, step);
}

static void engine_said_finish(struct engine_call *call, enum engine_finish finish, const struct chat_usage *usage, void *user)
{
	struct node_request *request = user;
	struct step *step = request->last;
	if (call->stop.len > 0) /* without memory for it the answer just does not say it */
		request->stop = strndup(call->stop.at, call->stop.len);
	step->kind = STEP_FINISH;
	step->finish = finish;
	step->usage = *usage;
	net_post(request->node->loop, step_on_loop, step);
}

static void engine_said_error(struct engine_call *call, int status, enum engine_reason reason, const char *text,
                              const struct chat_usage *so_far, void *user)
{
	struct node_request *request = user;
	struct step *step = request->last;
	(void)call;
	(void)so_far;
	step->kind = STEP_ERROR;
	step->status = status;
	step->reason = reason;
	str_copy(str_sub(str_of(text), 0, sizeof step->error - 1), step->error, sizeof step->error);
	net_post(request->node->loop, step_on_loop, step);
}

const struct engine_callbacks request_engine_callbacks = {
    .on_delta = engine_said_delta, .on_finish = engine_said_finish, .on_error = engine_said_error};
