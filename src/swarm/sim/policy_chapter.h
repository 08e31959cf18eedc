/* What the files of the chapter's rule share: policy_chapter.c (gates, cost, choice), chapter_sick.c (breakers of
 * routing 11.3), chapter_pool.c (warm pool and load planner of routing 12). All as written there, traps of routing 22 included.
 */
#ifndef SWARM_SIM_POLICY_CHAPTER_H
#define SWARM_SIM_POLICY_CHAPTER_H

#include "swarm/sim/world.h"

#define CHAPTER_SLOWDOWN  0.27
#define CHAPTER_FLOOR_TPS 15.0
#define CHAPTER_PADDING   1.1176 /* GiB in memory for each GB of a file */
#define CHAPTER_SAMPLES   50
#define CHAPTER_RING      20

struct chapter_rates { /* observed decode rates of one model on one kind of machine */
	float ring[CHAPTER_SAMPLES];
	uint32_t count, next;
	double median;
};

struct chapter_last { /* machine that served a conversation */
	struct sim_seat *seat;
	uint64_t at_us;
};

struct chapter_candidate {
	struct sim_seat *seat;
	double cost, projected, ttft;
	uint32_t queue;
	bool cold;
};

struct chapter_slot { /* a model on a machine */
	struct {
		uint64_t strikes_us[2]; /* the last two */
		uint64_t shut_us;       /* until */
	} shapes[2];                /* plain, tools */
	uint64_t load_us;           /* a load is pending, or backed off, until */
};

struct chapter_seat { /* of one connection: all of it is gone with the next */
	struct chapter_slot slots[SIM_MAX_BOX_MODELS];
	struct {
		uint64_t at_us;
		bool fault;
	} ring[CHAPTER_RING];
	uint32_t ring_len, ring_next, in_a_row, trips;
	bool open;
	uint64_t shut_us; /* until; half open afterwards */
};

struct chapter_demand {                        /* of a model */
	uint32_t rejects, misses, colds, arrivals; /* arrivals: spilled, since the rate was folded last */
	uint64_t event_us, folded_us, raised_us;
	double spill_rps;
	uint32_t target;
};

struct chapter {
	struct chapter_rates rates[SIM_MAX_MODELS][SIM_MAX_GROUPS];
	struct chapter_last *conversations;
	uint32_t conversation_count;
	struct chapter_candidate *candidates;
	struct chapter_seat *seats;
	struct chapter_demand demands[SIM_MAX_MODELS];
};

enum chapter_fit { CHAPTER_FITS, CHAPTER_FULL, CHAPTER_NEVER, CHAPTER_BREAKER };

/* policy_chapter.c */
struct chapter_seat *chapter_seat_of(const struct sim_world *world, const struct sim_seat *seat);
double chapter_static_decode(const struct sim_seat *seat);
bool chapter_fits_machine(const struct sim_seat *seat, uint32_t slot); /* too large otherwise */
double chapter_prefill(const struct sim_world *world, const struct sim_seat *seat, uint32_t slot);
double chapter_decode(const struct sim_world *world, const struct sim_seat *seat, uint32_t slot);

/* chapter_sick.c */
void chapter_fault(struct sim_world *world, const struct sim_attempt *attempt);
void chapter_success(struct sim_world *world, const struct sim_attempt *attempt);
bool chapter_shape_shut(const struct sim_world *world, const struct sim_seat *seat, uint32_t slot, bool tools);
bool chapter_node_shut(const struct sim_world *world, const struct sim_seat *seat);

/* chapter_pool.c */
enum chapter_event { CHAPTER_REJECT, CHAPTER_MISS, CHAPTER_COLD };
void chapter_note(struct sim_world *world, uint16_t model, enum chapter_event event);
void chapter_tick(struct sim_world *world);
void chapter_swap(struct sim_world *world); /* on a heartbeat, and when a request begins to wait */
void chapter_loaded(struct sim_world *world, struct sim_seat *seat, uint16_t model, bool ok);

#endif
