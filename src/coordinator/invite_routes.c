/* Invite codes: the operator makes them, anybody with an account redeems one once (billing 8.2). */
#include "coordinator/money_routes.h"

#include "coordinator/actor.h"
#include "coordinator/money/code.h"
#include "coordinator/server.h"
#include "coordinator/store/store_invites.h"
#include "coordinator/task.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"

#include <ctype.h>
#include <stdio.h>

#define AMOUNT_MAX_UUSD INT64_C(1000000000000)
#define USES_MAX        1000000000

struct invite_task {
	struct task task;
	struct store_invite invite;
	struct ledger_move move;
};

static void put_usd(struct json_writer *w, const char *name, int64_t uusd)
{
	char text[48];
	snprintf(text, sizeof text, "%lld.%02lld", (long long)(uusd / 1000000), (long long)(uusd % 1000000 / 10000));
	json_put_cstr(w, name, text);
}

static void act(struct server *server, const struct exchange *exchange)
{
	char actor[STORE_ACTOR_SIZE];
	actor_of(exchange, actor);
	store_act(server_rooms(server)->store, str_of(actor), STR_NONE);
}

static void put_expiry(struct json_writer *w, const struct store_invite *invite)
{
	char when[CLOCK_RFC3339_SIZE];
	if (!invite->expires_us)
		return;
	clock_format_rfc3339(invite->expires_us, when);
	json_put_cstr(w, "expires_at", when);
}

/* --- POST /v1/admin/invite-codes --- */

static void on_made(const struct error *error, void *user)
{
	struct invite_task *task = user;
	struct exchange *exchange = task_end(task);
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		bool taken = error->code == DB_E_EXISTS;
		task_refuse(exchange, taken ? 409 : 503, taken ? "conflict" : "service_unavailable",
		            taken ? "This code exists already." : "The code cannot be written at the moment: try again.",
		            taken ? 0 : 2);
	} else if (exchange) {
		buf_init(&body, 4096);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "code", task->invite.code);
		put_usd(&w, "amount_usd", task->invite.amount_uusd);
		json_put_i64(&w, "max_uses", task->invite.max_uses);
		put_expiry(&w, &task->invite);
		json_end_object(&w);
		task_answer(exchange, 201, &body);
	}
	task_free(task);
}

/* Dollars as a number, read as it stands there, or as text like everywhere else. */
static bool read_amount(struct str body, const json_val *value, int64_t *out)
{
	static const char *const path[] = {"amount_usd", NULL};
	struct str text;
	enum db_err err;
	if (json_as_str(value, &text))
		err = price_parse_usd(text, out);
	else
		err = json_raw_member(body, path, &text) ? DB_E_INVALID : price_parse_number(text, AMOUNT_MAX_UUSD, out);
	return !err && *out > 0;
}

static bool read_invite(struct str body, struct store_invite *out)
{
	struct str code, expires;
	struct json_doc *doc = json_parse(body, NULL, NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	bool good = read_amount(body, json_get(root, "amount_usd"), &out->amount_uusd);
	out->max_uses = 1;
	if (good && json_get_some(root, "max_uses"))
		good = json_as_i64(json_get(root, "max_uses"), &out->max_uses) && out->max_uses <= USES_MAX;
	if (good && json_get_some(root, "expires_at"))
		good = json_as_str(json_get(root, "expires_at"), &expires) && !clock_parse_rfc3339(expires, &out->expires_us);
	bool named = json_as_str(json_get(root, "code"), &code) && str_trim(code).len > 0;
	if (good && named)
		good = code_read(code, out->code, sizeof out->code);
	json_free(doc);
	if (out->max_uses < 1)
		out->max_uses = 1;
	if (!named) {
		char hex[9];
		id_hex(hex, 4);
		for (char *at = hex; *at; at++)
			*at = (char)toupper((unsigned char)*at);
		snprintf(out->code, sizeof out->code, "INV-%s", hex);
	}
	return good;
}

void handle_invite_create(struct server *server, struct exchange *exchange)
{
	struct store_invite invite = {.code = ""};
	if (!read_invite(exchange_body(exchange), &invite)) {
		task_refuse(exchange, 400, "invalid_request_error",
		            "The body must be {\"amount_usd\": 5}; code, max_uses and expires_at may be added.", 0);
		return;
	}
	struct invite_task *task = task_new(server, exchange, sizeof *task);
	if (!task)
		return;
	task->invite = invite;
	act(server, exchange);
	store_invite_create(server_rooms(server)->store, &task->invite, on_made, task);
}

/* --- GET /v1/admin/invite-codes --- */

static void on_list(const struct store_invite *rows, size_t count, const struct error *error, void *user)
{
	struct exchange *exchange = task_end(user);
	struct buf body;
	struct json_writer w;
	char when[CLOCK_RFC3339_SIZE];
	task_free(user);
	if (!exchange)
		return;
	if (error) {
		task_refuse(exchange, 503, "service_unavailable", "The codes cannot be read at the moment: try again.", 2);
		return;
	}
	buf_init(&body, 1u << 20);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "invite_codes");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++) {
		json_begin_object(&w);
		json_put_cstr(&w, "code", rows[i].code);
		put_usd(&w, "amount_usd", rows[i].amount_uusd);
		json_put_i64(&w, "max_uses", rows[i].max_uses);
		json_put_i64(&w, "used_count", rows[i].used_count);
		json_put_bool(&w, "active", rows[i].active);
		put_expiry(&w, &rows[i]);
		clock_format_rfc3339(rows[i].created_us, when);
		json_put_cstr(&w, "created_at", when);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_end_object(&w);
	task_answer(exchange, 200, &body);
}

void handle_invites(struct server *server, struct exchange *exchange)
{
	struct task *task = task_new(server, exchange, sizeof *task);
	if (task)
		store_invites_list(server_rooms(server)->store, on_list, task);
}

/* --- DELETE /v1/admin/invite-codes, POST /v1/invite/redeem --- */

static bool read_only_code(struct str body, char out[STORE_INVITE_SIZE])
{
	struct str code;
	struct json_doc *doc = json_parse(body, NULL, NULL);
	bool good = doc && json_as_str(json_get(json_root(doc), "code"), &code) && code_read(code, out, STORE_INVITE_SIZE);
	json_free(doc);
	return good;
}

static struct invite_task *begin(struct server *server, struct exchange *exchange)
{
	char code[STORE_INVITE_SIZE];
	if (!read_only_code(exchange_body(exchange), code)) {
		task_refuse(exchange, 400, "invalid_request_error", "The body must be {\"code\": \"INV-...\"}.", 0);
		return NULL;
	}
	struct invite_task *task = task_new(server, exchange, sizeof *task);
	if (task)
		memcpy(task->invite.code, code, sizeof code);
	return task;
}

static void on_deactivated(const struct error *error, void *user)
{
	struct exchange *exchange = task_end(user);
	struct buf body;
	task_free(user);
	if (exchange && error) {
		bool unknown = error->code == DB_E_NOT_FOUND;
		task_refuse(exchange, unknown ? 404 : 503, unknown ? "not_found" : "service_unavailable",
		            unknown ? "There is no such code." : "The code cannot be written at the moment: try again.",
		            unknown ? 0 : 2);
	} else if (exchange) {
		struct json_writer w;
		buf_init(&body, 256);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "status", "deactivated");
		json_end_object(&w);
		task_answer(exchange, 200, &body);
	}
}

void handle_invite_delete(struct server *server, struct exchange *exchange)
{
	struct invite_task *task = begin(server, exchange);
	if (!task)
		return;
	act(server, exchange);
	store_invite_deactivate(server_rooms(server)->store, str_of(task->invite.code), on_deactivated, task);
}

static void on_redeemed(int64_t amount_uusd, const struct error *error, void *user)
{
	struct invite_task *task = user;
	struct buf body;
	struct json_writer w;
	ledger_move_end(&task->move, amount_uusd, false);
	struct exchange *exchange = task_end(task);
	task_free(task);
	if (exchange && error && error->code == DB_E_NOT_FOUND) {
		task_refuse(exchange, 404, "not_found", "There is no such code.", 0);
	} else if (exchange && error && error->code == DB_E_DENIED) {
		task_refuse(exchange, 400, "invalid_request_error", error->text, 0);
	} else if (exchange && error) {
		task_refuse(exchange, 503, "service_unavailable", "The books cannot be written at the moment: try again.", 2);
	} else if (exchange) {
		char balance[PRICE_USD_SIZE];
		price_format_usd(ledger_available(exchange->caller.account), balance);
		buf_init(&body, 1024);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		put_usd(&w, "credited_usd", amount_uusd);
		json_put_cstr(&w, "balance_usd", balance);
		json_end_object(&w);
		task_answer(exchange, 200, &body);
	}
}

void handle_invite_redeem(struct server *server, struct exchange *exchange)
{
	const struct server_rooms *rooms = server_rooms(server);
	struct invite_task *task = begin(server, exchange);
	if (!task)
		return; /* refused, and the exchange with it */
	struct str account = str_of(ledger_account_id(exchange->caller.account));
	if (ledger_move_begin(rooms->ledger, account, 0, &task->move)) {
		struct exchange *left = task_end(task);
		task_free(task);
		task_refuse(left, 503, "service_unavailable", "The books cannot be written at the moment: try again.", 2);
		return;
	}
	act(server, exchange);
	store_invite_redeem(rooms->store, account, str_of(task->invite.code), on_redeemed, task);
}
