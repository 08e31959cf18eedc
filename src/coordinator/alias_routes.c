/* /v1/admin/models/aliases: the operator's side of public names (registry 3). */
#include "coordinator/aliases.h"

#include "coordinator/server.h"
#include "core/uri.h"

#include <stdlib.h>

#define BODY_MAX (16u << 20)

/* A change that is on its way to the disk. */
struct change {
	struct server *server;
	struct exchange *exchange; /* NULL: the caller left */
	char id[ALIAS_ID_SIZE];
	bool removed;
};

static void refuse(struct exchange *exchange, int status, const char *type, const char *sentence)
{
	struct api_error error;
	api_fail(&error, status, type, NULL, NULL, "%s", sentence);
	if (status == 503)
		error.retry_after_s = 2;
	exchange_error(exchange, &error);
}

static void answer(struct exchange *exchange, struct buf *body)
{
	buf_append_byte(body, '\n');
	if (body->failed)
		refuse(exchange, 503, "service_unavailable", "There is not enough memory at the moment: try again.");
	else
		exchange_json(exchange, 200, buf_str(body));
	buf_free(body);
}

void handle_aliases(struct server *server, struct exchange *exchange)
{
	const struct alias *list[ALIAS_MAX];
	const struct server_rooms *rooms = server_rooms(server);
	size_t count = alias_list(fleet_aliases(rooms->fleet), list, ALIAS_MAX);
	struct buf body;
	struct json_writer w;
	buf_init(&body, BODY_MAX);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "aliases");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++)
		aliases_write(rooms->aliases, &w, list[i], true);
	json_end_array(&w);
	json_end_object(&w);
	answer(exchange, &body);
}

static void on_gone(struct exchange *exchange)
{
	struct change *change = exchange->owner;
	change->exchange = NULL;
}

static struct change *change_new(struct server *server, struct exchange *exchange)
{
	struct change *change = calloc(1, sizeof *change);
	if (!change) {
		refuse(exchange, 503, "service_unavailable", "There is not enough memory at the moment: try again.");
		return NULL;
	}
	change->server = server;
	change->exchange = exchange;
	exchange->owner = change;
	exchange->on_gone = on_gone;
	return change;
}

/* Whoever is left to be answered, NULL when nobody is. */
static struct exchange *release(struct change *change)
{
	struct exchange *exchange = change->exchange;
	if (exchange) {
		exchange->on_gone = NULL;
		exchange->owner = NULL;
	}
	free(change);
	return exchange;
}

static void write_result(const struct change *change, struct buf *body)
{
	struct json_writer w;
	const struct server_rooms *rooms = server_rooms(change->server);
	const struct alias *alias = alias_find(fleet_aliases(rooms->fleet), str_of(change->id));
	json_writer_init(&w, body);
	if (alias && !change->removed) {
		aliases_write(rooms->aliases, &w, alias, true);
		return;
	}
	json_begin_object(&w);
	json_put_bool(&w, "deleted", true);
	json_put_cstr(&w, "alias_id", change->id);
	json_end_object(&w);
}

static void on_kept(const struct error *error, void *user)
{
	struct change *change = user;
	struct buf body;
	buf_init(&body, BODY_MAX);
	write_result(change, &body);
	struct exchange *exchange = release(change);
	if (exchange && error)
		refuse(exchange, 503, "server_error", "The change holds until the next start, but it cannot be kept: try again.");
	else if (exchange) {
		answer(exchange, &body);
		return;
	}
	buf_free(&body);
}

static void fail(struct change *change, const struct error *error)
{
	struct exchange *exchange = release(change);
	switch (error->code) {
	case DB_E_EXISTS:
		refuse(exchange, 409, "conflict", error->text);
		break;
	case DB_E_NOT_FOUND:
		refuse(exchange, 404, "not_found", error->text);
		break;
	case DB_E_NOMEM:
		refuse(exchange, 503, "service_unavailable", error->text);
		break;
	default:
		refuse(exchange, 400, "bad_request", error->text);
	}
}

void handle_alias_put(struct server *server, struct exchange *exchange)
{
	struct error error = {0};
	struct str id = STR_NONE;
	struct change *change = change_new(server, exchange);
	if (!change)
		return;
	struct json_doc *doc = json_parse(exchange_body(exchange), NULL, NULL);
	if (doc && json_as_str(json_get(json_root(doc), "alias_id"), &id))
		(void)str_copy(id, change->id, sizeof change->id);
	json_free(doc);
	if (aliases_put(server_rooms(server)->aliases, exchange_body(exchange), on_kept, change, &error))
		fail(change, &error);
}

void handle_alias_delete(struct server *server, struct exchange *exchange)
{
	struct error error;
	struct change *change = change_new(server, exchange);
	if (!change)
		return;
	change->removed = true;
	struct str part = route_part(exchange->route, http_path(exchange->http), 0);
	if (!str_copy(part, change->id, sizeof change->id) ||
	    aliases_remove(server_rooms(server)->aliases, str_of(change->id), on_kept, change)) {
		error_set(&error, DB_E_NOT_FOUND, "There is no such alias.");
		fail(change, &error);
	}
}
