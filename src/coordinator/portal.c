#include "coordinator/portal.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "coordinator/serve.h"
#include "core/id.h"
#include "core/log.h"
#include "crypto/secret.h"

#define DEVICES_MAX       4096
#define GUESSES_MAX       65536
#define SETUP_CODE_RANDOM 16
#define KEY_FILE_MAX      65536

static enum db_err read_key_file(const char *path, char text[KEY_FILE_MAX], struct str *out, struct error *error)
{
	FILE *file = fopen(path, "rb");
	size_t len = file ? fread(text, 1, KEY_FILE_MAX, file) : 0;
	if (file)
		fclose(file);
	*out = (struct str){text, len};
	return len > 0 && len < KEY_FILE_MAX ? DB_OK : error_set(error, DB_E_IO, "jwt.key_file %s cannot be read.", path);
}

static enum db_err resolve(void *user, struct credential credential, struct accounts_wait *wait)
{
	struct portal *portal = user;
	if (credential.from_cookie)
		return sessions_resolve(portal->sessions, credential, wait);
	return portal->foreign ? foreign_resolve(portal->foreign, credential.token, wait) : DB_E_DENIED;
}

/* The other issuers, where they are configured. */
static enum db_err open_issuers(struct portal *portal, const struct portal_options *options, struct error *error)
{
	const struct coordinator_config *c = options->config;
	struct oidc_options oidc = {.loop = options->loop,
	                            .issuer = c->oidc_issuer,
	                            .client_id = c->oidc_client_id,
	                            .client_secret = c->oidc_client_secret,
	                            .scopes = c->oidc_scopes,
	                            .ca_path = c->oidc_ca[0] ? c->oidc_ca : NULL};
	struct foreign_options foreign = {.loop = options->loop,
	                                  .store = options->store,
	                                  .sessions = portal->sessions,
	                                  .issuer = c->jwt_issuer,
	                                  .audience = c->jwt_audience,
	                                  .key_pem = str_of(c->jwt_key)};
	enum db_err err = DB_OK;
	char pem[KEY_FILE_MAX];
	if (c->oidc_issuer[0] && !(portal->oidc = oidc_new(&oidc, error)))
		return DB_E_NOMEM;
	if (c->jwt_audience[0] && c->jwt_key_file[0])
		err = read_key_file(c->jwt_key_file, pem, &foreign.key_pem, error);
	if (!err && c->jwt_audience[0])
		err = foreign_new(&foreign, &portal->foreign, error);
	return err;
}

struct portal *portal_new(const struct portal_options *options, struct error *error)
{
	const struct coordinator_config *config = options->config;
	struct portal *portal = calloc(1, sizeof *portal);
	struct login_options login = {
	    .store = options->store, .loop = options->loop, .signup = (enum login_signup_mode)config->signup};
	struct sessions_options sessions = {.store = options->store,
	                                    .ledger = options->ledger,
	                                    .idle_s = config->session_idle_s,
	                                    .absolute_s = config->session_absolute_s,
	                                    .operators = config->operators.at,
	                                    .operator_count = config->operators.count};
	if (portal) {
		portal->config = config;
		portal->login = login_new(&login);
		portal->sessions = sessions_new(&sessions);
		portal->devices = devices_new(DEVICES_MAX);
		portal->guesses = throttle_new(GUESSES_MAX);
	}
	if (!portal || !portal->login || !portal->sessions || !portal->devices || !portal->guesses) {
		error_set(error, DB_E_NOMEM, "There is not enough memory to start.");
		portal_free(portal);
		return NULL;
	}
	if (open_issuers(portal, options, error)) {
		portal_free(portal);
		return NULL;
	}
	accounts_set_sessions(options->accounts, resolve, portal);
	return portal;
}

void portal_stop(struct portal *portal)
{
	if (portal)
		sessions_stop(portal->sessions);
}

void portal_free(struct portal *portal)
{
	if (!portal)
		return;
	oidc_free(portal->oidc);
	foreign_free(portal->foreign);
	login_free(portal->login);
	sessions_free(portal->sessions);
	devices_free(portal->devices);
	throttle_free(portal->guesses);
	free(portal);
}

/* --- the operator's first login --- */

struct offer {
	struct portal *portal;
	struct store *store;
	void (*done)(const struct error *error, void *user);
	void *user;
};

static enum db_err write_code(struct portal *portal, struct error *error)
{
	char code[2 * SETUP_CODE_RANDOM + 2];
	int len = snprintf(portal->setup_path, sizeof portal->setup_path, "%s/setup-code", portal->config->dir);
	if (len < 0 || (size_t)len >= sizeof portal->setup_path)
		return error_set(error, DB_E_LIMIT, "The path of the data folder is too long.");
	id_hex(code, SETUP_CODE_RANDOM);
	login_set_setup_code(portal->login, str_of(code));
	code[2 * SETUP_CODE_RANDOM] = '\n';
	enum db_err err = serve_write_secret(portal->setup_path, (struct str){code, 2 * SETUP_CODE_RANDOM + 1}, error);
	secret_wipe(code, sizeof code);
	return err;
}

static void on_owner_person(const struct store_person *person, const struct error *error, void *user)
{
	struct offer *offer = user;
	struct error failed;
	if (!error && person && !person->has_password && write_code(offer->portal, &failed))
		error = &failed;
	offer->done(error, offer->user);
	free(offer);
}

static void on_owner(const struct store_account *owner, const struct error *error, void *user)
{
	struct offer *offer = user;
	if (owner)
		store_person_get(offer->store, str_of(owner->id), on_owner_person, offer);
	else
		on_owner_person(NULL, error, offer);
}

void portal_offer_setup(struct portal *portal, struct store *store, void (*done)(const struct error *error, void *user),
                        void *user)
{
	struct offer *offer = malloc(sizeof *offer);
	if (!offer) {
		struct error error;
		error_set(&error, DB_E_NOMEM, "There is not enough memory to start.");
		done(&error, user);
		return;
	}
	*offer = (struct offer){portal, store, done, user};
	store_owner_get(store, on_owner, offer);
}

void portal_close_setup(struct portal *portal)
{
	if (portal->setup_path[0] && unlink(portal->setup_path) != 0)
		log_warn("portal.setup_code", "path=%s why=\"it could not be removed\"", portal->setup_path);
	portal->setup_path[0] = '\0';
}
