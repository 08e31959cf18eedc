/* Requests of the coordinator: opened, given to an engine, cancelled, ended. */
#include "provider/node/request.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"
#include "wire/prefix.h"

#define ANSWER_TEXT_MAX (64u << 20)
#define SIGNATURE_MAX   256
#define CREDIT_MAX      INT32_MAX

/* --- end of a request --- */

static void unmap(struct node_request *request)
{
	if (request->mapped)
		map_remove(&request->node->requests, str_of(request->id));
	request->mapped = false;
}

void request_forget_body(struct node_request *request)
{
	buf_free(&request->body);
	arena_free(request->arena);
	request->arena = NULL;
	request->chat = (struct chat_request){0};
}

static void request_free(struct node_request *request)
{
	unmap(request);
	request_forget_body(request);
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

void request_finish_if_done(struct node_request *request)
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

void request_stop_engine(struct node_request *request)
{
	if (request->call && !request->ended)
		engine_cancel(request->call);
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
	request->queue_notes = message->queue_notes;
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
	request->last = request_last_step(request);
	if (!request->arena || !request->last || (message->has_blind && !request->blind)) {
		request_free(request);
		return NULL;
	}
	return request;
}

/* From here on the request ends with a terminal message of its own. */
static enum db_err accept(struct node_request *request, bool loading)
{
	struct wire_message accepted = {.type = WIRE_ACCEPTED,
	                                .as.accepted = {.request_id = str_of(request->id), .loading = loading}};
	enum db_err err = outbound_push_message(&request->unsent, &accepted);
	if (!err)
		err = map_put(&request->node->requests, str_of(request->id), request, NULL);
	request->mapped = !err;
	return err;
}

int request_submit(struct node_request *request, struct engine *engine, struct error *error)
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
	int status = engine_submit(engine, &what, &request_engine_callbacks, request, &request->call, error);
	if (!status)
		request_watch_place(request);
	if (!what.chat->prompts || request->prompt + 1 == json_len(what.chat->prompts))
		request_forget_body(request);
	return status;
}

/* The model was loaded for us, or could not be. */
static void on_model_ready(struct residency_use *use, struct engine *engine, int status, const char *why)
{
	struct node_request *request = LIST_OF(use, struct node_request, use);
	struct error error = {0};
	char text[NODE_TEXT_SIZE];
	enum engine_reason reason = status == 500 ? ENGINE_REASON_LOAD : reason_of(status);
	if (status) {
		error_set(&error, DB_E_LIMIT, "%s", node_public_text(request->node, why, text));
	} else {
		status = request_submit(request, engine, &error);
		reason = reason_of(status);
	}
	if (status) {
		request_queue_error(request, status, reason, error.text);
		request->ended = true;
	}
	request_flush(request);
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
	return engine ? request_submit(request, engine, error) : 0;
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
	request_flush(request);
}

/* It still waits for its model. */
static void stop_waiting(struct node_request *request)
{
	struct wire_stats *stats = &request->node->stats;
	stats->cancel_during_model_load++;
	stats->cancellations_before_output++;
	residency_release(&request->use);
	request_forget_body(request);
	request_queue_error(request, 499, ENGINE_REASON_CANCELLED, "request cancelled");
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
	request_stop_engine(request);
	request_flush(request);
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
	request_flush(request);
}

void node_requests_flush(struct node *node)
{
	LIST_EACH_SAFE (link, next, &node->all) {
		if (node->blocked)
			break;
		request_flush(LIST_OF(link, struct node_request, link));
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
		request_stop_engine(request);
		residency_release(&request->use); /* nobody waits for what is left of it */
		unmap(request);
		outbound_drop(&request->unsent);
		request_finish_if_done(request);
	}
}
