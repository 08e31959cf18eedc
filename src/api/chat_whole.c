/* Answers of /v1/chat/completions in one piece (http-api 2.8): put together from deltas, or passed through when the provider
 * sent a whole chat.completion. */
#include "api/chat_answer.h"

#include <stdlib.h>

/* --- collecting --- */

static void call_free(struct chat_tool_call *call)
{
	buf_free(&call->id);
	buf_free(&call->type);
	buf_free(&call->name);
	buf_free(&call->arguments);
	free(call);
}

static void choice_free(struct chat_choice *choice)
{
	struct buf *const bufs[] = {&choice->held_finish, &choice->content, &choice->reasoning, &choice->refusal,
	                            &choice->logprobs};
	for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
		buf_free(bufs[i]);
	for (size_t i = 0; i < choice->call_count; i++)
		call_free(choice->calls[i]);
	choice->call_count = 0;
}

void chat_whole_free(struct chat_answer *answer)
{
	buf_free(&answer->whole);
	buf_free(&answer->fingerprint);
	for (uint32_t i = 0; i < answer->choice_count; i++)
		choice_free(&answer->choices[i]);
}

/* Calls are kept in the order of their index. */
static struct chat_tool_call *call_at(struct chat_choice *choice, int64_t index)
{
	size_t at = choice->call_count;
	while (at > 0 && choice->calls[at - 1]->index > index)
		at--;
	if (at > 0 && choice->calls[at - 1]->index == index)
		return choice->calls[at - 1];
	if (choice->call_count == CHAT_MAX_TOOL_CALLS)
		return NULL;
	struct chat_tool_call *call = calloc(1, sizeof *call);
	if (!call)
		return NULL;
	call->index = index;
	struct buf *const bufs[] = {&call->id, &call->type, &call->name, &call->arguments};
	for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
		buf_init(bufs[i], CHAT_ANSWER_MAX_BYTES);
	memmove(&choice->calls[at + 1], &choice->calls[at], (choice->call_count - at) * sizeof *choice->calls);
	choice->calls[at] = call;
	choice->call_count++;
	return call;
}

/* Appends a text member; DB_E_LIMIT when it does not fit. */
static enum db_err append_member(struct buf *to, const json_val *object, const char *name)
{
	struct str text;
	return json_as_str(json_get(object, name), &text) ? buf_append_str(to, text) : DB_OK;
}

static void set_member(struct buf *to, const json_val *object, const char *name)
{
	if (to->len == 0)
		append_member(to, object, name);
}

static enum db_err collect_call(struct chat_choice *choice, const json_val *delta, int64_t position)
{
	int64_t index = position;
	json_as_i64(json_get(delta, "index"), &index);
	struct chat_tool_call *call = call_at(choice, index);
	if (!call)
		return DB_E_LIMIT;
	const json_val *function = json_get(delta, "function");
	set_member(&call->id, delta, "id");
	set_member(&call->type, delta, "type");
	set_member(&call->name, function, "name");
	return append_member(&call->arguments, function, "arguments");
}

static enum db_err collect_logprobs(struct chat_choice *choice, const json_val *logprobs)
{
	struct json_iter iter = json_iter(json_get(logprobs, "content"));
	for (json_val *item; (item = json_next(&iter, NULL));) {
		struct json_writer w;
		if (choice->logprobs.len > 0)
			buf_append_byte(&choice->logprobs, ',');
		json_writer_init(&w, &choice->logprobs);
		json_value(&w, item);
	}
	return choice->logprobs.failed ? DB_E_LIMIT : DB_OK;
}

static enum db_err collect_delta(struct chat_choice *choice, const json_val *delta)
{
	struct str reasoning = STR_NONE;
	enum db_err err = append_member(&choice->content, delta, "content");
	if (!err)
		err = append_member(&choice->refusal, delta, "refusal");
	if (!json_as_str(json_get(delta, "reasoning"), &reasoning) || reasoning.len == 0)
		json_as_str(json_get(delta, "reasoning_content"), &reasoning);
	if (!err)
		err = buf_append_str(&choice->reasoning, reasoning);
	const json_val *calls = json_get(delta, "tool_calls");
	struct json_iter iter = json_iter(json_type(calls) == JSON_ARRAY ? calls : NULL);
	int64_t position = 0;
	for (json_val *call; !err && (call = json_next(&iter, NULL)); position++)
		err = collect_call(choice, call, position);
	return err;
}

static enum db_err keep_json(struct buf *to, const json_val *value)
{
	struct json_writer w;
	buf_clear(to);
	json_writer_init(&w, to);
	json_value(&w, value);
	return to->failed ? DB_E_LIMIT : DB_OK;
}

static enum db_err collect_choice(struct chat_choice *choice, const json_val *said)
{
	struct str reason = STR_NONE;
	enum db_err err = collect_delta(choice, json_get(said, "delta"));
	if (!err)
		err = collect_logprobs(choice, json_get_some(said, "logprobs"));
	if (err || !json_as_str(json_get(said, "finish_reason"), &reason) || !reason.len)
		return err;
	buf_clear(&choice->held_finish);
	return buf_append_str(&choice->held_finish, reason);
}

enum db_err chat_whole_frame(struct chat_answer *answer, const struct chat_frame *frame)
{
	if (frame->kind == CHAT_FRAME_WHOLE)
		return keep_json(&answer->whole, frame->root);
	const json_val *fingerprint = json_get_some(frame->root, "system_fingerprint");
	enum db_err err = fingerprint ? keep_json(&answer->fingerprint, fingerprint) : DB_OK;
	const json_val *choices = json_get(frame->root, "choices");
	struct json_iter iter = json_iter(json_type(choices) == JSON_ARRAY ? choices : NULL);
	for (json_val *said; !err && (said = json_next(&iter, NULL));) {
		struct chat_choice *choice = chat_answer_choice(answer, said);
		if (choice)
			err = collect_choice(choice, said);
	}
	return !err && answer->base.text_bytes > CHAT_ANSWER_MAX_BYTES ? DB_E_LIMIT : err;
}

/* --- think blocks --- */

static size_t find_tag(struct str text, size_t from, struct str tag)
{
	for (size_t at = from; at + tag.len <= text.len; at++)
		if (text.at[at] == '<' && str_eq_nocase(str_sub(text, at, tag.len), tag))
			return at;
	return text.len;
}

/* Moves <think>...</think> from content to reasoning; an unclosed block swallows the rest. Both results are new buffers. */
static enum db_err split_thinking(struct str content, struct buf *visible, struct buf *reasoning)
{
	const struct str opening = STR("<think>"), closing = STR("</think>");
	size_t at = 0;
	bool thought = false;
	for (;;) {
		size_t start = find_tag(content, at, opening);
		buf_append_str(visible, str_sub(content, at, start - at));
		if (start == content.len)
			break;
		thought = true;
		size_t inside = start + opening.len, stop = find_tag(content, inside, closing);
		buf_append_str(reasoning, str_trim(str_sub(content, inside, stop - inside)));
		if (stop == content.len)
			break;
		at = stop + closing.len;
	}
	if (thought) { /* the blank lines around a block belong to it */
		struct str trimmed = str_trim(buf_str(visible));
		buf_consume(visible, (size_t)(trimmed.at - visible->at));
		visible->len = trimmed.len;
	}
	return visible->failed || reasoning->failed ? DB_E_LIMIT : DB_OK;
}

/* --- writing --- */

static struct chat_usage usage_of(const struct chat_answer *answer, const struct chat_answer_end *end, bool has_reasoning)
{
	struct chat_usage usage = end->has_usage ? end->usage : answer->usage;
	if (usage.reasoning_tokens == 0 && has_reasoning)
		usage.reasoning_tokens = usage.completion_tokens;
	return usage;
}

static void put_usage(struct json_writer *w, struct chat_answer *answer, const struct chat_answer_end *end, bool has_reasoning,
                      const json_val *given)
{
	if (!end->has_usage && !answer->has_usage)
		return;
	struct chat_usage usage = usage_of(answer, end, has_reasoning);
	json_key(w, "usage");
	chat_usage_write(w, &usage, given);
}

static void put_calls(struct json_writer *w, const struct chat_choice *choice)
{
	if (choice->call_count == 0)
		return;
	json_key(w, "tool_calls");
	json_begin_array(w);
	for (size_t i = 0; i < choice->call_count; i++) {
		const struct chat_tool_call *call = choice->calls[i];
		json_begin_object(w);
		json_put_str(w, "id", buf_str(&call->id));
		json_put_str(w, "type", call->type.len > 0 ? buf_str(&call->type) : STR("function"));
		json_key(w, "function");
		json_begin_object(w);
		json_put_str(w, "name", buf_str(&call->name));
		json_put_str(w, "arguments", buf_str(&call->arguments));
		json_end_object(w);
		json_end_object(w);
	}
	json_end_array(w);
}

static void put_logprobs(struct json_writer *w, const struct chat_choice *choice)
{
	json_key(w, "logprobs");
	if (choice->logprobs.len == 0) {
		json_null(w);
		return;
	}
	json_begin_object(w);
	json_key(w, "content");
	json_begin_array(w);
	json_raw(w, buf_str(&choice->logprobs));
	json_end_array(w);
	json_key(w, "refusal");
	json_null(w);
	json_end_object(w);
}

static void put_message(struct json_writer *w, const struct chat_choice *choice, struct str content)
{
	json_key(w, "message");
	json_begin_object(w);
	json_put_str(w, "role", STR("assistant"));
	json_put_str(w, "content", content);
	if (choice->reasoning.len > 0)
		json_put_str(w, "reasoning", buf_str(&choice->reasoning));
	put_calls(w, choice);
	json_key(w, "refusal");
	if (choice->refusal.len > 0)
		json_str(w, buf_str(&choice->refusal));
	else
		json_null(w);
	json_end_object(w);
}

static enum db_err put_choice(struct json_writer *w, struct chat_answer *answer, struct chat_choice *choice,
                              const struct chat_answer_end *end)
{
	struct buf visible;
	buf_init(&visible, CHAT_ANSWER_MAX_BYTES);
	enum db_err err = split_thinking(buf_str(&choice->content), &visible, &choice->reasoning);
	json_begin_object(w);
	json_put_i64(w, "index", choice - answer->choices);
	put_message(w, choice, buf_str(&visible));
	put_logprobs(w, choice);
	json_put_str(w, "finish_reason", chat_answer_reason(answer, choice, buf_str(&choice->held_finish), end));
	json_end_object(w);
	buf_free(&visible);
	return err;
}

static enum db_err finish_collected(struct chat_answer *answer, const struct chat_answer_end *end, struct buf *out)
{
	struct json_writer w;
	enum db_err err = DB_OK;
	bool has_reasoning = false;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_str(&w, "id", chat_answer_id(answer));
	json_put_str(&w, "object", STR("chat.completion"));
	json_put_i64(&w, "created", answer->created_s);
	json_put_str(&w, "model", answer->options.requested_model);
	json_key(&w, "choices");
	json_begin_array(&w);
	for (uint32_t i = 0; !err && i < answer->choice_count; i++) {
		err = put_choice(&w, answer, &answer->choices[i], end);
		has_reasoning |= answer->choices[i].reasoning.len > 0;
	}
	json_end_array(&w);
	put_usage(&w, answer, end, has_reasoning, json_get(chat_answer_held(answer, &answer->held_usage), "usage"));
	if (answer->fingerprint.len > 0) {
		json_key(&w, "system_fingerprint");
		json_raw(&w, buf_str(&answer->fingerprint));
	}
	chat_answer_put_signature(&w, end);
	json_end_object(&w);
	return err ? err : out->failed ? DB_E_LIMIT : DB_OK;
}

/* --- a chat.completion that came whole --- */

static void put_given_message(struct json_writer *w, struct chat_choice *choice, const json_val *message)
{
	struct buf visible;
	struct str content = STR_NONE, reasoning = STR_NONE, key;
	struct json_iter iter = json_iter(message);
	buf_init(&visible, CHAT_ANSWER_MAX_BYTES);
	json_as_str(json_get(message, "content"), &content);
	if (!json_as_str(json_get(message, "reasoning"), &reasoning) || reasoning.len == 0)
		json_as_str(json_get(message, "reasoning_content"), &reasoning);
	buf_clear(&choice->reasoning);
	buf_append_str(&choice->reasoning, reasoning);
	if (split_thinking(content, &visible, &choice->reasoning))
		w->out->failed = true;
	json_begin_object(w);
	for (json_val *value; (value = json_next(&iter, &key));) {
		if (str_is(key, "content") || str_is(key, "reasoning") || str_is(key, "reasoning_content") || str_is(key, "refusal") ||
		    (str_is(key, "tool_calls") && json_type(value) == JSON_NULL))
			continue;
		json_key_str(w, key);
		json_value(w, value);
	}
	json_put_str(w, "content", buf_str(&visible));
	if (choice->reasoning.len > 0)
		json_put_str(w, "reasoning", buf_str(&choice->reasoning));
	json_key(w, "refusal");
	json_value(w, json_get(message, "refusal"));
	json_end_object(w);
	buf_free(&visible);
}

static void put_given_choice(struct json_writer *w, const struct chat_answer *answer, struct chat_choice *choice,
                             const struct chat_answer_end *end, const json_val *said)
{
	struct json_iter iter = json_iter(said);
	struct str key, given = STR_NONE;
	json_as_str(json_get(said, "finish_reason"), &given);
	json_begin_object(w);
	for (json_val *value; (value = json_next(&iter, &key));) {
		if (str_is(key, "finish_reason"))
			continue;
		json_key_str(w, key);
		if (str_is(key, "message"))
			put_given_message(w, choice, value);
		else
			json_value(w, value);
	}
	if (!json_get(said, "logprobs"))
		put_logprobs(w, choice);
	json_put_str(w, "finish_reason", chat_answer_reason(answer, choice, given, end));
	json_end_object(w);
}

static enum db_err finish_given(struct chat_answer *answer, const struct chat_answer_end *end, struct buf *out)
{
	const json_val *root = chat_answer_held(answer, &answer->whole);
	struct json_writer w;
	struct json_iter iter = json_iter(root);
	struct str key;
	bool has_reasoning = false;
	json_writer_init(&w, out);
	json_begin_object(&w);
	if (!json_get(root, "id"))
		json_put_str(&w, "id", chat_answer_id(answer));
	if (!json_get(root, "created"))
		json_put_i64(&w, "created", answer->created_s);
	for (json_val *value; (value = json_next(&iter, &key));) {
		if (str_is(key, "model") || str_is(key, "usage") || str_is(key, "se_signature") || str_is(key, "response_hash") ||
		    (str_is(key, "system_fingerprint") && json_type(value) == JSON_NULL))
			continue;
		json_key_str(&w, key);
		if (!str_is(key, "choices")) {
			json_value(&w, value);
			continue;
		}
		struct json_iter choices = json_iter(value);
		json_begin_array(&w);
		for (json_val *said; (said = json_next(&choices, NULL));) {
			struct chat_choice *choice = chat_answer_choice(answer, said);
			if (!choice)
				continue;
			put_given_choice(&w, answer, choice, end, said);
			has_reasoning |= choice->reasoning.len > 0;
		}
		json_end_array(&w);
	}
	json_put_str(&w, "model", answer->options.requested_model);
	put_usage(&w, answer, end, has_reasoning, json_get(root, "usage"));
	chat_answer_put_signature(&w, end);
	json_end_object(&w);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

enum db_err chat_whole_finish(struct chat_answer *answer, const struct chat_answer_end *end, struct buf *out)
{
	enum db_err err = answer->whole.len > 0 ? finish_given(answer, end, out) : finish_collected(answer, end, out);
	if (!err)
		err = buf_append_byte(out, '\n');
	return err;
}
