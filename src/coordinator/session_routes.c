/* Logging in, out, and what a session sees of itself, for programs that speak JSON (console 2.2). */
#include "coordinator/browser.h"
#include "coordinator/portal.h"
#include "coordinator/portal_routes.h"
#include "coordinator/route.h"
#include "coordinator/server.h"
#include "coordinator/task.h"

#include "coordinator/login_task.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

static struct portal *portal_of(const struct server *server)
{
	return server_rooms(server)->portal;
}

void handle_auth_config(struct server *server, struct exchange *exchange)
{
	static const char *const modes[] = {"closed", "invite", "open"};
	struct portal *portal = portal_of(server);
	struct buf body;
	struct json_writer w;
	buf_init(&body, 4096);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "signup", modes[login_signup_mode(portal->login)]);
	json_put_bool(&w, "setup", login_has_setup_code(portal->login));
	json_key(&w, "methods");
	json_begin_array(&w);
	json_cstr(&w, "password");
	json_end_array(&w);
	json_key(&w, "oidc");
	json_begin_array(&w);
	if (portal->oidc) {
		json_begin_object(&w);
		json_put_cstr(&w, "id", "oidc");
		json_put_cstr(&w, "name", portal->config->oidc_name);
		json_put_cstr(&w, "start", "/auth/oidc/start");
		json_end_object(&w);
	}
	json_end_array(&w);
	json_put_bool(&w, "smtp", false);
	json_end_object(&w);
	task_answer_private(exchange, 200, &body);
}

/* --- signing up, logging in --- */

static void put_person(struct json_writer *w, const struct server *server, const struct store_person *person)
{
	json_put_cstr(w, "account_id", person->account_id);
	json_put_cstr(w, "name", person->name);
	json_put_cstr(w, "email", person->email);
	json_put_bool(w, "email_verified", person->email_verified);
	json_put_bool(w, "is_admin", sessions_is_operator(portal_of(server)->sessions, person));
}

static void put_csrf(struct json_writer *w, struct str token)
{
	char csrf[SESSION_CSRF_SIZE];
	session_csrf(token, csrf);
	json_put_cstr(w, "csrf_token", csrf);
	secret_wipe(csrf, sizeof csrf);
}

static void on_logged_in(struct login_task *task, struct exchange *exchange, const char *token)
{
	struct buf body;
	struct json_writer w;
	if (!token) {
		login_task_refuse(task, exchange);
		return;
	}
	browser_set_session(task->task.server, exchange, token);
	buf_init(&body, 4096);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	put_person(&w, task->task.server, &task->person);
	put_csrf(&w, str_of(token));
	json_end_object(&w);
	task_answer_private(exchange, 200, &body);
}

static struct str text_of(const json_val *body, const char *name)
{
	struct str text = STR_NONE;
	(void)json_as_str(json_get(body, name), &text);
	return text;
}

/* A page of another site could otherwise log its visitor in as somebody else. */
static bool is_foreign(struct server *server, struct exchange *exchange)
{
	if (!browser_is_cross_site(server, exchange->http))
		return false;
	task_refuse(exchange, 403, "forbidden", "The request comes from a page of another site.", 0);
	return true;
}

static void begin(struct server *server, struct exchange *exchange, bool sign_up)
{
	const json_val *body = is_foreign(server, exchange) ? NULL : task_body(exchange);
	if (!body)
		return;
	struct login_attempt attempt = {.email = text_of(body, "email"),
	                                .password = text_of(body, "password"),
	                                .name = text_of(body, "name"),
	                                .invitation = text_of(body, "code")};
	if (attempt.email.len && attempt.password.len && sign_up)
		login_task_sign_up(server, exchange, &attempt, STR_NONE, text_of(body, "referral_code"), on_logged_in);
	else if (attempt.email.len && attempt.password.len)
		login_task_begin(server, exchange, &attempt, STR_NONE, on_logged_in);
	else
		task_refuse(exchange, 400, "invalid_request_error", "email and password are needed.", 0);
}

void handle_session_register(struct server *server, struct exchange *exchange)
{
	begin(server, exchange, true);
}

void handle_session_login(struct server *server, struct exchange *exchange)
{
	begin(server, exchange, false);
}

static void answer_logout(struct exchange *exchange)
{
	task_answer_status(exchange, "logged_out");
}

void handle_session_logout(struct server *server, struct exchange *exchange)
{
	login_end_session(server, exchange, answer_logout);
}

/* --- the session --- */

struct view {
	struct task task;
	char token[SESSION_TOKEN_SIZE];
};

static void put_session(struct json_writer *w, const struct store_session *session)
{
	const struct {
		const char *name;
		int64_t at_us;
	} times[] = {{"created_at", session->created_us},
	             {"last_seen_at", session->seen_us},
	             {"reauth_at", session->auth_us},
	             {"expires_at", session->expires_us}};
	json_put_cstr(w, "id", session->id);
	json_put_cstr(w, "method", session->method);
	json_put_cstr(w, "user_agent", session->agent);
	json_put_cstr(w, "address", session->address);
	for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
		char when[CLOCK_RFC3339_SIZE];
		clock_format_rfc3339(times[i].at_us, when);
		json_put_cstr(w, times[i].name, when);
	}
}

static void on_session(const struct store_session *session, const struct store_person *person, const struct error *error,
                       void *user)
{
	struct view *view = user;
	struct exchange *exchange = task_end(view);
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		task_refuse(exchange, 503, "service_unavailable", "The session cannot be read at the moment: try again.", 2);
	} else if (exchange && !session) {
		task_refuse(exchange, 401, "authentication_error", "Nobody is logged in.", 0);
	} else if (exchange) {
		buf_init(&body, 4096);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		put_person(&w, view->task.server, person);
		json_put_cstr(&w, "role", "");
		json_key(&w, "auth_methods");
		json_begin_array(&w);
		if (person->has_password)
			json_cstr(&w, "password");
		if (person->has_identity)
			json_cstr(&w, "oidc");
		json_end_array(&w);
		put_session(&w, session);
		put_csrf(&w, str_of(view->token));
		json_end_object(&w);
		task_answer_private(exchange, 200, &body);
	}
	task_free(view);
}

void handle_session_get(struct server *server, struct exchange *exchange)
{
	struct view *view = task_new(server, exchange, sizeof *view);
	if (!view)
		return;
	str_copy(browser_session(server, exchange->http), view->token, sizeof view->token);
	session_find(portal_of(server)->sessions, str_of(view->token), on_session, view);
}

static void on_list(const struct store_session *sessions, size_t count, const struct error *error, void *user)
{
	struct view *view = user;
	struct exchange *exchange = task_end(view);
	struct buf body;
	struct json_writer w;
	char current[65];
	session_hash(str_of(view->token), current);
	if (exchange && error) {
		task_refuse(exchange, 503, "service_unavailable", "The sessions cannot be read at the moment: try again.", 2);
	} else if (exchange) {
		buf_init(&body, 1u << 20);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "object", "list");
		json_key(&w, "data");
		json_begin_array(&w);
		for (size_t i = 0; i < count; i++) {
			json_begin_object(&w);
			put_session(&w, &sessions[i]);
			json_put_bool(&w, "current", strcmp(current, sessions[i].hash_hex) == 0);
			json_end_object(&w);
		}
		json_end_array(&w);
		json_end_object(&w);
		task_answer_private(exchange, 200, &body);
	}
	task_free(view);
}

void handle_sessions_list(struct server *server, struct exchange *exchange)
{
	struct view *view = task_new(server, exchange, sizeof *view);
	if (!view)
		return;
	str_copy(browser_session(server, exchange->http), view->token, sizeof view->token);
	store_sessions_list(server_rooms(server)->store, str_of(ledger_account_id(exchange->caller.account)), clock_wall_us(),
	                    on_list, view);
}

static void on_revoked(const struct error *error, void *user)
{
	struct task *task = user;
	struct exchange *exchange = task_end(task);
	if (exchange && error && error->code == DB_E_NOT_FOUND)
		task_refuse(exchange, 404, "not_found", "You have no such session.", 0);
	else if (exchange && error)
		task_refuse(exchange, 503, "service_unavailable", "The session cannot be ended at the moment: try again.", 2);
	else if (exchange)
		task_answer_status(exchange, "revoked");
	task_free(task);
}

void handle_session_revoke(struct server *server, struct exchange *exchange)
{
	struct str id = route_part(exchange->route, http_path(exchange->http), 0);
	struct task *task = id.len ? task_new(server, exchange, sizeof *task) : NULL;
	if (task)
		store_session_revoke(server_rooms(server)->store, str_of(ledger_account_id(exchange->caller.account)), id, on_revoked,
		                     task);
	else if (!id.len)
		task_refuse(exchange, 404, "not_found", "You have no such session.", 0);
}

/* --- the password --- */

struct checking {
	struct task task;
	bool is_change;
	char token[SESSION_TOKEN_SIZE];
};

static void on_checked(const struct login_result *result, void *user)
{
	struct checking *checking = user;
	struct exchange *exchange = task_end(checking);
	if (exchange && result->code == DB_OK)
		session_confirm(portal_of(checking->task.server)->sessions, str_of(checking->token));
	if (exchange && result->code != DB_OK)
		login_refuse(exchange, result);
	else if (exchange)
		task_answer_status(exchange, checking->is_change ? "changed" : "confirmed");
	task_free(checking);
}

static struct checking *new_checking(struct server *server, struct exchange *exchange, bool is_change)
{
	struct checking *checking = task_new(server, exchange, sizeof *checking);
	if (!checking)
		return NULL;
	checking->is_change = is_change;
	str_copy(browser_session(server, exchange->http), checking->token, sizeof checking->token);
	return checking;
}

void handle_session_reauth(struct server *server, struct exchange *exchange)
{
	const json_val *body = task_body(exchange);
	struct checking *checking = body ? new_checking(server, exchange, false) : NULL;
	if (checking)
		login_check_again(portal_of(server)->login, str_of(ledger_account_id(exchange->caller.account)),
		                  text_of(body, "password"), on_checked, checking);
}

void handle_password_change(struct server *server, struct exchange *exchange)
{
	char keep[65];
	const json_val *body = task_body(exchange);
	struct checking *checking = body ? new_checking(server, exchange, true) : NULL;
	if (!checking)
		return;
	session_hash(str_of(checking->token), keep);
	login_change(portal_of(server)->login, str_of(ledger_account_id(exchange->caller.account)), text_of(body, "current"),
	             text_of(body, "new"), str_of(keep), on_checked, checking);
}

/* --- invitations --- */

#define INVITATION_RANDOM 16
#define INVITATION_LIFE_S INT64_C(604800)

struct inviting {
	struct task task;
	char code[2 * INVITATION_RANDOM + 1];
	int64_t expires_us;
};

static void on_invited(const struct error *error, void *user)
{
	struct inviting *inviting = user;
	struct exchange *exchange = task_end(inviting);
	char when[CLOCK_RFC3339_SIZE];
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		task_refuse(exchange, 503, "service_unavailable", "The invitation cannot be made at the moment: try again.", 2);
	} else if (exchange) {
		clock_format_rfc3339(inviting->expires_us, when);
		buf_init(&body, 1024);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "code", inviting->code);
		json_put_cstr(&w, "expires_at", when);
		json_end_object(&w);
		task_answer_private(exchange, 200, &body);
	}
	task_free(inviting);
}

void handle_invitation_create(struct server *server, struct exchange *exchange)
{
	char hash[SHA256_HEX_SIZE];
	struct inviting *inviting = task_new(server, exchange, sizeof *inviting);
	if (!inviting)
		return;
	id_hex(inviting->code, INVITATION_RANDOM);
	sha256_hex(inviting->code, 2 * INVITATION_RANDOM, hash);
	inviting->expires_us = clock_wall_us() + INVITATION_LIFE_S * 1000000;
	store_invitation_create(server_rooms(server)->store, str_of(hash), str_of(ledger_account_id(exchange->caller.account)),
	                        inviting->expires_us, on_invited, inviting);
}
