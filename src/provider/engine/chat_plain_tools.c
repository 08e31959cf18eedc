#include "provider/engine/chat_plain_tools.h"

#include "core/json.h"

#define PLAIN_MAX_BYTES ((size_t)64 << 20)

static struct str role_of(const json_val *message)
{
	struct str role = STR_NONE;
	json_as_str(json_get(message, "role"), &role);
	return role;
}

bool chat_plain_tools_in(struct str messages_json)
{
	struct json_doc *doc = json_parse(messages_json, NULL, NULL);
	struct json_iter iter = json_iter(json_root(doc));
	bool found = false;
	for (json_val *message; !found && (message = json_next(&iter, NULL));)
		found = str_is(role_of(message), "tool") || json_len(json_get(message, "tool_calls"));
	json_free(doc);
	return found;
}

static void append_json(struct buf *out, const json_val *value)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_value(&w, value);
}

/* The text parts of a content, as one text. */
static void append_content(struct buf *out, const json_val *content)
{
	struct json_iter iter = json_iter(json_type(content) == JSON_ARRAY ? content : NULL);
	struct str text;
	bool first = true;
	if (json_as_str(content, &text))
		buf_append_str(out, text);
	for (json_val *part; (part = json_next(&iter, NULL)); first = false) {
		if (!json_as_str(json_get(part, "text"), &text))
			continue;
		if (!first)
			buf_append_c(out, "\n");
		buf_append_str(out, text);
	}
}

/* --- what the model is told --- */

static void append_duty(struct buf *out, const json_val *choice)
{
	struct str name;
	if (json_as_str(json_get(json_get(choice, "function"), "name"), &name)) {
		buf_append_c(out, "\n\nAnswer with a call of the function ");
		buf_append_str(out, name);
		buf_append_c(out, " and nothing else.");
	} else if (json_as_str(choice, &name) && str_is(name, "required")) {
		buf_append_c(out, "\n\nAnswer with a function call and nothing else.");
	} else {
		buf_append_c(out, "\n\nCall a function only when it helps; otherwise answer in plain words.");
	}
}

static void append_instructions(struct buf *out, const json_val *tools, const json_val *choice)
{
	struct json_iter iter = json_iter(tools);
	buf_append_c(out, "You can call these functions. Each line describes one, its parameters as a JSON schema:\n<tools>");
	for (json_val *tool; (tool = json_next(&iter, NULL));) {
		buf_append_c(out, "\n");
		append_json(out, json_get(tool, "function"));
	}
	buf_append_c(out, "\n</tools>\n\nTo call a function, write a JSON object with its name and arguments between tags:\n"
	                  "<tool_call>\n{\"name\": \"the function's name\", \"arguments\": {\"parameter\": \"value\"}}\n"
	                  "</tool_call>\nThe result comes back between <tool_response> tags.");
	append_duty(out, choice);
}

/* --- the history --- */

static void append_calls(struct buf *out, const json_val *calls)
{
	struct json_iter iter = json_iter(calls);
	for (json_val *call; (call = json_next(&iter, NULL));) {
		struct json_writer w;
		struct str name = STR_NONE;
		const json_val *function = json_get(call, "function");
		json_as_str(json_get(function, "name"), &name);
		if (out->len)
			buf_append_c(out, "\n");
		buf_append_c(out, CHAT_PLAIN_TOOLS_OPEN "\n");
		json_writer_init(&w, out);
		json_begin_object(&w);
		json_put_str(&w, "name", name);
		json_key(&w, "arguments");
		json_value(&w, json_get(function, "arguments"));
		json_end_object(&w);
		buf_append_c(out, "\n" CHAT_PLAIN_TOOLS_CLOSE);
	}
}

static void put_message(struct json_writer *w, const char *role, const struct buf *text)
{
	json_begin_object(w);
	json_put_cstr(w, "role", role);
	json_put_str(w, "content", buf_str(text));
	json_end_object(w);
}

static void write_assistant(struct json_writer *w, const json_val *message)
{
	const json_val *calls = json_get(message, "tool_calls");
	struct buf text;
	if (!json_len(calls)) {
		json_value(w, message);
		return;
	}
	buf_init(&text, PLAIN_MAX_BYTES);
	append_content(&text, json_get(message, "content"));
	append_calls(&text, calls);
	put_message(w, "assistant", &text);
	buf_free(&text);
}

static void append_result(struct buf *results, const json_val *message)
{
	buf_append_c(results, results->len ? "\n<tool_response>\n" : "<tool_response>\n");
	append_content(results, json_get(message, "content"));
	buf_append_c(results, "\n</tool_response>");
}

static void write_system(struct json_writer *w, const json_val *system_or_null, const struct buf *instructions)
{
	struct buf text;
	buf_init(&text, PLAIN_MAX_BYTES);
	append_content(&text, json_get(system_or_null, "content"));
	if (text.len)
		buf_append_c(&text, "\n\n");
	buf_append_str(&text, buf_str(instructions));
	put_message(w, "system", &text);
	buf_free(&text);
}

static void write_messages(struct json_writer *w, const json_val *messages, const struct buf *instructions)
{
	struct json_iter iter = json_iter(messages);
	struct buf results; /* of calls, until another message comes: templates want roles that alternate */
	bool first = true;
	buf_init(&results, PLAIN_MAX_BYTES);
	json_begin_array(w);
	for (json_val *message; (message = json_next(&iter, NULL)); first = false) {
		struct str role = role_of(message);
		bool takes_instructions = first && instructions->len;
		if (takes_instructions)
			write_system(w, str_is(role, "system") ? message : NULL, instructions);
		if (str_is(role, "tool")) {
			append_result(&results, message);
			continue;
		}
		if (results.len && str_is(role, "user")) {
			buf_append_c(&results, "\n\n");
			append_content(&results, json_get(message, "content"));
			put_message(w, "user", &results);
			buf_clear(&results);
			continue;
		}
		if (results.len)
			put_message(w, "user", &results);
		buf_clear(&results);
		if (str_is(role, "assistant"))
			write_assistant(w, message);
		else if (!takes_instructions || !str_is(role, "system"))
			json_value(w, message);
	}
	if (results.len)
		put_message(w, "user", &results);
	json_end_array(w);
	buf_free(&results);
}

enum db_err chat_plain_tools_write(struct str messages_json, struct str tools_json, struct str tool_choice_json,
                                   struct buf *out)
{
	struct json_doc *messages = json_parse(messages_json, NULL, NULL);
	struct json_doc *tools = tools_json.len ? json_parse(tools_json, NULL, NULL) : NULL;
	struct json_doc *choice = tool_choice_json.len ? json_parse(tool_choice_json, NULL, NULL) : NULL;
	struct buf instructions;
	struct json_writer w;
	struct str word;
	enum db_err err = messages && (tools || !tools_json.len) && (choice || !tool_choice_json.len) ? DB_OK : DB_E_INVALID;
	buf_init(&instructions, PLAIN_MAX_BYTES);
	if (!err && json_len(json_root(tools)) && !(json_as_str(json_root(choice), &word) && str_is(word, "none")))
		append_instructions(&instructions, json_root(tools), json_root(choice));
	json_writer_init(&w, out);
	if (!err)
		write_messages(&w, json_root(messages), &instructions);
	if (!err && (out->failed || instructions.failed))
		err = DB_E_LIMIT;
	buf_free(&instructions);
	json_free(messages);
	json_free(tools);
	json_free(choice);
	return err;
}
