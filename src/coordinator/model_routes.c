/* Which models can be asked for (http-api 2.11): those that connected providers advertise. */
#include "coordinator/server.h"

#include "coordinator/models.h"
#include "core/uri.h"

#include <stdlib.h>
#include <string.h>

static uint64_t version(void *user)
{
	const struct server *server = user;
	return fleet_models_version(server_rooms(server)->fleet);
}

static size_t builds(void *user, struct route_model_view *out, size_t max)
{
	const struct server *server = user;
	return fleet_models(server_rooms(server)->fleet, out, max);
}

static const struct route_model_view *find_view(const struct route_model_view *views, size_t count, const char *build)
{
	for (size_t i = 0; i < count; i++)
		if (str_is(views[i].id, build))
			return &views[i];
	return NULL;
}

/* Both builds as one model under the alias's name. */
static bool merge(const struct alias *alias, const struct route_model_view *views, size_t count, struct route_model_view *out)
{
	const struct route_model_view *desired = find_view(views, count, alias->desired);
	const struct route_model_view *previous = alias->previous[0] ? find_view(views, count, alias->previous) : NULL;
	if (!desired && !previous)
		return false;
	*out = desired ? *desired : *previous;
	out->id = str_of(alias->id);
	if (!desired || !previous)
		return true;
	out->nodes += previous->nodes;
	out->routable += previous->routable;
	out->warm += previous->warm;
	out->attested += previous->attested;
	out->active += previous->active;
	out->can &= previous->can; /* what either build may be asked */
	if (previous->best_trust > out->best_trust)
		out->best_trust = previous->best_trust;
	return true;
}

static int compare_views(const void *a, const void *b)
{
	const struct route_model_view *one = a, *two = b;
	size_t shorter = one->id.len < two->id.len ? one->id.len : two->id.len;
	int order = memcmp(one->id.at, two->id.at, shorter);
	return order ? order : (one->id.len > two->id.len) - (one->id.len < two->id.len);
}

/* What consumers are to ask for: an alias hides its builds (registry 3). */
static size_t views(void *user, struct route_model_view *out, size_t max)
{
	const struct server *server = user;
	const struct alias_table *table = fleet_aliases(server_rooms(server)->fleet);
	const struct alias *aliases[ALIAS_MAX];
	struct route_model_view *merged = NULL;
	size_t named = alias_list(table, aliases, ALIAS_MAX), shown = 0, kept = 0, count = builds(user, out, max);
	count = count < max ? count : max;
	if (named == 0 || !(merged = calloc(named, sizeof *merged)))
		return count;
	for (size_t i = 0; i < named; i++)
		shown += aliases[i]->active && merge(aliases[i], out, count, &merged[shown]);
	for (size_t i = 0; i < count; i++)
		if (!alias_covers(table, out[i].id))
			out[kept++] = out[i];
	for (size_t i = 0; i < shown && kept < max; i++)
		out[kept++] = merged[i];
	free(merged);
	qsort(out, kept, sizeof *out, compare_views);
	return kept;
}

/* Of an alias: the desired build's, which most requests get. */
static struct price price(void *user, struct str model)
{
	const struct server *server = user;
	const struct alias *alias = alias_find(fleet_aliases(server_rooms(server)->fleet), model);
	return ledger_price(server_rooms(server)->ledger, STR_NONE, alias ? str_of(alias->desired) : model, false);
}

static struct models *listing_of(struct server *server, size_t (*shown)(void *, struct route_model_view *, size_t))
{
	struct models_source source = {
	    .version = version, .views = shown, .price = price, .user = server, .created_s = server_started_s(server)};
	return models_new(&source);
}

struct models *model_routes_new(struct server *server)
{
	return listing_of(server, views);
}

struct models *model_routes_new_builds(struct server *server)
{
	return listing_of(server, builds);
}

static void answer(struct exchange *exchange, struct str body)
{
	struct api_error error;
	if (body.len > 0) {
		exchange_json(exchange, 200, body);
		return;
	}
	api_fail(&error, 500, "internal_error", NULL, NULL, "The models cannot be listed at the moment: try again.");
	exchange_error(exchange, &error);
}

/* ?include_builds=1 shows concrete builds in place of the aliases that hide them (http-api 2.11). */
void handle_models(struct server *server, struct exchange *exchange)
{
	char wanted[8];
	bool builds_too = uri_query(http_query(exchange->http), "include_builds", wanted, sizeof wanted) == DB_OK &&
	                  (strcmp(wanted, "1") == 0 || strcmp(wanted, "true") == 0);
	answer(exchange, models_list(builds_too ? server_builds(server) : server_models(server)));
}

void handle_models_openrouter(struct server *server, struct exchange *exchange)
{
	answer(exchange, models_openrouter(server_models(server)));
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	char lower = (char)(c | 0x20);
	return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Ids hold '/' and other characters that may arrive percent-encoded. */
static struct str percent_decoded(struct arena *arena, struct str text)
{
	char *out = arena_alloc(arena, text.len + 1);
	size_t len = 0;
	for (size_t i = 0; out && i < text.len; i++) {
		int high = text.at[i] == '%' && i + 2 < text.len ? hex_value(text.at[i + 1]) : -1;
		int low = high >= 0 ? hex_value(text.at[i + 2]) : -1;
		if (low >= 0) {
			out[len++] = (char)(high * 16 + low);
			i += 2;
		} else {
			out[len++] = text.at[i];
		}
	}
	return (struct str){out, len};
}

void handle_model(struct server *server, struct exchange *exchange)
{
	struct str path = http_path(exchange->http);
	size_t prefix = strlen("/v1/models/");
	struct str id = percent_decoded(http_arena(exchange->http), str_sub(path, prefix, path.len));
	struct str entry = models_one(server_models(server), id);
	if (!entry.len) /* a build that an alias hides */
		entry = models_one(server_builds(server), id);
	if (entry.len > 0) {
		exchange_json(exchange, 200, entry);
		return;
	}
	struct api_error error;
	api_fail(&error, 404, "model_not_found", NULL, "model",
	         "No provider offers this model: GET /v1/models lists those that can be used.");
	exchange_error(exchange, &error);
}
