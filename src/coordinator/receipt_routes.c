/* Receipts: GET /v1/receipts/{request id} for whoever paid, and the key that signs them (docs/reference/receipts.md). */
#include "coordinator/money_routes.h"

#include "coordinator/server.h"
#include "coordinator/task.h"
#include "core/encode.h"
#include "core/json.h"
#include "wire/receipt.h"

struct receipt_task {
	struct task task;
	const struct p256_key *key;
	char account[STORE_ID_SIZE];
	struct store_settlement row;
	struct buf document;
	enum db_err failed;
};

static void write_receipt(void *arg)
{
	struct receipt_task *task = arg;
	const struct store_settlement *row = &task->row;
	struct receipt receipt = {.request_id = str_of(row->request_id),
	                          .account_id = str_of(row->account_id),
	                          .key_id = str_of(row->key_id),
	                          .provider_id = str_of(row->provider_id),
	                          .model = str_of(row->model),
	                          .public_model = str_of(row->public_model),
	                          .outcome = str_of(row->outcome),
	                          .tokens = {row->prompt_tokens, row->completion_tokens, row->cached_tokens},
	                          .reasoning_tokens = row->reasoning_tokens,
	                          .price = {row->price_in, row->price_out, row->price_cached},
	                          .service = row->service,
	                          .hold_uusd = row->hold_uusd,
	                          .cost_uusd = row->cost_uusd,
	                          .fee_uusd = row->fee_uusd,
	                          .payout_uusd = row->cost_uusd - row->fee_uusd,
	                          .created_us = row->created_us,
	                          .job_id = str_of(row->job_id),
	                          .response_hash = str_of(row->response_hash),
	                          .provider_key = str_of(row->se_public_key),
	                          .provider_signature = str_of(row->se_signature),
	                          .reported_tokens = row->reported_tokens};
	task->failed = receipt_write(&receipt, task->key, &task->document);
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

static void on_row(const struct store_usage_row *rows, size_t count, const struct error *error, void *user)
{
	struct receipt_task *task = user;
	if (!error && count == 1 && strcmp(rows[0].s.account_id, task->account) == 0) {
		task->row = rows[0].s;
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
	task->key = server_rooms(server)->receipt_key;
	buf_init(&task->document, RECEIPT_MAX);
	(void)str_copy(str_of(ledger_account_id(exchange->caller.account)), task->account, sizeof task->account);
	store_usage_of_request(server_rooms(server)->store, id, on_row, task);
}

void handle_receipt_key(struct server *server, struct exchange *exchange)
{
	uint8_t public_key[P256_PUBLIC_BYTES];
	char text[BASE64_ENCODED_LEN(P256_PUBLIC_BYTES)], kid[RECEIPT_KID_SIZE];
	struct buf body;
	struct json_writer w;
	p256_public(server_rooms(server)->receipt_key, public_key);
	receipt_kid(public_key, kid);
	size_t len = base64_encode(public_key, sizeof public_key, text);
	buf_init(&body, 1024);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "kid", kid);
	json_put_cstr(&w, "algorithm", "ES256");
	json_put_str(&w, "public_key", (struct str){text, len});
	json_end_object(&w);
	buf_append_byte(&body, '\n');
	exchange_header(exchange, "Cache-Control", STR("public, max-age=300"));
	exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
}
