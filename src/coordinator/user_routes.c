/* The terms of accounts that only the operator sets (billing 3.3, http-api 4.6). */
#include "coordinator/server.h"

#include "coordinator/actor.h"
#include "coordinator/store/store_terms.h"
#include "coordinator/task.h"
#include "core/json.h"

static void refuse_body(struct exchange *exchange, const char *param, const char *message)
{
	struct api_error error;
	api_fail(&error, 400, "bad_request", NULL, param, "%s", message);
	exchange_error(exchange, &error);
}

static void answer(struct exchange *exchange, const struct store_account *account)
{
	struct buf body;
	struct json_writer w;
	buf_init(&body, 1024);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_bool(&w, "ok", true);
	json_put_cstr(&w, "account_id", account->id);
	json_put_cstr(&w, "role", account->role == STORE_ROLE_SERVICE ? "service" : "");
	json_key(&w, "platform_fee_percent");
	if (account->fee_percent < 0)
		json_null(&w);
	else
		json_i64(&w, account->fee_percent);
	json_end_object(&w);
	buf_append_byte(&body, '\n');
	exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
}

static void on_set(const struct store_account *account, const struct error *error, void *user)
{
	struct task *task = user;
	struct exchange *exchange = task_end(task);
	if (account)
		ledger_account_terms(server_rooms(task->server)->ledger, account);
	if (exchange && error && error->code == DB_E_NOT_FOUND)
		task_refuse(exchange, 404, "not_found", "There is no such account.", 0);
	else if (exchange && (error || !account))
		task_refuse(exchange, 503, "server_error", "The accounts cannot be written at the moment: nothing was changed.", 2);
	else if (exchange)
		answer(exchange, account);
	task_free(task);
}

/* The body's object and its account_id; NULL, and answered, when it has none. In the exchange's arena. */
static const json_val *read_body(struct exchange *exchange, struct str *account_id)
{
	struct json_doc *doc = json_parse(exchange_body(exchange), http_arena(exchange->http), NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	if (json_as_str(json_get_some(root, "account_id"), account_id) && account_id->len > 0)
		return root;
	refuse_body(exchange, "account_id", "account_id is required: the id of an account.");
	return NULL;
}

static struct task *begin(struct server *server, struct exchange *exchange)
{
	struct task *task = task_new(server, exchange, sizeof *task);
	char actor[STORE_ACTOR_SIZE];
	if (!task)
		return NULL;
	actor_of(exchange, actor);
	store_act(server_rooms(server)->store, str_of(actor), STR_NONE);
	return task;
}

void handle_admin_role(struct server *server, struct exchange *exchange)
{
	struct str account_id, role = STR_NONE;
	const json_val *root = read_body(exchange, &account_id);
	if (!root)
		return;
	bool is_service = json_as_str(json_get(root, "role"), &role) && str_is(role, "service");
	if (!role.at || (role.len > 0 && !is_service)) {
		refuse_body(exchange, "role", "role must be \"service\", or empty for an ordinary account.");
		return;
	}
	struct task *task = begin(server, exchange);
	if (task)
		store_account_set_role(server_rooms(server)->store, account_id, is_service ? STORE_ROLE_SERVICE : STORE_ROLE_NORMAL,
		                       on_set, task);
}

void handle_admin_platform_fee(struct server *server, struct exchange *exchange)
{
	struct str account_id;
	int64_t percent = -1;
	const json_val *root = read_body(exchange, &account_id);
	if (!root)
		return;
	const json_val *given = json_get_some(root, "platform_fee_percent");
	if (given && (!json_as_i64(given, &percent) || percent < 0 || percent > 100)) {
		refuse_body(exchange, "platform_fee_percent",
		            "platform_fee_percent must be a whole number from 0 to 100, or null for the default.");
		return;
	}
	struct task *task = begin(server, exchange);
	if (task)
		store_account_set_fee(server_rooms(server)->store, account_id, (int)percent, on_set, task);
}
