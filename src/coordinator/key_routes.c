/* API keys over HTTP: people manage theirs, a key sees itself (http-api 4.1).
 *
 * Who manages a key needs its scopes too: otherwise rotating a key would be a way to get what it may do. */
#include "coordinator/server.h"
#include "coordinator/task.h"

#include "coordinator/accounts/key_json.h"
#include "coordinator/actor.h"
#include "core/clock.h"
#include "core/uri.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#include <stdlib.h>

/* One request while it waits for the store; the consumer may leave meanwhile, what was asked is done all the same. */
struct job {
	struct server *server;
	struct exchange *exchange; /* NULL: left */
	char account[STORE_ID_SIZE], key_id[STORE_ID_SIZE];
	char actor[STORE_ACTOR_SIZE];
	unsigned scopes;
	bool is_operator;                      /* any account's keys */
	void (*with_account)(struct job *job); /* once the account is known */
	void (*with_key)(struct job *job);     /* once `key` was found and may be touched */
	struct store_key key;
};

/* The accounts, for the next change, which the audit trail shall put down to whoever asked. */
static struct accounts *acting(const struct job *job)
{
	const struct server_rooms *rooms = server_rooms(job->server);
	store_act(rooms->store, str_of(job->actor), STR_NONE);
	return rooms->accounts;
}

/* --- answers --- */

static void refuse(struct exchange *exchange, int status, const char *type, const char *message)
{
	struct api_error error;
	api_fail(&error, status, type, NULL, NULL, "%s", message);
	if (status == 503)
		error.retry_after_s = 2;
	exchange_error(exchange, &error);
}

static void on_job_gone(struct exchange *exchange)
{
	struct job *job = exchange->owner;
	job->exchange = NULL;
}

static struct job *begin(struct server *server, struct exchange *exchange)
{
	struct job *job = calloc(1, sizeof *job);
	if (!job) {
		refuse(exchange, 503, "service_unavailable", "There is not enough memory at the moment: try again.");
		return NULL;
	}
	job->server = server;
	job->exchange = exchange;
	job->scopes = exchange->caller.scopes;
	job->is_operator = exchange->caller.is_admin;
	actor_of(exchange, job->actor);
	(void)str_copy(str_of(ledger_account_id(exchange->caller.account)), job->account, sizeof job->account);
	exchange->owner = job;
	exchange->on_gone = on_job_gone;
	return job;
}

/* Ends the job; whoever is left to be answered, NULL when nobody is. */
static struct exchange *end(struct job *job)
{
	struct exchange *exchange = job->exchange;
	if (exchange) {
		exchange->on_gone = NULL;
		exchange->owner = NULL;
	}
	secret_wipe(job, sizeof *job);
	free(job);
	return exchange;
}

static void fail(struct job *job, int status, const char *type, const char *message)
{
	struct exchange *exchange = end(job);
	if (exchange)
		refuse(exchange, status, type, message);
}

static void fail_store(struct job *job, const struct error *error)
{
	if (error->code == DB_E_NOT_FOUND)
		fail(job, 404, "not_found", "There is no such key.");
	else if (error->code == DB_E_LIMIT)
		fail(job, 409, "key_limit", "The account has as many keys as it may have: delete those that are not used.");
	else
		fail(job, 503, "server_error", "The keys cannot be reached at the moment: try again.");
}

static void answer(struct job *job, struct buf *body)
{
	struct exchange *exchange = end(job);
	buf_append_byte(body, '\n');
	if (exchange)
		exchange_json(exchange, 200, buf_str(body));
	buf_free(body);
}

static void answer_status(struct job *job, const char *status)
{
	struct exchange *exchange = end(job);
	if (exchange)
		task_answer_status(exchange, status);
}

static void answer_key(struct job *job, const struct store_key *key)
{
	struct buf body;
	struct json_writer w;
	buf_init(&body, 64u << 10);
	json_writer_init(&w, &body);
	key_json_write(&w, key);
	answer(job, &body);
}

/* A new text, shown this once. */
static void on_made(const char *text, const struct store_key *row, const struct error *error, void *user)
{
	struct job *job = user;
	struct buf body;
	struct json_writer w;
	if (!text) {
		fail_store(job, error);
		return;
	}
	buf_init(&body, 64u << 10);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "key", text);
	json_key(&w, "data");
	key_json_write(&w, row);
	json_end_object(&w);
	answer(job, &body);
}

/* --- the key that a path names --- */

static void on_found(const struct store_key *key, const struct store_account *account, const struct error *error, void *user)
{
	struct job *job = user;
	(void)account;
	if (error) {
		fail_store(job, error);
	} else if (!key || (!job->is_operator && strcmp(key->account_id, job->account) != 0)) {
		fail(job, 404, "not_found", "There is no such key.");
	} else {
		job->key = *key;
		job->with_key(job);
	}
}

static void find_key(struct server *server, struct exchange *exchange, void (*then)(struct job *job))
{
	struct job *job = begin(server, exchange);
	char id[STORE_ID_SIZE];
	if (!job)
		return;
	job->with_key = then;
	(void)uri_decode(route_part(exchange->route, http_path(exchange->http), 0), id, sizeof id);
	accounts_flush_uses(server_rooms(server)->accounts);
	store_key_get(server_rooms(server)->store, str_of(id), on_found, job);
}

static bool may_manage(struct job *job)
{
	if ((job->key.scopes & ~job->scopes) == 0)
		return true;
	fail(job, 403, "forbidden", "The key may do more than the one that was sent: log in to manage it.");
	return false;
}

static void show(struct job *job)
{
	answer_key(job, &job->key);
}

void handle_key(struct server *server, struct exchange *exchange)
{
	find_key(server, exchange, show);
}

/* GET /v1/key: the calling key itself. */
void handle_own_key(struct server *server, struct exchange *exchange)
{
	if (exchange->caller.kind != CALLER_KEY) {
		refuse(exchange, 404, "not_found", "This is for API keys: the request came with another credential.");
		return;
	}
	struct job *job = begin(server, exchange);
	if (!job)
		return;
	job->with_key = show;
	accounts_flush_uses(server_rooms(server)->accounts);
	store_key_get(server_rooms(server)->store, str_of(exchange->caller.key_id), on_found, job);
}

/* --- change, rotate, delete --- */

static void on_changed(const struct store_key *key, const struct store_account *account, const struct error *error, void *user)
{
	struct job *job = user;
	(void)account;
	if (key)
		answer_key(job, key);
	else if (error)
		fail_store(job, error);
	else
		fail(job, 404, "not_found", "There is no such key.");
}

static void on_updated(const struct error *error, void *user)
{
	struct job *job = user;
	if (error)
		fail_store(job, error);
	else /* as it stands now: somebody else may have changed other fields meanwhile */
		store_key_get(server_rooms(job->server)->store, str_of(job->key.id), on_changed, job);
}

static void patch(struct job *job)
{
	struct api_error error;
	unsigned fields = 0;
	if (!job->exchange) {
		(void)end(job);
		return;
	}
	if (!may_manage(job))
		return;
	struct store_key changed = job->key;
	if (!key_json_patch(exchange_body(job->exchange), clock_wall_us(), &changed, &fields, &error)) {
		exchange_error(end(job), &error);
		return;
	}
	if (changed.scopes & ~job->scopes) {
		fail(job, 403, "forbidden", "A key cannot be given scopes that the request itself has not.");
		return;
	}
	accounts_key_update(acting(job), &changed, fields, on_updated, job);
}

void handle_key_patch(struct server *server, struct exchange *exchange)
{
	find_key(server, exchange, patch);
}

static void rotate(struct job *job)
{
	if (!job->exchange)
		(void)end(job); /* nobody would ever see the new text */
	else if (may_manage(job))
		accounts_key_rotate(acting(job), &job->key, on_made, job);
}

void handle_key_rotate(struct server *server, struct exchange *exchange)
{
	find_key(server, exchange, rotate);
}

static void on_deleted(const struct error *error, void *user)
{
	if (error)
		fail_store(user, error);
	else
		answer_status(user, "revoked");
}

static void delete (struct job *job)
{
	if (may_manage(job))
		accounts_key_delete(acting(job), str_of(job->key.id), on_deleted, job);
}

void handle_key_delete(struct server *server, struct exchange *exchange)
{
	find_key(server, exchange, delete);
}

/* --- list and create --- */

static void on_list(const struct store_key *keys, size_t count, const struct error *error, void *user)
{
	struct buf body;
	struct json_writer w;
	if (error) {
		fail_store(user, error);
		return;
	}
	buf_init(&body, 64u << 20);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "object", "list");
	json_key(&w, "data");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++)
		key_json_write(&w, &keys[i]);
	json_end_array(&w);
	json_end_object(&w);
	answer(user, &body);
}

static void list(struct job *job)
{
	const struct server_rooms *rooms = server_rooms(job->server);
	accounts_flush_uses(rooms->accounts);
	store_keys_list(rooms->store, str_of(job->account), on_list, job);
}

static void create(struct job *job)
{
	struct api_error error;
	struct store_key terms;
	if (!job->exchange) {
		(void)end(job);
		return;
	}
	if (!key_json_create(exchange_body(job->exchange), clock_wall_us(), &terms, &error)) {
		exchange_error(end(job), &error);
		return;
	}
	if (terms.scopes & ~job->scopes) {
		fail(job, 403, "forbidden", "A key cannot be given scopes that the request itself has not.");
		return;
	}
	memcpy(terms.account_id, job->account, sizeof terms.account_id);
	accounts_key_create(acting(job), &terms, on_made, job);
}

static void on_account(const struct store_account *account, const struct error *error, void *user)
{
	struct job *job = user;
	if (error) {
		fail_store(job, error);
	} else if (!account) {
		fail(job, 404, "not_found", "There is no such account.");
	} else {
		memcpy(job->account, account->id, sizeof job->account);
		job->with_account(job);
	}
}

/* The operator names an account in the query; everybody else has one. */
static void for_account(struct server *server, struct exchange *exchange, void (*then)(struct job *job))
{
	struct store *store = server_rooms(server)->store;
	struct job *job = begin(server, exchange);
	char named[STORE_ID_SIZE];
	if (!job)
		return;
	job->with_account = then;
	enum db_err err = uri_query(http_query(exchange->http), "account", named, sizeof named);
	if (!job->is_operator || exchange->route->auth != AUTH_ADMIN)
		then(job);
	else if (err == DB_E_NOT_FOUND || strcmp(named, "owner") == 0)
		store_owner_get(store, on_account, job);
	else
		store_account_get(store, str_of(named), on_account, job);
}

void handle_keys(struct server *server, struct exchange *exchange)
{
	for_account(server, exchange, list);
}

void handle_key_create(struct server *server, struct exchange *exchange)
{
	for_account(server, exchange, create);
}

/* --- the old routes --- */

static void on_legacy_made(const char *text, const struct store_key *row, const struct error *error, void *user)
{
	struct job *job = user;
	struct buf body;
	struct json_writer w;
	if (!text) {
		fail_store(job, error);
		return;
	}
	buf_init(&body, 4096);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "api_key", text);
	json_put_cstr(&w, "account_id", row->account_id);
	json_end_object(&w);
	answer(job, &body);
}

void handle_legacy_key_create(struct server *server, struct exchange *exchange)
{
	struct job *job = begin(server, exchange);
	struct store_key terms = {.scopes = SCOPE_INFERENCE};
	if (!job)
		return;
	memcpy(terms.account_id, job->account, sizeof terms.account_id);
	accounts_key_create(acting(job), &terms, on_legacy_made, job);
}

static void on_legacy_found(const struct store_key *key, const struct store_account *account, const struct error *error,
                            void *user)
{
	struct job *job = user;
	(void)account;
	if (error) {
		fail_store(job, error);
		return;
	}
	if (!key || strcmp(key->account_id, job->account) != 0) {
		fail(job, 403, "forbidden", "The key is not one of this account.");
		return;
	}
	job->key = *key;
	if (may_manage(job))
		accounts_key_disable(acting(job), str_of(key->id), on_deleted, job);
}

void handle_legacy_key_revoke(struct server *server, struct exchange *exchange)
{
	struct error why;
	struct str text;
	char hash[SHA256_HEX_SIZE];
	struct json_doc *doc = json_parse(exchange_body(exchange), NULL, &why);
	bool given = doc && json_as_str(json_get(json_root(doc), "key"), &text) && text.len > 0;
	if (given)
		sha256_hex(text.at, text.len, hash);
	json_free(doc);
	if (!given) {
		refuse(exchange, 400, "bad_request", "The body must be {\"key\": \"sk-db-...\"}.");
		return;
	}
	struct job *job = begin(server, exchange);
	if (job)
		store_key_find(server_rooms(server)->store, str_of(hash), on_legacy_found, job);
}
