/* Settings about who calls: accounts, identity providers, tokens of others. */
#include "coordinator/config_internal.h"

#include "coordinator/accounts/login.h"
#include "coordinator/accounts/oidc.h"
#include "coordinator/money/pricing.h"

#include <string.h>

#define ADMIN_KEY_MIN 24

#define AT(member) offsetof(struct coordinator_config, member)

static const char *const signup_names[] = {"closed", "invite", "open", NULL};
_Static_assert(LOGIN_SIGNUP_CLOSED == 0 && LOGIN_SIGNUP_OPEN == 2, "signup_names follow enum login_signup_mode");

static const struct config_field fields[] = {
    {.name = "accounts.signup",
     .env = "DARKBLOOM_SIGNUP",
     .type = CONFIG_ENUM,
     .offset = AT(signup),
     .fallback = "invite",
     .choices = signup_names,
     .help = "Who may make an account: `open` is everybody, `invite` asks for an operator's invitation, `closed` nobody. The "
             "operator signs up with the setup code in any case."},
    {.name = "accounts.session_idle_s",
     .env = "DARKBLOOM_SESSION_IDLE",
     .type = CONFIG_INT,
     .offset = AT(session_idle_s),
     .fallback = "1209600",
     .min = 60,
     .max = 31536000,
     .help = "Seconds after which a session that is not used ends."},
    {.name = "accounts.session_absolute_s",
     .env = "DARKBLOOM_SESSION_ABSOLUTE",
     .type = CONFIG_INT,
     .offset = AT(session_absolute_s),
     .fallback = "7776000",
     .min = 60,
     .max = 31536000,
     .help = "Seconds after which every session ends."},
    {.name = "accounts.operators",
     .env = "DARKBLOOM_OPERATORS",
     .type = CONFIG_STRINGS,
     .offset = AT(operators),
     .fallback = "",
     .help = "E-mail addresses of further operators; they count only where an identity provider has verified them."},
    {.name = "accounts.first_grant_usd",
     .env = "DARKBLOOM_FIRST_GRANT_USD",
     .type = CONFIG_STRING,
     .offset = AT(first_grant_usd),
     .fallback = "10",
     .help = "Credit of the owner's account that the first start makes, in dollars."},
    {.name = "accounts.admin_key",
     .env = "DARKBLOOM_ADMIN_KEY",
     .type = CONFIG_STRING,
     .offset = AT(admin_key),
     .fallback = "",
     .help = "The operator's key for the routes below `/v1/admin`, of at least 24 characters; empty turns them off but for "
             "the commands of `darkbloom-coordinator`."},

    {.name = "oidc.issuer",
     .env = "DARKBLOOM_OIDC_ISSUER",
     .type = CONFIG_STRING,
     .offset = AT(oidc_issuer),
     .fallback = "",
     .help = "Identity provider to log in with (OpenID Connect), such as `https://accounts.example`; empty: none."},
    {.name = "oidc.client_id",
     .env = "DARKBLOOM_OIDC_CLIENT_ID",
     .type = CONFIG_STRING,
     .offset = AT(oidc_client_id),
     .fallback = "",
     .help = "The name under which the coordinator is registered there, with the redirect address "
             "`<public_url>/auth/oidc/callback`."},
    {.name = "oidc.client_secret",
     .env = "DARKBLOOM_OIDC_CLIENT_SECRET",
     .type = CONFIG_STRING,
     .offset = AT(oidc_client_secret),
     .fallback = "",
     .secret = true,
     .help = "Its secret; empty for a public client, which PKCE protects."},
    {.name = "oidc.name",
     .env = "DARKBLOOM_OIDC_NAME",
     .type = CONFIG_STRING,
     .offset = AT(oidc_name),
     .fallback = "single sign-on",
     .help = "What the login page calls it."},
    {.name = "oidc.scopes",
     .env = "DARKBLOOM_OIDC_SCOPES",
     .type = CONFIG_STRING,
     .offset = AT(oidc_scopes),
     .fallback = "openid email profile",
     .help = "What is asked of it; `openid` must be among them."},
    {.name = "oidc.signup",
     .env = "DARKBLOOM_OIDC_SIGNUP",
     .type = CONFIG_BOOL,
     .offset = AT(oidc_signup),
     .fallback = "true",
     .help =
         "Make an account for everybody whom the identity provider lets in; otherwise only accounts linked before can use it."},
    {.name = "oidc.ca",
     .env = "DARKBLOOM_OIDC_CA",
     .type = CONFIG_STRING,
     .offset = AT(oidc_ca),
     .fallback = "",
     .help = "PEM file with the authority of its certificate; empty trusts those of the system."},

    {.name = "jwt.issuer",
     .env = "DARKBLOOM_JWT_ISSUER",
     .type = CONFIG_STRING,
     .offset = AT(jwt_issuer),
     .fallback = "privy.io",
     .help = "Who signs the tokens that are accepted as `Authorization: Bearer eyJ...`."},
    {.name = "jwt.audience",
     .env = "EIGENINFERENCE_PRIVY_APP_ID",
     .type = CONFIG_STRING,
     .offset = AT(jwt_audience),
     .fallback = "",
     .help = "Whom they must be for; empty accepts no such token."},
    {.name = "jwt.key",
     .env = "EIGENINFERENCE_PRIVY_VERIFICATION_KEY",
     .type = CONFIG_STRING,
     .offset = AT(jwt_key),
     .fallback = "",
     .help = "The issuer's public key in PEM, P-256 or RSA; `\\n` counts as a line feed."},
    {.name = "jwt.key_file",
     .env = "EIGENINFERENCE_PRIVY_VERIFICATION_KEY_FILE",
     .type = CONFIG_STRING,
     .offset = AT(jwt_key_file),
     .fallback = "",
     .help = "A file that holds it, instead."},
};

static enum db_err check(struct coordinator_config *config, struct arena *arena, struct error *error)
{
	(void)arena;
	if (price_parse_usd(str_of(config->first_grant_usd), &config->first_grant_uusd) != DB_OK)
		return error_set(error, DB_E_INVALID, "accounts.first_grant_usd must be an amount in dollars, such as 10 or 2.50.");
	if (config->admin_key[0] != '\0' && strlen(config->admin_key) < ADMIN_KEY_MIN)
		return error_set(error, DB_E_INVALID, "accounts.admin_key must have at least %d characters.", ADMIN_KEY_MIN);
	if (config->oidc_issuer[0] &&
	    (!oidc_issuer_is_acceptable(str_of(config->oidc_issuer)) || config->oidc_client_id[0] == '\0'))
		return error_set(error, DB_E_INVALID,
		                 "oidc.issuer must be an https address, and oidc.client_id must be given with it.");
	if (config->jwt_audience[0] && (config->jwt_key[0] == '\0') == (config->jwt_key_file[0] == '\0'))
		return error_set(error, DB_E_INVALID, "With jwt.audience one of jwt.key and jwt.key_file must be given.");
	return DB_OK;
}

const struct config_part coordinator_account_settings = {fields, sizeof fields / sizeof *fields, check};
