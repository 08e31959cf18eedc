/* The books for the operator: closing a period, entries as a download (docs/operator/books.md). */
#include "coordinator/money_routes.h"

#include "coordinator/actor.h"
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

struct download {
	struct server *server;
	struct exchange *exchange; /* NULL: left */
	struct store_entry_range range;
	enum entry_format format;
	bool started, all_sent;
	bool busy; /* the store is asked, or its rows are written: the download must not be freed */
	struct buf text;
};

static void ask_more(struct download *download);

static void free_download(struct download *download)
{
	buf_free(&download->text);
	free(download);
}

static void on_download_gone(struct exchange *exchange)
{
	struct download *download = exchange->owner;
	download->exchange = NULL;
	if (!download->busy)
		free_download(download);
}

static void on_download_room(struct http_request *http, void *user)
{
	struct exchange *exchange = user;
	(void)http;
	if (exchange->owner)
		ask_more(exchange->owner);
}

static void start(struct download *download)
{
	struct exchange *exchange = download->exchange;
	download->started = true;
	exchange_header(exchange, "Content-Disposition",
	                download->format == ENTRY_CSV ? STR("attachment; filename=\"ledger.csv\"")
	                                              : STR("attachment; filename=\"ledger.jsonl\""));
	exchange_stream_start_as(exchange, entry_content_type(download->format), on_download_room);
	entry_write_head(download->format, &download->text);
}

static void end_download(struct download *download)
{
	struct exchange *exchange = download->exchange;
	exchange->on_gone = NULL;
	exchange->owner = NULL;
	free_download(download);
	exchange_stream_end(exchange);
}

static void on_entries(const struct store_entry *rows, size_t count, const struct error *error, void *user)
{
	struct download *download = user;
	struct exchange *exchange = download->exchange;
	if (!exchange) {
		free_download(download);
		return;
	}
	if (error) {
		bool started = download->started;
		exchange->on_gone = NULL;
		exchange->owner = NULL;
		free_download(download);
		if (started) /* what was sent must not look whole */
			http_stream_abort(exchange->http);
		else
			task_refuse(exchange, 503, "service_unavailable", "The books cannot be read at the moment: try again.", 2);
		return;
	}
	if (!download->started)
		start(download);
	for (size_t i = 0; i < count; i++)
		entry_write(download->format, &rows[i], &download->text);
	if (count > 0)
		download->range.after_id = rows[count - 1].id;
	download->all_sent = count < STORE_ENTRIES_MAX;
	if (download->text.len > 0)
		(void)exchange_stream_write(exchange, buf_str(&download->text));
	buf_clear(&download->text);
	download->busy = false;
	if (download->exchange)
		ask_more(download);
	else
		free_download(download);
}

static void ask_more(struct download *download)
{
	if (download->all_sent && !download->busy) {
		end_download(download);
	} else if (!download->busy && (!download->started || exchange_stream_room(download->exchange) > 0)) {
		download->busy = true;
		store_entries_list(server_rooms(download->server)->store, &download->range, on_entries, download);
	}
}

static bool read_time(const struct exchange *exchange, const char *name, int64_t *out)
{
	char text[64];
	enum db_err err = uri_query(http_query(exchange->http), name, text, sizeof text);
	return err == DB_E_NOT_FOUND || (!err && !clock_parse_rfc3339(str_of(text), out));
}

static bool read_range(const struct exchange *exchange, struct download *download, const char **wrong)
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
	struct download *download = calloc(1, sizeof *download);
	if (!download) {
		task_refuse(exchange, 503, "service_unavailable", "There is not enough memory at the moment: try again.", 2);
		return;
	}
	if (!read_range(exchange, download, &wrong)) {
		free(download);
		task_refuse(exchange, 400, "invalid_request_error", wrong, 0);
		return;
	}
	download->server = server;
	download->exchange = exchange;
	buf_init(&download->text, 8u << 20);
	exchange->owner = download;
	exchange->on_gone = on_download_gone;
	ask_more(download);
}
