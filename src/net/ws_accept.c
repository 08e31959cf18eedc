/* The server's side of the opening handshake (RFC 6455 4.2). */
#include "core/encode.h"
#include "net/http_header.h"
#include "net/http_internal.h"
#include "net/ws_internal.h"

static void refuse(struct http_request *request, int status, struct str sentence)
{
	http_respond(request, status, "text/plain; charset=utf-8", sentence);
}

/* Answers and returns false when the request is no valid handshake. */
static bool check_request(struct http_request *request, struct str *key)
{
	if (!str_is(http_method(request), "GET")) {
		http_add_header(request, "Allow", STR("GET"));
		refuse(request, 405, STR("A WebSocket is opened with GET.\n"));
		return false;
	}
	if (!http_header_has_token(http_header_get(request, "upgrade"), "websocket") ||
	    !http_header_has_token(http_header_get(request, "connection"), "upgrade")) {
		http_add_header(request, "Upgrade", STR("websocket"));
		refuse(request, 426, STR("This address speaks WebSocket: ask with Connection: Upgrade over HTTP/1.1.\n"));
		return false;
	}
	if (!str_is(http_header_get(request, "sec-websocket-version"), "13")) {
		http_add_header(request, "Sec-WebSocket-Version", STR("13"));
		refuse(request, 426, STR("Only WebSocket version 13 is spoken here.\n"));
		return false;
	}
	uint8_t nonce[16];
	*key = http_header_get(request, "sec-websocket-key");
	if (base64_decode_exact(*key, nonce, sizeof nonce) != DB_OK) {
		refuse(request, 400, STR("Sec-WebSocket-Key must be the base64 text of 16 bytes.\n"));
		return false;
	}
	return true;
}

static enum db_err write_answer(struct net_stream *stream, const char *accept)
{
	struct buf answer;
	buf_init(&answer, 512);
	buf_append_c(&answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	                      "Sec-WebSocket-Accept: ");
	buf_append_c(&answer, accept);
	buf_append_c(&answer, "\r\n\r\n");
	enum db_err err = answer.failed ? DB_E_NOMEM : net_stream_write(stream, answer.at, answer.len);
	buf_free(&answer);
	return err;
}

struct ws *ws_accept(struct http_request *request, const struct ws_handler *handler, const struct ws_limits *limits, void *user)
{
	struct str key;
	if (!check_request(request, &key))
		return NULL;
	char accept[29];
	ws_accept_key(key, accept);

	struct buf early;
	struct net_stream *stream = http1_take_stream(request, &early);
	if (!stream) {
		refuse(request, 400, STR("A WebSocket handshake is an HTTP/1.1 request without a body.\n"));
		return NULL;
	}
	struct ws *ws =
	    write_answer(stream, accept) == DB_OK ? ws_new(stream, WS_SERVER, handler, limits, buf_str(&early), user) : NULL;
	if (!ws) {
		static const struct net_stream_handler ignore;
		net_stream_set_handler(stream, &ignore, NULL);
		net_stream_abort(stream);
	}
	buf_free(&early);
	return ws;
}
