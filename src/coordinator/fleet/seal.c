/* Requests with large bodies are sealed on a worker: a megabyte takes milliseconds, and everybody's tokens pass the loop. The
 * job exists meanwhile; when it ended before its request was ready nothing is sent. */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

struct seal_task {
	struct list_link link; /* in fleet->sealing */
	struct fleet *fleet;   /* NULL: gone */
	char job_id[ID_UUID_SIZE], tenant[SHA256_HEX_SIZE], prefixes[FLEET_PREFIXES_TEXT];
	struct request_key key;
	struct wire_request message;
	struct buf body, out;
	enum db_err result;
};

static void task_free(struct seal_task *task)
{
	secret_wipe(&task->key, sizeof task->key);
	buf_free(&task->body); /* wipes the prompt */
	buf_free(&task->out);
	free(task);
}

static void seal(void *arg)
{
	struct seal_task *task = arg;
	task->result =
	    wire_seal_request(&task->key.shared, &task->message, str_of(task->key.public_b64), buf_str(&task->body), &task->out);
}

static void sealed(void *arg)
{
	struct seal_task *task = arg;
	struct fleet *fleet = task->fleet;
	if (fleet) {
		list_remove(&fleet->sealing, &task->link);
		jobs_sealed(fleet, str_of(task->job_id), task->result, buf_str(&task->out));
	}
	task_free(task);
}

enum db_err seal_on_worker(struct fleet *fleet, const struct request_key *key, const struct wire_request *message,
                           struct str body)
{
	struct seal_task *task = calloc(1, sizeof *task);
	if (!task)
		return DB_E_NOMEM;
	buf_init(&task->body, body.len);
	buf_init(&task->out, WIRE_MAX_TO_PROVIDER);
	if (buf_append_str(&task->body, body)) {
		task_free(task);
		return DB_E_NOMEM;
	}
	task->fleet = fleet;
	task->key = *key;
	task->message = *message;
	(void)str_copy(message->request_id, task->job_id, sizeof task->job_id);
	task->message.request_id = str_of(task->job_id);
	(void)str_copy(message->cache_tenant, task->tenant, sizeof task->tenant);
	task->message.cache_tenant = str_of(task->tenant);
	memcpy(task->prefixes, message->prefixes.at, message->prefixes.len);
	task->message.prefixes.at = task->prefixes;
	list_push_back(&fleet->sealing, &task->link);
	net_work(fleet->loop, seal, sealed, task);
	return DB_OK;
}

void seal_stop(struct fleet *fleet)
{
	for (struct list_link *link; (link = list_pop_front(&fleet->sealing));)
		LIST_OF(link, struct seal_task, link)->fleet = NULL;
}
