/* People who are logged in with a browser. A session's token is 256 random bits, which only the browser's cookie has: the
 * database keeps its hash. It ends when it was idle for long, at its absolute end, when it is revoked, and when the password
 * changes; each look-up asks the database, so that an end counts at once. Thread: the loop's. */
#ifndef COORDINATOR_SESSION_H
#define COORDINATOR_SESSION_H

#include "coordinator/accounts/accounts.h"
#include "coordinator/store/store_login.h"

struct sessions;

struct sessions_options {
	struct store *store;
	struct ledger *ledger;
	int64_t idle_s, absolute_s;
	const char *const *operators; /* verified e-mail addresses in lower case: these accounts are operators too; borrowed */
	size_t operator_count;
};
struct sessions *sessions_new(const struct sessions_options *options);
void sessions_stop(struct sessions *sessions); /* before store_close: from now on the store is asked nothing */
void sessions_free(struct sessions *sessions); /* after store_close */

#define SESSION_TOKEN_SIZE 65 /* hex with NUL */
#define SESSION_CSRF_SIZE  44
/* What a page of ours sends along to prove that it is ours: follows from the session's token and does not reveal it. */
void session_csrf(struct str token, char out[SESSION_CSRF_SIZE]);
bool session_csrf_is_right(struct str token, struct str csrf);

struct session_start {
	struct str account_id, agent, address;
	const char *method;  /* "password", "oidc" */
	struct str replaces; /* the token that the browser had before, or empty: it ends, so that nobody can have planted it */
};
/* token: once, wiped afterwards; NULL when the error says why. */
typedef void (*session_started_fn)(const char *token, const struct error *error, void *user);
void session_start(struct sessions *sessions, const struct session_start *start, session_started_fn done, void *user);

/* Who has this token; both NULL: nobody. Counts as seen. */
void session_find(struct sessions *sessions, struct str token, store_session_fn done, void *user);
void session_end(struct sessions *sessions, struct str token, store_done_fn done, void *user);
/* The person has just proven again who they are. */
void session_confirm(struct sessions *sessions, struct str token);
void session_hash(struct str token, char out[65]);

/* Is this person an operator: the owner, or somebody with a verified address of the list. */
bool sessions_is_operator(const struct sessions *sessions, const struct store_person *person);

/* The cookie's part of accounts_session_fn. */
enum db_err sessions_resolve(struct sessions *sessions, struct credential credential, struct accounts_wait *wait);

/* Ends a look-up with the caller that this person is: wait may be NULL (cancelled). For whoever else finds out who somebody is.
 */
struct session_lookup;
struct session_lookup *session_lookup_new(struct sessions *sessions, struct accounts_wait *wait);
void session_lookup_finish(struct session_lookup *lookup, const struct store_person *person, enum db_err otherwise);

#endif
