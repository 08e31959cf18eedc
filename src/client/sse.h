/* Reads a text/event-stream as it arrives, in any pieces: one callback for each event's data. Pure; thread: one at a time. */
#ifndef CLIENT_SSE_H
#define CLIENT_SSE_H

#include "core/buf.h"

#define SSE_EVENT_MAX (8u << 20)

struct sse_reader {
	struct buf line, data;
	struct buf name;                               /* the event's, empty when it has none; for on_event */
	bool has_data;                                 /* an event may be empty */
	bool after_cr;                                 /* a line feed that follows belongs to the line end before */
	void (*on_event)(struct str data, void *user); /* data lines joined by line feeds; borrowed */
	void *user;
};

void sse_reader_init(struct sse_reader *reader, void (*on_event)(struct str data, void *user), void *user);
void sse_reader_free(struct sse_reader *reader); /* wipes */
/* DB_E_LIMIT when one event outgrows SSE_EVENT_MAX; then the reader is of no more use. */
enum db_err sse_reader_feed(struct sse_reader *reader, struct str bytes);

#endif
