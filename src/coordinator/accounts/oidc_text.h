/* The texts that OpenID Connect exchanges: discovery, addresses, forms, the token's answer. Pure. Thread: any. */
#ifndef COORDINATOR_OIDC_TEXT_H
#define COORDINATOR_OIDC_TEXT_H

#include "core/arena.h"
#include "core/buf.h"

#define OIDC_URL_SIZE 1024

struct oidc_metadata {
	char authorization_endpoint[OIDC_URL_SIZE], token_endpoint[OIDC_URL_SIZE], jwks_uri[OIDC_URL_SIZE];
	bool secret_in_form; /* the token endpoint does not take it in the header */
};
enum db_err oidc_discovery_url(struct str issuer, char out[OIDC_URL_SIZE]);
/* DB_E_INVALID when it describes another issuer, lacks an endpoint, or names one that is neither https nor on this machine. */
enum db_err oidc_metadata_parse(struct str json, struct str issuer, struct oidc_metadata *out, struct error *error);

struct oidc_request {
	struct str client_id, redirect_uri, scopes, state, nonce, challenge;
};
void oidc_authorization_url(struct buf *out, struct str endpoint, const struct oidc_request *request);

void oidc_token_form(struct buf *out, struct str code, struct str redirect_uri, struct str verifier);
void oidc_client_in_form(struct buf *form, struct str client_id, struct str client_secret);
void oidc_client_in_header(struct buf *authorization, struct str client_id, struct str client_secret);
/* The id_token of the answer, in the arena. DB_E_DENIED with the issuer's reason, cleaned of what does not belong in a log. */
enum db_err oidc_token_parse(int status, struct str body, struct arena *arena, struct str *id_token, struct error *error);

#endif
