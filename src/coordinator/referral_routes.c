/* Referrals: a code of one's own, the code of somebody else, what it brought (billing 8.1, http-api 4.6). */
#include "coordinator/money_routes.h"

#include "coordinator/actor.h"
#include "coordinator/money/code.h"
#include "coordinator/referral.h"
#include "coordinator/server.h"
#include "coordinator/task.h"
#include "core/json.h"
#include "core/log.h"

#include <stdlib.h>

#define CODE_MAX 20

bool referral_read_code(struct str given, char out[STORE_REFERRAL_CODE_SIZE])
{
	_Static_assert(CODE_MAX < STORE_REFERRAL_CODE_SIZE, "a code fits");
	return code_read(given, out, CODE_MAX + 1);
}

/* --- in passing --- */

struct attribution {
	struct server *server;
	char account[STORE_ID_SIZE];
};

static void on_attributed(const struct store_referral *referral, const struct error *error, void *user)
{
	struct attribution *attribution = user;
	if (referral)
		ledger_account_refer(server_rooms(attribution->server)->ledger, str_of(attribution->account),
		                     str_of(referral->referrer));
	else
		log_info("referral.refused", "account=%s why=\"%s\"", attribution->account, error->text);
	free(attribution);
}

void referral_attribute(struct server *server, struct str account_id, struct str code, enum store_referral_source source)
{
	struct attribution *attribution = calloc(1, sizeof *attribution);
	if (!attribution)
		return;
	attribution->server = server;
	(void)str_copy(account_id, attribution->account, sizeof attribution->account);
	store_referral_apply(server_rooms(server)->store, account_id, code, source, on_attributed, attribution);
}

/* --- the routes --- */

struct referral_task {
	struct task task;
	char account[STORE_ID_SIZE];
	char code[STORE_REFERRAL_CODE_SIZE];
};

static void refuse(struct exchange *exchange, const struct error *error)
{
	if (error->code == DB_E_DENIED || error->code == DB_E_NOT_FOUND || error->code == DB_E_EXISTS)
		task_refuse(exchange, 400, "referral_error", error->text, 0);
	else
		task_refuse(exchange, 503, "service_unavailable", "The books cannot be used at the moment: try again.", 2);
}

static struct referral_task *begin(struct server *server, struct exchange *exchange)
{
	struct referral_task *task = task_new(server, exchange, sizeof *task);
	if (task)
		(void)str_copy(str_of(ledger_account_id(exchange->caller.account)), task->account, sizeof task->account);
	return task;
}

static struct referral_task *begin_with_code(struct server *server, struct exchange *exchange)
{
	struct str text;
	char code[STORE_REFERRAL_CODE_SIZE], actor[STORE_ACTOR_SIZE];
	struct json_doc *doc = json_parse(exchange_body(exchange), NULL, NULL);
	bool good = doc && json_as_str(json_get(json_root(doc), "code"), &text) && referral_read_code(text, code);
	json_free(doc);
	if (!good) {
		task_refuse(exchange, 400, "referral_error",
		            "The body must be {\"code\": \"...\"}: 3 to 20 letters, digits and hyphens between them.", 0);
		return NULL;
	}
	struct referral_task *task = begin(server, exchange);
	if (!task)
		return NULL;
	memcpy(task->code, code, sizeof task->code);
	actor_of(exchange, actor);
	store_act(server_rooms(server)->store, str_of(actor), STR_NONE);
	return task;
}

static const struct server_rooms *rooms_of(const struct referral_task *task)
{
	return server_rooms(task->task.server);
}

static void put_share(struct json_writer *w, const struct referral_task *task)
{
	json_put_i64(w, "share_percent", ledger_referral_share(rooms_of(task)->ledger));
}

static void on_registered(const struct store_referral *referral, const struct error *error, void *user)
{
	struct referral_task *task = user;
	struct exchange *exchange = task_end(task);
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		refuse(exchange, error);
	} else if (exchange) {
		bool is_another = strcmp(referral->code, task->code) != 0;
		buf_init(&body, 1024);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "code", referral->code);
		put_share(&w, task);
		json_put_cstr(&w, "message",
		              is_another ? "This account has this code already, and keeps it." : "The code can be passed on.");
		json_end_object(&w);
		task_answer(exchange, 200, &body);
	}
	task_free(task);
}

void handle_referral_register(struct server *server, struct exchange *exchange)
{
	struct referral_task *task = begin_with_code(server, exchange);
	if (task)
		store_referral_register(server_rooms(server)->store, str_of(task->account), str_of(task->code), on_registered, task);
}

static void on_applied(const struct store_referral *referral, const struct error *error, void *user)
{
	struct referral_task *task = user;
	struct exchange *exchange = task_end(task);
	struct buf body;
	struct json_writer w;
	if (referral)
		ledger_account_refer(rooms_of(task)->ledger, str_of(task->account), str_of(referral->referrer));
	if (exchange && error) {
		refuse(exchange, error);
	} else if (exchange) {
		buf_init(&body, 1024);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "status", "applied");
		json_put_cstr(&w, "code", task->code);
		json_put_cstr(&w, "message", "A part of the platform's fee on this account's requests goes to whoever referred it.");
		json_end_object(&w);
		task_answer(exchange, 200, &body);
	}
	task_free(task);
}

void handle_referral_apply(struct server *server, struct exchange *exchange)
{
	struct referral_task *task = begin_with_code(server, exchange);
	if (task)
		store_referral_apply(server_rooms(server)->store, str_of(task->account), str_of(task->code), STORE_REFERRED_BY_APPLYING,
		                     on_applied, task);
}

/* --- views --- */

static void put_money(struct json_writer *w, const char *name_uusd, const char *name_usd, int64_t uusd)
{
	char text[PRICE_USD_SIZE];
	price_format_usd(uusd, text);
	json_put_i64(w, name_uusd, uusd);
	json_put_cstr(w, name_usd, text);
}

static void put_stats(struct json_writer *w, const struct store_referral *referral, const struct exchange *exchange)
{
	json_put_i64(w, "total_referred", referral->referred);
	put_money(w, "total_rewards_micro_usd", "total_rewards_usd", referral->rewards_uusd);
	put_money(w, "balance_micro_usd", "balance_usd", ledger_balance(exchange->caller.account));
}

static void put_info(struct json_writer *w, const struct store_referral *referral)
{
	json_key(w, "referred_by");
	if (referral->referred_by[0])
		json_cstr(w, referral->referred_by);
	else
		json_null(w);
}

static void answer_view(struct referral_task *task, const struct store_referral *referral, const struct error *error,
                        bool is_stats)
{
	struct exchange *exchange = task_end(task);
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		refuse(exchange, error);
	} else if (exchange && !referral->code[0] && (is_stats || !referral->referred_by[0])) {
		task_refuse(exchange, 404, "referral_error", "This account refers nobody: register a code first.", 0);
	} else if (exchange) {
		buf_init(&body, 2048);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "code", referral->code);
		put_share(&w, task);
		if (is_stats)
			put_stats(&w, referral, exchange);
		else
			put_info(&w, referral);
		json_end_object(&w);
		task_answer(exchange, 200, &body);
	}
	task_free(task);
}

static void on_stats(const struct store_referral *referral, const struct error *error, void *user)
{
	answer_view(user, referral, error, true);
}

void handle_referral_stats(struct server *server, struct exchange *exchange)
{
	struct referral_task *task = begin(server, exchange);
	if (task)
		store_referral_get(server_rooms(server)->store, str_of(task->account), on_stats, task);
}

static void on_info(const struct store_referral *referral, const struct error *error, void *user)
{
	answer_view(user, referral, error, false);
}

void handle_referral_info(struct server *server, struct exchange *exchange)
{
	struct referral_task *task = begin(server, exchange);
	if (task)
		store_referral_get(server_rooms(server)->store, str_of(task->account), on_info, task);
}
