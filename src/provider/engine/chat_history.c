#include "provider/engine/chat_history.h"

#include "api/tool_schema.h"

#include <stdio.h>

#define HISTORY_MAX_BYTES ((size_t)64 << 20)

bool chat_history_is_gpt_oss(struct str model)
{
	static const char *const names[] = {"gpt-oss", "gpt_oss", "gptoss"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (model.len && memmem(model.at, model.len, names[i], strlen(names[i])))
			return true;
	return false;
}

/* --- channel tags --- */

static size_t find(struct str text, const char *word, size_t from)
{
	const char *at = from <= text.len && text.len ? memmem(text.at + from, text.len - from, word, strlen(word)) : NULL;
	return at ? (size_t)(at - text.at) : SIZE_MAX;
}

static struct str last_final_channel(struct str text)
{
	static const char opening[] = "<|channel|>final<|message|>";
	static const char *const ends[] = {"<|end|>", "<|return|>", "<|call|>"};
	size_t from = SIZE_MAX;
	for (size_t at = 0; (at = find(text, opening, at)) != SIZE_MAX; at++)
		from = at;
	if (from == SIZE_MAX)
		return STR_NONE;
	text = str_sub(text, from + sizeof opening - 1, text.len);
	size_t end = text.len;
	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		size_t at = find(text, ends[i], 0);
		end = at < end ? at : end;
	}
	return str_sub(text, 0, end);
}

/* The length of the tag that the text ends with, 0 = none. */
static size_t tag_at_end(struct str text)
{
	static const char *const tags[] = {"<|start|>", "<|end|>", "<|return|>", "<|call|>", "<|message|>", "<|channel|>"};
	for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
		if (str_ends(text, str_of(tags[i])))
			return strlen(tags[i]);
	return 0;
}

/* A tag is taken out when its last character has come: what is left around it can be a tag again, and goes too. */
enum db_err chat_history_strip_channels(struct str text, struct buf *out)
{
	size_t begin = out->len;
	if (find(text, "<|channel|>", 0) != SIZE_MAX)
		text = last_final_channel(text);
	while (text.len) {
		const char *mark = memchr(text.at, '>', text.len);
		size_t piece = mark ? (size_t)(mark - text.at) + 1 : text.len;
		enum db_err err = buf_append(out, text.at, piece);
		if (err)
			return err;
		out->len -= tag_at_end(str_sub(buf_str(out), begin, out->len));
		text = str_sub(text, piece, text.len);
	}
	return DB_OK;
}

static void write_stripped(struct json_writer *w, struct str text)
{
	struct buf clean;
	buf_init(&clean, HISTORY_MAX_BYTES);
	chat_history_strip_channels(text, &clean);
	json_str(w, buf_str(&clean));
	buf_free(&clean);
}

/* --- values --- */

static void write_without_nulls(struct json_writer *w, const json_val *value)
{
	enum json_type type = json_type(value);
	struct json_iter iter = json_iter(value);
	struct str key;
	if (type != JSON_OBJECT && type != JSON_ARRAY) {
		json_value(w, value);
		return;
	}
	(type == JSON_OBJECT ? json_begin_object : json_begin_array)(w);
	for (json_val *child; (child = json_next(&iter, &key));) {
		if (json_type(child) == JSON_NULL)
			continue;
		if (type == JSON_OBJECT)
			json_key_str(w, key);
		write_without_nulls(w, child);
	}
	(type == JSON_OBJECT ? json_end_object : json_end_array)(w);
}

static bool is_any_of(struct str text, const char *const *names)
{
	for (; *names; names++)
		if (str_is(text, *names))
			return true;
	return false;
}

/* --- one message --- */

struct history {
	const struct chat_history_options *options;
	struct json_writer *w;
	struct error *error;
	size_t index;          /* of the message */
	bool tools_may_follow; /* an assistant message with tool_calls came, and since then only tool messages */
	char legacy_id[48];    /* of the last function_call */
};

static enum db_err refuse(struct history *history, const char *what)
{
	return error_set(history->error, DB_E_INVALID, "messages[%zu]%s", history->index, what);
}

static bool part_text(const json_val *part, struct str *text)
{
	static const char *const texts[] = {"text", "input_text", "output_text", NULL};
	struct str type;
	if (json_as_str(part, text))
		return true;
	if (!json_as_str(json_get(part, "type"), &type))
		return false;
	if (str_is(type, "refusal"))
		return json_as_str(json_get(part, "refusal"), text);
	return is_any_of(type, texts) && json_as_str(json_get(part, "text"), text);
}

static void write_text(struct json_writer *w, struct str text, bool said_by_model)
{
	if (said_by_model)
		write_stripped(w, text);
	else
		json_str(w, text);
}

static void write_content(struct json_writer *w, const json_val *content, bool said_by_model)
{
	struct str text = STR_NONE;
	if (json_type(content) != JSON_ARRAY) {
		json_as_str(content, &text);
		write_text(w, text, said_by_model);
		return;
	}
	struct json_iter iter = json_iter(content);
	json_begin_array(w);
	for (json_val *part; (part = json_next(&iter, NULL));) {
		if (json_type(part) == JSON_NULL)
			continue;
		if (!part_text(part, &text)) {
			write_without_nulls(w, part);
			continue;
		}
		json_begin_object(w);
		json_put_str(w, "type", STR("text"));
		json_key(w, "text");
		write_text(w, text, said_by_model);
		json_end_object(w);
	}
	json_end_array(w);
}

/* Arguments are an object, or the JSON text of one; nothing counts as no arguments. */
static bool write_arguments(struct json_writer *w, const json_val *arguments)
{
	struct str text = STR_NONE;
	if (json_type(arguments) == JSON_OBJECT) {
		write_without_nulls(w, arguments);
		return true;
	}
	if (json_type(arguments) != JSON_ABSENT && json_type(arguments) != JSON_NULL && !json_as_str(arguments, &text))
		return false;
	text = str_trim(text);
	if (!text.len) {
		json_begin_object(w);
		json_end_object(w);
		return true;
	}
	struct json_doc *doc = json_parse(text, NULL, NULL);
	bool ok = doc && json_type(json_root(doc)) == JSON_OBJECT;
	if (ok)
		write_without_nulls(w, json_root(doc));
	json_free(doc);
	return ok;
}

static enum db_err write_call(struct history *history, const json_val *function, struct str id)
{
	struct json_writer *w = history->w;
	struct str name;
	if (!json_as_str(json_get(function, "name"), &name) || !name.len)
		return refuse(history, ".tool_calls has a call without a function name");
	json_begin_object(w);
	json_put_str(w, "id", id);
	json_put_str(w, "type", STR("function"));
	json_key(w, "function");
	json_begin_object(w);
	json_put_str(w, "name", name);
	json_key(w, "arguments");
	if (!write_arguments(w, json_get(function, "arguments")))
		return refuse(history, ".tool_calls has arguments that are not a JSON object");
	json_end_object(w);
	json_end_object(w);
	return DB_OK;
}

static enum db_err write_calls(struct history *history, const json_val *calls)
{
	struct json_iter iter = json_iter(calls);
	enum db_err err = DB_OK;
	size_t number = 0;
	for (json_val *call; !err && (call = json_next(&iter, NULL)); number++) {
		char made[64];
		struct str id;
		if (json_type(call) == JSON_NULL)
			continue;
		if (!json_as_str(json_get(call, "id"), &id) || !id.len) {
			snprintf(made, sizeof made, "call_%zu_%zu", history->index, number);
			id = str_of(made);
		}
		err = write_call(history, json_get(call, "function"), id);
	}
	return err;
}

static bool has_text(const json_val *content)
{
	struct str text;
	return json_as_str(content, &text) ? text.len > 0 : json_len(content) > 0;
}

/* Nothing is left of it once its channel tags are out. */
static bool is_hollow(struct str text)
{
	struct buf clean;
	if (find(text, "<|", 0) == SIZE_MAX)
		return text.len == 0;
	buf_init(&clean, HISTORY_MAX_BYTES);
	bool hollow = chat_history_strip_channels(text, &clean) == DB_OK && clean.len == 0;
	buf_free(&clean);
	return hollow;
}

static const json_val *reasoning_of(const json_val *message)
{
	static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
	struct str text;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (json_as_str(json_get(message, names[i]), &text) && !is_hollow(text))
			return json_get(message, names[i]);
	return NULL;
}

static enum db_err check_gpt_oss(struct history *history, const json_val *message, size_t calls)
{
	if (!history->options->gpt_oss || !calls)
		return DB_OK;
	if (calls > 1)
		return refuse(history, ".tool_calls: this model takes one tool call in a message");
	if (has_text(json_get(message, "content")) && reasoning_of(message))
		return refuse(history, ": this model takes content or reasoning beside a tool call, not both");
	return DB_OK;
}

static size_t count_calls(const json_val *calls)
{
	struct json_iter iter = json_iter(json_type(calls) == JSON_ARRAY ? calls : NULL);
	size_t count = 0;
	for (json_val *call; (call = json_next(&iter, NULL));)
		count += json_type(call) != JSON_NULL;
	return count;
}

static enum db_err write_assistant(struct history *history, const json_val *message)
{
	struct json_writer *w = history->w;
	const json_val *calls = json_get(message, "tool_calls"), *legacy = json_get_some(message, "function_call");
	const json_val *reasoning = reasoning_of(message);
	size_t count = count_calls(calls);
	enum db_err err = check_gpt_oss(history, message, count ? count : legacy != NULL);
	if (err)
		return err;
	json_key(w, "content");
	write_content(w, json_get(message, "content"), true);
	if (reasoning) {
		json_key(w, "reasoning_content");
		write_content(w, reasoning, true);
	}
	history->tools_may_follow = count || legacy;
	if (!count && !legacy)
		return DB_OK;
	json_key(w, "tool_calls");
	json_begin_array(w);
	if (count) {
		err = write_calls(history, calls);
	} else {
		snprintf(history->legacy_id, sizeof history->legacy_id, "call_legacy_%zu", history->index);
		err = write_call(history, legacy, str_of(history->legacy_id));
	}
	json_end_array(w);
	return err;
}

static enum db_err write_tool(struct history *history, const json_val *message)
{
	struct json_writer *w = history->w;
	struct str id;
	if (!history->tools_may_follow)
		return refuse(history, ": a tool message must follow an assistant message with tool_calls");
	json_key(w, "content");
	write_content(w, json_get(message, "content"), false);
	if (!json_as_str(json_get(message, "tool_call_id"), &id))
		id = str_of(history->legacy_id);
	if (id.len)
		json_put_str(w, "tool_call_id", id);
	return DB_OK;
}

static enum db_err write_message(struct history *history, const json_val *message)
{
	static const char *const plain[] = {"system", "developer", "user", NULL};
	struct json_writer *w = history->w;
	struct str role, name;
	enum db_err err = DB_OK;
	if (!json_as_str(json_get(message, "role"), &role))
		return refuse(history, ".role is missing");
	enum json_type content = json_type(json_get_some(message, "content"));
	if (content != JSON_ABSENT && content != JSON_STRING && content != JSON_ARRAY)
		return refuse(history, ".content must be a string or an array of parts");
	if (str_is(role, "function"))
		role = STR("tool");
	else if (str_is(role, "developer") && !history->options->gpt_oss)
		role = STR("system");
	json_begin_object(w);
	json_put_str(w, "role", role);
	if (json_as_str(json_get(message, "name"), &name))
		json_put_str(w, "name", name);
	if (str_is(role, "assistant")) {
		err = write_assistant(history, message);
	} else if (str_is(role, "tool")) {
		err = write_tool(history, message);
	} else if (is_any_of(role, plain)) {
		json_key(w, "content");
		write_content(w, json_get(message, "content"), false);
		history->tools_may_follow = false;
	} else {
		err = refuse(history, ".role is unknown");
	}
	json_end_object(w);
	return err;
}

enum db_err chat_history_write(const json_val *messages, const struct chat_history_options *options, struct buf *out,
                               struct error *error)
{
	struct json_writer w;
	struct history history = {.options = options, .w = &w, .error = error};
	struct json_iter iter = json_iter(json_type(messages) == JSON_ARRAY ? messages : NULL);
	enum db_err err = DB_OK;
	json_writer_init(&w, out);
	json_begin_array(&w);
	for (json_val *message; !err && (message = json_next(&iter, NULL)); history.index++)
		err = write_message(&history, message);
	json_end_array(&w);
	if (!err && !history.index)
		err = error_set(error, DB_E_INVALID, "messages must be a non-empty array");
	return err ? err : out->failed ? error_set(error, DB_E_LIMIT, "the conversation is too large") : DB_OK;
}

/* --- tools --- */

static bool fits_gpt_oss(struct str key, const json_val *value)
{
	static const char *const objects[] = {"properties", "items", NULL};
	static const char *const arrays[] = {"required", "enum", "oneOf", "anyOf", "allOf", NULL};
	if (is_any_of(key, objects))
		return json_type(value) == JSON_OBJECT;
	return !is_any_of(key, arrays) || json_type(value) == JSON_ARRAY;
}

static void write_default(struct json_writer *w, const json_val *value)
{
	struct buf text;
	struct json_writer inner;
	struct str string;
	if (json_as_str(value, &string)) {
		json_str(w, string);
		return;
	}
	buf_init(&text, HISTORY_MAX_BYTES);
	json_writer_init(&inner, &text);
	json_value(&inner, value);
	json_str(w, buf_str(&text));
	buf_free(&text);
}

/* A schema; `named`: its keys are names of properties, not words of the schema language. */
static void write_gpt_oss_schema(struct json_writer *w, const json_val *schema, bool named)
{
	struct json_iter iter = json_iter(schema);
	struct str key;
	if (json_type(schema) == JSON_ARRAY) {
		json_begin_array(w);
		for (json_val *member; (member = json_next(&iter, NULL));)
			write_gpt_oss_schema(w, member, false);
		json_end_array(w);
		return;
	}
	if (json_type(schema) != JSON_OBJECT) {
		json_value(w, schema);
		return;
	}
	bool choice = json_type(json_get(schema, "enum")) == JSON_ARRAY || json_type(json_get(schema, "oneOf")) == JSON_ARRAY;
	json_begin_object(w);
	for (json_val *value; (value = json_next(&iter, &key));) {
		if (!named && !fits_gpt_oss(key, value))
			continue;
		json_key_str(w, key);
		if (!named && choice && str_is(key, "default"))
			write_default(w, value);
		else if (!named && (str_is(key, "enum") || str_is(key, "const") || str_is(key, "default")))
			json_value(w, value);
		else
			write_gpt_oss_schema(w, value, !named && str_is(key, "properties"));
	}
	json_end_object(w);
}

static void write_function(struct json_writer *w, const json_val *function, bool gpt_oss)
{
	struct json_iter iter = json_iter(function);
	struct str key;
	json_begin_object(w);
	for (json_val *value; (value = json_next(&iter, &key));) {
		json_key_str(w, key);
		if (gpt_oss && str_is(key, "parameters"))
			write_gpt_oss_schema(w, value, false);
		else
			json_value(w, value);
	}
	if (gpt_oss && !json_get(function, "description"))
		json_put_str(w, "description", STR(""));
	json_end_object(w);
}

static void write_tool_entries(struct json_writer *w, const json_val *tools, bool gpt_oss)
{
	struct json_iter iter = json_iter(tools);
	json_begin_array(w);
	for (json_val *tool; (tool = json_next(&iter, NULL));) {
		const json_val *function = json_get(tool, "function");
		struct str name;
		if (!json_as_str(json_get(function, "name"), &name) || !name.len)
			continue;
		json_begin_object(w);
		json_put_str(w, "type", STR("function"));
		json_key(w, "function");
		write_function(w, function, gpt_oss);
		json_end_object(w);
	}
	json_end_array(w);
}

/* Writes one form of a value into text and reads it back. */
static struct json_doc *rewritten(const json_val *value, void (*write)(struct json_writer *w, const json_val *value))
{
	struct buf text;
	struct json_writer w;
	buf_init(&text, HISTORY_MAX_BYTES);
	json_writer_init(&w, &text);
	write(&w, value);
	struct json_doc *doc = text.failed ? NULL : json_parse(buf_str(&text), NULL, NULL);
	buf_free(&text);
	return doc;
}

enum db_err chat_history_write_tools(const json_val *tools, const struct chat_history_options *options, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	struct json_doc *repaired = rewritten(tools, tool_schema_write);
	struct json_doc *clean = repaired ? rewritten(json_root(repaired), write_without_nulls) : NULL;
	if (clean)
		write_tool_entries(&w, json_root(clean), options->gpt_oss);
	enum db_err err = !clean ? DB_E_NOMEM : out->failed ? DB_E_LIMIT : DB_OK;
	json_free(repaired);
	json_free(clean);
	return err;
}
