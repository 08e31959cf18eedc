/* What the files of a run share: world.c (machines, time), call.c (requests), waiting.c (queues), standing.c (who may serve),
 * happen.c (what goes wrong).
 */
#ifndef SWARM_SIM_WORLD_INTERNAL_H
#define SWARM_SIM_WORLD_INTERNAL_H

#include "swarm/sim/world.h"

enum sim_event_kind {
	SIM_EVENT_BOX,  /* subject: the box; number: its version */
	SIM_EVENT_BEAT, /* the seat */
	SIM_EVENT_LOAD, /* the seat; the model */
	SIM_EVENT_SWEEP,
	SIM_EVENT_SAMPLE,
	SIM_EVENT_TICK,
	SIM_EVENT_HAPPENS, /* number: of the happening */
	SIM_EVENT_ENDS,    /* the seat; the happening */
	SIM_EVENT_BACK,    /* the seat connects again */
	SIM_EVENT_FLAP,    /* the seat; the happening */
	SIM_EVENT_SICK,    /* the seat; the happening: what it does next */
	SIM_EVENT_CHALLENGE,
	SIM_EVENT_UPDATE, /* the seat; the happening */
	SIM_EVENT_ALIAS,  /* number: of the alias */
	/* of attempts, which they hold */
	SIM_EVENT_REACH,
	SIM_EVENT_CONTENT,
	SIM_EVENT_DONE,
	SIM_EVENT_FAILED, /* number: enum sim_failure */
	SIM_EVENT_DEADLINE,
	SIM_EVENT_HEDGE,
	SIM_EVENT_CANCEL, /* reaches the machine */
	/* of calls, which they hold */
	SIM_EVENT_QUEUE,
	SIM_EVENT_LEAVE
};

/* world.c */
void sim_schedule(struct sim_world *world, struct sim_box *box); /* after everything that was done to it */
void sim_connect(struct sim_world *world, struct sim_seat *seat);
void sim_disconnect(struct sim_world *world, struct sim_seat *seat);
void sim_mark(struct sim_world *world, struct sim_seat *seat); /* something on it became free: offer it to those that wait */

/* call.c */
void sim_arrive(struct sim_world *world, size_t index);
enum sim_answer sim_place(struct sim_world *world, struct sim_call *call);
void sim_refuse(struct sim_world *world,
                struct sim_call *call); /* an honest end without an answer, or without the rest of it */
void sim_wait_event(struct sim_world *world, struct sim_call *call);
void sim_attempt_event(struct sim_world *world, struct sim_attempt *attempt, uint64_t at_us, uint32_t kind, uint32_t number);
void sim_call_event(struct sim_world *world, const struct sim_event *event);
void sim_drop_event(struct sim_world *world, const struct sim_event *event); /* frees what it held */
void sim_abandon(struct sim_world *world);                                   /* what is still open */

/* waiting.c */
bool sim_wait(struct sim_world *world, struct sim_call *call);     /* false: there is no place in the queue */
void sim_wait_end(struct sim_world *world, struct sim_call *call); /* nothing when it does not wait */
/* The next whose time in the queue is over, taken out; `call` is the one whose event it was. Call until NULL. */
struct sim_call *sim_wait_expired(struct sim_world *world, struct sim_call *call);
void sim_offer(struct sim_world *world, struct sim_seat *seat); /* it may have room */

/* standing.c */
void sim_challenge(struct sim_world *world, struct sim_seat *seat);
void sim_challenge_first(const struct sim_world *world, struct sim_seat *seat);
void sim_attest(struct sim_world *world, struct sim_seat *seat, bool attested);
void sim_update_begins(struct sim_world *world, struct sim_seat *seat, const struct sim_happening *happening, uint32_t number);
void sim_updated(struct sim_world *world, struct sim_seat *seat, uint32_t number);
uint16_t sim_resolve_plainly(struct sim_world *world, struct sim_call *call, const struct sim_alias *alias);

/* happen.c */
void sim_happen(struct sim_world *world, const struct sim_event *event);

#endif
