/* A login on its way, from a form or from JSON: the password is checked, a session begins, then the caller answers.
 * Thread: the loop's. */
#ifndef COORDINATOR_LOGIN_TASK_H
#define COORDINATOR_LOGIN_TASK_H

#include "coordinator/portal.h"
#include "coordinator/referral.h"
#include "coordinator/task.h"

struct login_task {
	struct task task;
	struct portal *portal;
	void (*then)(struct login_task *task, struct exchange *exchange, const char *token);
	char agent[160], address[64], replaces[65];
	char next[512]; /* for pages: where to go afterwards */
	const char *method;
	char referral[STORE_REFERRAL_CODE_SIZE]; /* of a sign-up; empty = none */
	struct store_person person;
	struct login_result result; /* person is not set here */
};

/* `then` answers the exchange: token is the new session's, or NULL with task->result saying why. It is not called when the
 * client left. The attempt's address and what the browser had before are taken from the request. */
void login_task_begin(struct server *server, struct exchange *exchange, const struct login_attempt *attempt, struct str next,
                      void (*then)(struct login_task *task, struct exchange *exchange, const char *token));
/* The same for somebody who signs up, and was sent by the owner of a referral code; one that is none counts for nothing. */
void login_task_sign_up(struct server *server, struct exchange *exchange, const struct login_attempt *attempt, struct str next,
                        struct str referral,
                        void (*then)(struct login_task *task, struct exchange *exchange, const char *token));
/* For whoever finds out otherwise who somebody is: fills a task of task_new that begins with a login_task; then sets its person
 * and starts the session, which ends with `then` and frees the task. */
void login_task_fill(struct login_task *task, struct server *server, struct exchange *exchange, const char *method,
                     void (*then)(struct login_task *task, struct exchange *exchange, const char *token));
void login_task_start_session(struct login_task *task);

/* Ends the browser's session and takes its cookie back; then `answer` ends the exchange. */
void login_end_session(struct server *server, struct exchange *exchange, void (*answer)(struct exchange *exchange));

/* Answers with the error of a result. */
void login_refuse(struct exchange *exchange, const struct login_result *result);
void login_task_refuse(const struct login_task *task, struct exchange *exchange);

#endif
