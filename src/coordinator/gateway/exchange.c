#include "coordinator/gateway/exchange.h"

#include "core/id.h"

#include <stdio.h>

void exchange_meter_init(struct exchange_meter *meter, struct metrics *metrics, const char *method, const char *path)
{
	char labels[256];
	*meter = (struct exchange_meter){.metrics = metrics, .method = method, .path = path};
	(void)snprintf(labels, sizeof labels, "method=\"%s\",path=\"%s\"", method, path);
	meter->duration = metrics_histogram(metrics, "http_request_duration_seconds", labels,
	                                    "From the first byte of a request to the end of its answer.", 1e6);
}

static struct metric *status_counter(struct exchange_meter *meter, int status)
{
	size_t i = 0;
	while (i < EXCHANGE_STATUSES - 1 && meter->by_status[i].count && meter->by_status[i].status != status)
		i++;
	if (!meter->by_status[i].count || meter->by_status[i].status != status) {
		char labels[256];
		(void)snprintf(labels, sizeof labels, "method=\"%s\",path=\"%s\",status=\"%d\"", meter->method, meter->path, status);
		meter->by_status[i].status = status;
		meter->by_status[i].count =
		    metrics_counter(meter->metrics, "http_requests_total", labels, "Answers of the HTTP server.");
	}
	return meter->by_status[i].count;
}

static void count(struct exchange *exchange, int status)
{
	if (exchange->inflight)
		--*exchange->inflight;
	exchange->inflight = NULL;
	metric_add(status_counter(exchange->meter, status), 1);
	metric_observe(exchange->meter->duration, net_now_us(exchange->loop) - http_started_us(exchange->http));
}

static void on_gone(struct http_request *http, void *user)
{
	(void)http;
	struct exchange *exchange = user;
	count(exchange, 499);
	if (exchange->on_gone)
		exchange->on_gone(exchange);
	if (exchange->cover)
		exchange->cover->gone(exchange);
}

static bool is_header_text(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.at[i] < 0x20 || (unsigned char)text.at[i] >= 0x7f)
			return false;
	return text.len > 0;
}

struct exchange *exchange_begin(struct http_request *http, struct net_loop *loop, struct exchange_meter *meter,
                                const struct dialect *dialect)
{
	struct exchange *exchange = arena_alloc(http_arena(http), sizeof *exchange);
	if (!exchange) {
		http_respond(http, 503, NULL, STR_NONE);
		return NULL;
	}
	exchange->http = http;
	exchange->loop = loop;
	exchange->meter = meter;
	exchange->dialect = dialect;
	struct str given = str_trim(http_header_get(http, "x-request-id"));
	if (!is_header_text(given) || !str_copy(given, exchange->request_id, sizeof exchange->request_id))
		id_request(exchange->request_id);
	http_set_user(http, exchange);
	http_set_on_gone(http, on_gone);
	exchange_header(exchange, "X-Request-ID", str_of(exchange->request_id));
	if (dialect->request_id_header)
		exchange_header(exchange, dialect->request_id_header, str_of(exchange->request_id));
	return exchange;
}

void exchange_header(struct exchange *exchange, const char *name, struct str value)
{
	if (value.len > 0)
		(void)http_add_header(exchange->http, name, value);
}

struct str exchange_body(const struct exchange *exchange)
{
	return exchange->cover ? exchange->opened_body : http_body(exchange->http);
}

void exchange_answer(struct exchange *exchange, int status, const char *content_type, struct str body)
{
	count(exchange, status);
	if (exchange->cover)
		exchange->cover->respond(exchange, status, content_type, body);
	else
		http_respond(exchange->http, status, content_type, body);
}

void exchange_json(struct exchange *exchange, int status, struct str body)
{
	exchange_answer(exchange, status, "application/json", body);
}

void exchange_error(struct exchange *exchange, const struct api_error *error)
{
	struct buf body;
	if (exchange->on_refused)
		exchange->on_refused(exchange, error, exchange->refused_user);
	buf_init(&body, 4096);
	struct api_error said = *error;
	said.request_id = exchange->request_id;
	exchange->dialect->error_write(&said, &body);
	if (error->retry_after_s > 0) {
		char seconds[16];
		(void)snprintf(seconds, sizeof seconds, "%d", error->retry_after_s);
		exchange_header(exchange, "Retry-After", str_of(seconds));
	}
	exchange_json(exchange, error->status, buf_str(&body));
	buf_free(&body);
}

void exchange_stream_start(struct exchange *exchange, void (*on_room)(struct http_request *http, void *exchange_of_room))
{
	exchange_header(exchange, "X-Accel-Buffering", STR("no"));
	exchange_stream_start_as(exchange, "text/event-stream", on_room);
}

void exchange_stream_start_as(struct exchange *exchange, const char *content_type,
                              void (*on_room)(struct http_request *http, void *exchange_of_room))
{
	exchange->status = 200;
	exchange_header(exchange, "Cache-Control", STR("no-cache"));
	http_stream_start(exchange->http, 200, content_type, on_room);
}

size_t exchange_stream_room(const struct exchange *exchange)
{
	return http_stream_room(exchange->http);
}

enum db_err exchange_stream_write(struct exchange *exchange, struct str bytes)
{
	return exchange->cover ? exchange->cover->write(exchange, bytes) : http_stream_write(exchange->http, bytes);
}

void exchange_stream_end(struct exchange *exchange)
{
	count(exchange, exchange->status);
	if (exchange->cover)
		exchange->cover->end(exchange);
	else
		http_stream_end(exchange->http);
}
