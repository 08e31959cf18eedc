/* Answers of /v1/responses that their callers asked to be kept: sealed by response_vault.h, in the database, for so many days.
 * The coordinator holds text at rest for nobody who did not ask for it with `store: true`, and says which answers it keeps,
 * gives them back and forgets them to their account alone. Thread: the loop's. */
#ifndef COORDINATOR_RESPONSE_KEEPER_H
#define COORDINATOR_RESPONSE_KEEPER_H

#include "coordinator/response_vault.h"
#include "coordinator/store/store_responses.h"
#include "net/loop.h"

struct response_keeper {
	struct response_vault *vault; /* NULL: this coordinator keeps nothing */
	struct store *store;
	struct net_loop *loop;
	struct store_response_bounds bounds; /* of one account */
	int64_t age_us;
	struct net_timer timer;
	struct list sealing; /* records that workers are sealing */
	struct list held;    /* what was asked meanwhile by the accounts that they are of */
};
/* All but the timer and the lists is set. Forgets what is too old, now and every hour; also when nothing new is kept. */
void response_keeper_start(struct response_keeper *keeper);
/* Before store_close: what is being sealed is handed to it. The vault stays its owner's, until the loop is freed. */
void response_keeper_stop(struct response_keeper *keeper);

#define RESPONSE_KEEPER_SEALS_HERE (16u << 10) /* larger records are sealed by a worker */

/* gateway_options.keep. Whoever asks for the answer from now on finds it. Takes the record's bytes. */
void response_keeper_add(void *keeper, struct str account_id, const char *job_id, struct buf *record);

/* What was kept, opened; texts are borrowed until `done` returns. error: DB_E_NOT_FOUND (none of this account has the id, or it
 * cannot be opened any more), DB_E_CLOSED (one that it goes on from is gone), DB_E_LIMIT (together they are too much). */
typedef void (*response_keeper_fn)(struct str text, const struct error *error, void *user);
void response_keeper_read(struct response_keeper *keeper, struct str account_id, struct str id, response_keeper_fn done,
                          void *user); /* the record */
void response_keeper_history(struct response_keeper *keeper, struct str account_id, struct str id, response_keeper_fn done,
                             void *user); /* responses_history of it and all before it */
void response_keeper_delete(struct response_keeper *keeper, struct str account_id, struct str id, store_done_fn done,
                            void *user);

#endif
