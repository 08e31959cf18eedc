#include <stdio.h>

#include "net/http2_internal.h"

static struct net_pool *pool_of(const struct http_request *request)
{
	return net_loop_pool(request->conn->server->loop);
}

/* --- sending --- */

static void on_turn(struct net_turn *turn)
{
	http2_flush(LIST_OF(turn, struct http2, turn));
}

void http2_schedule(struct http2 *http2)
{
	if (http2_stopped(http2))
		return;
	http2->turn.fn = on_turn;
	net_at_turn_end(http2->conn->server->loop, &http2->turn);
}

/* Moves frames from the session to the stream, up to the bound. False when the connection is at its end. */
static bool send_frames(struct http2 *http2)
{
	struct net_stream *stream = http2->conn->stream;
	while (net_stream_queued(stream) < HTTP_QUEUE_BYTES) {
		const uint8_t *bytes;
		ssize_t len = nghttp2_session_mem_send(http2->session, &bytes);
		if (http2_stopped(http2))
			return false;
		if (len < 0 || (len > 0 && net_stream_write(stream, bytes, (size_t)len))) {
			http_conn_abort(http2->conn);
			return false;
		}
		if (len == 0)
			break;
	}
	return true;
}

/* Handlers are told of room here, not from inside nghttp2. A request stays in the list until nghttp2 closes its stream, which
 * it does not do meanwhile; only the whole connection can go. False when it did. */
static bool tell_room(struct http2 *http2)
{
	http2->room_ready = false;
	LIST_EACH (link, &http2->requests) {
		http_request_tell_room(LIST_OF(link, struct http_request, link));
		if (http2_stopped(http2))
			return false;
	}
	return true;
}

void http2_flush(struct http2 *http2)
{
	struct http_conn *conn = http2->conn;
	if (http2_stopped(http2))
		return;
	http_conn_enter(conn);
	bool going = send_frames(http2);
	while (going && http2->room_ready)
		going = tell_room(http2) && send_frames(http2);
	if (going && !nghttp2_session_want_read(http2->session) && !nghttp2_session_want_write(http2->session))
		http2_close(http2);
	http_conn_leave(conn);
}

static ssize_t on_read_source(nghttp2_session *session, int32_t stream_id, uint8_t *into, size_t size, uint32_t *flags,
                              nghttp2_data_source *source, void *user_data)
{
	(void)session;
	(void)stream_id;
	(void)into;
	struct http2 *http2 = user_data;
	if (http2_stopped(http2))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	struct http_request *request = source->ptr;
	size_t len = request->out.len < size ? request->out.len : size;
	if (len == 0 && !request->out_done) {
		request->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (request->out_done && len == request->out.len)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)len;
}

int http2_on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *frame_head, size_t length,
                       nghttp2_data_source *source, void *user_data)
{
	(void)session;
	(void)frame; /* never padded: no callback asks for it */
	struct http2 *http2 = user_data;
	if (http2_stopped(http2))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	struct http_request *request = source->ptr;
	struct net_stream *stream = http2->conn->stream;
	enum db_err err = net_stream_write(stream, frame_head, 9);
	while (!err && length > 0) {
		struct str part = net_queue_peek(&request->out);
		if (part.len > length)
			part.len = length;
		err = net_stream_write(stream, part.at, part.len);
		length -= part.len;
		net_queue_consume(&request->out, pool_of(request), part.len);
	}
	request->progress_us = net_now_us(http2->conn->server->loop);
	if (request->room_due && request->out.len <= HTTP_STREAM_SOFT_BYTES / 2)
		http2->room_ready = true;
	return err ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

int http2_on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct http2 *http2 = user_data;
	if (http2_stopped(http2))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	uint32_t code = frame->hd.type == NGHTTP2_RST_STREAM ? frame->rst_stream.error_code : NGHTTP2_NO_ERROR;
	if (code == NGHTTP2_PROTOCOL_ERROR || code == NGHTTP2_FLOW_CONTROL_ERROR || code == NGHTTP2_STREAM_CLOSED ||
	    code == NGHTTP2_FRAME_SIZE_ERROR)
		http2_count_reset(http2); /* made by the client's fault, and as dear to us as its own */
	bool ends =
	    (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
	if (!ends)
		return 0;
	struct http_request *request = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	if (request && !request->body_done) /* the answer is complete without the rest of the body (RFC 9113, 8.1) */
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	return 0;
}

/* --- answers --- */

static nghttp2_nv pair(struct str name, struct str value)
{
	return (nghttp2_nv){(uint8_t *)(uintptr_t)name.at, (uint8_t *)(uintptr_t)value.at, name.len, value.len,
	                    NGHTTP2_NV_FLAG_NONE};
}

/* length < 0: not told. Without a body the head ends the stream. */
static void submit_head(struct http_request *request, int status, int64_t length, bool body_follows)
{
	nghttp2_nv head[HTTP_FIELDS_MAX + 3];
	size_t count = 0;
	char status_text[16], length_text[24];
	snprintf(status_text, sizeof status_text, "%d", status);
	head[count++] = pair(STR(":status"), str_of(status_text));
	head[count++] = pair(STR("date"), http_server_date(request->conn->server));
	for (uint32_t i = 0; i < request->answer.count; i++) {
		struct str name = http_fields_name_at(&request->answer, i);
		if (!str_is(name, "upgrade")) /* has no meaning in HTTP/2 (RFC 9113, 8.2.2) */
			head[count++] = pair(name, http_fields_value_at(&request->answer, i));
	}
	if (length >= 0) {
		snprintf(length_text, sizeof length_text, "%lld", (long long)length);
		head[count++] = pair(STR("content-length"), str_of(length_text));
	}
	nghttp2_data_provider provider = {.source.ptr = request, .read_callback = on_read_source};
	struct http2 *http2 = request->conn->http2;
	if (nghttp2_submit_response(http2->session, request->stream_id, head, count, body_follows ? &provider : NULL))
		http2_reset(request, NGHTTP2_INTERNAL_ERROR);
	http2_schedule(http2);
}

static enum db_err queue_body(struct http_request *request, struct str bytes)
{
	if (request->out.len == 0)
		request->progress_us = net_now_us(request->conn->server->loop);
	enum db_err err = net_queue_append(&request->out, pool_of(request), bytes.at, bytes.len);
	if (err) {
		http2_reset(request, NGHTTP2_INTERNAL_ERROR);
		return err;
	}
	return DB_OK;
}

void http2_respond(struct http_request *request, int status, struct str body)
{
	bool has_body = http_status_has_body(status);
	bool sends_body = has_body && body.len > 0 && !http_request_is(request, "HEAD");
	request->out_done = true;
	if (!sends_body || queue_body(request, body) == DB_OK)
		submit_head(request, status, has_body ? (int64_t)body.len : -1, sends_body);
	http_request_finish(request);
}

void http2_refuse(struct http_request *request, int status)
{
	struct str text = str_of(http_status_text(status));
	http_fields_clear(&request->answer);
	(void)http_fields_add(&request->answer, STR("content-type"), STR("text/plain"));
	request->answered = true;
	http2_respond(request, status, text);
}

void http2_start(struct http_request *request, int status)
{
	request->headless = http_request_is(request, "HEAD") || !http_status_has_body(status);
	submit_head(request, status, -1, true);
}

static void resume(struct http_request *request)
{
	struct http2 *http2 = request->conn->http2;
	if (request->deferred) {
		request->deferred = false;
		nghttp2_session_resume_data(http2->session, request->stream_id);
	}
	http2_schedule(http2);
}

enum db_err http2_write(struct http_request *request, struct str bytes)
{
	if (request->headless)
		return DB_OK;
	enum db_err err = queue_body(request, bytes);
	if (!err)
		resume(request);
	return err;
}

void http2_end(struct http_request *request)
{
	request->out_done = true;
	resume(request);
	http_request_finish(request);
}

void http2_reset(struct http_request *request, uint32_t error_code)
{
	struct http2 *http2 = request->conn->http2;
	nghttp2_submit_rst_stream(http2->session, NGHTTP2_FLAG_NONE, request->stream_id, error_code);
	http2_schedule(http2);
}

void http2_abort(struct http_request *request)
{
	http2_reset(request, NGHTTP2_INTERNAL_ERROR);
	http_request_finish(request);
}

size_t http2_queued(const struct http_request *request)
{
	return request->out.len;
}
