/* Queues of encoded messages that wait for the socket or, chunks, for credit. A queue is a struct list of struct outbound. */
#ifndef PROVIDER_OUTBOUND_H
#define PROVIDER_OUTBOUND_H

#include "core/list.h"
#include "crypto/box.h"
#include "wire/message.h"

struct outbound {
	struct list_link link;
	bool chunk; /* uses one credit */
	struct buf text;
};

/* Encodes behind the others; on failure the queue is as it was. */
enum db_err outbound_push_message(struct list *queue, const struct wire_message *message);
enum db_err outbound_push_chunk(struct list *queue, const struct box_shared *shared, struct str request_id,
                                struct str sender_key, struct str frame);
struct outbound *outbound_first(struct list *queue); /* NULL when empty */
void outbound_free(struct list *queue, struct outbound *outbound);
void outbound_drop(struct list *queue);
void outbound_drop_chunks(struct list *queue);

#endif
