/* Frames between provider and coordinator: writing them, and reading what either provider generation sends. */
#include "api/chat_event.h"

/* --- writing --- */

static void begin_frame(struct json_writer *w, const struct chat_frame_head *head, struct buf *out)
{
	buf_append_str(out, STR("data: "));
	json_writer_init(w, out);
	json_begin_object(w);
	json_put_cstr(w, "id", head->id);
	json_put_str(w, "object", STR("chat.completion.chunk"));
	json_put_i64(w, "created", head->created_s);
	json_put_cstr(w, "model", head->model);
	json_key(w, "choices");
	json_begin_array(w);
}

static void end_frame(struct json_writer *w, struct buf *out)
{
	json_end_object(w);
	buf_append_str(out, STR("\n\n"));
}

static void begin_choice(struct json_writer *w, uint32_t choice)
{
	json_begin_object(w);
	json_put_i64(w, "index", choice);
	json_key(w, "delta");
	json_begin_object(w);
}

static void end_choice(struct json_writer *w, const char *finish_reason)
{
	json_put_cstr(w, "finish_reason", finish_reason);
	json_end_object(w);
	json_end_array(w);
}

void chat_frame_role(const struct chat_frame_head *head, uint32_t choice, struct buf *out)
{
	struct json_writer w;
	begin_frame(&w, head, out);
	begin_choice(&w, choice);
	json_put_str(&w, "role", STR("assistant"));
	json_put_str(&w, "content", STR(""));
	json_end_object(&w);
	end_choice(&w, NULL);
	end_frame(&w, out);
}

void chat_frame_delta(const struct chat_frame_head *head, uint32_t choice, struct str content, struct str reasoning,
                      struct str tool_calls, struct str logprobs, struct buf *out)
{
	struct json_writer w;
	begin_frame(&w, head, out);
	begin_choice(&w, choice);
	if (content.len > 0)
		json_put_str(&w, "content", content);
	if (reasoning.len > 0)
		json_put_str(&w, "reasoning_content", reasoning);
	if (tool_calls.len > 0) {
		json_key(&w, "tool_calls");
		json_raw(&w, tool_calls);
	}
	json_end_object(&w);
	if (logprobs.len > 0) {
		json_key(&w, "logprobs");
		json_raw(&w, logprobs);
	}
	end_choice(&w, NULL);
	end_frame(&w, out);
}

void chat_frame_finish(const struct chat_frame_head *head, uint32_t choice, const char *finish_reason, struct str stop,
                       struct buf *out)
{
	struct json_writer w;
	begin_frame(&w, head, out);
	begin_choice(&w, choice);
	json_end_object(&w);
	if (stop.len > 0)
		json_put_str(&w, "stop_reason", stop);
	end_choice(&w, finish_reason);
	end_frame(&w, out);
}

static void write_details(struct json_writer *w, const char *name, const char *count_name, uint64_t count,
                          const json_val *given)
{
	const json_val *details = json_get_some(given, name);
	if (count == 0 && json_type(details) != JSON_OBJECT)
		return;
	json_key(w, name);
	json_begin_object(w);
	struct json_iter iter = json_iter(details);
	struct str key;
	for (json_val *value; (value = json_next(&iter, &key));) {
		if (count > 0 && str_is(key, count_name))
			continue;
		json_key_str(w, key);
		json_value(w, value);
	}
	if (count > 0) {
		json_key(w, count_name);
		json_u64(w, count);
	}
	json_end_object(w);
}

void chat_usage_write(struct json_writer *w, const struct chat_usage *usage, const json_val *extra)
{
	static const char *const own[] = {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details",
	                                  "completion_tokens_details"};
	json_begin_object(w);
	json_key(w, own[0]);
	json_u64(w, usage->prompt_tokens);
	json_key(w, own[1]);
	json_u64(w, usage->completion_tokens);
	json_key(w, own[2]);
	json_u64(w, usage->prompt_tokens + usage->completion_tokens);
	write_details(w, own[3], "cached_tokens", usage->cached_tokens, extra);
	write_details(w, own[4], "reasoning_tokens", usage->reasoning_tokens, extra);
	struct json_iter iter = json_iter(extra);
	struct str key;
	for (json_val *value; (value = json_next(&iter, &key));) {
		bool known = false;
		for (size_t i = 0; i < sizeof own / sizeof *own; i++)
			known |= str_is(key, own[i]);
		if (known)
			continue;
		json_key_str(w, key);
		json_value(w, value);
	}
	json_end_object(w);
}

void chat_frame_embedding(const struct chat_frame_head *head, uint32_t index, struct str vector_base64, struct buf *out)
{
	struct json_writer w;
	buf_append_str(out, STR("data: "));
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_str(&w, "object", STR("embedding"));
	json_put_cstr(&w, "model", head->model);
	json_put_i64(&w, "index", index);
	json_put_str(&w, "embedding", vector_base64);
	end_frame(&w, out);
}

void chat_frame_usage(const struct chat_frame_head *head, const struct chat_usage *usage, struct buf *out)
{
	struct json_writer w;
	begin_frame(&w, head, out);
	json_end_array(&w);
	json_key(&w, "usage");
	chat_usage_write(&w, usage, NULL);
	end_frame(&w, out);
}

void chat_frame_done(struct buf *out)
{
	buf_append_str(out, STR("data: [DONE]\n\n"));
}

/* --- reading --- */

static uint64_t token_count(const json_val *object, const char *name)
{
	int64_t count;
	return json_as_i64(json_get(object, name), &count) && count > 0 ? (uint64_t)count : 0;
}

static void read_usage(const json_val *usage, struct chat_frame *out)
{
	if (json_type(usage) != JSON_OBJECT)
		return;
	out->has_usage = true;
	out->usage.prompt_tokens = token_count(usage, "prompt_tokens");
	out->usage.completion_tokens = token_count(usage, "completion_tokens");
	out->usage.cached_tokens = token_count(json_get(usage, "prompt_tokens_details"), "cached_tokens");
	out->usage.reasoning_tokens = token_count(json_get(usage, "completion_tokens_details"), "reasoning_tokens");
}

static bool is_blank(const json_val *value)
{
	struct str text;
	return json_type(value) == JSON_NULL || (json_as_str(value, &text) && text.len == 0);
}

/* A delta that says nothing but who speaks (http-api 2.6). */
static bool is_role_only(const json_val *delta)
{
	static const char *const texts[] = {"content", "reasoning", "reasoning_content", "refusal"};
	struct json_iter iter = json_iter(delta);
	struct str key;
	bool has_role = false;
	for (json_val *value; (value = json_next(&iter, &key));) {
		bool allowed = false;
		for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
			allowed |= str_is(key, texts[i]) && is_blank(value);
		if (str_is(key, "role"))
			has_role = allowed = true;
		else if (str_is(key, "tool_calls"))
			allowed = json_type(value) == JSON_NULL || (json_type(value) == JSON_ARRAY && json_len(value) == 0);
		if (!allowed)
			return false;
	}
	return has_role;
}

static enum chat_frame_kind kind_of_choices(const json_val *choices, struct chat_frame *out)
{
	bool whole = false, finished = false, preamble = !out->has_usage;
	struct json_iter iter = json_iter(choices);
	for (json_val *choice; (choice = json_next(&iter, NULL));) {
		int64_t index = 0;
		struct str reason = STR_NONE;
		whole = whole || json_type(json_get(choice, "message")) == JSON_OBJECT;
		json_as_i64(json_get(choice, "index"), &index);
		if (json_as_str(json_get(choice, "finish_reason"), &reason) && reason.len > 0) {
			finished = true;
			if (index == 0)
				out->finish_reason = reason;
		}
		preamble = preamble && is_role_only(json_get(choice, "delta"));
	}
	if (whole)
		return CHAT_FRAME_WHOLE;
	return finished ? CHAT_FRAME_FINISH : preamble ? CHAT_FRAME_PREAMBLE : CHAT_FRAME_CONTENT;
}

static enum chat_frame_kind kind_of(struct chat_frame *out)
{
	struct str object = STR_NONE;
	const json_val *choices = json_get(out->root, "choices");
	read_usage(json_get(out->root, "usage"), out);
	bool whole = json_as_str(json_get(out->root, "object"), &object) && str_is(object, "chat.completion");
	if (json_type(choices) == JSON_ARRAY && json_len(choices) > 0) {
		enum chat_frame_kind kind = kind_of_choices(choices, out);
		return whole ? CHAT_FRAME_WHOLE : kind;
	}
	return out->has_usage ? CHAT_FRAME_USAGE : CHAT_FRAME_OTHER;
}

/* The first line that carries data, or what is left when it has no SSE framing at all. *rest is what follows. */
static bool next_data(struct str chunk, struct str *data, struct str *rest)
{
	*rest = chunk;
	while (rest->len > 0) {
		struct str line, after = str_cut(*rest, '\n', &line);
		if (str_starts(line, STR("{"))) {
			*data = *rest;
			*rest = STR_NONE;
			return true;
		}
		*rest = after;
		if (str_starts(line, STR("data:"))) {
			*data = str_trim(str_sub(line, 5, line.len));
			return true;
		}
	}
	return false;
}

enum db_err chat_frame_read(struct str chunk, struct arena *arena, struct chat_frame *out, struct str *rest)
{
	struct str data;
	*out = (struct chat_frame){.kind = CHAT_FRAME_EMPTY};
	if (!next_data(chunk, &data, rest) || data.len == 0)
		return DB_OK;
	if (str_trim(*rest).len == 0)
		*rest = STR_NONE;
	if (str_is(data, "[DONE]")) {
		out->kind = CHAT_FRAME_DONE;
		return DB_OK;
	}
	struct error why;
	struct json_doc *doc = json_parse(data, arena, &why);
	if (!doc)
		return why.code == DB_E_NOMEM ? DB_E_NOMEM : DB_E_INVALID;
	out->root = json_root(doc);
	if (json_type(out->root) != JSON_OBJECT) {
		out->kind = CHAT_FRAME_OTHER;
		return DB_OK;
	}
	out->kind = kind_of(out);
	return DB_OK;
}
