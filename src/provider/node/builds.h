/* Builds that the coordinator wants here (registry 3, provider-node 8.6, protocol-and-trust 11.3): each is downloaded from
 * where the machine's owner said, checked, loaded if it is to answer requests, and only then offered.
 *
 *   pending -> downloading -> verifying -> loading -> ready
 *        any of them -> failed -> (30, 60, 120, 300, 600 s later) pending
 *
 * One at a time, the highest priority first. What runs meanwhile is not touched: nothing in use leaves memory. Nothing is ever
 * deleted, and the build that is replaced stays on offer: a canary needs both. Thread: the loop's. */
#ifndef PROVIDER_NODE_BUILDS_H
#define PROVIDER_NODE_BUILDS_H

#include "provider/models/models.h"
#include "provider/residency/residency.h"

#define BUILDS_MAX           RESIDENCY_MAX_MODELS
#define BUILDS_RETRY_MS      30000
#define BUILDS_DESIRED_FIRST 5 /* priority of desired builds */

enum build_state { BUILD_PENDING, BUILD_DOWNLOADING, BUILD_VERIFYING, BUILD_LOADING, BUILD_READY, BUILD_FAILED };
const char *build_state_name(enum build_state state); /* "pending", "downloading", ... */

struct build_view {
	struct str id;
	enum build_state state;
	uint64_t done_bytes, total_bytes; /* of the download; 0 = not known */
	const char *why;                  /* of a failure; empty otherwise */
};

struct builds_options {
	/* Where models may be downloaded from, as the machine's owner said: http(s)://host/path, below which each model has its
	 * folder (models_manifest_url). NULL = the owner wants no downloads. */
	const char *source;
	const char *models_dir, *ca_path;
	uint64_t keep_free_bytes; /* of the disk */
	uint32_t retry_ms;        /* before the first retry; 0 = BUILDS_RETRY_MS */
	struct residency *residency;
	/* A model is on disk: adds it to the residency, held. */
	enum db_err (*add)(const struct model_entry *entry, void *context, struct error *error);
	void *context;
	/* A build's state changed, or it was asked for again; of a download at most each 5 % or 2 s. */
	void (*report)(const struct build_view *view, void *user);
	void *user;
};

struct builds;
/* Options are borrowed for the life of the builds. NULL and a sentence on failure. */
struct builds *builds_new(struct net_loop *loop, const struct builds_options *options, struct error *error);
void builds_free(struct builds *builds); /* what was downloaded so far is kept; not from inside report */

struct build_wanted {
	struct str id, weight_hash; /* hash empty: whatever the source says */
};
/* The whole list: what is not on it any more is given up. Tells the state of each at once; one that failed is tried again. */
void builds_want(struct builds *builds, const struct build_wanted *list, size_t count);
/* One that is to be on disk and no more, until the next builds_want. */
void builds_prefetch(struct builds *builds, struct str id, int64_t priority);
size_t builds_list(const struct builds *builds, struct build_view *out, size_t max);

#endif
