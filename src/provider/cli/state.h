/* The live state of a running provider, written to <state-dir>/daemon-state.json by `start` and read by `status`
 * (provider-node 4). */
#ifndef PROVIDER_STATE_H
#define PROVIDER_STATE_H

#include "core/arena.h"
#include "provider/engine/kv_budget.h"
#include "provider/kvcache/kv_cache.h"
#include "provider/node/node.h"

#define STATE_SCHEMA   1
#define STATE_STALE_US 90000000 /* older: the provider may be wedged */

/* An offered model. */
struct state_model {
	struct str id, state;      /* state: residency_state_name */
	double progress;           /* of a load, 0..1 */
	int64_t uses;              /* requests that use it now, those that wait for it too */
	int64_t waiting;           /* of them, for a place in its batch */
	int64_t longest_wait_ms;   /* so far, of those */
	struct str failure;        /* of the last load; empty = it went well */
	struct str template_fault; /* why its chat template failed the check (template_check.h); empty = it did not */
	int64_t tokens_guessed, guesses_right;
};

/* What the prefix cache did since the start. */
struct state_cache {
	bool on;
	struct str secret; /* what guards the secret of its files: platform_keeper_name; empty: nothing is on disk */
	int64_t lookups, hits_ram, hits_ssd, misses, tokens_asked, tokens_saved, restore_ms, stores;
	int64_t ram_bytes, disk_bytes, disk_quota_bytes, bytes_written, bytes_read, write_drops, evictions, read_errors;
};

/* A build that the coordinator wants here. */
struct state_build {
	struct str id, state; /* state: build_state_name */
	double progress;      /* of the download, 0..1 */
	struct str why;       /* of a failure */
};

/* The same, as a running provider knows them. */
struct state_builds {
	const struct build_view *at;
	size_t count;
};

/* A request that waits for its model's engine. */
struct state_queued {
	struct str model, request_id;
	int64_t position, waited_ms; /* position: 1 = the next to run */
};

/* The same, as a running provider knows them. */
struct state_queue {
	const struct node_queued *at;
	size_t count;
};

struct state {
	int64_t schema, pid, written_at_us, started_at_us;
	struct str version, coordinator_url, connection, trust_level, trust_status, trust_reason, last_error;
	const struct state_model *models;
	size_t model_count;
	const struct state_build *builds;
	size_t build_count;
	const struct state_queued *queue;
	size_t queue_count;
	int64_t requests_active, requests_served, tokens_generated;
	struct state_cache cache;
	int64_t kv_limit_bytes, kv_reserved_bytes, kv_peak_bytes; /* of all models together */
};

/* `cache` may be NULL: off. */
enum db_err state_write(const char *state_dir, const struct node_status *status, const char *coordinator_url,
                        const struct residency *residency, const struct state_builds *builds, const struct state_queue *queue,
                        struct kv_budget *budget, struct kv_cache *cache, int64_t started_at_us, struct error *error);
/* DB_E_NOT_FOUND when no provider wrote one; DB_E_INVALID when it is damaged or of another schema. Texts live in the arena. */
enum db_err state_read(const char *state_dir, struct arena *arena, struct state *out, struct error *error);
enum db_err state_parse(struct str text, struct arena *arena, struct state *out);
void state_write_cache(struct json_writer *w, const struct state_cache *cache); /* a member of an object that is open */
/* One provider for each state folder: holds a lock on <state-dir>/provider.lock until the process ends, whatever way that
 * happens. DB_E_EXISTS with a sentence that names the process that has it. */
enum db_err state_lock(const char *state_dir, struct error *error);
/* The provider ended in order. */
void state_remove(const char *state_dir);

#endif
