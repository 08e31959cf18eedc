/* The provider's periodic report (protocol-and-trust 3.2). Values are already clamped (3.2, routing 1). */
#ifndef WIRE_HEARTBEAT_H
#define WIRE_HEARTBEAT_H

#include "wire/types.h"

#define WIRE_MAX_WARM_MODELS 4096
#define WIRE_MAX_SLOTS       1024

enum wire_activity { WIRE_ACTIVITY_UNKNOWN, WIRE_IDLE, WIRE_SERVING };

enum wire_thermal {
	WIRE_THERMAL_UNKNOWN,
	WIRE_THERMAL_NOMINAL,
	WIRE_THERMAL_FAIR,
	WIRE_THERMAL_SERIOUS,
	WIRE_THERMAL_CRITICAL
};

/* Routing's verdicts per state are in routing 1. An unrecognised word counts as WIRE_SLOT_UNKNOWN. */
enum wire_slot_state {
	WIRE_SLOT_LEGACY, /* "" or absent */
	WIRE_SLOT_RUNNING,
	WIRE_SLOT_IDLE, /* loaded and warm */
	WIRE_SLOT_IDLE_SHUTDOWN,
	WIRE_SLOT_RELOADING,
	WIRE_SLOT_CRASHED,
	WIRE_SLOT_UNKNOWN,
};

const char *wire_slot_state_name(enum wire_slot_state state);
const char *wire_thermal_name(enum wire_thermal thermal);

/* Counters since the provider's process started; a decrease means a restart. */
struct wire_stats {
	int64_t requests_served, tokens_generated;
	int64_t cancellations_received, cancellations_before_output, cancellations_partial_complete;
	int64_t generation_errors_after_output, chunk_encryption_errors, stream_closed_without_terminal;
	int64_t cancel_during_model_load, usage_gaps;
};

struct wire_slot {
	struct str model;
	enum wire_slot_state state;
	int64_t num_running, num_waiting;
	int64_t active_tokens, max_tokens_potential;                                    /* 0..1e6 */
	int64_t max_concurrency;                                                        /* 0..24, 0 = not said, as all below */
	double observed_decode_tps;                                                     /* 0..500 */
	double observed_prefill_tps;                                                    /* above 5000 counts as not said */
	int64_t active_token_budget_used, active_token_budget_max, queued_token_budget; /* 0..1e10 */
	int64_t kv_bytes_per_token;
	int64_t model_load_time_ms; /* 0..3,600,000 */
	struct str prefixes;        /* extension: names of the prompts whose state it keeps, the latest first (wire/prefix.h) */
};

struct wire_capacity {
	struct wire_slot *slots;
	size_t slot_count;
	double gpu_memory_active_gb, gpu_memory_peak_gb, gpu_memory_cache_gb, total_memory_gb; /* 0..1024 */
	bool has_free_for_load; /* a genuine 0 is "can load nothing" */
	double free_for_load_gb;
};

/* A model that is being loaded, and how far that is, 0..1. */
struct wire_load {
	struct str model;
	double progress;
};

struct wire_loads {
	struct wire_load *at;
	size_t count;
};

struct wire_heartbeat {
	enum wire_activity status;
	struct str active_model; /* empty = none */
	struct wire_stats stats;
	struct wire_strings warm_models;   /* empty clears the stored list */
	double memory_pressure, cpu_usage; /* 0..1 */
	enum wire_thermal thermal_state;
	bool has_capacity; /* false clears the stored capacity */
	struct wire_capacity capacity;
	struct str apns_device_token, apns_environment;
	bool draining;           /* extension: takes no new requests, finishes those it has */
	struct wire_loads loads; /* extension: models that are being loaded now */
};

#endif
