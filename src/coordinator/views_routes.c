/* What accounts see of their money, and what everybody sees of the network's (billing 11, http-api 4.3, 5.2). */
#include "coordinator/money_routes.h"

#include "coordinator/download.h"
#include "coordinator/server.h"
#include "coordinator/store/store_views.h"
#include "coordinator/task.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/uri.h"

#include <stdio.h>
#include <stdlib.h>

struct view_task {
	struct task task;
	struct store_view view;
	char word[32], other[16]; /* as the caller named the window or month, and the metric */
	void (*write)(const struct view_task *task, const struct store_view_answer *answer, struct json_writer *w);
};

static void on_view(const struct store_view_answer *answer, const struct error *error, void *user)
{
	struct view_task *task = user;
	struct exchange *exchange = task->task.exchange;
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		task_refuse(task_end(task), 503, "service_unavailable", "The books cannot be read at the moment: try again.", 2);
	} else if (exchange) {
		buf_init(&body, 32u << 20);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		task->write(task, answer, &w);
		json_end_object(&w);
		buf_append_byte(&body, '\n');
		if (exchange->route->auth != AUTH_NONE)
			exchange_header(exchange, "Cache-Control", STR("no-store"));
		else
			exchange_header(exchange, "Cache-Control", STR("public, max-age=60"));
		exchange_json(task_end(task), 200, buf_str(&body));
		buf_free(&body);
	}
	task_free(task);
}

static void put_list(struct json_writer *w, const char *name, struct str values)
{
	struct buf list;
	buf_init(&list, values.len + 2);
	buf_append_byte(&list, '[');
	buf_append_str(&list, values);
	buf_append_byte(&list, ']');
	json_key(w, name);
	json_raw(w, buf_str(&list));
	buf_free(&list);
}

static void put_usd(struct json_writer *w, const char *name, int64_t uusd)
{
	char text[PRICE_USD_SIZE];
	price_format_usd(uusd, text);
	json_put_cstr(w, name, text);
}

/* --- reading queries --- */

static void refuse(struct exchange *exchange, const char *message)
{
	task_refuse(exchange, 400, "invalid_request_error", message, 0);
}

/* True when there is no such parameter, too. */
static bool query_text(const struct exchange *exchange, const char *name, char *out, size_t size)
{
	enum db_err err = uri_query(http_query(exchange->http), name, out, size);
	return !err || err == DB_E_NOT_FOUND;
}

static bool query_limit(const struct exchange *exchange, uint32_t fallback, uint32_t most, uint32_t *out)
{
	char text[16];
	uint64_t value = fallback;
	if (!query_text(exchange, "limit", text, sizeof text) || (text[0] && !str_to_u64(str_of(text), &value)))
		return false;
	*out = (uint32_t)(value > most ? most : value);
	return value >= 1;
}

static bool query_time(const struct exchange *exchange, const char *name, int64_t *out)
{
	char text[64];
	*out = 0;
	return query_text(exchange, name, text, sizeof text) && (!text[0] || !clock_parse_rfc3339(str_of(text), out));
}

/* "<created_us>-<id>", as it was given out. */
static bool query_cursor(const struct exchange *exchange, struct store_view *view)
{
	char text[64];
	struct str at, id;
	if (!query_text(exchange, "cursor", text, sizeof text))
		return false;
	if (!text[0])
		return true;
	id = str_cut(str_of(text), '-', &at);
	return str_to_i64(at, &view->cursor_us) && str_to_i64(id, &view->cursor_id) && view->cursor_us >= 0 && view->cursor_id > 0;
}

static void put_cursor(struct json_writer *w, const struct store_view_answer *answer)
{
	char text[64];
	if (!answer->next_us && !answer->next_id)
		return;
	snprintf(text, sizeof text, "%lld-%lld", (long long)answer->next_us, (long long)answer->next_id);
	json_put_cstr(w, "next_cursor", text);
}

static struct view_task *begin(struct server *server, struct exchange *exchange, const struct store_view *view)
{
	struct view_task *task = task_new(server, exchange, sizeof *task);
	if (!task)
		return NULL;
	task->view = *view;
	if (exchange->caller.account)
		(void)str_copy(str_of(ledger_account_id(exchange->caller.account)), task->view.account, sizeof task->view.account);
	return task;
}

/* --- GET /v1/payments/usage, GET /v1/payments/usage/export --- */

static bool read_usage_query(const struct exchange *exchange, struct store_view *view)
{
	return query_time(exchange, "from", &view->from_us) && query_time(exchange, "to", &view->to_us) &&
	       query_text(exchange, "key_id", view->key_id, sizeof view->key_id) &&
	       query_text(exchange, "model", view->model, sizeof view->model);
}

static void write_usage(const struct view_task *task, const struct store_view_answer *answer, struct json_writer *w)
{
	(void)task;
	put_list(w, "usage", answer->text);
	put_cursor(w, answer);
}

void handle_usage(struct server *server, struct exchange *exchange)
{
	struct store_view view = {.kind = STORE_VIEW_USAGE};
	if (!query_limit(exchange, 1000, 1000, &view.limit) || !query_cursor(exchange, &view) ||
	    !read_usage_query(exchange, &view)) {
		refuse(exchange, "limit must be 1 to 1000, cursor one that was given out, from and to times such as "
		                 "2026-01-31T12:00:00Z; key_id and model choose rows.");
		return;
	}
	struct view_task *task = begin(server, exchange, &view);
	if (!task)
		return;
	task->write = write_usage;
	store_view(server_rooms(server)->store, &task->view, on_view, task);
}

struct usage_download {
	struct download download;
	struct store_view view;
};

static void on_usage_page(const struct store_view_answer *answer, const struct error *error, void *user)
{
	struct usage_download *usage = user;
	if (!error) {
		usage->view.cursor_us = answer->next_us;
		usage->view.cursor_id = answer->next_id;
	}
	download_page(&usage->download, error ? STR_NONE : answer->text, error || !answer->next_id, error);
}

static void ask_usage(struct download *download)
{
	struct usage_download *usage = (struct usage_download *)download;
	store_view(server_rooms(download->server)->store, &usage->view, on_usage_page, usage);
}

void handle_usage_export(struct server *server, struct exchange *exchange)
{
	char format[16];
	struct store_view view = {.kind = STORE_VIEW_USAGE, .limit = 1000};
	bool good = query_text(exchange, "format", format, sizeof format) && read_usage_query(exchange, &view);
	bool is_csv = str_is(str_of(format), "csv");
	if (!good || (format[0] && !is_csv && !str_is(str_of(format), "jsonl"))) {
		refuse(exchange, "format must be csv or jsonl, from and to times such as 2026-01-31T12:00:00Z.");
		return;
	}
	struct usage_download *usage = download_new(server, exchange, sizeof *usage);
	if (!usage)
		return;
	usage->view = view;
	usage->view.format = is_csv ? STORE_VIEW_CSV : STORE_VIEW_JSON_LINES;
	(void)str_copy(str_of(ledger_account_id(exchange->caller.account)), usage->view.account, sizeof usage->view.account);
	usage->download.content_type = is_csv ? "text/csv; charset=utf-8" : "application/x-ndjson";
	usage->download.file_name = is_csv ? "usage.csv" : "usage.jsonl";
	usage->download.head = is_csv ? str_of(store_usage_csv_head()) : STR_NONE;
	download_start(&usage->download, ask_usage);
}

/* --- GET /v1/provider/account-earnings --- */

static void write_earnings(const struct view_task *task, const struct store_view_answer *answer, struct json_writer *w)
{
	const struct ledger_account *account = task->task.exchange->caller.account;
	json_put_cstr(w, "account_id", task->view.account);
	put_list(w, "earnings", answer->text);
	put_cursor(w, answer);
	json_put_i64(w, "total_micro_usd", answer->numbers[0]);
	put_usd(w, "total_usd", answer->numbers[0]);
	json_put_i64(w, "count", answer->numbers[1]);
	json_put_i64(w, "recent_count", (int64_t)answer->rows);
	json_put_i64(w, "history_limit", task->view.limit);
	json_put_i64(w, "available_balance_micro_usd", ledger_available(account));
	put_usd(w, "available_balance_usd", ledger_available(account));
	json_put_i64(w, "withdrawable_balance_micro_usd", ledger_withdrawable(account));
	put_usd(w, "withdrawable_balance_usd", ledger_withdrawable(account));
}

void handle_account_earnings(struct server *server, struct exchange *exchange)
{
	struct store_view view = {.kind = STORE_VIEW_EARNINGS};
	if (!query_limit(exchange, 50, 1000, &view.limit) || !query_cursor(exchange, &view)) {
		refuse(exchange, "limit must be 1 to 1000, cursor one that was given out.");
		return;
	}
	struct view_task *task = begin(server, exchange, &view);
	if (!task)
		return;
	task->write = write_earnings;
	store_view(server_rooms(server)->store, &task->view, on_view, task);
}

/* --- GET /v1/payments/statement?month=2026-01 --- */

static bool read_month(const char *text, struct store_view *view)
{
	char first[64];
	struct str year, month;
	uint64_t y, m;
	month = str_cut(str_of(text), '-', &year);
	if (year.len != 4 || month.len != 2 || !str_to_u64(year, &y) || !str_to_u64(month, &m) || m < 1 || m > 12 || y < 1970)
		return false;
	snprintf(first, sizeof first, "%04llu-%02llu-01T00:00:00Z", (unsigned long long)y, (unsigned long long)m);
	if (clock_parse_rfc3339(str_of(first), &view->from_us))
		return false;
	snprintf(first, sizeof first, "%04llu-%02llu-01T00:00:00Z", (unsigned long long)(m == 12 ? y + 1 : y),
	         (unsigned long long)(m == 12 ? 1 : m + 1));
	return clock_parse_rfc3339(str_of(first), &view->to_us) == DB_OK;
}

static void write_statement(const struct view_task *task, const struct store_view_answer *answer, struct json_writer *w)
{
	json_put_cstr(w, "account_id", task->view.account);
	json_put_cstr(w, "month", task->word);
	json_put_i64(w, "opening_balance_micro_usd", answer->numbers[0]);
	put_usd(w, "opening_balance_usd", answer->numbers[0]);
	put_list(w, "movements", answer->text);
	json_put_i64(w, "closing_balance_micro_usd", answer->numbers[1]);
	put_usd(w, "closing_balance_usd", answer->numbers[1]);
	put_list(w, "models", answer->more);
}

void handle_statement(struct server *server, struct exchange *exchange)
{
	char month[16];
	struct store_view view = {.kind = STORE_VIEW_STATEMENT};
	if (!query_text(exchange, "month", month, sizeof month) || !read_month(month, &view)) {
		refuse(exchange, "month must be one such as 2026-01.");
		return;
	}
	struct view_task *task = begin(server, exchange, &view);
	if (!task)
		return;
	memcpy(task->word, month, sizeof month);
	task->write = write_statement;
	store_view(server_rooms(server)->store, &task->view, on_view, task);
}

/* --- GET /v1/leaderboard, GET /v1/network/totals --- */

static bool read_window(const struct exchange *exchange, char word[32], int64_t *hours)
{
	static const struct {
		const char *name;
		int64_t hours;
	} windows[] = {{"", 24}, {"24h", 24}, {"1d", 24}, {"7d", 168}, {"30d", 720}, {"all", 0}, {"lifetime", 0}};
	if (!query_text(exchange, "window", word, 32))
		return false;
	for (size_t i = 0; i < sizeof windows / sizeof *windows; i++)
		if (strcmp(word, windows[i].name) == 0) {
			*hours = windows[i].hours;
			if (!word[0])
				memcpy(word, "24h", sizeof "24h");
			return true;
		}
	return false;
}

static void put_now(struct json_writer *w)
{
	char when[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(clock_wall_us(), when);
	json_put_cstr(w, "updated_at", when);
}

static void write_leaders(const struct view_task *task, const struct store_view_answer *answer, struct json_writer *w)
{
	json_put_cstr(w, "metric", task->other);
	json_put_cstr(w, "window", task->word);
	put_list(w, "entries", answer->text);
	put_now(w);
}

void handle_leaderboard(struct server *server, struct exchange *exchange)
{
	static const char *const metrics[] = {"earnings", "tokens", "jobs"};
	struct store_view view = {.kind = STORE_VIEW_LEADERS, .limit = 50};
	char word[32], metric[16];
	bool known = query_text(exchange, "metric", metric, sizeof metric) && read_window(exchange, word, &view.hours);
	size_t i = 0;
	if (!metric[0])
		memcpy(metric, "earnings", sizeof "earnings");
	while (i < 3 && strcmp(metric, metrics[i]) != 0)
		i++;
	if (!known || i == 3) {
		refuse(exchange, "metric must be earnings, tokens or jobs, window 24h, 7d, 30d or all.");
		return;
	}
	if (!query_limit(exchange, 50, 200, &view.limit))
		view.limit = 50; /* http-api 5.2 */
	struct view_task *task = begin(server, exchange, &view);
	if (!task)
		return;
	task->view.metric = (enum store_metric)i;
	memcpy(task->view.pseudonym_key, server_rooms(server)->pseudonym_key, sizeof task->view.pseudonym_key);
	memcpy(task->word, word, sizeof word);
	memcpy(task->other, metric, sizeof metric);
	task->write = write_leaders;
	store_view(server_rooms(server)->store, &task->view, on_view, task);
}

static void write_totals(const struct view_task *task, const struct store_view_answer *answer, struct json_writer *w)
{
	int64_t work = answer->numbers[STORE_TOTAL_WORK], rewards = answer->numbers[STORE_TOTAL_REWARDS];
	json_put_cstr(w, "window", task->word);
	json_put_i64(w, "earnings_micro_usd", work + rewards);
	json_put_i64(w, "work_earnings_micro_usd", work);
	json_put_i64(w, "reward_earnings_micro_usd", rewards);
	json_put_i64(w, "tokens", answer->numbers[STORE_TOTAL_TOKENS]);
	json_put_i64(w, "jobs", answer->numbers[STORE_TOTAL_JOBS]);
	json_put_i64(w, "active_accounts", answer->numbers[STORE_TOTAL_ACCOUNTS]);
	put_now(w);
}

void handle_network_totals(struct server *server, struct exchange *exchange)
{
	struct store_view view = {.kind = STORE_VIEW_TOTALS};
	char word[32];
	if (!read_window(exchange, word, &view.hours)) {
		refuse(exchange, "window must be 24h, 7d, 30d or all.");
		return;
	}
	struct view_task *task = begin(server, exchange, &view);
	if (!task)
		return;
	memcpy(task->word, word, sizeof word);
	task->write = write_totals;
	store_view(server_rooms(server)->store, &task->view, on_view, task);
}
