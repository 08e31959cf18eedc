/* Answers of /v1/messages: content blocks one after the other, as events or as one message. */
#include "api/anthropic.h"

#include "api/answer_steps.h"
#include "core/encode.h"
#include "crypto/hash.h"

#include <stdio.h>

#define TOOLS_MAX 128

enum block { BLOCK_NONE, BLOCK_THINKING, BLOCK_TEXT, BLOCK_TOOL };

/* One call put together from its pieces. Calls may come interleaved, blocks may not: a call that cannot be shown yet waits. */
struct tool {
	int64_t index; /* the provider's */
	struct buf id, name, arguments;
	bool shown; /* its block was opened */
	size_t sent;
};

struct anthropic_answer {
	struct dialect_answer base;
	struct arena *arena;
	struct chat_answer_options options;
	const struct anthropic_state *state;
	struct answer_steps steps;
	bool started;    /* message_start is out */
	enum block open; /* the block that is open now */
	unsigned blocks; /* opened so far */
	struct tool *tools[TOOLS_MAX], *open_tool;
	size_t tool_count;
	struct sha256_state thought; /* of the open thinking block */
	struct buf said;             /* whole: text of the open block */
	struct buf content;          /* whole: JSON of the closed blocks */
	struct json_writer blocks_out;
	struct buf stop; /* the stop sequence that ended it, as far as the provider says */
	struct buf *out; /* of the call that is under way */
};

static struct anthropic_answer *of(struct dialect_answer *answer)
{
	return (struct anthropic_answer *)(void *)answer;
}

static struct dialect_answer *answer_new(struct arena *arena, const struct chat_answer_options *options)
{
	struct anthropic_answer *a = arena_alloc(arena, sizeof *a);
	if (!a)
		return NULL;
	a->base.dialect = &dialect_anthropic;
	a->arena = arena;
	a->options = *options;
	a->options.requested_model = arena_str(arena, options->requested_model);
	a->options.job_id = arena_cstr(arena, str_of(options->job_id));
	a->state = options->request ? options->request->dialect_state : NULL;
	if (!a->options.requested_model.at || !a->options.job_id)
		return NULL;
	buf_init(&a->said, CHAT_ANSWER_MAX_BYTES);
	buf_init(&a->content, 2 * CHAT_ANSWER_MAX_BYTES);
	buf_init(&a->stop, CHAT_ANSWER_MAX_BYTES);
	json_writer_init(&a->blocks_out, &a->content);
	json_begin_array(&a->blocks_out);
	return &a->base;
}

static void answer_free(struct dialect_answer *answer)
{
	struct anthropic_answer *a = of(answer);
	buf_free(&a->said);
	buf_free(&a->content);
	buf_free(&a->stop);
	for (size_t i = 0; i < a->tool_count; i++) {
		buf_free(&a->tools[i]->id);
		buf_free(&a->tools[i]->name);
		buf_free(&a->tools[i]->arguments);
	}
}

/* --- events --- */

static void begin_event(struct json_writer *w, struct buf *out, const char *type)
{
	buf_append_str(out, STR("event: "));
	buf_append_c(out, type);
	buf_append_str(out, STR("\ndata: "));
	json_writer_init(w, out);
	json_begin_object(w);
	json_put_cstr(w, "type", type);
}

static void end_event(struct json_writer *w, struct buf *out)
{
	json_end_object(w);
	buf_append_str(out, STR("\n\n"));
}

static void put_null(struct json_writer *w, const char *name)
{
	json_key(w, name);
	json_null(w);
}

static void put_count(struct json_writer *w, const char *name, uint64_t count)
{
	json_key(w, name);
	json_u64(w, count);
}

/* The API counts what came from the cache apart from the other input. */
static void put_usage(struct json_writer *w, const struct chat_usage *usage, bool whole)
{
	uint64_t cached = usage->cached_tokens < usage->prompt_tokens ? usage->cached_tokens : usage->prompt_tokens;
	json_key(w, "usage");
	json_begin_object(w);
	put_count(w, "input_tokens", usage->prompt_tokens - cached);
	put_count(w, "output_tokens", usage->completion_tokens);
	put_count(w, "cache_creation_input_tokens", 0);
	put_count(w, "cache_read_input_tokens", cached);
	put_null(w, "server_tool_use");
	json_key(w, "output_tokens_details");
	json_begin_object(w);
	put_count(w, "thinking_tokens", usage->reasoning_tokens);
	json_end_object(w);
	if (whole) {
		json_key(w, "cache_creation");
		json_begin_object(w);
		put_count(w, "ephemeral_5m_input_tokens", 0);
		put_count(w, "ephemeral_1h_input_tokens", 0);
		json_end_object(w);
		json_put_str(w, "service_tier", STR("standard"));
		put_null(w, "inference_geo");
		put_null(w, "speed");
	}
	json_end_object(w);
}

static void put_end(struct json_writer *w, const char *reason, struct str sequence)
{
	json_put_cstr(w, "stop_reason", reason);
	json_key(w, "stop_sequence");
	if (sequence.at)
		json_str(w, sequence);
	else
		json_null(w);
	put_null(w, "stop_details");
	put_null(w, "container");
}

static void put_message(struct json_writer *w, const struct anthropic_answer *a, const char *reason, struct str sequence,
                        const struct chat_usage *usage)
{
	char id[80];
	size_t len = (size_t)snprintf(id, sizeof id, "msg_");
	for (const char *c = a->options.job_id; *c && len + 1 < sizeof id; c++)
		if (*c != '-')
			id[len++] = *c;
	json_put_str(w, "id", (struct str){id, len});
	json_put_str(w, "type", STR("message"));
	json_put_str(w, "role", STR("assistant"));
	json_put_str(w, "model", a->options.requested_model);
	json_key(w, "content");
	json_raw(w, reason ? buf_str(&a->content) : STR("[]"));
	put_end(w, reason, sequence);
	put_null(w, "diagnostics");
	put_usage(w, usage, true);
}

/* The count of input tokens is an estimate here; message_delta has the true one. */
static void start(struct anthropic_answer *a)
{
	struct json_writer w;
	struct chat_usage usage = {.prompt_tokens = a->options.request ? a->options.request->prompt_estimate_tokens : 0};
	if (a->started || !a->options.stream)
		return;
	a->started = true;
	begin_event(&w, a->out, "message_start");
	json_key(&w, "message");
	json_begin_object(&w);
	put_message(&w, a, NULL, STR_NONE, &usage);
	json_end_object(&w);
	end_event(&w, a->out);
	begin_event(&w, a->out, "ping");
	end_event(&w, a->out);
}

static void put_delta(struct anthropic_answer *a, const char *type, const char *member, struct str text)
{
	struct json_writer w;
	begin_event(&w, a->out, "content_block_delta");
	put_count(&w, "index", a->blocks - 1);
	json_key(&w, "delta");
	json_begin_object(&w);
	json_put_cstr(&w, "type", type);
	json_put_str(&w, member, text);
	json_end_object(&w);
	end_event(&w, a->out);
}

/* --- blocks --- */

static void put_tool_head(struct json_writer *w, const struct anthropic_answer *a, const struct tool *tool)
{
	char made[96];
	struct str id = buf_str(&tool->id);
	if (id.len == 0) {
		int len = snprintf(made, sizeof made, "toolu_%s_%lld", a->options.job_id, (long long)tool->index);
		id = (struct str){made, len < (int)sizeof made ? (size_t)len : sizeof made - 1};
	}
	json_put_str(w, "type", STR("tool_use"));
	json_put_str(w, "id", id);
	json_put_str(w, "name", buf_str(&tool->name));
	json_key(w, "caller");
	json_begin_object(w);
	json_put_str(w, "type", STR("direct"));
	json_end_object(w);
}

/* What a text that is no JSON object stands under: a call that the token limit cut short is shown all the same. */
static void put_input(struct json_writer *w, const struct tool *tool)
{
	struct json_doc *doc = tool->arguments.len > 0 ? json_parse(buf_str(&tool->arguments), NULL, NULL) : NULL;
	const json_val *root = doc ? json_root(doc) : NULL;
	json_key(w, "input");
	if (json_type(root) == JSON_OBJECT) {
		json_value(w, root);
	} else {
		json_begin_object(w);
		if (tool->arguments.len > 0)
			json_put_str(w, "INVALID_JSON", buf_str(&tool->arguments));
		json_end_object(w);
	}
	json_free(doc);
}

/* A block of what was said, empty in a stream's beginning. */
static void put_block(struct json_writer *w, const struct anthropic_answer *a, struct str text, struct str signature)
{
	json_begin_object(w);
	switch (a->open) {
	case BLOCK_THINKING:
		json_put_str(w, "type", STR("thinking"));
		json_put_str(w, "thinking", text);
		json_put_str(w, "signature", signature);
		break;
	case BLOCK_TEXT:
		json_put_str(w, "type", STR("text"));
		json_put_str(w, "text", text);
		put_null(w, "citations");
		break;
	case BLOCK_TOOL:
		put_tool_head(w, a, a->open_tool);
		if (!a->options.stream) {
			put_input(w, a->open_tool);
		} else {
			json_key(w, "input");
			json_begin_object(w);
			json_end_object(w);
		}
		break;
	case BLOCK_NONE:
		break;
	}
	json_end_object(w);
}

static void close_block(struct anthropic_answer *a)
{
	struct json_writer w;
	char signature[BASE64_ENCODED_LEN(SHA256_BYTES)];
	struct str seal = STR_NONE;
	if (a->open == BLOCK_NONE)
		return;
	if (a->open == BLOCK_THINKING) {
		uint8_t digest[SHA256_BYTES];
		sha256_end(&a->thought, digest);
		seal = (struct str){signature, base64_encode(digest, sizeof digest, signature)};
	}
	if (!a->options.stream) {
		put_block(&a->blocks_out, a, buf_str(&a->said), seal);
		buf_clear(&a->said);
	} else {
		if (a->open == BLOCK_THINKING)
			put_delta(a, "signature_delta", "signature", seal);
		begin_event(&w, a->out, "content_block_stop");
		put_count(&w, "index", a->blocks - 1);
		end_event(&w, a->out);
	}
	a->open = BLOCK_NONE;
	a->open_tool = NULL;
}

static void open_block(struct anthropic_answer *a, enum block kind)
{
	struct json_writer w;
	close_block(a);
	a->open = kind;
	a->blocks++;
	if (kind == BLOCK_THINKING)
		sha256_begin(&a->thought);
	if (!a->options.stream)
		return;
	begin_event(&w, a->out, "content_block_start");
	put_count(&w, "index", a->blocks - 1);
	json_key(&w, "content_block");
	put_block(&w, a, STR(""), STR(""));
	end_event(&w, a->out);
}

/* --- tool calls --- */

static bool is_complete(const struct tool *tool)
{
	struct json_doc *doc = json_parse(buf_str(&tool->arguments), NULL, NULL);
	json_free(doc);
	return doc != NULL;
}

static void send_arguments(struct anthropic_answer *a)
{
	struct tool *tool = a->open_tool;
	if (a->options.stream && tool->arguments.len > tool->sent)
		put_delta(a, "input_json_delta", "partial_json", str_sub(buf_str(&tool->arguments), tool->sent, SIZE_MAX));
	tool->sent = tool->arguments.len;
}

static void show_tool(struct anthropic_answer *a, struct tool *tool)
{
	close_block(a);
	a->open_tool = tool;
	tool->shown = true;
	open_block(a, BLOCK_TOOL);
	send_arguments(a);
}

/* Every call that waits gets its block: nothing is added to them any more. */
static void show_waiting_tools(struct anthropic_answer *a)
{
	for (size_t i = 0; i < a->tool_count; i++)
		if (!a->tools[i]->shown)
			show_tool(a, a->tools[i]);
}

static struct tool *tool_of(struct anthropic_answer *a, int64_t index)
{
	for (size_t i = 0; i < a->tool_count; i++)
		if (a->tools[i]->index == index)
			return a->tools[i];
	struct tool *tool = a->tool_count < TOOLS_MAX ? arena_alloc(a->arena, sizeof *tool) : NULL;
	if (!tool)
		return NULL;
	tool->index = index;
	buf_init(&tool->id, 4096);
	buf_init(&tool->name, 4096);
	buf_init(&tool->arguments, CHAT_ANSWER_MAX_BYTES);
	a->tools[a->tool_count++] = tool;
	return tool;
}

static enum db_err take_tool(struct anthropic_answer *a, const struct answer_step *step)
{
	struct tool *tool = tool_of(a, step->tool);
	if (!tool)
		return DB_E_LIMIT;
	if (tool->id.len == 0)
		buf_append_str(&tool->id, step->tool_id);
	if (!tool->shown)
		buf_append_str(&tool->name, step->tool_name);
	buf_append_str(&tool->arguments, step->text);
	if (tool->id.failed || tool->name.failed || tool->arguments.failed)
		return DB_E_LIMIT;
	if (a->open_tool == tool)
		send_arguments(a);
	else if (!tool->shown && tool->name.len > 0 && (!a->open_tool || is_complete(a->open_tool)))
		show_tool(a, tool);
	return DB_OK;
}

/* --- steps --- */

static void say(struct anthropic_answer *a, enum block kind, struct str text)
{
	bool hidden = kind == BLOCK_THINKING && a->state && a->state->thinking_hidden;
	if (text.len == 0)
		return;
	show_waiting_tools(a);
	if (a->open != kind)
		open_block(a, kind);
	if (kind == BLOCK_THINKING)
		sha256_update(&a->thought, text.at, text.len);
	if (hidden)
		return;
	if (!a->options.stream)
		buf_append_str(&a->said, text);
	else if (kind == BLOCK_THINKING)
		put_delta(a, "thinking_delta", "thinking", text);
	else
		put_delta(a, "text_delta", "text", text);
}

static enum db_err take_step(void *user, const struct answer_step *step)
{
	struct anthropic_answer *a = user;
	if (step->choice != 0)
		return DB_OK;
	switch (step->kind) {
	case ANSWER_REASONING:
		say(a, BLOCK_THINKING, step->text);
		break;
	case ANSWER_TEXT:
	case ANSWER_REFUSAL:
		say(a, BLOCK_TEXT, step->text);
		break;
	case ANSWER_TOOL_CALL:
		return take_tool(a, step);
	case ANSWER_LOGPROBS:
		break;
	}
	return a->said.failed || a->content.failed || a->out->failed ? DB_E_LIMIT : DB_OK;
}

/* The stop string that ended choice 0 stands in its stop_reason. */
static void take_stop(struct anthropic_answer *a, const json_val *root)
{
	struct json_iter iter = json_iter(json_get(root, "choices"));
	struct str stop;
	int64_t index;
	for (json_val *choice; (choice = json_next(&iter, NULL));)
		if ((!json_as_i64(json_get(choice, "index"), &index) || index == 0) &&
		    json_as_str(json_get(choice, "stop_reason"), &stop)) {
			buf_clear(&a->stop);
			buf_append_str(&a->stop, stop);
		}
}

static enum db_err take_frame(struct dialect_answer *answer, const struct chat_frame *frame, struct buf *out)
{
	struct anthropic_answer *a = of(answer);
	a->out = out;
	start(a);
	if (frame->kind == CHAT_FRAME_FINISH || frame->kind == CHAT_FRAME_WHOLE)
		take_stop(a, frame->root);
	return answer_steps_read(&a->steps, a->arena, frame, answer, take_step, a);
}

/* --- the end --- */

/* *sequence: the stop sequence of the request that ended it, at == NULL when none did. */
static const char *stop_reason(struct anthropic_answer *a, const struct chat_answer_end *end, struct str *sequence)
{
	const struct answer_choice *choice = answer_steps_choice(&a->steps, 0);
	struct str reason = answer_finish_reason(str_of(choice->finish_reason), choice->saw_tool_calls, a->options.max_tokens, end);
	*sequence = STR_NONE;
	if (str_is(reason, "length"))
		return "max_tokens";
	if (str_is(reason, "tool_calls"))
		return "tool_use";
	if (str_is(reason, "content_filter"))
		return "refusal";
	const struct chat_sampling *asked = a->options.request ? &a->options.request->sampling : NULL;
	for (size_t i = 0; asked && a->stop.len > 0 && i < asked->stop_count; i++)
		if (str_eq(asked->stops[i], buf_str(&a->stop))) {
			*sequence = asked->stops[i];
			return "stop_sequence";
		}
	return "end_turn";
}

static enum db_err finish(struct dialect_answer *answer, const struct chat_answer_end *end, struct buf *out)
{
	struct anthropic_answer *a = of(answer);
	struct json_writer w;
	struct str sequence;
	a->out = out;
	start(a);
	enum db_err err = answer_steps_end(&a->steps, take_step, a);
	if (err)
		return err;
	show_waiting_tools(a);
	close_block(a);
	struct chat_usage usage = answer_usage(&a->steps, end);
	const char *reason = stop_reason(a, end, &sequence);
	json_end_array(&a->blocks_out);
	if (a->content.failed)
		return DB_E_LIMIT;
	if (!a->options.stream) {
		json_writer_init(&w, out);
		json_begin_object(&w);
		put_message(&w, a, reason, sequence, &usage);
		json_end_object(&w);
		buf_append_byte(out, '\n');
		return out->failed ? DB_E_LIMIT : DB_OK;
	}
	begin_event(&w, out, "message_delta");
	json_key(&w, "delta");
	json_begin_object(&w);
	put_end(&w, reason, sequence);
	json_end_object(&w);
	put_usage(&w, &usage, false);
	end_event(&w, out);
	begin_event(&w, out, "message_stop");
	end_event(&w, out);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

static void fail(struct dialect_answer *answer, const struct api_error *error, bool after_content, struct buf *out)
{
	struct json_writer w;
	(void)answer;
	(void)after_content;
	begin_event(&w, out, "error");
	anthropic_put_error(&w, error);
	end_event(&w, out);
}

const struct dialect dialect_anthropic = {
    .name = "anthropic",
    .parse = anthropic_parse,
    .answer_new = answer_new,
    .answer_free = answer_free,
    .frame = take_frame,
    .finish = finish,
    .fail = fail,
    .error_write = anthropic_error_write,
    .key_header = "x-api-key",
    .request_id_header = "request-id",
    .keepalive = "event: ping\ndata: {\"type\":\"ping\"}\n\n",
};
