/* The store's threads (writer, reader, mover of the write-ahead log) and the queues to them: group commit, tickets, delivery.
 * Knows nothing of SQL and nothing of what the operations mean. Inside store/ only. */
#ifndef COORDINATOR_STORE_JOURNAL_H
#define COORDINATOR_STORE_JOURNAL_H

#include "coordinator/store/op.h"
#include "coordinator/store/store_leases.h"

struct journal;

struct journal *journal_open(const struct store_options *options, struct net_loop *loop, struct error *error);
/* Loop thread. Who asks for the next operation that the audit trail notes; owned from then on. */
void journal_act(struct journal *journal, struct store_actor *actor);
/* Loop thread. Takes the operation; it comes back through op->deliver. */
void journal_submit(struct journal *journal, struct store_op *op);
void journal_close(struct journal *journal);

uint64_t journal_epoch(const struct journal *journal); /* any thread; 0 on SQLite */
struct net_loop *journal_loop(const struct journal *journal);
void journal_on_news(struct journal *journal, store_news_fn tell, void *user);

void journal_stats(struct journal *journal, struct store_stats *out);
bool journal_healthy(const struct journal *journal, struct error *error);

#endif
