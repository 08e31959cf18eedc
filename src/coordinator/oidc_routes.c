/* The two visits of a browser that logs in at another issuer: out to it, and back with a code. Between them the secrets of this
 * one login are in a cookie that only this browser has, for ten minutes. */
#include "coordinator/accounts/oidc.h"
#include "coordinator/browser.h"
#include "coordinator/login_task.h"
#include "coordinator/page.h"
#include "coordinator/portal_routes.h"
#include "coordinator/server.h"
#include "core/id.h"
#include "core/log.h"
#include "crypto/secret.h"
#include "net/cookie.h"
#include "net/form.h"

#define CALLBACK     "/auth/oidc/callback"
#define LIFE_S       600
#define PENDING_SIZE 1024

static const char *pending_name(const struct server *server)
{
	return server_is_secure(server) ? "__Host-oidc" : "oidc";
}

/* value empty: the cookie is deleted. */
static void set_pending(const struct server *server, struct exchange *exchange, struct str value)
{
	struct buf cookie;
	buf_init(&cookie, 2 * PENDING_SIZE);
	struct cookie_options options = {.name = pending_name(server),
	                                 .path = "/",
	                                 .value = value,
	                                 .max_age_s = value.len ? LIFE_S : 0,
	                                 .secure = server_is_secure(server)};
	cookie_write(&cookie, &options);
	exchange_header(exchange, "Set-Cookie", buf_str(&cookie));
	buf_free(&cookie);
}

static void show_problem(struct exchange *exchange, int status, const char *text)
{
	struct buf out;
	page_begin(&out, "The login did not work");
	page_paragraph(&out, "error", str_of(text));
	buf_append_c(&out, "<p><a href=\"/login\">Try again</a></p>");
	page_answer(exchange, status, &out);
}

static bool redirect_uri(const struct server *server, const struct exchange *exchange, struct buf *out)
{
	return browser_base_url(server, exchange->http, out) && buf_append_c(out, CALLBACK) == DB_OK;
}

static struct str query(struct exchange *exchange, const char *name)
{
	struct str value;
	return form_get(http_query(exchange->http), name, http_arena(exchange->http), &value) == DB_OK ? value : STR_NONE;
}

/* --- out --- */

struct out_task {
	struct task task;
	struct oidc_state state;
	bool links;
	char next[512];
};

static void on_url(const char *url, const struct error *error, void *user)
{
	struct out_task *task = user;
	struct exchange *exchange = task_end(task);
	struct buf pending;
	buf_init(&pending, PENDING_SIZE);
	if (exchange && error) {
		show_problem(exchange, 502, "The identity provider cannot be reached at the moment.");
	} else if (exchange) {
		buf_printf(&pending, "%s.%s.%s.%d.", task->state.state, task->state.nonce, task->state.verifier, task->links);
		form_encode(&pending, str_of(task->next));
		set_pending(task->task.server, exchange, buf_str(&pending));
		page_redirect(exchange, str_of(url));
	}
	buf_free(&pending);
	task_free(task);
}

void handle_oidc_start(struct server *server, struct exchange *exchange)
{
	struct oidc *oidc = server_rooms(server)->portal->oidc;
	struct buf uri;
	buf_init(&uri, 512);
	struct out_task *task = NULL;
	if (!oidc)
		show_problem(exchange, 404, "No identity provider is set up here.");
	else if (!redirect_uri(server, exchange, &uri))
		show_problem(exchange, 400, "The Host header is no host name.");
	else
		task = task_new(server, exchange, sizeof *task);
	if (task) {
		/* Another site can send a visitor here, but must not have a second identity tied to the visitor's account. */
		struct str site = http_header_get(exchange->http, "sec-fetch-site");
		task->links = str_is(query(exchange, "link"), "1") && str_is(site, "same-origin");
		str_copy(browser_next(query(exchange, "next")), task->next, sizeof task->next);
		oidc_state_new(&task->state);
		oidc_begin(oidc, &task->state, buf_str(&uri), on_url, task);
	}
	buf_free(&uri);
}

/* --- back --- */

struct back_task {
	struct login_task login;
	struct store *store;
	struct oidc_state state;
	bool links;
	char code[2048], redirect_uri[512], account_id[STORE_ID_SIZE];
};

static void on_session_started(struct login_task *task, struct exchange *exchange, const char *token)
{
	if (!token) {
		show_problem(exchange, 503, task->result.text);
		return;
	}
	browser_set_session(task->task.server, exchange, token);
	page_redirect(exchange, str_of(task->next));
}

static void end(struct back_task *task, int status, const char *problem)
{
	struct exchange *exchange = task_end(task);
	if (exchange)
		show_problem(exchange, status, problem);
	task_free(task);
}

static void on_known(const struct store_person *person, const struct error *error, void *user)
{
	struct back_task *task = user;
	if (!task->login.task.exchange)
		end(task, 0, NULL);
	else if (!person && error && (error->code == DB_E_EXISTS || error->code == DB_E_DENIED))
		end(task, 403, error->text);
	else if (!person)
		end(task, 503, "The account cannot be read at the moment.");
	else {
		task->login.person = *person;
		login_task_start_session(&task->login);
	}
}

static void on_person(const struct oidc_person *person, const struct error *error, void *user)
{
	struct back_task *task = user;
	if (!person || !task->login.task.exchange) {
		end(task, !error || error->code == DB_E_DENIED ? 403 : 502, error ? error->text : NULL);
		return;
	}
	struct store_identity identity = {.link = task->account_id[0] != '\0',
	                                  .may_create = task->login.portal->config->oidc_signup};
	if (!str_copy(person->issuer, identity.issuer, sizeof identity.issuer) ||
	    !str_copy(person->subject, identity.subject, sizeof identity.subject)) {
		end(task, 403, "The identity provider's name for you is too long.");
		return;
	}
	str_copy(person->email, identity.email, sizeof identity.email);
	str_copy(str_sub(person->name, 0, sizeof identity.name - 1), identity.name, sizeof identity.name);
	if (identity.link)
		memcpy(identity.account_id, task->account_id, sizeof identity.account_id);
	else
		id_uuid4(identity.account_id);
	store_identity_login(task->store, &identity, on_known, task);
}

static void finish(struct back_task *task)
{
	struct str uri = str_of(task->redirect_uri);
	oidc_finish(task->login.portal->oidc, &task->state, str_of(task->code), uri, on_person, task);
}

static void on_session(const struct store_session *session, const struct store_person *person, const struct error *error,
                       void *user)
{
	struct back_task *task = user;
	(void)session;
	if (!task->login.task.exchange || error || !person) {
		end(task, error ? 503 : 401, "You must be logged in to add an identity to your account.");
		return;
	}
	memcpy(task->account_id, person->account_id, sizeof task->account_id);
	finish(task);
}

/* The pieces of the cookie; false when it is not one that was set here. */
static bool read_pending(struct exchange *exchange, struct str cookie, struct back_task *task)
{
	struct str piece[4], rest = cookie, next;
	for (size_t i = 0; i < 4; i++)
		rest = str_cut(rest, '.', &piece[i]);
	if (!rest.at || form_decode(rest, http_arena(exchange->http), &next) ||
	    !str_copy(piece[0], task->state.state, sizeof task->state.state) ||
	    !str_copy(piece[1], task->state.nonce, sizeof task->state.nonce) ||
	    !str_copy(piece[2], task->state.verifier, sizeof task->state.verifier))
		return false;
	task->links = str_is(piece[3], "1");
	str_copy(browser_next(next), task->login.next, sizeof task->login.next);
	return strlen(task->state.state) == OIDC_SECRET_SIZE - 1 && strlen(task->state.nonce) == OIDC_SECRET_SIZE - 1;
}

/* What is wrong with the visit; NULL when it belongs to a login that this browser began. */
static const char *objection(struct server *server, struct exchange *exchange, struct back_task *task)
{
	const struct coordinator_config *config = server_rooms(server)->config;
	struct str issuer = query(exchange, "iss"), uri;
	struct buf text;
	if (!read_pending(exchange, http_cookie(exchange->http, pending_name(server)), task) ||
	    !secret_equal_str(query(exchange, "state"), str_of(task->state.state)))
		return "This login was begun elsewhere, or too long ago.";
	if (issuer.len && !str_is(issuer, config->oidc_issuer)) /* RFC 9207 */
		return "Another identity provider answered than was asked.";
	if (query(exchange, "error").len || !str_copy(query(exchange, "code"), task->code, sizeof task->code) || !task->code[0])
		return "The identity provider did not let you in.";
	buf_init(&text, 512);
	bool has_uri = redirect_uri(server, exchange, &text);
	uri = buf_str(&text);
	has_uri = has_uri && str_copy(uri, task->redirect_uri, sizeof task->redirect_uri);
	buf_free(&text);
	return has_uri ? NULL : "The Host header is no host name.";
}

void handle_oidc_callback(struct server *server, struct exchange *exchange)
{
	struct portal *portal = server_rooms(server)->portal;
	if (!portal->oidc) {
		show_problem(exchange, 404, "No identity provider is set up here.");
		return;
	}
	struct back_task *task = task_new(server, exchange, sizeof *task);
	if (!task)
		return;
	login_task_fill(&task->login, server, exchange, "oidc", on_session_started);
	task->store = server_rooms(server)->store;
	set_pending(server, exchange, STR_NONE); /* whatever comes of it, it was used */
	const char *problem = objection(server, exchange, task);
	if (problem)
		end(task, 400, problem);
	else if (task->links)
		session_find(portal->sessions, str_of(task->login.replaces), on_session, task);
	else
		finish(task);
}
