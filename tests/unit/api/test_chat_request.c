/* Chat requests: what is refused with which parameter, what is estimated, and what a provider is sent. */
#include "api/chat_request.h"
#include "api/tool_schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct parsed {
	struct arena *arena;
	struct chat_request request;
	struct api_error error;
	bool ok;
};

static struct parsed parse(const char *body)
{
	struct parsed p = {.arena = arena_new(0)};
	p.ok = chat_request_parse(str_of(body), p.arena, &p.request, &p.error);
	return p;
}

#define MESSAGES "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

/* The body around extra members. */
static struct parsed parse_with(const char *members)
{
	char body[2048];
	snprintf(body, sizeof body, "{\"model\":\"m\"," MESSAGES "%s%s}", *members ? "," : "", members);
	struct parsed p = {.arena = arena_new(0)};
	char *kept = arena_cstr(p.arena, str_of(body));
	p.ok = chat_request_parse(str_of(kept), p.arena, &p.request, &p.error);
	return p;
}

static void refused_members_name_their_parameter(void **state)
{
	(void)state;
	static const struct {
		const char *members, *param;
	} cases[] = {
	    {"\"n\":9", "n"},
	    {"\"n\":0", "n"},
	    {"\"n\":\"1\"", "n"},
	    {"\"temperature\":2.1", "temperature"},
	    {"\"temperature\":-0.1", "temperature"},
	    {"\"temperature\":\"hot\"", "temperature"},
	    {"\"top_p\":1.5", "top_p"},
	    {"\"top_k\":-2", "top_k"},
	    {"\"top_k\":1.5", "top_k"},
	    {"\"min_p\":2", "min_p"},
	    {"\"typical_p\":-1", "typical_p"},
	    {"\"seed\":1.5", "seed"},
	    {"\"seed\":123456789012345678901234567890", "seed"},
	    {"\"frequency_penalty\":3", "frequency_penalty"},
	    {"\"presence_penalty\":-2.5", "presence_penalty"},
	    {"\"repetition_penalty\":0", "repetition_penalty"},
	    {"\"max_tokens\":0", "max_tokens"},
	    {"\"max_tokens\":-5", "max_tokens"},
	    {"\"max_tokens\":10.5", "max_tokens"},
	    {"\"max_completion_tokens\":\"many\"", "max_completion_tokens"},
	    {"\"min_tokens\":5,\"max_tokens\":4", "min_tokens"},
	    {"\"stop\":5", "stop"},
	    {"\"stop\":\"\"", "stop"},
	    {"\"stop\":[\"a\",1]", "stop"},
	    {"\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\",\"e\",\"f\",\"g\",\"h\"]",
	     "stop"},
	    {"\"stop_token_ids\":2", "stop_token_ids"},
	    {"\"stop_token_ids\":[\"2\"]", "stop_token_ids"},
	    {"\"stop_token_ids\":[-1]", "stop_token_ids"},
	    {"\"stop_token_ids\":[2147483648]", "stop_token_ids"},
	    {"\"stop_token_ids\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,32,33]",
	     "stop_token_ids"},
	    {"\"stream\":\"true\"", "stream"},
	    {"\"stream_options\":true", "stream_options"},
	    {"\"stream_options\":{\"include_usage\":1}", "stream_options"},
	    {"\"logprobs\":5", "logprobs"},
	    {"\"top_logprobs\":21,\"logprobs\":true", "top_logprobs"},
	    {"\"top_logprobs\":2", "top_logprobs"},
	    {"\"logit_bias\":{\"x\":1}", "logit_bias"},
	    {"\"logit_bias\":{\"1\":101}", "logit_bias"},
	    {"\"logit_bias\":[1]", "logit_bias"},
	    {"\"tools\":{}", "tools"},
	    {"\"tools\":[{\"type\":\"function\"}]", "tools"},
	    {"\"tools\":[{\"type\":\"code\",\"function\":{\"name\":\"f\"}}]", "tools"},
	    {"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":[]}}]", "tools"},
	    {"\"tool_choice\":\"required\"", "tool_choice"},
	    {"\"tool_choice\":\"sometimes\"", "tool_choice"},
	    {"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
	     "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"g\"}}",
	     "tool_choice"},
	    {"\"response_format\":{\"type\":\"xml\"}", "response_format"},
	    {"\"response_format\":{\"type\":\"json_schema\"}", "response_format"},
	    {"\"prompt_cache_key\":5", "prompt_cache_key"},
	    {"\"user\":5", "user"},
	    {"\"modalities\":[\"text\",\"audio\"]", "modalities"},
	    {"\"functions\":[]", "functions"},
	    {"\"provider_serial\":5", "provider_serial"},
	    {"\"provider_serials\":[\" \"]", "provider_serials"},
	    {"\"provider_region\":5", "provider_region"},
	    {"\"provider_region\":\"Germany\"", "provider_region"},
	    {"\"provider_regions\":[]", "provider_regions"},
	    {"\"provider_regions\":[\"DE\",{}]", "provider_regions"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct parsed p = parse_with(cases[i].members);
		if (p.ok)
			print_error("accepted: %s\n", cases[i].members);
		assert_false(p.ok);
		assert_int_equal(p.error.status, 400);
		assert_string_equal(p.error.type, "invalid_request_error");
		assert_string_equal(p.error.param, cases[i].param);
		assert_true(p.error.message[0] != '\0');
		arena_free(p.arena);
	}
}

static void regions_are_read_once_each_and_narrowed_by_others(void **state)
{
	(void)state;
	struct chat_places header;
	struct parsed p = parse_with("\"provider_region\":\" us \",\"provider_regions\":[\"DE-BY\",\"US\",\"FR\"]");
	assert_true(p.ok);
	struct chat_places *places = &p.request.places;
	assert_int_equal(places->region_count, 3);
	assert_true(str_is(places->regions[0], "US") && str_is(places->regions[1], "DE-BY"));
	assert_true(chat_places_regions(STR(" "), p.arena, "header", &header, &p.error) && !header.regions);
	assert_true(chat_places_narrow(places, &header, p.arena, &p.error));
	assert_int_equal(places->region_count, 3);
	assert_true(chat_places_regions(STR("us-ca, DE,,us-ny"), p.arena, "header", &header, &p.error));
	assert_true(chat_places_narrow(places, &header, p.arena, &p.error));
	assert_int_equal(places->region_count, 3);
	assert_true(str_is(places->regions[0], "US-CA") && str_is(places->regions[1], "US-NY") &&
	            str_is(places->regions[2], "DE-BY"));
	assert_true(chat_places_regions(STR("FR"), p.arena, "header", &header, &p.error));
	assert_false(chat_places_narrow(places, &header, p.arena, &p.error));
	assert_int_equal(p.error.status, 400);
	assert_false(chat_places_regions(STR(","), p.arena, "header", &header, &p.error));
	assert_string_equal(p.error.param, "header");
	arena_free(p.arena);
}

static void broken_bodies_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *body, *param;
	} cases[] = {
	    {"", NULL},
	    {"{", NULL},
	    {"[]", NULL},
	    {"\"x\"", NULL},
	    {"{\"messages\":[]}", "model"},
	    {"{\"model\":\"\"," MESSAGES "}", "model"},
	    {"{\"model\":7," MESSAGES "}", "model"},
	    {"{\"model\":\"m\"}", "messages"},
	    {"{\"model\":\"m\",\"messages\":[]}", "messages"},
	    {"{\"model\":\"m\",\"messages\":{}}", "messages"},
	    {"{\"model\":\"m\",\"messages\":[1]}", "messages"},
	    {"{\"model\":\"m\",\"messages\":[{\"content\":\"x\"}]}", "messages"},
	    {"{\"model\":\"m\",\"messages\":[{\"role\":\"robot\",\"content\":\"x\"}]}", "messages"},
	    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\"}]}", "messages"},
	    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":5}]}", "messages"},
	    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}]}", "messages"},
	    {"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}]}", "messages"},
	    {"{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{}]}]}", "messages"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct parsed p = parse(cases[i].body);
		assert_false(p.ok);
		assert_int_equal(p.error.status, 400);
		if (cases[i].param)
			assert_string_equal(p.error.param, cases[i].param);
		else
			assert_null(p.error.param);
		arena_free(p.arena);
	}
}

static void errors_do_not_repeat_the_text_of_the_request(void **state)
{
	(void)state;
	struct parsed p = parse("{\"model\":\"m\",\"messages\":[{\"role\":\"CANARY\",\"content\":\"CANARY\"}]}");
	assert_false(p.ok);
	assert_null(strstr(p.error.message, "CANARY"));
	arena_free(p.arena);
}

static void sampling_is_read(void **state)
{
	(void)state;
	struct parsed p = parse_with("\"temperature\":0,\"top_p\":0.5,\"top_k\":-1,\"seed\":-1,\"stop\":[\"a\",\"b\"],"
	                             "\"logit_bias\":{\"7\":-100},\"logprobs\":true,\"top_logprobs\":3,\"max_tokens\":null,"
	                             "\"max_completion_tokens\":12,\"max_output_tokens\":13,\"stream\":true,"
	                             "\"stream_options\":{\"include_usage\":true},\"user\":\"u\",\"prompt_cache_key\":\"k\","
	                             "\"provider_serial\":\" A \",\"provider_serials\":[\"B\",\"A\"]");
	assert_true(p.ok);
	const struct chat_sampling *s = &p.request.sampling;
	assert_true(s->has_temperature && s->temperature == 0 && s->has_top_p && s->top_p == 0.5);
	assert_true(s->has_top_k);
	assert_int_equal(s->top_k, 0);
	assert_true(s->has_seed && s->seed == UINT64_MAX);
	assert_int_equal(s->stop_count, 2);
	assert_int_equal(s->bias_count, 1);
	assert_int_equal(s->biases[0].token, 7);
	assert_int_equal(s->top_logprobs, 3);
	assert_false(s->has_min_p);
	assert_int_equal(p.request.max_tokens, 12);
	assert_true(p.request.stream && p.request.include_usage);
	assert_true(str_is(p.request.cache_scope, "k"));
	assert_int_equal(p.request.places.serial_count, 2);
	assert_true(str_is(p.request.places.serials[0], "A") && str_is(p.request.places.serials[1], "B"));
	arena_free(p.arena);
}

static void prompt_tokens_are_estimated_and_bounded(void **state)
{
	(void)state;
	struct parsed p =
	    parse("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"user\",\"content\":["
	          "{\"type\":\"text\",\"text\":\"12345678\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}}]}]}");
	assert_true(p.ok);
	assert_int_equal(p.request.prompt_estimate_tokens, 4 + 1 + 4 + 2 + 300);
	assert_true(p.request.has_media);
	assert_int_equal(p.request.prompt_bound_tokens,
	                 strlen("[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"user\",\"content\":["
	                        "{\"type\":\"text\",\"text\":\"12345678\"},{\"type\":\"image_url\","
	                        "\"image_url\":{\"url\":\"u\"}}]}]"));
	arena_free(p.arena);
}

static void assert_forwards(const char *body, const char *expected)
{
	struct parsed p = parse(body);
	struct buf out;
	buf_init(&out, 1 << 20);
	assert_true(p.ok);
	assert_int_equal(chat_request_forward(&p.request, STR("org/build"), 99, &out), DB_OK);
	buf_append_byte(&out, '\0');
	assert_string_equal(out.at, expected);
	buf_free(&out);
	arena_free(p.arena);
}

static void forwarding_changes_only_what_it_must(void **state)
{
	(void)state;
	assert_forwards("{\"model\":\"m\"," MESSAGES "}", "{\"model\":\"org/build\"," MESSAGES ",\"max_tokens\":99}");
	/* odd spacing, escapes, exact digits, unknown fields and their order survive */
	assert_forwards("  { \"x\" : 1.10e3 , \"model\":\"m\" ,\t\"big\":123456789012345678901234567890,\n" MESSAGES
	                " , \"max_tokens\" : 5 , \"provider_serial\":\"A\", \"u\":\"\\u00e9<>&\\/\" } ",
	                "{\"x\" : 1.10e3,\"model\":\"org/build\",\"big\":123456789012345678901234567890,\n" MESSAGES
	                ",\"max_tokens\":99,\"u\":\"\\u00e9<>&\\/\"}");
	/* nothing hides behind an escaped or doubled key */
	assert_forwards("{\"mod\\u0065l\":\"m\",\"provider_seri\\u0061ls\":\"A\"," MESSAGES ",\"model\":\"m2\",\"max_tokens\":1}",
	                "{\"model\":\"org/build\"," MESSAGES ",\"max_tokens\":99}");
	assert_forwards("{" MESSAGES ",\"provider_serials\":[\"A\"],\"model\":\"m\"}",
	                "{" MESSAGES ",\"model\":\"org/build\",\"max_tokens\":99}");
}

/* A member that forwarding does not know must read back equal: forwarded bodies are generated at random. */
static void forwarded_bodies_mean_the_same(void **state)
{
	(void)state;
	static const char *const extra[] = {"\"a\":[1,2,{\"b\":null}]",
	                                    "\"seed\":9007199254740993",
	                                    "\"stop\":\"x\"",
	                                    "\"temperature\":0.30000000000000004",
	                                    "\"provider_serial\":\"S\"",
	                                    "\"max_tokens\":7",
	                                    "\"q\":\"\\\"\\\\\"",
	                                    "\"metadata\":{\"k\":\"}],{\"}",
	                                    "\"e\":{}",
	                                    "\"f\":[]"};
	uint32_t seed = 1;
	for (int round = 0; round < 500; round++) {
		char body[2048], *at = body;
		at += snprintf(at, 256, "{\"model\":\"m\"," MESSAGES);
		for (int i = 0; i < 6; i++) {
			seed = seed * 1664525u + 1013904223u;
			at += snprintf(at, 128, ",%s", extra[(seed >> 16) % 10]);
		}
		snprintf(at, 2, "}");
		struct parsed p = parse(body);
		struct buf out;
		buf_init(&out, 1 << 20);
		assert_true(p.ok);
		assert_int_equal(chat_request_forward(&p.request, STR("b"), 33, &out), DB_OK);
		struct chat_request again;
		assert_true(chat_request_parse(buf_str(&out), p.arena, &again, &p.error));
		assert_true(str_is(again.model, "b"));
		assert_int_equal(again.max_tokens, 33);
		assert_int_equal(again.places.serial_count, 0);
		assert_int_equal(again.prompt_estimate_tokens, p.request.prompt_estimate_tokens);
		assert_int_equal(again.sampling.has_seed, p.request.sampling.has_seed);
		assert_true(again.sampling.seed == p.request.sampling.seed);
		assert_true(again.sampling.temperature == p.request.sampling.temperature);
		assert_int_equal(again.sampling.stop_count, p.request.sampling.stop_count);
		struct buf twice;
		buf_init(&twice, 1 << 20);
		assert_int_equal(chat_request_forward(&again, STR("b"), 33, &twice), DB_OK);
		assert_true(str_eq(buf_str(&out), buf_str(&twice)));
		buf_free(&twice);
		buf_free(&out);
		arena_free(p.arena);
	}
}

#define TOOLS(parameters) "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":" parameters "}}]"

static void assert_normalises(const char *parameters, const char *expected)
{
	char body[2048], want[2048];
	snprintf(body, sizeof body, "{\"model\":\"m\"," MESSAGES "," TOOLS("%s") "}", parameters);
	snprintf(want, sizeof want, "{\"model\":\"org/build\"," MESSAGES "," TOOLS("%s") ",\"max_tokens\":99}", expected);
	assert_forwards(body, want);
}

static void tool_schemas_get_one_type(void **state)
{
	(void)state;
	assert_normalises("{\"type\":[\"string\",\"null\"]}", "{\"type\":\"string\",\"nullable\":true}");
	assert_normalises("{\"type\":[\"null\"]}", "{\"type\":\"null\"}");
	assert_normalises("{\"type\":[\"null\",\"integer\"],\"nullable\":false}", "{\"type\":\"integer\",\"nullable\":false}");
	assert_normalises("{\"properties\":{\"a\":{\"description\":\"d\"},\"b\":{\"enum\":[1.50]}}}",
	                  "{\"properties\":{\"a\":{\"description\":\"d\",\"type\":\"string\"},"
	                  "\"b\":{\"enum\":[1.5],\"type\":\"string\"}},\"type\":\"object\"}");
	assert_normalises(
	    "{\"items\":{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"number\"}]}}",
	    "{\"items\":{\"anyOf\":[{\"type\":\"null\"},{\"type\":\"number\"}],\"type\":\"number\"},\"type\":\"array\"}");
	/* what needs nothing travels byte for byte, spaces and digits included */
	assert_normalises("{ \"type\" : \"object\", \"x\": 1.50, \"properties\": {\"a\": {\"type\":\"string\"}} }",
	                  "{ \"type\" : \"object\", \"x\": 1.50, \"properties\": {\"a\": {\"type\":\"string\"}} }");
}

static bool changes_at_depth(int depth)
{
	struct buf tools;
	buf_init(&tools, 1 << 20);
	buf_append_str(&tools, STR("[{\"function\":{\"parameters\":"));
	for (int i = 0; i < depth; i++)
		buf_append_str(&tools, STR("{\"type\":\"array\",\"items\":"));
	buf_append_str(&tools, STR("{\"type\":[\"string\",\"null\"]}"));
	for (int i = 0; i < depth; i++)
		buf_append_byte(&tools, '}');
	buf_append_str(&tools, STR("}}]"));
	struct json_doc *doc = json_parse(buf_str(&tools), NULL, NULL);
	assert_non_null(doc);
	bool changes = tool_schema_needs_change(json_root(doc));
	json_free(doc);
	buf_free(&tools);
	return changes;
}

static void schemas_below_the_depth_limit_are_left_alone(void **state)
{
	(void)state;
	assert_true(changes_at_depth(TOOL_SCHEMA_MAX_DEPTH - 1));
	assert_false(changes_at_depth(TOOL_SCHEMA_MAX_DEPTH));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(refused_members_name_their_parameter),
	    cmocka_unit_test(regions_are_read_once_each_and_narrowed_by_others),
	    cmocka_unit_test(broken_bodies_are_refused),
	    cmocka_unit_test(errors_do_not_repeat_the_text_of_the_request),
	    cmocka_unit_test(sampling_is_read),
	    cmocka_unit_test(prompt_tokens_are_estimated_and_bounded),
	    cmocka_unit_test(forwarding_changes_only_what_it_must),
	    cmocka_unit_test(forwarded_bodies_mean_the_same),
	    cmocka_unit_test(tool_schemas_get_one_type),
	    cmocka_unit_test(schemas_below_the_depth_limit_are_left_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
