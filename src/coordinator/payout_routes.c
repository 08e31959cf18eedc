/* Paying out: connected accounts, withdrawals and their webhook (billing 10). */
#include "coordinator/money_routes.h"

#include "coordinator/actor.h"
#include "coordinator/money/stripe_event.h"
#include "coordinator/payout_worker.h"
#include "coordinator/server.h"
#include "coordinator/task.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/uri.h"
#include "net/form.h"

#include <ctype.h>
#include <stdio.h>

#define CENT_UUSD       10000
#define WITHDRAW_MIN    INT64_C(1000000)
#define INSTANT_FEE_BPS 150
#define INSTANT_FEE_MIN INT64_C(500000)
#define FIRST_LOOK_US   INT64_C(60000000) /* until then the request itself carries it on */
#define HOST_MAX        256

/* One request of somebody who is paid out, while it waits for the store and for Stripe. */
struct payout {
	struct task task;
	struct store_connect connect;
	bool refresh;
	char country[8], return_url[512], refresh_url[512], due[512];
	struct store_withdrawal withdrawal;
	struct ledger_move move;
};

static struct store *store_of(const struct payout *payout)
{
	return server_rooms(payout->task.server)->store;
}

static void refuse(struct payout *payout, int status, const char *type, const char *message)
{
	struct exchange *exchange = task_end(payout);
	if (exchange)
		task_refuse(exchange, status, type, message, 0);
	task_free(payout);
}

static void refuse_unwritten(struct payout *payout)
{
	refuse(payout, 503, "service_unavailable", "The books cannot be read or written at the moment: try again.");
}

static void answer(struct payout *payout, int status, struct buf *body)
{
	struct exchange *exchange = task_end(payout);
	buf_append_byte(body, '\n');
	if (exchange)
		exchange_json(exchange, status, buf_str(body));
	buf_free(body);
	task_free(payout);
}

static struct payout *begin(struct server *server, struct exchange *exchange)
{
	if (!server_rooms(server)->stripe) {
		task_refuse(exchange, 503, "billing_error", "This coordinator pays nothing out: stripe.secret_key is not set.", 0);
		return NULL;
	}
	struct payout *payout = task_new(server, exchange, sizeof *payout);
	if (payout)
		(void)str_copy(str_of(ledger_account_id(exchange->caller.account)), payout->connect.account_id,
		               sizeof payout->connect.account_id);
	return payout;
}

static void act(const struct payout *payout)
{
	char actor[STORE_ACTOR_SIZE];
	if (!payout->task.exchange)
		return;
	actor_of(payout->task.exchange, actor);
	store_act(store_of(payout), str_of(actor), STR_NONE);
}

static void take_account(struct store_connect *connect, const struct stripe_account *account)
{
	memcpy(connect->stripe_account, account->id, sizeof connect->stripe_account);
	memcpy(connect->status, account->status, sizeof connect->status);
	if (account->country[0])
		memcpy(connect->country, account->country, sizeof connect->country);
	memcpy(connect->destination_type, account->destination_type, sizeof connect->destination_type);
	memcpy(connect->destination_last4, account->destination_last4, sizeof connect->destination_last4);
	if (account->payee[0]) /* who takes the destination away is still who was paid there */
		memcpy(connect->payee, account->payee, sizeof connect->payee);
	connect->instant_eligible = account->instant_eligible;
}

/* --- POST /v1/billing/stripe/onboard --- */

static void on_link(int status, const json_val *root, struct str code, void *user)
{
	struct payout *payout = user;
	struct str url;
	struct buf body;
	struct json_writer w;
	(void)code;
	if (status != 200 || !json_as_str(json_get(root, "url"), &url)) {
		refuse(payout, 502, "stripe_error", "Stripe did not begin the onboarding: try again.");
		return;
	}
	buf_init(&body, 8192);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_str(&w, "url", url);
	json_put_cstr(&w, "stripe_account_id", payout->connect.stripe_account);
	json_put_cstr(&w, "status", payout->connect.status);
	json_end_object(&w);
	answer(payout, 200, &body);
}

static void ask_link(struct payout *payout)
{
	struct buf form;
	char key[ID_UUID_SIZE];
	id_uuid4(key);
	buf_init(&form, 8192);
	form_put(&form, "account", str_of(payout->connect.stripe_account));
	form_put(&form, "type", STR("account_onboarding"));
	form_put(&form, "collect", STR("eventually_due"));
	form_put(&form, "return_url", str_of(payout->return_url));
	form_put(&form, "refresh_url", str_of(payout->refresh_url));
	struct stripe_call call = {.method = "POST",
	                           .path = "/v1/account_links",
	                           .form = buf_str(&form),
	                           .idempotency_key = key,
	                           .user = payout,
	                           .done = on_link};
	stripe_call(server_rooms(payout->task.server)->stripe, &call);
	buf_free(&form);
}

static void on_connect_written(const struct error *error, void *user)
{
	if (error)
		refuse_unwritten(user);
	else
		ask_link(user);
}

static void on_account_made(int status, const json_val *root, struct str code, void *user)
{
	struct payout *payout = user;
	struct stripe_account account;
	(void)code;
	if (status != 200 || !stripe_account_read(root, &account)) {
		refuse(payout, 502, "stripe_error", "Stripe did not make an account: try again.");
		return;
	}
	take_account(&payout->connect, &account);
	act(payout);
	store_connect_set(store_of(payout), &payout->connect, on_connect_written, payout);
}

/* Stripe fixes the country when an account is made: another country is another account. */
static void make_account(struct payout *payout)
{
	struct buf form;
	char key[STORE_ID_SIZE + 16];
	snprintf(key, sizeof key, "acct-%s-%s", payout->connect.account_id, payout->country);
	memcpy(payout->connect.country, payout->country, sizeof payout->connect.country);
	buf_init(&form, 8192);
	form_put(&form, "type", STR("express"));
	form_put(&form, "country", str_of(payout->country));
	form_put(&form, "business_type", STR("individual"));
	form_put(&form, "capabilities[transfers][requested]", STR("true"));
	form_put(&form, "capabilities[card_payments][requested]", STR("true"));
	form_put(&form, "settings[payouts][schedule][interval]", STR("manual"));
	form_put(&form, "metadata[account_id]", str_of(payout->connect.account_id));
	struct stripe_call call = {.method = "POST",
	                           .path = "/v1/accounts",
	                           .form = buf_str(&form),
	                           .idempotency_key = key,
	                           .user = payout,
	                           .done = on_account_made};
	stripe_call(server_rooms(payout->task.server)->stripe, &call);
	buf_free(&form);
}

static void on_onboarding(const struct store_connect *connect, const struct error *error, void *user)
{
	struct payout *payout = user;
	bool same_country = connect && (!payout->country[0] || strcmp(connect->country, payout->country) == 0);
	if (error) {
		refuse_unwritten(payout);
	} else if (same_country) {
		payout->connect = *connect;
		ask_link(payout);
	} else if (!payout->country[0]) {
		refuse(payout, 400, "invalid_request_error", "country is needed: two letters of ISO 3166, such as US.");
	} else {
		make_account(payout);
	}
}

static void host_of(const char *url, char out[HOST_MAX], bool *is_tls)
{
	struct str text = str_of(url), host;
	*is_tls = str_starts(text, STR("https://"));
	out[0] = '\0';
	if (!*is_tls && !str_starts(text, STR("http://")))
		return;
	text = str_sub(text, *is_tls ? 8 : 7, SIZE_MAX);
	size_t len = 0;
	while (len < text.len && !strchr("/?#\\", text.at[len]))
		len++;
	host = str_sub(text, 0, len);
	for (size_t i = 0; i < host.len; i++)
		if (host.at[i] == '@') /* a name in front of the host would show another one to a person */
			return;
	(void)str_copy(host, out, HOST_MAX);
}

/* Stripe sends the browser there: only to the configured host, or to this machine. */
static bool may_return_to(const char *url, const char *configured)
{
	char host[HOST_MAX], wanted[HOST_MAX];
	bool is_tls, wanted_tls;
	host_of(url, host, &is_tls);
	host_of(configured, wanted, &wanted_tls);
	if (!host[0])
		return false;
	struct str name, port = str_cut(str_of(host), ':', &name);
	(void)port;
	bool is_local = str_eq_nocase(name, STR("localhost")) || str_is(name, "127.0.0.1");
	return is_local || str_eq_nocase(str_of(host), str_of(wanted));
}

static bool read_url(const json_val *root, const char *name, const char *configured, char out[512])
{
	struct str url = str_of(configured);
	if (json_get_some(root, name) && !json_as_str(json_get(root, name), &url))
		return false;
	return str_copy(url, out, 512) && may_return_to(out, configured);
}

static bool read_country(const json_val *root, char out[8])
{
	struct str country;
	out[0] = '\0';
	if (!json_get_some(root, "country"))
		return true;
	if (!json_as_str(json_get(root, "country"), &country) || country.len != 2 || !isalpha((unsigned char)country.at[0]) ||
	    !isalpha((unsigned char)country.at[1]))
		return false;
	for (size_t i = 0; i < 2; i++)
		out[i] = (char)toupper((unsigned char)country.at[i]);
	out[2] = '\0';
	return true;
}

void handle_payout_onboard(struct server *server, struct exchange *exchange)
{
	const char *configured = server_rooms(server)->config->stripe_return_url;
	struct payout *payout = begin(server, exchange);
	if (!payout)
		return;
	struct json_doc *doc = json_parse(exchange_body(exchange), NULL, NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	bool good = json_type(root) == JSON_OBJECT && read_country(root, payout->country) &&
	            read_url(root, "return_url", configured, payout->return_url) &&
	            read_url(root, "refresh_url", configured, payout->refresh_url);
	json_free(doc);
	if (!good)
		refuse(payout, 400, "invalid_request_error",
		       "The body may have country (two letters), return_url and refresh_url on the configured host.");
	else
		store_connect_get(store_of(payout), str_of(payout->connect.account_id), STR_NONE, on_onboarding, payout);
}

/* --- GET /v1/billing/stripe/status --- */

static void answer_status(struct payout *payout, bool has_account)
{
	struct buf body;
	struct json_writer w;
	buf_init(&body, 8192);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_bool(&w, "has_account", has_account);
	json_put_bool(&w, "configured", true);
	if (has_account) {
		json_put_cstr(&w, "stripe_account_id", payout->connect.stripe_account);
		json_put_cstr(&w, "status", payout->connect.status);
		json_put_cstr(&w, "stripe_account_country", payout->connect.country);
		json_put_cstr(&w, "destination_type", payout->connect.destination_type);
		json_put_cstr(&w, "destination_last4", payout->connect.destination_last4);
		json_put_bool(&w, "instant_eligible", payout->connect.instant_eligible);
	}
	json_put_i64(&w, "min_withdraw_micro_usd", WITHDRAW_MIN);
	json_put_i64(&w, "instant_fee_bps", INSTANT_FEE_BPS);
	json_put_double(&w, "instant_fee_min_usd", 0.5);
	if (payout->refresh)
		json_put_cstr(&w, "currently_due", payout->due);
	json_end_object(&w);
	answer(payout, 200, &body);
}

static void on_refreshed(const struct error *error, void *user)
{
	if (error)
		refuse_unwritten(user);
	else
		answer_status(user, true);
}

static void on_account_read(int status, const json_val *root, struct str code, void *user)
{
	struct payout *payout = user;
	struct stripe_account account;
	(void)code;
	if (status != 200 || !stripe_account_read(root, &account)) {
		refuse(payout, 502, "stripe_error", "Stripe does not tell how the account stands: try again.");
		return;
	}
	take_account(&payout->connect, &account);
	memcpy(payout->due, account.currently_due, sizeof payout->due);
	store_connect_set(store_of(payout), &payout->connect, on_refreshed, payout);
}

static void on_status(const struct store_connect *connect, const struct error *error, void *user)
{
	struct payout *payout = user;
	char path[256];
	if (error) {
		refuse_unwritten(payout);
		return;
	}
	if (!connect || !payout->refresh) {
		if (connect)
			payout->connect = *connect;
		payout->refresh = false;
		answer_status(payout, connect != NULL);
		return;
	}
	payout->connect = *connect;
	snprintf(path, sizeof path, "/v1/accounts/%s", connect->stripe_account);
	struct stripe_call call = {.method = "GET", .path = path, .user = payout, .done = on_account_read};
	stripe_call(server_rooms(payout->task.server)->stripe, &call);
}

void handle_payout_status(struct server *server, struct exchange *exchange)
{
	char refresh[8];
	struct payout *payout = begin(server, exchange);
	if (!payout)
		return;
	payout->refresh = uri_query(http_query(exchange->http), "refresh", refresh, sizeof refresh) == DB_OK && refresh[0] == '1';
	store_connect_get(store_of(payout), str_of(payout->connect.account_id), STR_NONE, on_status, payout);
}

/* --- POST /v1/billing/withdraw/stripe --- */

static void put_usd(struct json_writer *w, const char *name, int64_t uusd)
{
	char text[48];
	snprintf(text, sizeof text, "%lld.%02lld", (long long)(uusd / 1000000), (long long)(uusd % 1000000 / CENT_UUSD));
	json_put_cstr(w, name, text);
}

static void put_withdrawal(struct json_writer *w, const struct store_withdrawal *row)
{
	json_put_i64(w, "amount_micro_usd", row->amount_uusd);
	json_put_i64(w, "fee_micro_usd", row->fee_uusd);
	json_put_i64(w, "net_micro_usd", row->net_uusd);
	put_usd(w, "amount_usd", row->amount_uusd);
	put_usd(w, "fee_usd", row->fee_uusd);
	put_usd(w, "net_usd", row->net_uusd);
	json_put_cstr(w, "method", row->method);
	json_put_cstr(w, "status", store_withdrawal_state_name(row->state));
	json_put_cstr(w, "transfer_id", row->transfer_id);
	json_put_cstr(w, "payout_id", row->payout_id);
	if (row->failure_reason[0])
		json_put_cstr(w, "failure_reason", row->failure_reason);
}

static void on_rest(const struct store_withdrawal *row, int64_t arrival_s, void *user)
{
	struct payout *payout = user;
	const struct ledger_account *account = payout->task.exchange ? payout->task.exchange->caller.account : NULL;
	struct buf body;
	struct json_writer w;
	if (row->state == STORE_WITHDRAWAL_FAILED || row->state == STORE_WITHDRAWAL_REVERSING) {
		refuse(payout, 502, "stripe_error",
		       row->state == STORE_WITHDRAWAL_FAILED ? "Stripe refused the withdrawal: the money is back in your balance."
		                                             : "The bank refused the withdrawal: the money is on its way back.");
		return;
	}
	buf_init(&body, 8192);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "withdrawal_id", row->id);
	put_withdrawal(&w, row);
	json_put_cstr(&w, "eta", strcmp(row->method, "instant") == 0 ? "within 30 minutes" : "1 to 3 business days");
	if (arrival_s)
		json_put_i64(&w, "arrival_unix", arrival_s);
	if (account)
		json_put_i64(&w, "balance_micro_usd", ledger_available(account));
	json_end_object(&w);
	bool is_out = row->state == STORE_WITHDRAWAL_SUBMITTED || row->state == STORE_WITHDRAWAL_PAID;
	answer(payout, is_out ? 200 : 202, &body);
}

static void on_debited(const struct error *error, void *user)
{
	struct payout *payout = user;
	ledger_move_end(&payout->move, error ? 0 : -payout->withdrawal.amount_uusd, true);
	if (!error)
		payout_worker_run(server_rooms(payout->task.server)->payouts, &payout->withdrawal, on_rest, payout);
	else if (error->code == DB_E_FUNDS)
		refuse(payout, 400, "insufficient_withdrawable",
		       "Less than that may be withdrawn: see withdrawable_usd of the balance.");
	else if (error->code == DB_E_LIMIT)
		refuse(payout, 400, "withdrawal_limit", "The account's withdrawals within 24 hours would be more than is allowed.");
	else if (error->code == DB_E_DENIED)
		refuse(payout, 400, "withdrawal_cooldown", "The account's last withdrawal was a short time ago: wait, then try again.");
	else
		refuse_unwritten(payout);
}

/* Other coordinators have given back what they do not use of the account's money. */
static void on_gathered(enum db_err err, void *user)
{
	struct payout *payout = user;
	const struct server_rooms *rooms = server_rooms(payout->task.server);
	struct store_withdrawal *row = &payout->withdrawal;
	if (!err)
		err = ledger_move_begin(rooms->ledger, str_of(row->account_id), row->amount_uusd, &payout->move);
	if (err == DB_E_FUNDS) {
		refuse(payout, 400, "insufficient_withdrawable", "Less than that is available.");
		return;
	}
	if (err) {
		refuse_unwritten(payout);
		return;
	}
	id_uuid4(row->id);
	act(payout);
	struct store_withdrawal_limits limits = {rooms->config->stripe_daily_withdrawal_usd * 1000000,
	                                         rooms->config->stripe_withdrawal_cooldown_s * 1000000};
	store_withdrawal_create(rooms->store, row, &limits, clock_wall_us() + FIRST_LOOK_US, on_debited, payout);
}

static void on_payable(const struct store_connect *connect, const struct error *error, void *user)
{
	struct payout *payout = user;
	const struct server_rooms *rooms = server_rooms(payout->task.server);
	struct store_withdrawal *row = &payout->withdrawal;
	bool is_instant = strcmp(row->method, "instant") == 0;
	if (error) {
		refuse_unwritten(payout);
		return;
	}
	if (!connect || strcmp(connect->status, "ready") != 0) {
		refuse(payout, 403, "not_onboarded", "Set up payouts first: POST /v1/billing/stripe/onboard.");
		return;
	}
	if (is_instant && !connect->instant_eligible) {
		refuse(payout, 400, "instant_unavailable", "Instant payouts need a debit card as destination.");
		return;
	}
	memcpy(row->account_id, payout->connect.account_id, sizeof row->account_id);
	memcpy(row->stripe_account, connect->stripe_account, sizeof row->stripe_account);
	ledger_gather(rooms->ledger, str_of(row->account_id), row->amount_uusd, on_gathered, payout);
}

static bool read_withdrawal(struct str body, struct store_withdrawal *row)
{
	struct str amount, method = STR("standard");
	struct json_doc *doc = json_parse(body, NULL, NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	bool good = json_as_str(json_get(root, "amount_usd"), &amount) && price_parse_usd(amount, &row->amount_uusd) == DB_OK &&
	            row->amount_uusd >= WITHDRAW_MIN && row->amount_uusd % CENT_UUSD == 0;
	if (good && json_get_some(root, "method"))
		good = json_as_str(json_get(root, "method"), &method);
	bool is_instant = str_is(method, "instant");
	good = good && (is_instant || str_is(method, "standard"));
	snprintf(row->method, sizeof row->method, "%s", is_instant ? "instant" : "standard");
	json_free(doc);
	if (good && is_instant) {
		int64_t fee = row->amount_uusd / 10000 * INSTANT_FEE_BPS; /* whole cents: nothing is lost by dividing first */
		row->fee_uusd = fee > INSTANT_FEE_MIN ? fee : INSTANT_FEE_MIN;
	}
	/* Stripe counts in cents: what is no whole cent stays with the fee. */
	row->net_uusd = (row->amount_uusd - row->fee_uusd) / CENT_UUSD * CENT_UUSD;
	row->fee_uusd = row->amount_uusd - row->net_uusd;
	return good && row->net_uusd >= CENT_UUSD;
}

void handle_withdraw(struct server *server, struct exchange *exchange)
{
	struct payout *payout = begin(server, exchange);
	if (!payout)
		return;
	if (!read_withdrawal(exchange_body(exchange), &payout->withdrawal))
		refuse(payout, 400, "invalid_request_error",
		       "The body must be {\"amount_usd\": \"10.00\", \"method\": \"standard\" or \"instant\"}: whole cents, at least "
		       "1.00.");
	else
		store_connect_get(store_of(payout), str_of(payout->connect.account_id), STR_NONE, on_payable, payout);
}

/* --- GET /v1/billing/stripe/withdrawals --- */

static void on_withdrawals(const struct store_withdrawal *rows, size_t count, const struct error *error, void *user)
{
	struct payout *payout = user;
	struct buf body;
	struct json_writer w;
	char when[CLOCK_RFC3339_SIZE];
	if (error) {
		refuse_unwritten(payout);
		return;
	}
	buf_init(&body, 1u << 20);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "withdrawals");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++) {
		json_begin_object(&w);
		json_put_cstr(&w, "id", rows[i].id);
		put_withdrawal(&w, &rows[i]);
		json_put_bool(&w, "refunded", rows[i].refunded);
		clock_format_rfc3339(rows[i].created_us, when);
		json_put_cstr(&w, "created_at", when);
		clock_format_rfc3339(rows[i].updated_us, when);
		json_put_cstr(&w, "updated_at", when);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_end_object(&w);
	answer(payout, 200, &body);
}

void handle_withdrawals(struct server *server, struct exchange *exchange)
{
	char text[16];
	uint64_t limit = 50;
	bool given = uri_query(http_query(exchange->http), "limit", text, sizeof text) != DB_E_NOT_FOUND;
	struct payout *payout = begin(server, exchange);
	if (!payout)
		return;
	if (given && (!str_to_u64(str_of(text), &limit) || limit < 1 || limit > STORE_WITHDRAWALS_MAX))
		refuse(payout, 400, "invalid_request_error", "limit must be 1 to 200.");
	else
		store_withdrawals_list(store_of(payout), str_of(payout->connect.account_id), (uint32_t)limit, on_withdrawals, payout);
}

/* --- POST /v1/billing/stripe/connect/webhook --- */

struct connect_webhook {
	struct task task;
	struct stripe_event event;
	struct stripe_account account;
};

static void end_webhook(struct connect_webhook *webhook, bool ok)
{
	struct exchange *exchange = task_end(webhook);
	if (exchange)
		exchange_answer(exchange, ok ? 200 : 500, "text/plain; charset=utf-8", ok ? STR("ok\n") : STR("not written\n"));
	task_free(webhook);
}

static void on_told(const struct error *error, void *user)
{
	end_webhook(user, !error);
}

static void on_connect(const struct store_connect *connect, const struct error *error, void *user)
{
	struct connect_webhook *webhook = user;
	if (error || !connect) {
		end_webhook(webhook, !error);
		return;
	}
	struct store_connect changed = *connect;
	take_account(&changed, &webhook->account);
	store_act(server_rooms(webhook->task.server)->store, STR("stripe"), STR_NONE);
	store_connect_set(server_rooms(webhook->task.server)->store, &changed, on_told, webhook);
}

static void on_withdrawal(const struct store_withdrawal *row, int64_t refunded, const struct error *error, void *user)
{
	struct connect_webhook *webhook = user;
	const struct stripe_event *event = &webhook->event;
	(void)refunded;
	if (error || !row) {
		end_webhook(webhook, !error);
		return;
	}
	struct store_withdrawal_step step = {.to = STORE_WITHDRAWAL_PAID};
	memcpy(step.id, row->id, sizeof step.id);
	if (event->kind == STRIPE_EVENT_TRANSFER_REVERSED) {
		step.to = STORE_WITHDRAWAL_FAILED;
		step.reversed = true;
		snprintf(step.reason, sizeof step.reason, "transfer_reversed");
	} else {
		memcpy(step.payout_id, event->object_id, sizeof step.payout_id);
		if (event->kind == STRIPE_EVENT_PAYOUT_FAILED) {
			step.to = STORE_WITHDRAWAL_REVERSING;
			snprintf(step.reason, sizeof step.reason, "%s",
			         strcmp(event->type, "payout.canceled") == 0 ? "canceled" : "payout_failed");
		}
	}
	store_act(server_rooms(webhook->task.server)->store, STR("stripe"), STR_NONE);
	payout_worker_step(server_rooms(webhook->task.server)->payouts, row, &step, on_told, webhook);
}

static bool read_account(struct str body, struct stripe_account *out)
{
	struct json_doc *doc = json_parse(body, NULL, NULL);
	bool good = doc && stripe_account_read(json_get(json_get(json_root(doc), "data"), "object"), out);
	json_free(doc);
	return good;
}

void handle_connect_webhook(struct server *server, struct exchange *exchange)
{
	const struct server_rooms *rooms = server_rooms(server);
	struct stripe_event event;
	struct str none = STR_NONE, header = http_header_get(exchange->http, "stripe-signature");
	if (!rooms->payouts ||
	    stripe_signature_check(header, exchange_body(exchange), str_of(rooms->config->stripe_connect_webhook_secret),
	                           clock_wall_us() / 1000000) ||
	    stripe_event_read(exchange_body(exchange), &event)) {
		exchange_answer(exchange, 400, "text/plain; charset=utf-8", STR("invalid signature or event\n"));
		return;
	}
	if (event.kind < STRIPE_EVENT_ACCOUNT_UPDATED) {
		exchange_answer(exchange, 200, "text/plain; charset=utf-8", STR("ignored\n"));
		return;
	}
	struct connect_webhook *webhook = task_new(server, exchange, sizeof *webhook);
	if (!webhook)
		return;
	webhook->event = event;
	if (event.kind == STRIPE_EVENT_ACCOUNT_UPDATED) {
		if (read_account(exchange_body(exchange), &webhook->account))
			store_connect_get(rooms->store, none, str_of(webhook->account.id), on_connect, webhook);
		else
			end_webhook(webhook, true);
		return;
	}
	bool is_transfer = event.kind == STRIPE_EVENT_TRANSFER_REVERSED;
	store_withdrawal_find(rooms->store, str_of(event.withdrawal_id), is_transfer ? none : str_of(event.object_id),
	                      is_transfer ? str_of(event.object_id) : none, on_withdrawal, webhook);
}
