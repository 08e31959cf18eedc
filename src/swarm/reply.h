/* Reads the HTTP/1.1 answers of a server we trust to speak well: Content-Length or chunked bodies, nothing else. Pure. */
#ifndef SWARM_REPLY_H
#define SWARM_REPLY_H

#include "core/buf.h"

enum reply_state {
	REPLY_HEAD,
	REPLY_BODY,
	REPLY_CHUNK_SIZE,
	REPLY_CHUNK_DATA,
	REPLY_CHUNK_END,
	REPLY_TRAILER,
	REPLY_DONE,
	REPLY_BAD
};

struct reply {
	enum reply_state state;
	int status;
	uint64_t left;   /* of the body or of the current chunk */
	struct buf head; /* an incomplete head or chunk-size line */
	void (*on_body)(struct str bytes, void *user);
	void *user;
};

void reply_init(struct reply *reply, void (*on_body)(struct str bytes, void *user), void *user);
void reply_reset(struct reply *reply);
void reply_free(struct reply *reply);
/* Takes bytes in until the answer is done; returns how many were used. */
size_t reply_feed(struct reply *reply, struct str bytes);

#endif
