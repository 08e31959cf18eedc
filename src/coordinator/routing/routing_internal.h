/* Shapes shared by the files of routing/.
 *
 * An entry is one (node, model). What selection needs of it is computed when something about it changes (a heartbeat, a
 * reservation, a release, trust) and not when a request comes: its cost is linear in the request,
 *
 *     cost = base_ms + prompt tokens * prompt_ms + output tokens * output_ms
 *
 * so that entries of about the same two slopes form a class, and each class is a heap ordered by base_ms. The best entry for
 * a request is near the head of one of the classes (routing 23). */
#ifndef COORDINATOR_ROUTING_INTERNAL_H
#define COORDINATOR_ROUTING_INTERNAL_H

#include "coordinator/routing/heap.h"
#include "coordinator/routing/reputation.h"
#include "coordinator/routing/routing.h"
#include "coordinator/routing/slab.h"
#include "core/map.h"

#define ROUTE_TIE_MS         3000.0 /* costs this close are alike (routing 7, selection) */
#define ROUTE_BATCH_SLOWDOWN 0.27   /* rate of each of b streams = solo / (1 + 0.27 (b - 1)) */
#define ROUTE_DECODE_FLOOR   15.0   /* tokens/s below which a newcomer is not welcome while others can take it */
#define ROUTE_DEFAULT_OUTPUT 256    /* tokens, when nothing is known about an answer's length */
#define ROUTE_TYPICAL_PROMPT 1000   /* likewise of its prompt */
#define ROUTE_UNRANKED       UINT32_MAX
#define ROUTE_UNLIMITED      UINT32_MAX /* tokens */
#define ROUTE_CLASS_FULL     0          /* entries that only lack a free place: known, but not offered */
#define ROUTE_CLASS_SICK     1          /* entries that only a breaker holds back */
#define ROUTE_CLASS_FIRST    2          /* of those that are offered */
#define ROUTE_RATE_SAMPLES   50
#define ROUTE_MAX_FAMILIES   64
#define ROUTE_MAX_VERSIONS   256
#define ROUTE_ARITY          4    /* of the heaps */
#define ROUTE_HEADS          2    /* classes whose first is looked at */
#define ROUTE_LOOK           4    /* near-ties compared exactly */
#define ROUTE_PROBES         32   /* entries looked at in order of cost */
#define ROUTE_HOLDERS        8    /* nodes that keep a prefix of the prompt, looked at besides */
#define ROUTE_SCAN           1024 /* and then in no order */
/* Two passes over the public fleet, and the nodes that are named by owner and by region. */
#define ROUTE_MAX_CANDIDATES    (2 * (ROUTE_LOOK + ROUTE_HEADS + ROUTE_PROBES + ROUTE_SCAN) + ROUTE_HOLDERS + 3 * ROUTE_SCAN)
#define ROUTE_QUANTIZATION_SIZE 32
#define ROUTE_BREAKER_RING      20     /* outcomes of a device that its breaker looks at (routing 11.3) */
#define ROUTE_MAX_RECORDS       32     /* models of one device that something is held against */
#define ROUTE_MAX_DEPARTED      131072 /* devices remembered without a connection */
#define ROUTE_MAX_LEARNT        64     /* models of one device whose rates are remembered without a connection */
#define ROUTE_MAX_PAST_MODELS   4096   /* that nobody advertises, and something was learnt of */
#define ROUTE_BUCKET_SLOW       0x8000 /* bits of a class's bucket beside its slopes */
#define ROUTE_BUCKET_HARDWARE   0x0080
#define ROUTE_SLAB_ENTRIES      6  /* models of a node whose entries come from a slab */
#define ROUTE_LINE              64 /* bytes of a cache line */
#define ROUTE_CHALLENGE_US      (16ull * 60 * 1000000)

/* --- what is remembered of a device, whichever connection it comes by (routing 11.3) --- */

struct route_timer {
	struct heap_item item; /* in fleet->timers, by instant */
	bool of_device;        /* in a struct route_health, else in a struct route_record */
};

/* Shut until its time is over; then half open: one reservation probes, and its outcome decides. */
struct route_breaker {
	uint64_t open_until_us; /* 0 = closed */
	const struct route_reservation *probe;
};

/* What is held against one model on a device. */
struct route_record {
	struct route_record *next; /* of its device */
	struct route_device *device;
	struct route_timer timer;
	uint64_t cool_until_us; /* after a failed load; 0 = not cooling */
	struct {
		struct route_breaker breaker;
		uint64_t struck_us;
		uint8_t strikes;
	} shapes[ROUTE_SHAPES];
	size_t model_len;
	char model[];
};

/* Of a device that failed lately. */
struct route_health {
	struct route_device *device;
	struct route_timer timer;
	struct route_breaker breaker;
	uint64_t last_fault_us;
	uint32_t faults; /* bits, newest lowest */
	uint8_t trips, consecutive, outcomes, next;
	uint64_t at_us[ROUTE_BREAKER_RING];
};

/* What was measured on a device, by digest of the model's id: a connection that comes back need not measure it again. */
struct route_learnt {
	uint32_t count;
	struct route_learnt_rate {
		uint64_t model;
		float solo_tps;
		uint32_t load_time_ms;
	} at[];
};

struct route_device {
	struct route_node *nodes;     /* connected ones: normally one; the next is its same_device */
	struct route_record *records; /* newest first */
	struct list_link departed;    /* in fleet->departed while nodes is NULL */
	struct route_health *health;  /* NULL: nothing to say */
	struct route_learnt *learnt;  /* of former connections; NULL: nothing */
	struct reputation reputation;
	float network_ms; /* last measured, 0 = never */
	uint16_t id_len;  /* 0: known by its connection alone, and forgotten with it */
	char id[];
};

/* Fleet-wide observed decode rates of one model on one chip family: the last 50, and their median (routing 7). */
struct route_rates {
	uint16_t family;
	uint8_t count, next;
	float ring[ROUTE_RATE_SAMPLES], sorted[ROUTE_RATE_SAMPLES];
};

#define ROUTE_RATIO_BUCKETS 40

/* Actual over predicted times to the first content. */
struct route_ratios {
	float weight[ROUTE_RATIO_BUCKETS], total;
};

struct route_rank {
	float key; /* its base_ms */
	struct route_entry *entry;
};

struct route_class {
	struct route_rank *heap; /* 4-ary, smallest key first */
	uint32_t len, cap;
	struct route_entry *first; /* with its key, so that a look at the heads touches no heap */
	float head;
	float prompt_ms, output_ms; /* no entry of the class has smaller slopes */
	uint16_t bucket;
	uint8_t trust; /* enum route_trust: no entry of the class has more */
	bool slow;     /* its entries would be too slow for a newcomer */
};

/* What was learnt of a model, whoever serves it. */
struct route_known {
	struct route_rates **rates;
	uint32_t rate_count;
	struct route_ratios ratios;
	double typical_prompt, typical_output; /* tokens: decayed averages of what was asked for and expected */
};

/* A model that nobody advertises now. */
struct route_past_model {
	struct list_link link; /* in fleet->past_order */
	struct route_known known;
	size_t id_len;
	char id[];
};

/* Of a build, as some node says. */
struct route_files {
	char hash[ROUTE_FILES_SIZE];
	bool wanted;      /* the pinned ones, while the model is pinned */
	uint32_t entries; /* that have them; 0 = the place is free */
};

struct route_model {
	struct route_class *classes; /* [ROUTE_CLASS_FULL] always exists */
	uint32_t class_count, class_cap;
	struct route_known known;
	uint8_t family; /* of the policy's dedicated ones, from 1; 0 = none */
	bool described; /* by a node that has the files that were taken then */
	bool pinned;    /* only the files of this hash are taken: files.c */
	char pin[ROUTE_FILES_SIZE];
	struct route_files *files;
	uint32_t file_count;
	uint32_t entries; /* nodes that advertise it; 0 = the model is forgotten */
	/* Kept up to date by route_entry_refresh. Private nodes are not shown. */
	uint32_t shown, routable, warm, trust[ROUTE_TRUST_HARDWARE + 1];
	uint64_t active;
	uint32_t by_gate[ROUTE_GATES]; /* of every entry */
	uint64_t size_bytes, context_tokens;
	uint32_t can;
	char quantization[ROUTE_QUANTIZATION_SIZE];
	size_t id_len;
	char id[];
};

/* A slot as it is kept: what is asked of it later, in as few bits as that needs. Token counts end at UINT32_MAX. */
struct route_kept_slot {
	uint8_t state; /* enum route_slot_state */
	uint8_t max_concurrency;
	uint16_t running, waiting;
	uint16_t ran;  /* streams at the last report that showed some */
	uint16_t beat; /* heartbeat that told it */
	uint16_t prefill_tenths;
	uint32_t potential, budget_used, budget_queued, budget_max, active_tokens;
	float kv_bytes_per_token;
};

/* Two cache lines: a fleet is larger than any cache, and each line of an entry that a decision touches costs as much as all of
 * its arithmetic. */
struct route_entry {
	/* Read by selection. */
	float base_ms, prompt_ms, output_ms;
	float decode_tps;     /* of a stream alone */
	uint32_t free_tokens; /* prompt + max of the largest request that is admitted now; ROUTE_UNLIMITED */
	uint32_t rank;        /* position in its class's heap, or ROUTE_UNRANKED */
	struct route_node *node;
	struct route_model *model;
	uint16_t queue; /* effective queue (routing 7) */
	uint16_t class, bucket;
	uint16_t can;
	uint8_t gate;                  /* enum route_gate: the first that fails whatever the request, or ROUTE_OK */
	uint8_t files;                 /* place among its model's, from 1; 0 = not said */
	uint8_t trust;                 /* enum route_trust */
	unsigned char shut_shapes : 2; /* bits of enum route_shape */
	bool vision : 1, tools_ok : 1, plain_prompts_ok : 1, blind_ok : 1, cold : 1, slow : 1;
	bool sick : 1;            /* eligible but for a breaker */
	bool template_broken : 1; /* changed by facts, as are can and vision */
	bool recorded : 1;        /* something is held against it: route_record_of */
	/* In its model's counts, as are its gate and its queue. */
	bool counted : 1, shown : 1, routable : 1, warm : 1;
	unsigned char counted_trust : 2;
	bool measured : 1;       /* its rate is not only guessed */
	bool holds : 1;          /* prefixes of prompts: prefix.c */
	bool budgeted : 1;       /* a request above free_tokens runs into ROUTE_BUDGET, else into ROUTE_MEMORY */
	uint16_t pending;        /* reservations */
	uint16_t node_pending;   /* the node's */
	uint16_t released;       /* reservations that the last heartbeat may have counted and that ended since */
	uint32_t pending_tokens; /* prompt + max */
	/* The rest is not. */
	struct route_kept_slot slot;
	uint32_t load_time_ms; /* last reported, 0 = never */
	float size_gb;
	float solo_tps;           /* learnt from what was reported at whatever load; 0 = nothing yet */
	float reported_tps;       /* the figure that was last learnt from */
	float meeting_ms;         /* of typical requests: what one more that runs costs (cost.c) */
	uint32_t released_tokens; /* of reservations that the last heartbeat may have counted and that ended since */
	float read_ms;            /* of typical requests: reading a prompt */
};

/* Nodes of one account, or of one region. */
struct route_group {
	struct list nodes;
	size_t name_len;
	char name[]; /* the key of fleet->owners or fleet->regions */
};

/* Few words that many nodes share; the table ends at a bound so that strangers cannot fill it. */
struct route_names {
	char **at;
	size_t count;
};

/* Facts as they are kept. */
struct route_kept_facts {
	uint64_t last_challenge_us;
	float static_decode_tps, static_prefill_tps, bandwidth_gbs, memory_gb;
	float memory_pressure, cpu_usage, network_ms;
	float gpu_active_gb, total_memory_gb, free_for_load_gb;
	uint16_t family, version; /* in the fleet's names */
	uint8_t thermal, trust;
	bool connected_ok : 1, untrusted : 1, private_only : 1, private_text : 1, posture_verified : 1, runtime_verified : 1;
	bool plain_prompts_ok : 1, tools_ok : 1, blind_ok : 1, has_capacity : 1;
};

struct route_node {
	/* What a reservation changes. */
	_Alignas(ROUTE_LINE) struct route_entry *entries;
	uint16_t entry_count, pending;
	uint16_t unread;             /* reservations whose prompt is not known to be read */
	uint16_t beat;               /* heartbeats, counted round */
	double unread_ms;            /* reading them */
	struct route_device *device; /* NULL until it has an identity or fails */
	struct list reservations;
	uint16_t entry_room; /* entries that there is memory for */
	uint8_t family;      /* of all its models, as in struct route_model; 0 = they have none in common */
	bool budgets;        /* some slot reports a token budget */
	bool loss_told;      /* its connection broke: that counts once, however many requests it had */
	struct route_kept_facts facts;
	void *user;
	struct list_link all;
	struct list_link fresh; /* in fleet->fresh while the last challenge is young enough */
	struct route_node *same_device;
	struct route_group *owner, *region;
	struct list_link owned, placed; /* in owner and in region */
	char *serial;                   /* the key of fleet->serials, or NULL; `short_serial` when it fits */
	char short_serial[16];
	struct route_holdings *holdings; /* prefix.c */
};

struct route_reservation {
	struct list_link link; /* in its node */
	struct route_node *node;
	struct route_entry *entry; /* NULL when the node stopped serving the model */
	uint32_t tokens;
	uint16_t beat;    /* node's heartbeat count when it was made */
	bool read;        /* its prompt is */
	double unread_ms; /* of the node's */
	uint8_t shape;    /* enum route_shape */
	bool cold;
	float predicted_ms, read_ms; /* to the first content, not corrected (< 0 unknown); of it, reading the prompt */
	uint64_t made_us;
};

struct route_candidate {
	struct route_entry *entry;
	double cost;
	uint64_t cached; /* tokens of the prompt */
	uint32_t grade;  /* soft filters that it fails (routing 7, selection 3): the lowest that any candidate has is taken */
};

struct alias_table;

struct route_fleet {
	struct route_policy policy;
	const struct alias_table *aliases; /* whose pins count; NULL: none */
	uint64_t now_us;                   /* the latest that was told */
	uint64_t random;
	struct map models, owners, regions, serials;
	struct map holders;          /* digest -> first of those that keep that prefix */
	struct map past_models;      /* id -> struct route_past_model */
	struct list past_order;      /* longest away first */
	struct route_model **sorted; /* by id, for views */
	uint64_t views_version;
	size_t model_count, model_cap;
	struct list all_nodes;
	struct list fresh;  /* nodes, oldest challenge first */
	struct heap timers; /* route_timer.item */
	struct map devices;
	struct list departed; /* devices, longest away first */
	struct route_names families, versions;
	struct list spare_reservations;
	struct slab node_slab;
	struct slab entry_slabs[ROUTE_SLAB_ENTRIES]; /* [i]: of nodes with i + 1 models */
	struct route_candidate candidates[ROUTE_MAX_CANDIDATES];
};

/* index.c */
struct route_model *route_model_get(struct route_fleet *fleet, struct str id); /* makes it; NULL when out of memory */
struct route_model *route_model_find(const struct route_fleet *fleet, struct str id);
void route_model_unref(struct route_fleet *fleet, struct route_model *model);
/* Entries of the same bucket have nearly the same slopes. */
uint16_t route_bucket(double prompt_ms, double output_ms);

/* group.c */
/* Interned, or 0 for none or a full table. */
uint16_t route_name_get(struct route_names *names, struct str text, size_t max);
uint16_t route_name_find(const struct route_names *names, struct str text); /* 0 = none */
struct str route_name_at(const struct route_names *names, uint16_t name);
void route_names_free(struct route_names *names);
/* Moves a node's link from one group to another; groups without nodes are forgotten. An empty name is no group. */
enum db_err route_group_move(struct map *groups, struct route_group **group, struct list_link *link, struct str name);
struct str route_group_name(const struct route_group *group); /* of NULL: empty */
bool route_is_own(const struct route_node *node, const struct route_request *request);
void route_index_place(struct route_entry *entry); /* into the heap that it belongs to now */
void route_index_remove(struct route_entry *entry);
/* Soon to be placed anew: a fleet is larger than any cache, and this way its misses overlap. Each needs what the one before
 * fetched, so that something else is to be done between them: models, their classes, places in these and below them. */
void route_index_fetch_models(const struct route_entry *entries, uint32_t count);
void route_index_fetch_classes(const struct route_entry *entries, uint32_t count);
void route_index_fetch_places(const struct route_entry *entries, uint32_t count);
void route_index_moved(struct route_entry *entry); /* a copy stands for it from now on */

/* device.c */
/* The node's from now on; an empty id is none. What was held against the node before stays with the other device. */
void route_device_join(struct route_fleet *fleet, struct route_node *node, struct str id);
void route_device_leave(struct route_fleet *fleet, struct route_node *node);
struct route_device *route_device_of(struct route_fleet *fleet, struct route_node *node); /* makes it; NULL: no memory */
struct route_record *route_record_find(const struct route_device *device, const struct route_model *model); /* may be NULL */
struct route_record *route_record_of(const struct route_entry *entry);                                      /* likewise */
/* Makes it; what is held longest goes when there are too many. NULL: no memory. */
struct route_record *route_record_get(struct route_fleet *fleet, struct route_node *node, struct route_entry *entry);
struct route_health *route_health_get(struct route_device *device); /* likewise */
struct route_record *route_record_make(struct route_fleet *fleet, struct route_device *device, struct str model);
/* The device of that id, made when there is none: departed until a node joins it. NULL: no memory, or too many. */
struct route_device *route_device_recall(struct route_fleet *fleet, struct str id);
void route_record_free(struct route_fleet *fleet, struct route_record *record);
void route_health_free(struct route_fleet *fleet, struct route_health *health);
void route_devices_free(struct route_fleet *fleet);
void route_device_refresh(struct route_fleet *fleet, const struct route_device *device);

/* past.c: what was learnt outlives connections. */
void route_past_keep(struct route_fleet *fleet, struct route_model *model); /* it is about to be forgotten; empties it */
void route_past_recall(struct route_fleet *fleet, struct route_model *model);
struct route_past_model *route_past_make(struct route_fleet *fleet, struct str id); /* NULL: no memory, or there is one */
void route_past_free(struct route_fleet *fleet, struct route_past_model *past);
void route_learnt_apply(struct route_entry *entry); /* from its node's device, where nothing is measured yet */
/* Of the device's first node and of what was learnt before; at most ROUTE_MAX_LEARNT. */
size_t route_learnt_of(const struct route_device *device, struct route_learnt_rate out[ROUTE_MAX_LEARNT]);
void route_learnt_keep(struct route_device *device); /* a connection of it ends */
void route_learnt_set(struct route_device *device, const struct route_learnt_rate *rates, size_t count);

/* prefix.c */
void route_holdings_drop(struct route_fleet *fleet, struct route_entry *entry);
uint64_t route_cached_tokens(const struct route_entry *entry, const struct route_request *request);
size_t route_holders_of(const struct route_fleet *fleet, const struct route_model *model, uint64_t digest,
                        struct route_entry **out, size_t max);

/* files.c */
void route_files_say(struct route_entry *entry, struct str hash); /* by its node; empty = nothing said */
void route_files_forget(struct route_entry *entry);
void route_files_pinned(const struct route_fleet *fleet, struct route_model *model); /* looks its pin up */
void route_files_pin(struct route_fleet *fleet, struct str build);                   /* its pin may have changed */

/* calibrate.c */
void route_calibrate(struct route_model *model, double predicted_ms, double actual_ms);
double route_ttft_factor(const struct route_model *model);                  /* by which predictions are corrected */
double route_tail_ms(const struct route_model *model, double predicted_ms); /* of an uncorrected one; < 0 = not known */

/* breaker.c */
bool route_node_shut(const struct route_node *node, uint64_t now_us);
uint8_t route_shapes_shut(const struct route_record *record, uint64_t now_us); /* bits; record may be NULL */
bool route_is_cooling(const struct route_entry *entry, uint64_t now_us);
/* Makes a reservation the probe of the breakers that are half open. True when there was one. */
bool route_probe_begin(const struct route_fleet *fleet, const struct route_reservation *reservation);
bool route_probe_end(const struct route_reservation *reservation); /* true when it was one */
void route_record_cool(struct route_fleet *fleet, struct route_record *record, uint64_t until_us);
void route_timer_fired(struct route_fleet *fleet, struct route_timer *timer);
/* Their next instant; frees what holds nothing any more. */
void route_health_rearm(struct route_fleet *fleet, struct route_health *health);
void route_record_rearm(struct route_fleet *fleet, struct route_record *record);

/* select.c */
void route_prompt_read(struct route_fleet *fleet, struct route_reservation *reservation);

/* rates.c */
void route_rates_free(struct route_rates **rates, uint32_t count);
enum db_err route_rates_put(struct route_past_model *past, uint16_t family, const float *samples, size_t count);
void route_rates_add(struct route_model *model, uint16_t family, double tps);
uint32_t route_rates_count(const struct route_model *model, uint16_t family);
double route_rates_median(const struct route_model *model, uint16_t family); /* 0 = no samples */

/* cost.c */
void route_entry_learn(struct route_entry *entry, double told); /* a rate was reported: what a stream alone would get */
void route_entry_measure(struct route_entry *entry);            /* rates and slopes, from what the node reported */
void route_entry_price(struct route_entry *entry);              /* queue and base, from the work it has */
void route_entry_cost(const struct route_entry *entry, const struct route_request *request, struct route_cost *out);
double route_entry_ttft(const struct route_entry *entry, const struct route_request *request);
uint64_t route_expected(const struct route_request *request);
double route_static_decode(const struct route_kept_facts *facts);

/* gate.c */
uint64_t route_need(const struct route_request *request);       /* tokens that admission counts for it */
uint32_t route_live_load(const struct route_entry *entry);      /* running + waiting, less what ended since */
uint64_t route_live_used(const struct route_entry *entry);      /* budget used + queued, likewise */
uint64_t route_live_potential(const struct route_entry *entry); /* max_tokens_potential, likewise */
void route_entry_admit(struct route_entry *entry);              /* free_tokens, budgeted */
uint64_t route_ceiling(const struct route_entry *entry);        /* of the largest request that waiting could help */
/* `bypass`: as if no breaker of a node were open. */
enum route_gate route_standing_gate(const struct route_fleet *fleet, const struct route_entry *entry, bool bypass);
/* route_check, likewise. */
enum route_gate route_check_entry(const struct route_fleet *fleet, const struct route_entry *entry,
                                  const struct route_request *request, bool bypass);
/* The rest of the predicate, for an entry whose standing gate is open or only full, and a request that anyone may serve. */
enum route_gate route_request_gate(const struct route_entry *entry, const struct route_request *request);

/* node.c */
void route_entry_refresh(struct route_fleet *fleet, struct route_entry *entry);
void route_node_refresh(struct route_fleet *fleet, struct route_node *node);  /* its reports or facts changed */
void route_node_reloaded(struct route_fleet *fleet, struct route_node *node); /* its work changed */
void route_advance(struct route_fleet *fleet, uint64_t now_us);               /* time passes: freshness and cool-downs end */
struct route_entry *route_node_entry(const struct route_node *node, const struct route_model *model);

static inline enum route_shape route_shape_of(const struct route_request *request)
{
	return request->tools ? ROUTE_SHAPE_TOOLS : ROUTE_SHAPE_BASE;
}

static inline bool route_files_ok(const struct route_entry *entry)
{
	return !entry->model->pinned || (entry->files && entry->model->files[entry->files - 1].wanted);
}

static inline bool route_resident(const struct route_entry *entry)
{
	return entry->slot.state == ROUTE_SLOT_IDLE || entry->slot.state == ROUTE_SLOT_RUNNING;
}

#endif
