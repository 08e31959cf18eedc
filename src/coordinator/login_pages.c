/* Pages to log in, sign up and log out. */
#include "coordinator/browser.h"
#include "coordinator/login_task.h"
#include "coordinator/page.h"
#include "coordinator/portal.h"
#include "coordinator/portal_routes.h"
#include "coordinator/server.h"
#include "crypto/secret.h"
#include "net/form.h"

static struct str field(struct exchange *exchange, struct str form, const char *name)
{
	struct str value;
	return form_get(form, name, http_arena(exchange->http), &value) == DB_OK ? value : STR_NONE;
}

/* --- the pages --- */

static void show_login(struct server *server, struct exchange *exchange, int status, struct str problem, struct str next)
{
	struct buf out;
	struct portal *portal = server_rooms(server)->portal;
	page_begin(&out, "Log in");
	if (problem.len)
		page_paragraph(&out, "error", problem);
	buf_append_c(&out, "<form method=\"post\" action=\"/login\">");
	page_hidden(&out, "next", browser_next(next));
	page_input(&out, "E-mail address", "email", "email", STR_NONE, "required autofocus autocomplete=\"username\"");
	page_input(&out, "Password", "password", "password", STR_NONE, "required autocomplete=\"current-password\"");
	buf_append_c(&out, "<button>Log in</button></form>");
	if (portal->oidc) {
		buf_append_c(&out, "<p><a href=\"/auth/oidc/start?next=");
		form_encode(&out, browser_next(next));
		buf_append_c(&out, "\">Log in with ");
		page_text(&out, str_of(portal->config->oidc_name));
		buf_append_c(&out, "</a></p>");
	}
	if (login_signup_mode(portal->login) != LOGIN_SIGNUP_CLOSED || login_has_setup_code(portal->login)) {
		buf_append_c(&out, "<p>No account yet? <a href=\"/signup?next=");
		form_encode(&out, browser_next(next));
		buf_append_c(&out, "\">Sign up</a></p>");
	}
	page_answer(exchange, status, &out);
}

static void show_signup(struct server *server, struct exchange *exchange, int status, struct str problem, struct str next,
                        struct str referral)
{
	struct buf out;
	const struct login *login = server_rooms(server)->portal->login;
	bool asks_for_code = login_signup_mode(login) != LOGIN_SIGNUP_OPEN || login_has_setup_code(login);
	page_begin(&out, "Sign up");
	if (problem.len)
		page_paragraph(&out, "error", problem);
	buf_append_c(&out, "<form method=\"post\" action=\"/signup\">");
	page_hidden(&out, "next", browser_next(next));
	if (referral.len)
		page_hidden(&out, "ref", referral);
	page_input(&out, "E-mail address", "email", "email", STR_NONE, "required autofocus autocomplete=\"username\"");
	page_input(&out, "Password, at least 10 characters", "password", "password", STR_NONE,
	           "required minlength=\"10\" autocomplete=\"new-password\"");
	if (asks_for_code)
		page_input(&out, "Invitation or setup code", "text", "code", STR_NONE, "autocomplete=\"off\" spellcheck=\"false\"");
	buf_append_c(&out, "<button>Sign up</button></form>");
	page_answer(exchange, status, &out);
}

static void show_account(struct exchange *exchange, const struct store_person *person, struct str token)
{
	struct buf out;
	char csrf[SESSION_CSRF_SIZE];
	page_begin(&out, "You are logged in");
	page_paragraph(&out, "who", str_of(person->email[0] ? person->email : person->account_id));
	buf_append_c(&out, "<p><a href=\"/link\">Connect a program or a machine</a></p><form method=\"post\" action=\"/logout\">");
	session_csrf(token, csrf);
	page_hidden(&out, "csrf", str_of(csrf));
	buf_append_c(&out, "<button class=\"quiet\">Log out</button></form>");
	page_answer(exchange, 200, &out);
	secret_wipe(csrf, sizeof csrf);
}

/* --- showing --- */

struct page_task {
	struct task task;
	char token[SESSION_TOKEN_SIZE], next[512];
};

static void on_session(const struct store_session *session, const struct store_person *person, const struct error *error,
                       void *user)
{
	struct page_task *task = user;
	struct exchange *exchange = task_end(task);
	(void)error; /* whoever cannot be looked up can try to log in */
	if (exchange && session)
		show_account(exchange, person, str_of(task->token));
	else if (exchange)
		show_login(task->task.server, exchange, 200, STR_NONE, str_of(task->next));
	task_free(task);
}

void handle_login_page(struct server *server, struct exchange *exchange)
{
	struct page_task *task = task_new(server, exchange, sizeof *task);
	if (!task)
		return;
	str_copy(browser_session(server, exchange->http), task->token, sizeof task->token);
	str_copy(browser_next(field(exchange, http_query(exchange->http), "next")), task->next, sizeof task->next);
	session_find(server_rooms(server)->portal->sessions, str_of(task->token), on_session, task);
}

void handle_signup_page(struct server *server, struct exchange *exchange)
{
	struct str query = http_query(exchange->http);
	show_signup(server, exchange, 200, STR_NONE, field(exchange, query, "next"), field(exchange, query, "ref"));
}

/* --- forms --- */

static int status_of(const struct login_result *result)
{
	return result->code == DB_E_LIMIT ? 429 : result->code == DB_E_DENIED ? 401 : result->code == DB_E_IO ? 503 : 400;
}

static void on_login(struct login_task *task, struct exchange *exchange, const char *token)
{
	if (!token) {
		show_login(task->task.server, exchange, status_of(&task->result), str_of(task->result.text), str_of(task->next));
		return;
	}
	browser_set_session(task->task.server, exchange, token);
	page_redirect(exchange, str_of(task->next));
}

static void on_signup(struct login_task *task, struct exchange *exchange, const char *token)
{
	if (!token) {
		show_signup(task->task.server, exchange, status_of(&task->result), str_of(task->result.text), str_of(task->next),
		            str_of(task->referral));
		return;
	}
	browser_set_session(task->task.server, exchange, token);
	page_redirect(exchange, str_of(task->next));
}

#define FOREIGN_FORM "The form came from another site: send it again."

static void read_form(struct exchange *exchange, struct login_attempt *attempt, struct str *next)
{
	struct str form = http_body(exchange->http);
	*next = browser_next(field(exchange, form, "next"));
	*attempt = (struct login_attempt){.email = field(exchange, form, "email"),
	                                  .password = field(exchange, form, "password"),
	                                  .invitation = str_trim(field(exchange, form, "code"))};
}

void handle_login_form(struct server *server, struct exchange *exchange)
{
	struct login_attempt attempt;
	struct str next;
	read_form(exchange, &attempt, &next);
	if (browser_is_cross_site(server, exchange->http))
		show_login(server, exchange, 403, STR(FOREIGN_FORM), next);
	else
		login_task_begin(server, exchange, &attempt, next, on_login);
}

void handle_signup_form(struct server *server, struct exchange *exchange)
{
	struct login_attempt attempt;
	struct str next, referral = field(exchange, http_body(exchange->http), "ref");
	read_form(exchange, &attempt, &next);
	if (browser_is_cross_site(server, exchange->http))
		show_signup(server, exchange, 403, STR(FOREIGN_FORM), next, referral);
	else
		login_task_sign_up(server, exchange, &attempt, next, referral, on_signup);
}

static void answer_logout(struct exchange *exchange)
{
	page_redirect(exchange, STR("/login"));
}

void handle_logout_form(struct server *server, struct exchange *exchange)
{
	struct str token = browser_session(server, exchange->http), csrf = field(exchange, http_body(exchange->http), "csrf");
	if (!token.len)
		answer_logout(exchange);
	else if (browser_is_cross_site(server, exchange->http) || !session_csrf_is_right(token, csrf))
		task_refuse(exchange, 403, "forbidden", FOREIGN_FORM, 0);
	else
		login_end_session(server, exchange, answer_logout);
}
