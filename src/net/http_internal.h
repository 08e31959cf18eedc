/* What the files of net/ share about the HTTP server. Nothing outside net/ includes this. */
#ifndef NET_HTTP_INTERNAL_H
#define NET_HTTP_INTERNAL_H

#include "core/buf.h"
#include "net/http_server.h"
#include "net/stream.h"

/* Takes the connection's stream away from HTTP, for an upgrade to another protocol, and ends the request without an answer
 * (on_gone is not called): copy what is still needed of it first. Allowed from on_request on, before any answer was begun.
 * The caller sets the stream's handler before it returns to the loop, and owns the stream from then on. `leftover` is
 * initialised and filled here with the bytes that already arrived behind the request; the caller frees it.
 * NULL, and nothing changed, when the request is not HTTP/1.1, was already answered, or had a body that was not read whole. */
struct net_stream *http1_take_stream(struct http_request *request, struct buf *leftover);

#endif
