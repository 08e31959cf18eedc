/* The coordinator's settings: one strict TOML file, then environment variables; every field has a default, so that none is
 * needed to start. The table in config_*.c is also the reference in docs/operator/configuration.md. Thread: start-up only. */
#ifndef COORDINATOR_CONFIG_H
#define COORDINATOR_CONFIG_H

#include "core/config.h"

struct coordinator_config {
	/* [server] */
	const char *host;
	int64_t port;
	const char *tls_cert, *tls_key; /* both or neither */
	const char *cors_origin;
	const char *public_url; /* without a slash at the end; may be empty */
	bool behind_proxy;
	int64_t max_connections;
	int64_t drain_grace_s;

	/* [data] */
	const char *dir;      /* never empty after loading */
	const char *database; /* path, never empty after loading */
	int64_t group_commit_us;

	/* [store] */
	const char *store_url; /* PostgreSQL; empty = the SQLite file */
	int64_t store_connections, store_lost_after_s;
	bool store_migrate;

	/* [trust] */
	int min_trust; /* enum route_trust */
	struct config_strings backends;
	const char *min_provider_version;
	int64_t challenge_interval_s, challenge_timeout_s, heartbeat_timeout_s;

	/* [routing] */
	bool warm_pool;
	struct config_strings dedicated_models, account_shares;
	int64_t warm_interval_s;
	struct config_strings keep_warm; /* "MODEL=N" */

	/* [pricing] */
	int64_t input_price, output_price; /* micro-dollars per million tokens, for models without a price of their own */
	int64_t fee_percent;

	/* [retention] */
	int64_t retention_usage_days, retention_webhook_days, retention_session_days, retention_rows, retention_record_mb;

	/* [rewards] */
	bool rewards;
	int64_t rewards_pool_uusd, rewards_reduction_percent, rewards_min_uptime_percent, rewards_account_percent, rewards_look_s;
	int rewards_min_trust;                /* enum route_trust */
	struct config_strings rewards_models; /* "MODEL=GB" */

	/* [referrals] */
	int64_t referral_percent; /* 1 to 50 after loading */

	/* [limits] */
	int64_t max_providers;
	int64_t relay_buffer_kib;
	int64_t requests_per_minute, request_burst, input_tokens_per_minute, input_token_burst;
	int64_t output_tokens_per_minute, output_token_burst, concurrent_requests;
	int64_t service_requests_per_minute, service_request_burst, service_input_tokens_per_minute, service_input_token_burst;
	int64_t service_output_tokens_per_minute, service_output_token_burst, service_concurrent_requests;
	bool service_expected_output;
	int64_t service_expected_percent, service_expected_floor, service_expected_ceiling;
	int64_t financial_per_minute, financial_burst;
	int64_t max_inflight, shed_loop_lag_ms, shed_store_queue;
	int64_t hedge_percent;
	int64_t memory_interval_s, first_content_ms, accepted_wait_s, queue_wait_s, keepalive_s, idle_timeout_s, stall_timeout_s;

	/* [responses] */
	bool responses_store;
	int64_t responses_days, responses_per_account, responses_mib_per_account;

	/* [sealed] */
	const char *sealed_previous_until;
	int64_t sealed_previous_until_s; /* Unix time, 0 = not given */
	int64_t sealed_replay_window_s;
	bool sealed_require_time;

	/* [accounts] */
	int64_t first_grant_uusd;
	const char *first_grant_usd;
	int signup; /* enum login_signup_mode */
	int64_t session_idle_s, session_absolute_s;
	struct config_strings operators;

	/* [oidc], [jwt]: off while the issuer, or the audience, is empty */
	const char *oidc_issuer, *oidc_client_id, *oidc_client_secret, *oidc_name, *oidc_scopes, *oidc_ca;
	bool oidc_signup;
	const char *jwt_issuer, *jwt_audience, *jwt_key, *jwt_key_file;
	const char *admin_key; /* empty = none */

	/* [stripe]: off while the secret key is empty */
	const char *stripe_secret_key, *stripe_webhook_secret, *stripe_connect_webhook_secret, *stripe_api_url;
	const char *stripe_success_url, *stripe_cancel_url, *stripe_return_url, *stripe_country;
	int64_t stripe_daily_withdrawal_usd, stripe_retry_ms, stripe_withdrawal_cooldown_s;

	/* [state_export] */
	bool state_export;
	const char *state_recipient; /* age1..., may be empty */

	/* [log] */
	int level; /* enum log_level */
};

/* `path` NULL: no file. Texts live in the arena. */
enum db_err coordinator_config_load(struct coordinator_config *config, const char *path, struct arena *arena,
                                    struct error *error);
/* One entry of keep_warm; false when it is none. */
bool coordinator_config_keep_warm(struct str text, struct str *model, uint32_t *providers);
/* Appends the Markdown reference. */
void coordinator_config_document(struct buf *out);

#endif
