/* Which models can be asked for (http-api 2.11): those that connected providers advertise. */
#include "coordinator/server.h"

#include "coordinator/models.h"

static uint64_t version(void *user)
{
	const struct server *server = user;
	return fleet_models_version(server_rooms(server)->fleet);
}

static size_t views(void *user, struct route_model_view *out, size_t max)
{
	const struct server *server = user;
	return fleet_models(server_rooms(server)->fleet, out, max);
}

static struct price price(void *user, struct str model)
{
	const struct server *server = user;
	return ledger_price(server_rooms(server)->ledger, STR_NONE, model, false);
}

struct models *model_routes_new(struct server *server)
{
	struct models_source source = {
	    .version = version, .views = views, .price = price, .user = server, .created_s = server_started_s(server)};
	return models_new(&source);
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

/* include_builds changes nothing as long as no alias hides a build. */
void handle_models(struct server *server, struct exchange *exchange)
{
	answer(exchange, models_list(server_models(server)));
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
	if (entry.len > 0) {
		exchange_json(exchange, 200, entry);
		return;
	}
	struct api_error error;
	api_fail(&error, 404, "model_not_found", NULL, "model",
	         "No provider offers this model: GET /v1/models lists those that can be used.");
	exchange_error(exchange, &error);
}
