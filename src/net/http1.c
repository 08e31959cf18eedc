#include <stdlib.h>

#include "net/http1_internal.h"

#define BEHIND_PAUSE_BYTES (64u << 10) /* reading stops above */
#define BEHIND_MAX_BYTES   (BEHIND_PAUSE_BYTES + NET_READ_BUFFER_BYTES)
#define BODY_AT_ONCE_BYTES (256u << 10) /* reserved on a promise of Content-Length alone */
#define STALL_CHECK_MS     15000u       /* at least that often */

static const struct http_server_options *options_of(const struct http1 *http1)
{
	return &http1->conn->server->options;
}

static void watch_for_stall(struct http_conn *conn)
{
	uint32_t idle_ms = conn->server->options.idle_timeout_ms;
	http_conn_timer(conn, idle_ms < STALL_CHECK_MS ? idle_ms : STALL_CHECK_MS);
}

/* --- what the parser finds --- */

static int fail_parsing(struct http1 *http1, enum db_err err)
{
	http1->failed = true;
	http1->fail_status = err == DB_E_LIMIT ? 431 : 500;
	return HPE_USER;
}

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
	struct http1 *http1 = parser->data;
	enum db_err err = buf_append(&http1->request->target, at, len);
	return err ? fail_parsing(http1, err) : 0;
}

/* Trailers are read past: nothing here has a use for them. */
static int on_header_field(llhttp_t *parser, const char *at, size_t len)
{
	struct http1 *http1 = parser->data;
	if (http1->head_read)
		return 0;
	struct http_fields *head = &http1->request->head;
	enum db_err err = http1->in_name ? DB_OK : http_fields_begin(head);
	http1->in_name = true;
	if (!err)
		err = http_fields_name(head, at, len);
	return err ? fail_parsing(http1, err) : 0;
}

static int on_header_field_complete(llhttp_t *parser)
{
	struct http1 *http1 = parser->data;
	if (http1->head_read)
		return 0;
	http1->in_name = false;
	enum db_err err = http_fields_value_begin(&http1->request->head);
	return err ? fail_parsing(http1, err) : 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t len)
{
	struct http1 *http1 = parser->data;
	if (http1->head_read)
		return 0;
	enum db_err err = http_fields_value(&http1->request->head, at, len);
	return err ? fail_parsing(http1, err) : 0;
}

static int on_header_value_complete(llhttp_t *parser)
{
	struct http1 *http1 = parser->data;
	if (http1->head_read)
		return 0;
	enum db_err err = http_fields_end(&http1->request->head);
	return err ? fail_parsing(http1, err) : 0;
}

/* Handlers are never called from inside the parser: it is paused, and advance() does it. */
static int on_headers_complete(llhttp_t *parser)
{
	struct http1 *http1 = parser->data;
	http1->pause = HTTP1_AT_HEAD_END;
	return HPE_PAUSED;
}

static bool takes_body(const struct http1 *http1)
{
	return http1->request && !http1->request->body_drop && !http1->request->answered;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
	struct http1 *http1 = parser->data;
	if (!takes_body(http1))
		return 0;
	enum db_err err = buf_append(&http1->request->body, at, len);
	if (err == DB_OK)
		return 0;
	if (err != DB_E_LIMIT)
		return fail_parsing(http1, err);
	http1->pause = HTTP1_AT_BODY_LIMIT;
	return HPE_PAUSED;
}

static int on_message_complete(llhttp_t *parser)
{
	struct http1 *http1 = parser->data;
	http1->pause = HTTP1_AT_MESSAGE_END;
	return HPE_PAUSED;
}

static const llhttp_settings_t parser_settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* --- from one request to the next --- */

static void on_turn(struct net_turn *turn);

static struct http1 *http1_new(struct http_conn *conn)
{
	struct http1 *http1 = calloc(1, sizeof *http1);
	if (!http1)
		return NULL;
	http1->conn = conn;
	http1->loop = conn->server->loop;
	http1->turn.fn = on_turn;
	buf_init(&http1->behind, BEHIND_MAX_BYTES);
	return http1;
}

static void http1_free(struct http1 *http1)
{
	net_turn_cancel(http1->loop, &http1->turn);
	buf_free(&http1->behind);
	free(http1);
}

static bool begin_request(struct http1 *http1)
{
	struct http_request *request = http_request_new(http1->conn);
	if (!request)
		return false;
	http1->request = request;
	http1->phase = HTTP1_HEAD;
	http1->pause = HTTP1_NOT_PAUSED;
	http1->head_bytes = 0;
	http1->in_name = http1->head_read = http1->wants_close = http1->keep_alive = false;
	http1->chunked = http1->headless = http1->old = http1->continue_due = false;
	llhttp_init(&http1->parser, HTTP_REQUEST, &parser_settings);
	http1->parser.data = http1;
	return true;
}

/* The request is read and answered. Goes idle, or on to what the client sent meanwhile. */
static void next_request(struct http1 *http1)
{
	struct http_conn *conn = http1->conn;
	http1->phase = HTTP1_BETWEEN;
	if (http1->running)
		return; /* advance() goes on */
	if (http1->behind.len > 0) {
		net_at_turn_end(http1->loop, &http1->turn);
		return;
	}
	conn->http1 = NULL;
	http1_free(http1);
	http_conn_timer(conn, conn->server->options.idle_timeout_ms);
}

void http1_answered(struct http1 *http1)
{
	struct http_request *request = http1->request;
	http1->request = NULL;
	http_request_finish(request);
	http_request_over(request);
	if (http1->conn->closing)
		return;
	if (!http1->keep_alive)
		http_conn_close(http1->conn, http1->phase != HTTP1_COMPLETE || http1->behind.len > 0);
	else if (http1->phase == HTTP1_COMPLETE)
		next_request(http1);
}

/* --- a complete head --- */

/* The status to refuse a head with that llhttp accepts and RFC 9112 (or safety) does not, or 0. */
static int fault_in_head(struct http1 *http1)
{
	struct http_request *request = http1->request;
	const llhttp_t *parser = &http1->parser;
	const struct http_fields *head = &request->head;
	if (parser->http_major != 1 || parser->http_minor > 1)
		return 505;
	if (parser->method == HTTP_CONNECT)
		return 501;
	if (http1->head_bytes > options_of(http1)->max_header_bytes)
		return 431;
	uint32_t hosts = http_fields_count_of(head, STR("host"));
	if (hosts > 1 || (hosts == 0 && !http1->old))
		return 400;
	/* Two readings of a body's length are how requests are smuggled: one, plain, or none. */
	uint32_t lengths = http_fields_count_of(head, STR("content-length"));
	uint32_t codings = http_fields_count_of(head, STR("transfer-encoding"));
	if (lengths + codings > 1 || (codings > 0 && http1->old))
		return 400;
	if (codings > 0 && !str_eq_nocase(http_fields_find(head, STR("transfer-encoding")), STR("chunked")))
		return 501;
	if (!http_request_set_target(request))
		return 400;
	struct str expect = http_fields_find(head, STR("expect"));
	if (expect.at && !http1->old && !str_eq_nocase(expect, STR("100-continue")))
		return 417;
	return 0;
}

static bool expects_body(const struct http1 *http1)
{
	return (http1->parser.flags & F_CHUNKED) || http1->parser.content_length > 0;
}

static void body_too_large(struct http1 *http1)
{
	struct http_request *request = http1->request;
	request->body_drop = true;
	http1->wants_close = true;
	http_request_hold(request);
	http_request_too_large(request);
	http_request_release(request);
}

static void admit(struct http1 *http1)
{
	struct http_request *request = http1->request;
	int64_t limit = http_request_admit(request);
	if (http1->conn->dead || http1->conn->closing)
		return;
	if (limit < 0)
		return; /* answered, or being answered, without the body */
	request->body.max = (uint64_t)limit > SIZE_MAX ? SIZE_MAX : (size_t)limit;
	if (!expects_body(http1))
		return;
	bool chunked = http1->parser.flags & F_CHUNKED;
	if (!chunked && http1->parser.content_length > (uint64_t)limit) {
		body_too_large(http1);
		return;
	}
	if (!chunked)
		(void)buf_reserve(&request->body, http1->parser.content_length < BODY_AT_ONCE_BYTES
		                                      ? (size_t)http1->parser.content_length
		                                      : BODY_AT_ONCE_BYTES);
	if (http1->continue_due) {
		http1->continue_due = false;
		(void)net_stream_write(http1->conn->stream, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	}
}

static void refuse(struct http1 *http1, int status)
{
	struct http_request *request = http1->request;
	bool begun = request && request->answered;
	if (request && request->seen)
		http_request_gone(request);
	if (http1->conn->dead || http1->conn->closing)
		return;
	if (begun)
		http1_cut_short(request); /* half an answer is out: nothing else can be said */
	else if (!request)
		http_conn_close(http1->conn, true); /* the whole answer is out, only its body was still coming */
	else
		http1_refuse(http1, status);
}

static void head_complete(struct http1 *http1)
{
	struct http_request *request = http1->request;
	struct str method = str_of(llhttp_method_name((llhttp_method_t)http1->parser.method));
	http1->head_read = true;
	http1->old = http1->parser.http_major == 1 && http1->parser.http_minor == 0;
	http1->wants_close = !llhttp_should_keep_alive(&http1->parser);
	(void)str_copy(method, request->method, sizeof request->method);
	int fault = fault_in_head(http1);
	if (fault) {
		refuse(http1, fault);
		return;
	}
	http1->phase = HTTP1_BODY;
	http1->continue_due = !http1->old && expects_body(http1) && http_fields_find(&request->head, STR("expect")).at;
	admit(http1);
}

static void message_complete(struct http1 *http1)
{
	http1->phase = HTTP1_COMPLETE;
	struct http_request *request = http1->request;
	if (!request) {
		next_request(http1);
		return;
	}
	if (request->answered || request->body_drop)
		return; /* the answer is under way */
	http_request_hold(request);
	options_of(http1)->on_request(request, options_of(http1)->context);
	http_request_release(request);
}

/* --- reading --- */

static bool keep_behind(struct http1 *http1, const char *data, size_t len)
{
	if (len == 0)
		return true;
	if (buf_append(&http1->behind, data, len)) {
		http_conn_abort(http1->conn);
		return false;
	}
	if (http1->behind.len >= BEHIND_PAUSE_BYTES)
		net_stream_pause(http1->conn->stream);
	return true;
}

static int status_of_fault(const struct http1 *http1)
{
	if (http1->failed)
		return http1->fail_status;
	switch (llhttp_get_errno(&http1->parser)) {
	case HPE_INVALID_VERSION:
		return 505;
	case HPE_INVALID_METHOD:
		return 501;
	default:
		return 400;
	}
}

static void parser_paused(struct http1 *http1)
{
	enum http1_pause pause = http1->pause;
	llhttp_resume(&http1->parser);
	if (pause == HTTP1_AT_HEAD_END) {
		head_complete(http1);
		return;
	}
	http1->pause = HTTP1_NOT_PAUSED;
	if (pause == HTTP1_AT_BODY_LIMIT)
		body_too_large(http1);
	else
		message_complete(http1);
}

/* Feeds the parser up to its next pause; `rest` is what it left. */
static void parse(struct http1 *http1, const char *data, size_t len)
{
	http1->pause = HTTP1_NOT_PAUSED;
	enum llhttp_errno err = llhttp_execute(&http1->parser, data, len);
	size_t used = err == HPE_OK ? len : (size_t)(llhttp_get_error_pos(&http1->parser) - data);
	http1->rest = (struct str){data + used, len - used};
	if (!http1->head_read)
		http1->head_bytes += used;
	if (err == HPE_PAUSED)
		parser_paused(http1);
	else if (err != HPE_OK)
		refuse(http1, status_of_fault(http1));
	else if (!http1->head_read && http1->head_bytes > options_of(http1)->max_header_bytes)
		refuse(http1, 431);
}

static void set_timer(struct http1 *http1, enum http1_phase before)
{
	const struct http_server_options *options = options_of(http1);
	switch (http1->phase) {
	case HTTP1_BETWEEN:
		http_conn_timer(http1->conn, options->idle_timeout_ms);
		break;
	case HTTP1_HEAD: /* one deadline for the whole head, however its bytes trickle in */
		if (before != HTTP1_HEAD)
			http_conn_timer(http1->conn, options->header_timeout_ms);
		break;
	case HTTP1_BODY:
		http_conn_timer(http1->conn, options->body_timeout_ms);
		break;
	case HTTP1_COMPLETE:
		watch_for_stall(http1->conn);
		break;
	}
}

/* Whether the parser has something to do: bytes, or a pause at the end of a head that may also be the end of the message. */
static bool can_go_on(const struct http1 *http1, size_t len)
{
	if (http1->conn->dead || http1->conn->closing || http1->phase == HTTP1_COMPLETE)
		return false;
	if (http1->phase == HTTP1_BETWEEN)
		return len > 0 && net_stream_queued(http1->conn->stream) < HTTP_QUEUE_BYTES;
	return len > 0 || http1->pause == HTTP1_AT_HEAD_END;
}

/* Old clients send one behind a body (RFC 9112, 2.2). */
static void skip_empty_lines(const char **data, size_t *len)
{
	while (*len > 0 && (**data == '\r' || **data == '\n')) {
		++*data;
		--*len;
	}
}

static void advance(struct http1 *http1, const char *data, size_t len)
{
	struct http_conn *conn = http1->conn;
	enum http1_phase before = http1->phase;
	http1->running = true;
	for (;;) {
		if (http1->phase == HTTP1_BETWEEN)
			skip_empty_lines(&data, &len);
		if (!can_go_on(http1, len))
			break;
		if (http1->phase == HTTP1_BETWEEN && !begin_request(http1)) {
			http_conn_abort(conn);
			break;
		}
		parse(http1, data, len);
		data = http1->rest.at;
		len = http1->rest.len;
	}
	http1->running = false;
	if (conn->dead || conn->closing || !keep_behind(http1, data, len))
		return;
	if (http1->phase == HTTP1_BETWEEN && http1->behind.len == 0)
		next_request(http1);
	else
		set_timer(http1, before);
}

static void http1_read(struct http_conn *conn, const char *data, size_t len)
{
	if (!conn->http1)
		conn->http1 = http1_new(conn);
	struct http1 *http1 = conn->http1;
	if (!http1)
		http_conn_abort(conn);
	else if (http1->phase == HTTP1_COMPLETE || http1->behind.len > 0)
		(void)keep_behind(http1, data, len);
	else
		advance(http1, data, len);
}

/* Goes on with what arrived behind the request that has just ended. */
static void on_turn(struct net_turn *turn)
{
	struct http1 *http1 = LIST_OF(turn, struct http1, turn);
	struct http_conn *conn = http1->conn;
	if (conn->closing || http1->phase == HTTP1_COMPLETE)
		return;
	struct buf taken = http1->behind;
	buf_init(&http1->behind, BEHIND_MAX_BYTES);
	http_conn_enter(conn);
	advance(http1, taken.at, taken.len);
	if (!conn->dead && !conn->closing && (!conn->http1 || conn->http1->behind.len < BEHIND_PAUSE_BYTES))
		net_stream_resume(conn->stream);
	http_conn_leave(conn);
	buf_free(&taken);
}

/* --- events --- */

static void http1_drained(struct http_conn *conn)
{
	struct http1 *http1 = conn->http1;
	if (!http1)
		return;
	if (http1->request) {
		struct http_request *request = http1->request;
		http_request_hold(request);
		http_request_tell_room(request);
		http_request_release(request);
	} else if (http1->phase == HTTP1_BETWEEN && http1->behind.len > 0) {
		net_at_turn_end(http1->loop, &http1->turn);
	}
}

/* A client that ends its side while it is owed an answer has left: browsers and SDKs do not half-close. */
static void http1_peer_ended(struct http_conn *conn)
{
	if (conn->http1 && conn->http1->phase != HTTP1_BETWEEN)
		http_conn_abort(conn);
	else
		http_conn_close(conn, false);
}

static void http1_timeout(struct http_conn *conn)
{
	struct http1 *http1 = conn->http1;
	enum http1_phase phase = http1 ? http1->phase : HTTP1_BETWEEN;
	bool owed = net_stream_queued(conn->stream) > 0;
	if (owed && http_conn_stalled(conn))
		http_conn_abort(conn);
	else if (phase == HTTP1_HEAD || phase == HTTP1_BODY)
		refuse(http1, 408);
	else if (owed || phase == HTTP1_COMPLETE)
		watch_for_stall(conn);
	else
		http_conn_close(conn, false);
}

static void http1_drain(struct http_conn *conn)
{
	if (!conn->http1) /* otherwise the answer says `Connection: close` */
		http_conn_close(conn, false);
}

static void http1_closed(struct http_conn *conn)
{
	struct http1 *http1 = conn->http1;
	if (!http1 || !http1->request)
		return;
	struct http_request *request = http1->request;
	http1->request = NULL;
	http_request_gone(request);
	http_request_over(request);
}

static void http1_free_state(struct http_conn *conn)
{
	if (conn->http1)
		http1_free(conn->http1);
	conn->http1 = NULL;
}

const struct http_protocol http1_protocol = {
    .read = http1_read,
    .drained = http1_drained,
    .peer_ended = http1_peer_ended,
    .timeout = http1_timeout,
    .drain = http1_drain,
    .closed = http1_closed,
    .free_state = http1_free_state,
    .respond = http1_respond,
    .start = http1_start,
    .write = http1_write,
    .end = http1_end,
    .abort = http1_abort,
    .queued = http1_queued,
};

/* --- upgrade --- */

struct net_stream *http1_take_stream(struct http_request *request, struct buf *leftover)
{
	struct http_conn *conn = request->conn;
	if (conn->protocol != &http1_protocol || request->ended || request->answered || !conn->stream || conn->closing)
		return NULL;
	struct http1 *http1 = conn->http1;
	if (http1->phase != HTTP1_COMPLETE || http1->old)
		return NULL;
	buf_init(leftover, BEHIND_MAX_BYTES);
	if (http1->running) {
		if (buf_append(leftover, http1->rest.at, http1->rest.len))
			return NULL;
	} else {
		struct buf none = *leftover;
		*leftover = http1->behind;
		http1->behind = none;
	}
	struct net_stream *stream = conn->stream;
	net_stream_resume(stream);
	conn->stream = NULL;
	http1->request = NULL;
	http_request_finish(request);
	http_request_over(request);
	http_conn_drop(conn);
	return stream;
}
