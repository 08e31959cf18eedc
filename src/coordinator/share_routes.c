/* /v1/admin/account-shares: what accounts get of a model whose requests wait (routing/share.h), set while the coordinator runs.
 */
#include "coordinator/account_shares.h"

#include <stdio.h>
#include <stdlib.h>

#include "coordinator/actor.h"
#include "coordinator/routing/share.h"
#include "coordinator/server.h"
#include "coordinator/store/store_shares.h"
#include "coordinator/task.h"

#define BODY_MAX (4u << 20)

/* A change that is on its way to the disk. */
struct change {
	struct task task;
	char account[STORE_SHARE_SIZE];
	struct share share;
	bool removed;
};

static void put_share(struct json_writer *w, const struct share *share)
{
	json_begin_object(w);
	json_put_str(w, "account_id", share->account);
	json_put_double(w, "weight", share->weight);
	json_put_cstr(w, "priority", share_priority_name(share->priority));
	json_put_cstr(w, "source", share->set ? "operator" : "configuration");
	json_end_object(w);
}

void handle_shares(struct server *server, struct exchange *exchange)
{
	const struct shares *shares = fleet_shares(server_rooms(server)->fleet);
	struct buf body;
	struct json_writer w;
	size_t cursor = 0;
	buf_init(&body, BODY_MAX);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "shares");
	json_begin_array(&w);
	for (const struct share *share; (share = shares_next(shares, &cursor));)
		put_share(&w, share);
	json_end_array(&w);
	json_end_object(&w);
	task_answer(exchange, 200, &body);
}

static void on_kept(const struct error *error, void *user)
{
	struct change *change = user;
	struct fleet *fleet = server_rooms(change->task.server)->fleet;
	enum db_err failed = error ? error->code : DB_OK;
	struct str account = str_of(change->account);
	struct buf body;
	struct json_writer w;
	if (!failed && change->removed)
		fleet_share_remove(fleet, account);
	else if (!failed)
		failed = fleet_share_put(fleet, &change->share);
	account_shares_changed(server_rooms(change->task.server)->shares);
	buf_init(&body, BODY_MAX);
	json_writer_init(&w, &body);
	if (!failed && !change->removed) {
		put_share(&w, shares_find(fleet_shares(fleet), account));
	} else {
		json_begin_object(&w);
		json_put_bool(&w, "deleted", true);
		json_put_str(&w, "account_id", account);
		json_end_object(&w);
	}
	struct exchange *exchange = task_end(change);
	task_free(change);
	if (exchange && !failed) {
		task_answer(exchange, 200, &body);
		return;
	}
	buf_free(&body);
	if (exchange && failed == DB_E_NOT_FOUND)
		task_refuse(exchange, 404, "not_found", error->text, 0);
	else if (exchange)
		task_refuse(exchange, 503, "server_error", "The share cannot be kept now: try again.", 2);
}

static struct change *begin(struct server *server, struct exchange *exchange)
{
	char actor[STORE_ACTOR_SIZE];
	struct change *change = task_new(server, exchange, sizeof *change);
	if (!change)
		return NULL;
	actor_of(exchange, actor);
	store_act(server_rooms(server)->store, str_of(actor), STR_NONE);
	return change;
}

static const char *read_change(const json_val *root, struct share *out)
{
	struct str priority = STR_NONE;
	const json_val *weight = json_get_some(root, "weight"), *named = json_get_some(root, "priority");
	*out = (struct share){.weight = 1, .set = true};
	if (!json_as_str(json_get_some(root, "account_id"), &out->account) || !out->account.len)
		return "account_id is required: the id of an account.";
	if (!weight && !named)
		return "weight or priority is required.";
	if (weight && (!json_as_double(weight, &out->weight) || !(out->weight >= SHARE_LEAST && out->weight <= SHARE_MOST)))
		return "weight must be a number from 0.01 to 100.";
	if (named && (!json_as_str(named, &priority) || !share_priority_read(priority, &out->priority)))
		return "priority must be batch, normal or interactive.";
	return NULL;
}

void handle_share_put(struct server *server, struct exchange *exchange)
{
	struct share share;
	char text[2 * STORE_SHARE_SIZE];
	const json_val *root = task_body(exchange);
	if (!root)
		return;
	const char *wrong = read_change(root, &share);
	if (wrong) {
		task_refuse(exchange, 400, "bad_request", wrong, 0);
		return;
	}
	int len = snprintf(text, sizeof text, "%.*s=%.6g:%s", (int)(share.account.len < STORE_SHARE_SIZE ? share.account.len : 0),
	                   share.account.at, share.weight, share_priority_name(share.priority));
	struct change *change = begin(server, exchange);
	if (!change)
		return;
	bool fits = str_copy(share.account, change->account, sizeof change->account);
	change->share = share;
	change->share.account = str_of(change->account);
	if (!fits || store_share_save(server_rooms(server)->store, share.account, (struct str){text, (size_t)len}, on_kept, change))
		on_kept(&(struct error){DB_E_NOT_FOUND, "There is no such account."}, change);
}

void handle_share_delete(struct server *server, struct exchange *exchange)
{
	struct change *change = begin(server, exchange);
	if (!change)
		return;
	change->removed = true;
	(void)str_copy(route_part(exchange->route, http_path(exchange->http), 0), change->account, sizeof change->account);
	store_share_remove(server_rooms(server)->store, str_of(change->account), on_kept, change);
}
