/* The state of one sealed request, shared by the blind_*.c files of gateway/; not for anyone else. */
#ifndef COORDINATOR_GATEWAY_BLIND_CALL_H
#define COORDINATOR_GATEWAY_BLIND_CALL_H

#include "coordinator/gateway/admit.h"
#include "coordinator/gateway/blind.h"
#include "coordinator/gateway/call.h"

#define BLIND_WHOLE_MAX_BYTES (16u << 20) /* of the chunks of an answer that is not streamed */

struct blind_call {
	struct list_link link;
	struct gateway *gateway;
	struct exchange *exchange; /* NULL: answered, or the consumer left */
	unsigned busy;             /* entered from outside; freed when the last leaves */
	bool over;

	char id[ID_UUID_SIZE]; /* of the hold and on the wire */
	char model[ROUTE_MODEL_SIZE];
	char provider_id[ID_UUID_SIZE];
	struct caller caller;
	struct wishes wishes;
	struct admission admission;
	bool service;
	struct record record;
	struct blind_completion_request request; /* in the exchange's arena */

	struct ledger_hold *hold; /* NULL: none yet, or ended */
	struct ledger_room room;  /* until another coordinator has given back what it holds of the account */
	struct price price;
	bool free; /* the provider is the caller's own, as the caller asked */

	struct fleet_job *job; /* NULL: not started, or over */
	bool accepted;
	uint32_t queue_position; /* as in struct attempt */
	struct fleet_waiter waiter;
	bool waiting;
	uint64_t queued_at_us;
	struct net_timer queue_timer, deadline, keepalive;

	bool started;     /* status and headers of a stream are out */
	struct buf whole; /* of an answer that is not streamed: base64 texts with commas between */
	uint64_t chunks, bytes, sent_at_us;
	uint32_t unconsumed;
};

/* --- blind_call.c --- */
/* Brackets every entry from outside, so that a call is not freed under its own feet. */
void blind_enter(struct blind_call *call);
void blind_leave(struct blind_call *call);
void blind_let_go(struct blind_call *call); /* forgets the exchange; the caller ends it afterwards */
/* Nothing follows. The hold must have ended. */
void blind_over(struct blind_call *call);
/* Nobody pays; the consumer hears why. */
void blind_fail(struct blind_call *call, const char *reason, const struct api_error *error);
/* Another provider has another key: only the consumer can go on. */
void blind_fail_reseal(struct blind_call *call, const char *reason, int status, const char *why, struct str detail);
void blind_put_error(const struct api_error *error, struct buf *out); /* as an event of a stream */

/* --- blind_money.c --- */
enum db_err blind_hold(struct blind_call *call, struct api_error *error); /* DB_E_AGAIN: ask for room, then try again */
int64_t blind_wanted(const struct blind_call *call);                      /* how much money that needs */
void blind_release(struct blind_call *call, const char *reason);
/* Ends the hold with what the provider signed; returns the charge. */
int64_t blind_settle(struct blind_call *call, const struct fleet_provider_view *provider, const struct fleet_job_end *end);

/* --- blind_relay.c --- */
extern const struct fleet_job_callbacks blind_callbacks;
void blind_watch(struct blind_call *call, uint64_t after_ms); /* for the next sign of the provider */
void blind_on_keepalive(struct net_timer *timer);

#endif
