/* What the caller has and what it spent (http-api 4.3). */
#include "coordinator/server.h"

#include "core/clock.h"
#include "core/json.h"

#include <stdlib.h>

#define USAGE_ROWS_MAX 1000

static void put_usd(struct json_writer *w, const char *name, int64_t uusd)
{
	char text[PRICE_USD_SIZE];
	price_format_usd(uusd, text);
	json_put_cstr(w, name, text);
}

void handle_balance(struct server *server, struct exchange *exchange)
{
	(void)server;
	const struct ledger_account *account = exchange->caller.account;
	int64_t available = ledger_available(account), withdrawable = ledger_withdrawable(account);
	struct buf body;
	struct json_writer w;
	buf_init(&body, 1024);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_i64(&w, "balance_micro_usd", available);
	put_usd(&w, "balance_usd", available);
	json_put_i64(&w, "withdrawable_micro_usd", withdrawable);
	put_usd(&w, "withdrawable_usd", withdrawable);
	json_end_object(&w);
	buf_append_byte(&body, '\n');
	exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
}

/* Waits for the store; the consumer may leave meanwhile. */
struct usage_wait {
	struct exchange *exchange; /* NULL: left */
};

static void on_usage_gone(struct exchange *exchange)
{
	struct usage_wait *wait = exchange->owner;
	wait->exchange = NULL;
}

static void put_row(struct json_writer *w, const struct store_settlement *row)
{
	char when[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(row->created_us, when);
	json_begin_object(w);
	json_put_cstr(w, "job_id", row->request_id);
	json_put_cstr(w, "model", row->public_model[0] ? row->public_model : row->model);
	json_put_i64(w, "prompt_tokens", (int64_t)row->prompt_tokens);
	json_put_i64(w, "completion_tokens", (int64_t)row->completion_tokens);
	json_put_i64(w, "cost_micro_usd", row->cost_uusd);
	json_put_cstr(w, "timestamp", when);
	json_end_object(w);
}

static void on_usage(const struct store_usage_row *rows, size_t count, const struct error *error, void *user)
{
	struct usage_wait *wait = user;
	struct exchange *exchange = wait->exchange;
	free(wait);
	if (!exchange)
		return;
	exchange->on_gone = NULL;
	if (error) {
		struct api_error failed;
		api_fail(&failed, 503, "service_unavailable", NULL, NULL, "The usage cannot be read at the moment: try again.");
		failed.retry_after_s = 2;
		exchange_error(exchange, &failed);
		return;
	}
	struct buf body;
	struct json_writer w;
	buf_init(&body, 16u << 20);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "usage");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++)
		put_row(&w, &rows[i].s);
	json_end_array(&w);
	json_end_object(&w);
	buf_append_byte(&body, '\n');
	exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
}

void handle_usage(struct server *server, struct exchange *exchange)
{
	struct usage_wait *wait = malloc(sizeof *wait);
	if (!wait) {
		struct api_error error;
		api_fail(&error, 503, "service_unavailable", NULL, NULL, "The usage cannot be read at the moment: try again.");
		exchange_error(exchange, &error);
		return;
	}
	wait->exchange = exchange;
	exchange->owner = wait;
	exchange->on_gone = on_usage_gone;
	store_usage_list(server_rooms(server)->store, str_of(ledger_account_id(exchange->caller.account)), 0, USAGE_ROWS_MAX,
	                 on_usage, wait);
}
