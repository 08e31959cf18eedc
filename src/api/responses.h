/* What /v1/responses needs besides a body (dialect.h): earlier answers to go on from, and the record of an answer that its
 * caller asked to be kept. Where it is kept is not this room's business. Pure; thread: any.
 *
 * A record is the JSON object {"input": [items], "response": {...}}: the input of its own request, as input items with all
 * their members, and the response object as the caller got it. */
#ifndef API_RESPONSES_H
#define API_RESPONSES_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"

#include <stdint.h>

#define RESPONSES_ID_BYTES         40         /* "resp_" + 32 hex, with NUL */
#define RESPONSES_KEPT_INPUT_BYTES (1u << 20) /* of a body whose answer is to be kept */
#define RESPONSES_RECORD_MAX_BYTES (24u << 20)
#define RESPONSES_EARLIER_MAX      (8u << 20) /* of all records that a request goes on from */
#define RESPONSES_EARLIER_COUNT    256

/* chat_request.dialect_input of this dialect; without it `store` and `previous_response_id` are refused. */
struct responses_keeping {
	struct str earlier; /* responses_history of what previous_response_id names; empty when it names nothing */
};

/* The answer that a body goes on from, read before it is parsed: a body that is no good is the dialect's to refuse. In the
 * arena; empty = none. */
void responses_previous(struct str body, struct arena *arena, struct str *id);
void responses_id(const char *job_id, char out[RESPONSES_ID_BYTES]);

/* The items of records, oldest first: an array of input items. DB_E_INVALID when one is no record. */
enum db_err responses_history(const struct str *records, size_t count, struct buf *out);
/* The response object of a record. */
enum db_err responses_record_object(struct str record, struct buf *out);

struct responses_page {
	uint32_t limit; /* 1..100 */
	bool ascending;
	struct str after; /* id of the item that the page comes after; empty = from the beginning */
};
/* The listing of its input items. DB_E_NOT_FOUND when `after` is none of them. */
enum db_err responses_record_items(struct str record, const struct responses_page *page, struct buf *out);

#endif
