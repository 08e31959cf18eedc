/* A Messages request as the chat request it stands for. */
#include "api/anthropic.h"
#include "api/lower.h"

#define BODY_MAX          (64u << 20)
#define MAX_OUTPUT_TOKENS INT64_C(1000000000)
#define MIN_THINKING      1024

/* Members that are read here, or that only the API's own service knows and that change no answer. Everything else travels on.
 */
static const char *const known[] = {"model",         "messages",           "system",       "max_tokens",  "stop_sequences",
                                    "stream",        "temperature",        "top_p",        "top_k",       "tools",
                                    "tool_choice",   "thinking",           "metadata",     "betas",       "output_config",
                                    "output_format", "cache_control",      "service_tier", "speed",       "inference_geo",
                                    "diagnostics",   "context_management", "container",    "mcp_servers", "user_profile_id"};
/* Members of other dialects that mean something else here than their authors expect. */
static const char *const foreign[] = {"stop", "n", "max_completion_tokens", "max_output_tokens", "response_format", "endpoint"};

static bool is_among(struct str name, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (str_is(name, names[i]))
			return true;
	return false;
}

static bool put_int(struct anthropic_lowering *to, const json_val *root, const char *name, int64_t min, int64_t max,
                    bool required)
{
	bool given = false;
	int64_t value;
	if (!chat_get_int(root, name, min, max, &given, &value, to->error))
		return false;
	if (given)
		json_put_i64(&to->w, name, value);
	return given || !required || chat_refuse(to->error, name, "%s is required.", name);
}

static bool put_share(struct anthropic_lowering *to, const json_val *root, const char *name)
{
	bool given = false;
	double value;
	if (!chat_get_double(root, name, 0, 1, &given, &value, to->error))
		return false;
	if (given) {
		json_key(&to->w, name);
		json_value(&to->w, json_get(root, name));
	}
	return true;
}

static bool lower_model(struct anthropic_lowering *to, const json_val *root)
{
	struct str model;
	if (!json_as_str(json_get(root, "model"), &model) || model.len == 0)
		return chat_refuse(to->error, "model", "model is required: a non-empty string.");
	json_put_str(&to->w, "model", model);
	return true;
}

static bool lower_stops(struct anthropic_lowering *to, const json_val *root)
{
	const json_val *stops = json_get_some(root, "stop_sequences");
	struct str text;
	if (!stops)
		return true;
	if (json_type(stops) != JSON_ARRAY)
		return chat_refuse(to->error, "stop_sequences", "stop_sequences must be an array of strings.");
	if (json_len(stops) > CHAT_MAX_STOPS)
		return chat_refuse(to->error, "stop_sequences", "At most %d stop_sequences can be given.", CHAT_MAX_STOPS);
	struct json_iter iter = json_iter(stops);
	for (json_val *stop; (stop = json_next(&iter, NULL));)
		if (!json_as_str(stop, &text) || text.len == 0)
			return chat_refuse(to->error, "stop_sequences", "stop_sequences must be non-empty strings.");
	if (json_len(stops) > 0) {
		json_key(&to->w, "stop");
		json_value(&to->w, stops);
	}
	return true;
}

/* Models decide by their templates whether they think; the budget is for the engine. */
static bool lower_thinking(struct anthropic_lowering *to, const json_val *root, struct anthropic_state *state)
{
	const json_val *thinking = json_get_some(root, "thinking");
	struct str type, display = STR_NONE;
	int64_t budget = 0, max_tokens = 0;
	if (!thinking)
		return true;
	if (!json_as_str(json_get(thinking, "type"), &type) ||
	    !(str_is(type, "enabled") || str_is(type, "disabled") || str_is(type, "adaptive")))
		return chat_refuse(to->error, "thinking", "thinking.type must be enabled, disabled or adaptive.");
	if (str_is(type, "enabled")) {
		if (!json_as_i64(json_get(thinking, "budget_tokens"), &budget) || budget < MIN_THINKING)
			return chat_refuse(to->error, "thinking", "thinking.budget_tokens must be an integer of at least %d.",
			                   MIN_THINKING);
		if (json_as_i64(json_get(root, "max_tokens"), &max_tokens) && budget >= max_tokens)
			return chat_refuse(to->error, "thinking", "thinking.budget_tokens must be less than max_tokens.");
		json_put_i64(&to->w, "max_reasoning_tokens", budget);
	}
	json_as_str(json_get(thinking, "display"), &display);
	if (display.len > 0 && !str_is(display, "omitted") && !str_is(display, "summarized"))
		return chat_refuse(to->error, "thinking", "thinking.display must be summarized or omitted.");
	state->thinking_hidden = str_is(display, "omitted");
	if (!json_get(root, "chat_template_kwargs")) {
		json_key(&to->w, "chat_template_kwargs");
		json_begin_object(&to->w);
		json_put_bool(&to->w, "enable_thinking", !str_is(type, "disabled"));
		json_end_object(&to->w);
	}
	return true;
}

static bool lower_format(struct anthropic_lowering *to, const json_val *format)
{
	struct str type;
	if (!format)
		return true;
	if (!json_as_str(json_get(format, "type"), &type) || !str_is(type, "json_schema") ||
	    json_type(json_get(format, "schema")) != JSON_OBJECT)
		return chat_refuse(to->error, "output_config", "output_config.format must be of type json_schema with a schema.");
	json_key(&to->w, "response_format");
	json_begin_object(&to->w);
	json_put_str(&to->w, "type", STR("json_schema"));
	json_key(&to->w, "json_schema");
	json_begin_object(&to->w);
	json_put_str(&to->w, "name", STR("output"));
	json_key(&to->w, "schema");
	json_value(&to->w, json_get(format, "schema"));
	json_put_bool(&to->w, "strict", true);
	json_end_object(&to->w);
	json_end_object(&to->w);
	return true;
}

static bool lower_output(struct anthropic_lowering *to, const json_val *root)
{
	const json_val *config = json_get_some(root, "output_config"), *effort = json_get_some(config, "effort");
	const json_val *format = json_get_some(config, "format");
	struct str text;
	if (config && json_type(config) != JSON_OBJECT)
		return chat_refuse(to->error, "output_config", "output_config must be an object.");
	if (effort && !json_as_str(effort, &text))
		return chat_refuse(to->error, "output_config", "output_config.effort must be a string.");
	if (effort && !json_get(root, "reasoning_effort"))
		json_put_str(&to->w, "reasoning_effort", text);
	return lower_format(to, format ? format : json_get_some(root, "output_format"));
}

static bool lower_metadata(struct anthropic_lowering *to, const json_val *root)
{
	const json_val *metadata = json_get_some(root, "metadata"), *user = json_get_some(metadata, "user_id");
	struct str id;
	if (metadata && json_type(metadata) != JSON_OBJECT)
		return chat_refuse(to->error, "metadata", "metadata must be an object.");
	if (user && !json_as_str(user, &id))
		return chat_refuse(to->error, "metadata", "metadata.user_id must be a string.");
	if (user && !json_get(root, "user"))
		json_put_str(&to->w, "user", id);
	return true;
}

static bool lower_stream(struct anthropic_lowering *to, const json_val *root)
{
	bool stream = false;
	if (!chat_get_bool(root, "stream", &stream, to->error))
		return false;
	if (stream)
		json_put_bool(&to->w, "stream", true);
	return true;
}

static bool refuse_unsupported(struct anthropic_lowering *to, const json_val *root)
{
	static const char *const services[] = {"container", "mcp_servers"};
	for (size_t i = 0; i < sizeof services / sizeof *services; i++) {
		const json_val *given = json_get_some(root, services[i]);
		if (given && !(json_type(given) == JSON_ARRAY && json_len(given) == 0))
			return chat_refuse(to->error, services[i], "%s is not supported: nothing here runs tools for you.", services[i]);
	}
	for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
		if (json_get_some(root, foreign[i]))
			return chat_refuse(to->error, foreign[i],
			                   "%s does not belong to this API: see max_tokens, stop_sequences and "
			                   "output_config.",
			                   foreign[i]);
	return true;
}

static void copy_unknown(struct anthropic_lowering *to, const json_val *root)
{
	struct json_iter iter = json_iter(root);
	struct str key;
	for (json_val *value; (value = json_next(&iter, &key));) {
		if (is_among(key, known, sizeof known / sizeof *known) || is_among(key, foreign, sizeof foreign / sizeof *foreign))
			continue;
		json_key_str(&to->w, key);
		json_value(&to->w, value);
	}
}

/* Counting makes no output, so that it does not ask how much is allowed. */
static bool lower_task(struct anthropic_lowering *to, const json_val *root, enum chat_task task)
{
	if (task != CHAT_TASK_COUNT)
		return put_int(to, root, "max_tokens", 1, MAX_OUTPUT_TOKENS, true);
	json_put_str(&to->w, "endpoint", STR(CHAT_ENDPOINT_COUNT));
	json_put_i64(&to->w, "max_tokens", 1);
	return true;
}

static bool lower(struct anthropic_lowering *to, const json_val *root, enum chat_task task, struct anthropic_state *state)
{
	if (json_type(root) != JSON_OBJECT)
		return chat_refuse(to->error, NULL, "The request body must be a JSON object.");
	json_begin_object(&to->w);
	if (!lower_model(to, root) || !lower_task(to, root, task) || !anthropic_lower_messages(to, root) ||
	    !refuse_unsupported(to, root) || !anthropic_lower_tools(to, root) || !lower_stops(to, root) ||
	    !put_share(to, root, "temperature") || !put_share(to, root, "top_p") ||
	    !put_int(to, root, "top_k", 0, INT32_MAX, false) || (task == CHAT_TASK_ANSWER && !lower_stream(to, root)) ||
	    !lower_thinking(to, root, state) || !lower_output(to, root) || !lower_metadata(to, root))
		return false;
	copy_unknown(to, root);
	json_end_object(&to->w);
	return !to->body.failed || chat_refuse(to->error, NULL, "The request body is too large.");
}

static bool parse(struct str body, enum chat_task task, struct arena *arena, struct chat_request *out, struct api_error *error)
{
	struct anthropic_lowering to = {.arena = arena, .error = error};
	struct anthropic_state *state = arena_alloc(arena, sizeof *state);
	struct json_doc *doc = lower_read(body, error);
	*out = (struct chat_request){0};
	buf_init(&to.body, BODY_MAX);
	json_writer_init(&to.w, &to.body);
	bool ok = doc && (!state || lower(&to, json_root(doc), task, state)) && lower_finish(&to.body, arena, state, out, error);
	json_free(doc);
	buf_free(&to.body);
	return ok;
}

bool anthropic_parse(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error)
{
	return parse(body, CHAT_TASK_ANSWER, arena, out, error);
}

bool anthropic_parse_count(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error)
{
	return parse(body, CHAT_TASK_COUNT, arena, out, error);
}
