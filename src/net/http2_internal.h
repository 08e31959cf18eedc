/* HTTP/2: what http2.c (the session, what arrives) and http2_write.c (answers, what is sent) share. */
#ifndef NET_HTTP2_INTERNAL_H
#define NET_HTTP2_INTERNAL_H

#include <nghttp2/nghttp2.h>

#include "net/http_internal.h"

struct http2 {
	struct http_conn *conn;
	struct net_loop *loop;
	nghttp2_session *session;
	struct net_turn turn;   /* sends what the turn left to send */
	struct list requests;   /* of open streams */
	uint64_t active_us;     /* when the last stream closed */
	uint64_t head_since_us; /* a header block is coming in since; 0 = none */
	uint64_t notice_us;     /* the first step of a drain was made; 0 = not yet */
	bool leaving;           /* the second too, or the session is ended */
	bool room_ready;        /* a producer may be waiting for on_room */

	/* Streams that were opened and thrown away in the current window (CVE-2023-44487, CVE-2025-8671). */
	uint64_t window_us;
	uint32_t resets, completed;
};

/* --- http2.c --- */
bool http2_stopped(const struct http2 *http2); /* nothing may be called or sent any more */
/* Ends the session with GOAWAY; open streams are not finished. */
void http2_end_session(struct http2 *http2, uint32_t error_code);
/* The session has ended: open requests are told, what is queued still goes out. */
void http2_close(struct http2 *http2);
void http2_count_reset(struct http2 *http2);

/* --- http2_write.c --- */
void http2_schedule(struct http2 *http2);
void http2_flush(struct http2 *http2);
void http2_respond(struct http_request *request, int status, struct str body);
void http2_start(struct http_request *request, int status);
enum db_err http2_write(struct http_request *request, struct str bytes);
void http2_end(struct http_request *request);
void http2_abort(struct http_request *request);
size_t http2_queued(const struct http_request *request);
/* A short answer of the server's own to a request that its handler does not or no longer know. */
void http2_refuse(struct http_request *request, int status);
void http2_reset(struct http_request *request, uint32_t error_code);
int http2_on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user_data);
int http2_on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *frame_head, size_t length,
                       nghttp2_data_source *source, void *user_data);

/* --- http2_memory.c --- */
/* Everything nghttp2 frees is wiped: its header tables hold keys and its buffers text. */
nghttp2_mem *http2_memory(void);

#endif
