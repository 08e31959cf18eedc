/* /v1/admin/models/aliases: the operator's side of public names (registry 3). */
#include "coordinator/aliases.h"

#include "coordinator/server.h"
#include "coordinator/task.h"

#define BODY_MAX (16u << 20)

/* A change that is on its way to the disk. */
struct change {
	struct task task;
	char id[ALIAS_ID_SIZE];
	bool removed;
};

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
	task_answer(exchange, 200, &body);
}

static void write_result(const struct change *change, struct buf *body)
{
	struct json_writer w;
	const struct server_rooms *rooms = server_rooms(change->task.server);
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
	struct exchange *exchange = task_end(change);
	struct buf body;
	buf_init(&body, BODY_MAX);
	write_result(change, &body);
	task_free(change);
	if (exchange && !error) {
		task_answer(exchange, 200, &body);
		return;
	}
	buf_free(&body);
	if (exchange)
		task_refuse(exchange, 503, "server_error", "The change holds until the next start, but it cannot be kept: try again.",
		            2);
}

static void fail(struct change *change, const struct error *error)
{
	struct exchange *exchange = task_end(change);
	task_free(change);
	switch (error->code) {
	case DB_E_EXISTS:
		task_refuse(exchange, 409, "conflict", error->text, 0);
		break;
	case DB_E_NOT_FOUND:
		task_refuse(exchange, 404, "not_found", error->text, 0);
		break;
	case DB_E_NOMEM:
		task_refuse(exchange, 503, "service_unavailable", error->text, 2);
		break;
	default:
		task_refuse(exchange, 400, "bad_request", error->text, 0);
	}
}

void handle_alias_put(struct server *server, struct exchange *exchange)
{
	struct error error = {0};
	struct str id = STR_NONE;
	struct change *change = task_new(server, exchange, sizeof *change);
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
	struct change *change = task_new(server, exchange, sizeof *change);
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
