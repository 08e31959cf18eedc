/* What befell each request of a run, for who asks why one waited long: where it went first and what was wrong there, when a
 * second machine was due, and why none was asked. Kept only when asked for. Thread: one at a time. */
#ifndef SWARM_SIM_DIARY_H
#define SWARM_SIM_DIARY_H

#include <stdbool.h>

#include "core/buf.h"
#include "core/error.h"

struct sim_call;
struct sim_seat;
struct sim_world;

enum sim_hedging {
	SIM_HEDGE_NOT_DUE,   /* content or an error came before */
	SIM_HEDGE_WORKING,   /* its machine gives others content: looked away */
	SIM_HEDGE_OWN,       /* its tenant's own machine, which it prefers */
	SIM_HEDGE_NOBODY,    /* no other machine has room */
	SIM_HEDGE_NOT_WORTH, /* the other would be too late, or would have to load the model */
	SIM_HEDGE_BUDGET,    /* the budget of extra tokens is used up */
	SIM_HEDGE_ASKED
};

struct sim_page {                        /* of one request */
	uint32_t first, second;              /* machines */
	const char *first_ill, *second_ill;  /* what was wrong with them when they were asked; NULL: never asked */
	const char *then_ill;                /* with the first, when a second was last due */
	float predicted_ms, tail_ms, due_ms; /* of the first; < 0 unknown */
	float asked_ms;                      /* when the second was, since the arrival */
	uint32_t looks;                      /* times that its machine was looked at */
	enum sim_hedging hedging;
	bool won; /* by the second */
};

struct sim_diary {
	struct sim_page *pages; /* by the request's place in the trace */
	size_t count;
	struct buf *out; /* borrowed: where the lines go when the run has ended */
};

enum db_err sim_diary_open(struct sim_diary *diary, size_t requests);
void sim_diary_close(struct sim_diary *diary);
/* All of these do nothing where no diary is kept. */
struct sim_page *sim_diary_page(const struct sim_world *world, const struct sim_call *call); /* NULL: none is kept */
const char *sim_ill(const struct sim_seat *seat);
void sim_diary_hedging(const struct sim_world *world, const struct sim_call *call, const struct sim_seat *seat,
                       enum sim_hedging hedging);
/* A line of comma-separated values for each request, with a line of names before them. `results` in the order of the trace. */
struct sim_trace;
struct sim_result;
void sim_diary_write(const struct sim_diary *diary, const struct sim_trace *trace, const struct sim_result *results);

#endif
