#include "net/http1_internal.h"

/* What may still come of an unwanted body before closing the connection is the cheaper way to be rid of it. */
#define DROP_BODY_BYTES (64u << 10)

struct head_text {
	char at[192];
	size_t len;
};

static void put(struct head_text *text, struct str part)
{
	if (part.len > sizeof text->at - text->len)
		return;
	memcpy(text->at + text->len, part.at, part.len);
	text->len += part.len;
}

static void put_number(struct head_text *text, uint64_t number)
{
	char digits[20];
	size_t at = sizeof digits;
	do
		digits[--at] = (char)('0' + number % 10);
	while ((number /= 10) > 0);
	put(text, (struct str){digits + at, sizeof digits - at});
}

static struct str chunk_head(size_t len, char out[20])
{
	size_t at = 20;
	out[--at] = '\n';
	out[--at] = '\r';
	do
		out[--at] = "0123456789abcdef"[len & 15];
	while ((len >>= 4) > 0);
	return (struct str){out + at, 20 - at};
}

static bool body_will_be_read(const struct http1 *http1)
{
	if (http1->phase == HTTP1_COMPLETE)
		return true;
	bool known_and_small = !(http1->parser.flags & F_CHUNKED) && http1->parser.content_length <= DROP_BODY_BYTES;
	return http1->phase == HTTP1_BODY && known_and_small && !http1->continue_due;
}

static void put_status_line(struct head_text *text, int status)
{
	put(text, STR("HTTP/1.1 "));
	put_number(text, (uint64_t)status);
	put(text, STR(" "));
	put(text, str_of(http_status_text(status)));
}

enum { LENGTH_NONE = -1, LENGTH_CHUNKED = -2, LENGTH_TO_THE_END = -3 };

static void write_head(struct http1 *http1, const struct http_fields *fields, int status, int64_t length)
{
	struct http_server *server = http1->conn->server;
	struct head_text first = {.len = 0}, last = {.len = 0};
	put_status_line(&first, status);
	put(&first, STR("\r\ndate: "));
	put(&first, http_server_date(server));
	put(&first, STR("\r\n"));
	if (length >= 0) {
		put(&last, STR("content-length: "));
		put_number(&last, (uint64_t)length);
		put(&last, STR("\r\n"));
	} else if (length == LENGTH_CHUNKED) {
		put(&last, STR("transfer-encoding: chunked\r\n"));
	}
	bool upgrade = fields && http_fields_find(fields, STR("upgrade")).at;
	if (!http1->keep_alive)
		put(&last, upgrade ? STR("connection: close, upgrade\r\n") : STR("connection: close\r\n"));
	else if (upgrade)
		put(&last, STR("connection: upgrade\r\n"));
	else if (http1->old)
		put(&last, STR("connection: keep-alive\r\n"));
	put(&last, STR("\r\n"));
	struct str parts[] = {{first.at, first.len}, fields ? buf_str(&fields->text) : STR_NONE, {last.at, last.len}};
	(void)net_stream_write_parts(http1->conn->stream, parts, 3);
}

void http1_respond(struct http_request *request, int status, struct str body)
{
	struct http1 *http1 = request->conn->http1;
	http1->headless = http_request_is(request, "HEAD") || !http_status_has_body(status);
	http1->keep_alive = !http1->wants_close && !request->conn->server->draining && body_will_be_read(http1);
	write_head(http1, &request->answer, status, http_status_has_body(status) ? (int64_t)body.len : LENGTH_NONE);
	if (!http1->headless && body.len > 0)
		(void)net_stream_write(request->conn->stream, body.at, body.len);
	http1_answered(http1);
}

void http1_start(struct http_request *request, int status)
{
	struct http1 *http1 = request->conn->http1;
	http1->headless = http_request_is(request, "HEAD") || !http_status_has_body(status);
	http1->chunked = !http1->headless && !http1->old;
	bool to_the_end = !http1->headless && http1->old;
	http1->keep_alive = !http1->wants_close && !to_the_end && !request->conn->server->draining && body_will_be_read(http1);
	write_head(http1, &request->answer, status, http1->chunked ? LENGTH_CHUNKED : to_the_end ? LENGTH_TO_THE_END : LENGTH_NONE);
}

enum db_err http1_write(struct http_request *request, struct str bytes)
{
	struct http1 *http1 = request->conn->http1;
	if (http1->headless)
		return DB_OK;
	if (!http1->chunked)
		return net_stream_write(request->conn->stream, bytes.at, bytes.len);
	char size[20];
	struct str parts[] = {chunk_head(bytes.len, size), bytes, STR("\r\n")};
	return net_stream_write_parts(request->conn->stream, parts, 3);
}

void http1_end(struct http_request *request)
{
	struct http1 *http1 = request->conn->http1;
	if (http1->chunked)
		(void)net_stream_write(request->conn->stream, "0\r\n\r\n", 5);
	http1_answered(http1);
}

void http1_cut_short(struct http_request *request)
{
	/* The missing last chunk tells the client. Where only the connection's end would end the body, nothing may look whole.
	 * Either way the answers of earlier requests, which may still be queued, go out. */
	if (request->conn->http1->chunked || !request->answered)
		http_conn_close(request->conn, false);
	else
		http_conn_cut(request->conn);
}

void http1_abort(struct http_request *request)
{
	http1_cut_short(request);
	http1_answered(request->conn->http1);
}

size_t http1_queued(const struct http_request *request)
{
	return net_stream_queued(request->conn->stream);
}

void http1_refuse(struct http1 *http1, int status)
{
	struct str text = str_of(http_status_text(status));
	struct http_fields type;
	http_fields_init(&type, 64);
	(void)http_fields_add(&type, STR("content-type"), STR("text/plain"));
	http1->keep_alive = false;
	write_head(http1, &type, status, (int64_t)text.len);
	http_fields_free(&type);
	if (!http1->request || !http_request_is(http1->request, "HEAD"))
		(void)net_stream_write(http1->conn->stream, text.at, text.len);
	http_conn_close(http1->conn, true);
}
