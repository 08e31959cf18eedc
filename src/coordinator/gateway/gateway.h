/* One consumer request through the coordinator: admit -> hold -> route -> seal -> relay -> settle (design 5).
 *
 * Every dialect comes through here; what differs between them is how bytes become a struct chat_request and how frames become
 * bytes (api/dialect.h). Thread: the loop's. */
#ifndef COORDINATOR_GATEWAY_H
#define COORDINATOR_GATEWAY_H

#include "api/dialect.h"
#include "coordinator/accounts/limits.h"
#include "coordinator/fleet/fleet.h"
#include "coordinator/gateway/exchange.h"
#include "coordinator/money/ledger.h"
#include "coordinator/observe/metrics.h"
#include "net/loop.h"

struct gateway;
struct record_log;

#define GATEWAY_MAX_BODY (16u << 20) /* http-api 2.1 */

struct gateway_options {
	struct net_loop *loop;
	struct fleet *fleet;
	struct ledger *ledger;
	struct metrics *metrics;
	struct limits *limits; /* NULL = none */
	/* 0 = the constants of http-api 2.1 */
	uint32_t first_content_ms; /* 5,000, and 1 ms more for each prompt token */
	uint32_t accepted_ms;      /* 600,000: from acceptance to the first content */
	uint32_t preamble_ms;      /* 90,000: from the deadline to the first content when a preamble came */
	uint32_t idle_ms;          /* 600,000: between chunks, and a whole answer in all */
	uint32_t stall_ms;         /* 60,000: after content nothing came to anybody: another provider goes on, where one can */
	uint32_t queue_wait_ms;    /* 120,000 */
	uint32_t keepalive_ms;     /* 10,000 */
	uint32_t hedge_percent;    /* of all tokens that may be spent on asking two providers; 0 = never ask two */
	/* The record of an answer that its caller asked to be kept (dialect.record); NULL = nothing is kept. Both borrowed until it
	 * returns. */
	void (*keep)(void *user, struct str account_id, const char *job_id, struct buf *record);
	void *keep_user;
	struct record_log *log;      /* where records go besides memory; NULL = nowhere. Borrowed */
	uint8_t record_key[16];      /* of accounts' digests in them; all 0 = one for this process */
	uint32_t relay_buffer_bytes; /* unread answer kept for a consumer whose provider knows no credit, 4 MiB */
};
struct gateway *gateway_new(const struct gateway_options *options);
/* After the HTTP server and before the fleet: requests that are still open are cancelled and their holds released. */
void gateway_free(struct gateway *gateway);

/* Lengths of answers, for what outlives the process (routing/memory.h). */
struct learn *gateway_learn(struct gateway *gateway);

/* An inference request: the body is complete and the caller known. Errors are the exchange's, in its dialect. */
void gateway_infer(struct gateway *gateway, struct exchange *exchange, const struct dialect *dialect);

/* POST /v1/blind/offer and POST /v1/blind/completions (blind.h). */
void gateway_blind_offer(struct gateway *gateway, struct exchange *exchange);
void gateway_blind_complete(struct gateway *gateway, struct exchange *exchange);

struct record;
struct records;
const struct records *gateway_records(const struct gateway *gateway);              /* record.h */
void gateway_restore_record(struct gateway *gateway, const struct record *record); /* of before the start; oldest first */
/* For exchange.on_refused of inference routes, with the gateway as its user: leaves a record, and names it to the consumer. */
void gateway_refused(struct exchange *exchange, const struct api_error *error, void *gateway);

/* What was answered and billed since the start. */
struct gateway_totals {
	uint64_t requests, prompt_tokens, completion_tokens;
};
void gateway_totals(const struct gateway *gateway, struct gateway_totals *out);
size_t gateway_inflight(const struct gateway *gateway); /* requests that a consumer still waits for */

#endif
