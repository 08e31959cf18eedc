#include <stdlib.h>

#include "net/http_internal.h"

#define SPARE_REQUESTS_MAX     256u
#define SPARE_BYTES_MAX        (32u << 10) /* a request that grew larger is freed, not kept */
#define ANSWER_HEAD_BYTES_MAX  (64u << 10)
#define DEFAULT_BODY_BYTES_MAX (64 << 20)

/* --- life --- */

static void request_free(struct http_request *request)
{
	arena_free(request->arena);
	buf_free(&request->target);
	http_fields_free(&request->head);
	buf_free(&request->body);
	http_fields_free(&request->answer);
	free(request);
}

static struct http_request *request_make(uint32_t max_header_bytes)
{
	struct http_request *request = calloc(1, sizeof *request);
	if (!request)
		return NULL;
	request->arena = arena_new(0);
	buf_init(&request->target, max_header_bytes);
	http_fields_init(&request->head, max_header_bytes + 2 * HTTP_FIELDS_MAX);
	buf_init(&request->body, 0);
	http_fields_init(&request->answer, ANSWER_HEAD_BYTES_MAX);
	if (!request->arena) {
		request_free(request);
		return NULL;
	}
	return request;
}

struct http_request *http_request_new(struct http_conn *conn)
{
	struct http_server *server = conn->server;
	struct list_link *spare = list_pop_front(&server->spare_requests);
	struct http_request *request =
	    spare ? LIST_OF(spare, struct http_request, link) : request_make(server->options.max_header_bytes);
	if (!request)
		return NULL;
	request->conn = conn;
	request->started_us = request->progress_us = net_now_us(server->loop);
	return request;
}

/* Everything back to how request_make left it, the memory kept. */
static void request_recycle(struct http_request *request, struct http_server *server)
{
	struct http_request clean = {
	    .arena = request->arena,
	    .target = request->target,
	    .head = request->head,
	    .answer = request->answer,
	};
	buf_init(&clean.body, 0);
	*request = clean;
	list_push_front(&server->spare_requests, &request->link);
}

void http_requests_free(struct list *spares)
{
	for (struct list_link *link; (link = list_pop_front(spares));)
		request_free(LIST_OF(link, struct http_request, link));
}

static void request_retire(struct http_request *request)
{
	struct http_server *server = request->conn->server;
	size_t kept = request->target.cap + request->head.text.cap + request->answer.text.cap;
	if (server && request->arena && server->spare_requests.count < SPARE_REQUESTS_MAX && kept <= SPARE_BYTES_MAX)
		request_recycle(request, server);
	else
		request_free(request);
}

void http_request_hold(struct http_request *request)
{
	request->held++;
}

void http_request_release(struct http_request *request)
{
	if (--request->held == 0 && request->over)
		request_retire(request);
}

void http_request_over(struct http_request *request)
{
	request->over = true;
	if (request->held == 0)
		request_retire(request);
}

static void wipe_arena(struct http_request *request)
{
	if (arena_used(request->arena) <= SPARE_BYTES_MAX) {
		arena_reset(request->arena);
		return;
	}
	arena_free(request->arena);
	request->arena = arena_new(0);
}

void http_request_finish(struct http_request *request)
{
	request->ended = true;
	request->on_gone = NULL;
	request->on_room = NULL;
	request->user = NULL;
	request->path = request->query = STR_NONE;
	wipe_arena(request);
	buf_clear(&request->target);
	http_fields_clear(&request->head);
	buf_free(&request->body);
	http_fields_clear(&request->answer);
}

void http_request_gone(struct http_request *request)
{
	if (request->ended)
		return;
	void (*on_gone)(struct http_request *, void *) = request->on_gone;
	http_request_hold(request);
	request->ended = true; /* what the handler still tries to send goes nowhere */
	if (on_gone)
		on_gone(request, request->user);
	http_request_finish(request);
	http_request_release(request);
}

/* --- for the protocols --- */

bool http_request_set_target(struct http_request *request)
{
	struct str target = buf_str(&request->target);
	for (size_t i = 0; i < target.len; i++) {
		unsigned char c = (unsigned char)target.at[i];
		if (c <= ' ' || c >= 0x7f || c == '#')
			return false;
	}
	/* The absolute form, as sent to proxies, must be understood (RFC 9112, 3.2.2). */
	if (str_starts(target, STR("http://")) || str_starts(target, STR("https://"))) {
		size_t authority = target.at[4] == 's' ? strlen("https://") : strlen("http://");
		const char *slash = memchr(target.at + authority, '/', target.len - authority);
		target = slash ? (struct str){slash, (size_t)(target.at + target.len - slash)} : STR("/");
	}
	if (target.len == 0 || (target.at[0] != '/' && !str_is(target, "*")))
		return false;
	request->query = str_cut(target, '?', &request->path);
	return true;
}

bool http_request_is(const struct http_request *request, const char *method)
{
	return strcmp(request->method, method) == 0;
}

void http_request_tell_room(struct http_request *request)
{
	if (request->ended || !request->room_due || http_stream_room(request) == 0)
		return;
	request->room_due = false;
	if (request->on_room)
		request->on_room(request, request->user);
}

int64_t http_request_admit(struct http_request *request)
{
	const struct http_server_options *options = &request->conn->server->options;
	request->seen = true;
	if (!options->on_head)
		return DEFAULT_BODY_BYTES_MAX;
	http_request_hold(request);
	int64_t limit = options->on_head(request, options->context);
	if (limit < 0 && !request->answered && !request->ended)
		http_respond(request, 500, NULL, STR_NONE); /* the handler promised an answer */
	if (request->ended || request->answered)
		limit = -1;
	http_request_release(request);
	return limit;
}

void http_request_too_large(struct http_request *request)
{
	const struct http_server_options *options = &request->conn->server->options;
	buf_free(&request->body);
	if (options->on_body_too_large)
		options->on_body_too_large(request, options->context);
	else
		http_respond(request, 413, NULL, STR_NONE);
}

bool http_status_has_body(int status)
{
	return status >= 200 && status != 204 && status != 304;
}

/* --- what handlers read --- */

struct str http_method(const struct http_request *request)
{
	return str_of(request->method);
}

struct str http_path(const struct http_request *request)
{
	return request->path;
}

struct str http_query(const struct http_request *request)
{
	return request->query;
}

struct str http_header_get(const struct http_request *request, const char *lower_case_name)
{
	return http_fields_find(&request->head, str_of(lower_case_name));
}

struct str http_body(const struct http_request *request)
{
	return buf_str(&request->body);
}

struct str http_peer(const struct http_request *request)
{
	if (!request->conn->stream)
		return STR_NONE;
	struct str peer = net_stream_peer(request->conn->stream);
	size_t end = peer.len;
	while (end > 0 && peer.at[end - 1] != ':')
		end--;
	struct str host = end > 0 ? str_sub(peer, 0, end - 1) : peer;
	if (host.len > 2 && host.at[0] == '[')
		return str_sub(host, 1, host.len - 2);
	return host;
}

struct arena *http_arena(struct http_request *request)
{
	return request->arena;
}

uint64_t http_started_us(const struct http_request *request)
{
	return request->started_us;
}

void http_set_user(struct http_request *request, void *user)
{
	request->user = user;
}

void *http_user(const struct http_request *request)
{
	return request->user;
}

void http_set_on_gone(struct http_request *request, void (*on_gone)(struct http_request *request, void *user))
{
	if (!request->ended)
		request->on_gone = on_gone;
}

/* --- what handlers answer --- */

/* Framing is the protocol's business: these would contradict it. */
static bool is_framing(struct str name)
{
	static const char *const names[] = {"connection", "content-length", "date", "keep-alive", "transfer-encoding"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (str_eq_nocase(name, str_of(names[i])))
			return true;
	}
	return false;
}

enum db_err http_add_header(struct http_request *request, const char *name, struct str value)
{
	if (request->ended || request->answered)
		return DB_E_CLOSED;
	if (is_framing(str_of(name)))
		return DB_E_INVALID;
	return http_fields_add(&request->answer, str_of(name), value);
}

static bool begin_answer(struct http_request *request, const char *content_type)
{
	if (request->ended || request->answered || !request->conn->stream)
		return false;
	if (content_type)
		(void)http_add_header(request, "content-type", str_of(content_type));
	request->answered = true;
	return true;
}

void http_respond(struct http_request *request, int status, const char *content_type, struct str body)
{
	if (begin_answer(request, content_type))
		request->conn->protocol->respond(request, status, body);
}

void http_stream_start(struct http_request *request, int status, const char *content_type,
                       void (*on_room)(struct http_request *request, void *user))
{
	if (!begin_answer(request, content_type))
		return;
	request->on_room = on_room;
	request->conn->protocol->start(request, status);
	request->room_due = http_stream_room(request) == 0;
}

static bool is_streaming(const struct http_request *request)
{
	return request->answered && !request->ended && request->conn->stream;
}

size_t http_stream_room(const struct http_request *request)
{
	if (!is_streaming(request))
		return 0;
	size_t queued = request->conn->protocol->queued(request);
	return queued < HTTP_STREAM_SOFT_BYTES ? HTTP_STREAM_SOFT_BYTES - queued : 0;
}

enum db_err http_stream_write(struct http_request *request, struct str bytes)
{
	if (!is_streaming(request))
		return DB_E_CLOSED;
	if (bytes.len == 0)
		return DB_OK;
	size_t queued = request->conn->protocol->queued(request);
	if (bytes.len > HTTP_STREAM_HARD_BYTES || queued > HTTP_STREAM_HARD_BYTES - bytes.len)
		return DB_E_LIMIT;
	enum db_err err = request->conn->protocol->write(request, bytes);
	if (http_stream_room(request) == 0) /* asked anew: the protocol may have added its framing */
		request->room_due = true;
	return err;
}

void http_stream_end(struct http_request *request)
{
	if (is_streaming(request))
		request->conn->protocol->end(request);
}

void http_stream_abort(struct http_request *request)
{
	if (!request->ended && request->conn->stream)
		request->conn->protocol->abort(request);
}

const char *http_status_text(int status)
{
	switch (status) {
	case 100:
		return "Continue";
	case 101:
		return "Switching Protocols";
	case 200:
		return "OK";
	case 201:
		return "Created";
	case 202:
		return "Accepted";
	case 204:
		return "No Content";
	case 206:
		return "Partial Content";
	case 301:
		return "Moved Permanently";
	case 302:
		return "Found";
	case 303:
		return "See Other";
	case 304:
		return "Not Modified";
	case 307:
		return "Temporary Redirect";
	case 308:
		return "Permanent Redirect";
	case 400:
		return "Bad Request";
	case 401:
		return "Unauthorized";
	case 402:
		return "Payment Required";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 408:
		return "Request Timeout";
	case 409:
		return "Conflict";
	case 410:
		return "Gone";
	case 411:
		return "Length Required";
	case 412:
		return "Precondition Failed";
	case 413:
		return "Content Too Large";
	case 414:
		return "URI Too Long";
	case 415:
		return "Unsupported Media Type";
	case 417:
		return "Expectation Failed";
	case 421:
		return "Misdirected Request";
	case 422:
		return "Unprocessable Content";
	case 425:
		return "Too Early";
	case 426:
		return "Upgrade Required";
	case 428:
		return "Precondition Required";
	case 429:
		return "Too Many Requests";
	case 431:
		return "Request Header Fields Too Large";
	case 499:
		return "Client Closed Request";
	case 500:
		return "Internal Server Error";
	case 501:
		return "Not Implemented";
	case 502:
		return "Bad Gateway";
	case 503:
		return "Service Unavailable";
	case 504:
		return "Gateway Timeout";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Unknown";
	}
}
