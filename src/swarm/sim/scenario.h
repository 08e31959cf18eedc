/* A scenario file: a fleet, a workload, what goes wrong and when (docs/developer/simulator.md describes every key).
 * Thread: one at a time. */
#ifndef SWARM_SIM_SCENARIO_H
#define SWARM_SIM_SCENARIO_H

#include "core/error.h"
#include "core/str.h"

#define SIM_MAX_MODELS     64
#define SIM_MAX_GROUPS     16
#define SIM_MAX_HAPPENINGS 32
#define SIM_MAX_BOX_MODELS 8
#define SIM_MAX_BOXES      200000
#define SIM_MAX_ALIASES    8
#define SIM_ID_SIZE        64

struct sim_diary;

struct sim_model {
	char id[SIM_ID_SIZE];
	double size_gb;
	double speed; /* decode and prefill rate, relative to the group's */
	double kv_bytes_per_token;
	double weight;      /* share of the requests, relative to the other models' */
	double alternate_s; /* > 0: asked for in every second span of so long, */
	bool alternate_odd; /* ... in the odd ones */
	uint32_t context_tokens;
	double faults; /* share of the requests that this build fails with 500 */
};

struct sim_group {
	char chip[SIM_ID_SIZE];
	char models_named[256]; /* ids with commas: what each of the group offers; empty: `models` drawn by weight */
	uint32_t count;
	double decode_tps; /* of a stream alone, for a model of speed 1 */
	double prefill_tps;
	double spread; /* machines of a group differ by this much (sigma of a lognormal factor) */
	double bandwidth_gbs, memory_gb, load_gbps;
	uint32_t concurrency;   /* of one model */
	uint32_t models;        /* offered by each */
	double warm;            /* share whose first model is in memory at the start */
	bool registers_rates;   /* says its decode and prefill rate when it registers */
	bool owned;             /* each belongs to a tenant, by turns */
	bool private;           /* serves nobody else */
	bool uncertified;       /* below the trust that the public asks for */
	bool text_only;         /* its builds take no pictures */
	bool registers_prefill; /* false: only the decode rate then */
};

enum sim_happening_kind {
	SIM_LOSS,          /* connections end; back after `for_s` (0: never), spread over `jitter_s` */
	SIM_FREEZE,        /* the machine stands still, its connection stays */
	SIM_STALL,         /* accepts and never answers; heartbeats look healthy */
	SIM_SLOW,          /* works at `factor` of its rate */
	SIM_ERROR,         /* answers 500 */
	SIM_TOOLS_ERROR,   /* answers 500 to requests with tools */
	SIM_LIE,           /* reports impossible rates and no load */
	SIM_HOT,           /* thermal state serious, `factor` of its rate */
	SIM_FLAP,          /* connection ends and comes back every `period_s` */
	SIM_LOAD_FAILURES, /* loads fail with probability `factor` */
	SIM_DEAF,          /* the coordinator hears no heartbeat */
	SIM_RATE,          /* arrivals come at `factor` of the rate */
	SIM_UNPROVEN,      /* challenges are not answered: freshness runs out */
	SIM_WANDER,        /* `as`, of other machines in every `period_s` */
	SIM_SICK,          /* in every `period_s` well, stalled, slow at `factor`, erring or lost: well half of the time */
	SIM_SQUEEZED,      /* refuses everything for want of memory, whatever heartbeats say */
	SIM_UNATTESTED,    /* the code's attestation is asked for from now on, and these do not have it */
	SIM_DRAIN,         /* the coordinator takes nothing new */
	SIM_UPDATE, /* an alias's desired build arrives on machines, spread over `jitter_s`; `factor` of them have a bad hash */
	SIM_HAPPENING_KINDS
};

struct sim_happening {
	enum sim_happening_kind kind, as; /* as: what wanders */
	double at_s, for_s;               /* for 0: to the end */
	double share;                     /* of the machines, drawn */
	double factor, period_s, jitter_s;
	char model[SIM_ID_SIZE]; /* of an update; of load failures: of this model only; empty: any */
	uint32_t draw;           /* happenings with the same number befall the same machines; 0: a draw of its own */
};

/* Requests for `previous` ask for a public name; from `at_s` on it stands for `desired`. */
struct sim_alias {
	char id[SIM_ID_SIZE], previous[SIM_ID_SIZE], desired[SIM_ID_SIZE];
	double at_s;
	bool canary;
};

struct sim_workload {
	double load;           /* arrivals as a share of what the fleet can do; or */
	double rps;            /* arrivals a second; or */
	uint32_t burst;        /* so many at once at the start, and `rps` afterwards */
	double burstiness;     /* coefficient of variation of the gaps; 1 = Poisson */
	double swing, swing_s; /* the rate swings by this share over this period */
	double prompt_median, prompt_sigma;
	uint32_t prompt_max;
	double output_median, output_sigma;
	uint32_t output_max;
	uint32_t default_max_tokens; /* of a request that names none */
	double names_max;            /* share of requests that name a max_tokens near to what they need */
	double turns;                /* mean length of a conversation */
	double think_s;              /* between turns */
	uint32_t tenants;
	double tenant_skew; /* 0: all alike; 1: as 1/rank */
	double tools;       /* share of requests with tools */
	double leave;       /* share whose client goes away in the middle */
	double bad;         /* share that the machine refuses as the client's mistake */
	double vision;      /* share of requests with pictures */
	double self_route;  /* share of a tenant's requests that only its own machines may serve ... */
	double prefer_own;  /* ... or that they serve first */
};

struct sim_scenario {
	char name[SIM_ID_SIZE];
	char about[256];
	uint64_t seed;
	double seconds, warmup_s;
	/* fleet */
	double heartbeat_s, network_ms, network_sigma;
	double batch_slowdown;       /* rate of each of B streams: solo / (1 + slowdown (B - 1)) */
	double prefill_share;        /* of the machine's time that a prompt gets beside running streams */
	char dedicated[SIM_ID_SIZE]; /* models with this in their id have machines of their own (routing 13.1); empty: none */
	uint32_t cached_prompts;     /* prompts whose state a machine keeps */
	/* what is good enough */
	double ttft_ms, ttft_token_ms, decode_tps, deadline_s;
	/* how requests are treated */
	bool hedge, planner;
	bool ttft_hard;          /* the chapter's rule refuses what it thinks will come too late (routing 9) */
	double prefill_ratio;    /* ... and so many times faster than decoding it thinks reading is; 0: its default */
	struct sim_diary *diary; /* what befalls each request, when it is to be kept; not in files */
	bool audit;              /* compare every decision with a look at every machine; not in files */
	double queue_s;
	char shares[256]; /* of accounts, as in routing.account_shares, with commas: "tenant-0=4,tenant-1=batch" */

	struct sim_workload workload;
	struct sim_model models[SIM_MAX_MODELS];
	uint32_t model_count;
	struct sim_group groups[SIM_MAX_GROUPS];
	uint32_t group_count;
	struct sim_happening happenings[SIM_MAX_HAPPENINGS];
	uint32_t happening_count;
	struct sim_alias aliases[SIM_MAX_ALIASES];
	uint32_t alias_count;
};

const char *sim_happening_name(enum sim_happening_kind kind);
/* DB_E_INVALID with "line N: ..." for what is no scenario. */
enum db_err sim_scenario_parse(struct str text, struct sim_scenario *out, struct error *error);
/* The same from a file. */
enum db_err sim_scenario_load(const char *path, struct sim_scenario *out, struct error *error);
uint16_t sim_scenario_model(const struct sim_scenario *scenario, struct str id); /* model_count when there is none */
uint32_t sim_scenario_boxes(const struct sim_scenario *scenario);

#endif
