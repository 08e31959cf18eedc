#include "coordinator/operator.h"

#include "coordinator/accounts/accounts.h"
#include "coordinator/accounts/key_json.h"
#include "coordinator/database.h"
#include "coordinator/record_keeper.h"
#include "coordinator/serve.h"
#include "coordinator/server.h"
#include "coordinator/store/store_books.h"
#include "coordinator/store/store_trail.h"
#include "core/cli.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/uri.h"
#include "crypto/secret.h"
#include "net/http_client.h"

#include <stdio.h>

#define ANSWER_WITHIN_MS 30000
#define NOTE_SIZE        101

/* One command. Either way the answer is the JSON of the HTTP route, in `answer`. */
struct command {
	const struct coordinator_config *config;
	const char *method;
	char path[512];
	struct buf body;
	const char *account;                   /* "owner" or an id; NULL = none is needed */
	void (*in_database)(struct command *); /* account_id is known */
	const char *key_file;                  /* NULL = print the key */
	const char *request_id;                /* to be explained */
	const char *recipient;                 /* of an export */
	bool as_json;

	struct net_loop *loop;
	bool reached; /* a running coordinator answered */
	bool failed;
	struct buf answer;
	struct error error;

	/* without a running coordinator */
	struct store *store;
	struct ledger *ledger;
	struct accounts *accounts;
	char account_id[STORE_ID_SIZE];
	struct store_transfer transfer;
	char key_id[STORE_ID_SIZE];
};

static void finish(struct command *command, const struct error *error)
{
	if (error)
		command->error = *error;
	command->failed = error != NULL;
	net_loop_stop(command->loop);
}

/* --- through the socket --- */

static void read_refusal(struct command *command, int status, struct str body)
{
	struct str message = STR_NONE;
	struct json_doc *doc = json_parse(body, NULL, NULL);
	command->failed = true;
	if (doc && json_as_str(json_get(json_get(json_root(doc), "error"), "message"), &message))
		(void)error_set(&command->error, DB_E_INVALID, "%.*s", STR_ARG(message));
	else
		(void)error_set(&command->error, DB_E_IO, "The coordinator answered with status %d.", status);
	json_free(doc);
}

static void on_answer(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct command *command = user;
	(void)fetch, (void)error;
	command->reached = status != 0;
	if (status == 200)
		(void)buf_append_str(&command->answer, body);
	else if (status != 0)
		read_refusal(command, status, body);
	net_loop_stop(command->loop);
}

static void try_socket(struct command *command)
{
	char socket[4096], url[640];
	struct error error;
	struct http_client *client = http_client_new(command->loop, &error);
	struct http_header type = {STR("content-type"), STR("application/json")};
	if (!client || !server_socket_path(command->config, socket, sizeof socket))
		goto out;
	(void)snprintf(url, sizeof url, "http://localhost%s", command->path);
	struct http_fetch_options options = {.method = command->method,
	                                     .url = url,
	                                     .headers = &type,
	                                     .header_count = 1,
	                                     .body = buf_str(&command->body),
	                                     .unix_path = socket,
	                                     .timeout_ms = ANSWER_WITHIN_MS,
	                                     .user = command,
	                                     .on_done = on_answer};
	if (http_fetch(client, &options, &error))
		net_loop_run(command->loop);
out:
	if (client)
		http_client_free(client);
}

/* --- in the database --- */

static void on_account(const struct store_account *account, const struct error *error, void *user)
{
	struct command *command = user;
	struct error unknown;
	if (!account && !error) {
		(void)error_set(&unknown, DB_E_NOT_FOUND, "There is no account %s: start the coordinator once to make the owner's.",
		                command->account);
		error = &unknown;
	}
	if (error) {
		finish(command, error);
		return;
	}
	memcpy(command->account_id, account->id, sizeof command->account_id);
	command->in_database(command);
}

static void use_database(struct command *command)
{
	struct store_options options = database_options(command->config);
	command->failed = true;
	if (serve_make_dir(command->config->dir, &command->error) == DB_OK)
		command->store = store_open(&options, command->loop, &command->error);
	if (!command->store)
		return;
	command->ledger = ledger_new(command->store);
	command->accounts = command->ledger ? accounts_new(command->store, command->ledger) : NULL;
	if (!command->accounts) {
		(void)error_set(&command->error, DB_E_NOMEM, "There is not enough memory.");
	} else {
		if (!command->account)
			command->in_database(command);
		else if (strcmp(command->account, "owner") == 0)
			store_owner_get(command->store, on_account, command);
		else
			store_account_get(command->store, str_of(command->account), on_account, command);
		net_loop_run(command->loop);
	}
	store_close(command->store);
	accounts_free(command->accounts);
	ledger_free(command->ledger);
}

/* --- either way --- */

static void carry_out(struct command *command)
{
	command->loop = net_loop_new(&command->error);
	command->failed = !command->loop;
	if (command->loop) {
		try_socket(command);
		if (!command->reached)
			use_database(command);
		net_loop_free(command->loop);
	}
}

static int run(struct command *command, int (*print)(struct command *command, const json_val *answer))
{
	int status = CLI_FAILED;
	carry_out(command);
	struct json_doc *doc = command->failed ? NULL : json_parse(buf_str(&command->answer), NULL, &command->error);
	if (doc) {
		fprintf(stderr, "darkbloom-coordinator: done %s.\n",
		        command->reached ? "by the running coordinator" : "in the database; no coordinator runs on it");
		status = print(command, json_root(doc));
	} else {
		fprintf(stderr, "darkbloom-coordinator: %s\n", command->error.text);
	}
	json_free(doc);
	buf_free(&command->answer);
	buf_free(&command->body);
	return status;
}

static struct command new_command(const struct coordinator_config *config, const char *method)
{
	struct command command = {.config = config, .method = method};
	buf_init(&command.body, 64u << 10);
	buf_init(&command.answer, 16u << 20);
	return command;
}

/* The path of a route about one account's keys. */
static bool set_account(struct command *command, const char *account)
{
	char encoded[3 * STORE_ID_SIZE];
	command->account = account;
	if (!uri_encode(str_of(account), encoded, sizeof encoded)) {
		fprintf(stderr, "darkbloom-coordinator: No account has so long a name.\n");
		return false;
	}
	(void)snprintf(command->path, sizeof command->path, "/v1/admin/keys?account=%s", encoded);
	return true;
}

static struct str text_of(const json_val *object, const char *name)
{
	struct str text = STR_NONE;
	(void)json_as_str(json_get(object, name), &text);
	return text;
}

/* --- keys create --- */

static void on_key(const char *key, const struct store_key *row, const struct error *error, void *user)
{
	struct command *command = user;
	struct json_writer w;
	if (key) {
		json_writer_init(&w, &command->answer);
		json_begin_object(&w);
		json_put_cstr(&w, "key", key);
		json_key(&w, "data");
		key_json_write(&w, row);
		json_end_object(&w);
	}
	finish(command, error);
}

static void create_in_database(struct command *command)
{
	struct store_key terms;
	struct api_error refused;
	struct error error;
	if (!key_json_create(buf_str(&command->body), clock_wall_us(), &terms, &refused)) {
		(void)error_set(&error, DB_E_INVALID, "%s", refused.message);
		finish(command, &error);
		return;
	}
	memcpy(terms.account_id, command->account_id, sizeof terms.account_id);
	store_act(command->store, STR("operator"), STR_NONE);
	accounts_key_create(command->accounts, &terms, on_key, command);
}

static int print_key(struct command *command, const json_val *answer)
{
	struct str key = text_of(answer, "key");
	struct error error;
	char line[ACCOUNTS_KEY_SIZE + 1];
	int len = snprintf(line, sizeof line, "%.*s\n", STR_ARG(key));
	int status = CLI_OK;
	if (!command->key_file) {
		(void)fputs(line, stdout);
	} else if (serve_write_secret(command->key_file, (struct str){line, (size_t)len}, &error) != DB_OK) {
		fprintf(stderr, "darkbloom-coordinator: %s\n", error.text);
		status = CLI_FAILED;
	}
	secret_wipe(line, sizeof line);
	return status;
}

static void put_scopes(struct json_writer *w, const char *scopes)
{
	struct str rest = str_of(scopes), scope;
	json_key(w, "scopes");
	json_begin_array(w);
	while (rest.len > 0) {
		rest = str_cut(rest, ',', &scope);
		json_str(w, str_trim(scope));
	}
	json_end_array(w);
}

int operator_key_create(const struct coordinator_config *config, const struct operator_key *key)
{
	struct command command = new_command(config, "POST");
	struct json_writer w;
	int64_t limit_uusd;
	char limit[PRICE_USD_SIZE] = "";
	if (key->limit_usd && price_parse_usd(str_of(key->limit_usd), &limit_uusd)) {
		fprintf(stderr, "darkbloom-coordinator: %s is no limit in dollars, such as 10 or 2.50.\n", key->limit_usd);
		return CLI_USAGE;
	}
	if (!set_account(&command, key->account))
		return CLI_USAGE;
	if (key->limit_usd)
		price_format_usd(limit_uusd, limit);
	command.in_database = create_in_database;
	command.key_file = key->key_file;
	json_writer_init(&w, &command.body);
	json_begin_object(&w);
	json_put_cstr(&w, "name", key->name);
	if (key->scopes)
		put_scopes(&w, key->scopes);
	if (key->limit_usd) {
		json_key(&w, "limit_usd");
		json_raw(&w, str_of(limit));
	}
	if (key->reset)
		json_put_cstr(&w, "limit_reset", key->reset);
	json_end_object(&w);
	return run(&command, print_key);
}

/* --- keys list --- */

static void on_keys(const struct store_key *keys, size_t count, const struct error *error, void *user)
{
	struct command *command = user;
	struct json_writer w;
	json_writer_init(&w, &command->answer);
	json_begin_object(&w);
	json_put_cstr(&w, "object", "list");
	json_key(&w, "data");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++)
		key_json_write(&w, &keys[i]);
	json_end_array(&w);
	json_end_object(&w);
	finish(command, error);
}

static void list_in_database(struct command *command)
{
	store_keys_list(command->store, str_of(command->account_id), on_keys, command);
}

static int print_keys(struct command *command, const json_val *answer)
{
	struct json_iter keys = json_iter(json_get(answer, "data"));
	if (command->as_json) {
		printf("%.*s\n", STR_ARG(str_trim(buf_str(&command->answer))));
		return CLI_OK;
	}
	printf("%-28s  %-20s  %-8s  %10s  %10s  %-20s  %s\n", "ID", "KEY", "STATE", "SPENT $", "LIMIT $", "LAST USED", "NAME");
	for (const json_val *key; (key = json_next(&keys, NULL));) {
		bool disabled = false;
		double spent = 0, limit = 0;
		char limit_text[32] = "-";
		(void)json_as_bool(json_get(key, "disabled"), &disabled);
		(void)json_as_double(json_get(key, "usage_usd"), &spent);
		if (json_as_double(json_get(key, "limit_usd"), &limit))
			(void)snprintf(limit_text, sizeof limit_text, "%.2f", limit);
		struct str used = text_of(key, "last_used_at");
		printf("%-28.*s  %-20.*s  %-8s  %10.4f  %10s  %-20.*s  %.*s\n", STR_ARG(text_of(key, "id")),
		       STR_ARG(text_of(key, "label")), disabled ? "disabled" : "active", spent, limit_text,
		       STR_ARG(used.len ? used : STR("never")), STR_ARG(text_of(key, "name")));
	}
	return CLI_OK;
}

int operator_keys_list(const struct coordinator_config *config, const char *account, bool as_json)
{
	struct command command = new_command(config, "GET");
	if (!set_account(&command, account))
		return CLI_USAGE;
	command.in_database = list_in_database;
	command.as_json = as_json;
	return run(&command, print_keys);
}

/* --- keys revoke --- */

static void on_revoked(const struct error *error, void *user)
{
	struct command *command = user;
	(void)buf_append_c(&command->answer, "{\"status\":\"revoked\"}");
	finish(command, error);
}

static void revoke_in_database(struct command *command)
{
	store_act(command->store, STR("operator"), STR_NONE);
	accounts_key_delete(command->accounts, str_of(command->key_id), on_revoked, command);
}

static int print_revoked(struct command *command, const json_val *answer)
{
	(void)answer;
	printf("Revoked %s.\n", command->key_id);
	return CLI_OK;
}

int operator_key_revoke(const struct coordinator_config *config, const char *key_id)
{
	struct command command = new_command(config, "DELETE");
	char encoded[3 * STORE_ID_SIZE];
	if (!str_copy(str_of(key_id), command.key_id, sizeof command.key_id) || key_id[0] == '\0' ||
	    !uri_encode(str_of(key_id), encoded, sizeof encoded)) {
		fprintf(stderr, "darkbloom-coordinator: %s is no key's id: see `darkbloom-coordinator keys list`.\n", key_id);
		return CLI_USAGE;
	}
	(void)snprintf(command.path, sizeof command.path, "/v1/admin/keys/%s", encoded);
	command.in_database = revoke_in_database;
	return run(&command, print_revoked);
}

/* --- credit --- */

static void on_credited(bool applied, const struct error *error, void *user)
{
	struct command *command = user;
	struct error unknown = {.code = DB_E_INTERNAL, .text = "The credit was not applied."};
	struct json_writer w;
	json_writer_init(&w, &command->answer);
	json_begin_object(&w);
	json_put_cstr(&w, "account_id", command->account_id);
	json_end_object(&w);
	finish(command, error || applied ? error : &unknown);
}

static void credit_in_database(struct command *command)
{
	memcpy(command->transfer.to, command->account_id, sizeof command->transfer.to);
	store_act(command->store, STR("operator"), str_of(command->transfer.reference));
	store_transfer(command->store, &command->transfer, on_credited, command);
}

static int print_credited(struct command *command, const json_val *answer)
{
	char usd[PRICE_USD_SIZE];
	price_format_usd(command->transfer.amount_uusd, usd);
	printf("Credited $%s to account %.*s.\n", usd, STR_ARG(text_of(answer, "account_id")));
	return CLI_OK;
}

int operator_give(const struct coordinator_config *config, const char *kind, const char *account, const char *usd,
                  const char *reason)
{
	struct command command = new_command(config, "POST");
	struct json_writer w;
	command.transfer = (struct store_transfer){.from = STORE_ACCOUNT_GRANTS, .withdrawable = strcmp(kind, "reward") == 0};
	(void)snprintf(command.transfer.type, sizeof command.transfer.type, "admin_%s", kind);
	if (price_parse_usd(str_of(usd), &command.transfer.amount_uusd) != DB_OK || command.transfer.amount_uusd == 0) {
		fprintf(stderr, "darkbloom-coordinator: %s is no amount in dollars, such as 10 or 2.50.\n", usd);
		return CLI_USAGE;
	}
	if (!str_copy(str_of(reason ? reason : "command line"), command.transfer.reference, NOTE_SIZE)) {
		fprintf(stderr, "darkbloom-coordinator: The reason is longer than %d bytes.\n", NOTE_SIZE - 1);
		return CLI_USAGE;
	}
	id_uuid4(command.transfer.key);
	command.account = account;
	command.in_database = credit_in_database;
	(void)snprintf(command.path, sizeof command.path, "/v1/admin/%s", kind);
	json_writer_init(&w, &command.body);
	json_begin_object(&w);
	json_put_cstr(&w, "account", account);
	json_put_cstr(&w, "amount_usd", usd);
	json_put_cstr(&w, "note", command.transfer.reference);
	json_end_object(&w);
	return run(&command, print_credited);
}

/* --- ledger close --- */

static void on_period_closed(const struct store_close *close, const struct error *error, void *user)
{
	struct command *command = user;
	struct json_writer w;
	json_writer_init(&w, &command->answer);
	json_begin_object(&w);
	if (close) {
		json_put_i64(&w, "close", close->id);
		json_put_i64(&w, "entries", close->entries);
		json_put_cstr(&w, "hash", close->hash);
	}
	json_end_object(&w);
	finish(command, error);
}

static void close_in_database(struct command *command)
{
	store_act(command->store, STR("operator"), STR_NONE);
	store_ledger_close(command->store, on_period_closed, command);
}

static int print_close(struct command *command, const json_val *answer)
{
	int64_t close = 0, entries = 0;
	(void)command;
	if (!json_as_i64(json_get(answer, "close"), &close))
		printf("Nothing was written since the last close.\n");
	else if (json_as_i64(json_get(answer, "entries"), &entries))
		printf("Close %lld covers %lld entries. Keep its hash elsewhere: %.*s\n", (long long)close, (long long)entries,
		       STR_ARG(text_of(answer, "hash")));
	return CLI_OK;
}

int operator_ledger_close(const struct coordinator_config *config)
{
	struct command command = new_command(config, "POST");
	command.in_database = close_in_database;
	(void)snprintf(command.path, sizeof command.path, "/v1/admin/ledger/close");
	return run(&command, print_close);
}

/* --- export-state --- */

static void on_noted(const struct error *error, void *user)
{
	finish(user, error);
}

static void note_in_database(struct command *command)
{
	store_act(command->store, STR("operator"), STR_NONE);
	store_trail_add(command->store, STR("state.export"), str_of(command->recipient), on_noted, command);
}

enum db_err operator_note_export(const struct coordinator_config *config, const char *recipient, struct error *error)
{
	struct command command = new_command(config, "POST");
	struct json_writer w;
	command.in_database = note_in_database;
	command.recipient = recipient;
	(void)snprintf(command.path, sizeof command.path, "/v1/admin/state-export");
	json_writer_init(&w, &command.body);
	json_begin_object(&w);
	json_put_cstr(&w, "recipient", recipient);
	json_end_object(&w);
	carry_out(&command);
	if (command.failed)
		*error = command.error;
	buf_free(&command.answer);
	buf_free(&command.body);
	return command.failed ? error->code : DB_OK;
}

/* --- explain --- */

/* The same as the route answers, from what the coordinator left on disk. */
static void explain_without_coordinator(struct command *command)
{
	char dir[4096];
	struct error error;
	struct record record;
	struct json_writer w;
	bool named = record_keeper_dir(command->config->dir, dir, sizeof dir);
	if (named && record_log_find(dir, str_of(command->request_id), &record) == DB_OK) {
		json_writer_init(&w, &command->answer);
		record_write_explained(&record, &w);
		finish(command, NULL);
		return;
	}
	(void)error_set(&error, DB_E_NOT_FOUND,
	                "No coordinator runs on this database, and there is no record of this request: it is unknown, or too long "
	                "ago.");
	finish(command, &error);
}

static int print_explained(struct command *command, const json_val *answer)
{
	struct str words;
	if (command->as_json)
		printf("%.*s", STR_ARG(buf_str(&command->answer)));
	else if (json_as_str(json_get(answer, "explanation"), &words))
		printf("%.*s", STR_ARG(words));
	return CLI_OK;
}

int operator_explain(const struct coordinator_config *config, const char *request_id, bool as_json)
{
	char encoded[3 * STORE_ID_SIZE];
	struct command command = new_command(config, "GET");
	if (!uri_encode(str_of(request_id), encoded, sizeof encoded)) {
		fprintf(stderr, "darkbloom-coordinator: No request has so long an id.\n");
		return CLI_USAGE;
	}
	(void)snprintf(command.path, sizeof command.path, "/v1/admin/routes/%s", encoded);
	command.in_database = explain_without_coordinator;
	command.request_id = request_id;
	command.as_json = as_json;
	return run(&command, print_explained);
}

/* --- reconcile --- */

static void reconcile_without_coordinator(struct command *command)
{
	struct error error;
	(void)error_set(&error, DB_E_CLOSED, "No coordinator runs: only a running one asks Stripe. Start it first.");
	finish(command, &error);
}

static int64_t amount_of(const json_val *sums, const char *name)
{
	int64_t uusd = 0;
	(void)json_as_i64(json_get(sums, name), &uusd);
	return uusd;
}

static void print_amounts(const char *what, int64_t books_uusd, int64_t stripe_uusd)
{
	char books[PRICE_USD_SIZE], stripe[PRICE_USD_SIZE], off[PRICE_USD_SIZE];
	price_format_usd(books_uusd, books);
	price_format_usd(stripe_uusd, stripe);
	price_format_usd(stripe_uusd - books_uusd, off);
	printf("%-20s  %20s  %20s  %20s\n", what, books, stripe, off);
}

static void print_differences(const json_val *answer)
{
	struct json_iter rows = json_iter(json_get(answer, "differences"));
	int64_t listed = 0, all = amount_of(answer, "difference_count");
	for (const json_val *row; (row = json_next(&rows, NULL)); listed++) {
		char what[200];
		struct str id = text_of(row, "books_id");
		(void)snprintf(what, sizeof what, "%.*s %.*s", STR_ARG(text_of(row, "kind")), STR_ARG(text_of(row, "reference")));
		print_amounts(what, amount_of(row, "books_micro_usd"), amount_of(row, "stripe_micro_usd"));
		printf("    %.*s\n", STR_ARG(id.len ? id : STR("the books know of none")));
	}
	if (all > listed)
		printf("And %lld more.\n", (long long)(all - listed));
}

static int print_reconciled(struct command *command, const json_val *answer)
{
	static const char *const names[][2] = {
	    {"deposits", "deposits_micro_usd"}, {"refunds, disputes", "reversals_micro_usd"}, {"transfers", "transfers_micro_usd"}};
	const json_val *books = json_get(answer, "books"), *stripe = json_get(answer, "stripe");
	bool agrees = false;
	(void)json_as_bool(json_get(answer, "agrees"), &agrees);
	if (command->as_json) {
		printf("%.*s\n", STR_ARG(str_trim(buf_str(&command->answer))));
		return agrees ? CLI_OK : CLI_FAILED;
	}
	printf("%-20s  %20s  %20s  %20s\n", "DOLLARS", "BOOKS", "STRIPE", "STRIPE - BOOKS");
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		print_amounts(names[i][0], amount_of(books, names[i][1]), amount_of(stripe, names[i][1]));
	print_amounts("Stripe's balance", 0, amount_of(answer, "balance_off_micro_usd"));
	print_differences(answer);
	printf(agrees ? "They agree.\n" : "They differ: see docs/operator/payments.md.\n");
	return agrees ? CLI_OK : CLI_FAILED;
}

int operator_reconcile(const struct coordinator_config *config, bool as_json)
{
	struct command command = new_command(config, "POST");
	(void)snprintf(command.path, sizeof command.path, "/v1/admin/stripe/reconcile");
	command.in_database = reconcile_without_coordinator;
	command.as_json = as_json;
	return run(&command, print_reconciled);
}
