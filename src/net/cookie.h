/* Cookies as a server reads and sets them (RFC 6265). Thread: any for the pure functions, the loop's for requests. */
#ifndef NET_COOKIE_H
#define NET_COOKIE_H

#include "core/buf.h"
#include "net/http_server.h"

/* How often a Cookie header's value names the cookie; *value gets the first, borrowed, without the quotes around it. Pieces
 * that are no cookie, and values with characters that may not stand in one, do not count. */
size_t cookie_find(struct str header, struct str name, struct str *value);

/* The cookie of the request; empty when there is none, and when there are two: whoever could add one from a neighbouring host
 * must not choose which of them counts. HTTP/2 may send several Cookie fields (RFC 9113 8.2.3). */
struct str http_cookie(const struct http_request *request, const char *name);

struct cookie_options {
	const char *name, *path;
	struct str value;
	int64_t max_age_s; /* 0 deletes it, -1 keeps it until the browser closes */
	bool secure;
	bool strict; /* SameSite=Strict instead of Lax */
};
/* A Set-Cookie value; always HttpOnly. */
void cookie_write(struct buf *out, const struct cookie_options *options);

#endif
