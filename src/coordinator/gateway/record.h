/* Why a request went where it went, or nowhere: one compact record of each, routed or refused (routing 18 "Route record"). The
 * newest RECORD_KEPT are in memory; record_log.h keeps more of them on disk. No text of prompts or answers; accounts by a keyed
 * digest.
 * Thread: the loop's, except for what takes nothing but a record. */
#ifndef COORDINATOR_GATEWAY_RECORD_H
#define COORDINATOR_GATEWAY_RECORD_H

#include "coordinator/gateway/record_sum.h"
#include "coordinator/routing/routing.h"
#include "core/id.h"
#include "core/json.h"
#include "core/list.h"

#define RECORD_KEPT         8192
#define RECORD_TRIES        4
#define RECORD_OUTCOME_SIZE 40
#define RECORD_REGIONS_SIZE 64
#define RECORD_JSON_MAX     8192 /* bytes of one record as JSON, at most */

/* One dispatch of the request to a provider. */
enum record_try_end {
	RECORD_TRY_STOPPED, /* the consumer left, or the call ended otherwise */
	RECORD_TRY_ANSWERED,
	RECORD_TRY_OVERTAKEN, /* another one had content first: nothing is held against it */
	RECORD_TRY_SILENT,    /* no content came in time */
	RECORD_TRY_FAILED,    /* before content */
	RECORD_TRY_LOST,      /* after content */
	RECORD_TRY_TOO_DEAR,  /* its price was not covered: nothing was sent */
	RECORD_TRY_ENDS
};
const char *record_try_name(enum record_try_end end);

struct record_try {
	char provider[ID_UUID_SIZE];
	enum record_try_end end;
	bool backup, accepted;
	int status;      /* of a failure; 0 = none */
	uint32_t place;  /* the farthest back it stood in its engine's queue, 1 = the next; 0 = it did not wait */
	uint64_t tokens; /* of output that came from it */
	double ms;       /* from dispatch to its end */
};

struct record {
	char id[ID_UUID_SIZE]; /* of the client request, as X-Inference-Job-ID and the hold have it */
	int64_t at_us;         /* wall time of the request */
	char model[ROUTE_MODEL_SIZE], public_model[ROUTE_MODEL_SIZE]; /* empty: refused before it was read */
	uint64_t account;                                             /* digest; 0 = nobody's */
	uint64_t prompt_tokens, max_tokens, expected_tokens;
	bool tools, vision, stream, blind, own_only, prefers_own;
	enum route_trust min_trust;
	char regions[RECORD_REGIONS_SIZE]; /* asked for, with commas between; cut where there are too many */
	/* the decision that led to the answer; without one, the last */
	bool routed; /* false: refused before one was */
	uint32_t considered, by_gate[ROUTE_GATES];
	bool chosen, cold, owned, probe, bypassed_breaker;
	char provider[ID_UUID_SIZE];
	double cost_ms, runner_up_ms, predicted_ttft_ms, tail_ms; /* < 0 = unknown */
	struct route_cost terms;                                  /* of cost_ms, when one was chosen */
	/* what came of it */
	unsigned attempts, capacity_failures;
	bool hedged, resumed;
	struct record_try tries[RECORD_TRIES]; /* in the order of dispatch; of more, the first and the last, and all that run */
	unsigned try_count;
	uint64_t queue_us;
	double ttft_ms; /* of the attempt that answered; < 0 = no content came */
	uint64_t completion_tokens;
	int status;                        /* of the answer; 0 = the consumer left */
	char outcome[RECORD_OUTCOME_SIZE]; /* "success", "partial_success", "client_gone", or the error's type */
	char reason[RECORD_OUTCOME_SIZE];  /* of a refusal, nearer than the outcome: "input_tokens_per_minute"; may be empty */
};
/* Nothing known yet. */
void record_init(struct record *record);

struct records {
	struct record *ring; /* RECORD_KEPT of them, made with the first record */
	size_t next, count;
	struct map *by_id;
	uint64_t dropped; /* without memory */
	struct record_sum *sum;
};

void records_init(struct records *records);
void records_free(struct records *records);
void records_add(struct records *records, const struct record *record);
/* One of before the start: it is found and listed, and not summed up. */
void records_restore(struct records *records, const struct record *record);
const struct record *records_find(const struct records *records, struct str id); /* borrowed until the next records_add */
/* Newest first, from the n-th on; NULL at the end. */
const struct record *records_at(const struct records *records, size_t n);

void record_note_decision(struct record *record, const struct route_decision *decision);
/* A cleared place for one more try, which is the last. When there is none, the newest but the first that is over makes way and
 * those after it move up: *gone is where it was, else RECORD_TRIES. `running` has a bit for each place whose try is not over.
 */
unsigned record_try_place(struct record *record, unsigned running, unsigned *gone);
void record_write(const struct record *record, struct json_writer *w);
/* {"route": as record_write, "explanation": as record_explain} */
void record_write_explained(const struct record *record, struct json_writer *w);
/* What record_write wrote; members that are missing are as after record_init. DB_E_INVALID: no record, or a value that none
 * has. */
enum db_err record_read(const json_val *root, struct record *out);
/* In words, one sentence to the line. */
void record_explain(const struct record *record, struct buf *out);

#endif
