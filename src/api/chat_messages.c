/* The conversation, the tools and the answer's format in a chat request. */
#include "api/chat_internal.h"

#define IMAGE_TOKENS 300 /* http-api 2.2 "Token estimates" */
#define VIDEO_TOKENS 1500

static bool is_one_of(struct str text, const char *const *names)
{
	for (; *names; names++)
		if (str_is(text, *names))
			return true;
	return false;
}

static uint64_t text_tokens(size_t bytes)
{
	return bytes == 0 ? 0 : bytes < 4 ? 1 : bytes / 4;
}

/* About the bytes a value takes as compact JSON: for estimates only. */
static size_t json_bytes(const json_val *value)
{
	struct str text;
	size_t bytes = 2;
	switch (json_type(value)) {
	case JSON_STRING:
		return json_as_str(value, &text) ? text.len + 2 : 2;
	case JSON_ARRAY:
	case JSON_OBJECT: {
		struct json_iter iter = json_iter(value);
		struct str key;
		for (json_val *child; (child = json_next(&iter, &key));)
			bytes += json_bytes(child) + (json_type(value) == JSON_OBJECT ? key.len + 3 : 0) + 1;
		return bytes;
	}
	default:
		return 4;
	}
}

static bool parse_part(const json_val *part, size_t index, struct chat_request *request, struct api_error *error)
{
	static const char *const images[] = {"image_url", "input_image", "image", NULL};
	static const char *const videos[] = {"video_url", "input_video", "video", NULL};
	static const char *const sounds[] = {"input_audio", "audio_url", "audio", NULL};
	static const char *const texts[] = {"text", "input_text", "output_text", "refusal", NULL};
	struct str type, text;
	if (json_as_str(part, &text)) {
		request->prompt_estimate_tokens += text_tokens(text.len);
		return true;
	}
	if (json_type(part) != JSON_OBJECT || !json_as_str(json_get(part, "type"), &type))
		return chat_refuse(error, "messages", "messages[%zu].content has a part without a type.", index);
	if (is_one_of(type, images)) {
		request->has_media = true;
		request->prompt_estimate_tokens += IMAGE_TOKENS;
	} else if (is_one_of(type, videos)) {
		request->has_media = true;
		request->prompt_estimate_tokens += VIDEO_TOKENS;
	} else if (is_one_of(type, sounds)) {
		return chat_refuse(error, "messages", "messages[%zu].content has audio, which no model here takes.", index);
	} else if (is_one_of(type, texts)) {
		if (!json_as_str(json_get(part, str_is(type, "refusal") ? "refusal" : "text"), &text))
			return chat_refuse(error, "messages", "messages[%zu].content has a text part without text.", index);
		request->prompt_estimate_tokens += text_tokens(text.len);
	} else {
		request->prompt_estimate_tokens += json_bytes(part) / 4;
	}
	return true;
}

static bool parse_content(const json_val *message, struct str role, size_t index, struct chat_request *request,
                          struct api_error *error)
{
	const json_val *content = json_get_some(message, "content");
	struct str text;
	if (!content) {
		if (!str_is(role, "assistant") && !str_is(role, "tool") && !str_is(role, "function"))
			return chat_refuse(error, "messages", "messages[%zu].content is missing.", index);
		return true;
	}
	if (json_as_str(content, &text)) {
		request->prompt_estimate_tokens += text_tokens(text.len);
		return true;
	}
	if (json_type(content) != JSON_ARRAY)
		return chat_refuse(error, "messages", "messages[%zu].content must be a string or an array of parts.", index);
	struct json_iter iter = json_iter(content);
	for (json_val *part; (part = json_next(&iter, NULL));)
		if (!parse_part(part, index, request, error))
			return false;
	return true;
}

static bool parse_tool_calls(const json_val *message, size_t index, struct api_error *error)
{
	const json_val *calls = json_get_some(message, "tool_calls");
	struct str text;
	if (!calls)
		return true;
	if (json_type(calls) != JSON_ARRAY)
		return chat_refuse(error, "messages", "messages[%zu].tool_calls must be an array.", index);
	struct json_iter iter = json_iter(calls);
	for (json_val *call; (call = json_next(&iter, NULL));)
		if (!json_as_str(json_get(json_get(call, "function"), "name"), &text))
			return chat_refuse(error, "messages", "messages[%zu].tool_calls has a call without function.name.", index);
	return true;
}

bool chat_messages_parse(const json_val *root, struct chat_request *request, struct api_error *error)
{
	static const char *const roles[] = {"system", "developer", "user", "assistant", "tool", "function", NULL};
	const json_val *messages = json_get_some(root, "messages");
	if (!messages)
		return chat_refuse(error, "messages", "messages is required: an array with at least one message.");
	if (json_type(messages) != JSON_ARRAY || json_len(messages) == 0)
		return chat_refuse(error, "messages", "messages must be an array with at least one message.");
	struct json_iter iter = json_iter(messages);
	size_t index = 0;
	for (json_val *message; (message = json_next(&iter, NULL)); index++) {
		struct str role;
		if (json_type(message) != JSON_OBJECT)
			return chat_refuse(error, "messages", "messages[%zu] must be an object.", index);
		if (!json_as_str(json_get(message, "role"), &role) || !is_one_of(role, roles))
			return chat_refuse(error, "messages",
			                   "messages[%zu].role must be system, developer, user, assistant, tool or function.", index);
		request->prompt_estimate_tokens += 4;
		if (!parse_content(message, role, index, request, error) || !parse_tool_calls(message, index, error))
			return false;
	}
	request->messages = messages;
	return true;
}

static bool take_prompt(const json_val *prompt, struct chat_request *request, struct api_error *error)
{
	struct json_iter iter = json_iter(json_type(prompt) == JSON_ARRAY ? prompt : NULL);
	struct str text = STR_NONE;
	int64_t token;
	if (!json_as_str(prompt, &text) && json_type(prompt) != JSON_ARRAY)
		return chat_refuse(error, "prompt", "prompt must be text, token ids, or an array of either.");
	for (json_val *value; (value = json_next(&iter, NULL));)
		if (!json_as_i64(value, &token) || token < 0 || token > INT32_MAX)
			return chat_refuse(error, "prompt", "prompt must be text, token ids, or an array of either.");
	uint64_t estimate = text.len > 0 ? text_tokens(text.len) : json_type(prompt) == JSON_ARRAY ? json_len(prompt) : 0;
	request->prompt_estimate_tokens += estimate;
	return estimate > 0 || chat_refuse(error, "prompt", "A prompt must not be empty.");
}

static bool is_several(const json_val *prompt)
{
	struct json_iter iter = json_iter(json_type(prompt) == JSON_ARRAY ? prompt : NULL);
	enum json_type first = json_type(json_next(&iter, NULL));
	return first == JSON_STRING || first == JSON_ARRAY;
}

bool chat_prompt_parse(const json_val *root, struct chat_request *request, struct api_error *error)
{
	const json_val *prompt = json_get_some(root, "prompt");
	request->prompt = prompt;
	if (!is_several(prompt))
		return take_prompt(prompt, request, error);
	struct json_iter iter = json_iter(prompt);
	if (json_len(prompt) > CHAT_MAX_ANSWERS)
		return chat_refuse(error, "prompt", "A request may have at most %d prompts.", CHAT_MAX_ANSWERS);
	request->prompts = prompt;
	request->prompt = NULL;
	for (json_val *one; (one = json_next(&iter, NULL));) {
		request->prompt = request->prompt ? request->prompt : one;
		if (!take_prompt(one, request, error))
			return false;
	}
	return true;
}

static bool tool_is_declared(const json_val *tools, struct str wanted)
{
	struct json_iter iter = json_iter(tools);
	struct str name;
	for (json_val *tool; (tool = json_next(&iter, NULL));)
		if (json_as_str(json_get(json_get(tool, "function"), "name"), &name) && str_eq(name, wanted))
			return true;
	return false;
}

static bool parse_tool_choice(const json_val *root, struct chat_request *request, struct api_error *error)
{
	const json_val *choice = json_get_some(root, "tool_choice");
	struct str name;
	if (!choice)
		return true;
	request->tool_choice = choice;
	if (json_as_str(choice, &name)) {
		if (str_is(name, "none") || str_is(name, "auto"))
			return true;
		if (!str_is(name, "required"))
			return chat_refuse(error, "tool_choice", "tool_choice must be none, auto, required or a named function.");
		return request->has_tools ||
		       chat_refuse(error, "tool_choice", "tool_choice required needs at least one entry in tools.");
	}
	if (!json_as_str(json_get(json_get(choice, "function"), "name"), &name))
		return chat_refuse(error, "tool_choice", "tool_choice must be none, auto, required or a named function.");
	return tool_is_declared(request->tools, name) ||
	       chat_refuse(error, "tool_choice", "tool_choice names a function that is not in tools.");
}

static bool parse_tools(const json_val *root, struct chat_request *request, struct api_error *error)
{
	const json_val *tools = json_get_some(root, "tools");
	if (!tools)
		return true;
	if (json_type(tools) != JSON_ARRAY)
		return chat_refuse(error, "tools", "tools must be an array.");
	struct json_iter iter = json_iter(tools);
	size_t index = 0;
	for (json_val *tool; (tool = json_next(&iter, NULL)); index++) {
		struct str text;
		const json_val *type = json_get_some(tool, "type"), *function = json_get(tool, "function");
		if (type && (!json_as_str(type, &text) || !str_is(text, "function")))
			return chat_refuse(error, "tools", "tools[%zu].type must be function.", index);
		if (!json_as_str(json_get(function, "name"), &text) || text.len == 0)
			return chat_refuse(error, "tools", "tools[%zu].function.name is required.", index);
		const json_val *parameters = json_get_some(function, "parameters");
		if (parameters && json_type(parameters) != JSON_OBJECT)
			return chat_refuse(error, "tools", "tools[%zu].function.parameters must be an object.", index);
	}
	request->tools = tools;
	request->has_tools = index > 0;
	return true;
}

static bool parse_format(const json_val *root, struct chat_request *request, struct api_error *error)
{
	const json_val *format = json_get_some(root, "response_format");
	struct str type;
	if (!format)
		return true;
	if (!json_as_str(json_get(format, "type"), &type))
		return chat_refuse(error, "response_format", "response_format.type is required.");
	if (str_is(type, "text"))
		return true;
	if (str_is(type, "json_object")) {
		request->format = CHAT_FORMAT_JSON_OBJECT;
		return true;
	}
	if (!str_is(type, "json_schema"))
		return chat_refuse(error, "response_format", "response_format.type must be text, json_object or json_schema.");
	request->format = CHAT_FORMAT_JSON_SCHEMA;
	request->schema = json_get(json_get(format, "json_schema"), "schema");
	return json_type(request->schema) == JSON_OBJECT ||
	       chat_refuse(error, "response_format", "response_format.json_schema.schema must be an object.");
}

bool chat_tools_parse(const json_val *root, struct chat_request *request, struct api_error *error)
{
	return parse_tools(root, request, error) && parse_tool_choice(root, request, error) && parse_format(root, request, error);
}
