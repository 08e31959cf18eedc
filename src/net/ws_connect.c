/* The client's side of the opening handshake (RFC 6455 4.1). */
#include <stdlib.h>

#include <llhttp.h>

#include "core/encode.h"
#include "core/id.h"
#include "net/http_header.h"
#include "net/ws_internal.h"

#define ANSWER_MAX_BYTES   (16u << 10)
#define DEFAULT_TIMEOUT_MS 10000

struct ws_connecting {
	struct net_stream *stream;
	struct net_timer timer;
	const struct ws_handler *handler;
	struct ws_limits limits;
	void (*opened)(struct ws *ws, const struct error *error, void *user);
	void *user;
	struct buf request; /* until it is sent */
	struct buf answer;
	char accept[29]; /* what a server that understood the request says */
	bool over;       /* failed or cancelled: only the end of the stream is waited for */
	bool cancelled;
	struct error error;
};

/* --- URLs --- */

struct ws_url {
	bool secure;
	uint16_t port;
	char host[256];       /* without the brackets of an IPv6 address */
	struct str authority; /* as it goes into the Host header */
	struct str target;    /* path and query; may be empty */
};

static bool printable(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.at[i] <= ' ' || text.at[i] == 0x7f)
			return false;
	return true;
}

static bool parse_authority(struct str authority, struct ws_url *url)
{
	struct str host, port = STR_NONE;
	if (str_starts(authority, STR("["))) {
		port = str_cut(str_sub(authority, 1, authority.len), ']', &host);
		if (!port.at || (port.len && port.at[0] != ':'))
			return false;
		port = str_sub(port, 1, port.len);
	} else {
		port = str_cut(authority, ':', &host);
	}
	uint64_t number = url->secure ? 443 : 80;
	if (port.len && (!str_to_u64(port, &number) || number < 1 || number > 65535))
		return false;
	url->port = (uint16_t)number;
	url->authority = authority;
	return host.len && str_copy(host, url->host, sizeof url->host);
}

static bool parse_url(const char *text, struct ws_url *url)
{
	struct str rest = str_of(text);
	*url = (struct ws_url){.secure = str_starts(rest, STR("wss://"))};
	if (!url->secure && !str_starts(rest, STR("ws://")))
		return false;
	rest = str_sub(rest, url->secure ? 6 : 5, rest.len);
	size_t authority_len = 0;
	while (authority_len < rest.len && !memchr("/?#@", rest.at[authority_len], 4))
		authority_len++;
	url->target = str_sub(rest, authority_len, rest.len);
	bool strange = url->target.len && (url->target.at[0] == '@' || memchr(url->target.at, '#', url->target.len));
	return !strange && printable(rest) && parse_authority(str_sub(rest, 0, authority_len), url);
}

/* --- request --- */

static enum db_err build_request(struct ws_connecting *connecting, const struct ws_url *url,
                                 const struct ws_connect_options *options, struct error *error)
{
	uint8_t nonce[16];
	char key[BASE64_ENCODED_LEN(sizeof nonce)];
	id_random(nonce, sizeof nonce);
	base64_encode(nonce, sizeof nonce, key);
	ws_accept_key((struct str){key, sizeof key}, connecting->accept);

	struct buf *out = &connecting->request;
	bool bare = !url->target.len || url->target.at[0] == '?';
	buf_printf(out, "GET %s%.*s HTTP/1.1\r\nHost: %.*s\r\n", bare ? "/" : "", STR_ARG(url->target), STR_ARG(url->authority));
	buf_printf(out, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %.*s\r\n",
	           (int)sizeof key, key);
	for (size_t i = 0; i < options->header_count; i++) {
		const struct http_header *header = &options->headers[i];
		if (!http_header_is_safe(header))
			return error_set(error, DB_E_INVALID,
			                 "A header for the WebSocket handshake holds characters that are not allowed there.");
		buf_printf(out, "%.*s: %.*s\r\n", STR_ARG(header->name), STR_ARG(header->value));
	}
	buf_append_c(out, "\r\n");
	return out->failed ? error_set(error, DB_E_LIMIT, "The headers of the WebSocket handshake are too long.") : DB_OK;
}

/* --- answer --- */

struct answer {
	struct str name; /* of the header being parsed */
	bool upgrade, connection, accept, unasked;
	const char *expected_accept;
};

static int on_header_name(llhttp_t *parser, const char *at, size_t len)
{
	struct answer *answer = parser->data;
	answer->name = (struct str){at, len};
	return 0;
}

/* The whole head is parsed in one call, so names and values come in one piece. */
static int on_header_value(llhttp_t *parser, const char *at, size_t len)
{
	struct answer *answer = parser->data;
	struct str value = str_trim((struct str){at, len});
	if (str_eq_nocase(answer->name, STR("Upgrade")))
		answer->upgrade |= http_header_has_token(value, "websocket");
	else if (str_eq_nocase(answer->name, STR("Connection")))
		answer->connection |= http_header_has_token(value, "upgrade");
	else if (str_eq_nocase(answer->name, STR("Sec-WebSocket-Accept")))
		answer->accept = str_is(value, answer->expected_accept);
	else if (str_eq_nocase(answer->name, STR("Sec-WebSocket-Extensions")) ||
	         str_eq_nocase(answer->name, STR("Sec-WebSocket-Protocol")))
		answer->unasked |= value.len > 0;
	return 0;
}

enum db_err ws_check_answer(struct str head, const char *accept, struct error *error)
{
	llhttp_settings_t settings;
	llhttp_settings_init(&settings);
	settings.on_header_field = on_header_name;
	settings.on_header_value = on_header_value;
	struct answer answer = {.expected_accept = accept};
	llhttp_t parser;
	llhttp_init(&parser, HTTP_RESPONSE, &settings);
	parser.data = &answer;
	llhttp_errno_t result = llhttp_execute(&parser, head.at, head.len);
	if (result != HPE_OK && result != HPE_PAUSED_UPGRADE)
		return error_set(error, DB_E_INVALID, "The server's answer to the WebSocket handshake is not HTTP.");
	if (parser.status_code != 101)
		return error_set(error, parser.status_code == 401 || parser.status_code == 403 ? DB_E_DENIED : DB_E_UNSUPPORTED,
		                 "The server answered the WebSocket handshake with HTTP status %d.", parser.status_code);
	if (!answer.upgrade || !answer.connection || !answer.accept || answer.unasked)
		return error_set(error, DB_E_INVALID, "The server's answer to the WebSocket handshake breaks RFC 6455.");
	return DB_OK;
}

/* --- life --- */

static void free_connecting(struct ws_connecting *connecting)
{
	net_timer_stop(&connecting->timer);
	buf_free(&connecting->request);
	buf_free(&connecting->answer);
	free(connecting);
}

static void give_up(struct ws_connecting *connecting)
{
	connecting->over = true;
	net_timer_stop(&connecting->timer);
	net_stream_abort(connecting->stream);
}

void ws_connect_cancel(struct ws_connecting *connecting)
{
	connecting->cancelled = true;
	give_up(connecting);
}

static void on_timeout(struct net_timer *timer)
{
	struct ws_connecting *connecting = LIST_OF(timer, struct ws_connecting, timer);
	error_set(&connecting->error, DB_E_TIMEOUT, "The server did not complete the WebSocket handshake in time.");
	give_up(connecting);
}

static void on_open(struct net_stream *stream, void *user)
{
	struct ws_connecting *connecting = user;
	net_stream_write(stream, connecting->request.at, connecting->request.len); /* a failure comes to on_closed */
	buf_free(&connecting->request);
}

static void become_ws(struct ws_connecting *connecting, struct str early)
{
	struct ws *ws = ws_new(connecting->stream, WS_CLIENT, connecting->handler, &connecting->limits, early, connecting->user);
	if (!ws) {
		error_set(&connecting->error, DB_E_NOMEM, "No memory is left for another WebSocket.");
		give_up(connecting);
		return;
	}
	void (*opened)(struct ws *, const struct error *, void *) = connecting->opened;
	void *user = connecting->user;
	free_connecting(connecting);
	opened(ws, NULL, user);
}

static void on_read(struct net_stream *stream, char *data, size_t len, void *user)
{
	(void)stream;
	struct ws_connecting *connecting = user;
	struct buf *answer = &connecting->answer;
	if (connecting->over)
		return;
	/* At most the head is kept here; what comes behind it is the WebSocket's. */
	size_t room = ANSWER_MAX_BYTES - answer->len;
	size_t taken = len < room ? len : room;
	size_t before = answer->len;
	buf_append(answer, data, taken);
	const char *end = answer->len ? memmem(answer->at, answer->len, "\r\n\r\n", 4) : NULL;
	if (!end && answer->len < ANSWER_MAX_BYTES)
		return;
	if (!end) {
		error_set(&connecting->error, DB_E_LIMIT, "The server's answer to the WebSocket handshake is too long.");
		give_up(connecting);
		return;
	}
	size_t head_len = (size_t)(end - answer->at) + 4;
	if (ws_check_answer((struct str){answer->at, head_len}, connecting->accept, &connecting->error) != DB_OK) {
		give_up(connecting);
		return;
	}
	size_t of_head = head_len - before;
	become_ws(connecting, (struct str){data + of_head, len - of_head});
}

static void on_closed(struct net_stream *stream, const struct error *why, void *user)
{
	(void)stream;
	struct ws_connecting *connecting = user;
	if (!connecting->error.code && why)
		connecting->error = *why;
	if (!connecting->error.code)
		error_set(&connecting->error, DB_E_CLOSED, "The server closed the connection during the WebSocket handshake.");
	if (!connecting->cancelled)
		connecting->opened(NULL, &connecting->error, connecting->user);
	free_connecting(connecting);
}

static const struct net_stream_handler stream_handler = {.on_read = on_read, .on_closed = on_closed};

struct ws_connecting *ws_connect(struct net_loop *loop, const struct ws_connect_options *options,
                                 const struct ws_handler *handler,
                                 void (*opened)(struct ws *ws, const struct error *error, void *user), void *user,
                                 struct error *error)
{
	struct ws_url url;
	if (!parse_url(options->url, &url)) {
		error_set(error, DB_E_INVALID, "A WebSocket address looks like ws://host:port/path or wss://host/path.");
		return NULL;
	}
	if (url.secure && !options->tls) {
		error_set(error, DB_E_INVALID, "A wss:// address needs a TLS context.");
		return NULL;
	}
	struct ws_connecting *connecting = calloc(1, sizeof *connecting);
	if (!connecting) {
		error_set(error, DB_E_NOMEM, "No memory is left for another WebSocket.");
		return NULL;
	}
	*connecting = (struct ws_connecting){.handler = handler, .limits = options->limits, .opened = opened, .user = user};
	buf_init(&connecting->request, ANSWER_MAX_BYTES);
	buf_init(&connecting->answer, ANSWER_MAX_BYTES);
	if (build_request(connecting, &url, options, error) != DB_OK) {
		free_connecting(connecting);
		return NULL;
	}
	connecting->stream = net_stream_connect(loop, url.host, url.port, url.secure ? options->tls : NULL, "http/1.1", on_open,
	                                        &stream_handler, connecting);
	if (!connecting->stream) {
		error_set(error, DB_E_NOMEM, "No memory is left for another connection.");
		free_connecting(connecting);
		return NULL;
	}
	if (options->source)
		(void)net_stream_connect_from(connecting->stream, options->source);
	net_timer_start(loop, &connecting->timer, options->timeout_ms ? options->timeout_ms : DEFAULT_TIMEOUT_MS, 0, on_timeout);
	return connecting;
}
