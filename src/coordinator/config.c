#include "coordinator/config.h"

#include "coordinator/accounts/login.h"
#include "coordinator/money/pricing.h"
#include "coordinator/routing/routing.h"
#include "core/clock.h"
#include "core/log.h"

#include <stdlib.h>

static const char *const trust_names[] = {"none", "self_signed", "hardware", NULL};
static const char *const signup_names[] = {"closed", "invite", "open", NULL};
static const char *const level_names[] = {"debug", "info", "warn", "error", "off", NULL};

#define ADMIN_KEY_MIN 24

#define AT(member) offsetof(struct coordinator_config, member)

static const struct config_field fields[] = {
    {.name = "server.host",
     .env = "DARKBLOOM_HOST",
     .type = CONFIG_STRING,
     .offset = AT(host),
     .fallback = "127.0.0.1",
     .help = "Address to listen on; `::` or `0.0.0.0` for all."},
    {.name = "server.port",
     .env = "DARKBLOOM_PORT",
     .type = CONFIG_INT,
     .offset = AT(port),
     .fallback = "8080",
     .max = 65535,
     .help = "Port to listen on; 0 takes any free one."},
    {.name = "server.tls_cert",
     .env = "DARKBLOOM_TLS_CERT",
     .type = CONFIG_STRING,
     .offset = AT(tls_cert),
     .fallback = "",
     .help = "PEM file with the certificate chain; without it the server speaks clear text, for use behind a TLS proxy."},
    {.name = "server.tls_key",
     .env = "DARKBLOOM_TLS_KEY",
     .type = CONFIG_STRING,
     .offset = AT(tls_key),
     .fallback = "",
     .help = "PEM file with the certificate's private key."},
    {.name = "server.cors_origin",
     .env = "CORS_ORIGIN",
     .type = CONFIG_STRING,
     .offset = AT(cors_origin),
     .fallback = "https://console.darkbloom.dev",
     .help = "The one web origin that browsers may call the API from."},
    {.name = "server.public_url",
     .env = "DARKBLOOM_PUBLIC_URL",
     .type = CONFIG_STRING,
     .offset = AT(public_url),
     .fallback = "",
     .help =
         "The address that people and providers use, such as `https://darkbloom.example`; empty takes it from each request. "
         "With `https://` cookies are for TLS only, also behind a proxy."},
    {.name = "server.behind_proxy",
     .env = "DARKBLOOM_BEHIND_PROXY",
     .type = CONFIG_BOOL,
     .offset = AT(behind_proxy),
     .fallback = "false",
     .help = "Believe the last entry of `X-Forwarded-For`; only with a proxy in front that sets it."},
    {.name = "server.max_connections",
     .env = "DARKBLOOM_MAX_CONNECTIONS",
     .type = CONFIG_INT,
     .offset = AT(max_connections),
     .fallback = "100000",
     .min = 1,
     .max = 10000000,
     .help = "Connections at a time, providers' included."},
    {.name = "server.drain_grace_s",
     .env = "DARKBLOOM_DRAIN_GRACE",
     .type = CONFIG_INT,
     .offset = AT(drain_grace_s),
     .fallback = "600",
     .max = 86400,
     .help = "Seconds that running answers get to finish after SIGTERM."},

    {.name = "data.dir",
     .env = "DARKBLOOM_DATA_DIR",
     .type = CONFIG_STRING,
     .offset = AT(dir),
     .fallback = "",
     .help = "Folder of the database, made with mode 0700; empty is `$XDG_DATA_HOME/darkbloom/coordinator`, or "
             "`~/.local/share/darkbloom/coordinator`."},
    {.name = "data.database",
     .env = "DARKBLOOM_DATABASE",
     .type = CONFIG_STRING,
     .offset = AT(database),
     .fallback = "",
     .help = "SQLite file; empty is `coordinator.db` in the data folder."},
    {.name = "data.group_commit_us",
     .env = "DARKBLOOM_GROUP_COMMIT_US",
     .type = CONFIG_INT,
     .offset = AT(group_commit_us),
     .fallback = "2000",
     .max = 1000000,
     .help = "Microseconds that writes are gathered before one commit makes them durable together."},

    {.name = "trust.min_trust",
     .env = "DARKBLOOM_MIN_TRUST",
     .type = CONFIG_ENUM,
     .offset = AT(min_trust),
     .fallback = "self_signed",
     .choices = trust_names,
     .help = "Trust that a provider needs before it gets requests: `hardware` is for production, `self_signed` proves a stable "
             "key and posture without a manufacturer's word, `none` is for tests."},
    {.name = "trust.backends",
     .env = "DARKBLOOM_BACKENDS",
     .type = CONFIG_STRINGS,
     .offset = AT(backends),
     .fallback = "mlx-swift,inprocess-mlx,llama.cpp",
     .help = "Engines that providers may report in `backend`."},
    {.name = "trust.min_provider_version",
     .env = "DARKBLOOM_MIN_PROVIDER_VERSION",
     .type = CONFIG_STRING,
     .offset = AT(min_provider_version),
     .fallback = "",
     .help = "Providers below this version get no requests; empty accepts all."},
    {.name = "trust.challenge_interval_s",
     .env = "DARKBLOOM_CHALLENGE_INTERVAL",
     .type = CONFIG_INT,
     .offset = AT(challenge_interval_s),
     .fallback = "300",
     .min = 1,
     .max = 86400,
     .help = "Seconds between liveness challenges of a provider."},
    {.name = "trust.challenge_timeout_s",
     .env = "DARKBLOOM_CHALLENGE_TIMEOUT",
     .type = CONFIG_INT,
     .offset = AT(challenge_timeout_s),
     .fallback = "30",
     .min = 1,
     .max = 3600,
     .help = "Seconds that a provider has to answer one."},
    {.name = "trust.heartbeat_timeout_s",
     .env = "DARKBLOOM_HEARTBEAT_TIMEOUT",
     .type = CONFIG_INT,
     .offset = AT(heartbeat_timeout_s),
     .fallback = "90",
     .min = 1,
     .max = 3600,
     .help = "Seconds without a heartbeat after which a provider counts as gone."},

    {.name = "pricing.input_price",
     .env = "DARKBLOOM_INPUT_PRICE",
     .type = CONFIG_INT,
     .offset = AT(input_price),
     .fallback = "50000",
     .max = 1000000000000,
     .help = "Micro-dollars for a million prompt tokens, for models without a price of their own."},
    {.name = "pricing.output_price",
     .env = "DARKBLOOM_OUTPUT_PRICE",
     .type = CONFIG_INT,
     .offset = AT(output_price),
     .fallback = "200000",
     .max = 1000000000000,
     .help = "Micro-dollars for a million completion tokens, for models without a price of their own."},
    {.name = "pricing.fee_percent",
     .env = "DARKBLOOM_FEE_PERCENT",
     .type = CONFIG_INT,
     .offset = AT(fee_percent),
     .fallback = "0",
     .max = 100,
     .help = "Part of each charge that the platform keeps, for accounts without a fee of their own."},

    {.name = "limits.max_providers",
     .env = "DARKBLOOM_MAX_PROVIDERS",
     .type = CONFIG_INT,
     .offset = AT(max_providers),
     .fallback = "100000",
     .min = 1,
     .max = 10000000,
     .help = "Providers connected at a time."},
    {.name = "limits.relay_buffer_kib",
     .env = "DARKBLOOM_RELAY_BUFFER_KIB",
     .type = CONFIG_INT,
     .offset = AT(relay_buffer_kib),
     .fallback = "4096",
     .min = 64,
     .max = 4096,
     .help = "Unread answer kept for one slow consumer whose provider cannot pause; beyond it the stream ends with an error."},
    {.name = "limits.first_content_ms",
     .env = "DARKBLOOM_FIRST_CONTENT_MS",
     .type = CONFIG_INT,
     .offset = AT(first_content_ms),
     .fallback = "5000",
     .min = 100,
     .max = 600000,
     .help = "Milliseconds, and 1 more for each prompt token, after which a silent provider is given up for another."},
    {.name = "limits.accepted_wait_s",
     .env = "DARKBLOOM_ACCEPTED_WAIT",
     .type = CONFIG_INT,
     .offset = AT(accepted_wait_s),
     .fallback = "600",
     .min = 1,
     .max = 3600,
     .help = "Seconds that a provider which has accepted a request may take to its first content, as when it loads the model."},
    {.name = "limits.queue_wait_s",
     .env = "DARKBLOOM_QUEUE_WAIT",
     .type = CONFIG_INT,
     .offset = AT(queue_wait_s),
     .fallback = "120",
     .min = 1,
     .max = 3600,
     .help = "Seconds that a request waits for a free provider."},
    {.name = "limits.keepalive_s",
     .env = "DARKBLOOM_KEEPALIVE",
     .type = CONFIG_INT,
     .offset = AT(keepalive_s),
     .fallback = "10",
     .min = 1,
     .max = 600,
     .help = "Seconds between comments that keep a stream open until its first content."},
    {.name = "limits.idle_timeout_s",
     .env = "DARKBLOOM_IDLE_TIMEOUT",
     .type = CONFIG_INT,
     .offset = AT(idle_timeout_s),
     .fallback = "600",
     .min = 1,
     .max = 86400,
     .help = "Seconds between two chunks of a stream, and for a whole answer, before it counts as failed."},

    {.name = "sealed.previous_until",
     .env = "DARKBLOOM_SEALED_PREVIOUS_UNTIL",
     .type = CONFIG_STRING,
     .offset = AT(sealed_previous_until),
     .fallback = "",
     .help = "Time, such as `2026-12-31T00:00:00Z`, up to which bodies sealed to a key of `MNEMONIC_PREVIOUS` are taken."},
    {.name = "sealed.replay_window_s",
     .env = "DARKBLOOM_SEALED_REPLAY_WINDOW",
     .type = CONFIG_INT,
     .offset = AT(sealed_replay_window_s),
     .fallback = "300",
     .min = 10,
     .max = 3600,
     .help = "Seconds that the clock of a consumer who seals may differ, and for which an envelope is remembered at least."},
    {.name = "sealed.require_time",
     .env = "DARKBLOOM_SEALED_REQUIRE_TIME",
     .type = CONFIG_BOOL,
     .offset = AT(sealed_require_time),
     .fallback = "false",
     .help = "Refuse envelopes whose nonce does not tell the time; older clients seal such ones."},

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

    {.name = "log.level",
     .env = "DARKBLOOM_LOG",
     .type = CONFIG_ENUM,
     .offset = AT(level),
     .fallback = "info",
     .choices = level_names,
     .help = "Least important lines that are written to standard error."},
};
#define FIELD_COUNT (sizeof fields / sizeof *fields)

static enum db_err default_dir(struct coordinator_config *config, struct arena *arena, struct error *error)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	if (data && data[0] == '/')
		config->dir = arena_printf(arena, "%s/darkbloom/coordinator", data);
	else if (home && home[0] == '/')
		config->dir = arena_printf(arena, "%s/.local/share/darkbloom/coordinator", home);
	else
		return error_set(error, DB_E_NOT_FOUND,
		                 "There is no home folder to keep the database in: set data.dir or DARKBLOOM_DATA_DIR.");
	return config->dir ? DB_OK : error_set(error, DB_E_NOMEM, "There is not enough memory for the configuration.");
}

static enum db_err check_public_url(const char *url, struct error *error)
{
	struct str text = str_of(url);
	bool has_scheme = str_starts(text, STR("https://")) || str_starts(text, STR("http://"));
	if (!text.len ||
	    (has_scheme && !str_ends(text, STR("/")) && !memchr(text.at, '?', text.len) && !memchr(text.at, '#', text.len)))
		return DB_OK;
	return error_set(error, DB_E_INVALID,
	                 "server.public_url must begin with https:// or http:// and must not end with a slash.");
}

enum db_err coordinator_config_load(struct coordinator_config *config, const char *path, struct arena *arena,
                                    struct error *error)
{
	*config = (struct coordinator_config){0};
	enum db_err err = config_load(fields, FIELD_COUNT, config, path, arena, error);
	if (!err && (config->tls_cert[0] == '\0') != (config->tls_key[0] == '\0'))
		err = error_set(error, DB_E_INVALID, "server.tls_cert and server.tls_key must be given together.");
	if (!err && price_parse_usd(str_of(config->first_grant_usd), &config->first_grant_uusd) != DB_OK)
		err = error_set(error, DB_E_INVALID, "accounts.first_grant_usd must be an amount in dollars, such as 10 or 2.50.");
	if (!err && config->admin_key[0] != '\0' && strlen(config->admin_key) < ADMIN_KEY_MIN)
		err = error_set(error, DB_E_INVALID, "accounts.admin_key must have at least %d characters.", ADMIN_KEY_MIN);
	int64_t until_us = 0;
	if (!err && config->sealed_previous_until[0] && clock_parse_rfc3339(str_of(config->sealed_previous_until), &until_us))
		err = error_set(error, DB_E_INVALID, "sealed.previous_until must be a time such as 2026-12-31T00:00:00Z.");
	config->sealed_previous_until_s = until_us / 1000000;
	if (!err)
		err = check_public_url(config->public_url, error);
	if (!err && config->backends.count == 0)
		err = error_set(error, DB_E_INVALID, "trust.backends must name at least one backend.");
	if (!err && config->dir[0] == '\0')
		err = default_dir(config, arena, error);
	if (!err && config->database[0] == '\0')
		config->database = arena_printf(arena, "%s/coordinator.db", config->dir);
	if (!err && !config->database)
		err = error_set(error, DB_E_NOMEM, "There is not enough memory for the configuration.");
	return err;
}

void coordinator_config_document(struct buf *out)
{
	buf_append_c(out,
	             "# Configuration of the coordinator\n\n"
	             "No setting is needed to start. `darkbloom-coordinator --config FILE` reads a TOML file with the sections "
	             "below; unknown keys are refused with a hint. Environment variables override the file. "
	             "`darkbloom-coordinator --check-config` says what is wrong without starting, and `darkbloom-coordinator "
	             "config docs` prints this page.\n\n"
	             "The key of the sealed transport comes from a mnemonic of 12 or 24 words in `MNEMONIC` (or "
	             "`EIGENINFERENCE_MNEMONIC`, `EIGENINFERENCE_SOLANA_MNEMONIC`); without one `GET /v1/encryption-key` answers "
	             "503. To change it, put the new one there, the one before (or several, separated by commas) into "
	             "`MNEMONIC_PREVIOUS`, and into `sealed.previous_until` the time up to which that is still taken.\n\n");
	config_document(fields, FIELD_COUNT, out);
}

_Static_assert(ROUTE_TRUST_NONE == 0 && ROUTE_TRUST_SELF_SIGNED == 1 && ROUTE_TRUST_HARDWARE == 2,
               "trust_names follow enum route_trust");
_Static_assert(LOGIN_SIGNUP_CLOSED == 0 && LOGIN_SIGNUP_OPEN == 2, "signup_names follow enum login_signup_mode");
_Static_assert(LOG_DEBUG == 0 && LOG_OFF == 4, "level_names follow enum log_level");
