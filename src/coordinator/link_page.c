/* The page where a person types the code that a program shows, sees who asks, and says yes or no. Both steps are forms of a
 * session, with its proof. What is asked is shown before it is granted, so that a stranger's code is recognised as one. */
#include "coordinator/browser.h"
#include "coordinator/guess.h"
#include "coordinator/page.h"
#include "coordinator/portal.h"
#include "coordinator/portal_routes.h"
#include "coordinator/server.h"
#include "coordinator/task.h"
#include "crypto/secret.h"
#include "net/form.h"

struct link_task {
	struct task task;
	bool is_form;
	char token[SESSION_TOKEN_SIZE], user_code[64], csrf[SESSION_CSRF_SIZE], action[16];
};

static void put_form(struct buf *out, const struct link_task *task)
{
	char csrf[SESSION_CSRF_SIZE];
	session_csrf(str_of(task->token), csrf);
	buf_append_c(out, "<form method=\"post\" action=\"/link\">");
	page_hidden(out, "csrf", str_of(csrf));
	secret_wipe(csrf, sizeof csrf);
}

static void show_code_form(struct link_task *task, struct exchange *exchange, int status, struct str problem)
{
	struct buf out;
	page_begin(&out, "Connect a program");
	if (problem.len)
		page_paragraph(&out, "error", problem);
	page_paragraph(&out, "help", STR("Type the code that the program shows, for example darkbloom login."));
	put_form(&out, task);
	page_input(&out, "Code", "text", "user_code", str_of(task->user_code),
	           "required autofocus autocomplete=\"off\" autocapitalize=\"characters\" spellcheck=\"false\" maxlength=\"16\"");
	buf_append_c(&out, "<button>Continue</button></form>");
	page_answer(exchange, status, &out);
}

static void show_question(const struct link_task *task, struct exchange *exchange, const struct store_person *person,
                          const struct device_view *view)
{
	struct buf out;
	page_begin(&out, "Is this you?");
	page_paragraph(&out, "code", str_of(task->user_code));
	buf_append_c(&out, "<p>A program at address <strong>");
	page_text(&out, view->address);
	buf_append_c(&out, "</strong> (");
	page_text(&out, view->agent.len ? view->agent : STR("it gives no name"));
	buf_printf(&out, ") asked %u seconds ago to act for <strong>", (unsigned)(view->age_us / 1000000));
	page_text(&out, str_of(person->email[0] ? person->email : person->account_id));
	buf_append_c(&out, "</strong>. It will use this account for requests, and earnings of a machine it serves from go to it."
	                   "</p><p>Say yes only when you have just started it yourself.</p>");
	put_form(&out, task);
	page_hidden(&out, "user_code", str_of(task->user_code));
	buf_append_c(&out, "<button name=\"action\" value=\"approve\">Yes, connect it</button>"
	                   "<button name=\"action\" value=\"deny\" class=\"quiet\">No</button></form>");
	page_answer(exchange, 200, &out);
}

static void show_end(struct exchange *exchange, bool approved)
{
	struct buf out;
	page_begin(&out, approved ? "Connected" : "Refused");
	page_paragraph(&out, "done",
	               approved ? STR("The program is logged in now. You can close this page.")
	                        : STR("The program gets no access. You can close this page."));
	page_answer(exchange, 200, &out);
}

/* A code was typed, or confirmed. */
static void take_code(struct link_task *task, struct exchange *exchange, const struct store_person *person)
{
	struct server *server = task->task.server;
	struct devices *devices = server_rooms(server)->portal->devices;
	struct str code = str_of(task->user_code), account = str_of(person->account_id);
	struct device_view view;
	uint64_t now_us = net_now_us(exchange->loop);
	if (guess_begin(server, exchange->http, account)) {
		show_code_form(task, exchange, 429, STR("There were too many wrong codes: wait a moment, then try again."));
		return;
	}
	if (!device_look(devices, code, now_us, &view)) {
		show_code_form(task, exchange, 404, STR("There is no login with this code: look at the program again."));
		return;
	}
	guess_was_right(server, exchange->http, account);
	bool approve = str_is(STR("approve"), task->action);
	if (view.state == DEVICE_EXPIRED)
		show_code_form(task, exchange, 410, STR("This code has expired: start the program's login again."));
	else if (view.state != DEVICE_PENDING)
		show_code_form(task, exchange, 409, STR("This code was used before."));
	else if (!approve && !str_is(STR("deny"), task->action))
		show_question(task, exchange, person, &view);
	else if (device_answer(devices, code, account, approve, now_us) == DB_OK)
		show_end(exchange, approve);
	else
		show_code_form(task, exchange, 409, STR("This code was used before."));
}

static void send_to_login(const struct link_task *task, struct exchange *exchange)
{
	struct buf next, path;
	buf_init(&next, 256);
	buf_init(&path, 1024);
	buf_append_c(&next, "/link");
	if (task->user_code[0]) {
		buf_append_c(&next, "?user_code=");
		form_encode(&next, str_of(task->user_code));
	}
	buf_append_c(&path, "/login?next=");
	form_encode(&path, buf_str(&next));
	page_redirect(exchange, buf_str(&path));
	buf_free(&next);
	buf_free(&path);
}

static void on_session(const struct store_session *session, const struct store_person *person, const struct error *error,
                       void *user)
{
	struct link_task *task = user;
	struct exchange *exchange = task_end(task);
	bool is_proven = exchange && !browser_is_cross_site(task->task.server, exchange->http) &&
	                 session_csrf_is_right(str_of(task->token), str_of(task->csrf));
	if (exchange && error)
		task_refuse(exchange, 503, "service_unavailable", "The session cannot be read at the moment: try again.", 2);
	else if (exchange && !session)
		send_to_login(task, exchange);
	else if (exchange && task->is_form && !is_proven)
		show_code_form(task, exchange, 403, STR("The form came from another site, or from before a new login: send it again."));
	else if (exchange && task->is_form)
		take_code(task, exchange, person);
	else if (exchange)
		show_code_form(task, exchange, 200, STR_NONE);
	task_free(task);
}

static void copy_field(struct exchange *exchange, struct str form, const char *name, char *out, size_t size)
{
	struct str value;
	if (form_get(form, name, http_arena(exchange->http), &value) == DB_OK)
		str_copy(str_trim(value), out, size);
}

static void begin(struct server *server, struct exchange *exchange, bool is_form)
{
	struct link_task *task = task_new(server, exchange, sizeof *task);
	struct str form = is_form ? http_body(exchange->http) : http_query(exchange->http);
	if (!task)
		return;
	task->is_form = is_form;
	str_copy(browser_session(server, exchange->http), task->token, sizeof task->token);
	copy_field(exchange, form, "user_code", task->user_code, sizeof task->user_code);
	if (is_form) {
		copy_field(exchange, form, "csrf", task->csrf, sizeof task->csrf);
		copy_field(exchange, form, "action", task->action, sizeof task->action);
	}
	session_find(server_rooms(server)->portal->sessions, str_of(task->token), on_session, task);
}

void handle_link_page(struct server *server, struct exchange *exchange)
{
	begin(server, exchange, false);
}

void handle_link_form(struct server *server, struct exchange *exchange)
{
	begin(server, exchange, true);
}
