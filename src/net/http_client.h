/* Outbound HTTP(S) over libcurl on the loop: downloads, consumers' calls, webhooks. TLS is always verified. Redirects are
 * followed for GET and HEAD only, five at most, and never from https to http. Thread: the loop's. */
#ifndef NET_HTTP_CLIENT_H
#define NET_HTTP_CLIENT_H

#include "core/error.h"
#include "core/str.h"
#include "net/http_server.h"
#include "net/loop.h"

struct http_client; /* a pool of connections on one loop */
struct http_fetch;  /* one call in flight */

struct http_client *http_client_new(struct net_loop *loop, struct error *error);
/* Cancels what is in flight; no callbacks are made. Not from inside a callback. */
void http_client_free(struct http_client *client);

struct http_fetch_options {
	const char *method; /* "GET", "POST", ...; NULL = GET */
	const char *url;
	const struct http_header *headers;
	size_t header_count;
	struct str body;             /* copied; the copy is wiped */
	const char *unix_path;       /* connect to this Unix socket, whatever host the url names; at most 4,000 bytes */
	const char *ca_path;         /* NULL = system trust store */
	uint32_t connect_timeout_ms; /* 0 = 10,000 */
	uint32_t timeout_ms;         /* whole call, 0 = none */
	uint64_t resume_from;        /* Range start for downloads: 206 = continued, 200 = the server begins anew */
	size_t max_body_bytes;       /* of the answer when on_data is NULL, 0 = 16 MiB */

	void *user;
	void (*on_headers)(struct http_fetch *fetch, int status, void *user); /* of the final answer; may be NULL */
	/* May be NULL: then the whole body is given to on_done. Returning false is http_fetch_cancel. */
	bool (*on_data)(struct http_fetch *fetch, struct str bytes, void *user);
	/* status 0 and error set when no answer came. The fetch is freed when it returns. */
	void (*on_done)(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user);
};

/* NULL and an error when the call could not even be begun; no callback is made then, nor from inside http_fetch. */
struct http_fetch *http_fetch(struct http_client *client, const struct http_fetch_options *options, struct error *error);
void http_fetch_cancel(struct http_fetch *fetch); /* on_done is not called; allowed in every callback */
/* Header of the answer, from on_headers on; at == NULL when absent. Lives until the next call of this function. */
struct str http_fetch_header(const struct http_fetch *fetch, const char *name);

#endif
