/* What a restart must not lose: breakers, cool-downs, reputation, what was measured of devices (rates, load times, round
 * trips), of models (rates by chip, predicted against actual) and of answers (their length by model and account). A snapshot of
 * it is bytes: a head with a version and a checksum, then records (docs/reference/routing-memory.md). Devices are known by
 * their durable identity; those without one are not in it. Nothing here does I/O. Thread: as routing.h; memory_seal: any. */
#ifndef COORDINATOR_ROUTING_MEMORY_H
#define COORDINATOR_ROUTING_MEMORY_H

#include "coordinator/routing/learn.h"
#include "coordinator/routing/routing.h"
#include "core/buf.h"

#define MEMORY_MAX_BYTES (64u << 20)
#define MEMORY_MAX_AGE_S (30 * 86400) /* what is older says nothing any more */

/* A snapshot being made, in steps: what changes meanwhile may be in it as it was or as it is. */
struct memory_snapshot {
	struct buf bytes;
	int part;
	size_t cursor, cap; /* in the part's table, which had so many places */
};

void memory_begin(struct memory_snapshot *snapshot, const struct route_fleet *fleet, int64_t wall_s);
/* At most `most` records. True when it is whole; false once more than MEMORY_MAX_BYTES, too: then bytes.failed. */
bool memory_step(struct memory_snapshot *snapshot, struct route_fleet *fleet, const struct learn *learn, uint64_t now_us,
                 size_t most);
void memory_seal(struct buf *bytes); /* the checksum, once it is whole */
void memory_end(struct memory_snapshot *snapshot);

/* Into a fleet that nobody joined yet. All that has its time (breakers, cool-downs) goes on for what is left of it after the
 * snapshot's age; reputation and lengths of answers fade with it. DB_E_INVALID for bytes that are no snapshot, DB_E_UNSUPPORTED
 * for another version's, DB_E_TIMEOUT for one that is too old; then nothing, or what came before the damage, is known. */
enum db_err memory_restore(struct route_fleet *fleet, struct learn *learn, struct str bytes, uint64_t now_us, int64_t wall_s,
                           struct error *error);

#endif
