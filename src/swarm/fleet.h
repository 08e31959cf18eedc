/* Simulated providers: thousands of sessions from one process, speaking the real wire with real attestation and real boxes.
 * Their answers are made up; their faults are set. Thread: the loop's. */
#ifndef SWARM_FLEET_H
#define SWARM_FLEET_H

#include "core/error.h"
#include "core/str.h"
#include "net/loop.h"
#include "net/tls.h"
#include "swarm/stats.h"

enum swarm_fault {
	SWARM_FAULT_ERROR,      /* answers 500 before anything else */
	SWARM_FAULT_BUSY,       /* answers 503 "server busy" */
	SWARM_FAULT_HANG,       /* accepts and never says anything */
	SWARM_FAULT_SILENT,     /* does not even accept */
	SWARM_FAULT_STALL,      /* says who speaks, and nothing more */
	SWARM_FAULT_DROP,       /* closes the socket in the middle of the answer */
	SWARM_FAULT_EARLY_DROP, /* closes the socket before the first content */
	SWARM_FAULT_BREAK,      /* error 500 in the middle of the answer */
	SWARM_FAULT_GARBAGE,    /* sends bytes that are not JSON among the chunks */
	SWARM_FAULT_PLAINTEXT,  /* sends a chunk in the clear */
	SWARM_FAULT_FOREIGN,    /* sends a chunk for a request it was never given */
	SWARM_FAULT_REPLAY,     /* sends a chunk twice, and another after the end */
	SWARM_FAULT_OVERSIZE,   /* sends a message above the coordinator's limit */
	SWARM_FAULT_LIE,        /* claims a million completion tokens */
	SWARM_FAULTS
};

struct swarm_fleet_options {
	const char *url;         /* ws:// or wss://host:port/ws/provider */
	struct tls_context *tls; /* for wss */
	uint32_t count;
	uint32_t addresses;          /* of 127.0.0.0/8 that sessions come from by turns, where the url is there; 0 = enough */
	uint32_t connect_rate;       /* new sessions a second, 0 = 2,000 */
	uint32_t first_index;        /* serials and keys are numbered from here */
	const char *model;           /* build id that every provider offers */
	uint32_t models;             /* more than 1: ids get "-0", "-1", ...; each provider offers one */
	uint32_t think_us;           /* before the first chunk */
	uint32_t pace_us;            /* between chunks; 0 = as fast as the socket takes them */
	uint32_t chunks;             /* content chunks of an answer */
	uint32_t chunk_bytes;        /* text of each */
	uint32_t heartbeat_ms;       /* 0 = 5,000 */
	uint32_t concurrency;        /* reported max_concurrency, 0 = 24 */
	uint32_t churn;              /* sessions that end each second, of any providers; they connect again */
	uint32_t reconnect_ms;       /* wait before that, between half of it and one and a half; 0 = 1,000 */
	bool credit;                 /* understand flow credit */
	bool ignore_cancel;          /* like the older generation */
	bool old_generation;         /* frames without line end, no capacity in heartbeats (protocol-and-trust 16) */
	double faults[SWARM_FAULTS]; /* probability for each request */
	uint64_t seed;
	/* Every provider has registered and answered its first challenge; may be NULL. */
	void (*ready)(void *user);
	void *user;
};

#define SWARM_ADDRESS_SESSIONS                                                                                                 \
	20000 /* of one address: the system has ports for about 28,000, and some are still being closed */

struct swarm_fleet;
struct swarm_fleet *swarm_fleet_new(struct net_loop *loop, const struct swarm_fleet_options *options, struct error *error);
void swarm_fleet_free(struct swarm_fleet *fleet);

struct swarm_fleet_counts {
	uint64_t connected, challenged, requests, chunks, completed, cancelled, faults, sessions_lost;
	uint64_t turnaround_us; /* sum of the time from a request's arrival to its last message being handed to the socket */
};
void swarm_fleet_counts(const struct swarm_fleet *fleet, struct swarm_fleet_counts *out);
/* Turn-around of the last request that was answered, for a client in the same process. */
uint64_t swarm_fleet_last_turnaround_us(const struct swarm_fleet *fleet);

const char *swarm_fault_name(enum swarm_fault fault);
/* "error:0.1,drop:0.02" into faults. DB_E_INVALID with a sentence. */
enum db_err swarm_faults_parse(struct str text, double faults[SWARM_FAULTS], struct error *error);

#endif
