/* The body of /v1/responses lowered to that of /v1/chat/completions (http-api 2.4; the public API's reference). What it knows
 * is carried over or refused, never ignored. */
#include "api/responses_internal.h"

#define ALLOWED_MAX      128 /* each is looked for among all tools */
#define METADATA_MAX     16
#define TOP_LOGPROBS_MAX 20

/* --- tools --- */

static bool put_tool(struct json_writer *w, const json_val *tool, size_t index, struct api_error *error)
{
	static const char *const carried[] = {"description", "parameters", "strict"};
	struct str type, name;
	if (!json_as_str(json_get(tool, "type"), &type))
		return chat_refuse(error, "tools", "tools[%zu].type is required.", index);
	if (!str_is(type, "function"))
		return chat_refuse(error, "tools", "tools[%zu].type must be function: no other tool runs here.", index);
	if (json_type(json_get(tool, "function")) == JSON_OBJECT) { /* nested, as the chat API has it */
		json_value(w, tool);
		return true;
	}
	if (!json_as_str(json_get(tool, "name"), &name) || name.len == 0)
		return chat_refuse(error, "tools", "tools[%zu].name is required.", index);
	json_begin_object(w);
	json_put_str(w, "type", STR("function"));
	json_key(w, "function");
	json_begin_object(w);
	json_put_str(w, "name", name);
	for (size_t i = 0; i < sizeof carried / sizeof *carried; i++) {
		const json_val *value = json_get_some(tool, carried[i]);
		if (!value)
			continue;
		json_key(w, carried[i]);
		json_value(w, value);
	}
	json_end_object(w);
	json_end_object(w);
	return true;
}

static bool names_tool(const json_val *list, struct str wanted)
{
	struct json_iter iter = json_iter(json_type(list) == JSON_ARRAY ? list : NULL);
	struct str name;
	for (json_val *tool; (tool = json_next(&iter, NULL));)
		if (json_as_str(json_get(tool, "name"), &name) && str_eq(name, wanted))
			return true;
	return false;
}

/* With tool_choice allowed_tools only those of the list are offered. */
static bool put_tool_list(struct json_writer *w, const json_val *tools, const json_val *allowed, struct api_error *error)
{
	if (json_type(tools) != JSON_ARRAY)
		return chat_refuse(error, "tools", "tools must be an array.");
	struct json_iter iter = json_iter(tools);
	size_t index = 0;
	json_key(w, "tools");
	json_begin_array(w);
	for (json_val *tool; (tool = json_next(&iter, NULL)); index++) {
		struct str name = STR_NONE;
		json_as_str(json_get(tool, "name"), &name);
		if ((!allowed || names_tool(allowed, name)) && !put_tool(w, tool, index, error))
			return false;
	}
	json_end_array(w);
	return true;
}

static bool put_tool_choice(struct json_writer *w, const json_val *choice, struct api_error *error)
{
	struct str type, name, mode;
	json_key(w, "tool_choice");
	if (json_as_str(choice, &name)) {
		json_str(w, name);
		return true;
	}
	if (!json_as_str(json_get(choice, "type"), &type))
		return chat_refuse(error, "tool_choice", "tool_choice must be none, auto, required or an object with a type.");
	if (str_is(type, "allowed_tools")) {
		if (!json_as_str(json_get(choice, "mode"), &mode) || (!str_is(mode, "auto") && !str_is(mode, "required")))
			return chat_refuse(error, "tool_choice", "tool_choice.mode must be auto or required.");
		json_str(w, mode);
		return true;
	}
	if (!str_is(type, "function"))
		return chat_refuse(error, "tool_choice", "tool_choice.type must be function or allowed_tools.");
	if (!json_as_str(json_get(choice, "name"), &name) && !json_as_str(json_get(json_get(choice, "function"), "name"), &name))
		return chat_refuse(error, "tool_choice", "tool_choice.name is required.");
	json_begin_object(w);
	json_put_str(w, "type", STR("function"));
	json_key(w, "function");
	json_begin_object(w);
	json_put_str(w, "name", name);
	json_end_object(w);
	json_end_object(w);
	return true;
}

bool responses_put_tools(struct json_writer *w, const json_val *root, struct api_error *error)
{
	const json_val *tools = json_get_some(root, "tools"), *choice = json_get_some(root, "tool_choice"), *allowed = NULL;
	struct str type;
	if (json_as_str(json_get(choice, "type"), &type) && str_is(type, "allowed_tools")) {
		allowed = json_get(choice, "tools");
		if (json_len(allowed) == 0 || json_len(allowed) > ALLOWED_MAX)
			return chat_refuse(error, "tool_choice", "tool_choice.tools must name between 1 and %d functions.", ALLOWED_MAX);
	}
	return (!tools || put_tool_list(w, tools, allowed, error)) && (!choice || put_tool_choice(w, choice, error));
}

/* --- the answer's format --- */

static bool put_schema_format(struct json_writer *w, const json_val *format, struct api_error *error)
{
	static const char *const carried[] = {"description", "schema", "strict"};
	struct str name;
	if (!json_as_str(json_get(format, "name"), &name) || name.len == 0)
		return chat_refuse(error, "text", "text.format.name is required with json_schema.");
	json_put_str(w, "type", STR("json_schema"));
	json_key(w, "json_schema");
	json_begin_object(w);
	json_put_str(w, "name", name);
	for (size_t i = 0; i < sizeof carried / sizeof *carried; i++) {
		const json_val *value = json_get_some(format, carried[i]);
		if (!value)
			continue;
		json_key(w, carried[i]);
		json_value(w, value);
	}
	json_end_object(w);
	return true;
}

static bool put_text(struct json_writer *w, const json_val *root, struct api_error *error)
{
	const json_val *text = json_get_some(root, "text"), *format = json_get_some(text, "format");
	struct str type, verbosity = STR_NONE;
	if (!text)
		return true;
	if (json_type(text) != JSON_OBJECT)
		return chat_refuse(error, "text", "text must be an object.");
	if (!lower_get_str(text, "verbosity", &verbosity, error))
		return false;
	if (verbosity.len > 0)
		json_put_str(w, "verbosity", verbosity);
	if (!format)
		return true;
	if (!json_as_str(json_get(format, "type"), &type))
		return chat_refuse(error, "text", "text.format.type is required.");
	bool schema = str_is(type, "json_schema");
	if (!schema && !str_is(type, "text") && !str_is(type, "json_object"))
		return chat_refuse(error, "text", "text.format.type must be text, json_object or json_schema.");
	json_key(w, "response_format");
	json_begin_object(w);
	if (schema && !put_schema_format(w, format, error))
		return false;
	if (!schema)
		json_put_str(w, "type", type);
	json_end_object(w);
	return true;
}

/* --- the small members --- */

static bool check_metadata(const json_val *root, struct api_error *error)
{
	const json_val *metadata = json_get_some(root, "metadata");
	struct str text;
	if (metadata && (json_type(metadata) != JSON_OBJECT || json_len(metadata) > METADATA_MAX))
		return chat_refuse(error, "metadata", "metadata must be an object of at most %d strings.", METADATA_MAX);
	struct json_iter iter = json_iter(metadata);
	for (json_val *value; (value = json_next(&iter, NULL));)
		if (!json_as_str(value, &text))
			return chat_refuse(error, "metadata", "The values of metadata must be strings.");
	return true;
}

/* Members that this API has, and that cannot be done here. */
static bool refuse_unsupported(const json_val *root, struct api_error *error)
{
	static const char *const absent[] = {"conversation", "prompt", "moderation", "context_management"};
	struct str truncation = STR("disabled");
	bool background = false;
	if (!chat_get_bool(root, "background", &background, error) || !lower_get_str(root, "truncation", &truncation, error))
		return false;
	if (background)
		return chat_refuse(error, "background", "background is not supported: keep the connection open, or stream.");
	for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
		if (json_get_some(root, absent[i]))
			return chat_refuse(error, absent[i], "%s is not supported: send everything with input and instructions.",
			                   absent[i]);
	if (!str_is(truncation, "auto") && !str_is(truncation, "disabled"))
		return chat_refuse(error, "truncation", "truncation must be auto or disabled.");
	return true;
}

/* What a caller asks to be kept, and what it goes on from. `keeping` NULL: nothing is kept here. */
static bool check_keeping(const json_val *root, const struct responses_keeping *keeping, struct responses_request *request,
                          size_t body_bytes, struct api_error *error)
{
	struct str previous = STR_NONE;
	if (!chat_get_bool(root, "store", &request->store, error) || !lower_get_str(root, "previous_response_id", &previous, error))
		return false;
	if (request->store && !keeping)
		return chat_refuse(error, "store", "This coordinator keeps no answers: leave store out, or set it to false.");
	if (request->store && body_bytes > RESPONSES_KEPT_INPUT_BYTES)
		return chat_refuse(error, "store",
		                   "A request whose answer is to be kept may have at most %u bytes: set store to false.",
		                   RESPONSES_KEPT_INPUT_BYTES);
	if (previous.len > 0 && !keeping)
		return chat_refuse(error, "previous_response_id",
		                   "This coordinator keeps no answers, so that there is none to go on from: send the earlier items in "
		                   "input.");
	if (previous.len > 0 && keeping->earlier.len == 0)
		return chat_refuse(error, "previous_response_id", "previous_response_id names no answer that is kept.");
	return true;
}

static bool parse_include(const json_val *root, struct responses_request *request, struct api_error *error)
{
	const json_val *include = json_get_some(root, "include");
	struct str name;
	if (include && json_type(include) != JSON_ARRAY)
		return chat_refuse(error, "include", "include must be an array of strings.");
	struct json_iter iter = json_iter(include);
	for (json_val *value; (value = json_next(&iter, NULL));) {
		if (!json_as_str(value, &name))
			return chat_refuse(error, "include", "include must be an array of strings.");
		request->logprobs_shown |= str_is(name, "message.output_text.logprobs");
	}
	return true;
}

static bool put_logprobs(struct json_writer *w, const json_val *root, const struct responses_request *request,
                         struct api_error *error)
{
	bool given = false;
	int64_t top = 0;
	if (!chat_get_int(root, "top_logprobs", 0, TOP_LOGPROBS_MAX, &given, &top, error))
		return false;
	if (!request->logprobs_shown && top == 0)
		return true;
	json_put_bool(w, "logprobs", true);
	json_put_i64(w, "top_logprobs", top);
	return true;
}

static bool put_reasoning(struct json_writer *w, const json_val *root, struct api_error *error)
{
	const json_val *reasoning = json_get_some(root, "reasoning");
	struct str effort = STR_NONE;
	if (reasoning && json_type(reasoning) != JSON_OBJECT)
		return chat_refuse(error, "reasoning", "reasoning must be an object.");
	if (!lower_get_str(reasoning, "effort", &effort, error))
		return false;
	if (effort.len > 0)
		json_put_str(w, "reasoning_effort", effort);
	return true;
}

/* For the echo, where a wrong type must not come back as if it were right. */
static bool check_echoed(const json_val *root, struct api_error *error)
{
	static const char *const texts[] = {"safety_identifier", "service_tier", "prompt_cache_retention"};
	struct str text;
	int64_t calls = 0;
	bool given = false, parallel = true;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (!lower_get_str(root, texts[i], &text, error))
			return false;
	if (!chat_get_bool(root, "parallel_tool_calls", &parallel, error) ||
	    !chat_get_int(root, "max_tool_calls", 1, INT32_MAX, &given, &calls, error))
		return false;
	return true;
}

static bool put_body(struct json_writer *w, struct str body, const json_val *root, const json_val *earlier,
                     struct responses_request *request, struct api_error *error)
{
	static const char *const handled[] = {"input",
	                                      "instructions",
	                                      "messages",
	                                      "tools",
	                                      "tool_choice",
	                                      "text",
	                                      "reasoning",
	                                      "include",
	                                      "store",
	                                      "metadata",
	                                      "previous_response_id",
	                                      "background",
	                                      "stream_options",
	                                      "endpoint",
	                                      "service_tier",
	                                      "safety_identifier",
	                                      "max_tool_calls",
	                                      "prompt",
	                                      "conversation",
	                                      "logprobs",
	                                      "top_logprobs",
	                                      "response_format",
	                                      "verbosity",
	                                      "n",
	                                      "reasoning_effort",
	                                      "moderation",
	                                      "context_management",
	                                      "prompt_cache_retention",
	                                      NULL};
	if (!check_metadata(root, error) || !refuse_unsupported(root, error) || !parse_include(root, request, error) ||
	    !check_echoed(root, error))
		return false;
	json_begin_object(w);
	lower_copy_others(w, body, handled);
	if (!responses_put_messages(w, root, earlier, error) || !responses_put_tools(w, root, error) || !put_text(w, root, error) ||
	    !put_logprobs(w, root, request, error) || !put_reasoning(w, root, error))
		return false;
	json_end_object(w);
	return true;
}

bool responses_parse(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error)
{
	static const struct lower_name names[] = {{"messages", "input"},
	                                          {"response_format", "text"},
	                                          {"reasoning_effort", "reasoning"},
	                                          {"logprobs", "include"},
	                                          {NULL, NULL}};
	const struct responses_keeping *keeping = out->dialect_input;
	struct responses_request *request = arena_alloc(arena, sizeof *request);
	json_val *root = lower_body(body, arena, error);
	struct json_doc *earlier = NULL;
	struct buf lowered;
	struct json_writer w;
	if (!root)
		return false;
	if (!request)
		return lower_no_memory(error);
	request->root = root;
	if (!check_keeping(root, keeping, request, body.len, error))
		return false;
	if (keeping && keeping->earlier.len > 0) {
		struct error why;
		earlier = json_parse(keeping->earlier, arena, &why);
		if (!earlier)
			return lower_no_memory(error);
	}
	buf_init(&lowered, LOWER_MAX_BYTES);
	json_writer_init(&w, &lowered);
	if (!put_body(&w, body, root, earlier ? json_root(earlier) : NULL, request, error)) {
		buf_free(&lowered);
		return false;
	}
	bool ok = lower_parse(&lowered, arena, out, error);
	out->dialect_state = request;
	if (!ok)
		lower_rename_param(error, names);
	return ok;
}
