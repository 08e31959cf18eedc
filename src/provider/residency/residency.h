/* Which of this provider's models are in memory (provider-node 8.3): loaded when somebody asks for them, the longest unused
 * leaves when another needs its place, when nobody asked for it in a while, or when the machine runs short of memory.
 *
 *   cold -> wanted -> loading -> loaded -> unloading -> cold
 *
 * One load or unload runs at a time, on a worker; whoever asks for a model meanwhile shares its load. A model that is in use
 * or pinned stays. Thread: the loop's, except the loader. */
#ifndef PROVIDER_RESIDENCY_H
#define PROVIDER_RESIDENCY_H

#include "core/error.h"
#include "core/list.h"
#include "core/str.h"
#include "net/loop.h"
#include "provider/engine/engine.h"
#include "provider/residency/memory_plan.h"

#define RESIDENCY_MODEL_SIZE   160
#define RESIDENCY_MAX_MODELS   64
#define RESIDENCY_MAX_LOADED   3 /* when not said (provider-node 3.2) */
#define RESIDENCY_IDLE_POLL_MS 60000

struct residency;

/* A model that this provider offers. */
struct residency_model {
	char id[RESIDENCY_MODEL_SIZE];
	char model_type[64], quantization[32]; /* "" = not known before it was loaded */
	char weight_hash[65];                  /* hex SHA-256, or empty */
	uint64_t size_bytes;
	bool pinned;              /* never unloaded */
	bool held;                /* not offered yet: residency_offer */
	bool embeds, only_embeds; /* as in struct engine_info, known before it is loaded */
};

struct residency_options {
	uint32_t max_loaded;     /* 0 = RESIDENCY_MAX_LOADED */
	uint64_t idle_unload_ms; /* 0 = never */
	uint32_t poll_ms;        /* how often idleness and memory are looked at; 0 = RESIDENCY_IDLE_POLL_MS */
	struct memory_policy policy;
	/* What the machine has now. On the loop's thread, quick. */
	void (*memory)(struct memory_now *out, void *context);
	/* Blocks; on a worker. NULL and a sentence on failure. Calls progress with 0..1. */
	struct engine *(*load)(const struct residency_model *model, void (*progress)(float fraction, void *user), void *user,
	                       void *context, struct error *error);
	void *context;
};

struct residency *residency_new(struct net_loop *loop, const struct residency_options *options);
/* Every use must have been released. Frees the engines; a load that runs is waited for by net_loop_free, and the rest goes
 * then. */
void residency_free(struct residency *residency);

/* DB_E_LIMIT above RESIDENCY_MAX_MODELS, DB_E_EXISTS. `loaded` may be NULL: cold. Takes the engine over. */
enum db_err residency_add(struct residency *residency, const struct residency_model *model, struct engine *loaded);
/* A model that was held is offered from now on; those who watch hear of it. DB_E_NOT_FOUND. */
enum db_err residency_offer(struct residency *residency, struct str id);
/* Could this machine ever load such weights, with everything else out of memory? */
bool residency_could_ever(const struct residency *residency, uint64_t size_bytes, struct error *why_not);
size_t residency_count(const struct residency *residency);
/* May this model be loaded beside what is loaded now, without anything leaving? For start-up, which loads by itself. */
bool residency_has_room(const struct residency *residency, uint64_t size_bytes, struct error *why_not);

/* A load ended, a model left, a load began: not for each step of its progress. `changed` may call anything here but
 * residency_free. */
void residency_on_change(struct residency *residency, void (*changed)(void *user), void *user);

/* --- using a model --- */

struct residency_entry;

/* Embedded in what uses the model; zeroed: uses nothing. */
struct residency_use {
	struct list_link link;
	struct residency_entry *entry;
	bool waiting;
	/* Once, after residency_acquire returned RESIDENCY_LATER: status 0 and the engine, or an HTTP-like status and a
	 * sentence; then the use is over. */
	void (*ready)(struct residency_use *use, struct engine *engine, int status, const char *why);
};

#define RESIDENCY_LATER (-1)
/* 0: *engine stays loaded until the release. RESIDENCY_LATER: `ready` will be called. Else the refusal as an HTTP-like status
 * with its sentence: 404 not offered, 503 when it is certain that it cannot be loaded now (8.3 "Pre-accept check"). */
int residency_acquire(struct residency *residency, struct str id, struct residency_use *use, struct engine **engine,
                      struct error *error);
void residency_release(struct residency_use *use); /* ends the use or the wait; harmless when there is none */

/* --- views --- */

enum residency_state { RESIDENCY_COLD, RESIDENCY_WANTED, RESIDENCY_LOADING, RESIDENCY_LOADED, RESIDENCY_UNLOADING };
const char *residency_state_name(enum residency_state state); /* "cold", "waiting", "loading", "loaded", "unloading" */

struct residency_view {
	const struct residency_model *model; /* borrowed for the residency's life */
	enum residency_state state;
	struct engine *engine; /* when loaded: borrowed until the loop turns */
	float progress;        /* of the load, 0..1 */
	uint32_t uses;
	char failure[160]; /* of the last load; empty = it went well */
	bool ever_loaded;
	struct engine_info info; /* as the last load found it; zero before */
};
void residency_view(const struct residency *residency, size_t index, struct residency_view *out);
const struct residency_model *residency_find(const struct residency *residency, struct str id);
/* What the models hold that are in memory: weights, contexts and work space (engine_info.memory_bytes). */
struct residency_memory {
	uint64_t held_bytes;
	uint64_t peak_bytes; /* the most that was held at once since the start */
};
void residency_memory(const struct residency *residency, struct residency_memory *out);
/* What a heartbeat may promise: the largest weights that could be loaded now, in GiB; 0 when every place is taken. */
double residency_free_for_load_gb(const struct residency *residency);

#endif
