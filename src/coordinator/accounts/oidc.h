/* Logging in at another issuer with OpenID Connect: discovery, authorization code with PKCE, state and nonce, the issuer's
 * keys with their rotation (OpenID Connect Core 3.1, Discovery 4, RFC 7636). One issuer. Thread: the loop's; signatures are
 * checked on workers. */
#ifndef COORDINATOR_OIDC_H
#define COORDINATOR_OIDC_H

#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"
#include "net/loop.h"

struct oidc;

struct oidc_options {
	struct net_loop *loop;
	const char *issuer, *client_id, *client_secret, *scopes; /* borrowed for good; the secret may be empty */
	const char *ca_path;                                     /* NULL = system trust store */
};
struct oidc *oidc_new(const struct oidc_options *options, struct error *error);
/* Logins under way are told DB_E_CLOSED: at once, or later on the loop where a worker still checks a token. */
void oidc_free(struct oidc *oidc);

/* Only https, or http to this machine. Pure. */
bool oidc_issuer_is_acceptable(struct str issuer);

#define OIDC_SECRET_SIZE 44 /* 256 random bits in base64url, with NUL */
/* What the browser keeps between the two steps, and nobody else. */
struct oidc_state {
	char state[OIDC_SECRET_SIZE], nonce[OIDC_SECRET_SIZE], verifier[OIDC_SECRET_SIZE];
};
void oidc_state_new(struct oidc_state *state);
/* The SHA-256 of the verifier in base64url (RFC 7636 4.2). Pure. */
void oidc_challenge(const char *verifier, char out[OIDC_SECRET_SIZE]);

/* Where to send the browser. url: borrowed until it returns; NULL when the error says why. */
typedef void (*oidc_url_fn)(const char *url, const struct error *error, void *user);
void oidc_begin(struct oidc *oidc, const struct oidc_state *state, struct str redirect_uri, oidc_url_fn done, void *user);

struct oidc_person {
	struct str issuer, subject, email, name; /* email only when the issuer has verified it */
};
/* DB_E_DENIED: the issuer or its token says no; DB_E_IO: it cannot be asked. */
typedef void (*oidc_person_fn)(const struct oidc_person *person, const struct error *error, void *user);
/* Exchanges the code of the callback and checks the token it brings. */
void oidc_finish(struct oidc *oidc, const struct oidc_state *state, struct str code, struct str redirect_uri,
                 oidc_person_fn done, void *user);

#endif
