/* The input of /v1/responses as chat messages (http-api 2.4). Beyond the chapter: instructions become a system message,
 * reasoning stays with the turn it belongs to, and the calls of one turn stand in one message. */
#include "api/responses_internal.h"

#define TURN_MAX_BYTES LOWER_MAX_BYTES

/* An assistant's turn that is put together from several items. */
struct turn {
	bool open;
	struct buf text, reasoning, calls; /* calls: elements of tool_calls, with commas */
};

struct input {
	struct json_writer *w;
	struct turn turn;
	size_t messages;
};

static void end_turn(struct input *in)
{
	struct turn *turn = &in->turn;
	if (!turn->open) { /* reasoning that no turn followed belongs to nothing */
		buf_clear(&turn->reasoning);
		return;
	}
	in->messages++;
	json_begin_object(in->w);
	json_put_str(in->w, "role", STR("assistant"));
	json_put_str(in->w, "content", buf_str(&turn->text));
	if (turn->reasoning.len > 0)
		json_put_str(in->w, "reasoning_content", buf_str(&turn->reasoning));
	if (turn->calls.len > 0) {
		json_key(in->w, "tool_calls");
		json_begin_array(in->w);
		json_raw(in->w, buf_str(&turn->calls));
		json_end_array(in->w);
	}
	json_end_object(in->w);
	if (turn->text.failed || turn->reasoning.failed || turn->calls.failed)
		in->w->out->failed = true;
	turn->open = false;
	buf_clear(&turn->text);
	buf_clear(&turn->reasoning);
	buf_clear(&turn->calls);
}

static void put_message(struct input *in, const char *role, struct str content)
{
	end_turn(in);
	in->messages++;
	json_begin_object(in->w);
	json_put_cstr(in->w, "role", role);
	json_put_str(in->w, "content", content);
	json_end_object(in->w);
}

/* --- content --- */

static bool add_part(const json_val *part, size_t index, struct buf *text, struct api_error *error)
{
	struct str type = STR_NONE, piece;
	if (!json_as_str(part, &piece)) {
		if (!json_as_str(json_get(part, "type"), &type))
			return chat_refuse(error, "input", "input[%zu] has a content part without a type.", index);
		if (str_is(type, "input_image") || str_is(type, "input_file") || str_is(type, "input_audio") ||
		    str_is(type, "input_video") || str_is(type, "image_url") || str_is(type, "image"))
			return chat_refuse(error, "input", "input[%zu] has a part of type %.*s: only text is taken here.", index,
			                   STR_ARG(type));
		const char *member = str_is(type, "refusal") ? "refusal" : "text";
		if (!str_is(type, "input_text") && !str_is(type, "output_text") && !str_is(type, "text") &&
		    !str_is(type, "summary_text") && !str_is(type, "reasoning_text") && !str_is(type, "refusal"))
			return chat_refuse(error, "input", "input[%zu] has a content part of a type that is not known.", index);
		if (!json_as_str(json_get(part, member), &piece))
			return chat_refuse(error, "input", "input[%zu] has a text part without text.", index);
	}
	if (text->len > 0)
		buf_append_byte(text, '\n');
	buf_append_str(text, piece);
	return true;
}

/* A string, or an array of parts joined by line feeds. */
static bool flatten(const json_val *content, size_t index, struct buf *text, struct api_error *error)
{
	struct str whole;
	if (json_as_str(content, &whole)) {
		buf_append_str(text, whole);
		return true;
	}
	if (json_type(content) != JSON_ARRAY)
		return chat_refuse(error, "input", "input[%zu] needs a content: a string or an array of parts.", index);
	struct json_iter iter = json_iter(content);
	for (json_val *part; (part = json_next(&iter, NULL));)
		if (!add_part(part, index, text, error))
			return false;
	return true;
}

/* --- items --- */

static bool take_message(struct input *in, const json_val *item, size_t index, struct api_error *error)
{
	struct str role = STR("user");
	struct buf text;
	if (json_get_some(item, "role") && !json_as_str(json_get(item, "role"), &role))
		return chat_refuse(error, "input", "input[%zu].role must be a string.", index);
	bool system = str_is(role, "system") || str_is(role, "developer"), assistant = str_is(role, "assistant");
	if (!system && !assistant && !str_is(role, "user"))
		return chat_refuse(error, "input", "input[%zu].role must be user, assistant, system or developer.", index);
	buf_init(&text, TURN_MAX_BYTES);
	bool ok = flatten(json_get_some(item, "content"), index, &text, error);
	if (ok && assistant) {
		if (in->turn.calls.len > 0 || in->turn.text.len > 0)
			end_turn(in);
		in->turn.open = true;
		buf_append_str(&in->turn.text, buf_str(&text));
	} else if (ok) {
		put_message(in, system ? "system" : "user", buf_str(&text));
	}
	buf_free(&text);
	return ok;
}

static bool take_call(struct input *in, const json_val *item, size_t index, struct api_error *error)
{
	struct str id, name, arguments;
	if (!json_as_str(json_get_some(item, "call_id"), &id) && !json_as_str(json_get_some(item, "id"), &id))
		return chat_refuse(error, "input", "input[%zu].call_id is required.", index);
	if (!json_as_str(json_get(item, "name"), &name) || name.len == 0)
		return chat_refuse(error, "input", "input[%zu].name is required.", index);
	if (!json_as_str(json_get(item, "arguments"), &arguments))
		return chat_refuse(error, "input", "input[%zu].arguments must be a string of JSON.", index);
	struct json_writer w;
	struct buf *calls = &in->turn.calls;
	in->turn.open = true;
	if (calls->len > 0)
		buf_append_byte(calls, ',');
	json_writer_init(&w, calls);
	json_begin_object(&w);
	json_put_str(&w, "id", id);
	json_put_str(&w, "type", STR("function"));
	json_key(&w, "function");
	json_begin_object(&w);
	json_put_str(&w, "name", name);
	json_put_str(&w, "arguments", arguments);
	json_end_object(&w);
	json_end_object(&w);
	return true;
}

static bool take_call_output(struct input *in, const json_val *item, size_t index, struct api_error *error)
{
	struct str id;
	struct buf text;
	if (!json_as_str(json_get(item, "call_id"), &id) || id.len == 0)
		return chat_refuse(error, "input", "input[%zu].call_id is required.", index);
	buf_init(&text, TURN_MAX_BYTES);
	bool ok = flatten(json_get_some(item, "output"), index, &text, error);
	if (ok) {
		end_turn(in);
		in->messages++;
		json_begin_object(in->w);
		json_put_str(in->w, "role", STR("tool"));
		json_put_str(in->w, "tool_call_id", id);
		json_put_str(in->w, "content", buf_str(&text));
		json_end_object(in->w);
	}
	buf_free(&text);
	return ok;
}

/* Belongs to the assistant's turn that follows it. */
static bool take_reasoning(struct input *in, const json_val *item, size_t index, struct api_error *error)
{
	const json_val *content = json_get_some(item, "content"), *summary = json_get_some(item, "summary");
	if (in->turn.text.len > 0 || in->turn.calls.len > 0)
		end_turn(in);
	if (json_len(content) > 0)
		return flatten(content, index, &in->turn.reasoning, error);
	return json_len(summary) == 0 || flatten(summary, index, &in->turn.reasoning, error);
}

static bool take_item(struct input *in, const json_val *item, size_t index, struct api_error *error)
{
	struct str type = STR("message");
	const json_val *given = json_get_some(item, "type");
	if (json_type(item) != JSON_OBJECT)
		return chat_refuse(error, "input", "input[%zu] must be an object.", index);
	if (given ? !json_as_str(given, &type) : !json_get_some(item, "role"))
		return chat_refuse(error, "input", "input[%zu] needs a type or a role.", index);
	if (str_is(type, "message"))
		return take_message(in, item, index, error);
	if (str_is(type, "function_call"))
		return take_call(in, item, index, error);
	if (str_is(type, "function_call_output"))
		return take_call_output(in, item, index, error);
	if (str_is(type, "reasoning"))
		return take_reasoning(in, item, index, error);
	if (str_is(type, "item_reference"))
		return chat_refuse(error, "input", "input[%zu] refers to a stored item: send the item itself.", index);
	return chat_refuse(error, "input",
	                   "input[%zu].type must be message, function_call, function_call_output or reasoning: other tools do not "
	                   "run here.",
	                   index);
}

static bool take_items(struct input *in, const json_val *items, struct api_error *error)
{
	struct json_iter iter = json_iter(items);
	size_t index = 0;
	for (json_val *item; (item = json_next(&iter, NULL)); index++)
		if (!take_item(in, item, index, error))
			return false;
	return true;
}

static bool take_input(struct input *in, const json_val *input, struct api_error *error)
{
	struct str text;
	if (json_as_str(input, &text)) {
		put_message(in, "user", text);
		return true;
	}
	if (json_type(input) != JSON_ARRAY)
		return chat_refuse(error, "input", "input must be a string or an array of items.");
	if (!take_items(in, input, error))
		return false;
	end_turn(in);
	return in->messages > 0 || chat_refuse(error, "input", "input is empty: it needs at least one message.");
}

bool responses_put_messages(struct json_writer *w, const json_val *root, const json_val *earlier, struct api_error *error)
{
	const json_val *input = json_get_some(root, "input");
	struct input in = {.w = w};
	struct str instructions = STR_NONE;
	if (!input && json_get_some(root, "messages"))
		return chat_refuse(error, "messages",
		                   "/v1/responses takes input: a body with messages belongs to /v1/chat/completions.");
	if (!input)
		return chat_refuse(error, "input", "input is required: a string or an array of items.");
	if (!lower_get_str(root, "instructions", &instructions, error))
		return false;
	struct buf *const bufs[] = {&in.turn.text, &in.turn.reasoning, &in.turn.calls};
	for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
		buf_init(bufs[i], TURN_MAX_BYTES);
	json_key(w, "messages");
	json_begin_array(w);
	if (instructions.len > 0)
		put_message(&in, "system", instructions);
	bool ok = take_items(&in, earlier, error);
	in.messages = 0; /* neither is input */
	ok = ok && take_input(&in, input, error);
	json_end_array(w);
	for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
		buf_free(bufs[i]);
	return ok;
}
