/* Coordinators that share one PostgreSQL take turns: each group of operations is one transaction that begins by locking the row
 * of `turn`. So there is never more than one writer, and what a coordinator remembers of balances and holds from its last turn
 * is exact as long as nobody else had one in between. Inside store/ only; thread: the writer's.
 * (docs/developer/decisions/0020-coordinators-take-turns.md) */
#ifndef COORDINATOR_STORE_POSTGRES_TURN_H
#define COORDINATOR_STORE_POSTGRES_TURN_H

#include "coordinator/store/book.h"

struct turn {
	struct book *book;
	char name[STORE_ID_SIZE]; /* of this coordinator, the same after a restart; empty = none */
	int64_t patience_us;      /* when it is not seen for so long, others take it for ended */
	int64_t number;           /* of the last turn that was ours; -1 = none */
	int64_t group;            /* the last group that was tried */
	bool uncertain;           /* whether that group was committed is not known: the connection was lost */
	bool ended;               /* others think that we are gone */
};

/* Makes this coordinator known. An earlier one of the same name has ended: what it held is released. */
void turn_register(struct turn *turn);
/* BEGIN, the lock, and what memory needs. False: it failed, or others think that we are gone (turn->ended). */
bool turn_begin(struct turn *turn);
/* What memory has, the marks of the turn, COMMIT. False when it failed; turn->uncertain may be set. */
bool turn_commit(struct turn *turn);
void turn_rollback(struct turn *turn);
/* After a reconnection: whether the group was committed before the connection was lost. False when that cannot be asked now. */
bool turn_resolve(struct turn *turn, bool *committed);
/* Says that we are here, and releases what ended coordinators hold. False: it failed, or others think that we are gone. */
bool turn_sweep(struct turn *turn);
/* Says that we have ended; what is still held is released by whoever sweeps next. */
void turn_leave(struct turn *turn);

#endif
