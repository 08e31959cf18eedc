#include <stdlib.h>

#include "core/log.h"
#include "net/http2_internal.h"

#define STREAM_WINDOW_BYTES (1u << 20)
#define CONN_WINDOW_BYTES   (8 << 20)
#define RESETS_FREE         200u /* in a window, beyond the streams that were completed in it */
#define RESET_WINDOW_US     10000000u
#define DRAIN_NOTICE_US     1000000u
#define TICK_MS_MAX         5000u

bool http2_stopped(const struct http2 *http2)
{
	return http2->conn->dead || http2->conn->closing;
}

static const struct http_server_options *options_of(const struct http2 *http2)
{
	return &http2->conn->server->options;
}

static uint64_t now_us(const struct http2 *http2)
{
	return net_now_us(http2->conn->server->loop);
}

void http2_end_session(struct http2 *http2, uint32_t error_code)
{
	http2->leaving = true;
	nghttp2_session_terminate_session(http2->session, error_code);
	http2_schedule(http2);
}

void http2_count_reset(struct http2 *http2)
{
	uint64_t now = now_us(http2);
	if (now - http2->window_us > RESET_WINDOW_US) {
		http2->window_us = now;
		http2->resets = http2->completed = 0;
	}
	if (++http2->resets <= RESETS_FREE + http2->completed || http2->leaving)
		return;
	log_warn("http2.too_many_resets", "peer=%.*s resets=%u", STR_ARG(net_stream_peer(http2->conn->stream)), http2->resets);
	http2_end_session(http2, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* --- a request's head --- */

static struct http_request *request_of(nghttp2_session *session, int32_t stream_id)
{
	return nghttp2_session_get_stream_user_data(session, stream_id);
}

static bool is_request_head(const nghttp2_frame *frame)
{
	return frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct http2 *http2 = user_data;
	if (http2_stopped(http2))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	http2->head_since_us = now_us(http2);
	if (!is_request_head(frame))
		return 0;
	struct http_request *request = http_request_new(http2->conn);
	if (!request)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	request->stream_id = frame->hd.stream_id;
	list_push_back(&http2->requests, &request->link);
	nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, request);
	return 0;
}

static void head_fault(struct http_request *request, int status)
{
	if (!request->head_bad)
		request->bad_status = status;
	request->head_bad = true;
}

static void take_pseudo_field(struct http_request *request, struct str name, struct str value)
{
	if (str_is(name, ":method")) {
		if (!str_copy(value, request->method, sizeof request->method))
			head_fault(request, 501);
	} else if (str_is(name, ":path")) {
		if (buf_append_str(&request->target, value))
			head_fault(request, 431);
	} else if (str_is(name, ":authority")) {
		if (http_fields_add(&request->head, STR("host"), value))
			head_fault(request, 400);
	}
}

static void take_field(struct http_request *request, struct str name, struct str value)
{
	if (str_is(name, "host") && http_fields_find(&request->head, name).at)
		return; /* :authority has precedence (RFC 9113, 8.3.1) */
	enum db_err err = http_fields_add(&request->head, name, value);
	if (err)
		head_fault(request, err == DB_E_INVALID ? 400 : 431);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, uint8_t flags, void *user_data)
{
	(void)flags;
	struct http2 *http2 = user_data;
	if (http2_stopped(http2))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	struct http_request *request = request_of(session, frame->hd.stream_id);
	if (!is_request_head(frame) || !request || request->head_bad)
		return 0;
	request->head_bytes += name_len + value_len + 32; /* as SETTINGS_MAX_HEADER_LIST_SIZE counts */
	struct str field_name = {(const char *)name, name_len};
	struct str field_value = {(const char *)value, value_len};
	if (request->head_bytes > options_of(http2)->max_header_bytes)
		head_fault(request, 431);
	else if (name_len > 0 && name[0] == ':')
		take_pseudo_field(request, field_name, field_value);
	else
		take_field(request, field_name, field_value);
	return 0;
}

/* Malformed fields make the request malformed (RFC 9113, 8.2.1); nghttp2 alone would drop them. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len,
                             const uint8_t *value, size_t value_len, uint8_t flags, void *user_data)
{
	(void)name;
	(void)name_len;
	(void)value;
	(void)value_len;
	(void)flags;
	(void)user_data;
	nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void body_too_large(struct http_request *request)
{
	request->body_drop = true;
	http_request_hold(request);
	http_request_too_large(request);
	http_request_release(request);
}

static void say_continue(struct http2 *http2, const struct http_request *request)
{
	nghttp2_nv status = {(uint8_t *)(uintptr_t) ":status", (uint8_t *)(uintptr_t) "100", 7, 3, NGHTTP2_NV_FLAG_NONE};
	nghttp2_submit_headers(http2->session, NGHTTP2_FLAG_NONE, request->stream_id, NULL, &status, 1, NULL);
	http2_schedule(http2);
}

static void admit(struct http2 *http2, struct http_request *request, bool body_follows)
{
	struct str promised = http_fields_find(&request->head, STR("content-length"));
	struct str expect = http_fields_find(&request->head, STR("expect"));
	int64_t limit = http_request_admit(request);
	if (http2_stopped(http2))
		return;
	if (limit < 0) {
		request->body_drop = true;
		return;
	}
	request->body.max = (uint64_t)limit > SIZE_MAX ? SIZE_MAX : (size_t)limit;
	uint64_t length;
	if (str_to_u64(promised, &length) && length > (uint64_t)limit)
		body_too_large(request);
	else if (body_follows && expect.at && str_eq_nocase(expect, STR("100-continue")))
		say_continue(http2, request);
}

static void head_complete(struct http2 *http2, struct http_request *request, bool body_follows)
{
	if (request->head_bad)
		http2_refuse(request, request->bad_status);
	else if (http_request_is(request, "CONNECT"))
		http2_refuse(request, 501);
	else if (!http_request_set_target(request))
		http2_refuse(request, 400);
	else
		admit(http2, request, body_follows);
}

/* --- a request's body --- */

static void body_complete(struct http2 *http2, struct http_request *request)
{
	request->body_done = true;
	if (request->answered || request->ended || request->body_drop)
		return;
	http_request_hold(request);
	options_of(http2)->on_request(request, options_of(http2)->context);
	http_request_release(request);
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t len,
                         void *user_data)
{
	(void)flags;
	struct http2 *http2 = user_data;
	if (http2_stopped(http2))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	struct http_request *request = request_of(session, stream_id);
	if (!request || request->ended || request->answered || request->body_drop)
		return 0;
	request->progress_us = now_us(http2);
	enum db_err err = buf_append(&request->body, data, len);
	if (err == DB_E_LIMIT)
		body_too_large(request);
	else if (err)
		http2_reset(request, NGHTTP2_INTERNAL_ERROR);
	return http2_stopped(http2) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* --- frames --- */

static void say_goaway(struct http2 *http2)
{
	http2->leaving = true;
	nghttp2_submit_goaway(http2->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(http2->session),
	                      NGHTTP2_NO_ERROR, NULL, 0);
	http2_schedule(http2);
}

static void take_head_frame(struct http2 *http2, const nghttp2_frame *frame)
{
	struct http_request *request = request_of(http2->session, frame->hd.stream_id);
	http2->head_since_us = 0;
	if (!request)
		return;
	bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
	http_request_hold(request);
	request->progress_us = now_us(http2);
	if (is_request_head(frame)) {
		request->body_done = ends;
		head_complete(http2, request, !ends);
	}
	if (ends && !http2_stopped(http2))
		body_complete(http2, request);
	http_request_release(request);
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user_data)
{
	struct http2 *http2 = user_data;
	if (http2_stopped(http2))
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	struct http_request *request;
	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		take_head_frame(http2, frame);
		break;
	case NGHTTP2_DATA:
		request = request_of(session, frame->hd.stream_id);
		if (request && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
			body_complete(http2, request);
		break;
	case NGHTTP2_RST_STREAM:
		http2_count_reset(http2);
		break;
	case NGHTTP2_PING:
		if ((frame->hd.flags & NGHTTP2_FLAG_ACK) && http2->notice_us && !http2->leaving)
			say_goaway(http2);
		break;
	default:
		break;
	}
	return http2_stopped(http2) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static void forget_request(struct http2 *http2, struct http_request *request)
{
	list_remove(&http2->requests, &request->link);
	net_queue_clear(&request->out, net_loop_pool(http2->loop));
	http_request_gone(request);
	http_request_over(request);
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code, void *user_data)
{
	struct http2 *http2 = user_data;
	struct http_request *request = request_of(session, stream_id);
	if (http2_stopped(http2) || !request)
		return 0;
	nghttp2_session_set_stream_user_data(session, stream_id, NULL);
	if (error_code == NGHTTP2_NO_ERROR)
		http2->completed++;
	http2->active_us = now_us(http2);
	forget_request(http2, request);
	return http2_stopped(http2) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static void http2_closed(struct http_conn *conn)
{
	struct http2 *http2 = conn->http2;
	for (struct list_link *link; (link = list_first(&http2->requests));)
		forget_request(http2, LIST_OF(link, struct http_request, link));
}

void http2_close(struct http2 *http2)
{
	http_conn_close(http2->conn, true);
	http2_closed(http2->conn); /* not only when the last bytes are flushed */
}

/* --- time --- */

static uint32_t tick_ms(const struct http_server_options *options)
{
	uint32_t shortest = options->header_timeout_ms;
	shortest = options->body_timeout_ms < shortest ? options->body_timeout_ms : shortest;
	shortest = options->idle_timeout_ms < shortest ? options->idle_timeout_ms : shortest;
	return shortest / 4 < TICK_MS_MAX ? shortest / 4 + 1 : TICK_MS_MAX;
}

static bool is_over(uint64_t since_us, uint64_t now, uint32_t limit_ms)
{
	return now - since_us >= (uint64_t)limit_ms * 1000;
}

/* One that gets nowhere: its body does not come, or its answer is not taken. */
static void check_request(struct http2 *http2, struct http_request *request, uint64_t now)
{
	const struct http_server_options *options = options_of(http2);
	bool body_late = !request->body_done && !request->answered && is_over(request->progress_us, now, options->body_timeout_ms);
	bool answer_stuck = request->out.len > 0 && is_over(request->progress_us, now, options->idle_timeout_ms);
	if (!body_late && !answer_stuck)
		return;
	http_request_hold(request);
	http_request_gone(request);
	if (!http2_stopped(http2)) {
		if (answer_stuck)
			http2_reset(request, NGHTTP2_CANCEL);
		else
			http2_refuse(request, 408);
	}
	http_request_release(request);
}

static void http2_timeout(struct http_conn *conn)
{
	struct http2 *http2 = conn->http2;
	const struct http_server_options *options = options_of(http2);
	uint64_t now = now_us(http2);
	if (http_conn_stalled(conn)) {
		http_conn_abort(conn);
		return;
	}
	if (http2->head_since_us && is_over(http2->head_since_us, now, options->header_timeout_ms))
		http2_end_session(http2, NGHTTP2_ENHANCE_YOUR_CALM);
	else if (http2->notice_us && !http2->leaving && now - http2->notice_us >= DRAIN_NOTICE_US)
		say_goaway(http2);
	else if (http2->requests.count == 0 && is_over(http2->active_us, now, options->idle_timeout_ms))
		http2_end_session(http2, NGHTTP2_NO_ERROR);
	LIST_EACH (link, &http2->requests) {
		check_request(http2, LIST_OF(link, struct http_request, link), now);
		if (http2_stopped(http2))
			return;
	}
	http_conn_timer(conn, tick_ms(options));
}

/* --- the connection's events --- */

static void http2_read(struct http_conn *conn, const char *data, size_t len)
{
	struct http2 *http2 = conn->http2;
	ssize_t taken = nghttp2_session_mem_recv(http2->session, (const uint8_t *)data, len);
	if (http2_stopped(http2))
		return;
	if (taken >= 0) {
		http2_schedule(http2);
		return;
	}
	http2_end_session(http2, taken == NGHTTP2_ERR_FLOODED ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR);
	http2_flush(http2);
	if (!http2_stopped(http2))
		http2_close(http2);
}

static void http2_drained(struct http_conn *conn)
{
	http2_flush(conn->http2);
}

static void http2_peer_ended(struct http_conn *conn)
{
	if (conn->http2->requests.count > 0)
		http_conn_abort(conn);
	else
		http_conn_close(conn, false);
}

/* First an announcement, then, when what was already on its way has arrived, the last stream that is served (RFC 9113, 6.8). */
static void http2_drain(struct http_conn *conn)
{
	struct http2 *http2 = conn->http2;
	if (http2->notice_us || http2->leaving)
		return;
	http2->notice_us = now_us(http2);
	nghttp2_submit_shutdown_notice(http2->session);
	nghttp2_submit_ping(http2->session, NGHTTP2_FLAG_NONE, NULL);
	http2_schedule(http2);
}

static void http2_free_state(struct http_conn *conn)
{
	struct http2 *http2 = conn->http2;
	net_turn_cancel(http2->loop, &http2->turn);
	nghttp2_session_del(http2->session);
	free(http2);
	conn->http2 = NULL;
}

/* --- beginning --- */

static int new_session(struct http2 *http2)
{
	nghttp2_session_callbacks *callbacks = NULL;
	nghttp2_option *option = NULL;
	int rc = nghttp2_session_callbacks_new(&callbacks);
	if (!rc)
		rc = nghttp2_option_new(&option);
	if (!rc) {
		nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
		nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
		nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
		nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
		nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
		nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
		nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, http2_on_frame_send);
		nghttp2_session_callbacks_set_send_data_callback(callbacks, http2_on_send_data);
		nghttp2_option_set_max_settings(option, 32);
		nghttp2_option_set_max_outbound_ack(option, 256); /* PING and SETTINGS floods */
		rc = nghttp2_session_server_new3(&http2->session, callbacks, http2, option, http2_memory());
	}
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	return rc;
}

bool http2_begin(struct http_conn *conn)
{
	const struct http_server_options *options = &conn->server->options;
	struct http2 *http2 = calloc(1, sizeof *http2);
	if (!http2)
		return false;
	http2->conn = conn;
	http2->loop = conn->server->loop;
	list_init(&http2->requests);
	http2->active_us = now_us(http2);
	nghttp2_settings_entry settings[] = {
	    {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options->max_streams},
	    {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
	    {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, options->max_header_bytes},
	};
	int rc = new_session(http2);
	if (!rc)
		rc = nghttp2_submit_settings(http2->session, NGHTTP2_FLAG_NONE, settings, sizeof settings / sizeof *settings);
	if (!rc)
		rc = nghttp2_session_set_local_window_size(http2->session, NGHTTP2_FLAG_NONE, 0, CONN_WINDOW_BYTES);
	if (rc) {
		nghttp2_session_del(http2->session);
		free(http2);
		return false;
	}
	conn->http2 = http2;
	http_conn_timer(conn, tick_ms(options));
	http2_schedule(http2);
	return true;
}

const struct http_protocol http2_protocol = {
    .read = http2_read,
    .drained = http2_drained,
    .peer_ended = http2_peer_ended,
    .timeout = http2_timeout,
    .drain = http2_drain,
    .closed = http2_closed,
    .free_state = http2_free_state,
    .respond = http2_respond,
    .start = http2_start,
    .write = http2_write,
    .end = http2_end,
    .abort = http2_abort,
    .queued = http2_queued,
};
