/* What the database keeps of people: passwords, identities, sessions, invitations, and what an account sees of itself. The
 * rules of store.h hold: callbacks on the loop thread, borrowed until they return, error NULL when all went well. */
#ifndef COORDINATOR_STORE_LOGIN_H
#define COORDINATOR_STORE_LOGIN_H

#include "coordinator/store/store.h"

#define STORE_EMAIL_SIZE    256
#define STORE_PASSWORD_SIZE 128
#define STORE_SUBJECT_SIZE  256

/* Who somebody is. */
struct store_person {
	char account_id[STORE_ID_SIZE];
	char name[128];
	char email[STORE_EMAIL_SIZE]; /* of the password, else a verified one of an identity; may be empty */
	bool email_verified;
	bool is_owner; /* of the database: the operator */
	bool has_password, has_identity;
	char verified_email[STORE_EMAIL_SIZE]; /* of an identity; empty when no issuer has verified one */
};

/* --- passwords --- */

struct store_signup {
	char email[STORE_EMAIL_SIZE];       /* folded */
	char password[STORE_PASSWORD_SIZE]; /* encoded hash */
	char name[128];
	char account_id[STORE_ID_SIZE]; /* of the new account; ignored for the owner */
	char invitation[65];            /* hash in hex; empty = none is asked for */
	bool as_owner;                  /* the owner's account gets this login */
};
/* person: as it is now; NULL when it failed: DB_E_EXISTS (the address is taken), DB_E_DENIED (no such invitation, used,
 * expired; the owner has a login already). */
typedef void (*store_person_fn)(const struct store_person *person, const struct error *error, void *user);
void store_signup(struct store *store, const struct store_signup *signup, store_person_fn done, void *user);

/* hash: the encoded password; NULL with the person NULL when nobody has this address. */
typedef void (*store_password_fn)(const struct store_person *person, const char *hash, const struct error *error, void *user);
void store_password_find(struct store *store, struct str email, store_password_fn done, void *user);
void store_password_of(struct store *store, struct str account_id, store_password_fn done, void *user);
/* Also ends every session of the account but the one with the hash `keep`. DB_E_NOT_FOUND when the account has no password. */
void store_password_change(struct store *store, struct str account_id, const char *hash, struct str keep, store_done_fn done,
                           void *user);
void store_person_get(struct store *store, struct str account_id, store_person_fn done, void *user);

void store_invitation_create(struct store *store, struct str hash_hex, struct str made_by, int64_t expires_us,
                             store_done_fn done, void *user);

/* --- identities --- */

struct store_identity {
	char issuer[STORE_SUBJECT_SIZE], subject[STORE_SUBJECT_SIZE];
	char email[STORE_EMAIL_SIZE]; /* verified, or empty */
	char name[128];
	char account_id[STORE_ID_SIZE]; /* of the new account when nobody has this identity yet */
	bool link;                      /* account_id exists: give it this identity. DB_E_EXISTS when it is another's */
	bool may_create;                /* else DB_E_DENIED when nobody has it yet */
};
/* The account of an identity, made when it is seen for the first time; at the same time asked twice, it is made once. */
void store_identity_login(struct store *store, const struct store_identity *identity, store_person_fn done, void *user);

/* --- sessions --- */

struct store_session {
	char hash_hex[65];
	char id[STORE_ID_SIZE]; /* for people: names it, opens nothing */
	char account_id[STORE_ID_SIZE];
	char method[16]; /* "password", "oidc" */
	char agent[160], address[64];
	int64_t created_us, seen_us, auth_us, idle_us, expires_us;
};
/* The session `replaces` (a hash, or empty) ends in the same transaction, as does whatever has expired. */
void store_session_create(struct store *store, const struct store_session *session, struct str replaces, store_done_fn done,
                          void *user);
/* NULL when there is none, or it has expired at now_us. */
typedef void (*store_session_fn)(const struct store_session *session, const struct store_person *person,
                                 const struct error *error, void *user);
void store_session_find(struct store *store, struct str hash_hex, int64_t now_us, store_session_fn done, void *user);
/* auth_us 0: only seen. */
void store_session_touch(struct store *store, struct str hash_hex, int64_t seen_us, int64_t auth_us);
void store_session_end(struct store *store, struct str hash_hex, store_done_fn done, void *user);
/* By its id, of this account: DB_E_NOT_FOUND. An empty id: all of them. */
void store_session_revoke(struct store *store, struct str account_id, struct str id, store_done_fn done, void *user);
typedef void (*store_sessions_fn)(const struct store_session *sessions, size_t count, const struct error *error, void *user);
void store_sessions_list(struct store *store, struct str account_id, int64_t now_us, store_sessions_fn done, void *user);

/* --- provider tokens --- */

/* DB_E_NOT_FOUND when there is no such token, or it was revoked before. */
void store_provider_token_revoke(struct store *store, struct str hash_hex, store_done_fn done, void *user);

/* --- what an account earned --- */

struct store_earned {
	int64_t uusd, jobs;
};
struct store_earnings {
	struct store_earned lifetime, day, week; /* the last 24 hours and 7 days */
};
typedef void (*store_earnings_fn)(const struct store_earnings *earnings, const struct error *error, void *user);
void store_earnings_get(struct store *store, struct str account_id, int64_t now_us, store_earnings_fn done, void *user);

#endif
