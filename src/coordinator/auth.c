#include "coordinator/auth.h"

#include "coordinator/browser.h"
#include "coordinator/server.h"
#include "core/arena.h"

#define PATIENCE_MS 8000 /* with a database that does not answer */

struct login {
	struct accounts_wait wait;
	struct net_timer late;
	struct server *server;
	struct exchange *exchange;
	const struct route *route;
	void (*then)(struct server *server, struct exchange *exchange, const struct route *route);
};

/* --- what the request brings --- */

struct str auth_bearer(struct str header)
{
	struct str scheme, token = str_cut(str_trim(header), ' ', &scheme);
	return str_eq_nocase(scheme, STR("bearer")) ? str_trim(token) : STR_NONE;
}

static bool is_safe(struct str method)
{
	return str_is(method, "GET") || str_is(method, "HEAD") || str_is(method, "OPTIONS");
}

struct credential auth_credential(const struct server *server, const struct exchange *exchange)
{
	const struct http_request *http = exchange->http;
	const char *key_header = exchange->dialect->key_header;
	struct credential credential = {.token = auth_bearer(http_header_get(http, "authorization")),
	                                .changes_things = !is_safe(http_method(http))};
	credential.is_operator = str_is(http_peer(http), "local"); /* only who may open the socket beside the database */
	if (credential.token.len == 0 && key_header)
		credential.token = str_trim(http_header_get(http, key_header));
	if (credential.token.len > 0)
		return credential;
	credential.token = browser_session(server, http);
	credential.from_cookie = credential.token.len > 0;
	credential.csrf = str_trim(http_header_get(http, "x-csrf-token"));
	credential.is_cross_site = browser_is_cross_site(server, http);
	return credential;
}

bool auth_is_given(const struct server *server, const struct exchange *exchange)
{
	struct credential credential = auth_credential(server, exchange);
	return credential.token.len > 0 || credential.is_operator;
}

/* --- refusals --- */

static void refuse(struct exchange *exchange, int status, const char *type, const char *message)
{
	struct api_error error;
	api_fail(&error, status, type, NULL, NULL, "%s", message);
	if (status == 503)
		error.retry_after_s = 3;
	exchange_error(exchange, &error);
}

void auth_refuse_nobody(struct exchange *exchange)
{
	refuse(exchange, 401, "authentication_error", "An API key is needed: send it as \"Authorization: Bearer sk-db-...\".");
}

/* Why the caller may not use the route; NULL when it may. */
static const char *objection(const struct caller *caller, const struct route *route)
{
	if (route->auth == AUTH_ADMIN && !caller->is_admin)
		return "This is for the operator: send the admin key.";
	if (route->auth == AUTH_SESSION && caller->kind != CALLER_SESSION)
		return "This is for people who are logged in: an API key cannot do it.";
	if ((caller->scopes & route->scope) != route->scope)
		return "The API key has not the scope for this: log in, or use a key that was given the scope.";
	return NULL;
}

/* --- the question and its answer --- */

static void on_login_gone(struct exchange *exchange)
{
	struct login *login = exchange->owner;
	net_timer_stop(&login->late);
	accounts_cancel(&login->wait);
}

/* The list of a key's models is the cache's: the request gets its own. */
static bool keep_models(struct exchange *exchange)
{
	const char *models = exchange->caller.allowed_models;
	if (models)
		exchange->caller.allowed_models = arena_printf(http_arena(exchange->http), "%s", models);
	return !models || exchange->caller.allowed_models;
}

static void logged_in(struct login *login, enum db_err result)
{
	struct exchange *exchange = login->exchange;
	const char *why_not = result == DB_OK ? objection(&login->wait.caller, login->route) : NULL;
	net_timer_stop(&login->late);
	exchange->owner = NULL;
	exchange->on_gone = NULL;
	if (result == DB_E_DENIED) {
		refuse(exchange, 401, "authentication_error", "The API key or session is unknown, disabled or expired.");
	} else if (result == DB_E_INVALID) {
		refuse(exchange, 403, "forbidden", "The request does not prove that it comes from this site: send X-CSRF-Token.");
	} else if (result != DB_OK) {
		refuse(exchange, 503, "service_unavailable", "The API key cannot be checked at the moment: try again.");
	} else if (why_not) {
		refuse(exchange, 403, "forbidden", why_not);
	} else {
		exchange->caller = login->wait.caller;
		if (!keep_models(exchange)) {
			refuse(exchange, 503, "service_unavailable", "The request needs more memory than there is.");
			return;
		}
		login->then(login->server, exchange, login->route);
	}
}

static void on_resolved(struct accounts_wait *wait, enum db_err result)
{
	logged_in(LIST_OF(wait, struct login, wait), result);
}

/* Whoever asks is told; what was asked of the database is kept when it comes. */
static void on_late(struct net_timer *timer)
{
	struct login *login = LIST_OF(timer, struct login, late);
	accounts_cancel(&login->wait);
	logged_in(login, DB_E_IO);
}

void auth_begin(struct server *server, struct exchange *exchange, const struct route *route, struct accounts *accounts,
                void (*then)(struct server *server, struct exchange *exchange, const struct route *route))
{
	if (route->auth == AUTH_NONE) {
		then(server, exchange, route);
		return;
	}
	struct login *login = arena_alloc(http_arena(exchange->http), sizeof *login);
	if (!login) {
		refuse(exchange, 503, "service_unavailable", "The request needs more memory than there is.");
		return;
	}
	*login = (struct login){.wait.done = on_resolved, .server = server, .exchange = exchange, .route = route, .then = then};
	exchange->owner = login;
	exchange->on_gone = on_login_gone;
	enum db_err result = accounts_resolve(accounts, auth_credential(server, exchange), &login->wait);
	if (result == DB_E_AGAIN)
		net_timer_start(server_rooms(server)->loop, &login->late, PATIENCE_MS, 0, on_late);
	else
		logged_in(login, result);
}
