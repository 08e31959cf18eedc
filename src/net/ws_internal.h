/* What the two WebSocket handshakes share with the connection. Nothing outside net/ includes this. */
#ifndef NET_WS_INTERNAL_H
#define NET_WS_INTERNAL_H

#include "net/stream.h"
#include "net/ws.h"
#include "net/ws_codec.h"

/* An open WebSocket over a stream on which the handshake is done; takes over the stream. `early` holds the bytes that came
 * behind the peer's handshake; they are read at the end of this turn, so that the owner knows its ws before the first message.
 * NULL when out of memory: the stream is then still the caller's. */
struct ws *ws_new(struct net_stream *stream, enum ws_role role, const struct ws_handler *handler,
                  const struct ws_limits *limits, struct str early, void *user);

/* Checks the head of a server's answer, up to and with the empty line; `accept` is what Sec-WebSocket-Accept must say. */
enum db_err ws_check_answer(struct str head, const char *accept, struct error *error);

#endif
