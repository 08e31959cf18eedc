#include "coordinator/login_task.h"

#include <stdio.h>

#include "coordinator/browser.h"
#include "coordinator/portal.h"
#include "coordinator/server.h"

void login_refuse(struct exchange *exchange, const struct login_result *result)
{
	static const struct {
		enum db_err code;
		int status;
		const char *type;
	} answers[] = {{DB_E_DENIED, 401, "authentication_error"},
	               {DB_E_INVALID, 400, "invalid_request_error"},
	               {DB_E_EXISTS, 409, "conflict"},
	               {DB_E_NOT_FOUND, 404, "not_found"},
	               {DB_E_LIMIT, 429, "rate_limit_exceeded"}};
	int retry_s = result->retry_ms ? (int)((result->retry_ms + 999) / 1000) : 0;
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
		if (result->code == answers[i].code) {
			task_refuse(exchange, answers[i].status, answers[i].type, result->text, retry_s);
			return;
		}
	task_refuse(exchange, 503, "service_unavailable", result->text, retry_s ? retry_s : 2);
}

void login_task_refuse(const struct login_task *task, struct exchange *exchange)
{
	login_refuse(exchange, &task->result);
}

static void end(struct login_task *task, const char *token)
{
	struct exchange *exchange = task_end(task);
	if (exchange)
		task->then(task, exchange, token);
	task_free(task);
}

static void on_started(const char *token, const struct error *error, void *user)
{
	struct login_task *task = user;
	if (error)
		task->result = (struct login_result){.code = DB_E_IO, .text = "The session cannot be begun at the moment: try again."};
	end(task, token);
}

void login_task_start_session(struct login_task *task)
{
	struct session_start start = {.account_id = str_of(task->person.account_id),
	                              .agent = str_of(task->agent),
	                              .address = str_of(task->address),
	                              .method = task->method,
	                              .replaces = str_of(task->replaces)};
	session_start(task->portal->sessions, &start, on_started, task);
}

static void on_checked(const struct login_result *result, void *user)
{
	struct login_task *task = user;
	struct portal *portal = task->portal;
	task->result = *result;
	task->result.person = NULL;
	if (result->code != DB_OK) {
		end(task, NULL);
		return;
	}
	task->person = *result->person;
	if (task->referral[0])
		referral_attribute(task->task.server, str_of(task->person.account_id), str_of(task->referral),
		                   STORE_REFERRED_AT_SIGNUP);
	if (task->person.is_owner && portal->setup_path[0] && !login_has_setup_code(portal->login))
		portal_close_setup(portal);
	if (task->task.exchange)
		login_task_start_session(task);
	else
		end(task, NULL);
}

void login_task_fill(struct login_task *task, struct server *server, struct exchange *exchange, const char *method,
                     void (*then)(struct login_task *task, struct exchange *exchange, const char *token))
{
	const struct http_request *http = exchange->http;
	task->then = then;
	task->method = method;
	task->portal = server_rooms(server)->portal;
	str_copy(str_sub(http_header_get(http, "user-agent"), 0, sizeof task->agent - 1), task->agent, sizeof task->agent);
	str_copy(browser_address(server, http), task->address, sizeof task->address);
	str_copy(browser_session(server, http), task->replaces, sizeof task->replaces);
}

static void begin(struct server *server, struct exchange *exchange, const struct login_attempt *attempt, struct str next,
                  const struct str *referral,
                  void (*then)(struct login_task *task, struct exchange *exchange, const char *token))
{
	struct login *login = server_rooms(server)->portal->login;
	struct login_task *task = task_new(server, exchange, sizeof *task);
	struct login_attempt full = *attempt;
	if (!task)
		return;
	login_task_fill(task, server, exchange, "password", then);
	str_copy(next, task->next, sizeof task->next);
	full.address = browser_address(server, exchange->http);
	if (!referral) {
		login_check(login, &full, on_checked, task);
		return;
	}
	if (!referral_read_code(*referral, task->referral))
		task->referral[0] = '\0';
	login_sign_up(login, &full, on_checked, task);
}

void login_task_begin(struct server *server, struct exchange *exchange, const struct login_attempt *attempt, struct str next,
                      void (*then)(struct login_task *task, struct exchange *exchange, const char *token))
{
	begin(server, exchange, attempt, next, NULL, then);
}

void login_task_sign_up(struct server *server, struct exchange *exchange, const struct login_attempt *attempt, struct str next,
                        struct str referral,
                        void (*then)(struct login_task *task, struct exchange *exchange, const char *token))
{
	begin(server, exchange, attempt, next, &referral, then);
}

struct ending {
	struct task task;
	void (*answer)(struct exchange *exchange);
};

static void on_ended(const struct error *error, void *user)
{
	struct ending *ending = user;
	struct exchange *exchange = task_end(ending);
	if (exchange && error) {
		task_refuse(exchange, 503, "service_unavailable", "The session cannot be ended at the moment: try again.", 2);
	} else if (exchange) {
		browser_set_session(ending->task.server, exchange, NULL);
		ending->answer(exchange);
	}
	task_free(ending);
}

void login_end_session(struct server *server, struct exchange *exchange, void (*answer)(struct exchange *exchange))
{
	struct ending *ending = task_new(server, exchange, sizeof *ending);
	if (!ending)
		return;
	ending->answer = answer;
	session_end(server_rooms(server)->portal->sessions, browser_session(server, exchange->http), on_ended, ending);
}
