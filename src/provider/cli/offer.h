/* The models that `darkbloom start` offers: found on disk, loaded at start as far as places and memory allow, the others when
 * somebody asks for them. Thread: the loop's. */
#ifndef PROVIDER_OFFER_H
#define PROVIDER_OFFER_H

#include "provider/models/models.h"
#include "provider/residency/residency.h"

struct offer_options {
	const char *models_dir, *script_path; /* script: every model is answered by it */
	const char *const *names;             /* none = every model on disk */
	size_t name_count;
	const char *const *pins;
	size_t pin_count;
	uint32_t threads, sequences, context; /* of each model; 0 = the engine's default */
	uint32_t max_loaded;
	uint64_t idle_unload_ms; /* 0 = never */
	uint32_t hang_ms;        /* an engine that has work and moves nothing for so long is loaded anew; 0 = the guard's default */
	double reserve_gb;       /* < 0 = the machine's default */
	double kv_gb;            /* KV memory of all models together; 0 = what the weights leave of the machine's memory */
	struct kv_cache *cache;  /* outlives the offer; NULL = none */
	bool embeddings;         /* of every model, not only of those made for them */
	bool no_speculation;
	bool on_demand; /* load nothing but pinned models at start */
};

struct offer;

/* Shows the progress of loads; says on stderr what is wrong and returns NULL. `options` are borrowed for the offer's life. */
struct offer *offer_open(struct net_loop *loop, const struct offer_options *options);
/* A model that came to the disk after the start: known to the residency, held. For struct builds_options. */
enum db_err offer_add(const struct model_entry *entry, void *offer, struct error *error);
struct residency *offer_residency(const struct offer *offer);
struct kv_budget *offer_budget(const struct offer *offer);
/* Before net_loop_free and net_loop_free before offer_free: a load that still runs needs the offer. */
void offer_close(struct offer *offer);
void offer_free(struct offer *offer);

#endif
