/* Why a request went where it went, or nowhere: one compact record of each, in memory, the newest RECORD_KEPT of them
 * (routing 18 "Route record"). No text of prompts or answers; accounts by a digest that differs between processes.
 * Thread: the loop's. */
#ifndef COORDINATOR_GATEWAY_RECORD_H
#define COORDINATOR_GATEWAY_RECORD_H

#include "coordinator/routing/routing.h"
#include "core/id.h"
#include "core/json.h"
#include "core/list.h"

#define RECORD_KEPT         8192
#define RECORD_OUTCOME_SIZE 40

struct record {
	char id[ID_UUID_SIZE]; /* of the client request, as X-Request-ID's job id and the hold have it */
	int64_t at_us;         /* wall time of the request */
	char model[ROUTE_MODEL_SIZE], public_model[ROUTE_MODEL_SIZE];
	uint64_t account; /* digest */
	uint64_t prompt_tokens, max_tokens, expected_tokens;
	bool tools, vision, stream, own_only, prefers_own;
	enum route_trust min_trust;
	/* the last decision that was asked of routing */
	uint32_t considered, by_gate[ROUTE_GATES];
	bool chosen, cold, owned, probe, bypassed_breaker;
	char provider[ID_UUID_SIZE];
	double cost_ms, runner_up_ms, predicted_ttft_ms, tail_ms; /* < 0 = unknown */
	/* what came of it */
	unsigned attempts, capacity_failures;
	bool hedged, resumed;
	uint64_t queue_us;
	double ttft_ms; /* of the attempt that answered; < 0 = no content came */
	uint64_t completion_tokens;
	int status;                        /* of the answer; 0 = the consumer left */
	char outcome[RECORD_OUTCOME_SIZE]; /* "success", "partial_success", "client_gone", or the error's type */
};

struct records {
	struct record *ring; /* RECORD_KEPT of them, made with the first record */
	size_t next, count;
	struct map *by_id;
	uint64_t dropped; /* without memory */
};

void records_init(struct records *records);
void records_free(struct records *records);
void records_add(struct records *records, const struct record *record);
const struct record *records_find(const struct records *records, struct str id); /* borrowed until the next records_add */
/* Newest first, from the n-th on; NULL at the end. */
const struct record *records_at(const struct records *records, size_t n);

void record_note_decision(struct record *record, const struct route_decision *decision);
void record_write(const struct record *record, struct json_writer *w);
/* In words, one sentence to the line. */
void record_explain(const struct record *record, struct buf *out);

#endif
