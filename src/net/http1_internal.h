/* HTTP/1.1: what http1.c (reading, the order of requests) and http1_write.c (answers) share. */
#ifndef NET_HTTP1_INTERNAL_H
#define NET_HTTP1_INTERNAL_H

#include <llhttp.h>

#include "net/http_internal.h"

enum http1_phase {
	HTTP1_BETWEEN,  /* no request begun; bytes of the next ones may be waiting */
	HTTP1_HEAD,     /* of a request is being read */
	HTTP1_BODY,     /* is being read; the answer may have begun, or even ended, already */
	HTTP1_COMPLETE, /* the request is read, its answer is not finished */
};

enum http1_pause { HTTP1_NOT_PAUSED, HTTP1_AT_HEAD_END, HTTP1_AT_BODY_LIMIT, HTTP1_AT_MESSAGE_END };

/* What a connection needs while a request is open on it. */
struct http1 {
	struct http_conn *conn;
	struct net_loop *loop;
	llhttp_t parser;
	struct http_request *request; /* NULL: ended for the handler */
	enum http1_phase phase;
	enum http1_pause pause;
	size_t head_bytes;
	bool in_name;      /* of a field being read */
	bool head_read;    /* fields from here on are trailers */
	bool wants_close;  /* the client, or the protocol's rules, end the connection after this request */
	bool keep_alive;   /* as told in the answer's head */
	bool chunked;      /* the answer is framed in chunks */
	bool headless;     /* the answer carries no body (HEAD, 204, 304) */
	bool old;          /* HTTP/1.0 */
	bool continue_due; /* the client waits for 100 Continue and has not got it */
	bool running;      /* advance() is at work further up the stack */
	bool failed;       /* a callback of the parser ran into a limit or out of memory */
	int fail_status;
	struct str rest;   /* while running: bytes behind what the parser took */
	struct buf behind; /* bytes behind the current request */
	struct net_turn turn;
};

/* --- http1.c --- */
/* The answer has been handed over whole, or cut off. */
void http1_answered(struct http1 *http1);

/* --- http1_write.c --- */
void http1_respond(struct http_request *request, int status, struct str body);
void http1_start(struct http_request *request, int status);
enum db_err http1_write(struct http_request *request, struct str bytes);
void http1_end(struct http_request *request);
void http1_abort(struct http_request *request);
/* Ends the connection so that the client can tell the answer that is under way from a whole one. */
void http1_cut_short(struct http_request *request);
size_t http1_queued(const struct http_request *request);
/* An answer to a client that breaks the rules: short, without the handler's headers, then the connection closes. */
void http1_refuse(struct http1 *http1, int status);

#endif
