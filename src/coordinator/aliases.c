#include "coordinator/aliases.h"

#include <stdlib.h>

#include "coordinator/store/store_aliases.h"
#include "core/log.h"

struct aliases {
	struct store *store;
	struct fleet *fleet;
	store_done_fn loaded;
	void *user;
};

/* --- documents --- */

static void put_health(struct json_writer *w, const char *name, const struct alias_health *health)
{
	json_key(w, name);
	json_begin_object(w);
	json_put_double(w, "requests", health->requests);
	json_put_double(w, "faults", health->faults);
	json_put_double(w, "ttft_ms", health->ttft_ms);
	json_end_object(w);
}

static void put_strings(struct json_writer *w, const char *name, const struct alias *alias)
{
	json_key(w, name);
	json_begin_array(w);
	for (size_t i = 0; i < alias->retired_count; i++)
		json_cstr(w, alias->retired[i]);
	json_end_array(w);
}

/* How far the providers that were told are. */
static void put_states(const struct aliases *aliases, struct json_writer *w, const struct alias *alias)
{
	size_t states[FLEET_BUILD_STATES];
	fleet_build_counts(aliases->fleet, str_of(alias->desired), states);
	json_key(w, "desired_on_providers");
	json_begin_object(w);
	for (int state = 0; state < FLEET_BUILD_STATES; state++)
		json_put_i64(w, fleet_build_state_name((enum fleet_build_state)state), (int64_t)states[state]);
	json_end_object(w);
}

void aliases_write(const struct aliases *aliases, struct json_writer *w, const struct alias *alias, bool with_health)
{
	json_begin_object(w);
	json_put_cstr(w, "alias_id", alias->id);
	json_put_cstr(w, "display_name", alias->display_name);
	json_put_cstr(w, "desired_build", alias->desired);
	if (alias->previous[0])
		json_put_cstr(w, "previous_build", alias->previous);
	if (alias->weight_hash[0])
		json_put_cstr(w, "desired_weight_hash", alias->weight_hash);
	put_strings(w, "retired_builds", alias);
	json_put_bool(w, "active", alias->active);
	json_put_cstr(w, "state", alias_state_name(alias->state));
	json_put_i64(w, "share_percent", alias->share_percent);
	if (alias->why[0])
		json_put_cstr(w, "rolled_back_because", alias->why);
	if (with_health) {
		struct alias_health desired, previous;
		fleet_alias_health(aliases->fleet, str_of(alias->id), &desired, &previous);
		put_health(w, "desired_health", &desired);
		put_states(aliases, w, alias);
		if (alias->previous[0])
			put_health(w, "previous_health", &previous);
	}
	json_end_object(w);
}

/* Absent is fine and leaves *out empty. */
static bool read_text(const json_val *root, const char *name, struct str *out)
{
	const json_val *value = json_get_some(root, name);
	*out = STR_NONE;
	return !value || json_as_str(value, out);
}

static bool read_into(const json_val *root, const char *name, char *out, size_t size)
{
	struct str text;
	return read_text(root, name, &text) && str_copy(text, out, size);
}

static bool read_state(const json_val *root, struct alias *out)
{
	struct str text;
	if (!read_text(root, "state", &text))
		return false;
	for (int state = ALIAS_STEADY; state <= ALIAS_ROLLED_BACK; state++)
		if (str_is(text, alias_state_name((enum alias_state)state))) {
			out->state = (enum alias_state)state;
			return true;
		}
	return false;
}

static bool read_retired(const json_val *root, struct alias *out)
{
	const json_val *list = json_get(root, "retired_builds");
	struct json_iter iter = json_iter(list);
	if (json_type(list) != JSON_ARRAY || json_len(list) > ALIAS_RETIRED_MAX)
		return false;
	for (const json_val *one; (one = json_next(&iter, NULL)); out->retired_count++) {
		struct str build;
		if (!json_as_str(one, &build) || !str_copy(build, out->retired[out->retired_count], sizeof out->retired[0]))
			return false;
	}
	return true;
}

enum db_err aliases_read_document(struct str document, struct alias *out)
{
	int64_t share = ALIAS_WHOLE;
	struct json_doc *doc = json_parse(document, NULL, NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	*out = (struct alias){0};
	bool good = root && read_into(root, "alias_id", out->id, sizeof out->id) &&
	            read_into(root, "display_name", out->display_name, sizeof out->display_name) &&
	            read_into(root, "desired_build", out->desired, sizeof out->desired) &&
	            read_into(root, "previous_build", out->previous, sizeof out->previous) &&
	            read_into(root, "desired_weight_hash", out->weight_hash, sizeof out->weight_hash) &&
	            read_into(root, "rolled_back_because", out->why, sizeof out->why) &&
	            json_as_bool(json_get(root, "active"), &out->active) && json_as_i64(json_get(root, "share_percent"), &share) &&
	            share >= 0 && share <= ALIAS_WHOLE && read_state(root, out) && read_retired(root, out);
	out->share_percent = (uint32_t)share;
	json_free(doc);
	return good ? DB_OK : DB_E_INVALID;
}

/* --- start --- */

static void on_listed(const struct store_alias *rows, size_t count, const struct error *error, void *user)
{
	struct aliases *aliases = user;
	for (size_t i = 0; !error && i < count; i++) {
		struct alias alias;
		if (aliases_read_document(str_of(rows[i].document), &alias) || alias_restore(fleet_aliases(aliases->fleet), &alias))
			log_error("alias.unreadable", "id=%s", rows[i].id);
	}
	aliases->loaded(error, aliases->user);
}

struct aliases *aliases_new(struct store *store, struct fleet *fleet, store_done_fn done, void *user)
{
	struct aliases *aliases = calloc(1, sizeof *aliases);
	if (!aliases)
		return NULL;
	*aliases = (struct aliases){.store = store, .fleet = fleet, .loaded = done, .user = user};
	store_aliases_list(store, on_listed, aliases);
	return aliases;
}

void aliases_free(struct aliases *aliases)
{
	free(aliases);
}

/* --- changes --- */

static enum db_err save(struct aliases *aliases, struct str id, store_done_fn done, void *user)
{
	struct buf document;
	struct json_writer w;
	const struct alias *alias = alias_find(fleet_aliases(aliases->fleet), id);
	buf_init(&document, STORE_ALIAS_DOC_SIZE);
	json_writer_init(&w, &document);
	aliases_write(aliases, &w, alias, false);
	enum db_err err = document.failed ? DB_E_NOMEM : store_alias_save(aliases->store, id, buf_str(&document), done, user);
	buf_free(&document);
	return err;
}

void aliases_keep(struct aliases *aliases, struct str id)
{
	const struct alias *alias = alias_find(fleet_aliases(aliases->fleet), id);
	if (!alias)
		return;
	log_warn("alias.moved", "alias=%s state=%s share=%u why=\"%s\"", alias->id, alias_state_name(alias->state),
	         (unsigned)alias->share_percent, alias->why);
	if (save(aliases, id, NULL, NULL))
		log_error("alias.not_kept", "alias=%s", alias->id);
}

static bool read_flag(const json_val *root, const char *name, bool *out)
{
	const json_val *value = json_get_some(root, name);
	return !value || json_as_bool(value, out);
}

static enum db_err read_change(const json_val *root, struct alias_change *change, struct error *error)
{
	static const struct {
		const char *name;
		size_t at;
	} texts[] = {{"alias_id", offsetof(struct alias_change, id)},
	             {"display_name", offsetof(struct alias_change, display_name)},
	             {"desired_build", offsetof(struct alias_change, desired)},
	             {"previous_build", offsetof(struct alias_change, previous)},
	             {"desired_weight_hash", offsetof(struct alias_change, weight_hash)}};
	bool active = true;
	int64_t share = 0;
	if (json_type(root) != JSON_OBJECT)
		return error_set(error, DB_E_INVALID, "The body must be {\"alias_id\": ..., \"desired_build\": ...}.");
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (!read_text(root, texts[i].name, (struct str *)((char *)change + texts[i].at)))
			return error_set(error, DB_E_INVALID, "%s must be text.", texts[i].name);
	if (!read_flag(root, "active", &active) || !read_flag(root, "takeover", &change->takeover) ||
	    !read_flag(root, "canary", &change->canary))
		return error_set(error, DB_E_INVALID, "active, takeover and canary must be true or false.");
	const json_val *given = json_get_some(root, "share_percent");
	if (given && (!json_as_i64(given, &share) || share < 1 || share > ALIAS_WHOLE))
		return error_set(error, DB_E_INVALID, "share_percent must be a whole number from 1 to 100.");
	change->inactive = !active;
	change->share_percent = (uint32_t)share;
	return DB_OK;
}

enum db_err aliases_put(struct aliases *aliases, struct str body, store_done_fn done, void *user, struct error *error)
{
	struct alias_change change = {0};
	struct json_doc *doc = json_parse(body, NULL, error);
	enum db_err err = doc ? read_change(json_root(doc), &change, error) : DB_E_INVALID;
	if (!err)
		err = fleet_alias_put(aliases->fleet, &change, error);
	if (!err && save(aliases, change.id, done, user))
		err = error_set(error, DB_E_NOMEM, "The alias holds until the next start, but it cannot be kept: try again.");
	json_free(doc);
	return err;
}

enum db_err aliases_remove(struct aliases *aliases, struct str id, store_done_fn done, void *user)
{
	enum db_err err = fleet_alias_remove(aliases->fleet, id);
	if (!err)
		store_alias_remove(aliases->store, id, done, user);
	return err;
}
