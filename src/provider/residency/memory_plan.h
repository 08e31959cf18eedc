/* May a model be loaded? One policy for every load (provider-node 8.2): what the machine keeps for its owner, what a running
 * engine needs beside its weights, what is free now. Refusing is better than swapping. Pure; thread: any. */
#ifndef PROVIDER_MEMORY_PLAN_H
#define PROVIDER_MEMORY_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* GiB. The chapter's numbers hold from 64 GiB on; a smaller machine keeps the same shares of what it has, or an 8 GiB machine
 * could load nothing. */
struct memory_policy {
	double cap_fraction;  /* of physical memory that everything together may use */
	double reserve_gb;    /* kept for the machine's owner */
	double activation_gb; /* work space of engines */
	double min_kv_gb;     /* a loaded model must be able to answer something */
};
/* reserve_gb < 0 = the default for this machine. */
struct memory_policy memory_policy_of(double physical_gb, double reserve_gb);

struct memory_now {
	double physical_gb, available_gb; /* available: free, or reclaimable by the system without swapping */
	double kv_reserved_gb;            /* promised to sequences and not touched yet */
	/* Of graphics processors with memory of their own, which then hold the weights and the contexts; 0 = there is none. */
	double device_total_gb, device_free_gb;
};

/* As the engine's library reports it. */
struct memory_device {
	bool dedicated; /* it has memory of its own; else it uses the machine's */
	double total_gb, free_gb;
};
/* Fills what memory_now says of devices. */
void memory_on_devices(struct memory_now *now, const struct memory_device *devices, size_t count);

double memory_estimate_gb(uint64_t weight_bytes); /* of a model once it is loaded, KV apart */
double memory_free_for_load_gb(const struct memory_policy *policy, const struct memory_now *now); /* at least 0 */
/* KV memory that the loaded models may have together, when nobody said another number. */
double memory_kv_gb(const struct memory_policy *policy, const struct memory_now *at_start, double loaded_gb);
double memory_need_gb(const struct memory_policy *policy, uint64_t weight_bytes); /* what must be free for it */
/* The system is about to swap: what nobody uses should go. */
bool memory_is_short(const struct memory_policy *policy, const struct memory_now *now);

#endif
