/* One run: a fleet of machines, a coordinator that knows of them what heartbeats tell, and requests on their way. Which machine
 * gets a request is the policy's business; everything else is the same for all policies but for what the policy says of itself.
 * Thread: one at a time. */
#ifndef SWARM_SIM_WORLD_H
#define SWARM_SIM_WORLD_H

#include "coordinator/routing/hedge.h"
#include "coordinator/routing/queue.h"
#include "swarm/sim/box.h"
#include "swarm/sim/events.h"

#define SIM_MAX_TRIES    8
#define SIM_ACCOUNT_SIZE 24

struct sim_world;
struct sim_policy;

/* A machine and what the coordinator knows of it. */
struct sim_seat {
	struct sim_box box;
	bool connected, frozen, deaf, unproven, untrusted, unattested, dirty;
	int64_t owner;                              /* a tenant; -1: nobody of the callers */
	uint32_t challenges_missed;                 /* in a row */
	uint64_t heard_us, progress_us, network_us; /* progress: when it last gave content to anybody */
	struct sim_beat beat;                       /* the last one heard */
	uint32_t pending, slot_pending[SIM_MAX_BOX_MODELS];
	uint64_t slot_tokens[SIM_MAX_BOX_MODELS]; /* prompt + max of what is pending */
	uint64_t cool_us[SIM_MAX_BOX_MODELS];     /* after a load failed */
	double coming;                            /* prompt tokens on the wire */
	uint64_t challenged_us;                   /* last that was answered; 0: none */
	struct list attempts;
	struct sim_random ills;
	uint64_t attempted; /* since the start */
	void *mine;         /* the policy's */
};

struct sim_call;
struct sim_attempt {
	struct sim_stream stream;
	struct list_link link, of_seat;
	struct sim_call *call;
	struct sim_seat *seat;
	void *mine; /* the policy's: a reservation */
	uint64_t sent_us;
	double predicted_ms; /* < 0 unknown */
	double due_ms;       /* since it was sent: when a second one is asked */
	uint32_t slot, refs;
	bool second, cold, reached, accepted, content, over;
	double seen;    /* output when it was last looked whether it gets on */
	double made;    /* by the machine, when it ended there */
	uint32_t given; /* to the client */
};

struct sim_call {
	const struct sim_request *request;
	struct sim_result *result;
	struct list attempts;
	struct list_link waiting, all;
	struct sim_attempt *winner;
	struct sim_seat *excluded[SIM_MAX_TRIES * 2];
	uint32_t excluded_count, tries, want_of_room, refs; /* want_of_room: attempts refused for it */
	uint32_t made;                                      /* tokens that the client has */
	uint64_t queued_us, leaves_queue_us, turn;          /* turn: of offers, in which it was tried last */
	uint16_t model;                                     /* the build that it goes to */
	bool content, ended, waits;
	uint8_t racing;            /* hedges whose loser is not known yet */
	struct queue_waiter place; /* of policies that wait in routing/queue.h; with its account */
	char account[SIM_ACCOUNT_SIZE];
	struct route_prefix prefixes[SIM_KNOWN_TURNS];
};

struct sim_pick {
	struct sim_seat *seat;
	bool cold;
	double predicted_ms, tail_ms; /* of the time to the first content; < 0 unknown */
	void *mine;
};

enum sim_answer { SIM_PICKED, SIM_LATER, SIM_NEVER };

enum sim_end { SIM_END_OK, SIM_END_FAULT, SIM_END_CAPACITY, SIM_END_TIMEOUT, SIM_END_LOST, SIM_END_CANCELLED, SIM_END_CLIENT };

struct sim_policy {
	const char *name, *about;
	/* Things that it does not have are left out. */
	bool hedges, resumes, queues_retries, accept_disarms;
	uint32_t capacity_tries; /* requests that so many machines had no room for are refused; 0: tried on (routing 10) */
	bool blames_for_clients; /* a client's mistake is tried elsewhere (routing 22) */
	uint32_t queue_limit;    /* of each model */
	double queue_s;          /* 0: the scenario's */
	enum db_err (*start)(struct sim_world *world);
	void (*stop)(struct sim_world *world);
	void (*joined)(struct sim_world *world, struct sim_seat *seat);
	void (*left)(struct sim_world *world, struct sim_seat *seat);
	void (*beat)(struct sim_world *world, struct sim_seat *seat);
	void (*changed)(struct sim_world *world, struct sim_seat *seat);       /* its standing did */
	void (*advertises)(struct sim_world *world, struct sim_seat *seat);    /* other builds than before */
	void (*ended)(const struct sim_world *world, struct sim_summary *out); /* what it alone knows of the run */
	/* Which build a request for a public name goes to; without it as the chapter says. */
	uint16_t (*resolve)(struct sim_world *world, struct sim_call *call, const struct sim_alias *alias);
	void (*renamed)(struct sim_world *world, const struct sim_alias *alias); /* it stands for the desired build from now on */
	enum sim_answer (*pick)(struct sim_world *world, struct sim_call *call, struct sim_pick *out);
	/* The attempt is over; `end` says how, after content or not. */
	void (*release)(struct sim_world *world, struct sim_attempt *attempt, enum sim_end end);
	void (*content)(struct sim_world *world, struct sim_attempt *attempt);
	uint32_t (*pending)(const struct sim_world *world, const struct sim_seat *seat); /* reservations that it holds itself */
	void (*tick)(struct sim_world *world); /* every 10 s: load commands (sim_world_load) */
	void (*loaded)(struct sim_world *world, struct sim_seat *seat, uint16_t model, bool ok);
	/* A queue of its own, all or none of them; without, requests wait first come first served. */
	bool (*wait)(struct sim_world *world, struct sim_call *call);
	void (*unwait)(struct sim_world *world, struct sim_call *call);
	struct sim_call *(*take)(struct sim_world *world, struct sim_seat *seat, uint16_t model); /* NULL: none can run there */
	bool (*put_back)(struct sim_world *world, struct sim_call *call);
	struct sim_call *(*expired)(struct sim_world *world);
	void (*waits)(struct sim_world *world, struct sim_call *call); /* it began to */
};

struct sim_world {
	const struct sim_scenario *scenario;
	const struct sim_trace *trace;
	const struct sim_policy *policy;
	void *mine; /* the policy's */
	struct sim_events events;
	struct sim_seat *seats;
	uint32_t seat_count;
	uint32_t *offers[SIM_MAX_MODELS]; /* seats that offer a model */
	uint32_t offer_count[SIM_MAX_MODELS];
	struct sim_box_host host;
	struct sim_measure *measure;
	struct sim_result *results;
	struct list queues[SIM_MAX_MODELS];
	struct list calls; /* all that are still held */
	struct hedge hedge;
	struct sim_random random;
	uint64_t now_us, turn;
	size_t next_arrival, open, queued, cancelling;
	struct sim_seat *dirty[64];
	size_t dirty_count;
	bool out_of_memory, draining;
};

/* Runs the scenario under the policy until every request has ended. `seed` changes the machines' and the policy's chances, not
 * the requests. DB_E_NOMEM. */
enum db_err sim_run(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_policy *policy,
                    struct sim_summary *out, struct error *error);

/* For policies. */
uint64_t sim_goal_us(const struct sim_world *world,
                     const struct sim_request *request); /* the time to the first content allowed */
/* Whether the machine may serve the call at all: connected, proven, its build advertised, and not somebody else's. */
bool sim_may_serve(const struct sim_world *world, const struct sim_call *call, const struct sim_seat *seat);
const char *sim_account(uint32_t tenant, char out[SIM_ACCOUNT_SIZE]);
bool sim_is_own(const struct sim_call *call, const struct sim_seat *seat);
const struct sim_alias *sim_alias_of(const struct sim_scenario *scenario, uint16_t model); /* NULL: under no public name */
bool sim_is_excluded(const struct sim_call *call, const struct sim_seat *seat);
uint32_t sim_slot_of(const struct sim_seat *seat, uint16_t model);                   /* index in box.slots; offered for sure */
void sim_world_load(struct sim_world *world, struct sim_seat *seat, uint16_t model); /* a load command */

extern const struct sim_policy sim_policy_random, sim_policy_round_robin, sim_policy_least_loaded, sim_policy_chapter,
    sim_policy_ours, sim_policy_oracle, sim_policy_scan;
extern const struct sim_policy *const sim_policies[]; /* ends with NULL; those that are compared by default */
const struct sim_policy *sim_policy_named(struct str name);

#endif
