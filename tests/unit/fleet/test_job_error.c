/* What a provider's error means, as tables of routing 10-11 and http-api 2.6. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/fleet/job_error.h"

struct row {
	int status;
	const char *text, *reason;
	bool capacity, deterministic, fault, cancelled, cool_down;
};

static void the_table(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    /* fault words come first, whatever else the text says */
	    {500, "panic: out of memory", "", false, false, true, false, false},
	    {500, "Fatal error in slot cap", "", false, false, true, false, false},
	    {500, "backend crash", "", false, false, true, false, false},
	    {500, "BACKEND_CRASH", "", false, false, true, false, false},
	    {500, "Internal Error", "", false, false, true, false, false},
	    {500, "The operation couldn\xe2\x80\x99t be completed", "", false, false, true, false, false},
	    {500, "the operation couldn't be completed", "", false, false, true, false, false},
	    /* capacity words */
	    {503, "token_budget_exhausted", "", true, false, false, false, false},
	    {503, "Token budget is used up", "", true, false, false, false, false},
	    {503, "no KV cache headroom", "", true, false, false, false, false},
	    {503, "kv headroom", "", true, false, false, false, false},
	    {503, "insufficient KV", "", true, false, false, false, false},
	    {503, "insufficient memory to load model 'x'", "", true, false, false, false, true},
	    {503, "out of memory", "", true, false, false, false, false},
	    {503, "provider draining for update", "", true, false, false, false, false},
	    {503, "request rejected", "", true, false, false, false, false},
	    {429, "queue full", "", true, false, false, false, false},
	    {503, "server busy", "", true, false, false, false, false},
	    {503, "request timed out waiting for capacity", "", true, false, false, false, false},
	    {404, "model not loaded", "", true, false, false, false, false},
	    {503, "no model loaded", "", true, false, false, false, false},
	    {503, "killed: OOM", "", true, false, false, false, false},
	    {503, "a roomy slot", "", false, false, true, false, false}, /* oom as a part of a word does not count */
	    {503, "all slots active", "", true, false, false, false, false},
	    {503, "slot cap reached", "", true, false, false, false, false},
	    /* deterministic */
	    {400, "prompt exceeds the context", "", true, true, false, false, false},
	    {503, "context length 8192", "", true, true, false, false, false},
	    {503, "larger than the context window", "", true, true, false, false, false},
	    {503, "batch token budget", "", true, true, false, false, false},
	    {503, "context was exceeded: request rejected", "", true, true, false, false, false},
	    /* who is blamed */
	    {500, "boom", "", false, false, true, false, false},
	    {502, "boom", "", false, false, true, false, false},
	    {504, "boom", "", false, false, true, false, false},
	    {500, "not loaded", "", true, false, true, false, false},
	    {500, "token_budget_exhausted", "", true, false, false, false, false},
	    {500, "insufficient memory", "", true, false, false, false, true},
	    {503, "boom", "", false, false, true, false, false},
	    {501, "boom", "", false, false, true, false, false},
	    {429, "boom", "", true, false, false, false, false},
	    {400, "invalid request body", "", false, false, false, false, false},
	    {422, "bad structured output", "", false, false, false, false, false},
	    {400, "decryption failed", "", false, false, true, false, false},
	    {499, "boom", "", false, false, false, true, false},
	    {500, "Request cancelled", "", false, false, false, true, false},
	    /* loading */
	    {500, "model load failed: no such file", "", false, false, true, false, true},
	    {503, "Model load failed: insufficient memory", "model_load", true, false, false, false, true},
	    {503, "boom", "model_load", false, false, true, false, true},
	    {500, "", "", false, false, true, false, false},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct row *r = &rows[i];
		struct job_error class = job_error_classify(r->status, str_of(r->text), str_of(r->reason));
		if (class.capacity != r->capacity || class.deterministic != r->deterministic || class.fault != r->fault ||
		    class.cancelled != r->cancelled || class.cool_down != r->cool_down)
			fail_msg("%d \"%s\": capacity %d deterministic %d fault %d cancelled %d cool_down %d", r->status, r->text,
			         class.capacity, class.deterministic, class.fault, class.cancelled, class.cool_down);
	}
}

static void texts_of_any_length_and_bytes_are_read(void **state)
{
	(void)state;
	static char text[5000];
	memset(text, 0xe2, sizeof text);
	struct str all = {text, sizeof text};
	assert_true(job_error_classify(500, all, STR_NONE).fault);
	assert_true(job_error_classify(500, STR_NONE, STR_NONE).fault);
}

/* Routing 11.2, and its flaws mended: no 4xx and no request that fits nowhere blames a machine. */
static void breakers_are_told_by_reason_code_then_by_status_and_text(void **state)
{
	(void)state;
	static const struct {
		int status;
		const char *text, *reason;
		enum route_outcome outcome;
	} rows[] = {
	    {500, "boom", "", ROUTE_OUTCOME_FAULT},
	    {502, "panic: out of memory", "", ROUTE_OUTCOME_FAULT},
	    {504, "boom", "", ROUTE_OUTCOME_FAULT},
	    {500, "token_budget_exhausted", "", ROUTE_OUTCOME_SHAPE_FAULT},
	    {500, "insufficient memory", "", ROUTE_OUTCOME_SHAPE_FAULT},
	    {503, "server busy", "", ROUTE_OUTCOME_CAPACITY},
	    {503, "boom", "", ROUTE_OUTCOME_NODE_FAULT},
	    {501, "boom", "", ROUTE_OUTCOME_NODE_FAULT},
	    {429, "boom", "", ROUTE_OUTCOME_CAPACITY},
	    {400, "invalid request body", "", ROUTE_OUTCOME_CLIENT},
	    {404, "no such thing", "", ROUTE_OUTCOME_CLIENT},
	    {422, "panic: bad schema", "", ROUTE_OUTCOME_CLIENT},
	    {500, "prompt exceeds the context window", "", ROUTE_OUTCOME_CLIENT},
	    {400, "decryption failed", "", ROUTE_OUTCOME_NODE_FAULT},
	    {499, "boom", "", ROUTE_OUTCOME_CLIENT},
	    {500, "Request cancelled", "", ROUTE_OUTCOME_CLIENT},
	    {500, "boom", "jinja_template", ROUTE_OUTCOME_SHAPE_FAULT},
	    {400, "unexpected tag", "jinja_channel_tags", ROUTE_OUTCOME_SHAPE_FAULT},
	    {503, "boom", "model_load", ROUTE_OUTCOME_SHAPE_FAULT},
	    {503, "Model load failed: insufficient memory", "model_load", ROUTE_OUTCOME_CAPACITY},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct job_error class = job_error_classify(rows[i].status, str_of(rows[i].text), str_of(rows[i].reason));
		if (class.outcome != rows[i].outcome)
			fail_msg("%d \"%s\" \"%s\": outcome %d", rows[i].status, rows[i].text, rows[i].reason, class.outcome);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_table),
	    cmocka_unit_test(breakers_are_told_by_reason_code_then_by_status_and_text),
	    cmocka_unit_test(texts_of_any_length_and_bytes_are_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
