/* The books for the operator: closing a period, entries as a download (docs/operator/books.md). */
#include "coordinator/money_routes.h"

#include "coordinator/download.h"
#include "coordinator/money/entry_text.h"
#include "coordinator/server.h"
#include "coordinator/task.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/uri.h"

#include <stdlib.h>

/* --- POST /v1/admin/ledger/close --- */

static void put_close(struct json_writer *w, const struct store_close *close)
{
	char when[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(close->closed_us, when);
	json_put_i64(w, "close", close->id);
	json_put_i64(w, "first_entry", close->first_entry);
	json_put_i64(w, "last_entry", close->last_entry);
	json_put_i64(w, "entries", close->entries);
	json_put_i64(w, "moved_micro_usd", close->moved_uusd);
	json_put_cstr(w, "closed_at", when);
	json_put_cstr(w, "hash", close->hash);
}

static void on_closed(const struct store_close *close, const struct error *error, void *user)
{
	struct exchange *exchange = task_end(user);
	struct buf body;
	struct json_writer w;
	task_free(user);
	if (!exchange)
		return;
	if (error) {
		task_refuse(exchange, error->code == DB_E_EXISTS ? 409 : 503, "server_error", error->text, 2);
		return;
	}
	buf_init(&body, 4096);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "status", close ? "closed" : "nothing_to_close");
	if (close)
		put_close(&w, close);
	json_end_object(&w);
	buf_append_byte(&body, '\n');
	exchange_json(exchange, 200, buf_str(&body));
	buf_free(&body);
}

void handle_ledger_close(struct server *server, struct exchange *exchange)
{
	struct task *task = task_new(server, exchange, sizeof *task);
	if (task)
		store_ledger_close(server_rooms(server)->store, on_closed, task);
}

/* --- GET /v1/admin/ledger/export --- */

struct ledger_download {
	struct download download;
	struct store_entry_range range;
	enum entry_format format;
};

static void on_entries(const struct store_entry *rows, size_t count, const struct error *error, void *user)
{
	struct ledger_download *ledger = user;
	struct buf text;
	buf_init(&text, 8u << 20);
	for (size_t i = 0; i < count; i++)
		entry_write(ledger->format, &rows[i], &text);
	if (count > 0)
		ledger->range.after_id = rows[count - 1].id;
	download_page(&ledger->download, buf_str(&text), count < STORE_ENTRIES_MAX, error);
	buf_free(&text);
}

static void ask_entries(struct download *download)
{
	struct ledger_download *ledger = (struct ledger_download *)download;
	store_entries_list(server_rooms(download->server)->store, &ledger->range, on_entries, ledger);
}

static bool read_time(const struct exchange *exchange, const char *name, int64_t *out)
{
	char text[64];
	enum db_err err = uri_query(http_query(exchange->http), name, text, sizeof text);
	return err == DB_E_NOT_FOUND || (!err && !clock_parse_rfc3339(str_of(text), out));
}

static bool read_range(const struct exchange *exchange, struct ledger_download *download, const char **wrong)
{
	char format[16];
	struct str query = http_query(exchange->http);
	enum db_err err = uri_query(query, "format", format, sizeof format);
	*wrong = NULL;
	bool given = err != DB_E_NOT_FOUND;
	if ((given && err) || !entry_format_of(given ? str_of(format) : STR("jsonl"), &download->format))
		*wrong = "format must be csv or jsonl.";
	err = uri_query(query, "account", download->range.account, sizeof download->range.account);
	if (err && err != DB_E_NOT_FOUND)
		*wrong = "account must be the id of one.";
	if (!read_time(exchange, "from", &download->range.from_us) || !read_time(exchange, "to", &download->range.to_us))
		*wrong = "from and to must be times such as 2026-01-31T12:00:00Z.";
	return !*wrong;
}

void handle_ledger_export(struct server *server, struct exchange *exchange)
{
	const char *wrong;
	struct ledger_download *ledger = download_new(server, exchange, sizeof *ledger);
	if (!ledger)
		return;
	if (!read_range(exchange, ledger, &wrong)) {
		free(ledger);
		task_refuse(exchange, 400, "invalid_request_error", wrong, 0);
		return;
	}
	ledger->download.content_type = entry_content_type(ledger->format);
	ledger->download.file_name = ledger->format == ENTRY_CSV ? "ledger.csv" : "ledger.jsonl";
	ledger->download.head = entry_head(ledger->format);
	download_start(&ledger->download, ask_entries);
}
