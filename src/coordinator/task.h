/* A request whose answer waits for somebody else, while the client may leave. A handler's state begins with a struct task.
 * Thread: the loop's. */
#ifndef COORDINATOR_TASK_H
#define COORDINATOR_TASK_H

#include "coordinator/gateway/exchange.h"
#include "core/json.h"

struct server;

struct task {
	struct server *server;
	struct exchange *exchange; /* NULL: the client left */
	size_t size;
};

/* `size` zeroed bytes that begin with a struct task. NULL when there is no memory: then the request is answered. */
void *task_new(struct server *server, struct exchange *exchange, size_t size);
/* The waiting is over: the exchange, to be answered, or NULL when the client left. The state stays until task_free. */
struct exchange *task_end(void *task);
void task_free(void *task); /* wipes */

/* What is common to refusals outside of the inference routes. retry_after_s 0: no Retry-After. */
void task_refuse(struct exchange *exchange, int status, const char *type, const char *message, int retry_after_s);
/* Answers with the JSON text in `body`, a line end behind it, and frees it; 503 when there was no memory for it. */
void task_answer(struct exchange *exchange, int status, struct buf *body);
void task_answer_private(struct exchange *exchange, int status, struct buf *body); /* which no cache may keep */
void task_answer_status(struct exchange *exchange, const char *status);            /* {"status":...}, private, with 200 */
/* The object that the body is, in the request's arena; NULL, and answered, when it is none. */
const json_val *task_body(struct exchange *exchange);

#endif
