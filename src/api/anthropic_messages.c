/* A conversation of content blocks as the messages of a chat request. */
#include "api/anthropic.h"

#define JOIN_MAX (64u << 20)

/* The text so far of a message that is put together from blocks. */
struct gathered {
	struct str role; /* of the message that is lowered */
	struct buf text; /* of its blocks, not written yet */
	struct buf thinking;
	size_t texts;
};

static bool block_type(const json_val *block, struct str *type)
{
	return json_type(block) == JSON_OBJECT && json_as_str(json_get(block, "type"), type);
}

static bool refuse_block(struct anthropic_lowering *to, struct str type, size_t message)
{
	static const char *const media[] = {"image", "document", "container_upload", "audio", "video"};
	for (size_t i = 0; i < sizeof media / sizeof *media; i++)
		if (str_is(type, media[i]))
			return chat_refuse(to->error, "messages",
			                   "messages[%zu] has a block of type %s: the models here take text only. Send its text instead.",
			                   message, media[i]);
	return chat_refuse(to->error, "messages", "messages[%zu] has a content block of a type that cannot stand there.", message);
}

/* Text of a document or a search result, where it is text. */
static bool document_text(const json_val *block, struct buf *out)
{
	struct str text, title;
	const json_val *source = json_get(block, "source");
	if (json_as_str(json_get(block, "title"), &title) && title.len > 0) {
		buf_append_str(out, title);
		buf_append_byte(out, '\n');
	}
	if (!json_as_str(json_get(source, "type"), &text) || !str_is(text, "text") || !json_as_str(json_get(source, "data"), &text))
		return false;
	buf_append_str(out, text);
	return true;
}

/* One block that stands for text. *taken: it does. */
static bool text_of_block(struct anthropic_lowering *to, const json_val *block, struct str type, size_t message,
                          struct buf *out, bool *taken)
{
	struct str text;
	*taken = true;
	if (str_is(type, "text")) {
		if (!json_as_str(json_get(block, "text"), &text))
			return chat_refuse(to->error, "messages", "messages[%zu] has a text block without text.", message);
		buf_append_str(out, text);
		return true;
	}
	*taken = str_is(type, "document") && document_text(block, out);
	return true;
}

/* A string, or blocks of text joined by line feeds. */
static bool flat_text(struct anthropic_lowering *to, const json_val *content, size_t message, struct buf *out)
{
	struct str text, type;
	if (json_as_str(content, &text)) {
		buf_append_str(out, text);
		return true;
	}
	struct json_iter iter = json_iter(content);
	size_t count = 0;
	for (json_val *block; (block = json_next(&iter, NULL)); count++) {
		bool taken;
		if (!block_type(block, &type))
			return chat_refuse(to->error, "messages", "messages[%zu] has a content block without a type.", message);
		if (count > 0)
			buf_append_byte(out, '\n');
		if (!text_of_block(to, block, type, message, out, &taken))
			return false;
		if (!taken)
			return refuse_block(to, type, message);
	}
	return true;
}

static void put_message(struct json_writer *w, const char *role, struct str text)
{
	json_begin_object(w);
	json_put_cstr(w, "role", role);
	json_put_str(w, "content", text);
	json_end_object(w);
}

/* --- system --- */

static bool lower_system(struct anthropic_lowering *to, const json_val *system)
{
	struct str text, type;
	struct buf joined;
	if (!system)
		return true;
	if (json_as_str(system, &text)) {
		if (text.len > 0)
			put_message(&to->w, "system", text);
		return true;
	}
	if (json_type(system) != JSON_ARRAY)
		return chat_refuse(to->error, "system", "system must be a string or an array of text blocks.");
	buf_init(&joined, JOIN_MAX);
	struct json_iter iter = json_iter(system);
	bool ok = true;
	for (json_val *block; ok && (block = json_next(&iter, NULL));) {
		ok = block_type(block, &type) && str_is(type, "text") && json_as_str(json_get(block, "text"), &text);
		if (ok && joined.len > 0)
			buf_append_byte(&joined, '\n');
		if (ok)
			buf_append_str(&joined, text);
	}
	if (ok && joined.len > 0)
		put_message(&to->w, "system", buf_str(&joined));
	buf_free(&joined);
	return ok || chat_refuse(to->error, "system", "system must be a string or an array of text blocks.");
}

/* --- user --- */

static void flush_user(struct anthropic_lowering *to, struct gathered *so_far)
{
	if (so_far->texts > 0)
		put_message(&to->w, "user", buf_str(&so_far->text));
	buf_clear(&so_far->text);
	so_far->texts = 0;
}

static bool lower_tool_result(struct anthropic_lowering *to, const json_val *block, size_t message)
{
	struct str id;
	struct buf text;
	bool is_error = false;
	const json_val *content = json_get_some(block, "content"), *failed = json_get_some(block, "is_error");
	if (!json_as_str(json_get(block, "tool_use_id"), &id) || id.len == 0)
		return chat_refuse(to->error, "messages", "messages[%zu] has a tool_result without tool_use_id.", message);
	if (failed && !json_as_bool(failed, &is_error))
		return chat_refuse(to->error, "messages", "messages[%zu]: is_error of a tool_result must be true or false.", message);
	if (content && json_type(content) != JSON_STRING && json_type(content) != JSON_ARRAY)
		return chat_refuse(to->error, "messages", "messages[%zu]: content of a tool_result must be a string or blocks.",
		                   message);
	buf_init(&text, JOIN_MAX);
	if (is_error) /* the chat API has no place for it, so the model reads it */
		buf_append_str(&text, content ? STR("Error: ") : STR("Error"));
	bool ok = flat_text(to, content, message, &text);
	if (ok) {
		json_begin_object(&to->w);
		json_put_str(&to->w, "role", STR("tool"));
		json_put_str(&to->w, "tool_call_id", id);
		json_put_str(&to->w, "content", buf_str(&text));
		json_end_object(&to->w);
	}
	buf_free(&text);
	return ok;
}

static bool lower_user_block(struct anthropic_lowering *to, const json_val *block, struct str type, size_t message,
                             struct gathered *so_far)
{
	if (str_is(type, "tool_result")) {
		flush_user(to, so_far);
		return lower_tool_result(to, block, message);
	}
	bool taken;
	if (so_far->texts > 0)
		buf_append_byte(&so_far->text, '\n');
	if (!text_of_block(to, block, type, message, &so_far->text, &taken))
		return false;
	so_far->texts++;
	return taken || refuse_block(to, type, message);
}

/* --- assistant --- */

static bool lower_tool_use(struct anthropic_lowering *to, const json_val *block, size_t message)
{
	struct str id, name;
	struct buf arguments;
	struct json_writer w;
	const json_val *input = json_get(block, "input");
	if (!json_as_str(json_get(block, "id"), &id) || id.len == 0 || !json_as_str(json_get(block, "name"), &name) ||
	    name.len == 0)
		return chat_refuse(to->error, "messages", "messages[%zu] has a tool_use without id and name.", message);
	if (json_type(input) != JSON_OBJECT)
		return chat_refuse(to->error, "messages", "messages[%zu]: input of a tool_use must be an object.", message);
	buf_init(&arguments, JOIN_MAX);
	json_writer_init(&w, &arguments);
	json_value(&w, input);
	json_begin_object(&to->w);
	json_put_str(&to->w, "id", id);
	json_put_str(&to->w, "type", STR("function"));
	json_key(&to->w, "function");
	json_begin_object(&to->w);
	json_put_str(&to->w, "name", name);
	json_put_str(&to->w, "arguments", buf_str(&arguments));
	json_end_object(&to->w);
	json_end_object(&to->w);
	bool ok = !arguments.failed;
	buf_free(&arguments);
	return ok || chat_refuse(to->error, "messages", "messages[%zu] has a tool_use that is too large.", message);
}

static bool gather_assistant_block(struct anthropic_lowering *to, const json_val *block, struct str type, size_t message,
                                   struct gathered *so_far)
{
	struct str text;
	bool taken;
	if (str_is(type, "tool_use") || str_is(type, "redacted_thinking"))
		return true; /* tool uses are written behind the text; redacted thinking is nothing a model here can read */
	if (str_is(type, "thinking")) {
		if (!json_as_str(json_get(block, "thinking"), &text))
			return chat_refuse(to->error, "messages", "messages[%zu] has a thinking block without thinking.", message);
		buf_append_str(&so_far->thinking, text);
		return true;
	}
	if (!str_is(type, "text"))
		return refuse_block(to, type, message);
	so_far->texts++;
	return text_of_block(to, block, type, message, &so_far->text, &taken);
}

static bool lower_assistant(struct anthropic_lowering *to, const json_val *content, size_t message, struct gathered *so_far)
{
	struct json_iter iter = json_iter(content);
	struct str type;
	size_t uses = 0;
	for (json_val *block; (block = json_next(&iter, NULL));) {
		if (!block_type(block, &type))
			return chat_refuse(to->error, "messages", "messages[%zu] has a content block without a type.", message);
		uses += str_is(type, "tool_use");
		if (!gather_assistant_block(to, block, type, message, so_far))
			return false;
	}
	json_begin_object(&to->w);
	json_put_str(&to->w, "role", STR("assistant"));
	json_put_str(&to->w, "content", buf_str(&so_far->text));
	if (so_far->thinking.len > 0)
		json_put_str(&to->w, "reasoning_content", buf_str(&so_far->thinking));
	if (uses > 0) {
		json_key(&to->w, "tool_calls");
		json_begin_array(&to->w);
		iter = json_iter(content);
		for (json_val *block; (block = json_next(&iter, NULL));)
			if (block_type(block, &type) && str_is(type, "tool_use") && !lower_tool_use(to, block, message))
				return false;
		json_end_array(&to->w);
	}
	json_end_object(&to->w);
	return true;
}

/* --- all --- */

static bool lower_blocks(struct anthropic_lowering *to, const json_val *content, size_t message, struct gathered *so_far)
{
	struct str type;
	if (json_len(content) == 0)
		return chat_refuse(to->error, "messages", "messages[%zu].content must not be empty.", message);
	if (str_is(so_far->role, "assistant"))
		return lower_assistant(to, content, message, so_far);
	if (str_is(so_far->role, "system")) {
		if (!flat_text(to, content, message, &so_far->text))
			return false;
		put_message(&to->w, "system", buf_str(&so_far->text));
		return true;
	}
	struct json_iter iter = json_iter(content);
	for (json_val *block; (block = json_next(&iter, NULL));) {
		if (!block_type(block, &type))
			return chat_refuse(to->error, "messages", "messages[%zu] has a content block without a type.", message);
		if (!lower_user_block(to, block, type, message, so_far))
			return false;
	}
	flush_user(to, so_far);
	return true;
}

static bool lower_message(struct anthropic_lowering *to, const json_val *message, size_t index)
{
	struct gathered so_far = {0};
	struct str text;
	const json_val *content = json_get(message, "content");
	if (json_type(message) != JSON_OBJECT)
		return chat_refuse(to->error, "messages", "messages[%zu] must be an object.", index);
	if (!json_as_str(json_get(message, "role"), &so_far.role) ||
	    !(str_is(so_far.role, "user") || str_is(so_far.role, "assistant") || str_is(so_far.role, "system")))
		return chat_refuse(to->error, "messages", "messages[%zu].role must be user or assistant.", index);
	if (json_as_str(content, &text)) {
		json_begin_object(&to->w);
		json_put_str(&to->w, "role", so_far.role);
		json_put_str(&to->w, "content", text);
		json_end_object(&to->w);
		return true;
	}
	if (json_type(content) != JSON_ARRAY)
		return chat_refuse(to->error, "messages", "messages[%zu].content must be a string or an array of blocks.", index);
	buf_init(&so_far.text, JOIN_MAX);
	buf_init(&so_far.thinking, JOIN_MAX);
	bool ok = lower_blocks(to, content, index, &so_far);
	buf_free(&so_far.text);
	buf_free(&so_far.thinking);
	return ok;
}

bool anthropic_lower_messages(struct anthropic_lowering *to, const json_val *root)
{
	const json_val *messages = json_get_some(root, "messages");
	if (json_type(messages) != JSON_ARRAY || json_len(messages) == 0)
		return chat_refuse(to->error, "messages", "messages is required: an array with at least one message.");
	json_key(&to->w, "messages");
	json_begin_array(&to->w);
	if (!lower_system(to, json_get_some(root, "system")))
		return false;
	struct json_iter iter = json_iter(messages);
	size_t index = 0;
	for (json_val *message; (message = json_next(&iter, NULL)); index++)
		if (!lower_message(to, message, index))
			return false;
	json_end_array(&to->w);
	return true;
}
