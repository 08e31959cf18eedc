/* One simulated machine: what it really does, whatever the coordinator believes. Work is shared as in the engine:
 *
 * - B streams that decode get solo / (1 + slowdown (B - 1)) tokens a second each, in all its models together;
 * - prompts are read one after the other; beside running streams a prompt has `prefill_share` of the time;
 * - a request needs a place and memory for prompt + max_tokens, or waits in the engine;
 * - a model that is not in memory is loaded first, and the idle model that was not used for longest leaves when room is needed.
 *
 * Pure: time is given and never goes back. Thread: one at a time. */
#ifndef SWARM_SIM_BOX_H
#define SWARM_SIM_BOX_H

#include "coordinator/routing/routing.h"
#include "core/list.h"
#include "swarm/sim/measure.h"
#include "swarm/sim/random.h"
#include "swarm/sim/scenario.h"
#include "swarm/sim/workload.h"

#define SIM_NEVER_US   UINT64_MAX
#define SIM_MAX_CACHED 64

enum sim_stream_state { SIM_STREAM_NEW, SIM_STREAM_WAITING, SIM_STREAM_PROMPT, SIM_STREAM_OUTPUT, SIM_STREAM_OUT };

enum sim_failure { SIM_FAIL_FAULT, SIM_FAIL_MEMORY, SIM_FAIL_LOAD, SIM_FAIL_LOST, SIM_FAIL_CLIENT };

struct sim_slot;
struct sim_stream {
	/* Set by the owner. */
	uint32_t prompt, shared, output, max_tokens, conversation, turn;
	uint16_t model;
	bool tools, bad;
	/* The machine's. */
	struct list_link link; /* of the slot's waiting list or of the machine's prompts */
	struct sim_slot *slot;
	enum sim_stream_state state;
	double prompt_left, prompt_read; /* tokens; a cached beginning is not read */
	double ends_work, began_work;    /* on the machine's clock of decoding */
	uint32_t heap_at;
	uint64_t need;
	uint64_t prompt_us, output_us; /* when the prompt began to be read, when the output began */
};

struct sim_slot {
	uint16_t model;
	enum route_slot_state state;
	bool loading, wanted;
	bool absent;   /* not on its disk yet: it does not advertise it */
	double faults; /* share of the requests that this build fails */
	double size_gb, kv_bytes;
	double solo_tps, prefill_tps;
	struct list waiting;
	uint32_t reading, decoding;
	uint64_t reserved;                        /* tokens */
	uint64_t used_us;                         /* last */
	double seen_decode_tps, seen_prefill_tps; /* decayed averages, as reported */
	uint64_t load_ms;
};

struct sim_cached {
	uint32_t conversation, turn, tokens;
	uint16_t model;
	uint64_t used_us;
};

/* What a heartbeat says. */
struct sim_beat {
	struct route_slot slots[SIM_MAX_BOX_MODELS];
	bool has[SIM_MAX_BOX_MODELS]; /* false: cold */
	double memory_pressure, cpu_usage, gpu_active_gb, free_for_load_gb;
	int thermal;
};

struct sim_box_host { /* told as it happens, in the middle of sim_box_run, _submit and _lose */
	void (*content)(void *user, struct sim_stream *stream);
	void (*done)(void *user, struct sim_stream *stream);
	void (*failed)(void *user, struct sim_stream *stream, enum sim_failure failure);
	void (*loaded)(void *user, uint32_t box, uint16_t model, bool ok);
	void *user;
};

struct sim_box {
	uint32_t index;
	const struct sim_scenario *scenario;
	const struct sim_group *group;
	const struct sim_box_host *host;
	struct sim_measure *measure;
	struct sim_random random;
	struct sim_slot slots[SIM_MAX_BOX_MODELS];
	uint32_t slot_count;
	double speed; /* of this one among its group */
	struct list prompts;
	struct sim_stream **decoding; /* a heap, the next to end first */
	uint32_t decoding_count, decoding_cap;
	double work; /* clock of decoding: tokens of a model with a solo rate of 1 */
	uint64_t at_us;
	struct sim_cached cached[SIM_MAX_CACHED];
	uint64_t load_ends_us;
	struct sim_slot *loading;
	uint64_t busy_us;
	/* what is wrong with it */
	double factor; /* of its rate; 0 stands still */
	bool erring, erring_tools, squeezed, lying, hot;
	double load_failures;
	int32_t load_failures_of; /* a model; < 0: all of them */
	/* the events' */
	uint64_t next_us;
	uint32_t version;
};

/* DB_E_NOMEM. The nth of its group. */
enum db_err sim_box_init(struct sim_box *box, uint32_t index, const struct sim_scenario *scenario,
                         const struct sim_group *group, uint32_t nth, const struct sim_box_host *host,
                         struct sim_measure *measure);
void sim_box_free(struct sim_box *box);

void sim_box_run(struct sim_box *box, uint64_t now_us); /* to now, with all that happens until then */
uint64_t sim_box_next(const struct sim_box *box);       /* when to run it next, or SIM_NEVER_US */
void sim_box_submit(struct sim_box *box, struct sim_stream *stream, uint64_t now_us);
/* Takes it out, whatever it is doing. Says what it had done. */
void sim_box_cancel(struct sim_box *box, struct sim_stream *stream, uint64_t now_us, double *prompt_read, double *made);
double sim_box_made(const struct sim_box *box, const struct sim_stream *stream); /* output so far, after sim_box_run */
void sim_box_load(struct sim_box *box, uint16_t model, uint64_t now_us);         /* a command; `loaded` answers */
void sim_box_lose(struct sim_box *box, uint64_t now_us);    /* its connection ends: every stream fails with SIM_FAIL_LOST */
void sim_box_restart(struct sim_box *box, uint64_t now_us); /* the process starts again: nothing in memory */
void sim_box_beat(const struct sim_box *box, struct sim_beat *out);

/* What only an oracle knows. */
struct sim_slot *sim_box_slot(struct sim_box *box, uint16_t model); /* NULL: does not offer it */
double sim_box_prompt_ms(const struct sim_box *box);                /* until every prompt given to it is read */
uint32_t sim_box_cached(const struct sim_box *box, uint32_t conversation, uint32_t shared);

#endif
