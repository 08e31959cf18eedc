#include "coordinator/config_internal.h"

#include "coordinator/accounts/login.h"
#include "coordinator/accounts/oidc.h"
#include "coordinator/money/pricing.h"
#include "coordinator/money/rewards.h"
#include "coordinator/routing/routing.h"
#include "coordinator/routing/share.h"
#include "core/clock.h"
#include "core/log.h"

#include <stdlib.h>
#include <string.h>

const char *const coordinator_trust_names[] = {"none", "self_signed", "hardware", NULL};
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

    {.name = "store.url",
     .env = "DARKBLOOM_STORE_URL",
     .type = CONFIG_STRING,
     .offset = AT(store_url),
     .fallback = "",
     .secret = true,
     .help = "PostgreSQL 15 or newer instead of the SQLite file, for several coordinators on one database: "
             "`postgres://user:password@host/database?sslmode=verify-full`, with every option libpq takes. Empty is SQLite."},
    {.name = "store.connections",
     .env = "DARKBLOOM_STORE_CONNECTIONS",
     .type = CONFIG_INT,
     .offset = AT(store_connections),
     .fallback = "4",
     .min = 1,
     .max = 16,
     .help = "Connections to PostgreSQL that answer queries; one more writes."},
    {.name = "store.lost_after_s",
     .env = "DARKBLOOM_STORE_LOST_AFTER_S",
     .type = CONFIG_INT,
     .offset = AT(store_lost_after_s),
     .fallback = "30",
     .min = 5,
     .max = 3600,
     .help = "A coordinator that PostgreSQL has not heard of for so many seconds has ended: others release what it held."},
    {.name = "store.migrate",
     .env = "DARKBLOOM_STORE_MIGRATE",
     .type = CONFIG_BOOL,
     .offset = AT(store_migrate),
     .fallback = "false",
     .help = "Bring an older database forward at start. Otherwise `darkbloom-coordinator migrate` does, and the coordinator "
             "refuses to start before."},

    {.name = "trust.min_trust",
     .env = "DARKBLOOM_MIN_TRUST",
     .type = CONFIG_ENUM,
     .offset = AT(min_trust),
     .fallback = "self_signed",
     .choices = coordinator_trust_names,
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

    {.name = "routing.account_shares",
     .env = "DARKBLOOM_ACCOUNT_SHARES",
     .type = CONFIG_STRINGS,
     .offset = AT(account_shares),
     .fallback = "",
     .help =
         "What accounts get of a model whose requests wait: `ACCOUNT=WEIGHT` (0.01 to 100; others have 1), `ACCOUNT=PRIORITY` "
         "(batch, normal, interactive) or `ACCOUNT=WEIGHT:PRIORITY`."},
    {.name = "routing.dedicated_models",
     .env = "DARKBLOOM_DEDICATED_MODELS",
     .type = CONFIG_STRINGS,
     .offset = AT(dedicated_models),
     .fallback = "gemma-4",
     .help = "Families of models that have machines of their own, by a part of their ids: others' requests for them go only to "
             "providers that offer nothing but models of that family. Empty: none."},
    {.name = "routing.warm_pool",
     .env = "DARKBLOOM_WARM_POOL",
     .type = CONFIG_BOOL,
     .offset = AT(warm_pool),
     .fallback = "true",
     .help = "Tell idle providers to load a model before, or as soon as, demand outgrows those that have it in memory."},
    {.name = "routing.warm_interval_s",
     .env = "DARKBLOOM_WARM_INTERVAL",
     .type = CONFIG_INT,
     .offset = AT(warm_interval_s),
     .fallback = "10",
     .min = 1,
     .max = 3600,
     .help = "Seconds between two looks at the demand; a request that has to wait causes one at once."},
    {.name = "routing.keep_warm",
     .env = "DARKBLOOM_KEEP_WARM",
     .type = CONFIG_STRINGS,
     .offset = AT(keep_warm),
     .fallback = "",
     .help = "Models that so many providers keep in memory whatever the demand, each as `MODEL=N`."},

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
    {.name = "limits.hedge_percent",
     .env = "DARKBLOOM_HEDGE_PERCENT",
     .type = CONFIG_INT,
     .offset = AT(hedge_percent),
     .fallback = "3",
     .min = 0,
     .max = 100,
     .help = "Of all tokens, how many may be spent on asking a second provider where the first stays silent; 0 asks none."},
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
    {.name = "limits.stall_timeout_s",
     .env = "DARKBLOOM_STALL_TIMEOUT",
     .type = CONFIG_INT,
     .offset = AT(stall_timeout_s),
     .fallback = "60",
     .min = 1,
     .max = 86400,
     .help = "Seconds after which another provider goes on with an answer, where one can, when its own gives nobody anything."},

    {.name = "responses.store",
     .env = "DARKBLOOM_RESPONSES_STORE",
     .type = CONFIG_BOOL,
     .offset = AT(responses_store),
     .fallback = "true",
     .help = "Keep answers of `/v1/responses` whose callers ask for it with `store: true`, sealed; `false` refuses to."},
    {.name = "responses.days",
     .env = "DARKBLOOM_RESPONSES_DAYS",
     .type = CONFIG_INT,
     .offset = AT(responses_days),
     .fallback = "30",
     .min = 1,
     .max = 30,
     .help = "Days after which a kept answer is forgotten."},
    {.name = "responses.per_account",
     .env = "DARKBLOOM_RESPONSES_PER_ACCOUNT",
     .type = CONFIG_INT,
     .offset = AT(responses_per_account),
     .fallback = "1000",
     .min = 1,
     .max = 1000000,
     .help = "Kept answers of one account; the oldest make room for the newest."},
    {.name = "responses.mib_per_account",
     .env = "DARKBLOOM_RESPONSES_MIB_PER_ACCOUNT",
     .type = CONFIG_INT,
     .offset = AT(responses_mib_per_account),
     .fallback = "64",
     .min = 1,
     .max = 65536,
     .help = "MiB of kept answers of one account."},

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
    {.name = "limits.requests_per_minute",
     .env = "DARKBLOOM_RATE_LIMIT_RPM",
     .type = CONFIG_INT,
     .offset = AT(requests_per_minute),
     .fallback = "1200",
     .max = 1000000000,
     .help = "Inference requests of one account in a minute; 0 is no limit."},
    {.name = "limits.request_burst",
     .env = "DARKBLOOM_RATE_LIMIT_BURST",
     .type = CONFIG_INT,
     .offset = AT(request_burst),
     .fallback = "120",
     .min = 1,
     .max = 1000000000,
     .help = "Inference requests that an idle account may send at once."},
    {.name = "limits.input_tokens_per_minute",
     .env = "DARKBLOOM_RATE_LIMIT_ITPM",
     .type = CONFIG_INT,
     .offset = AT(input_tokens_per_minute),
     .fallback = "5000000",
     .max = 1000000000000,
     .help = "Prompt tokens of one account in a minute; 0 is no limit."},
    {.name = "limits.input_token_burst",
     .env = "DARKBLOOM_RATE_LIMIT_ITPM_BURST",
     .type = CONFIG_INT,
     .offset = AT(input_token_burst),
     .fallback = "1000000",
     .min = 1,
     .max = 1000000000000,
     .help = "Prompt tokens that an idle account may send at once; a longer prompt counts as so many."},
    {.name = "limits.output_tokens_per_minute",
     .env = "DARKBLOOM_RATE_LIMIT_OTPM",
     .type = CONFIG_INT,
     .offset = AT(output_tokens_per_minute),
     .fallback = "500000",
     .max = 1000000000000,
     .help = "Completion tokens that one account may ask for in a minute; 0 is no limit."},
    {.name = "limits.output_token_burst",
     .env = "DARKBLOOM_RATE_LIMIT_OTPM_BURST",
     .type = CONFIG_INT,
     .offset = AT(output_token_burst),
     .fallback = "64000",
     .min = 1,
     .max = 1000000000000,
     .help = "Completion tokens that an idle account may ask for at once."},
    {.name = "limits.concurrent_requests",
     .env = "DARKBLOOM_CONCURRENT_REQUESTS",
     .type = CONFIG_INT,
     .offset = AT(concurrent_requests),
     .fallback = "1000",
     .max = 1000000000,
     .help = "Inference requests that one account may run at a time; 0 is no limit."},
    {.name = "limits.service_requests_per_minute",
     .env = "DARKBLOOM_SERVICE_RATE_LIMIT_RPM",
     .type = CONFIG_INT,
     .offset = AT(service_requests_per_minute),
     .fallback = "12000",
     .max = 1000000000,
     .help = "As `requests_per_minute`, for accounts with the role `service`."},
    {.name = "limits.service_request_burst",
     .env = "DARKBLOOM_SERVICE_RATE_LIMIT_BURST",
     .type = CONFIG_INT,
     .offset = AT(service_request_burst),
     .fallback = "600",
     .min = 1,
     .max = 1000000000,
     .help = "As `request_burst`, for service accounts."},
    {.name = "limits.service_input_tokens_per_minute",
     .env = "DARKBLOOM_SERVICE_RATE_LIMIT_ITPM",
     .type = CONFIG_INT,
     .offset = AT(service_input_tokens_per_minute),
     .fallback = "50000000",
     .max = 1000000000000,
     .help = "As `input_tokens_per_minute`, for service accounts."},
    {.name = "limits.service_input_token_burst",
     .env = "DARKBLOOM_SERVICE_RATE_LIMIT_ITPM_BURST",
     .type = CONFIG_INT,
     .offset = AT(service_input_token_burst),
     .fallback = "5000000",
     .min = 1,
     .max = 1000000000000,
     .help = "As `input_token_burst`, for service accounts."},
    {.name = "limits.service_output_tokens_per_minute",
     .env = "DARKBLOOM_SERVICE_RATE_LIMIT_OTPM",
     .type = CONFIG_INT,
     .offset = AT(service_output_tokens_per_minute),
     .fallback = "5000000",
     .max = 1000000000000,
     .help = "As `output_tokens_per_minute`, for service accounts."},
    {.name = "limits.service_output_token_burst",
     .env = "DARKBLOOM_SERVICE_RATE_LIMIT_OTPM_BURST",
     .type = CONFIG_INT,
     .offset = AT(service_output_token_burst),
     .fallback = "512000",
     .min = 1,
     .max = 1000000000000,
     .help = "As `output_token_burst`, for service accounts."},
    {.name = "limits.service_concurrent_requests",
     .env = "DARKBLOOM_SERVICE_CONCURRENT_REQUESTS",
     .type = CONFIG_INT,
     .offset = AT(service_concurrent_requests),
     .fallback = "10000",
     .max = 1000000000,
     .help = "As `concurrent_requests`, for service accounts."},
    {.name = "limits.service_expected_output",
     .env = "DARKBLOOM_SERVICE_EXPECTED_OUTPUT",
     .type = CONFIG_BOOL,
     .offset = AT(service_expected_output),
     .fallback = "false",
     .help = "Charge service accounts the completion tokens they are expected to take instead of the most they may take; what "
             "they take beyond is charged afterwards."},
    {.name = "limits.service_expected_percent",
     .env = "DARKBLOOM_SERVICE_EXPECTED_OUTPUT_PERCENT",
     .type = CONFIG_INT,
     .offset = AT(service_expected_percent),
     .fallback = "25",
     .min = 1,
     .max = 100,
     .help = "Expected part of the most that a service account's request may take."},
    {.name = "limits.service_expected_floor",
     .env = "DARKBLOOM_SERVICE_EXPECTED_OUTPUT_FLOOR",
     .type = CONFIG_INT,
     .offset = AT(service_expected_floor),
     .fallback = "512",
     .max = 1000000000000,
     .help = "Least completion tokens that are expected of one request."},
    {.name = "limits.service_expected_ceiling",
     .env = "DARKBLOOM_SERVICE_EXPECTED_OUTPUT_CEILING",
     .type = CONFIG_INT,
     .offset = AT(service_expected_ceiling),
     .fallback = "8192",
     .min = 1,
     .max = 1000000000000,
     .help = "Most completion tokens that are expected of one request."},
    {.name = "limits.financial_per_minute",
     .env = "DARKBLOOM_FINANCIAL_RATE_LIMIT_RPM",
     .type = CONFIG_INT,
     .offset = AT(financial_per_minute),
     .fallback = "12",
     .max = 1000000000,
     .help = "Operations on money and keys of one account in a minute; 0 is no limit."},
    {.name = "limits.financial_burst",
     .env = "DARKBLOOM_FINANCIAL_RATE_LIMIT_BURST",
     .type = CONFIG_INT,
     .offset = AT(financial_burst),
     .fallback = "3",
     .min = 1,
     .max = 1000000000,
     .help = "Operations on money and keys that an idle account may ask for at once."},
    {.name = "limits.max_inflight",
     .env = "DARKBLOOM_MAX_INFLIGHT",
     .type = CONFIG_INT,
     .offset = AT(max_inflight),
     .fallback = "100000",
     .max = 1000000000,
     .help = "Inference requests at a time, of all accounts; more are refused with 503. 0 is no limit."},
    {.name = "limits.shed_loop_lag_ms",
     .env = "DARKBLOOM_SHED_LOOP_LAG_MS",
     .type = CONFIG_INT,
     .offset = AT(shed_loop_lag_ms),
     .fallback = "2000",
     .max = 1000000000,
     .help = "Inference is refused with 503 while the event loop is so late for several beats in a row; 0 is never."},
    {.name = "limits.shed_store_queue",
     .env = "DARKBLOOM_SHED_STORE_QUEUE",
     .type = CONFIG_INT,
     .offset = AT(shed_store_queue),
     .fallback = "100000",
     .max = 1000000000,
     .help = "Inference is refused with 503 while more writes than this wait for the disk; 0 is never."},

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
#define FIELDS_MAX  256

/* The whole table; returns its length. */
static size_t all_fields(struct config_field out[FIELDS_MAX])
{
	_Static_assert(FIELD_COUNT <= FIELDS_MAX / 2, "there is room for the other parts of the table");
	memcpy(out, fields, sizeof fields);
	memcpy(out + FIELD_COUNT, coordinator_money_fields, coordinator_money_field_count * sizeof *out);
	return FIELD_COUNT + coordinator_money_field_count;
}

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

bool coordinator_config_keep_warm(struct str text, struct str *model, uint32_t *providers)
{
	uint64_t count;
	struct str number = str_cut(text, '=', model);
	if (!model->len || !str_to_u64(number, &count) || count > UINT32_MAX)
		return false;
	*providers = (uint32_t)count;
	return true;
}

static enum db_err check_keep_warm(struct str text, struct error *error)
{
	struct str model;
	uint32_t providers;
	if (coordinator_config_keep_warm(text, &model, &providers))
		return DB_OK;
	return error_set(error, DB_E_INVALID, "routing.keep_warm must hold entries such as acme/model=2, not %.*s.", STR_ARG(text));
}

static enum db_err check_reward_model(struct str text, struct error *error)
{
	struct str model;
	int64_t memory_gb;
	if (reward_read_model(text, &model, &memory_gb))
		return DB_OK;
	return error_set(error, DB_E_INVALID, "rewards.models must hold entries such as Acme Box=96, not %.*s.", STR_ARG(text));
}

enum db_err coordinator_config_load(struct coordinator_config *config, const char *path, struct arena *arena,
                                    struct error *error)
{
	*config = (struct coordinator_config){0};
	struct config_field all[FIELDS_MAX];
	enum db_err err = config_load(all, all_fields(all), config, path, arena, error);
	if (!err && (config->tls_cert[0] == '\0') != (config->tls_key[0] == '\0'))
		err = error_set(error, DB_E_INVALID, "server.tls_cert and server.tls_key must be given together.");
	if (!err && price_parse_usd(str_of(config->first_grant_usd), &config->first_grant_uusd) != DB_OK)
		err = error_set(error, DB_E_INVALID, "accounts.first_grant_usd must be an amount in dollars, such as 10 or 2.50.");
	for (size_t i = 0; !err && i < config->rewards_models.count; i++)
		err = check_reward_model(str_of(config->rewards_models.at[i]), error);
	if (config->referral_percent < 1 || config->referral_percent > 50)
		config->referral_percent = PRICE_REFERRAL_PERCENT; /* billing 8.1 */
	if (!err && config->admin_key[0] != '\0' && strlen(config->admin_key) < ADMIN_KEY_MIN)
		err = error_set(error, DB_E_INVALID, "accounts.admin_key must have at least %d characters.", ADMIN_KEY_MIN);
	int64_t until_us = 0;
	if (!err && config->sealed_previous_until[0] && clock_parse_rfc3339(str_of(config->sealed_previous_until), &until_us))
		err = error_set(error, DB_E_INVALID, "sealed.previous_until must be a time such as 2026-12-31T00:00:00Z.");
	config->sealed_previous_until_s = until_us / 1000000;
	if (!err)
		err = check_public_url(config->public_url, error);
	if (!err && config->oidc_issuer[0] &&
	    (!oidc_issuer_is_acceptable(str_of(config->oidc_issuer)) || config->oidc_client_id[0] == '\0'))
		err = error_set(error, DB_E_INVALID, "oidc.issuer must be an https address, and oidc.client_id must be given with it.");
	if (!err && config->jwt_audience[0] && (config->jwt_key[0] == '\0') == (config->jwt_key_file[0] == '\0'))
		err = error_set(error, DB_E_INVALID, "With jwt.audience one of jwt.key and jwt.key_file must be given.");
	if (!err && config->backends.count == 0)
		err = error_set(error, DB_E_INVALID, "trust.backends must name at least one backend.");
	struct share share;
	for (size_t i = 0; !err && i < config->account_shares.count; i++)
		if (share_read(str_of(config->account_shares.at[i]), &share))
			err = error_set(error, DB_E_INVALID,
			                "routing.account_shares must be ACCOUNT=WEIGHT, ACCOUNT=PRIORITY or both, not %s.",
			                config->account_shares.at[i]);
	for (size_t i = 0; !err && i < config->keep_warm.count; i++)
		err = check_keep_warm(str_of(config->keep_warm.at[i]), error);
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
	struct config_field all[FIELDS_MAX];
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
	config_document(all, all_fields(all), out);
}

_Static_assert(ROUTE_TRUST_NONE == 0 && ROUTE_TRUST_SELF_SIGNED == 1 && ROUTE_TRUST_HARDWARE == 2,
               "the names follow enum route_trust");
_Static_assert(LOGIN_SIGNUP_CLOSED == 0 && LOGIN_SIGNUP_OPEN == 2, "signup_names follow enum login_signup_mode");
_Static_assert(LOG_DEBUG == 0 && LOG_OFF == 4, "level_names follow enum log_level");
