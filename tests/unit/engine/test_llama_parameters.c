/* Every sampling parameter and stop of the API, from the body of a request to the real model's answer: each changes what comes,
 * or is refused with its name. None is ignored. */
#include "llama_fixture.h"

#include "api/chat_request.h"

#define GREEDY "\"temperature\":0,\"max_tokens\":16"
#define DRAWN  "\"temperature\":1.5,\"seed\":5,\"max_tokens\":16"
/* a token that is about as likely as all others, so that little decides */
#define TORN "\"temperature\":2,\"seed\":5,\"max_tokens\":32,\"logit_bias\":{\"28\":12}"
/* 28 and 2: an ordinary token, and the one that ends an answer */
#define FORCED "\"temperature\":0,\"max_tokens\":8,\"logit_bias\":{\"28\":100}"
#define ENDED  "\"temperature\":0,\"max_tokens\":8,\"logit_bias\":{\"2\":100}"

struct outcome {
	char *content, *logprobs;
	uint64_t tokens;
	enum engine_finish finish;
};

static bool parse(const char *members, struct arena *arena, struct chat_request *out, struct api_error *error)
{
	char body[512];
	int len = snprintf(
	    body, sizeof body,
	    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Write one sentence about the sea.\"}],%s}", members);
	assert_in_range(len, 1, sizeof body - 1);
	return chat_request_parse(arena_str(arena, str_of(body)), arena, out, error);
}

static struct outcome outcome_of(const char *members)
{
	struct request request = {.arena = arena_new(0)};
	struct api_error error = {0};
	struct collector c;
	if (!parse(members, request.arena, &request.chat, &error))
		fail_msg("%s: %s", members, error.message);
	run(shared, &request, &c);
	if (c.status)
		fail_msg("%s: %d %s", members, c.status, c.text);
	struct outcome outcome = {strdup(content_of(&c)), strndup(c.logprobs.len ? c.logprobs.at : "", c.logprobs.len),
	                          c.usage.completion_tokens, c.finish};
	collector_free(&c);
	request_free(&request);
	return outcome;
}

static bool same(const struct outcome *a, const struct outcome *b)
{
	return a->tokens == b->tokens && a->finish == b->finish && strcmp(a->content, b->content) == 0 &&
	       strcmp(a->logprobs, b->logprobs) == 0;
}

static void outcome_free(struct outcome *outcome)
{
	free(outcome->content);
	free(outcome->logprobs);
}

static void every_parameter_changes_the_answer(void **state)
{
	(void)state;
	static const struct {
		const char *without, *with;
	} rows[] = {
	    {GREEDY, DRAWN}, /* temperature */
	    {DRAWN, DRAWN ",\"top_p\":0.01"},
	    {DRAWN, DRAWN ",\"top_k\":1"},
	    {DRAWN, DRAWN ",\"min_p\":1"},
	    {DRAWN, DRAWN ",\"typical_p\":0.01"},
	    {DRAWN, "\"temperature\":1.5,\"seed\":6,\"max_tokens\":16"},
	    {"\"temperature\":0,\"max_tokens\":24,\"logit_bias\":{\"28\":20}",
	     "\"temperature\":0,\"max_tokens\":24,\"logit_bias\":{\"28\":20},\"frequency_penalty\":2"},
	    {TORN, TORN ",\"presence_penalty\":2"},
	    {GREEDY, GREEDY ",\"repetition_penalty\":10"},
	    {GREEDY, FORCED}, /* logit_bias */
	    {GREEDY, GREEDY ",\"logprobs\":true"},
	    {GREEDY ",\"logprobs\":true", GREEDY ",\"logprobs\":true,\"top_logprobs\":2"},
	    {GREEDY, GREEDY ",\"stop\":\"e\""},
	    {GREEDY, GREEDY ",\"stop\":[\"zebra\",\"e\"]"},
	    {FORCED, FORCED ",\"stop_token_ids\":[28]"},
	    {ENDED, ENDED ",\"ignore_eos\":true"},
	    {ENDED, ENDED ",\"min_tokens\":4"},
	    {GREEDY, "\"temperature\":0,\"max_tokens\":3"},
	    {GREEDY, "\"temperature\":0,\"max_completion_tokens\":3"},
	    {GREEDY, GREEDY ",\"n\":2"},
	};
	struct outcome without = {0};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (i == 0 || strcmp(rows[i].without, rows[i - 1].without) != 0) {
			outcome_free(&without);
			without = outcome_of(rows[i].without);
		}
		struct outcome with = outcome_of(rows[i].with);
		if (same(&without, &with))
			fail_msg("%s changes nothing of %s", rows[i].with, rows[i].without);
		outcome_free(&with);
	}
	outcome_free(&without);
}

static void what_is_out_of_range_is_refused_by_name(void **state)
{
	(void)state;
	static const struct {
		const char *name, *value;
	} rows[] = {
	    {"temperature", "2.1"},
	    {"temperature", "\"hot\""},
	    {"top_p", "1.1"},
	    {"top_k", "-2"},
	    {"min_p", "-0.1"},
	    {"typical_p", "2"},
	    {"seed", "\"x\""},
	    {"frequency_penalty", "2.1"},
	    {"presence_penalty", "-2.1"},
	    {"repetition_penalty", "0"},
	    {"logit_bias", "{\"x\":1}"},
	    {"logit_bias", "{\"5\":101}"},
	    {"logprobs", "1.5"},
	    {"top_logprobs", "21"},
	    {"stop", "[1]"},
	    {"stop_token_ids", "[-1]"},
	    {"ignore_eos", "1"},
	    {"max_tokens", "0"},
	    {"min_tokens", "-1"},
	    {"n", "9"},
	    /* samplers of other programs, which would be ignored */
	    {"mirostat", "2"},
	    {"dry_multiplier", "0.8"},
	    {"xtc_probability", "0.5"},
	    {"repeat_penalty", "1.1"},
	    {"use_beam_search", "true"},
	    {"grammar", "\"root ::= [a]\""},
	    {"guided_json", "{}"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct arena *arena = arena_new(0);
		struct chat_request request;
		struct api_error error = {0};
		char members[160];
		snprintf(members, sizeof members, "\"%s\":%s", rows[i].name, rows[i].value);
		if (parse(members, arena, &request, &error))
			fail_msg("%s is taken", members);
		assert_int_equal(error.status, 400);
		assert_non_null(error.param);
		assert_string_equal(error.param, rows[i].name);
		assert_non_null(strstr(error.message, rows[i].name));
		arena_free(arena);
	}
}

static void switched_off_is_no_wish(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	struct chat_request request;
	struct api_error error = {0};
	assert_true(parse("\"mirostat\":0,\"use_beam_search\":false,\"grammar\":null,\"repeat_penalty\":1,\"guided_json\":null",
	                  arena, &request, &error));
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_parameter_changes_the_answer),
	    cmocka_unit_test(what_is_out_of_range_is_refused_by_name),
	    cmocka_unit_test(switched_off_is_no_wish),
	};
	return cmocka_run_group_tests(tests, start_shared, stop_shared);
}
