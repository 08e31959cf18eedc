/* Prices: GET, PUT and DELETE /v1/pricing, and the platform's (billing 2.4). */
#include "coordinator/money_routes.h"

#include "coordinator/actor.h"
#include "coordinator/server.h"
#include "coordinator/store/store_views.h"
#include "coordinator/task.h"
#include "core/json.h"

#include <inttypes.h>
#include <stdio.h>

#define PRICE_MAX INT64_C(1000000000000) /* a million dollars for a million tokens */

/* --- what everybody pays --- */

static void put_dollars(struct json_writer *w, const char *name, int64_t uusd)
{
	char text[48];
	int64_t ten_thousandths = uusd / 100 + (uusd % 100 >= 50);
	snprintf(text, sizeof text, "$%" PRId64 ".%04" PRId64, ten_thousandths / 10000, ten_thousandths % 10000);
	json_put_cstr(w, name, text);
}

static void put_price(struct json_writer *w, const char *model, struct price price)
{
	json_put_cstr(w, "model", model);
	json_put_i64(w, "input_price", price.input);
	json_put_i64(w, "output_price", price.output);
	put_dollars(w, "input_usd", price.input);
	put_dollars(w, "output_usd", price.output);
	if (price.cached) {
		json_put_i64(w, "cached_price", price.cached);
		put_dollars(w, "cached_usd", price.cached);
	}
}

static void refuse_unreadable(struct exchange *exchange)
{
	task_refuse(exchange, 503, "service_unavailable", "The prices cannot be read at the moment: try again.", 2);
}

static void on_prices(const struct store_price *rows, size_t count, const struct error *error, void *user)
{
	struct task *task = user;
	struct price fallback = ledger_fallback_price(server_rooms(task->server)->ledger);
	struct exchange *exchange = task_end(task);
	struct buf body;
	struct json_writer w;
	task_free(task);
	if (!exchange)
		return;
	if (error) {
		refuse_unreadable(exchange);
		return;
	}
	buf_init(&body, 16u << 20);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "prices");
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++) {
		if (strcmp(rows[i].account_id, STORE_ACCOUNT_PLATFORM) != 0)
			continue;
		json_begin_object(&w);
		put_price(&w, rows[i].model, (struct price){rows[i].input, rows[i].output, rows[i].cached});
		json_end_object(&w);
	}
	json_end_array(&w);
	json_put_i64(&w, "fallback_input_price", fallback.input);
	json_put_i64(&w, "fallback_output_price", fallback.output);
	put_dollars(&w, "fallback_input_usd", fallback.input);
	put_dollars(&w, "fallback_output_usd", fallback.output);
	json_end_object(&w);
	buf_append_byte(&body, '\n');
	if (body.failed)
		refuse_unreadable(exchange);
	else
		exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
}

void handle_pricing(struct server *server, struct exchange *exchange)
{
	struct task *task = task_new(server, exchange, sizeof *task);
	if (task)
		store_prices_list(server_rooms(server)->store, on_prices, task);
}

/* --- setting one's own, or the platform's --- */

struct price_task {
	struct task task;
	struct store_price price;
	const char *status;
};

static void answer_price(struct price_task *task, const struct error *error)
{
	struct exchange *exchange = task_end(task);
	struct buf body;
	struct json_writer w;
	if (exchange && error && error->code == DB_E_NOT_FOUND) {
		task_refuse(exchange, 404, "not_found", "This account has no price of its own for this model.", 0);
	} else if (exchange && error) {
		task_refuse(exchange, 503, "service_unavailable", "The price cannot be written at the moment: try again.", 2);
	} else if (exchange) {
		buf_init(&body, 4096);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "status", task->status);
		if (task->price.input)
			put_price(&w, task->price.model, (struct price){task->price.input, task->price.output, task->price.cached});
		else
			json_put_cstr(&w, "model", task->price.model);
		json_end_object(&w);
		buf_append_byte(&body, '\n');
		exchange_json(exchange, 200, buf_str(&body));
		buf_free(&body);
	}
	task_free(task);
}

static void on_reloaded(const struct error *error, void *user)
{
	answer_price(user, error);
}

/* What the next request is to be priced by must be in memory before anybody is told. */
static void on_price_written(const struct error *error, void *user)
{
	struct price_task *task = user;
	if (error)
		answer_price(task, error);
	else
		ledger_prices_load(server_rooms(task->task.server)->ledger, on_reloaded, task);
}

static bool read_amount(const json_val *root, const char *name, bool is_needed, int64_t *out)
{
	const json_val *value = json_get_some(root, name);
	*out = 0;
	if (!value)
		return !is_needed;
	return json_as_i64(value, out) && *out > 0 && *out <= PRICE_MAX;
}

static bool read_price(struct str body, struct store_price *price, bool with_amounts)
{
	struct str model;
	struct json_doc *doc = json_parse(body, NULL, NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	bool good =
	    json_as_str(json_get(root, "model"), &model) && model.len > 0 && str_copy(model, price->model, sizeof price->model);
	if (good && with_amounts)
		good = read_amount(root, "input_price", true, &price->input) &&
		       read_amount(root, "output_price", true, &price->output) &&
		       read_amount(root, "cached_price", false, &price->cached);
	json_free(doc);
	return good;
}

static struct price_task *begin_price(struct server *server, struct exchange *exchange, const char *account, bool with_amounts)
{
	struct store_price price = {.input = 0};
	if (!read_price(exchange_body(exchange), &price, with_amounts)) {
		task_refuse(exchange, 400, "invalid_request_error",
		            with_amounts
		                ? "The body must be {\"model\": \"...\", \"input_price\": 50000, \"output_price\": 200000}, in "
		                  "micro-dollars for a million tokens, above 0; \"cached_price\" may be added."
		                : "The body must be {\"model\": \"...\"}.",
		            0);
		return NULL;
	}
	struct price_task *task = task_new(server, exchange, sizeof *task);
	char actor[STORE_ACTOR_SIZE];
	if (!task)
		return NULL;
	task->price = price;
	(void)str_copy(str_of(account), task->price.account_id, sizeof task->price.account_id);
	actor_of(exchange, actor);
	store_act(server_rooms(server)->store, str_of(actor), STR_NONE);
	return task;
}

static void set_price(struct server *server, struct exchange *exchange, const char *account, const char *status)
{
	struct price_task *task = begin_price(server, exchange, account, true);
	if (!task)
		return;
	task->status = status;
	store_price_set(server_rooms(server)->store, &task->price, on_price_written, task);
}

void handle_price_set(struct server *server, struct exchange *exchange)
{
	set_price(server, exchange, ledger_account_id(exchange->caller.account), "updated");
}

void handle_platform_price_set(struct server *server, struct exchange *exchange)
{
	set_price(server, exchange, STORE_ACCOUNT_PLATFORM, "platform_default_updated");
}

void handle_price_delete(struct server *server, struct exchange *exchange)
{
	struct price_task *task = begin_price(server, exchange, ledger_account_id(exchange->caller.account), false);
	if (!task)
		return;
	task->status = "deleted";
	store_price_delete(server_rooms(server)->store, str_of(task->price.account_id), str_of(task->price.model), on_price_written,
	                   task);
}
