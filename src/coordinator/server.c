#include "coordinator/server.h"

#include "coordinator/auth.h"
#include "coordinator/gateway/limit.h"
#include "coordinator/gateway/record_log.h"
#include "coordinator/models.h"
#include "coordinator/money_routes.h"
#include "coordinator/operate.h"
#include "coordinator/portal_routes.h"
#include "coordinator/state_import.h"
#include "core/clock.h"
#include "core/log.h"
#include "net/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- the route table --- */

#define SMALL_BODY   (64 << 10)
#define WEBHOOK_BODY (1 << 20)
#define NO_BODY      4096 /* a body that nobody reads is let pass up to here */

static void handle_infer(struct server *server, struct exchange *exchange);
static void handle_provider(struct server *server, struct exchange *exchange);
static void handle_blind_offer(struct server *server, struct exchange *exchange);
static void handle_blind_complete(struct server *server, struct exchange *exchange);

/* One line for each route, however long. */
/* clang-format off */
static const struct route routes[] = {
    {"POST", "/v1/chat/completions", AUTH_KEY, SCOPE_INFERENCE, WRAP_INFERENCE, GATEWAY_MAX_BODY, handle_infer, &dialect_chat},
    {"POST", "/v1/responses", AUTH_KEY, SCOPE_INFERENCE, WRAP_INFERENCE, GATEWAY_MAX_BODY, handle_responses, &dialect_responses},
    {"GET", "/v1/responses/*/input_items", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_response_items, NULL},
    {"GET", "/v1/responses/*", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_response, NULL},
    {"DELETE", "/v1/responses/*", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_response_delete, NULL},
    {"POST", "/v1/messages", AUTH_KEY, SCOPE_INFERENCE, WRAP_INFERENCE, GATEWAY_MAX_BODY, handle_infer, &dialect_anthropic},
    {"POST", "/v1/completions", AUTH_KEY, SCOPE_INFERENCE, WRAP_INFERENCE, GATEWAY_MAX_BODY, handle_infer, &dialect_completions},
    {"POST", "/v1/blind/offer", AUTH_KEY, SCOPE_INFERENCE, WRAP_INFERENCE, SMALL_BODY, handle_blind_offer, NULL},
    {"POST", "/v1/blind/completions", AUTH_KEY, SCOPE_INFERENCE, WRAP_INFERENCE, GATEWAY_MAX_BODY, handle_blind_complete, NULL},
    {"POST", "/v1/messages/count_tokens", AUTH_KEY, SCOPE_INFERENCE, WRAP_INFERENCE, GATEWAY_MAX_BODY, handle_infer, &dialect_anthropic_count},
    {"POST", "/v1/embeddings", AUTH_KEY, SCOPE_INFERENCE, WRAP_INFERENCE, GATEWAY_MAX_BODY, handle_infer, &dialect_embeddings},
    {"GET", "/v1/models", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_models, NULL},
    {"GET", "/v1/models/openrouter", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_models_openrouter, NULL},
    {"GET", "/v1/models/capacity", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_capacity, NULL},
    {"GET", "/v1/models/*", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_model, NULL},
    {"GET", "/v1/payments/balance", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_balance, NULL},
    {"GET", "/v1/payments/usage", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_usage, NULL},
    {"GET", "/v1/payments/usage/export", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_usage_export, NULL},
    {"GET", "/v1/payments/statement", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_statement, NULL},
    {"GET", "/v1/provider/account-earnings", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_account_earnings, NULL},
    {"GET", "/v1/leaderboard", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_leaderboard, NULL},
    {"GET", "/v1/network/totals", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_network_totals, NULL},
    {"GET", "/v1/pricing", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_pricing, NULL},
    {"PUT", "/v1/pricing", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_MONEY, SMALL_BODY, handle_price_set, NULL},
    {"DELETE", "/v1/pricing", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_MONEY, SMALL_BODY, handle_price_delete, NULL},
    {"PUT", "/v1/admin/pricing", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_platform_price_set, NULL},
    {"GET", "/v1/billing/methods", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_billing_methods, NULL},
    {"GET", "/v1/billing/wallet/balance", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_wallet_balance, NULL},
    {"POST", "/v1/billing/stripe/create-session", AUTH_KEY, SCOPE_INFERENCE, WRAP_MONEY, SMALL_BODY, handle_checkout_create, NULL},
    {"GET", "/v1/billing/stripe/session", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_checkout_get, NULL},
    {"POST", "/v1/billing/stripe/webhook", AUTH_NONE, SCOPE_NONE, WRAP_NONE, WEBHOOK_BODY, handle_stripe_webhook, NULL},
    {"POST", "/v1/billing/stripe/onboard", AUTH_SESSION, SCOPE_PAYOUTS, WRAP_MONEY, SMALL_BODY, handle_payout_onboard, NULL},
    {"GET", "/v1/billing/stripe/status", AUTH_SESSION, SCOPE_PAYOUTS, WRAP_NONE, NO_BODY, handle_payout_status, NULL},
    {"POST", "/v1/billing/withdraw/stripe", AUTH_SESSION, SCOPE_PAYOUTS, WRAP_MONEY, SMALL_BODY, handle_withdraw, NULL},
    {"GET", "/v1/billing/stripe/withdrawals", AUTH_SESSION, SCOPE_PAYOUTS, WRAP_NONE, NO_BODY, handle_withdrawals, NULL},
    {"POST", "/v1/billing/stripe/connect/webhook", AUTH_NONE, SCOPE_NONE, WRAP_NONE, WEBHOOK_BODY, handle_connect_webhook, NULL},
    {"POST", "/v1/admin/invite-codes", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_invite_create, NULL},
    {"GET", "/v1/admin/invite-codes", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_invites, NULL},
    {"DELETE", "/v1/admin/invite-codes", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_invite_delete, NULL},
    {"POST", "/v1/invite/redeem", AUTH_KEY, SCOPE_INFERENCE, WRAP_MONEY, SMALL_BODY, handle_invite_redeem, NULL},
    {"POST", "/v1/referral/register", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_MONEY, SMALL_BODY, handle_referral_register, NULL},
    {"POST", "/v1/referral/apply", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_MONEY, SMALL_BODY, handle_referral_apply, NULL},
    {"GET", "/v1/referral/stats", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_referral_stats, NULL},
    {"GET", "/v1/referral/info", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_referral_info, NULL},
    {"GET", "/v1/receipts/*", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_receipt, NULL},
    {"GET", "/.well-known/darkbloom-receipt-key", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_receipt_key, NULL},
    {"GET", "/v1/key", AUTH_KEY, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_own_key, NULL},
    {"GET", "/v1/keys", AUTH_KEY, SCOPE_KEYS, WRAP_NONE, NO_BODY, handle_keys, NULL},
    {"POST", "/v1/keys", AUTH_KEY, SCOPE_KEYS, WRAP_MONEY, SMALL_BODY, handle_key_create, NULL},
    {"GET", "/v1/keys/*", AUTH_KEY, SCOPE_KEYS, WRAP_NONE, NO_BODY, handle_key, NULL},
    {"PATCH", "/v1/keys/*", AUTH_KEY, SCOPE_KEYS, WRAP_MONEY, SMALL_BODY, handle_key_patch, NULL},
    {"DELETE", "/v1/keys/*", AUTH_KEY, SCOPE_KEYS, WRAP_MONEY, NO_BODY, handle_key_delete, NULL},
    {"POST", "/v1/keys/*/rotate", AUTH_KEY, SCOPE_KEYS, WRAP_MONEY, NO_BODY, handle_key_rotate, NULL},
    {"POST", "/v1/auth/keys", AUTH_KEY, SCOPE_KEYS, WRAP_MONEY, NO_BODY, handle_legacy_key_create, NULL},
    {"DELETE", "/v1/auth/keys", AUTH_KEY, SCOPE_KEYS, WRAP_NONE, SMALL_BODY, handle_legacy_key_revoke, NULL},
    {"GET", "/v1/admin/keys", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_keys, NULL},
    {"POST", "/v1/admin/keys", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_key_create, NULL},
    {"PATCH", "/v1/admin/keys/*", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_key_patch, NULL},
    {"DELETE", "/v1/admin/keys/*", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_key_delete, NULL},
    {"POST", "/v1/admin/credit", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_admin_credit, NULL},
    {"GET", "/v1/admin/models/aliases", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_aliases, NULL},
    {"POST", "/v1/admin/models/aliases", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_alias_put, NULL},
    {"DELETE", "/v1/admin/models/aliases/*", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_alias_delete, NULL},
    {"GET", "/v1/admin/account-shares", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_shares, NULL},
    {"PUT", "/v1/admin/account-shares", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_share_put, NULL},
    {"DELETE", "/v1/admin/account-shares/*", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_share_delete, NULL},
    {"GET", "/v1/admin/routes", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_admin_routes, NULL},
    {"GET", "/v1/admin/routes/summary", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_admin_routes_summary, NULL},
    {"GET", "/v1/admin/routes/*", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_admin_route, NULL},
    {"GET", "/v1/admin/demand", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_admin_demand, NULL},
    {"GET", "/v1/admin/builds", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_admin_builds, NULL},
    {"PUT", "/v1/admin/users/role", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_admin_role, NULL},
    {"PUT", "/v1/admin/users/platform-fee", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_admin_platform_fee, NULL},
    {"POST", "/v1/admin/reward", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_admin_reward, NULL},
    {"GET", "/v1/admin/base-rewards", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_base_rewards, NULL},
    {"POST", "/v1/admin/stripe/reconcile", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_reconcile, NULL},
    {"POST", "/v1/admin/ledger/close", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_ledger_close, NULL},
    {"GET", "/v1/admin/ledger/export", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_ledger_export, NULL},
    {"GET", "/v1/admin/state-export", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_state_export, NULL},
    {"POST", "/v1/admin/state-export", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_state_exported, NULL},
    {"GET", "/v1/encryption-key", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_encryption_key, NULL},
    {"GET", "/v1/providers/attestation", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_attestation, NULL},
    {"GET", "/v1/me", AUTH_KEY, SCOPE_INFERENCE, WRAP_NONE, NO_BODY, handle_me, NULL},
    {"GET", "/v1/me/summary", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_NONE, NO_BODY, handle_me_summary, NULL},
    {"GET", "/v1/me/providers", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_NONE, NO_BODY, handle_me_providers, NULL},
    {"DELETE", "/v1/me/providers/*", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_MONEY, NO_BODY, handle_me_provider_delete, NULL},
    {"GET", "/v1/auth/config", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_auth_config, NULL},
    {"GET", "/v1/session", AUTH_SESSION, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_session_get, NULL},
    {"POST", "/v1/session/register", AUTH_NONE, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_session_register, NULL},
    {"POST", "/v1/session/login", AUTH_NONE, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_session_login, NULL},
    {"POST", "/v1/session/logout", AUTH_SESSION, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_session_logout, NULL},
    {"POST", "/v1/session/reauth", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_NONE, SMALL_BODY, handle_session_reauth, NULL},
    {"POST", "/v1/session/password/change", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_NONE, SMALL_BODY, handle_password_change, NULL},
    {"GET", "/v1/sessions", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_NONE, NO_BODY, handle_sessions_list, NULL},
    {"DELETE", "/v1/sessions/*", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_NONE, NO_BODY, handle_session_revoke, NULL},
    {"POST", "/v1/admin/invitations", AUTH_ADMIN, SCOPE_ACCOUNT, WRAP_NONE, NO_BODY, handle_invitation_create, NULL},
    {"POST", "/v1/device/code", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_device_code, NULL},
    {"POST", "/v1/device/token", AUTH_NONE, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_device_token, NULL},
    {"POST", "/v1/device/approve", AUTH_SESSION, SCOPE_ACCOUNT, WRAP_NONE, SMALL_BODY, handle_device_approve, NULL},
    {"POST", "/v1/device/revoke", AUTH_NONE, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_device_revoke, NULL},
    {"GET", "/login", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_login_page, NULL},
    {"POST", "/login", AUTH_NONE, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_login_form, NULL},
    {"GET", "/signup", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_signup_page, NULL},
    {"POST", "/signup", AUTH_NONE, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_signup_form, NULL},
    {"POST", "/logout", AUTH_NONE, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_logout_form, NULL},
    {"GET", "/auth/oidc/start", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_oidc_start, NULL},
    {"GET", "/auth/oidc/callback", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_oidc_callback, NULL},
    {"GET", "/link", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_link_page, NULL},
    {"POST", "/link", AUTH_NONE, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_link_form, NULL},
    {"GET", "/ws/provider", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_provider, NULL},
    {"GET", "/v1/stats", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_stats, NULL},
    {"GET", "/api/version", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_version, NULL},
    {"POST", "/v1/admin/drain", AUTH_ADMIN, SCOPE_NONE, WRAP_NONE, SMALL_BODY, handle_drain, NULL},
    {"GET", "/openapi.json", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_openapi, NULL},
    {"GET", "/health", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_health, NULL},
    {"GET", "/readyz", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_readyz, NULL},
    {"GET", "/metrics", AUTH_NONE, SCOPE_NONE, WRAP_NONE, NO_BODY, handle_metrics, NULL},
};
/* clang-format on */
#define ROUTE_COUNT (sizeof routes / sizeof *routes)

struct server {
	struct server_rooms rooms;
	struct http_server *http;
	struct http_server *socket; /* the operator's, beside the database; NULL when it cannot be made */
	struct tls_context *tls;
	struct exchange_meter meters[ROUTE_COUNT], unmatched;
	struct sealed *sealed;
	struct models *models, *builds;
	struct operate *operate;
	size_t inflight;
	bool draining, stopping;
	int64_t started_s;
};

const struct server_rooms *server_rooms(const struct server *server)
{
	return &server->rooms;
}

bool server_draining(const struct server *server)
{
	return server->draining;
}

const struct sealed *server_sealed(const struct server *server)
{
	return server->sealed;
}

struct models *server_models(const struct server *server)
{
	return server->models;
}

struct models *server_builds(const struct server *server)
{
	return server->builds;
}

struct operate *server_operate(const struct server *server)
{
	return server->operate;
}

size_t server_inflight(const struct server *server)
{
	return server->inflight;
}

int64_t server_started_s(const struct server *server)
{
	return server->started_s;
}

static void handle_infer(struct server *server, struct exchange *exchange)
{
	gateway_infer(server->rooms.gateway, exchange, exchange->dialect);
}

static void handle_blind_offer(struct server *server, struct exchange *exchange)
{
	gateway_blind_offer(server->rooms.gateway, exchange);
}

static void handle_blind_complete(struct server *server, struct exchange *exchange)
{
	gateway_blind_complete(server->rooms.gateway, exchange);
}

static void handle_provider(struct server *server, struct exchange *exchange)
{
	struct http_request *http = exchange->http;
	http_set_on_gone(http, NULL);
	fleet_accept(server->rooms.fleet, http);
}

/* --- before the handler --- */

/* What any page may read (http-api 1.3). A preflight is about the method that it asks for. */
static bool is_public_read(const struct http_request *http)
{
	static const char *const paths[] = {"/v1/models/catalog", "/v1/pricing", "/v1/stats"};
	struct str method = http_method(http), path = http_path(http);
	if (str_is(method, "OPTIONS")) {
		method = http_header_get(http, "access-control-request-method");
		method = method.len > 0 ? method : STR("GET");
	}
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		if (str_is(method, "GET") && str_is(path, paths[i]))
			return true;
	return false;
}

static void add_cors(const struct server *server, struct exchange *exchange)
{
	if (is_public_read(exchange->http)) {
		exchange_header(exchange, "Access-Control-Allow-Origin", STR("*"));
		exchange_header(exchange, "Access-Control-Allow-Methods", STR("GET, OPTIONS"));
		exchange_header(exchange, "Access-Control-Allow-Headers", STR("Content-Type"));
		exchange_header(exchange, "Vary", STR("Origin"));
		return;
	}
	exchange_header(exchange, "Access-Control-Allow-Origin", str_of(server->rooms.config->cors_origin));
	exchange_header(exchange, "Access-Control-Allow-Credentials", STR("true"));
	exchange_header(exchange, "Access-Control-Allow-Methods", STR("GET, POST, PUT, DELETE, OPTIONS"));
	exchange_header(exchange, "Access-Control-Allow-Headers", STR("Content-Type, Authorization"));
}

static void refuse(struct exchange *exchange, int status, const char *type, const char *message)
{
	struct api_error error;
	api_fail(&error, status, type, NULL, NULL, "%s", message);
	if (status == 429 || status == 503)
		error.retry_after_s = 3;
	exchange_error(exchange, &error);
}

void server_refuse_unknown(struct exchange *exchange)
{
	refuse(exchange, 404, "invalid_request_error", "There is no such route: check the method and the path.");
}

static void refuse_unknown(struct exchange *exchange, struct str path, bool path_known)
{
	if (str_starts(path, STR("/v1/")))
		server_refuse_unknown(exchange);
	else if (path_known)
		exchange_answer(exchange, 405, "text/plain; charset=utf-8", STR("405 method not allowed\n"));
	else
		exchange_answer(exchange, 404, "text/plain; charset=utf-8", STR("404 page not found\n"));
}

/* The listing of models belongs to two APIs: their own header tells clients of the second. */
static const struct dialect *dialect_of(const struct route *route, const struct http_request *http)
{
	if (route && route->dialect)
		return route->dialect;
	if (str_starts(http_path(http), STR("/v1/models")) && http_header_get(http, "anthropic-version").len > 0)
		return &dialect_anthropic;
	return &dialect_chat;
}

static int64_t on_head(struct http_request *http, void *context)
{
	struct server *server = context;
	const char *overload;
	bool path_known;
	const struct route *route = route_find(routes, ROUTE_COUNT, http_method(http), http_path(http), &path_known);
	struct exchange_meter *meter = route ? &server->meters[route - routes] : &server->unmatched;
	struct exchange *exchange = exchange_begin(http, server->rooms.loop, meter, dialect_of(route, http));
	if (!exchange)
		return -1;
	add_cors(server, exchange);
	if (route && (route->wrap & WRAP_DRAIN)) { /* before the gate is looked at: whoever passes it is seen (http-api 5.1) */
		exchange->inflight = &server->inflight;
		server->inflight++;
	}
	if (str_is(http_method(http), "OPTIONS"))
		exchange_answer(exchange, 204, NULL, STR_NONE);
	else if (!route)
		refuse_unknown(exchange, http_path(http), path_known);
	else if ((route->wrap & WRAP_DRAIN) && server->draining)
		refuse(exchange, 429, "rate_limit_exceeded", "This coordinator is shutting down: try again in a moment.");
	else if ((route->wrap & WRAP_DRAIN) &&
	         (overload = shed_reason(server->rooms.shed, gateway_inflight(server->rooms.gateway))))
		refuse(exchange, 503, "overloaded", overload);
	else if (route->auth != AUTH_NONE && !auth_is_given(server, exchange))
		auth_refuse_nobody(exchange);
	else
		return route->max_body;
	return -1;
}

static void on_body_too_large(struct http_request *http, void *context)
{
	(void)context;
	/* An envelope that is too large to be read is a bad envelope (http-api 3). */
	refuse(http_user(http), sealed_is_envelope(http) ? 400 : 413, "invalid_request_error", "The request body is too large.");
}

static void handle_opened(struct exchange *exchange, void *user)
{
	exchange->route->handle(user, exchange);
}

static void dispatch(struct server *server, struct exchange *exchange, const struct route *route)
{
	exchange->route = route;
	if (route->wrap & WRAP_SEALED) { /* of inference: whoever is refused from here on leaves a record */
		exchange->on_refused = gateway_refused;
		exchange->refused_user = server->rooms.gateway;
	}
	if ((route->wrap & WRAP_RATE) && !limit_pass_request(server->rooms.limits, exchange))
		return;
	if ((route->wrap & WRAP_MONEY) && !limit_pass_financial(server->rooms.limits, exchange))
		return;
	if ((route->wrap & WRAP_SEALED) && sealed_is_envelope(exchange->http))
		sealed_open(server->sealed, exchange, handle_opened, server);
	else
		route->handle(server, exchange);
}

static void on_request(struct http_request *http, void *context)
{
	struct server *server = context;
	bool path_known;
	const struct route *route = route_find(routes, ROUTE_COUNT, http_method(http), http_path(http), &path_known);
	auth_begin(server, http_user(http), route, server->rooms.accounts, dispatch);
}

/* --- start and stop --- */

static struct sealed *make_sealed(const struct server_rooms *rooms, struct error *error)
{
	const struct coordinator_config *config = rooms->config;
	struct sealed_options options = {.loop = rooms->loop,
	                                 .metrics = rooms->metrics,
	                                 .previous_until_s = config->sealed_previous_until_s,
	                                 .replay_window_s = (uint32_t)config->sealed_replay_window_s,
	                                 .require_time = config->sealed_require_time};
	sealed_options_from_environment(&options);
	return sealed_new(&options, error);
}

static void record_gauges(struct metrics *metrics, struct record_log *log)
{
	struct record_log_counts counts;
	record_log_counts(log, &counts);
	metric_set(metrics_gauge(metrics, "darkbloom_route_records_written", NULL, "Decision records written to disk."),
	           (double)counts.written);
	metric_set(metrics_gauge(metrics, "darkbloom_route_records_dropped", NULL,
	                         "Decision records that could not be written, or came too fast for it."),
	           (double)counts.dropped);
}

static void refresh_gauges(void *arg)
{
	struct server *server = arg;
	const struct server_rooms *rooms = &server->rooms;
	struct store_stats stats;
	struct metrics *m = rooms->metrics;
	store_stats(rooms->store, &stats);
	if (rooms->record_log)
		record_gauges(m, rooms->record_log);
	metric_set(metrics_gauge(m, "darkbloom_providers", NULL, "Connected providers."), (double)fleet_count(rooms->fleet));
	metric_set(metrics_gauge(m, "darkbloom_inflight_requests", NULL, "Requests that a consumer waits for."),
	           (double)gateway_inflight(rooms->gateway));
	metric_set(metrics_gauge(m, "darkbloom_connections", NULL, "Open connections."),
	           (double)http_server_connections(server->http));
	metric_set(metrics_gauge(m, "darkbloom_open_holds", NULL, "Holds that are not settled yet."),
	           (double)ledger_open_holds(rooms->ledger));
	metric_set(metrics_gauge(m, "darkbloom_store_queued", NULL, "Writes that are not durable yet."), (double)stats.queued);
	metric_set(metrics_gauge(m, "darkbloom_store_commits", NULL, "Groups of writes made durable."), (double)stats.commits);
}

/* Whoever may write the database may tell the coordinator what the operator's key may: by a socket with the same owner. */
static void open_socket(struct server *server, const struct http_server_options *options)
{
	struct http_server_options local = *options;
	struct error error;
	char path[4096];
	if (!server_socket_path(server->rooms.config, path, sizeof path))
		return;
	local.tls = NULL;
	local.unix_path = path;
	local.max_connections = 16;
	server->socket = http_server_new(server->rooms.loop, &local, &error);
	if (!server->socket)
		log_warn("server.no_operator_socket", "why=\"%s\"", error.text);
}

bool server_socket_path(const struct coordinator_config *config, char *out, size_t size)
{
	int len = snprintf(out, size, "%s.sock", config->database);
	return len > 0 && (size_t)len < size;
}

struct server *server_new(const struct server_rooms *rooms, struct error *error)
{
	struct server *server = calloc(1, sizeof *server);
	if (!server) {
		error_set(error, DB_E_NOMEM, "There is not enough memory for the server.");
		return NULL;
	}
	server->rooms = *rooms;
	server->started_s = clock_wall_us() / 1000000;
	server->draining = state_starts_draining(rooms->config);
	for (size_t i = 0; i < ROUTE_COUNT; i++)
		exchange_meter_init(&server->meters[i], rooms->metrics, routes[i].method, routes[i].path);
	exchange_meter_init(&server->unmatched, rooms->metrics, "any", "unmatched");
	server->models = model_routes_new(server);
	server->builds = model_routes_new_builds(server);
	server->operate = operate_new(server);
	if (!server->models || !server->builds || !server->operate) {
		error_set(error, DB_E_NOMEM, "There is not enough memory for the server.");
		goto failed;
	}
	server->sealed = make_sealed(rooms, error);
	if (!server->sealed)
		goto failed;
	if (rooms->config->tls_cert[0] != '\0') {
		server->tls = tls_server_new(rooms->config->tls_cert, rooms->config->tls_key, error);
		if (!server->tls)
			goto failed;
	}
	struct http_server_options options = {
	    .host = rooms->config->host,
	    .port = (uint16_t)rooms->config->port,
	    .tls = server->tls,
	    .max_connections = (uint32_t)rooms->config->max_connections,
	    .context = server,
	    .on_head = on_head,
	    .on_request = on_request,
	    .on_body_too_large = on_body_too_large,
	};
	server->http = http_server_new(rooms->loop, &options, error);
	if (!server->http)
		goto failed;
	open_socket(server, &options);
	metrics_on_write(rooms->metrics, refresh_gauges, server);
	return server;
failed:
	server_free(server);
	return NULL;
}

uint16_t server_port(const struct server *server)
{
	return http_server_port(server->http);
}

bool server_is_tls(const struct server *server)
{
	return server->tls != NULL;
}

bool server_is_secure(const struct server *server)
{
	return server->tls || str_starts(str_of(server->rooms.config->public_url), STR("https://"));
}

void server_drain(struct server *server)
{
	server->stopping = server->draining = true;
	fleet_drain(server->rooms.fleet);
}

void server_set_gate(struct server *server, bool shut)
{
	server->draining = shut || server->stopping;
	if (!shut)
		state_gate_opened(server->rooms.config);
}

void server_free(struct server *server)
{
	if (!server)
		return;
	if (server->http)
		http_server_free(server->http);
	if (server->socket) {
		char path[4096];
		http_server_free(server->socket);
		if (server_socket_path(server->rooms.config, path, sizeof path))
			unlink(path);
	}
	tls_free(server->tls);
	sealed_free(server->sealed);
	models_free(server->models);
	models_free(server->builds);
	operate_free(server->operate);
	free(server);
}
