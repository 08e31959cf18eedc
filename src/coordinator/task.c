#include "coordinator/task.h"

#include <stdlib.h>

#include "core/json.h"
#include "crypto/secret.h"

static void on_gone(struct exchange *exchange)
{
	((struct task *)exchange->owner)->exchange = NULL;
}

void *task_new(struct server *server, struct exchange *exchange, size_t size)
{
	struct task *task = calloc(1, size);
	if (!task) {
		task_refuse(exchange, 503, "service_unavailable", "The request needs more memory than there is: try again.", 2);
		return NULL;
	}
	task->server = server;
	task->exchange = exchange;
	task->size = size;
	exchange->owner = task;
	exchange->on_gone = on_gone;
	return task;
}

struct exchange *task_end(void *at)
{
	struct task *task = at;
	struct exchange *exchange = task->exchange;
	if (exchange) {
		exchange->owner = NULL;
		exchange->on_gone = NULL;
	}
	return exchange;
}

void task_free(void *at)
{
	struct task *task = at;
	secret_wipe(task, task->size);
	free(task);
}

void task_refuse(struct exchange *exchange, int status, const char *type, const char *message, int retry_after_s)
{
	struct api_error error;
	api_fail(&error, status, type, NULL, NULL, "%s", message);
	error.retry_after_s = retry_after_s;
	exchange_error(exchange, &error);
}

void task_answer(struct exchange *exchange, int status, struct buf *body)
{
	buf_append_byte(body, '\n');
	if (body->failed)
		task_refuse(exchange, 503, "service_unavailable", "There is not enough memory at the moment: try again.", 2);
	else
		exchange_json(exchange, status, buf_str(body));
	buf_free(body);
}

void task_answer_private(struct exchange *exchange, int status, struct buf *body)
{
	exchange_header(exchange, "Cache-Control", STR("no-store"));
	task_answer(exchange, status, body);
}

void task_answer_status(struct exchange *exchange, const char *status)
{
	struct buf body;
	struct json_writer w;
	buf_init(&body, 256);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "status", status);
	json_end_object(&w);
	task_answer_private(exchange, 200, &body);
}

const json_val *task_body(struct exchange *exchange)
{
	struct json_doc *doc = json_parse(http_body(exchange->http), http_arena(exchange->http), NULL);
	if (doc && json_type(json_root(doc)) == JSON_OBJECT)
		return json_root(doc);
	task_refuse(exchange, 400, "invalid_request_error", "The body must be a JSON object.", 0);
	return NULL;
}
