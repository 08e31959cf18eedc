/* HTTP answers as the swarm reads them: the first byte says into which pieces the rest is cut; the result must not depend on
 * it. */
#include <stdlib.h>

#include "swarm/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
	struct buf body;
	enum reply_state state;
	int status;
	size_t used;
};

static void on_body(struct str bytes, void *user)
{
	buf_append_str(user, bytes);
}

static void read_in_pieces(struct str bytes, size_t piece, struct outcome *out)
{
	struct reply reply;
	buf_init(&out->body, 64u << 20);
	out->used = 0;
	reply_init(&reply, on_body, &out->body);
	while (out->used < bytes.len && reply.state < REPLY_DONE) {
		struct str next = str_sub(bytes, out->used, piece);
		size_t used = reply_feed(&reply, next);
		if (used > next.len || (used < next.len && reply.state < REPLY_DONE))
			abort();
		out->used += used;
	}
	out->state = reply.state;
	out->status = reply.status;
	reply_free(&reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct outcome whole, pieces;
	if (!size)
		return 0;
	struct str bytes = {(const char *)data + 1, size - 1};
	read_in_pieces(bytes, size, &whole);
	read_in_pieces(bytes, (size_t)data[0] % 16 + 1, &pieces);
	if (whole.state != pieces.state || whole.status != pieces.status || !str_eq(buf_str(&whole.body), buf_str(&pieces.body)))
		abort();
	if (whole.state == REPLY_DONE && whole.used != pieces.used)
		abort();
	buf_free(&whole.body);
	buf_free(&pieces.body);
	return 0;
}
