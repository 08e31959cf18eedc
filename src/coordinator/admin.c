#include "coordinator/admin.h"

#include "coordinator/accounts/accounts.h"
#include "coordinator/serve.h"
#include "core/cli.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"
#include "crypto/secret.h"

#include <stdio.h>

/* --- commands that write: the rooms they need, for the time of one operation --- */

struct session {
	struct net_loop *loop;
	struct store *store;
	struct ledger *ledger;
	struct accounts *accounts;
	const char *account, *name, *key_file;
	int64_t amount_uusd;
	char account_id[STORE_ID_SIZE];
	void (*then)(struct session *session);
	int status;
};

static void fail(struct session *session, const struct error *error)
{
	fprintf(stderr, "darkbloom-coordinator: %s\n", error->text);
	session->status = CLI_FAILED;
	net_loop_stop(session->loop);
}

static void on_account(const struct store_account *account, const struct error *error, void *user)
{
	struct session *session = user;
	struct error unknown;
	if (!account && !error) {
		error_set(&unknown, DB_E_NOT_FOUND, "There is no account %s: start the coordinator once to make the owner's.",
		          session->account);
		error = &unknown;
	}
	if (error) {
		fail(session, error);
		return;
	}
	memcpy(session->account_id, account->id, sizeof session->account_id);
	session->then(session);
}

static int run(struct session *session, const struct coordinator_config *config)
{
	struct error error;
	struct store_options options = {.path = config->database};
	session->status = CLI_FAILED;
	session->loop = net_loop_new(&error);
	if (session->loop && serve_make_dir(config->dir, &error) == DB_OK)
		session->store = store_open(&options, session->loop, &error);
	if (!session->store) {
		fprintf(stderr, "darkbloom-coordinator: %s\n", error.text);
		goto out;
	}
	session->ledger = ledger_new(session->store);
	session->accounts = session->ledger ? accounts_new(session->store, session->ledger) : NULL;
	if (session->accounts) {
		if (strcmp(session->account, "owner") == 0)
			store_owner_get(session->store, on_account, session);
		else
			store_account_get(session->store, str_of(session->account), on_account, session);
		net_loop_run(session->loop);
	}
	store_close(session->store);
out:
	if (session->accounts)
		accounts_free(session->accounts);
	if (session->ledger)
		ledger_free(session->ledger);
	if (session->loop)
		net_loop_free(session->loop);
	return session->status;
}

static void on_key(const char *key, const struct store_key *row, const struct error *error, void *user)
{
	(void)row;
	struct session *session = user;
	struct error failed;
	if (!key) {
		fail(session, error);
		return;
	}
	session->status = CLI_OK;
	if (!session->key_file) {
		printf("%s\n", key);
	} else {
		char line[ACCOUNTS_KEY_SIZE + 1];
		int len = snprintf(line, sizeof line, "%s\n", key);
		if (serve_write_secret(session->key_file, (struct str){line, (size_t)len}, &failed) != DB_OK)
			fail(session, &failed);
		secret_wipe(line, sizeof line);
	}
	net_loop_stop(session->loop);
}

static void create_key(struct session *session)
{
	struct store_key terms = {.scopes = SCOPE_INFERENCE};
	memcpy(terms.account_id, session->account_id, sizeof terms.account_id);
	(void)str_copy(str_sub(str_of(session->name), 0, sizeof terms.name - 1), terms.name, sizeof terms.name);
	accounts_key_create(session->accounts, &terms, on_key, session);
}

int admin_key_create(const struct coordinator_config *config, const char *account, const char *name, const char *key_file)
{
	struct session session = {.account = account, .name = name, .key_file = key_file, .then = create_key};
	return run(&session, config);
}

static void on_credited(bool applied, const struct error *error, void *user)
{
	struct session *session = user;
	char usd[PRICE_USD_SIZE];
	if (error || !applied) {
		struct error unknown = {.text = "The credit was not applied."};
		fail(session, error ? error : &unknown);
		return;
	}
	price_format_usd(session->amount_uusd, usd);
	printf("Credited $%s to account %s.\n", usd, session->account_id);
	session->status = CLI_OK;
	net_loop_stop(session->loop);
}

static void credit(struct session *session)
{
	struct store_transfer transfer = {
	    .type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .amount_uusd = session->amount_uusd, .reference = "command line"};
	id_uuid4(transfer.key);
	memcpy(transfer.to, session->account_id, sizeof transfer.to);
	store_transfer(session->store, &transfer, on_credited, session);
}

int admin_credit(const struct coordinator_config *config, const char *account, const char *usd)
{
	struct session session = {.account = account, .then = credit};
	if (price_parse_usd(str_of(usd), &session.amount_uusd) != DB_OK || session.amount_uusd == 0) {
		fprintf(stderr, "darkbloom-coordinator: %s is no amount in dollars, such as 10 or 2.50.\n", usd);
		return CLI_USAGE;
	}
	return run(&session, config);
}

/* --- commands that read --- */

static void print_json(struct buf *out)
{
	buf_append_byte(out, '\n');
	fwrite(out->at, 1, out->len, stdout);
	buf_free(out);
}

int admin_ledger_verify(const struct coordinator_config *config)
{
	struct store_audit audit;
	struct error error;
	if (store_audit(config->database, &audit, &error) != DB_OK) {
		fprintf(stderr, "darkbloom-coordinator: %s\n", error.text);
		return CLI_FAILED;
	}
	bool clean = store_audit_clean(&audit);
	struct buf out;
	struct json_writer w;
	buf_init(&out, 4096);
	json_writer_init(&w, &out);
	json_begin_object(&w);
	json_put_bool(&w, "clean", clean);
	json_put_i64(&w, "entries", audit.entries);
	json_put_i64(&w, "accounts", audit.accounts);
	json_put_i64(&w, "open_holds", audit.open_holds);
	json_put_i64(&w, "sum_micro_usd", audit.sum_uusd);
	json_put_i64(&w, "unbalanced", audit.unbalanced);
	json_put_i64(&w, "broken_chains", audit.broken_chains);
	json_put_i64(&w, "wrong_balances", audit.wrong_balances);
	json_put_i64(&w, "negative_balances", audit.negative_balances);
	json_put_i64(&w, "wrong_settlements", audit.wrong_settlements);
	json_put_i64(&w, "usage_cost_micro_usd", audit.usage_cost_uusd);
	json_put_i64(&w, "charged_micro_usd", audit.charged_uusd);
	json_end_object(&w);
	print_json(&out);
	return clean ? CLI_OK : CLI_FAILED;
}

static void put_time(struct json_writer *w, const char *name, int64_t wall_us)
{
	char text[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(wall_us, text);
	json_put_cstr(w, name, text);
}

static void put_usage(struct json_writer *w, const struct store_settlement *s)
{
	json_key(w, "usage");
	json_begin_object(w);
	json_put_cstr(w, "model", s->model);
	json_put_cstr(w, "public_model", s->public_model);
	json_put_cstr(w, "provider_id", s->provider_id);
	json_put_cstr(w, "provider_account", s->provider_account);
	json_put_cstr(w, "outcome", s->outcome);
	json_put_i64(w, "prompt_tokens", (int64_t)s->prompt_tokens);
	json_put_i64(w, "completion_tokens", (int64_t)s->completion_tokens);
	json_put_i64(w, "reasoning_tokens", (int64_t)s->reasoning_tokens);
	json_put_i64(w, "input_price", s->price_in);
	json_put_i64(w, "output_price", s->price_out);
	json_put_i64(w, "cost_micro_usd", s->cost_uusd);
	json_put_i64(w, "fee_micro_usd", s->fee_uusd);
	put_time(w, "timestamp", s->created_us);
	json_end_object(w);
}

int admin_ledger_show(const struct coordinator_config *config, const char *request_id)
{
	struct store_record record;
	struct error error;
	if (store_show(config->database, str_of(request_id), &record, &error) != DB_OK) {
		fprintf(stderr, "darkbloom-coordinator: %s\n", error.text);
		return CLI_FAILED;
	}
	struct buf out;
	struct json_writer w;
	buf_init(&out, 64u << 10);
	json_writer_init(&w, &out);
	json_begin_object(&w);
	json_put_cstr(&w, "request_id", record.settlement.request_id);
	json_put_cstr(&w, "account", record.settlement.account_id);
	json_put_cstr(&w, "key_id", record.settlement.key_id);
	json_put_cstr(&w, "state", record.state);
	json_put_cstr(&w, "reason", record.reason);
	json_put_i64(&w, "hold_micro_usd", record.hold_uusd);
	put_time(&w, "created", record.created_us);
	if (strcmp(record.state, "settled") == 0)
		put_usage(&w, &record.settlement);
	json_key(&w, "entries");
	json_begin_array(&w);
	for (size_t i = 0; i < record.entry_count; i++) {
		const struct store_ledger_row *entry = &record.entries[i];
		json_begin_object(&w);
		json_put_i64(&w, "id", entry->id);
		json_put_cstr(&w, "type", entry->type);
		json_put_cstr(&w, "account", entry->account_id);
		json_put_i64(&w, "amount_micro_usd", entry->amount_uusd);
		json_put_i64(&w, "balance_after_micro_usd", entry->balance_after_uusd);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_end_object(&w);
	print_json(&out);
	return CLI_OK;
}
