/* A record as JSON, written and read back: what /v1/admin/routes shows and what record_log keeps. */
#include "coordinator/gateway/record.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

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

/* The terms of a cost, as they add up (routing 7). */
static const struct {
	const char *name;
	size_t offset;
} term_names[] = {
    {"state", offsetof(struct route_cost, state)},     {"queue", offsetof(struct route_cost, queue)},
    {"pending", offsetof(struct route_cost, pending)}, {"backlog", offsetof(struct route_cost, backlog)},
    {"own", offsetof(struct route_cost, own)},         {"health", offsetof(struct route_cost, health)},
    {"network", offsetof(struct route_cost, network)}, {"prefix", offsetof(struct route_cost, prefix)},
};
#define TERMS (sizeof term_names / sizeof *term_names)

static void put_terms(struct json_writer *w, const struct record *record)
{
	json_key(w, "cost_terms_ms");
	if (!record->chosen) {
		json_null(w);
		return;
	}
	json_begin_object(w);
	for (size_t i = 0; i < TERMS; i++)
		json_put_double(w, term_names[i].name,
		                *(const double *)(const void *)((const char *)&record->terms + term_names[i].offset));
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
	json_put_bool(w, "blind", record->blind);
	json_put_cstr(w, "route", record->own_only ? "self" : record->prefers_own ? "prefer" : "public");
	json_put_cstr(w, "min_trust", route_trust_name(record->min_trust));
	json_put_cstr(w, "regions", record->regions);
}

static void put_decision(const struct record *record, struct json_writer *w)
{
	json_put_bool(w, "routed", record->routed);
	json_put_i64(w, "providers_considered", record->considered);
	put_gates(w, record);
	json_key(w, "provider");
	if (record->chosen)
		json_cstr(w, record->provider);
	else
		json_null(w);
	put_ms(w, "cost_ms", record->cost_ms);
	put_terms(w, record);
	put_ms(w, "runner_up_ms", record->runner_up_ms);
	put_ms(w, "predicted_ttft_ms", record->predicted_ttft_ms);
	put_ms(w, "predicted_tail_ms", record->tail_ms);
	json_put_bool(w, "cold", record->cold);
	json_put_bool(w, "owned", record->owned);
	json_put_bool(w, "probe", record->probe);
	json_put_bool(w, "bypassed_breaker", record->bypassed_breaker);
}

static void put_tries(const struct record *record, struct json_writer *w)
{
	json_key(w, "tries");
	json_begin_array(w);
	for (unsigned i = 0; i < record->try_count && i < RECORD_TRIES; i++) {
		const struct record_try *one = &record->tries[i];
		json_begin_object(w);
		json_put_cstr(w, "provider", one->provider);
		json_put_cstr(w, "end", record_try_name(one->end));
		json_put_bool(w, "backup", one->backup);
		json_put_bool(w, "accepted", one->accepted);
		json_put_i64(w, "queue_position", one->place);
		json_put_i64(w, "status", one->status);
		json_put_i64(w, "tokens", (int64_t)one->tokens);
		json_put_double(w, "ms", one->ms);
		json_end_object(w);
	}
	json_end_array(w);
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
	put_tries(record, w);
	json_put_double(w, "queue_ms", (double)record->queue_us / 1000);
	put_ms(w, "ttft_ms", record->ttft_ms);
	json_put_i64(w, "completion_tokens", (int64_t)record->completion_tokens);
	json_put_i64(w, "status", record->status);
	json_put_cstr(w, "outcome", record->outcome);
	json_put_cstr(w, "reason", record->reason);
	json_end_object(w);
}

/* --- reading --- */

/* Each is true when the member is absent, or right and taken. */

static bool take_text(const json_val *root, const char *name, char *out, size_t size)
{
	const json_val *val = json_get_some(root, name);
	struct str text;
	return !val || (json_as_str(val, &text) && !memchr(text.at, 0, text.len) && str_copy(text, out, size));
}

static bool take_count(const json_val *root, const char *name, uint64_t most, uint64_t *out)
{
	const json_val *val = json_get_some(root, name);
	int64_t value;
	if (!val)
		return true;
	if (!json_as_i64(val, &value) || value < 0 || (uint64_t)value > most)
		return false;
	*out = (uint64_t)value;
	return true;
}

static bool take_small(const json_val *root, const char *name, unsigned *out)
{
	uint64_t value = *out;
	bool right = take_count(root, name, UINT32_MAX, &value);
	*out = (unsigned)value;
	return right;
}

static bool take_flag(const json_val *root, const char *name, bool *out)
{
	const json_val *val = json_get_some(root, name);
	return !val || json_as_bool(val, out);
}

static bool take_ms(const json_val *root, const char *name, double *out)
{
	const json_val *val = json_get_some(root, name);
	double value;
	if (!val)
		return true;
	if (!json_as_double(val, &value) || !isfinite(value) || value < 0)
		return false;
	*out = value;
	return true;
}

static bool take_trust(const json_val *root, enum route_trust *out)
{
	char name[16] = "none";
	if (!take_text(root, "min_trust", name, sizeof name))
		return false;
	for (int trust = ROUTE_TRUST_NONE; trust <= ROUTE_TRUST_HARDWARE; trust++)
		if (strcmp(name, route_trust_name((enum route_trust)trust)) == 0) {
			*out = (enum route_trust)trust;
			return true;
		}
	return false;
}

static bool take_route(const json_val *root, struct record *out)
{
	char name[16] = "public";
	bool right = take_text(root, "route", name, sizeof name);
	out->own_only = strcmp(name, "self") == 0;
	out->prefers_own = strcmp(name, "prefer") == 0;
	return right && (out->own_only || out->prefers_own || strcmp(name, "public") == 0);
}

static bool take_digest(const json_val *root, uint64_t *out)
{
	char text[17] = "0";
	char *end;
	if (!take_text(root, "account_digest", text, sizeof text) || strspn(text, "0123456789abcdef") != strlen(text) || !text[0])
		return false;
	*out = strtoull(text, &end, 16);
	return *end == '\0';
}

/* Gates of another version of this program are passed over. */
static bool take_gates(const json_val *root, struct record *out)
{
	const json_val *gates = json_get_some(root, "passed_over");
	uint64_t count;
	for (int gate = ROUTE_OK + 1; gate < ROUTE_GATES; gate++) {
		count = 0;
		if (!take_count(gates, route_gate_name((enum route_gate)gate), UINT32_MAX, &count))
			return false;
		out->by_gate[gate] = (uint32_t)count;
	}
	return true;
}

static bool take_terms(const json_val *root, struct record *out)
{
	const json_val *terms = json_get_some(root, "cost_terms_ms");
	for (size_t i = 0; i < TERMS; i++)
		if (!take_ms(terms, term_names[i].name, (double *)(void *)((char *)&out->terms + term_names[i].offset)))
			return false;
	return true;
}

static bool take_asked(const json_val *root, struct record *out)
{
	return take_text(root, "model", out->public_model, sizeof out->public_model) &&
	       take_text(root, "build", out->model, sizeof out->model) && take_digest(root, &out->account) &&
	       take_count(root, "prompt_tokens", INT64_MAX, &out->prompt_tokens) &&
	       take_count(root, "max_tokens", INT64_MAX, &out->max_tokens) &&
	       take_count(root, "expected_tokens", INT64_MAX, &out->expected_tokens) && take_flag(root, "stream", &out->stream) &&
	       take_flag(root, "tools", &out->tools) && take_flag(root, "vision", &out->vision) &&
	       take_flag(root, "blind", &out->blind) && take_route(root, out) && take_trust(root, &out->min_trust) &&
	       take_text(root, "regions", out->regions, sizeof out->regions);
}

static bool take_decision(const json_val *root, struct record *out)
{
	unsigned considered = 0;
	bool right =
	    take_flag(root, "routed", &out->routed) && take_small(root, "providers_considered", &considered) &&
	    take_gates(root, out) && take_text(root, "provider", out->provider, sizeof out->provider) &&
	    take_ms(root, "cost_ms", &out->cost_ms) && take_terms(root, out) && take_ms(root, "runner_up_ms", &out->runner_up_ms) &&
	    take_ms(root, "predicted_ttft_ms", &out->predicted_ttft_ms) && take_ms(root, "predicted_tail_ms", &out->tail_ms) &&
	    take_flag(root, "cold", &out->cold) && take_flag(root, "owned", &out->owned) && take_flag(root, "probe", &out->probe) &&
	    take_flag(root, "bypassed_breaker", &out->bypassed_breaker);
	out->considered = considered;
	out->chosen = out->provider[0] != '\0';
	return right;
}

static bool take_try(const json_val *val, struct record_try *out)
{
	char end[16] = "";
	unsigned status = 0;
	bool right = json_type(val) == JSON_OBJECT && take_text(val, "provider", out->provider, sizeof out->provider) &&
	             take_text(val, "end", end, sizeof end) && take_flag(val, "backup", &out->backup) &&
	             take_flag(val, "accepted", &out->accepted) && take_small(val, "queue_position", &out->place) &&
	             take_small(val, "status", &status) && status < 1000 && take_count(val, "tokens", INT64_MAX, &out->tokens) &&
	             take_ms(val, "ms", &out->ms);
	out->status = (int)status;
	for (int i = 0; i < RECORD_TRY_ENDS; i++)
		if (strcmp(end, record_try_name((enum record_try_end)i)) == 0)
			out->end = (enum record_try_end)i;
	return right;
}

static bool take_tries(const json_val *root, struct record *out)
{
	const json_val *list = json_get_some(root, "tries");
	struct json_iter iter = json_iter(list);
	if (list && json_type(list) != JSON_ARRAY)
		return false;
	for (const json_val *val; out->try_count < RECORD_TRIES && (val = json_next(&iter, NULL));)
		if (!take_try(val, &out->tries[out->try_count++]))
			return false;
	return true;
}

static bool take_end(const json_val *root, struct record *out)
{
	double queue_ms = 0;
	unsigned status = 0;
	bool right =
	    take_small(root, "attempts", &out->attempts) && take_small(root, "capacity_failures", &out->capacity_failures) &&
	    take_flag(root, "hedged", &out->hedged) && take_flag(root, "resumed", &out->resumed) && take_tries(root, out) &&
	    take_ms(root, "queue_ms", &queue_ms) && queue_ms < 1e12 && take_ms(root, "ttft_ms", &out->ttft_ms) &&
	    take_count(root, "completion_tokens", INT64_MAX, &out->completion_tokens) && take_small(root, "status", &status) &&
	    status < 1000 && take_text(root, "outcome", out->outcome, sizeof out->outcome) &&
	    take_text(root, "reason", out->reason, sizeof out->reason);
	out->queue_us = right ? (uint64_t)llround(queue_ms * 1000) : 0;
	out->status = (int)status;
	return right;
}

enum db_err record_read(const json_val *root, struct record *out)
{
	struct str at;
	record_init(out);
	bool right = take_text(root, "request_id", out->id, sizeof out->id) && out->id[0] &&
	             json_as_str(json_get(root, "at"), &at) && clock_parse_rfc3339(at, &out->at_us) == DB_OK &&
	             take_asked(root, out) && take_decision(root, out) && take_end(root, out);
	return right ? DB_OK : DB_E_INVALID;
}
