/* The frame layer of ws.h, without sockets: pure, for tests and fuzzing as well as for the connection. */
#ifndef NET_WS_CODEC_H
#define NET_WS_CODEC_H

#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

enum ws_role { WS_SERVER, WS_CLIENT };
enum ws_opcode { WS_OP_CONTINUATION = 0, WS_OP_TEXT = 1, WS_OP_BINARY = 2, WS_OP_CLOSE = 8, WS_OP_PING = 9, WS_OP_PONG = 10 };

struct ws_event {
	enum ws_opcode opcode; /* never CONTINUATION: data messages come whole */
	char *data;            /* unmasked; borrowed until the next call */
	size_t len;
	int close_code; /* of WS_OP_CLOSE: 1005 when the frame had none */
};

struct ws_decoder;
struct ws_decoder *ws_decoder_new(enum ws_role role, size_t max_message_bytes);
void ws_decoder_free(struct ws_decoder *decoder); /* wipes */
/* Takes bytes from *data (advancing it) until an event is complete (returns 1), more bytes are needed (0), or the peer broke
 * the protocol (-1: *close_code is what to send: 1002, 1007 or 1009; 1011 when memory ran out). `data` is writable: unmasking
 * happens in place, and a message that lies whole in it is not copied. Call until it returns 0: that releases what the last
 * event lent. After a close frame everything is skipped, after an error every call fails again. */
int ws_decoder_next(struct ws_decoder *decoder, char **data, size_t *len, struct ws_event *event, int *close_code);
bool ws_decoder_idle(const struct ws_decoder *decoder); /* holds no partial frame or message (and no memory for one) */

#define WS_HEADER_MAX 14
/* Writes a frame header for a final frame; clients mask with `mask`. Returns its length. */
size_t ws_frame_header(enum ws_opcode opcode, size_t len, const uint8_t *mask_or_null, uint8_t out[WS_HEADER_MAX]);
void ws_mask(char *data, size_t len, const uint8_t mask[4], size_t offset);
/* Sec-WebSocket-Accept of a Sec-WebSocket-Key: 28 characters and a NUL. */
void ws_accept_key(struct str key, char out[29]);

#endif
