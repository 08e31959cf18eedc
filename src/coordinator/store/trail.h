/* What the audit trail says of an operation, and its row. Inside store/ only. */
#ifndef COORDINATOR_STORE_TRAIL_SQL_H
#define COORDINATOR_STORE_TRAIL_SQL_H

#include "coordinator/store/sql.h"
#include "coordinator/store/store_trail.h"
#include "core/json.h"

struct store_op;

struct store_actor {
	char name[STORE_ACTOR_SIZE], reason[128];
};

struct trail_note {
	const char *action;     /* "key.create"; NULL = nothing is noted */
	const char *account_id; /* whose doing it is when nobody said who asked; may be NULL; borrowed */
	char subject[STORE_ACTOR_SIZE];
	struct buf details;
	struct json_writer writer;
};
void trail_subject(struct trail_note *note, const char *format, ...) __attribute__((format(printf, 2, 3)));
void trail_text(struct trail_note *note, const char *name, const char *value); /* empty ones are left out */
void trail_number(struct trail_note *note, const char *name, int64_t value);

/* Writer's thread, after the operation was carried out: its row, when it is one that the trail notes. */
void trail_write(struct sql *db, const struct store_op *op);
/* False for operations that never make a row. */
bool trail_notes(const struct store_op *op);

#endif
