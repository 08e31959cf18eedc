/* Which provider serves a request. Pure: no I/O and no clock of its own, so the server and the simulator run the same code
 * (routing chapter). All indexes are incremental: nothing here costs O(fleet) for a request, a heartbeat or a disconnect.
 * Thread: one at a time (the loop's in the server). */
#ifndef COORDINATOR_ROUTING_H
#define COORDINATOR_ROUTING_H

#include "coordinator/routing/reputation.h"
#include "core/error.h"
#include "core/list.h"
#include "core/str.h"

#define ROUTE_MODEL_SIZE   160
#define ROUTE_FILES_SIZE   65 /* SHA-256 in hex */
#define ROUTE_MAX_EXCLUDED 64
#define ROUTE_MAX_PREFIXES 64 /* digests of one model on one node */

enum route_trust { ROUTE_TRUST_NONE, ROUTE_TRUST_SELF_SIGNED, ROUTE_TRUST_HARDWARE };
const char *route_trust_name(enum route_trust trust); /* "none", "self_signed", "hardware" */

struct route_fleet;
struct route_node; /* one connected provider, as routing knows it */

struct route_policy {
	enum route_trust min_trust;
	uint64_t challenge_max_age_us; /* 0 = 16 min (routing 3) */
	/* Families of models that have machines of their own (routing 13.1): parts of build ids, in any case. Borrowed. */
	const char *const *dedicated;
	size_t dedicated_count; /* at most 255 */
	uint64_t seed;          /* of the generator that breaks ties; the same seed and history give the same choices */
};

struct route_fleet *route_fleet_new(const struct route_policy *policy);
void route_fleet_free(struct route_fleet *fleet); /* frees the nodes too */

/* --- facts, told by fleet/ as they change --- */

enum route_slot_state {
	ROUTE_SLOT_COLD,
	ROUTE_SLOT_IDLE,
	ROUTE_SLOT_RUNNING,
	ROUTE_SLOT_IDLE_SHUTDOWN,
	ROUTE_SLOT_RELOADING,
	ROUTE_SLOT_CRASHED
};

struct route_slot {
	enum route_slot_state state;
	uint32_t running, waiting, max_concurrency; /* max 0 = not reported */
	uint64_t active_tokens, max_tokens_potential;
	uint64_t budget_used, budget_max, budget_queued; /* tokens; max 0 = not reported */
	double decode_tps, prefill_tps;                  /* observed, 0 = none */
	double kv_bytes_per_token;
	uint64_t load_time_ms;
};

struct route_model_facts {
	struct str id;
	uint64_t size_bytes;
	bool vision;
	int template_render_ok;  /* -1 unknown, 0 broken, 1 */
	uint32_t can;            /* capability bits, as in route_request.needs; routing knows no meaning of theirs */
	struct str quantization; /* for listings; empty = not said */
	uint64_t context_tokens; /* likewise; 0 = not said */
	struct str weight_hash;  /* of its files, hex in any case; where an alias pins others, the node does not serve it */
};

struct route_node_facts {
	bool connected_ok; /* registered, not draining, not offline */
	bool untrusted;
	bool private_only;
	bool private_text;     /* every condition of protocol-and-trust 7 "Private-text routing gate" that is fixed at register */
	bool posture_verified; /* the last challenge proved the posture */
	bool runtime_verified;
	enum route_trust trust;
	uint64_t last_challenge_us; /* monotonic, 0 = never passed */
	struct str chip_family;
	struct str serial;     /* attested, empty = none; what an allow-list names */
	struct str device;     /* durable identity: attested serial, else SE key; empty = only this connection. What went wrong is
	                          remembered for it (routing 11.3) and outlives the connection. */
	struct str version;    /* of its program; empty = unknown */
	struct str region;     /* "US" or "US-CA", upper case; empty = unknown */
	double network_ms;     /* measured round trip to it; <= 0 = unknown */
	bool plain_prompts_ok; /* runs prompts without a template */
	bool tools_ok;         /* new enough for requests with tools (routing 4) */
	bool blind_ok;         /* opens bodies that the coordinator cannot (docs/reference/blind-mode.md) */
	double static_decode_tps, static_prefill_tps, bandwidth_gbs; /* 0 = not registered */
	double memory_gb;
	/* live */
	double memory_pressure, cpu_usage;
	int thermal;       /* 0 nominal .. 3 critical */
	bool has_capacity; /* false: an older provider without backend_capacity: legacy rules (routing 8.2, 8.3) */
	double gpu_active_gb, total_memory_gb, free_for_load_gb; /* total 0, free < 0 = unknown */
};

#define ROUTE_MAX_NODE_MODELS 256

/* A node that is not routable until its facts say so. `user` is the fleet's session. NULL when out of memory. */
struct route_node *route_node_add(struct route_fleet *fleet, void *user);
/* Frees the node. Its reservations lose their node and are freed by route_release as ever. */
void route_node_remove(struct route_fleet *fleet, struct route_node *node);
void *route_node_user(const struct route_node *node);
/* The account that owns it, copied; empty = none. */
enum db_err route_node_set_owner(struct route_fleet *fleet, struct route_node *node, struct str account);
void route_node_set_facts(struct route_fleet *fleet, struct route_node *node, const struct route_node_facts *facts);
/* Replaces the advertised set; what is known about models that stay is kept. DB_E_LIMIT above ROUTE_MAX_NODE_MODELS or for an
 * id of ROUTE_MODEL_SIZE bytes or more: nothing is changed. */
enum db_err route_node_set_models(struct route_fleet *fleet, struct route_node *node, const struct route_model_facts *models,
                                  size_t count);
/* Replaces or adds single models (protocol-and-trust 3.5). DB_E_LIMIT as above for what did not fit; the rest is done. */
enum db_err route_node_update_models(struct route_fleet *fleet, struct route_node *node, const struct route_model_facts *models,
                                     size_t count);
/* Ids of the advertised models, borrowed until they change; without those whose files are not the pinned ones. Returns how many
 * there are. */
size_t route_node_models(const struct route_node *node, struct str *out, size_t max);
/* Whether the node advertises the model, also with other files than the pinned ones. */
bool route_node_advertises(const struct route_fleet *fleet, const struct route_node *node, struct str model);
/* The last report of the model at this place among them, and whether there is one. */
bool route_node_slot(const struct route_node *node, size_t index, struct route_slot *out);
uint32_t route_node_pending(const struct route_node *node); /* reservations held on it */
/* A facts struct as it was last set, for changing one field of it; numbers to seven digits, strings are borrowed. */
void route_node_facts(const struct route_fleet *fleet, const struct route_node *node, struct route_node_facts *out);
/* One slot of a heartbeat; models without a slot are cold. DB_E_NOT_FOUND for a model that is not advertised. */
enum db_err route_node_set_slot(struct route_fleet *fleet, struct route_node *node, struct str model,
                                const struct route_slot *slot);
/* After the slots of one heartbeat were set: re-ranks the node (O(its models)). Models not set since the last call go cold. */
void route_node_heartbeat_done(struct route_fleet *fleet, struct route_node *node);
/* Digests of the prompts' prefixes whose state the node keeps for a model, in place of what it said before; what is above
 * ROUTE_MAX_PREFIXES is ignored. DB_E_NOT_FOUND for a model that is not advertised. */
enum db_err route_node_set_prefixes(struct route_fleet *fleet, struct route_node *node, struct str model,
                                    const uint64_t *digests, size_t count);
/* The model was loaded: warm from now on, before the next heartbeat says so. Nothing for a model that is not advertised. */
void route_node_loaded(struct route_fleet *fleet, struct route_node *node, struct str model);
/* Cool-down of a model on a node's device after a load failure, or of all its models: not eligible until then. 0 ends it. */
void route_node_cool(struct route_fleet *fleet, struct route_node *node, struct str model_or_empty, uint64_t until_us);

/* --- a decision --- */

/* What a breaker keeps apart: a template that breaks with tools does not stop plain conversations. */
enum route_shape { ROUTE_SHAPE_BASE, ROUTE_SHAPE_TOOLS, ROUTE_SHAPES };

/* A prefix of a request's prompt, by the name that whoever keeps it advertises. */
struct route_prefix {
	uint64_t digest;
	uint32_t tokens;
};

struct route_request {
	struct str model; /* concrete build id */
	uint64_t prompt_tokens, max_tokens;
	uint64_t expected_tokens; /* of output: what is likely, not what is allowed; 0 = min(max_tokens, 256) */
	bool tools, vision, blind;
	bool urgent;             /* a second one for a late request: the cheapest, however busy; say 1 for expected_tokens */
	uint32_t needs;          /* capability bits the model must have on the node; 0 = any model will do */
	bool plain_prompt;       /* in place of a conversation */
	struct route_node *only; /* the one node that may take it, or NULL */
	/* Self-route (routing 15). Who owns a node is told by route_node_set_owner and by nobody else. */
	struct str caller_account;
	bool own_only;              /* the caller's own nodes and no others, whatever their trust */
	bool prefer_own;            /* those first, whatever their trust; then the others */
	enum route_trust min_trust; /* asked for by the caller, above the policy's; counts for own nodes too */
	const struct str *regions;  /* "US" allows "US-CA" as well; NULL = anywhere */
	size_t region_count;
	struct str avoid_version;           /* of the program that failed last: others first (routing 4) */
	struct route_node *const *excluded; /* already failed for this request */
	size_t excluded_count;
	const struct route_prefix *prefixes; /* longest first */
	size_t prefix_count;
	const struct str *serials; /* allow-list or NULL */
	size_t serial_count;
};

/* Gates of routing 6, in order: the reason a node was passed over. */
enum route_gate {
	ROUTE_OK,
	ROUTE_NOT_OWNED,
	ROUTE_SERIAL,
	ROUTE_REGION,
	ROUTE_EXCLUDED,
	ROUTE_NOT_SERVING,
	ROUTE_DEDICATED,
	ROUTE_COOLING,
	ROUTE_SHAPE_BREAKER,
	ROUTE_NODE_BREAKER,
	ROUTE_OFFLINE,
	ROUTE_UNTRUSTED,
	ROUTE_PRIVATE_ONLY,
	ROUTE_TRUST_FLOOR,
	ROUTE_RUNTIME,
	ROUTE_PRIVATE_TEXT,
	ROUTE_STALE_CHALLENGE,
	ROUTE_TEMPLATE,
	ROUTE_VERSION_FLOOR,
	ROUTE_VISION,
	ROUTE_CAPABILITY,
	ROUTE_NOT_BLIND,
	ROUTE_SLOT_DOWN,
	ROUTE_CONCURRENCY,
	ROUTE_THERMAL,
	ROUTE_TOO_LARGE,
	ROUTE_BUDGET,
	ROUTE_MEMORY,
	ROUTE_GATES
};
const char *route_gate_name(enum route_gate gate); /* the chapter's reason names */

/* The terms of a node's cost for a request (routing 7), in milliseconds. */
struct route_cost {
	double state, queue, pending, backlog, own, health, network;
	double prefix;        /* <= 0: what it need not read of the prompt, whose beginning it keeps */
	double total;         /* their sum */
	double ttft_ms;       /* < 0 = unknown */
	double projected_tps; /* decode rate that a newcomer would get */
	bool slow;            /* known to be below the floor: taken when all are */
};

struct route_decision {
	struct route_node *node;
	double cost_ms, ttft_ms;  /* ttft < 0 = unknown */
	struct route_cost terms;  /* of the node that was chosen, before it was reserved */
	double tail_ms;           /* by when nearly all that were so predicted had content, as learnt; < 0 = not known yet */
	bool cold;                /* the model must be loaded first */
	bool owned;               /* by the caller */
	uint64_t expected_tokens; /* of output, as the cost assumed */
	uint64_t affinity_tokens; /* of the prompt that the node is expected to have cached */
	bool bypassed_breaker;    /* nobody else could: better a sick node than none (routing 11.3) */
	bool probe;               /* its outcome decides whether a breaker closes */
	double runner_up_ms;      /* cost of the best that was not chosen, of those looked at; < 0 = none */
	/* When nothing was chosen: how the nodes that serve the model fell out. Gates that depend on the request are counted over
	 * at most 1,024 nodes. */
	uint32_t considered, by_gate[ROUTE_GATES];
};

/* What the gateway (or a simulator) calls for an attempt, in this order:
 *   route_select        with the request's own limits filled in (route_request), and expected_tokens from learn.h
 *   route_first_content when the first content came: calibrates predictions, and the reputation
 *   route_outcome       once, when the attempt ended, however it did
 *   route_release       always, last
 * and learn_output for every answer that was paid for. fleet/jobs.c does the last three for its jobs. */
struct route_reservation; /* tokens and a place held on one node for one request */

/* Chooses the best node and reserves on it in one step. DB_OK; DB_E_NOT_FOUND when no node serves the model at all or all fail
 * a gate that waiting does not cure; DB_E_AGAIN when some node could take it later (concurrency, budget, memory). Sub-linear in
 * the fleet. */
enum db_err route_select(struct route_fleet *fleet, const struct route_request *request, uint64_t now_us,
                         struct route_decision *decision, struct route_reservation **reservation);
/* false when the node does not advertise the model. */
bool route_cost_of(const struct route_fleet *fleet, const struct route_node *node, const struct route_request *request,
                   struct route_cost *out);
/* The one predicate behind selection, re-checks and explanations. */
enum route_gate route_check(const struct route_fleet *fleet, const struct route_node *node, const struct route_request *request,
                            uint64_t now_us);
/* Whether some node could serve it, now or once it has room; of very many nodes some are asked (routing 13.2). */
bool route_could_serve(struct route_fleet *fleet, const struct route_request *request, uint64_t now_us);
/* Connected nodes of an account, and how many of them have the model, with the files that are wanted; of very many some are
 * counted. */
size_t route_owned(const struct route_fleet *fleet, struct str account, struct str model, size_t *serving);
void route_release(struct route_fleet *fleet, struct route_reservation *reservation);
struct route_node *route_reservation_node(const struct route_reservation *reservation); /* NULL when the node left */

/* How an attempt ended, as far as its node is concerned (routing 11.2). */
enum route_outcome {
	ROUTE_OUTCOME_CLIENT,      /* the request was wrong, or nobody wants the answer any more: nobody is blamed */
	ROUTE_OUTCOME_OK,          /* it answered to the end */
	ROUTE_OUTCOME_CAPACITY,    /* it was busy or the request too big for it: nobody */
	ROUTE_OUTCOME_LATE,        /* nothing came by the deadline of the first content: nobody */
	ROUTE_OUTCOME_FAULT,       /* 500, 502 or 504 of its own; a broken protocol: both breakers */
	ROUTE_OUTCOME_SHAPE_FAULT, /* one of these for want of room, a broken template: the model on it, not the machine */
	ROUTE_OUTCOME_NODE_FAULT,  /* 503 that is not want of room: the machine, not the model */
	ROUTE_OUTCOME_TIMEOUT,     /* it accepted or began, and then fell silent: both */
	ROUTE_OUTCOME_LOST,        /* its connection broke: both, once for each connection */
};
/* Tells the breakers of the reservation's device, and its reputation; before route_release, at most once. What is remembered
 * decays, is bounded, and outlives the connection. Breakers (routing 11.3): 2 strikes in 60 s shut (device, model, shape) for
 * 5 min; 5 faults in a row, or more than 80 % of 20 outcomes within 120 s, shut the device for 60 s, 120 s, ... 5 min. A shut
 * breaker whose time is over lets one request try: until that one ended no other is let in. When breakers alone leave nobody,
 * they are passed over (route_decision.bypassed_breaker), but for tools on a machine that they break. */
void route_outcome(struct route_fleet *fleet, const struct route_reservation *reservation, enum route_outcome outcome,
                   uint64_t now_us);
/* The first content of a reservation came: its prompt is read and the node can read the next; predicted against actual time
 * corrects the model's next predictions. Returns the actual time in milliseconds. */
double route_first_content(struct route_fleet *fleet, struct route_reservation *reservation, uint64_t now_us);
/* For the reputation (routing 14). */
void route_node_challenged(struct route_fleet *fleet, struct route_node *node, bool passed);
void route_node_seen(struct route_fleet *fleet, struct route_node *node, uint64_t now_us);
/* For people; nothing here is decided by it. All 0 of a device that nothing is known of. */
struct reputation route_node_reputation(const struct route_node *node);

/* --- views --- */
struct route_model_view {
	struct str id;
	uint32_t nodes, routable, warm, attested; /* attested: trust above none */
	enum route_trust best_trust;
	uint64_t active, size_bytes;
	/* As the nodes said last. */
	struct str quantization;
	uint64_t context_tokens;
	uint32_t can;
};
/* Changes whenever something in the views but `active` does: what was made of them stays true as long as it is the same. */
uint64_t route_models_version(struct route_fleet *fleet, uint64_t now_us);
/* Models that at least one node advertises, for /v1/models; counts are kept up to date, not computed. Order: by id.
 * Returns how many there are. */
size_t route_models(struct route_fleet *fleet, uint64_t now_us, struct route_model_view *out, size_t max);
uint32_t route_model_routable(const struct route_fleet *fleet, struct str model); /* nodes, as in route_model_view */
/* Tokens that one sequence of the model may have, as the nodes said last; 0 = nobody said. */
/* It is of a family that has machines of its own (routing 13.1): while they are full its requests do not wait. */
bool route_model_dedicated(const struct route_fleet *fleet, struct str model);
uint64_t route_model_context(const struct route_fleet *fleet, struct str model);
size_t route_node_count(const struct route_fleet *fleet);
size_t route_prefix_count(const struct route_fleet *fleet); /* different digests that nodes advertise */

/* What a model could take now, for /v1/models/capacity. Private nodes are not counted. */
struct route_capacity {
	struct str id;
	uint32_t routable, warm, running, cold; /* nodes; running and cold of those that may get requests or only lack a place */
	bool can_accept;
	uint64_t active;
	double aggregate_tps;                /* decode rates that newcomers would get, added up */
	double ttft_ms;                      /* of a prompt of 512 tokens on the best node, < 0 = unknown */
	uint64_t budget_tokens, free_tokens; /* of nodes that report a budget */
};
/* As route_models; costs O(nodes): for a cache. */
size_t route_capacities(struct route_fleet *fleet, uint64_t now_us, struct route_capacity *out, size_t max);

#endif
