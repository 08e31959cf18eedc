#include "provider/node/outbound.h"

#include <stdlib.h>

#include "wire/payload.h"

static struct outbound *outbound_new(bool chunk)
{
	struct outbound *outbound = calloc(1, sizeof *outbound);
	if (!outbound)
		return NULL;
	buf_init(&outbound->text, WIRE_MAX_TO_COORDINATOR);
	outbound->chunk = chunk;
	return outbound;
}

static enum db_err push(struct list *queue, struct outbound *outbound, enum db_err err)
{
	if (!err) {
		list_push_back(queue, &outbound->link);
		return DB_OK;
	}
	buf_free(&outbound->text);
	free(outbound);
	return err;
}

enum db_err outbound_push_message(struct list *queue, const struct wire_message *message)
{
	struct outbound *outbound = outbound_new(false);
	return outbound ? push(queue, outbound, wire_encode(message, &outbound->text)) : DB_E_NOMEM;
}

enum db_err outbound_push_chunk(struct list *queue, const struct box_shared *shared, struct str request_id,
                                struct str sender_key, struct str frame)
{
	struct outbound *outbound = outbound_new(true);
	if (!outbound)
		return DB_E_NOMEM;
	return push(queue, outbound, wire_seal_chunk(shared, request_id, sender_key, frame, &outbound->text));
}

struct outbound *outbound_first(struct list *queue)
{
	struct list_link *link = list_first(queue);
	return link ? LIST_OF(link, struct outbound, link) : NULL;
}

void outbound_free(struct list *queue, struct outbound *outbound)
{
	list_remove(queue, &outbound->link);
	buf_free(&outbound->text);
	free(outbound);
}

void outbound_drop(struct list *queue)
{
	for (struct outbound *outbound; (outbound = outbound_first(queue));)
		outbound_free(queue, outbound);
}

void outbound_drop_chunks(struct list *queue)
{
	LIST_EACH_SAFE (link, next, queue) {
		struct outbound *outbound = LIST_OF(link, struct outbound, link);
		if (outbound->chunk)
			outbound_free(queue, outbound);
	}
}
