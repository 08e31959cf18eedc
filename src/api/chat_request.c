#include "api/chat_request.h"

#include "api/chat_internal.h"
#include "api/tool_schema.h"

#define MAX_OUTPUT_TOKENS INT64_C(1000000000)
#define MAX_CACHE_KEY     512 /* bytes, http-api 2.3 */

/* A member of the body that does not travel as it stands. Texts are slices of the body. */
enum edit_kind { EDIT_MODEL, EDIT_MAX_TOKENS, EDIT_DROP, EDIT_TOOLS };
struct chat_edit {
	enum edit_kind kind;
	struct str key, value; /* the key with its quotes */
	struct str text;       /* EDIT_TOOLS: what replaces the value */
};

static bool no_memory(struct api_error *error)
{
	return api_fail(error, 503, "service_unavailable", NULL, NULL, "The request needs more memory than there is.");
}

static bool parse_limits(struct chat_request *request, struct api_error *error)
{
	static const char *const names[] = {"max_tokens", "max_completion_tokens", "max_output_tokens"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		int64_t value = 0;
		bool given = false;
		if (!chat_get_int(request->root, names[i], 1, MAX_OUTPUT_TOKENS, &given, &value, error))
			return false;
		if (given && request->max_tokens == 0)
			request->max_tokens = value;
	}
	bool given = false;
	request->n = 1;
	if (!chat_get_int(request->root, "n", 1, CHAT_MAX_CHOICES, &given, &request->n, error))
		return false;
	return chat_request_answers(request) <= CHAT_MAX_ANSWERS ||
	       chat_refuse(error, "n", "A request may ask for at most %d answers, those to all its prompts together.",
	                   CHAT_MAX_ANSWERS);
}

static bool parse_stream(struct chat_request *request, struct api_error *error)
{
	if (!chat_get_bool(request->root, "stream", &request->stream, error))
		return false;
	const json_val *options = json_get_some(request->root, "stream_options");
	if (!options)
		return true;
	if (json_type(options) != JSON_OBJECT)
		return chat_refuse(error, "stream_options", "stream_options must be an object.");
	const json_val *include = json_get_some(options, "include_usage");
	if (include && !json_as_bool(include, &request->include_usage))
		return chat_refuse(error, "stream_options", "stream_options.include_usage must be true or false.");
	return true;
}

static bool parse_strings(struct chat_request *request, struct api_error *error)
{
	const json_val *key = json_get_some(request->root, "prompt_cache_key"), *user = json_get_some(request->root, "user");
	struct str name = STR_NONE;
	if (json_as_str(json_get(request->root, "endpoint"), &name))
		request->task = str_is(name, CHAT_ENDPOINT_EMBED)   ? CHAT_TASK_EMBED
		                : str_is(name, CHAT_ENDPOINT_COUNT) ? CHAT_TASK_COUNT
		                                                    : CHAT_TASK_ANSWER;
	name = STR_NONE;
	request->shortens = json_as_str(json_get(request->root, "truncation"), &name) && str_is(name, "auto");
	name = STR_NONE;
	if (user && !json_as_str(user, &name))
		return chat_refuse(error, "user", "user must be a string.");
	request->cache_scope = name;
	if (key && (!json_as_str(key, &name) || name.len > MAX_CACHE_KEY))
		return chat_refuse(error, "prompt_cache_key", "prompt_cache_key must be a string of at most %d bytes.", MAX_CACHE_KEY);
	if (key)
		request->cache_scope = name;
	return true;
}

/* How other programs sample or hold an answer, by names that no parameter here has: honoured they are not, and ignored they
 * would change an answer without a word. Switched off (null, false, zero, or a penalty of one) they are no wish. */
static bool refuse_foreign_samplers(const json_val *root, struct api_error *error)
{
	static const char *const names[] = {"mirostat",       "dry_multiplier", "xtc_probability", "tfs_z",         "top_a",
	                                    "repeat_penalty", "length_penalty", "use_beam_search", "grammar",       "guided_json",
	                                    "guided_grammar", "guided_regex",   "guided_choice",   "dynatemp_range"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const json_val *value = json_get_some(root, names[i]);
		double number;
		bool wish = false, neutral = !value || (json_as_bool(value, &wish) && !wish) ||
		                             (json_as_double(value, &number) && (number == 0 || number == 1));
		if (!neutral)
			return chat_refuse(error, names[i], "%s is not supported.", names[i]);
	}
	return true;
}

/* What the API knows but no model here can do is refused, never ignored. */
static bool refuse_unsupported(const struct chat_request *request, struct api_error *error)
{
	if (json_get_some(request->root, "functions") || json_get_some(request->root, "function_call"))
		return chat_refuse(error, "functions", "functions and function_call are not supported: use tools and tool_choice.");
	if (json_get_some(request->root, "audio"))
		return chat_refuse(error, "audio", "Audio output is not supported.");
	const json_val *modalities = json_get_some(request->root, "modalities");
	if (modalities && json_type(modalities) != JSON_ARRAY)
		return chat_refuse(error, "modalities", "modalities must be an array.");
	struct json_iter iter = json_iter(modalities);
	struct str name;
	for (json_val *member; (member = json_next(&iter, NULL));)
		if (!json_as_str(member, &name) || !str_is(name, "text"))
			return chat_refuse(error, "modalities", "Only the text modality is supported.");
	return true;
}

static bool parse_model(struct chat_request *request, struct api_error *error)
{
	const json_val *model = json_get_some(request->root, "model");
	if (!model)
		return chat_refuse(error, "model", "model is required.");
	if (!json_as_str(model, &request->model) || request->model.len == 0)
		return chat_refuse(error, "model", "model must be a non-empty string.");
	return true;
}

/* --- the members that forwarding changes --- */

static bool normalised_tools(const struct chat_request *request, struct arena *arena, struct str *text)
{
	*text = STR_NONE;
	if (!request->has_tools || request->body.len > TOOL_SCHEMA_MAX_BODY || !tool_schema_needs_change(request->tools))
		return true;
	struct buf out;
	struct json_writer w;
	buf_init(&out, 2 * TOOL_SCHEMA_MAX_BODY);
	json_writer_init(&w, &out);
	tool_schema_write(&w, request->tools);
	bool ok = !out.failed;
	if (ok) {
		*text = arena_str(arena, buf_str(&out));
		ok = text->at != NULL;
	}
	buf_free(&out);
	return ok;
}

static bool edit_of(struct str key, struct str tools, struct chat_edit *edit)
{
	if (json_raw_key_is(key, "model"))
		edit->kind = EDIT_MODEL;
	else if (json_raw_key_is(key, "max_tokens"))
		edit->kind = EDIT_MAX_TOKENS;
	else if (chat_places_is_member(key))
		edit->kind = EDIT_DROP;
	else if (tools.at && json_raw_key_is(key, "tools"))
		edit->kind = EDIT_TOOLS;
	else
		return false;
	return true;
}

/* One pass over the body's members: the edits, and the bytes that bound the prompt's tokens. */
static bool find_edits(struct chat_request *request, struct arena *arena, struct api_error *error)
{
	struct str tools, key, value;
	size_t members = json_len(request->root);
	struct chat_edit *edits = arena_alloc(arena, (members + 1) * sizeof *edits);
	if (!edits || !normalised_tools(request, arena, &tools))
		return no_memory(error);
	struct json_raw_iter iter = json_raw_iter(request->body);
	enum db_err err;
	while ((err = json_raw_next(&iter, &key, &value)) == DB_OK) {
		struct chat_edit edit = {.key = key, .value = value, .text = tools};
		if (json_raw_key_is(key, request->prompt ? "prompt" : "messages") || json_raw_key_is(key, "tools"))
			request->prompt_bound_tokens += value.len;
		if (request->edit_count < members && edit_of(key, tools, &edit))
			edits[request->edit_count++] = edit;
	}
	if (err != DB_E_CLOSED)
		return chat_refuse(error, NULL, "The request body is not valid JSON.");
	request->edits = edits;
	return true;
}

static bool parse_said(struct chat_request *request, struct api_error *error)
{
	struct str endpoint;
	if (json_as_str(json_get(request->root, "endpoint"), &endpoint) && str_is(endpoint, "/v1/completions"))
		return chat_prompt_parse(request->root, request, error);
	return chat_messages_parse(request->root, request, error);
}

bool chat_request_parse(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error)
{
	struct error why;
	*out = (struct chat_request){.body = body};
	struct json_doc *doc = json_parse(body, arena, &why);
	if (!doc && why.code == DB_E_NOMEM)
		return no_memory(error);
	if (!doc)
		return chat_refuse(error, NULL, "The request body cannot be read. %s", why.text);
	out->root = json_root(doc);
	if (json_type(out->root) != JSON_OBJECT)
		return chat_refuse(error, NULL, "The request body must be a JSON object.");
	if (!parse_model(out, error) || !parse_said(out, error) || !parse_limits(out, error) || !parse_stream(out, error) ||
	    !chat_places_parse(out->root, arena, &out->places, error) || !parse_strings(out, error) ||
	    !refuse_unsupported(out, error) || !refuse_foreign_samplers(out->root, error) ||
	    !chat_tools_parse(out->root, out, error) || !chat_sampling_parse(out->root, arena, &out->sampling, error))
		return false;
	if (out->max_tokens > 0 && out->sampling.min_tokens > out->max_tokens)
		return chat_refuse(error, "min_tokens", "min_tokens must not be above max_tokens.");
	return find_edits(out, arena, error);
}

/* --- forwarding --- */

static void put_member(struct json_writer *w, const struct chat_edit *edit, struct str build_id, int64_t max_tokens)
{
	switch (edit->kind) {
	case EDIT_MODEL:
		json_put_str(w, "model", build_id);
		break;
	case EDIT_MAX_TOKENS:
		json_put_i64(w, "max_tokens", max_tokens);
		break;
	case EDIT_TOOLS:
		json_key(w, "tools");
		json_raw(w, edit->text);
		break;
	case EDIT_DROP:
		break;
	}
}

/* Unchanged members between two edits, without the commas around them. */
static void put_between(struct json_writer *w, const char *from, const char *to)
{
	struct str members = str_trim((struct str){from, (size_t)(to - from)});
	if (members.len > 0 && members.at[0] == ',')
		members = str_trim(str_sub(members, 1, members.len));
	if (members.len > 0 && members.at[members.len - 1] == ',')
		members = str_trim(str_sub(members, 0, members.len - 1));
	if (members.len > 0)
		json_raw(w, members);
}

enum db_err chat_request_forward(const struct chat_request *request, struct str build_id, int64_t max_tokens, struct buf *out)
{
	struct json_writer w;
	struct str body = str_trim(request->body);
	const char *from = body.at + 1, *end = body.at + body.len - 1; /* inside the braces */
	bool done[EDIT_TOOLS + 1] = {false};
	enum db_err err = buf_reserve(out, body.len + build_id.len + 64);
	if (err)
		return err;
	json_writer_init(&w, out);
	json_begin_object(&w);
	for (size_t i = 0; i < request->edit_count; i++) {
		const struct chat_edit *edit = &request->edits[i];
		put_between(&w, from, edit->key.at);
		if (!done[edit->kind]) /* of duplicates only the first stays */
			put_member(&w, edit, build_id, max_tokens);
		done[edit->kind] = true;
		from = edit->value.at + edit->value.len;
	}
	put_between(&w, from, end);
	if (!done[EDIT_MAX_TOKENS])
		json_put_i64(&w, "max_tokens", max_tokens);
	json_end_object(&w);
	return out->failed ? DB_E_LIMIT : DB_OK;
}
