#include "coordinator/accounts/key_json.h"

#include "coordinator/accounts/accounts.h"
#include "coordinator/money/pricing.h"
#include "coordinator/money/spend.h"
#include "core/clock.h"

#define LIMIT_MAX_UUSD INT64_C(1000000000000000)
#define RATE_MAX       INT64_C(1000000000000)
#define MODELS_MAX     64
#define UUSD_PER_USD   1e6

static const char *const window_names[] = {"none", "daily", "weekly", "monthly"};
static const struct {
	const char *name;
	unsigned scope;
} scope_names[] = {
    {"inference", SCOPE_INFERENCE}, {"keys", SCOPE_KEYS}, {"account", SCOPE_ACCOUNT}, {"payouts", SCOPE_PAYOUTS}};
#define SCOPE_NAMES (sizeof scope_names / sizeof *scope_names)

/* One body on its way into a key. */
struct reader {
	struct str body; /* as it came: amounts are read as they stand there */
	struct store_key *key;
	unsigned *fields;
	bool is_patch;
	int64_t now_us;
	struct api_error *error;
};

static bool bad(struct reader *r, const char *param, const char *what)
{
	return api_fail(r->error, 400, "bad_request", NULL, param, "%s %s", param, what);
}

/* --- one field each --- */

static bool read_name(struct reader *r, const json_val *val)
{
	struct str name;
	if (!json_as_str(val, &name) || name.len >= sizeof r->key->name)
		return bad(r, "name", "must be a text of at most 127 bytes.");
	for (size_t i = 0; i < name.len; i++)
		if ((unsigned char)name.at[i] < 0x20 || name.at[i] == 0x7f)
			return bad(r, "name", "must have no control characters.");
	*r->fields |= STORE_KEY_NAME;
	return str_copy(name, r->key->name, sizeof r->key->name);
}

static bool read_limit(struct reader *r, const json_val *val)
{
	static const char *const path[] = {"limit_usd", NULL};
	struct str text;
	int64_t limit_uusd = 0;
	bool cleared = json_type(val) == JSON_NULL;
	if (!cleared && (json_raw_member(r->body, path, &text) || price_parse_number(text, LIMIT_MAX_UUSD, &limit_uusd)))
		return bad(r, "limit_usd", "must be dollars of at least 0, or null for no limit.");
	r->key->limited = !cleared;
	r->key->limit_uusd = limit_uusd;
	*r->fields |= STORE_KEY_LIMIT;
	return true;
}

static bool read_reset(struct reader *r, const json_val *val)
{
	struct str name;
	if (!json_as_str(val, &name))
		return bad(r, "limit_reset", "must be none, daily, weekly or monthly.");
	int window = STORE_WINDOW_MONTH;
	while (window > STORE_WINDOW_NEVER && !str_is(name, window_names[window]))
		window--;
	bool known = window > STORE_WINDOW_NEVER || name.len == 0 || str_is(name, window_names[STORE_WINDOW_NEVER]);
	if (!known && !r->is_patch)
		return bad(r, "limit_reset", "must be none, daily, weekly or monthly.");
	r->key->limit_reset = (enum store_window)window;
	*r->fields |= STORE_KEY_RESET;
	return true;
}

static bool read_rate(struct reader *r, const json_val *val, const char *param, enum store_key_field field, int64_t *out)
{
	int64_t rate = 0;
	if (json_type(val) != JSON_NULL && (!json_as_i64(val, &rate) || rate < 0 || rate > RATE_MAX))
		return bad(r, param, "must be a whole number of at least 0, or null for what the account may.");
	*out = rate;
	*r->fields |= field;
	return true;
}

static bool read_rpm(struct reader *r, const json_val *val)
{
	return read_rate(r, val, "rpm_limit", STORE_KEY_RPM, &r->key->rpm);
}

static bool read_itpm(struct reader *r, const json_val *val)
{
	return read_rate(r, val, "itpm_limit", STORE_KEY_ITPM, &r->key->itpm);
}

static bool read_otpm(struct reader *r, const json_val *val)
{
	return read_rate(r, val, "otpm_limit", STORE_KEY_OTPM, &r->key->otpm);
}

/* A model's name can stand in a line. */
static bool is_model(struct str name)
{
	for (size_t i = 0; i < name.len; i++)
		if ((unsigned char)name.at[i] <= 0x20 || name.at[i] == 0x7f)
			return false;
	return name.len > 0 && name.len < STORE_MODEL_SIZE;
}

static bool read_models(struct reader *r, const json_val *val)
{
	enum json_type type = json_type(val);
	struct buf lines;
	if (type != JSON_NULL && (type != JSON_ARRAY || json_len(val) > MODELS_MAX))
		return bad(r, "allowed_models", "must be a list of at most 64 models, or null for all.");
	buf_init(&lines, 64u << 10);
	struct json_iter models = json_iter(val);
	bool good = true;
	for (const json_val *model; good && (model = json_next(&models, NULL));) {
		struct str name;
		good = json_as_str(model, &name) && is_model(name);
		if (good && lines.len > 0)
			buf_append_byte(&lines, '\n');
		if (good)
			buf_append(&lines, name.at, name.len);
	}
	good = good && !lines.failed && str_copy(buf_str(&lines), r->key->allowed_models, sizeof r->key->allowed_models);
	buf_free(&lines);
	*r->fields |= STORE_KEY_MODELS;
	return good || bad(r, "allowed_models", "must name models as GET /v1/models does, in at most 2,000 bytes.");
}

static bool read_bool(struct reader *r, const json_val *val, const char *param, enum store_key_field field, bool *out)
{
	*r->fields |= field;
	return json_as_bool(val, out) || bad(r, param, "must be true or false.");
}

static bool read_self_route(struct reader *r, const json_val *val)
{
	return read_bool(r, val, "self_route_only", STORE_KEY_SELF_ROUTE, &r->key->self_route_only);
}

static bool read_disabled(struct reader *r, const json_val *val)
{
	return read_bool(r, val, "disabled", STORE_KEY_DISABLED, &r->key->disabled);
}

static bool read_expiry(struct reader *r, const json_val *val)
{
	struct str text;
	int64_t at_us = 0;
	if (json_type(val) != JSON_NULL &&
	    (!json_as_str(val, &text) || clock_parse_rfc3339(text, &at_us) != DB_OK || at_us <= r->now_us))
		return bad(r, "expires_at", "must be a time to come such as 2030-01-01T00:00:00Z, or null for never.");
	r->key->expires_us = at_us;
	*r->fields |= STORE_KEY_EXPIRES;
	return true;
}

static bool add_scope(const json_val *val, unsigned *scopes)
{
	struct str name;
	for (size_t i = 0; i < SCOPE_NAMES && json_as_str(val, &name); i++)
		if (str_is(name, scope_names[i].name)) {
			*scopes |= scope_names[i].scope;
			return true;
		}
	return false;
}

static bool read_scopes(struct reader *r, const json_val *val)
{
	unsigned scopes = 0;
	bool good = json_type(val) == JSON_ARRAY;
	struct json_iter names = json_iter(val);
	for (const json_val *name; good && (name = json_next(&names, NULL));)
		good = add_scope(name, &scopes);
	r->key->scopes = scopes;
	*r->fields |= STORE_KEY_SCOPES;
	return good || bad(r, "scopes", "must be a list of inference, keys, account and payouts.");
}

/* --- the body --- */

static const struct {
	const char *name;
	bool (*read)(struct reader *r, const json_val *val);
	bool is_patch_only;
} members[] = {
    {"name", read_name, false},
    {"limit_usd", read_limit, false},
    {"limit_reset", read_reset, false},
    {"rpm_limit", read_rpm, false},
    {"itpm_limit", read_itpm, false},
    {"otpm_limit", read_otpm, false},
    {"allowed_models", read_models, false},
    {"self_route_only", read_self_route, false},
    {"expires_at", read_expiry, false},
    {"scopes", read_scopes, false},
    {"disabled", read_disabled, true},
};
#define MEMBERS (sizeof members / sizeof *members)

static bool read_member(struct reader *r, struct str name, const json_val *val)
{
	for (size_t i = 0; i < MEMBERS; i++) {
		bool is_it = str_is(name, members[i].name) && (r->is_patch || !members[i].is_patch_only);
		if (is_it && !r->is_patch && json_type(val) == JSON_NULL)
			return true; /* nothing given */
		if (is_it)
			return members[i].read(r, val);
	}
	return api_fail(r->error, 400, "bad_request", NULL, NULL, "A key has no field \"%.*s\" that can be set.",
	                (int)(name.len < 64 ? name.len : 64), name.at);
}

static bool read_body(struct reader *r, struct str body)
{
	struct error why;
	struct json_doc *doc = json_parse(body, NULL, &why);
	bool good = doc != NULL;
	if (!doc)
		return api_fail(r->error, 400, "bad_request", NULL, NULL, "The body is no JSON: %.200s", why.text);
	if (json_type(json_root(doc)) != JSON_OBJECT)
		good = api_fail(r->error, 400, "bad_request", NULL, NULL, "The body must be a JSON object.");
	struct json_iter iter = json_iter(json_root(doc));
	struct str name;
	for (const json_val *val; good && (val = json_next(&iter, &name));)
		good = read_member(r, name, val);
	json_free(doc);
	return good;
}

bool key_json_create(struct str body, int64_t now_us, struct store_key *terms, struct api_error *error)
{
	unsigned fields = 0;
	struct reader r = {.body = body, .key = terms, .fields = &fields, .now_us = now_us, .error = error};
	*terms = (struct store_key){.scopes = SCOPE_INFERENCE};
	return str_trim(body).len == 0 || read_body(&r, body);
}

bool key_json_patch(struct str body, int64_t now_us, struct store_key *key, unsigned *fields, struct api_error *error)
{
	struct reader r = {.body = body, .key = key, .fields = fields, .is_patch = true, .now_us = now_us, .error = error};
	bool had_expired = key->expires_us != 0 && key->expires_us <= now_us;
	*fields = 0;
	if (!read_body(&r, body))
		return false;
	if (had_expired && !(*fields & STORE_KEY_EXPIRES))
		return bad(&r, "expires_at", "of this key has passed: set it to a time to come, or to null, before anything else.");
	return true;
}

/* --- the object --- */

static void put_usd(struct json_writer *w, const char *name, int64_t uusd)
{
	json_put_double(w, name, (double)uusd / UUSD_PER_USD);
}

static void put_time(struct json_writer *w, const char *name, int64_t wall_us)
{
	char text[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(wall_us, text);
	json_put_cstr(w, name, text);
}

static void put_some(struct json_writer *w, const char *name, int64_t value)
{
	if (value != 0)
		json_put_i64(w, name, value);
}

static void put_models(struct json_writer *w, const char *lines)
{
	struct str rest = str_of(lines), line;
	json_key(w, "allowed_models");
	json_begin_array(w);
	while (rest.len > 0) {
		rest = str_cut(rest, '\n', &line);
		json_str(w, line);
	}
	json_end_array(w);
}

static void put_scopes(struct json_writer *w, unsigned scopes)
{
	json_key(w, "scopes");
	json_begin_array(w);
	for (size_t i = 0; i < SCOPE_NAMES; i++)
		if (scopes & scope_names[i].scope)
			json_cstr(w, scope_names[i].name);
	json_end_array(w);
}

void key_json_write(struct json_writer *w, const struct store_key *key)
{
	int64_t spent = spend_in(&key->spend, key->limit_reset);
	json_begin_object(w);
	json_put_cstr(w, "id", key->id);
	json_put_cstr(w, "name", key->name);
	json_put_cstr(w, "label", key->label);
	json_put_bool(w, "disabled", key->disabled);
	if (key->limited)
		put_usd(w, "limit_usd", key->limit_uusd);
	json_put_cstr(w, "limit_reset", window_names[key->limit_reset]);
	put_usd(w, "usage_usd", spent);
	if (key->limited)
		put_usd(w, "remaining_usd", key->limit_uusd > spent ? key->limit_uusd - spent : 0);
	put_some(w, "rpm_limit", key->rpm);
	put_some(w, "itpm_limit", key->itpm);
	put_some(w, "otpm_limit", key->otpm);
	if (key->allowed_models[0])
		put_models(w, key->allowed_models);
	json_put_bool(w, "self_route_only", key->self_route_only);
	put_scopes(w, key->scopes);
	if (key->expires_us)
		put_time(w, "expires_at", key->expires_us);
	put_time(w, "created_at", key->created_us);
	if (key->last_used_us)
		put_time(w, "last_used_at", key->last_used_us);
	json_end_object(w);
}
