/* What is special about requests from browsers: the session's cookie, which site a page is from, under which address the
 * coordinator is reached. Thread: the loop's. */
#ifndef COORDINATOR_BROWSER_H
#define COORDINATOR_BROWSER_H

#include "coordinator/gateway/exchange.h"

struct server;

/* The session's token, borrowed from the request; empty when it has none. */
struct str browser_session(const struct server *server, const struct http_request *http);
/* A page of another site made the browser send this (Sec-Fetch-Site, Origin). Programs send neither. */
bool browser_is_cross_site(const struct server *server, const struct http_request *http);
/* token NULL: the cookie is deleted. */
void browser_set_session(const struct server *server, struct exchange *exchange, const char *token);

/* Who is at the other end: the connection's address, or what the proxy in front says (server.behind_proxy). */
struct str browser_address(const struct server *server, const struct http_request *http);
/* "https://host" without a slash at the end: server.public_url, else what the request was sent to. False when it says nothing
 * that could be a host. */
bool browser_base_url(const struct server *server, const struct http_request *http, struct buf *out);
/* `next` when it is a path on this site, else "/login". */
struct str browser_next(struct str next);

#endif
