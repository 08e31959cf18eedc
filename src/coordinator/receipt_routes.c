/* Receipts: GET /v1/receipts/{request id} for whoever paid, and the key that signs them (docs/reference/receipts.md). */
#include "coordinator/money_routes.h"

#include "coordinator/money/receipt_signer.h"
#include "coordinator/server.h"
#include "coordinator/task.h"
#include "core/json.h"
#include "wire/receipt.h"

struct receipt_task {
	struct task task;
	const struct p256_key *key;
	char account[STORE_ID_SIZE];
	struct store_receipt stored;
	struct buf document;
	enum db_err failed;
};

static void write_receipt(void *arg)
{
	struct receipt_task *task = arg;
	task->failed = receipt_document(&task->stored, task->key, &task->document);
}

static void on_written(void *arg)
{
	struct receipt_task *task = arg;
	struct exchange *exchange = task_end(task);
	buf_append_byte(&task->document, '\n');
	if (exchange && (task->failed || task->document.failed))
		task_refuse(exchange, 503, "service_unavailable", "The receipt cannot be signed at the moment: try again.", 2);
	else if (exchange)
		exchange_json(exchange, 200, buf_str(&task->document));
	buf_free(&task->document);
	task_free(task);
}

static void on_row(const struct store_receipt *stored, const struct error *error, void *user)
{
	struct receipt_task *task = user;
	if (stored && strcmp(stored->s.account_id, task->account) == 0) {
		task->stored = *stored;
		net_work(server_rooms(task->task.server)->loop, write_receipt, on_written, task);
		return;
	}
	struct exchange *exchange = task_end(task);
	if (exchange && error)
		task_refuse(exchange, 503, "service_unavailable", "The receipt cannot be read at the moment: try again.", 2);
	else if (exchange) /* also of somebody else's: nobody learns that it exists */
		task_refuse(exchange, 404, "not_found", "No request of this account with this id was charged.", 0);
	buf_free(&task->document);
	task_free(task);
}

void handle_receipt(struct server *server, struct exchange *exchange)
{
	struct str id = route_part(exchange->route, http_path(exchange->http), 0);
	struct receipt_task *task = task_new(server, exchange, sizeof *task);
	if (!task)
		return;
	task->key = server_rooms(server)->receipts->key;
	buf_init(&task->document, RECEIPT_MAX);
	(void)str_copy(str_of(ledger_account_id(exchange->caller.account)), task->account, sizeof task->account);
	store_receipt_get(server_rooms(server)->store, id, on_row, task);
}

static void put_key(struct json_writer *w, const struct store_receipt_key *key)
{
	json_put_cstr(w, "kid", key->kid);
	json_put_cstr(w, "algorithm", "ES256");
	json_put_cstr(w, "public_key", key->public_key);
}

/* The key in use, and with it all that signed before: their receipts stay good. */
void handle_receipt_key(struct server *server, struct exchange *exchange)
{
	const struct receipt_signer *signer = server_rooms(server)->receipts;
	const struct store_receipt_key *current = &signer->keys[0];
	struct buf body;
	struct json_writer w;
	for (size_t i = 0; i < signer->key_count; i++)
		if (strcmp(signer->keys[i].kid, signer->kid) == 0)
			current = &signer->keys[i];
	buf_init(&body, 1024 + RECEIPT_KEYS_MAX * 256);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	put_key(&w, current);
	json_key(&w, "keys");
	json_begin_array(&w);
	for (size_t i = 0; i < signer->key_count; i++) {
		json_begin_object(&w);
		put_key(&w, &signer->keys[i]);
		json_put_i64(&w, "published_us", signer->keys[i].created_us);
		json_end_object(&w);
	}
	json_end_array(&w);
	json_end_object(&w);
	buf_append_byte(&body, '\n');
	exchange_header(exchange, "Cache-Control", STR("public, max-age=300"));
	exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
}
