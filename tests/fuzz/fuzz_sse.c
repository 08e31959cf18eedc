/* Event streams: the first byte says into which pieces the rest is cut; the events must not depend on it. */
#include <stdlib.h>

#include "client/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_event(struct str data, void *user)
{
	buf_append_str(user, data);
	buf_append_byte(user, '\xff');
}

static void read_in_pieces(struct str bytes, size_t piece, struct buf *events)
{
	struct sse_reader reader;
	sse_reader_init(&reader, on_event, events);
	for (size_t at = 0; at < bytes.len; at += piece)
		if (sse_reader_feed(&reader, str_sub(bytes, at, piece)))
			break;
	sse_reader_free(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole, pieces;
	if (!size)
		return 0;
	struct str bytes = {(const char *)data + 1, size - 1};
	buf_init(&whole, 64u << 20);
	buf_init(&pieces, 64u << 20);
	read_in_pieces(bytes, size, &whole);
	read_in_pieces(bytes, (size_t)data[0] % 16 + 1, &pieces);
	if (!str_eq(buf_str(&whole), buf_str(&pieces)))
		abort();
	buf_free(&whole);
	buf_free(&pieces);
	return 0;
}
