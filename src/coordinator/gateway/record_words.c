/* A record as sentences for the operator. */
#include "coordinator/gateway/record.h"

#include <string.h>

#include "core/clock.h"

static const char *reason_of(enum route_gate gate)
{
	static const char *const reasons[ROUTE_GATES] = {
	    [ROUTE_NOT_OWNED] = "not the caller's own",
	    [ROUTE_SERIAL] = "not among the machines that were asked for",
	    [ROUTE_REGION] = "outside of the regions that were asked for",
	    [ROUTE_SHAPE_BREAKER] = "resting after requests of this kind that failed",
	    [ROUTE_NODE_BREAKER] = "resting after faults",
	    [ROUTE_EXCLUDED] = "had the request already",
	    [ROUTE_NOT_SERVING] = "without the model",
	    [ROUTE_DEDICATED] = "with other models beside one that has machines of its own",
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
	if (!record->public_model[0]) {
		buf_printf(out, "Request %s of %s was refused before its body was read.\n", record->id, at);
		return;
	}
	buf_printf(out, "Request %s of %s asked %s%s for", record->id, at, record->public_model,
	           record->blind ? ", sealed to one provider," : "");
	buf_printf(out, " at most %llu tokens after a prompt of about %llu%s%s.\n", (unsigned long long)record->max_tokens,
	           (unsigned long long)record->prompt_tokens, record->tools ? ", with tools" : "",
	           record->vision ? ", with images" : "");
	if (strcmp(record->model, record->public_model) != 0)
		buf_printf(out, "The name stood for the build %s.\n", record->model);
	if (record->own_only || record->prefers_own)
		buf_printf(out, "The caller wanted its own machines %s.\n", record->own_only ? "and no others" : "first");
	if (record->min_trust > ROUTE_TRUST_NONE)
		buf_printf(out, "It wanted machines of trust %s at least.\n", route_trust_name(record->min_trust));
	if (record->regions[0])
		buf_printf(out, "It wanted machines in %s.\n", record->regions);
}

static void explain_gates(const struct record *record, struct buf *out)
{
	for (int gate = ROUTE_OK + 1; gate < ROUTE_GATES; gate++)
		if (record->by_gate[gate])
			buf_printf(out, "  %u passed over: %s (%s)\n", (unsigned)record->by_gate[gate], reason_of((enum route_gate)gate),
			           route_gate_name((enum route_gate)gate));
}

/* What made up the cost, without what took no part in it. */
static void explain_terms(const struct record *record, struct buf *out)
{
	const struct route_cost *t = &record->terms;
	const struct {
		double ms;
		const char *why;
	} terms[] = {
	    {t->state, "until the model is in memory"}, {t->queue, "for the requests to this model that it runs"},
	    {t->pending, "for its other requests"},     {t->backlog, "for prompts that it has not read yet"},
	    {t->own, "for the request itself"},         {t->health, "for heat, memory and processor"},
	    {t->network, "for the way there and back"},
	};
	for (size_t i = 0; i < sizeof terms / sizeof *terms; i++)
		if (terms[i].ms >= 0.5)
			buf_printf(out, "  %.0f ms %s\n", terms[i].ms, terms[i].why);
	if (t->prefix <= -0.5)
		buf_printf(out, "  %.0f ms less, as it keeps the beginning of the prompt\n", -t->prefix);
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
	buf_printf(out, ":\n");
	explain_terms(record, out);
	buf_printf(out, "%llu tokens of output were expected", (unsigned long long)record->expected_tokens);
	if (record->predicted_ttft_ms >= 0)
		buf_printf(out, ", the first after %.0f ms", record->predicted_ttft_ms);
	buf_printf(out, ".%s%s%s%s\n", record->cold ? " The model had to be loaded first." : "",
	           record->owned ? " It is the caller's own." : "", record->probe ? " It was on probation after faults." : "",
	           record->bypassed_breaker ? " It had failed lately, but nobody else could." : "");
	explain_gates(record, out);
}

const char *record_try_name(enum record_try_end end)
{
	static const char *const names[RECORD_TRY_ENDS] = {"stopped", "answered", "overtaken", "silent",
	                                                   "failed",  "lost",     "too_dear"};
	return names[end];
}

static const char *try_words(enum record_try_end end)
{
	static const char *const words[RECORD_TRY_ENDS] = {"was stopped",
	                                                   "answered",
	                                                   "was overtaken, which is not held against it",
	                                                   "said nothing in time",
	                                                   "failed before content",
	                                                   "failed after content",
	                                                   "was dearer than what is covered"};
	return words[end];
}

/* With one alone the rest says it all. */
static void explain_tries(const struct record *record, struct buf *out)
{
	for (unsigned i = 0; record->try_count > 1 && i < record->try_count && i < RECORD_TRIES; i++) {
		const struct record_try *one = &record->tries[i];
		buf_printf(out, "  %s%s %s", one->provider, one->backup ? ", asked meanwhile," : "", try_words(one->end));
		if (one->status)
			buf_printf(out, " (%d)", one->status);
		buf_printf(out, ", %.0f ms and %llu tokens of output after it was asked\n", one->ms, (unsigned long long)one->tokens);
	}
}

static void explain_places(const struct record *record, struct buf *out)
{
	for (unsigned i = 0; i < record->try_count && i < RECORD_TRIES; i++)
		if (record->tries[i].place)
			buf_printf(out, "At provider %s it waited for the engine, at place %u or nearer.\n", record->tries[i].provider,
			           record->tries[i].place);
}

static void explain_prediction(const struct record *record, struct buf *out)
{
	if (record->predicted_ttft_ms > 0)
		buf_printf(out, "That was %.2f times what was predicted", record->ttft_ms / record->predicted_ttft_ms);
	if (record->predicted_ttft_ms > 0 && record->expected_tokens > 0)
		buf_printf(out, ", and the answer %.2f times as long as expected",
		           (double)record->completion_tokens / (double)record->expected_tokens);
	if (record->predicted_ttft_ms > 0)
		buf_printf(out, ".\n");
}

static void explain_end(const struct record *record, struct buf *out)
{
	if (record->queue_us)
		buf_printf(out, "It waited %.1f s for a place.\n", (double)record->queue_us / 1e6);
	buf_printf(out, "%u attempt%s", record->attempts, record->attempts == 1 ? " was made" : "s were made");
	buf_printf(out, "%s%s.\n", record->hedged ? ", a second provider was asked meanwhile" : "",
	           record->resumed ? ", another provider went on with the answer" : "");
	explain_tries(record, out);
	explain_places(record, out);
	if (record->ttft_ms >= 0)
		buf_printf(out, "The first content came after %.0f ms; %llu tokens were counted.\n", record->ttft_ms,
		           (unsigned long long)record->completion_tokens);
	if (record->ttft_ms >= 0)
		explain_prediction(record, out);
	if (record->reason[0] && strcmp(record->reason, record->outcome) != 0)
		buf_printf(out, "The reason was %s.\n", record->reason);
	if (record->status)
		buf_printf(out, "It ended as %s (%d).\n", record->outcome, record->status);
	else
		buf_printf(out, "It ended as %s.\n", record->outcome);
}

void record_explain(const struct record *record, struct buf *out)
{
	explain_request(record, out);
	if (record->routed)
		explain_choice(record, out);
	else
		buf_append_str(out, STR("No provider was looked for.\n"));
	explain_end(record, out);
}

void record_write_explained(const struct record *record, struct json_writer *w)
{
	struct buf words;
	buf_init(&words, 65536);
	record_explain(record, &words);
	json_begin_object(w);
	json_key(w, "route");
	record_write(record, w);
	json_put_str(w, "explanation", buf_str(&words));
	json_end_object(w);
	buf_free(&words);
}
