#include "api/lower.h"

bool lower_no_memory(struct api_error *error)
{
	return api_fail(error, 503, "service_unavailable", NULL, NULL, "The request needs more memory than there is.");
}

json_val *lower_body(struct str body, struct arena *arena, struct api_error *error)
{
	struct error why;
	struct json_doc *doc = json_parse(body, arena, &why);
	json_val *root = doc ? json_root(doc) : NULL;
	if (!doc && why.code == DB_E_NOMEM)
		lower_no_memory(error);
	else if (!doc)
		chat_refuse(error, NULL, "The request body cannot be read. %s", why.text);
	else if (json_type(root) != JSON_OBJECT)
		chat_refuse(error, NULL, "The request body must be a JSON object.");
	else
		return root;
	return NULL;
}

static bool is_handled(struct str quoted_key, const char *const *handled)
{
	for (; *handled; handled++)
		if (json_raw_key_is(quoted_key, *handled))
			return true;
	return false;
}

void lower_copy_others(struct json_writer *w, struct str body, const char *const *handled)
{
	struct json_raw_iter iter = json_raw_iter(body);
	struct str key, value;
	while (json_raw_next(&iter, &key, &value) == DB_OK) {
		if (is_handled(key, handled))
			continue;
		struct str name = str_sub(key, 1, key.len - 2);
		if (memchr(name.at, '\\', name.len)) /* an escaped name is none that anybody looks for */
			continue;
		json_key_str(w, name);
		json_raw(w, value);
	}
}

struct json_doc *lower_read(struct str body, struct api_error *error)
{
	struct error why;
	struct json_doc *doc = json_parse(body, NULL, &why);
	if (!doc && why.code == DB_E_NOMEM)
		lower_no_memory(error);
	else if (!doc)
		chat_refuse(error, NULL, "The request body cannot be read. %s", why.text);
	return doc;
}

bool lower_finish(const struct buf *lowered, struct arena *arena, void *state, struct chat_request *out,
                  struct api_error *error)
{
	struct str body = state ? arena_str(arena, buf_str(lowered)) : STR_NONE;
	if (!body.at)
		return lower_no_memory(error);
	bool ok = chat_request_parse(body, arena, out, error);
	out->dialect_state = state;
	return ok;
}

bool lower_parse(struct buf *lowered, struct arena *arena, struct chat_request *out, struct api_error *error)
{
	struct str body = lowered->failed ? STR_NONE : arena_str(arena, buf_str(lowered));
	bool too_large = lowered->failed;
	buf_free(lowered);
	if (too_large)
		return api_fail(error, 413, "invalid_request_error", NULL, NULL, "The request body is too large.");
	if (!body.at)
		return lower_no_memory(error);
	return chat_request_parse(body, arena, out, error);
}

void lower_rename_param(struct api_error *error, const struct lower_name *names)
{
	for (; error->param && names->chat; names++)
		if (strcmp(error->param, names->chat) == 0) {
			error->param = names->own;
			return;
		}
}

bool lower_get_str(const json_val *root, const char *name, struct str *out, struct api_error *error)
{
	const json_val *value = json_get_some(root, name);
	return !value || json_as_str(value, out) || chat_refuse(error, name, "%s must be a string.", name);
}
