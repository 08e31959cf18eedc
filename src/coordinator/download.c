#include "coordinator/download.h"

#include "coordinator/task.h"

#include <stdio.h>
#include <stdlib.h>

static void ask_more(struct download *download);

static void free_download(struct download *download)
{
	if (download->release)
		download->release(download);
	free(download);
}

static void on_gone(struct exchange *exchange)
{
	struct download *download = exchange->owner;
	download->exchange = NULL;
	if (!download->busy)
		free_download(download);
}

static void on_room(struct http_request *http, void *user)
{
	struct exchange *exchange = user;
	(void)http;
	if (exchange->owner)
		ask_more(exchange->owner);
}

void *download_new(struct server *server, struct exchange *exchange, size_t size)
{
	struct download *download = calloc(1, size);
	if (!download) {
		task_refuse(exchange, 503, "service_unavailable", "There is not enough memory at the moment: try again.", 2);
		return NULL;
	}
	download->server = server;
	download->exchange = exchange;
	return download;
}

/* Frees it; the exchange is to be ended. */
static struct exchange *let_go(struct download *download)
{
	struct exchange *exchange = download->exchange;
	exchange->on_gone = NULL;
	exchange->owner = NULL;
	free_download(download);
	return exchange;
}

static void ask_more(struct download *download)
{
	if (download->busy)
		return;
	if (download->all_sent) {
		exchange_stream_end(let_go(download));
	} else if (!download->started || exchange_stream_room(download->exchange) > 0) {
		download->busy = true;
		download->ask(download);
	}
}

void download_start(struct download *download, void (*ask)(struct download *download))
{
	download->ask = ask;
	download->exchange->owner = download;
	download->exchange->on_gone = on_gone;
	ask_more(download);
}

static void begin_answer(struct download *download)
{
	char disposition[128];
	snprintf(disposition, sizeof disposition, "attachment; filename=\"%s\"", download->file_name);
	exchange_header(download->exchange, "Content-Disposition", str_of(disposition));
	exchange_stream_start_as(download->exchange, download->content_type, on_room);
	download->started = true;
	if (download->head.len > 0)
		(void)exchange_stream_write(download->exchange, download->head);
}

static void cut_off(struct download *download)
{
	bool started = download->started;
	struct exchange *exchange = let_go(download);
	if (started) /* what was sent must not look whole */
		http_stream_abort(exchange->http);
	else
		task_refuse(exchange, 503, "service_unavailable", "The books cannot be read at the moment: try again.", 2);
}

void download_page(struct download *download, struct str text, bool is_last, const struct error *error)
{
	if (download->exchange && error) {
		cut_off(download);
		return;
	}
	if (download->exchange && !download->started)
		begin_answer(download);
	if (download->exchange && text.len > 0) /* the client may leave in any of these */
		(void)exchange_stream_write(download->exchange, text);
	download->all_sent = is_last;
	download->busy = false;
	if (download->exchange)
		ask_more(download);
	else
		free_download(download);
}
