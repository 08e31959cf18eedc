/* Simulated consumers: closed-loop clients over plain HTTP/1.1 keep-alive, light enough to saturate a coordinator from the
 * other core. Thread: the loop's. */
#ifndef SWARM_LOAD_H
#define SWARM_LOAD_H

#include "core/error.h"
#include "core/str.h"
#include "net/loop.h"
#include "swarm/stats.h"

enum swarm_dialect { SWARM_CHAT, SWARM_RESPONSES, SWARM_COMPLETIONS, SWARM_MESSAGES, SWARM_DIALECTS };
#define SWARM_MIXED SWARM_DIALECTS /* one after the other */
const char *swarm_dialect_path(enum swarm_dialect dialect);
/* By name; false when there is none of that name. */
bool swarm_dialect_named(struct str name, enum swarm_dialect *out);

struct swarm_load_options {
	const char *host;
	uint16_t port;
	enum swarm_dialect dialect;
	const char *key; /* API key */
	const char *model;
	uint32_t models;         /* as in swarm_fleet_options: spreads over "-0", "-1", ... */
	uint32_t clients;        /* connections, each with one request at a time */
	uint64_t requests;       /* stop after so many, 0 = by time */
	uint32_t seconds;        /* stop after so long, 0 = by count */
	uint32_t warmup_seconds; /* not counted */
	uint32_t think_us;       /* between an answer and the client's next request */
	bool stream;
	uint32_t prompt_bytes;
	uint32_t max_tokens; /* 0 = not said */
	uint32_t stall_ms;   /* stop reading for so long after the first byte of each stream */
	/* Provider's turn-around of the answer that just arrived, taken off the latency; NULL = report the whole latency. */
	uint64_t (*turnaround_us)(void *user);
	void (*done)(void *user);
	void *user;
};

struct swarm_load;
struct swarm_load *swarm_load_new(struct net_loop *loop, const struct swarm_load_options *options, struct error *error);
void swarm_load_free(struct swarm_load *load);

struct swarm_load_result {
	uint64_t ok, failed, events; /* answers, other statuses or lost connections, SSE data events */
	uint64_t by_status[6];       /* by hundreds; [0] = no answer */
	uint64_t incomplete;         /* streams that ended without their dialect's closing event */
	double seconds;
	struct stats latency_us; /* whole answers */
	struct stats first_us;   /* time to the first SSE event, streams only */
};
const struct swarm_load_result *swarm_load_result(const struct swarm_load *load);
/* Why nobody was there when the load began, which ended it; NULL once a connection opened. Borrowed from `load`. */
const struct error *swarm_load_unreached(const struct swarm_load *load);

#endif
