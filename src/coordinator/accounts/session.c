#include "coordinator/accounts/session.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/encode.h"
#include "core/id.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#define SEEN_EVERY_US 60000000 /* being seen is written down this often */

struct sessions {
	struct sessions_options options;
	bool is_stopped;
};

struct sessions *sessions_new(const struct sessions_options *options)
{
	struct sessions *sessions = calloc(1, sizeof *sessions);
	if (sessions)
		sessions->options = *options;
	return sessions;
}

void sessions_stop(struct sessions *sessions)
{
	sessions->is_stopped = true;
}

void sessions_free(struct sessions *sessions)
{
	free(sessions);
}

/* --- tokens --- */

static bool is_token(struct str token)
{
	uint8_t bytes[SHA256_BYTES];
	bool is = hex_decode(token, bytes, sizeof bytes) == DB_OK;
	secret_wipe(bytes, sizeof bytes);
	return is;
}

void session_hash(struct str token, char out[65])
{
	sha256_hex(token.at, token.len, out);
}

void session_csrf(struct str token, char out[SESSION_CSRF_SIZE])
{
	uint8_t mac[SHA256_BYTES];
	hmac_sha256(token.at, token.len, "csrf", 4, mac);
	out[base64url_encode(mac, sizeof mac, out)] = '\0';
}

bool session_csrf_is_right(struct str token, struct str csrf)
{
	char right[SESSION_CSRF_SIZE];
	session_csrf(token, right);
	bool is_right = secret_equal_str(csrf, str_of(right));
	secret_wipe(right, sizeof right);
	return is_right;
}

/* --- beginning and end --- */

struct starting {
	session_started_fn done;
	void *user;
	char token[SESSION_TOKEN_SIZE];
};

static void on_created(const struct error *error, void *user)
{
	struct starting *starting = user;
	starting->done(error ? NULL : starting->token, error, starting->user);
	secret_wipe(starting, sizeof *starting);
	free(starting);
}

/* What stands in a header is for people to recognise a session by: printable ASCII, cut. */
static void copy_plain(struct str text, char *out, size_t size)
{
	size_t len = 0;
	for (size_t i = 0; i < text.len && len + 1 < size; i++)
		out[len++] = (char)(text.at[i] >= 0x20 && text.at[i] < 0x7f ? text.at[i] : '?');
	out[len] = '\0';
}

void session_start(struct sessions *sessions, const struct session_start *start, session_started_fn done, void *user)
{
	char replaced[65] = "";
	int64_t now_us = clock_wall_us();
	struct starting *starting = calloc(1, sizeof *starting);
	if (!starting) {
		struct error error;
		error_set(&error, DB_E_NOMEM, "There is no memory for a session.");
		done(NULL, &error, user);
		return;
	}
	starting->done = done;
	starting->user = user;
	id_hex(starting->token, SHA256_BYTES);
	struct store_session session = {.created_us = now_us,
	                                .seen_us = now_us,
	                                .auth_us = now_us,
	                                .idle_us = sessions->options.idle_s * 1000000,
	                                .expires_us = now_us + sessions->options.absolute_s * 1000000};
	session_hash(str_of(starting->token), session.hash_hex);
	memcpy(session.id, "sess_", sizeof "sess_");
	id_hex(session.id + 5, 12);
	str_copy(start->account_id, session.account_id, sizeof session.account_id);
	str_copy(str_of(start->method), session.method, sizeof session.method);
	copy_plain(start->agent, session.agent, sizeof session.agent);
	copy_plain(start->address, session.address, sizeof session.address);
	if (is_token(start->replaces))
		session_hash(start->replaces, replaced);
	log_info("session.started", "account=%s session=%s method=%s", session.account_id, session.id, session.method);
	store_session_create(sessions->options.store, &session, str_of(replaced), on_created, starting);
}

void session_end(struct sessions *sessions, struct str token, store_done_fn done, void *user)
{
	char hash[65];
	session_hash(token, hash);
	store_session_end(sessions->options.store, str_of(hash), done, user);
}

void session_confirm(struct sessions *sessions, struct str token)
{
	char hash[65];
	int64_t now_us = clock_wall_us();
	session_hash(token, hash);
	store_session_touch(sessions->options.store, str_of(hash), now_us, now_us);
}

/* --- look-ups --- */

struct finding {
	struct sessions *sessions;
	store_session_fn done;
	void *user;
};

static void on_found(const struct store_session *session, const struct store_person *person, const struct error *error,
                     void *user)
{
	struct finding *finding = user;
	int64_t now_us = clock_wall_us();
	if (session && !finding->sessions->is_stopped && now_us - session->seen_us > SEEN_EVERY_US)
		store_session_touch(finding->sessions->options.store, str_of(session->hash_hex), now_us, 0);
	finding->done(session, person, error, finding->user);
	free(finding);
}

void session_find(struct sessions *sessions, struct str token, store_session_fn done, void *user)
{
	char hash[65];
	struct finding *finding = is_token(token) ? malloc(sizeof *finding) : NULL;
	if (!finding) {
		done(NULL, NULL, NULL, user);
		return;
	}
	*finding = (struct finding){sessions, done, user};
	session_hash(token, hash);
	store_session_find(sessions->options.store, str_of(hash), clock_wall_us(), on_found, finding);
}

bool sessions_is_operator(const struct sessions *sessions, const struct store_person *person)
{
	bool is_operator = person->is_owner;
	for (size_t i = 0; i < sessions->options.operator_count && person->verified_email[0]; i++)
		is_operator = is_operator || str_eq_nocase(str_of(person->verified_email), str_of(sessions->options.operators[i]));
	return is_operator;
}

/* --- who calls --- */

struct session_lookup {
	struct sessions *sessions;
	struct accounts_wait *wait; /* NULL: nobody waits any more */
	bool is_operator;
};

static void cancel(struct accounts_wait *wait)
{
	((struct session_lookup *)wait->lookup)->wait = NULL;
	wait->lookup = NULL;
}

struct session_lookup *session_lookup_new(struct sessions *sessions, struct accounts_wait *wait)
{
	struct session_lookup *lookup = calloc(1, sizeof *lookup);
	if (!lookup)
		return NULL;
	lookup->sessions = sessions;
	lookup->wait = wait;
	wait->lookup = lookup;
	wait->cancel = cancel;
	return lookup;
}

static void end_lookup(struct session_lookup *lookup, struct ledger_account *account, enum db_err result)
{
	struct accounts_wait *wait = lookup->wait;
	bool is_operator = lookup->is_operator;
	free(lookup);
	if (!wait)
		return;
	wait->lookup = NULL;
	wait->cancel = NULL;
	if (result == DB_OK) {
		wait->caller = accounts_caller(CALLER_SESSION, account);
		wait->caller.is_admin = is_operator;
	}
	wait->done(wait, result);
}

static void on_account(struct ledger_account *account, const struct error *error, void *user)
{
	end_lookup(user, account, account ? DB_OK : error ? DB_E_IO : DB_E_DENIED);
}

void session_lookup_finish(struct session_lookup *lookup, const struct store_person *person, enum db_err otherwise)
{
	if (!person || !lookup->wait) {
		end_lookup(lookup, NULL, otherwise);
		return;
	}
	lookup->is_operator = sessions_is_operator(lookup->sessions, person);
	ledger_account_load(lookup->sessions->options.ledger, str_of(person->account_id), on_account, lookup);
}

static void on_session(const struct store_session *session, const struct store_person *person, const struct error *error,
                       void *user)
{
	(void)session;
	session_lookup_finish(user, person, error ? DB_E_IO : DB_E_DENIED);
}

enum db_err sessions_resolve(struct sessions *sessions, struct credential credential, struct accounts_wait *wait)
{
	if (!is_token(credential.token))
		return DB_E_DENIED;
	if (credential.changes_things && (credential.is_cross_site || !session_csrf_is_right(credential.token, credential.csrf)))
		return DB_E_INVALID;
	struct session_lookup *lookup = session_lookup_new(sessions, wait);
	if (!lookup)
		return DB_E_IO;
	session_find(sessions, credential.token, on_session, lookup);
	return DB_E_AGAIN;
}
