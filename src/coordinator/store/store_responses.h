/* Answers of /v1/responses that their callers asked to be kept. What is kept is sealed: the database holds no text. The rules
 * of store.h hold: callbacks on the loop thread, borrowed until they return, error NULL when all went well. */
#ifndef COORDINATOR_STORE_RESPONSES_H
#define COORDINATOR_STORE_RESPONSES_H

#include "coordinator/store/store.h"

struct store_response {
	char id[STORE_ID_SIZE];
	char account_id[STORE_ID_SIZE];
	char previous[STORE_ID_SIZE]; /* the answer it goes on from; empty = none */
	int64_t created_us;
	struct str sealed; /* bytes */
};

/* What one account may have. The oldest make room for the newest. */
struct store_response_bounds {
	int64_t count, bytes;
};
/* The bytes are copied. DB_E_NOT_FOUND when there is no such account. */
void store_response_add(struct store *store, const struct store_response *response, const struct store_response_bounds *bounds,
                        store_done_fn done, void *user);
/* The answer and those it goes on from, newest first, at most `depth` of them, none made before since_us. rows NULL with an
 * error: DB_E_NOT_FOUND (the first is not there, or is another account's), DB_E_CLOSED (one before it is not there any more),
 * DB_E_LIMIT (there are more than `depth`, or more than max_bytes). depth 1 is the answer alone, whatever it goes on from. */
typedef void (*store_responses_fn)(const struct store_response *rows, size_t count, const struct error *error, void *user);
struct store_response_query {
	struct str account_id, id;
	int64_t since_us;
	uint32_t depth;
	size_t max_bytes;
};
void store_response_read(struct store *store, const struct store_response_query *query, store_responses_fn done, void *user);
/* Its bytes are overwritten first. DB_E_NOT_FOUND when the account has none with this id. */
void store_response_delete(struct store *store, struct str account_id, struct str id, store_done_fn done, void *user);
/* All that were made before before_us, of every account; nobody waits. */
void store_responses_expire(struct store *store, int64_t before_us);

#endif
