/* What the operator does over HTTP or the socket beside the database (http-api 4.6, 5.1). */
#include "coordinator/server.h"

#include "coordinator/accounts/login.h"
#include "coordinator/actor.h"
#include "coordinator/store/store_terms.h"
#include "core/id.h"
#include "core/json.h"
#include "core/log.h"

#include <stdlib.h>

#define NOTE_MAX 100

/* One gift of credit while it waits for the store. */
struct gift {
	struct server *server;
	struct exchange *exchange; /* NULL: left */
	struct store_transfer transfer;
	char actor[STORE_ACTOR_SIZE];
	const char *word;             /* "credited_usd", "rewarded_usd" */
	char email[STORE_EMAIL_SIZE]; /* by which the account was named; empty = by its id */
};

static void refuse(struct exchange *exchange, int status, const char *type, const char *param, const char *message)
{
	struct api_error error;
	api_fail(&error, status, type, NULL, param, "%s", message);
	if (status == 503)
		error.retry_after_s = 2;
	exchange_error(exchange, &error);
}

static void on_gift_gone(struct exchange *exchange)
{
	struct gift *gift = exchange->owner;
	gift->exchange = NULL;
}

/* Ends the gift; whoever is left to be answered, NULL when nobody is. */
static struct exchange *end(struct gift *gift)
{
	struct exchange *exchange = gift->exchange;
	if (exchange) {
		exchange->on_gone = NULL;
		exchange->owner = NULL;
	}
	free(gift);
	return exchange;
}

static void fail(struct gift *gift, int status, const char *type, const char *message)
{
	struct exchange *exchange = end(gift);
	if (exchange)
		refuse(exchange, status, type, NULL, message);
}

static void put_usd(struct json_writer *w, const char *name, int64_t uusd)
{
	char text[PRICE_USD_SIZE];
	price_format_usd(uusd, text);
	json_put_cstr(w, name, text);
}

static void on_account(const struct store_account *account, const struct error *error, void *user)
{
	struct gift *gift = user;
	struct buf body;
	struct json_writer w;
	if (error || !account) {
		fail(gift, 503, "server_error", "The credit was given, but the balance cannot be read at the moment.");
		return;
	}
	buf_init(&body, 4096);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_bool(&w, "ok", true);
	json_put_cstr(&w, "account_id", account->id);
	if (gift->email[0])
		json_put_cstr(&w, "email", gift->email);
	put_usd(&w, gift->word, gift->transfer.amount_uusd);
	json_put_bool(&w, "withdrawable", gift->transfer.withdrawable);
	put_usd(&w, "balance_after", account->balance_uusd);
	if (gift->transfer.withdrawable)
		put_usd(&w, "withdrawable_after", account->withdrawable_uusd);
	json_end_object(&w);
	buf_append_byte(&body, '\n');
	struct exchange *exchange = end(gift);
	if (exchange)
		exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
}

static void on_given(bool applied, const struct error *error, void *user)
{
	struct gift *gift = user;
	if (error && error->code == DB_E_NOT_FOUND) {
		fail(gift, 404, "not_found", "There is no such account.");
	} else if (error || !applied) {
		fail(gift, 503, "server_error", "The books cannot be written at the moment: nothing was given.");
	} else {
		log_info("admin.credit", "account=%s micro_usd=%lld", gift->transfer.to, (long long)gift->transfer.amount_uusd);
		store_account_get(server_rooms(gift->server)->store, str_of(gift->transfer.to), on_account, gift);
	}
}

static void give(struct gift *gift)
{
	struct store *store = server_rooms(gift->server)->store;
	store_act(store, str_of(gift->actor), str_of(gift->transfer.reference));
	enum db_err err = ledger_transfer(server_rooms(gift->server)->ledger, &gift->transfer, on_given, gift);
	if (!err)
		return;
	store_act(store, STR_NONE, STR_NONE);
	fail(gift, 503, "server_error", "The books cannot be written at the moment: nothing was given.");
}

static void on_named(const struct store_account *account, const struct error *error, void *user)
{
	struct gift *gift = user;
	if (error && error->code == DB_E_EXISTS) {
		fail(gift, 409, "conflict", "More than one account has this e-mail address: name the account by its id.");
	} else if (error && error->code != DB_E_NOT_FOUND) {
		fail(gift, 503, "server_error", "The accounts cannot be read at the moment: nothing was given.");
	} else if (!account) {
		fail(gift, 404, "not_found", "There is no such account.");
	} else {
		memcpy(gift->transfer.to, account->id, sizeof gift->transfer.to);
		give(gift);
	}
}

/* Whom it is for: "owner" or an id in `account`, or an address in `email`. */
static bool read_receiver(const json_val *root, struct store_transfer *transfer, char email[STORE_EMAIL_SIZE])
{
	struct str account, address;
	bool by_email = json_as_str(json_get_some(root, "email"), &address);
	if (json_as_str(json_get_some(root, "account"), &account))
		return !by_email && account.len > 0 && str_copy(account, transfer->to, sizeof transfer->to);
	return by_email && login_fold_email(address, email) == DB_OK;
}

/* {"account" or "email": ..., "amount_usd": "1.00", "note": ...} */
static bool read_gift(struct str body, struct store_transfer *transfer, char email[STORE_EMAIL_SIZE], const char **wrong)
{
	struct error why;
	struct str amount, note = STR("admin");
	struct json_doc *doc = json_parse(body, NULL, &why);
	const json_val *root = doc ? json_root(doc) : NULL, *given = json_get_some(root, "note");
	bool good = read_receiver(root, transfer, email);
	*wrong = good ? NULL : "account";
	if (good && (!json_as_str(json_get(root, "amount_usd"), &amount) ||
	             price_parse_usd(amount, &transfer->amount_uusd) != DB_OK || transfer->amount_uusd <= 0))
		*wrong = "amount_usd";
	if (!*wrong && given && (!json_as_str(given, &note) || note.len > NOTE_MAX))
		*wrong = "note";
	if (!*wrong)
		(void)str_copy(note, transfer->reference, sizeof transfer->reference);
	json_free(doc);
	return !*wrong;
}

static void begin_gift(struct server *server, struct exchange *exchange, const char *type, const char *word, bool withdrawable)
{
	struct store_transfer transfer = {.from = STORE_ACCOUNT_GRANTS, .withdrawable = withdrawable};
	char email[STORE_EMAIL_SIZE] = "";
	const char *wrong;
	if (!read_gift(exchange_body(exchange), &transfer, email, &wrong)) {
		refuse(exchange, 400, "bad_request", wrong,
		       "The body must be {\"email\": \"...\", \"amount_usd\": \"1.00\", \"note\": \"...\"}, or have \"account\" with "
		       "an id "
		       "in place of the address.");
		return;
	}
	struct gift *gift = malloc(sizeof *gift);
	if (!gift) {
		refuse(exchange, 503, "service_unavailable", NULL, "There is not enough memory at the moment: try again.");
		return;
	}
	(void)str_copy(str_of(type), transfer.type, sizeof transfer.type);
	id_uuid4(transfer.key);
	*gift = (struct gift){.server = server, .exchange = exchange, .transfer = transfer, .word = word};
	memcpy(gift->email, email, sizeof gift->email);
	actor_of(exchange, gift->actor);
	exchange->owner = gift;
	exchange->on_gone = on_gift_gone;
	if (email[0])
		store_account_by_email(server_rooms(server)->store, str_of(email), on_named, gift);
	else if (strcmp(transfer.to, "owner") == 0)
		store_owner_get(server_rooms(server)->store, on_named, gift);
	else
		give(gift);
}

void handle_admin_credit(struct server *server, struct exchange *exchange)
{
	begin_gift(server, exchange, "admin_credit", "credited_usd", false);
}

void handle_admin_reward(struct server *server, struct exchange *exchange)
{
	begin_gift(server, exchange, "admin_reward", "rewarded_usd", true);
}
