/* An answer that is too long for one piece: pages are asked of the store one after the other, each when the client has room for
 * it. A handler's state begins with a struct download. Thread: the loop's. */
#ifndef COORDINATOR_DOWNLOAD_H
#define COORDINATOR_DOWNLOAD_H

#include "coordinator/gateway/exchange.h"

struct server;

struct download {
	struct server *server;
	struct exchange *exchange; /* NULL: the client left */
	const char *content_type, *file_name;
	struct str head; /* before the first page; static text */
	void (*ask)(struct download *download);
	void (*release)(struct download *download); /* before it is freed; may be NULL */
	bool started, all_sent;
	bool busy; /* a page is asked for or written: it must not be freed */
};

/* `size` zeroed bytes that begin with a struct download. NULL when there is no memory: then the request is answered. */
void *download_new(struct server *server, struct exchange *exchange, size_t size);
/* content_type, file_name and head are set. ask: brings the next page to download_page, later. */
void download_start(struct download *download, void (*ask)(struct download *download));
/* error: the answer is cut off, or a refusal when nothing was sent. Frees the download when it is over: do not touch it
 * afterwards. */
void download_page(struct download *download, struct str text, bool is_last, const struct error *error);

#endif
