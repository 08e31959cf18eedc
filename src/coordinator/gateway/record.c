#include "coordinator/gateway/record.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/map.h"

void records_init(struct records *records)
{
	*records = (struct records){0};
}

void records_free(struct records *records)
{
	if (records->by_id)
		map_free(records->by_id);
	free(records->by_id);
	free(records->ring);
	records_init(records);
}

static bool make_room(struct records *records)
{
	if (records->ring)
		return true;
	records->ring = calloc(RECORD_KEPT, sizeof *records->ring);
	records->by_id = malloc(sizeof *records->by_id);
	if (records->ring && records->by_id) {
		map_init(records->by_id);
		return true;
	}
	free(records->ring);
	free(records->by_id);
	records->ring = NULL;
	records->by_id = NULL;
	return false;
}

void records_add(struct records *records, const struct record *record)
{
	if (!make_room(records)) {
		records->dropped++;
		return;
	}
	struct record *slot = &records->ring[records->next];
	if (slot->id[0] && map_get(records->by_id, str_of(slot->id)) == slot)
		map_remove(records->by_id, str_of(slot->id));
	*slot = *record;
	(void)map_put(records->by_id, str_of(slot->id), slot, NULL); /* without memory it is in the list alone */
	records->next = (records->next + 1) % RECORD_KEPT;
	records->count += records->count < RECORD_KEPT;
}

const struct record *records_find(const struct records *records, struct str id)
{
	return records->by_id ? map_get(records->by_id, id) : NULL;
}

const struct record *records_at(const struct records *records, size_t n)
{
	return n < records->count ? &records->ring[(records->next + RECORD_KEPT - 1 - n) % RECORD_KEPT] : NULL;
}

void record_note_decision(struct record *record, const struct route_decision *decision)
{
	record->considered = decision->considered;
	memcpy(record->by_gate, decision->by_gate, sizeof record->by_gate);
	record->chosen = decision->node != NULL;
	record->cold = decision->cold;
	record->owned = decision->owned;
	record->probe = decision->probe;
	record->bypassed_breaker = decision->bypassed_breaker;
	record->expected_tokens = decision->expected_tokens;
	record->cost_ms = record->chosen ? decision->cost_ms : -1;
	record->runner_up_ms = record->chosen ? decision->runner_up_ms : -1;
	record->predicted_ttft_ms = record->chosen ? decision->ttft_ms : -1;
	record->tail_ms = record->chosen ? decision->tail_ms : -1;
}

/* --- JSON --- */

static void put_ms(struct json_writer *w, const char *name, double ms)
{
	json_key(w, name);
	if (ms < 0)
		json_null(w);
	else
		json_double(w, ms);
}

static void put_gates(struct json_writer *w, const struct record *record)
{
	json_key(w, "passed_over");
	json_begin_object(w);
	for (int gate = ROUTE_OK + 1; gate < ROUTE_GATES; gate++)
		if (record->by_gate[gate])
			json_put_i64(w, route_gate_name((enum route_gate)gate), record->by_gate[gate]);
	json_end_object(w);
}

static void put_asked(const struct record *record, struct json_writer *w)
{
	char account[17];
	(void)snprintf(account, sizeof account, "%016llx", (unsigned long long)record->account);
	json_put_cstr(w, "model", record->public_model);
	json_put_cstr(w, "build", record->model);
	json_put_cstr(w, "account_digest", account);
	json_put_i64(w, "prompt_tokens", (int64_t)record->prompt_tokens);
	json_put_i64(w, "max_tokens", (int64_t)record->max_tokens);
	json_put_i64(w, "expected_tokens", (int64_t)record->expected_tokens);
	json_put_bool(w, "stream", record->stream);
	json_put_bool(w, "tools", record->tools);
	json_put_bool(w, "vision", record->vision);
	json_put_cstr(w, "route", record->own_only ? "self" : record->prefers_own ? "prefer" : "public");
	json_put_cstr(w, "min_trust", route_trust_name(record->min_trust));
}

static void put_decision(const struct record *record, struct json_writer *w)
{
	json_put_i64(w, "providers_considered", record->considered);
	put_gates(w, record);
	json_key(w, "provider");
	if (record->chosen)
		json_cstr(w, record->provider);
	else
		json_null(w);
	put_ms(w, "cost_ms", record->cost_ms);
	put_ms(w, "runner_up_ms", record->runner_up_ms);
	put_ms(w, "predicted_ttft_ms", record->predicted_ttft_ms);
	put_ms(w, "predicted_tail_ms", record->tail_ms);
	json_put_bool(w, "cold", record->cold);
	json_put_bool(w, "owned", record->owned);
	json_put_bool(w, "probe", record->probe);
	json_put_bool(w, "bypassed_breaker", record->bypassed_breaker);
}

void record_write(const struct record *record, struct json_writer *w)
{
	char at[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(record->at_us, at);
	json_begin_object(w);
	json_put_cstr(w, "request_id", record->id);
	json_put_cstr(w, "at", at);
	put_asked(record, w);
	put_decision(record, w);
	json_put_i64(w, "attempts", record->attempts);
	json_put_i64(w, "capacity_failures", record->capacity_failures);
	json_put_bool(w, "hedged", record->hedged);
	json_put_bool(w, "resumed", record->resumed);
	json_put_double(w, "queue_ms", (double)record->queue_us / 1000);
	put_ms(w, "ttft_ms", record->ttft_ms);
	json_put_i64(w, "completion_tokens", (int64_t)record->completion_tokens);
	json_put_i64(w, "status", record->status);
	json_put_cstr(w, "outcome", record->outcome);
	json_end_object(w);
}

/* --- words --- */

static const char *reason_of(enum route_gate gate)
{
	static const char *const reasons[ROUTE_GATES] = {
	    [ROUTE_NOT_OWNED] = "not the caller's own",
	    [ROUTE_SERIAL] = "not among the machines that were asked for",
	    [ROUTE_EXCLUDED] = "had the request already",
	    [ROUTE_NOT_SERVING] = "without the model",
	    [ROUTE_COOLING] = "resting after a load that failed",
	    [ROUTE_OFFLINE] = "leaving, or not registered yet",
	    [ROUTE_UNTRUSTED] = "not trusted any more",
	    [ROUTE_PRIVATE_ONLY] = "private to their owners",
	    [ROUTE_TRUST_FLOOR] = "below the trust that is asked for",
	    [ROUTE_RUNTIME] = "running a program that is not accepted",
	    [ROUTE_PRIVATE_TEXT] = "unable to keep text private",
	    [ROUTE_STALE_CHALLENGE] = "without a recent proof of their posture",
	    [ROUTE_TEMPLATE] = "with a broken chat template",
	    [ROUTE_VERSION_FLOOR] = "too old for this request",
	    [ROUTE_VISION] = "unable to read images",
	    [ROUTE_CAPABILITY] = "unable to do what was asked",
	    [ROUTE_NOT_BLIND] = "without blind mode",
	    [ROUTE_SLOT_DOWN] = "with the model down",
	    [ROUTE_CONCURRENCY] = "full",
	    [ROUTE_THERMAL] = "too hot",
	    [ROUTE_TOO_LARGE] = "too small for the model",
	    [ROUTE_BUDGET] = "without room for so many tokens",
	    [ROUTE_MEMORY] = "without memory for it",
	};
	return gate < ROUTE_GATES && reasons[gate] ? reasons[gate] : route_gate_name(gate);
}

static void explain_request(const struct record *record, struct buf *out)
{
	char at[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(record->at_us, at);
	buf_printf(out, "Request %s of %s asked %s for", record->id, at, record->public_model);
	buf_printf(out, " at most %llu tokens after a prompt of about %llu%s%s.\n", (unsigned long long)record->max_tokens,
	           (unsigned long long)record->prompt_tokens, record->tools ? ", with tools" : "",
	           record->vision ? ", with images" : "");
	if (strcmp(record->model, record->public_model) != 0)
		buf_printf(out, "The name stood for the build %s.\n", record->model);
	if (record->own_only || record->prefers_own)
		buf_printf(out, "The caller wanted its own machines %s.\n", record->own_only ? "and no others" : "first");
}

static void explain_gates(const struct record *record, struct buf *out)
{
	for (int gate = ROUTE_OK + 1; gate < ROUTE_GATES; gate++)
		if (record->by_gate[gate])
			buf_printf(out, "  %u passed over: %s (%s)\n", (unsigned)record->by_gate[gate], reason_of((enum route_gate)gate),
			           route_gate_name((enum route_gate)gate));
}

static void explain_choice(const struct record *record, struct buf *out)
{
	if (!record->chosen) {
		buf_printf(out, "No provider was chosen; %u were considered:\n", (unsigned)record->considered);
		explain_gates(record, out);
		return;
	}
	buf_printf(out, "Provider %s was chosen at a cost of %.0f ms", record->provider, record->cost_ms);
	if (record->runner_up_ms >= 0)
		buf_printf(out, "; the next best would have cost %.0f ms", record->runner_up_ms);
	buf_printf(out, ".\n%llu tokens of output were expected", (unsigned long long)record->expected_tokens);
	if (record->predicted_ttft_ms >= 0)
		buf_printf(out, ", the first after %.0f ms", record->predicted_ttft_ms);
	buf_printf(out, ".%s%s%s%s\n", record->cold ? " The model had to be loaded first." : "",
	           record->owned ? " It is the caller's own." : "", record->probe ? " It was on probation after faults." : "",
	           record->bypassed_breaker ? " It had failed lately, but nobody else could." : "");
	explain_gates(record, out);
}

static void explain_end(const struct record *record, struct buf *out)
{
	if (record->queue_us)
		buf_printf(out, "It waited %.1f s for a place.\n", (double)record->queue_us / 1e6);
	buf_printf(out, "%u attempt%s", record->attempts, record->attempts == 1 ? " was made" : "s were made");
	buf_printf(out, "%s%s.\n", record->hedged ? ", a second provider was asked meanwhile" : "",
	           record->resumed ? ", another provider went on with the answer" : "");
	if (record->ttft_ms >= 0)
		buf_printf(out, "The first content came after %.0f ms; %llu tokens were counted.\n", record->ttft_ms,
		           (unsigned long long)record->completion_tokens);
	if (record->status)
		buf_printf(out, "It ended as %s (%d).\n", record->outcome, record->status);
	else
		buf_printf(out, "It ended as %s.\n", record->outcome);
}

void record_explain(const struct record *record, struct buf *out)
{
	explain_request(record, out);
	explain_choice(record, out);
	explain_end(record, out);
}
