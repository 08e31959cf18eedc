/* Checks of single header fields that servers, clients and the WebSocket handshakes share. Internal to net/. Thread: any. */
#ifndef NET_HTTP_HEADER_H
#define NET_HTTP_HEADER_H

#include "net/http_server.h"

/* A name made of RFC 9110 token characters, and a value without control characters: nothing that could end the line. */
bool http_header_is_safe(const struct http_header *header);

/* Whether a comma-separated value holds the token; ASCII case does not matter. */
bool http_header_has_token(struct str value, const char *token);

#endif
