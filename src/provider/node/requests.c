#include "provider/node/node_internal.h"
#include "provider/node/sharing.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"
#include "crypto/secret.h"
#include "wire/prefix.h"
#include "wire/response_hash.h"

#define ANSWER_TEXT_MAX (64u << 20)
#define FRAME_MAX       (4u << 20)
#define REQUEST_ID_MAX  128
#define BEHIND_HIGH     64 /* steps of one request that wait for the loop: its engine pauses above ... */
#define BEHIND_LOW      16 /* ... and goes on below */
#define SIGNATURE_MAX   256
#define CREDIT_MAX      INT32_MAX

/* One request from its arrival to its terminal message. The engine tells its progress on its own thread; each step is posted to
 * the loop as a struct step. */
struct node_request {
	struct list_link link; /* in node->all until the engine call ended and everything was sent */
	struct node *node;
	char id[REQUEST_ID_MAX];
	bool orphaned;  /* the session that asked is gone: say nothing more, leave the engine alone */
	bool cancelled; /* no more chunks, but one terminal message */
	bool failed;    /* the terminal message was said although the engine still runs */
	bool mapped;    /* still in node->requests */

	struct box_shared shared;
	/* Until the engine has it: the opened body and what it says. The model may have to be loaded first. */
	struct arena *arena;
	struct buf body;
	struct chat_request chat;
	char cache_tenant[SHARING_TENANT_MAX + 1];
	struct engine_prefix_names names;
	struct residency_use use; /* of the model, to the end */
	struct engine_call *call;
	struct step *last;         /* made ahead: the end of a call must not get lost for want of memory */
	bool ended;                /* the engine call's last callback was handled, the terminal message made */
	bool paused;               /* the engine was asked to pause */
	atomic_uint behind;        /* deltas that were posted and not yet handled */
	uint32_t spoke, told;      /* bits of the choices whose role frame, and whose end, was made */
	bool notes;                /* the coordinator wants to be able to continue the answer elsewhere */
	struct chat_resume resume; /* in the arena, likewise; count 0 as a rule */
	uint32_t choices;          /* that were asked for, of each prompt */
	uint32_t prompt;           /* which of several prompts the engine answers */
	struct engine *engine;     /* ... and who does: with several it is asked once for each */
	enum chat_task task;

	bool paced; /* flow credit was agreed */
	int64_t credit;
	struct list unsent; /* struct outbound */

	char *stop; /* the stop string that ended the answer, or NULL; wiped with the request */
	char frame_id[64];
	struct chat_frame_head head;
	struct response_hash hash;
	struct node_blind *blind; /* NULL: an ordinary request */
	struct chat_usage usage;
	char hash_hex[SHA256_HEX_SIZE]; /* "" until signed */
	struct buf signature;
};

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

/* --- end of a request --- */

static void unmap(struct node_request *request)
{
	if (request->mapped)
		map_remove(&request->node->requests, str_of(request->id));
	request->mapped = false;
}

static void forget_body(struct node_request *request)
{
	buf_free(&request->body);
	arena_free(request->arena);
	request->arena = NULL;
	request->chat = (struct chat_request){0};
}

static void request_free(struct node_request *request)
{
	unmap(request);
	forget_body(request);
	residency_release(&request->use);
	list_remove(&request->node->all, &request->link);
	outbound_drop(&request->unsent);
	response_hash_free(&request->hash);
	buf_free(&request->signature);
	secret_wipe(&request->shared, sizeof request->shared);
	if (request->stop)
		secret_wipe(request->stop, strlen(request->stop));
	free(request->stop);
	free(request->blind);
	free(request->last);
	free(request);
}

/* Frees a request that has nothing left to hear from its engine or to say to the coordinator. */
static void finish_if_done(struct node_request *request)
{
	struct node *node = request->node;
	if (!request->ended || request->unsent.count)
		return;
	if (request->call)
		engine_call_release(request->call);
	request_free(request);
	node_changed(node);
	node_maybe_drained(node);
	node_release(node);
}

static void stop_engine(struct node_request *request)
{
	if (request->call && !request->ended)
		engine_cancel(request->call);
}

/* --- sending --- */

static bool may_send(const struct node_request *request, const struct outbound *outbound)
{
	return !request->node->blocked && (!outbound->chunk || !request->paced || request->credit > 0);
}

/* Sends what credit and socket allow, and lets the engine pause while something is left behind. May free the request. */
static void flush(struct node_request *request)
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
	finish_if_done(request);
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

static void queue_error(struct node_request *request, int status, enum engine_reason reason, const char *text)
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
	queue_error(request, 500, ENGINE_REASON_FAULT, "response encryption failed");
	request->failed = true;
	stop_engine(request);
}

/* Of a refusal at the door: only a full queue has a reason that its sentence is not enough for. */
static enum engine_reason reason_of(int status)
{
	return status == 429 ? ENGINE_REASON_QUEUE : ENGINE_REASON_NONE;
}

/* A refusal before there is anything to keep. */
static void refuse(struct node *node, struct str request_id, int status, const char *text)
{
	struct wire_message message = {.type = WIRE_ERROR,
	                               .as.error = {.request_id = request_id,
	                                            .error = str_of(text),
	                                            .status_code = status,
	                                            .error_reason = str_of(engine_reason_name(reason_of(status)))}};
	log_info("node.refused", "request=%.*s status=%d why=\"%s\"", STR_ARG(str_sub(request_id, 0, 64)), status, text);
	node_send(node, &message);
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
	flush(request);
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

static int submit(struct node_request *request, struct engine *engine, struct error *error);

/* The engine goes on with the next prompt. False when there is none, or it cannot: then *status says why. */
static bool begin_next_prompt(struct node_request *request, int *status, struct error *error)
{
	const json_val *prompts = request->chat.prompts; /* gone once the last one was begun */
	if (request->cancelled || request->failed || request->orphaned || !prompts)
		return false;
	request->last = calloc(1, sizeof *request->last);
	if (!request->last) {
		*status = 503;
		error_set(error, DB_E_NOMEM, "insufficient memory for another prompt");
		return false;
	}
	request->last->request = request;
	engine_call_release(request->call);
	request->call = NULL;
	if (request->stop)
		secret_wipe(request->stop, strlen(request->stop));
	free(request->stop);
	request->stop = NULL;
	request->paused = false;
	request->prompt++;
	*status = submit(request, request->engine, error);
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
		queue_error(request, status, ENGINE_REASON_NONE, error.text);
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
	queue_error(request, step->status, step->reason, step->error);
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
	flush(request);
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

static const struct engine_callbacks callbacks = {
    .on_delta = engine_said_delta, .on_finish = engine_said_finish, .on_error = engine_said_error};

/* --- a request arrives --- */

/* Opens the sealed body into `plain` (protocol-and-trust 4.2). NULL when it is good, else the refusal. */
static const char *open_body(struct node *node, const struct wire_request *message, struct box_shared *shared,
                             struct buf *plain)
{
	uint8_t sender[BOX_KEY_BYTES];
	if (message->has_plain_body)
		return "plaintext request bodies are refused";
	if (!message->has_encrypted_body)
		return "missing encrypted_body";
	if (wire_key_decode(message->encrypted_body.sender_key, sender))
		return "ephemeral_public_key is not 32 bytes of base64";
	if (box_shared_derive(shared, sender, node->box->secret_key))
		return "decryption failed";
	enum db_err err = wire_payload_open(shared, message->encrypted_body.ciphertext, plain);
	return !err ? NULL : err == DB_E_INVALID ? "ciphertext is not base64" : "decryption failed";
}

static struct node_request *request_new(struct node *node, const struct wire_request *message)
{
	struct node_request *request = calloc(1, sizeof *request);
	if (!request)
		return NULL;
	request->node = node;
	request->paced = message->has_credit;
	request->notes = message->notes && !message->has_blind;
	request->credit = message->credit;
	list_init(&request->unsent);
	if (message->has_blind)
		request->blind = calloc(1, sizeof *request->blind);
	if (request->blind)
		node_blind_begin(request->blind, message);
	str_copy(message->request_id, request->id, sizeof request->id);
	snprintf(request->frame_id, sizeof request->frame_id, "chatcmpl-%.*s", STR_ARG(str_sub(message->request_id, 0, 40)));
	response_hash_init(&request->hash, ANSWER_TEXT_MAX);
	buf_init(&request->signature, SIGNATURE_MAX);
	buf_init(&request->body, WIRE_MAX_TO_PROVIDER);
	str_copy(message->cache_tenant, request->cache_tenant, sizeof request->cache_tenant);
	request->names.count = wire_prefixes_read(message->prefixes, request->names.at, ENGINE_PREFIX_NAMES);
	list_push_back(&node->all, &request->link);
	request->arena = arena_new(0);
	request->last = calloc(1, sizeof *request->last);
	if (!request->arena || !request->last || (message->has_blind && !request->blind)) {
		request_free(request);
		return NULL;
	}
	request->last->request = request;
	return request;
}

/* From here on the request ends with a terminal message of its own. */
static enum db_err accept(struct node_request *request, bool loading)
{
	struct wire_message accepted = {.type = WIRE_ACCEPTED, .as.accepted = {str_of(request->id), loading}};
	enum db_err err = outbound_push_message(&request->unsent, &accepted);
	if (!err)
		err = map_put(&request->node->requests, str_of(request->id), request, NULL);
	request->mapped = !err;
	return err;
}

static int submit(struct node_request *request, struct engine *engine, struct error *error)
{
	struct sharing sharing;
	sharing_find(str_of(request->cache_tenant), request->chat.cache_scope, request->node->options.cache_scope, &sharing);
	struct engine_request what = {.chat = &request->chat,
	                              .tenant = sharing.tenant,
	                              .cache_scope = sharing.scope,
	                              .names = request->names,
	                              .resume = request->resume};
	if (request->blind)
		what.max_prompt_tokens = (uint64_t)request->blind->max_prompt_tokens;
	request->task = what.chat->task;
	request->choices = what.chat->n > 1 ? (uint32_t)what.chat->n : 1;
	request->engine = engine;
	if (what.chat->prompts)
		request->chat.prompt = json_at(what.chat->prompts, request->prompt);
	int status = engine_submit(engine, &what, &callbacks, request, &request->call, error);
	if (!what.chat->prompts || request->prompt + 1 == json_len(what.chat->prompts))
		forget_body(request);
	return status;
}

/* The model was loaded for us, or could not be. */
static void on_model_ready(struct residency_use *use, struct engine *engine, int status, const char *why)
{
	struct node_request *request = LIST_OF(use, struct node_request, use);
	struct error error = {0};
	enum engine_reason reason = status == 500 ? ENGINE_REASON_LOAD : reason_of(status);
	if (status) {
		error_set(&error, DB_E_LIMIT, "%s", why);
	} else {
		status = submit(request, engine, &error);
		reason = reason_of(status);
	}
	if (status) {
		queue_error(request, status, reason, error.text);
		request->ended = true;
	}
	flush(request);
}

static int start(struct node_request *request, struct error *error)
{
	struct node *node = request->node;
	const struct residency_model *model = residency_find(node->options.residency, request->chat.model);
	struct engine *engine;
	request->head = (struct chat_frame_head){request->frame_id, clock_wall_us() / 1000000, model ? model->id : ""};
	request->use.ready = on_model_ready;
	int status = residency_acquire(node->options.residency, request->chat.model, &request->use, &engine, error);
	if (status > 0)
		return status;
	if (accept(request, engine == NULL)) {
		error_set(error, DB_E_NOMEM, "insufficient memory for another request");
		return 503;
	}
	return engine ? submit(request, engine, error) : 0;
}

void node_request_start(struct node *node, const struct wire_request *message)
{
	if (!message->request_id.len || message->request_id.len >= REQUEST_ID_MAX) {
		log_warn("node.bad_request_id", "bytes=%zu", message->request_id.len);
		return;
	}
	if (map_get(&node->requests, message->request_id)) {
		log_warn("node.replayed_request", "request=%.*s", STR_ARG(message->request_id));
		return;
	}
	if (node->draining) {
		refuse(node, message->request_id, 503, "provider draining for update");
		return;
	}
	struct node_request *request = request_new(node, message);
	if (!request) {
		refuse(node, message->request_id, 503, "insufficient memory for another request");
		return;
	}
	struct api_error unsaid; /* what is wrong with it could quote the prompt */
	struct error error = {0};
	int status = 400;
	const char *refusal = open_body(node, message, &request->shared, &request->body);
	if (!refusal && !chat_request_parse(buf_str(&request->body), request->arena, &request->chat, &unsaid))
		refusal = "invalid request body";
	if (!refusal && chat_resume_read(request->chat.root, request->arena, &request->resume))
		refusal = "invalid request body";
	request->spoke = request->resume.count > 0; /* the one who began has said who speaks */
	if (!refusal)
		refusal = node_blind_admit(&node->blind_seen, message, &request->chat);
	if (!refusal && (status = start(request, &error)))
		refusal = error.text;
	if (refusal) {
		request_free(request);
		refuse(node, message->request_id, status, refusal);
		return;
	}
	node_changed(node);
	flush(request);
}

/* It still waits for its model. */
static void stop_waiting(struct node_request *request)
{
	struct wire_stats *stats = &request->node->stats;
	stats->cancel_during_model_load++;
	stats->cancellations_before_output++;
	residency_release(&request->use);
	forget_body(request);
	queue_error(request, 499, ENGINE_REASON_CANCELLED, "request cancelled");
	request->ended = true;
}

static void cancel(struct node_request *request)
{
	request->cancelled = true;
	request->paced = request->paced && !request->blind;
	if (!request->blind) /* what was made for one that is blind must go out: the signature covers it */
		outbound_drop_chunks(&request->unsent);
	if (request->use.waiting)
		stop_waiting(request);
	stop_engine(request);
	flush(request);
}

void node_request_cancel(struct node *node, struct str request_id)
{
	struct node_request *request = map_get(&node->requests, request_id);
	if (!request || request->cancelled)
		return; /* finished ones are cancelled too (protocol-and-trust 11.2) */
	node->stats.cancellations_received++;
	cancel(request);
}

void node_request_credit(struct node *node, struct str request_id, int64_t chunks)
{
	struct node_request *request = map_get(&node->requests, request_id);
	if (!request || !request->paced)
		return;
	request->credit = chunks < CREDIT_MAX - request->credit ? request->credit + chunks : CREDIT_MAX;
	flush(request);
}

void node_requests_flush(struct node *node)
{
	LIST_EACH_SAFE (link, next, &node->all) {
		if (node->blocked)
			break;
		flush(LIST_OF(link, struct node_request, link));
	}
}

void node_requests_cancel_all(struct node *node)
{
	LIST_EACH_SAFE (link, next, &node->all)
		cancel(LIST_OF(link, struct node_request, link));
}

void node_requests_orphan(struct node *node)
{
	LIST_EACH_SAFE (link, next, &node->all) {
		struct node_request *request = LIST_OF(link, struct node_request, link);
		request->orphaned = true;
		if (request->use.waiting)
			stop_waiting(request);
		stop_engine(request);
		residency_release(&request->use); /* nobody waits for what is left of it */
		unmap(request);
		outbound_drop(&request->unsent);
		finish_if_done(request);
	}
}
