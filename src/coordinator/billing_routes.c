/* Paying in: Stripe Checkout and its webhook (billing 9). */
#include "coordinator/money_routes.h"

#include "coordinator/actor.h"
#include "coordinator/money/stripe.h"
#include "coordinator/money/stripe_event.h"
#include "coordinator/referral.h"
#include "coordinator/server.h"
#include "coordinator/store/store_deposits.h"
#include "coordinator/task.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/log.h"
#include "core/uri.h"
#include "net/form.h"

#include <stdio.h>

#define CENT_UUSD        10000
#define DEPOSIT_MIN_UUSD 500000

static void put_usd(struct json_writer *w, const char *name, int64_t uusd)
{
	char text[PRICE_USD_SIZE];
	price_format_usd(uusd, text);
	json_put_cstr(w, name, text);
}

/* --- POST /v1/billing/stripe/create-session: the row first, then Stripe, then Stripe's id --- */

struct checkout {
	struct task task;
	struct store_deposit deposit;
	char email[256];
	char url[2048];
	char actor[STORE_ACTOR_SIZE];
};

static void refuse_checkout(struct checkout *checkout, int status, const char *type, const char *message)
{
	struct exchange *exchange = task_end(checkout);
	if (exchange)
		task_refuse(exchange, status, type, message, 0);
	task_free(checkout);
}

static void on_named(const struct error *error, void *user)
{
	struct checkout *checkout = user;
	struct exchange *exchange = task_end(checkout);
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		task_refuse(exchange, 503, "service_unavailable", "The deposit cannot be written at the moment: try again.", 2);
	} else if (exchange) {
		buf_init(&body, 8192);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "session_id", checkout->deposit.id);
		json_put_cstr(&w, "stripe_session", checkout->deposit.external_id);
		json_put_cstr(&w, "url", checkout->url);
		put_usd(&w, "amount_usd", checkout->deposit.amount_uusd);
		json_put_i64(&w, "amount_micro_usd", checkout->deposit.amount_uusd);
		json_end_object(&w);
		task_answer_private(exchange, 200, &body);
	}
	task_free(checkout);
}

static void on_checkout(int status, const json_val *root, struct str error_code, void *user)
{
	struct checkout *checkout = user;
	struct str id, url = STR_NONE;
	(void)error_code;
	bool good = status == 200 && json_as_str(json_get(root, "id"), &id) && json_as_str(json_get(root, "url"), &url) &&
	            str_copy(id, checkout->deposit.external_id, sizeof checkout->deposit.external_id) &&
	            str_copy(url, checkout->url, sizeof checkout->url);
	if (good)
		store_deposit_set_external(server_rooms(checkout->task.server)->store, str_of(checkout->deposit.id), id, on_named,
		                           checkout);
	else
		refuse_checkout(checkout, 502, "stripe_error", "Stripe did not begin the payment: try again. Nothing was charged.");
}

static void put_metadata(struct buf *form, const struct checkout *checkout)
{
	char name[96];
	const char *const pairs[][2] = {{"app", "darkbloom"},
	                                {"purchase_type", "inference_credits"},
	                                {"billing_session_id", checkout->deposit.id},
	                                {"consumer_key", checkout->deposit.account_id},
	                                {"referral_code", checkout->deposit.referral_code}};
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		snprintf(name, sizeof name, "metadata[%s]", pairs[i][0]);
		if (pairs[i][1][0])
			form_put(form, name, str_of(pairs[i][1]));
	}
}

static void put_payment_metadata(struct buf *form, const struct checkout *checkout)
{
	form_put(form, "payment_intent_data[metadata][billing_session_id]", str_of(checkout->deposit.id));
	form_put(form, "payment_intent_data[metadata][consumer_key]", str_of(checkout->deposit.account_id));
}

static void on_deposit_written(const struct error *error, void *user)
{
	struct checkout *checkout = user;
	const struct server_rooms *rooms = server_rooms(checkout->task.server);
	const struct coordinator_config *config = rooms->config;
	char cents[32], success[2048];
	struct buf form;
	if (error) {
		refuse_checkout(checkout, 503, "service_unavailable", "The deposit cannot be written at the moment: try again.");
		return;
	}
	snprintf(cents, sizeof cents, "%lld", (long long)(checkout->deposit.amount_uusd / CENT_UUSD));
	snprintf(success, sizeof success, "%s%csession_id={CHECKOUT_SESSION_ID}", config->stripe_success_url,
	         strchr(config->stripe_success_url, '?') ? '&' : '?');
	buf_init(&form, 64u << 10);
	form_put(&form, "mode", STR("payment"));
	form_put(&form, "success_url", str_of(success));
	form_put(&form, "cancel_url", str_of(config->stripe_cancel_url));
	form_put(&form, "payment_method_types[0]", STR("card"));
	form_put(&form, "line_items[0][quantity]", STR("1"));
	form_put(&form, "line_items[0][price_data][currency]", STR("usd"));
	form_put(&form, "line_items[0][price_data][unit_amount]", str_of(cents));
	form_put(&form, "line_items[0][price_data][product_data][name]", STR("Darkbloom inference credit"));
	if (checkout->email[0])
		form_put(&form, "customer_email", str_of(checkout->email));
	put_metadata(&form, checkout);
	put_payment_metadata(&form, checkout);
	struct stripe_call call = {.method = "POST",
	                           .path = "/v1/checkout/sessions",
	                           .form = buf_str(&form),
	                           .idempotency_key = checkout->deposit.id,
	                           .user = checkout,
	                           .done = on_checkout};
	stripe_call(rooms->stripe, &call);
	buf_free(&form);
}

static bool read_checkout(struct str body, struct checkout *checkout)
{
	struct str amount, email = STR_NONE, code = STR_NONE;
	struct json_doc *doc = json_parse(body, NULL, NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	bool good = json_as_str(json_get(root, "amount_usd"), &amount) &&
	            price_parse_usd(amount, &checkout->deposit.amount_uusd) == DB_OK &&
	            checkout->deposit.amount_uusd >= DEPOSIT_MIN_UUSD && checkout->deposit.amount_uusd % CENT_UUSD == 0 &&
	            checkout->deposit.amount_uusd <= INT64_C(999999) * 1000000;
	if (good && json_get_some(root, "email"))
		good = json_as_str(json_get(root, "email"), &email) && str_copy(email, checkout->email, sizeof checkout->email);
	if (good && json_get_some(root, "referral_code"))
		good = json_as_str(json_get(root, "referral_code"), &code) && referral_read_code(code, checkout->deposit.referral_code);
	json_free(doc);
	return good;
}

static bool refuse_without_stripe(const struct server *server, struct exchange *exchange)
{
	if (server_rooms(server)->stripe)
		return false;
	task_refuse(exchange, 503, "billing_error", "This coordinator takes no payments: stripe.secret_key is not set.", 0);
	return true;
}

static void begin_deposit(struct checkout *checkout)
{
	struct store *store = server_rooms(checkout->task.server)->store;
	store_act(store, str_of(checkout->actor), STR_NONE);
	store_deposit_create(store, &checkout->deposit, on_deposit_written, checkout);
}

static void on_code_found(const struct store_referral *owner, const struct error *error, void *user)
{
	struct checkout *checkout = user;
	if (error)
		refuse_checkout(checkout, 503, "service_unavailable", "The codes cannot be read at the moment: try again.");
	else if (!owner->referrer[0])
		refuse_checkout(checkout, 400, "referral_error", "Nobody has this referral code. Nothing was charged.");
	else
		begin_deposit(checkout);
}

void handle_checkout_create(struct server *server, struct exchange *exchange)
{
	struct checkout read = {.email = ""};
	if (refuse_without_stripe(server, exchange))
		return;
	if (!read_checkout(exchange_body(exchange), &read)) {
		task_refuse(
		    exchange, 400, "invalid_request_error",
		    "The body must be {\"amount_usd\": \"25.00\"}: whole cents, at least 0.50; email and referral_code may be added.",
		    0);
		return;
	}
	struct checkout *checkout = task_new(server, exchange, sizeof *checkout);
	if (!checkout)
		return;
	checkout->deposit = read.deposit;
	memcpy(checkout->email, read.email, sizeof checkout->email);
	id_uuid4(checkout->deposit.id);
	(void)str_copy(str_of(ledger_account_id(exchange->caller.account)), checkout->deposit.account_id,
	               sizeof checkout->deposit.account_id);
	actor_of(exchange, checkout->actor);
	if (checkout->deposit.referral_code[0])
		store_referral_find(server_rooms(server)->store, str_of(checkout->deposit.referral_code), on_code_found, checkout);
	else
		begin_deposit(checkout);
}

/* --- GET /v1/billing/stripe/session?id= --- */

struct session_task {
	struct task task;
	char account[STORE_ID_SIZE];
};

static void put_time(struct json_writer *w, const char *name, int64_t at_us)
{
	char when[CLOCK_RFC3339_SIZE];
	json_key(w, name);
	if (at_us) {
		clock_format_rfc3339(at_us, when);
		json_cstr(w, when);
	} else {
		json_null(w);
	}
}

static void on_session(const struct store_deposit *deposit, const struct error *error, void *user)
{
	struct session_task *task = user;
	struct exchange *exchange = task_end(task);
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		task_refuse(exchange, 503, "service_unavailable", "The deposit cannot be read at the moment: try again.", 2);
	} else if (exchange && (!deposit || strcmp(deposit->account_id, task->account) != 0)) {
		task_refuse(exchange, 404, "not_found", "There is no such deposit.", 0);
	} else if (exchange) {
		buf_init(&body, 4096);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "session_id", deposit->id);
		json_put_cstr(&w, "payment_method", "stripe");
		json_put_i64(&w, "amount_micro_usd", deposit->amount_uusd);
		json_put_cstr(&w, "status", deposit->status);
		json_put_i64(&w, "reversed_micro_usd", deposit->reversed_uusd);
		put_time(&w, "created_at", deposit->created_us);
		put_time(&w, "completed_at", deposit->completed_us);
		json_end_object(&w);
		task_answer_private(exchange, 200, &body);
	}
	task_free(task);
}

void handle_checkout_get(struct server *server, struct exchange *exchange)
{
	struct store_deposit_name name = {0};
	struct session_task *task = task_new(server, exchange, sizeof *task);
	if (!task)
		return;
	(void)str_copy(str_of(ledger_account_id(exchange->caller.account)), task->account, sizeof task->account);
	(void)uri_query(http_query(exchange->http), "id", name.id, sizeof name.id);
	store_deposit_find(server_rooms(server)->store, &name, on_session, task);
}

/* --- POST /v1/billing/stripe/webhook --- */

struct webhook {
	struct task task;
	struct stripe_event event;
	struct store_deposit_event news;
	struct ledger_move move;
	char account[STORE_ID_SIZE], referral_code[32]; /* of the deposit */
};

static void end_webhook(struct webhook *webhook, int status, const char *text)
{
	struct exchange *exchange = task_end(webhook);
	if (exchange)
		exchange_answer(exchange, status, "text/plain; charset=utf-8", str_of(text));
	task_free(webhook);
}

static void on_applied(int64_t moved_uusd, const struct error *error, void *user)
{
	struct webhook *webhook = user;
	ledger_move_end(&webhook->move, moved_uusd, false);
	if (!error && webhook->event.kind == STRIPE_EVENT_CHECKOUT_COMPLETED && webhook->referral_code[0])
		referral_attribute(webhook->task.server, str_of(webhook->account), str_of(webhook->referral_code),
		                   STORE_REFERRED_AT_CHECKOUT);
	if (error) /* Stripe sends it again */
		end_webhook(webhook, error->code == DB_E_INVALID ? 400 : 500, "the deposit could not be written\n");
	else
		end_webhook(webhook, 200, "ok\n");
}

static enum store_deposit_news news_of(enum stripe_event_kind kind)
{
	switch (kind) {
	case STRIPE_EVENT_CHECKOUT_EXPIRED:
		return STORE_DEPOSIT_EXPIRED;
	case STRIPE_EVENT_CHARGE_REFUNDED:
		return STORE_DEPOSIT_REFUNDED;
	case STRIPE_EVENT_DISPUTE_WITHDRAWN:
		return STORE_DEPOSIT_DISPUTED;
	case STRIPE_EVENT_DISPUTE_REINSTATED:
		return STORE_DEPOSIT_REINSTATED;
	default:
		return STORE_DEPOSIT_PAID;
	}
}

/* What Stripe says was paid must be what was asked for, by whom it was asked. */
static const char *mismatch(const struct stripe_event *event, const struct store_deposit *deposit)
{
	if (!event->is_usd)
		return "the currency is not usd\n";
	if (event->kind != STRIPE_EVENT_CHECKOUT_COMPLETED)
		return NULL;
	if (strcmp(event->account_id, deposit->account_id) != 0)
		return "the account is another than that of the deposit\n";
	if (event->cents * CENT_UUSD != deposit->amount_uusd)
		return "the amount is another than that of the deposit\n";
	return NULL;
}

static void apply(struct webhook *webhook)
{
	const struct server_rooms *rooms = server_rooms(webhook->task.server);
	if (ledger_move_begin(rooms->ledger, str_of(webhook->account), 0, &webhook->move)) {
		end_webhook(webhook, 500, "the books cannot be written\n");
		return;
	}
	store_act(rooms->store, STR("stripe"), STR_NONE);
	store_deposit_apply(rooms->store, &webhook->news, on_applied, webhook);
}

/* What other coordinators did not use of the account's money is here now: as much as there is can be taken back. */
static void on_gathered(enum db_err err, void *user)
{
	if (err == DB_E_AGAIN || err == DB_E_IO || err == DB_E_NOMEM)
		end_webhook(user, 500, "the books cannot be written\n");
	else
		apply(user);
}

static void on_deposit(const struct store_deposit *deposit, const struct error *error, void *user)
{
	struct webhook *webhook = user;
	const struct stripe_event *event = &webhook->event;
	const struct server_rooms *rooms = server_rooms(webhook->task.server);
	if (error) {
		end_webhook(webhook, 500, "the deposits cannot be read\n");
		return;
	}
	if (!deposit) { /* of another system on the same Stripe account */
		log_warn("stripe.unknown_deposit", "event=%s type=%s", event->id, event->type);
		end_webhook(webhook, 200, "ignored\n");
		return;
	}
	const char *wrong = mismatch(event, deposit);
	if (wrong) {
		log_error("stripe.mismatch", "event=%s deposit=%s why=\"%s\"", event->id, deposit->id, wrong);
		end_webhook(webhook, 400, wrong);
		return;
	}
	struct store_deposit_event *news = &webhook->news;
	*news = (struct store_deposit_event){
	    .news = news_of(event->kind), .amount_uusd = event->cents * CENT_UUSD, .created_s = event->created_s};
	memcpy(news->event_id, event->id, sizeof news->event_id);
	memcpy(news->type, event->type, sizeof news->type);
	memcpy(news->deposit_id, deposit->id, sizeof news->deposit_id);
	memcpy(news->payment_intent, event->payment_intent, sizeof news->payment_intent);
	memcpy(webhook->account, deposit->account_id, sizeof webhook->account);
	memcpy(webhook->referral_code, deposit->referral_code, sizeof webhook->referral_code);
	bool takes = news->news == STORE_DEPOSIT_REFUNDED || news->news == STORE_DEPOSIT_DISPUTED;
	if (takes)
		ledger_gather(rooms->ledger, str_of(webhook->account), news->amount_uusd, on_gathered, webhook);
	else
		apply(webhook);
}

void handle_stripe_webhook(struct server *server, struct exchange *exchange)
{
	const struct server_rooms *rooms = server_rooms(server);
	struct stripe_event event;
	struct str header = http_header_get(exchange->http, "stripe-signature");
	if (stripe_signature_check(header, exchange_body(exchange), str_of(rooms->config->stripe_webhook_secret),
	                           clock_wall_us() / 1000000) ||
	    stripe_event_read(exchange_body(exchange), &event)) {
		exchange_answer(exchange, 400, "text/plain; charset=utf-8", STR("invalid signature or event\n"));
		return;
	}
	bool acts = event.kind >= STRIPE_EVENT_CHECKOUT_COMPLETED && event.kind <= STRIPE_EVENT_DISPUTE_REINSTATED;
	bool waits = event.kind == STRIPE_EVENT_CHECKOUT_COMPLETED && !event.is_paid;
	if (!acts || waits) { /* a payment that takes days is told of again when it came in */
		exchange_answer(exchange, 200, "text/plain; charset=utf-8", STR("ignored\n"));
		return;
	}
	if (event.cents < 0) {
		exchange_answer(exchange, 400, "text/plain; charset=utf-8", STR("the event has no amount\n"));
		return;
	}
	struct webhook *webhook = task_new(server, exchange, sizeof *webhook);
	if (!webhook)
		return;
	webhook->event = event;
	struct store_deposit_name name = {0};
	memcpy(name.id, event.deposit_id, sizeof name.id);
	memcpy(name.payment_intent, event.payment_intent, sizeof name.payment_intent);
	if (event.kind == STRIPE_EVENT_CHECKOUT_COMPLETED || event.kind == STRIPE_EVENT_CHECKOUT_EXPIRED)
		memcpy(name.external_id, event.object_id, sizeof name.external_id);
	store_deposit_find(rooms->store, &name, on_deposit, webhook);
}

/* --- GET /v1/billing/methods, GET /v1/billing/wallet/balance --- */

void handle_billing_methods(struct server *server, struct exchange *exchange)
{
	struct buf body;
	struct json_writer w;
	buf_init(&body, 4096);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "methods");
	json_begin_array(&w);
	if (server_rooms(server)->stripe) {
		json_begin_object(&w);
		json_put_cstr(&w, "method", "stripe");
		json_put_cstr(&w, "display_name", "Card");
		json_key(&w, "currencies");
		json_begin_array(&w);
		json_cstr(&w, "usd");
		json_end_array(&w);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_key(&w, "referral");
	json_begin_object(&w);
	json_put_bool(&w, "enabled", true);
	json_put_i64(&w, "share_percent", ledger_referral_share(server_rooms(server)->ledger));
	json_end_object(&w);
	json_end_object(&w);
	task_answer_private(exchange, 200, &body);
}

void handle_wallet_balance(struct server *server, struct exchange *exchange)
{
	struct buf body;
	struct json_writer w;
	(void)server;
	buf_init(&body, 1024);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_i64(&w, "credit_balance_micro_usd", ledger_available(exchange->caller.account));
	json_end_object(&w);
	task_answer_private(exchange, 200, &body);
}
