/* Every message with every optional field, through one table: what is written as in the table must come back from decode and
 * encode as it was, with any of its optional members left out; null must count as absent, unknown members as nothing, and the
 * wrong type of any member must refuse the whole message and name the member. */
#include "wire_support.h"

#define MAX_MEMBERS 20

/* One JSON object inside a message: `before`, then members, then `after`. */
struct shape {
	const char *before, *after;
	unsigned required;                /* of the first members: written always */
	unsigned insisted;                /* of these the first ones: a message without them is refused */
	const char *members[MAX_MEMBERS]; /* "key":value, in the order in which they are encoded */
};

#define HARDWARE                                                                                                               \
	"\"hardware\":{\"machine_model\":\"Mac16,6\",\"chip_name\":\"Apple M4 Max\",\"chip_family\":\"M4\",\"chip_tier\":\"Max\"," \
	"\"memory_gb\":64,\"memory_available_gb\":41.5,\"cpu_cores\":{\"total\":16,\"performance\":12,\"efficiency\":4},"          \
	"\"gpu_cores\":40,\"memory_bandwidth_gbs\":546.5}"
#define PRIVACY                                                                                                                \
	"\"privacy_capabilities\":{\"text_backend_inprocess\":true,\"text_proxy_disabled\":true,\"python_runtime_locked\":false,"  \
	"\"dangerous_modules_blocked\":false,\"sip_enabled\":true,\"anti_debug_enabled\":true,\"core_dumps_disabled\":true,"       \
	"\"env_scrubbed\":true,\"hypervisor_active\":false}"
#define STATS   "\"stats\":{\"requests_served\":3,\"tokens_generated\":900}"
#define METRICS "\"system_metrics\":{\"memory_pressure\":0.4,\"cpu_usage\":0.1,\"thermal_state\":\"nominal\"}"
#define PAYLOAD "{\"ephemeral_public_key\":\"a/+=\",\"ciphertext\":\"b/+=\"}"

static const struct shape shapes[] = {
    {"{\"type\":\"register\",",
     "}",
     3,
     0,
     {HARDWARE, "\"models\":[{\"id\":\"a/b\",\"size_bytes\":1}]", "\"backend\":\"mlx-swift\"", "\"version\":\"0.6.17\"",
      "\"public_key\":\"a/+=\"", "\"encrypted_response_chunks\":true",
      "\"attestation\":{ \"attestation\" : {\"a\\/b\":1}, \"signature\":\"x\" }", "\"prefill_tps\":1200.5",
      "\"decode_tps\":80.5", "\"auth_token\":\"t\"", "\"private_only\":true", "\"apns_device_token\":\"0f\"",
      "\"apns_environment\":\"production\"", "\"python_hash\":\"aa\"", "\"runtime_hash\":\"bb\"",
      "\"template_hashes\":{\"z\":\"1\",\"a\":\"2\"}", PRIVACY, "\"flow_credit\":true"}},
    {"{\"type\":\"register\",\"hardware\":{",
     "},\"models\":[],\"backend\":\"b\"}",
     9,
     0,
     {"\"machine_model\":\"Mac16,6\"", "\"chip_name\":\"Größe\"", "\"chip_family\":\"M4\"", "\"chip_tier\":\"Max\"",
      "\"memory_gb\":64", "\"memory_available_gb\":41.5", "\"cpu_cores\":{\"total\":16,\"performance\":12,\"efficiency\":4}",
      "\"gpu_cores\":40", "\"memory_bandwidth_gbs\":546.5"}},
    {"{\"type\":\"register\"," HARDWARE ",\"models\":[],\"backend\":\"b\",\"privacy_capabilities\":{",
     "}}",
     9,
     0,
     {"\"text_backend_inprocess\":true", "\"text_proxy_disabled\":true", "\"python_runtime_locked\":true",
      "\"dangerous_modules_blocked\":true", "\"sip_enabled\":true", "\"anti_debug_enabled\":true",
      "\"core_dumps_disabled\":true", "\"env_scrubbed\":true", "\"hypervisor_active\":true"}},
    {"{\"type\":\"models_update\",\"models\":[{",
     "},{\"id\":\"second\",\"size_bytes\":0}]}",
     2,
     0,
     {"\"id\":\"a/b\"", "\"size_bytes\":2147483648000", "\"model_type\":\"llama\"", "\"quantization\":\"4bit\"",
      "\"weight_hash\":\"5a\"", "\"is_vision\":true", "\"template_render_ok\":false",
      "\"template_fault\":\"jinja_null_bridge\""}},
    {"{\"type\":\"models_update\",\"models\":[{",
     "}]}",
     2,
     0,
     {"\"id\":\"a\"", "\"size_bytes\":1", "\"template_render_ok\":true"}},
    {"{\"type\":\"heartbeat\",",
     "," STATS "," METRICS "}",
     1,
     0,
     {"\"status\":\"serving\"", "\"active_model\":\"a/b\"", "\"warm_models\":[\"a/b\",\"c\"]"}},
    {"{\"type\":\"heartbeat\",\"status\":\"idle\"," STATS ",\"system_metrics\":{",
     "}}",
     3,
     0,
     {"\"memory_pressure\":0.4", "\"cpu_usage\":0.1", "\"thermal_state\":\"serious\""}},
    {"{\"type\":\"heartbeat\",\"status\":\"idle\",",
     "}",
     2,
     0,
     {STATS, METRICS,
      "\"backend_capacity\":{\"slots\":[],\"gpu_memory_active_gb\":2.5,\"gpu_memory_peak_gb\":3.5,\"gpu_memory_cache_gb\":0.2,"
      "\"total_memory_gb\":64.5}",
      "\"apns_device_token\":\"0f\"", "\"apns_environment\":\"development\"", "\"draining\":true",
      "\"loading\":[{\"model\":\"m\",\"progress\":0.5}]"}},
    {"{\"type\":\"heartbeat\",\"status\":\"\",\"stats\":{",
     "}," METRICS "}",
     2,
     0,
     {"\"requests_served\":9007199254740993", "\"tokens_generated\":1", "\"cancellations_received\":2",
      "\"cancellations_before_output\":3", "\"cancellations_partial_complete\":4", "\"generation_errors_after_output\":5",
      "\"chunk_encryption_errors\":6", "\"stream_closed_without_terminal\":7", "\"cancel_during_model_load\":8",
      "\"usage_gaps\":9"}},
    {"{\"type\":\"heartbeat\",\"status\":\"idle\"," STATS "," METRICS ",\"backend_capacity\":{",
     "}}",
     5,
     0,
     {"\"slots\":[{\"model\":\"m\",\"state\":\"idle\",\"num_running\":0,\"num_waiting\":0,\"active_tokens\":0,"
      "\"max_tokens_potential\":0}]",
      "\"gpu_memory_active_gb\":2.5", "\"gpu_memory_peak_gb\":3.5", "\"gpu_memory_cache_gb\":0.2", "\"total_memory_gb\":64.5",
      "\"free_for_load_gb\":38.5"}},
    {"{\"type\":\"heartbeat\",\"status\":\"idle\"," STATS "," METRICS ",\"backend_capacity\":{\"slots\":[{",
     "}],\"gpu_memory_active_gb\":0.5,\"gpu_memory_peak_gb\":0.5,\"gpu_memory_cache_gb\":0.5,\"total_memory_gb\":0.5}}",
     6,
     0,
     {"\"model\":\"a/b\"", "\"state\":\"running\"", "\"num_running\":1", "\"num_waiting\":2", "\"active_tokens\":210",
      "\"max_tokens_potential\":512", "\"max_concurrency\":8", "\"observed_decode_tps\":33.5", "\"observed_prefill_tps\":900.5",
      "\"active_token_budget_used\":1000", "\"active_token_budget_max\":9000000000", "\"queued_token_budget\":5",
      "\"kv_bytes_per_token\":98304", "\"model_load_time_ms\":2500", "\"prefixes\":\"00000000000000ff\""}},
    {"{\"type\":\"inference_accepted\",", "}", 1, 0, {"\"request_id\":\"3f0e\"", "\"loading\":true", "\"queue_position\":3"}},
    {"{\"type\":\"inference_response_chunk\",",
     "}",
     1,
     0,
     {"\"request_id\":\"3f0e\"", "\"data\":\"plain \\\"text\\\"\\n\"", "\"encrypted_data\":" PAYLOAD}},
    {"{\"type\":\"inference_response_chunk\",\"request_id\":\"r\",\"encrypted_data\":{",
     "}}",
     2,
     0,
     {"\"ephemeral_public_key\":\"a\"", "\"ciphertext\":\"b\""}},
    {"{\"type\":\"inference_complete\",",
     "}",
     2,
     0,
     {"\"request_id\":\"3f0e\"", "\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":48,\"reasoning_tokens\":5}",
      "\"se_signature\":\"s\"", "\"response_hash\":\"h\""}},
    {"{\"type\":\"inference_complete\",\"request_id\":\"r\",\"usage\":{",
     "}}",
     3,
     0,
     {"\"prompt_tokens\":12", "\"completion_tokens\":48", "\"reasoning_tokens\":5"}},
    {"{\"type\":\"inference_error\",",
     "}",
     3,
     0,
     {"\"request_id\":\"3f0e\"", "\"error\":\"request cancelled\"", "\"status_code\":499", "\"error_reason\":\"model_load\""}},
    {"{\"type\":\"attestation_response\",",
     ",\"public_key\":\"k\"}",
     2,
     0,
     {"\"nonce\":\"n\"", "\"signature\":\"s\"", "\"status_signature\":\"t\""}},
    {"{\"type\":\"attestation_response\",\"nonce\":\"n\",\"signature\":\"s\",",
     "}",
     1,
     0,
     {"\"public_key\":\"k\"", "\"hypervisor_active\":false", "\"rdma_disabled\":false", "\"sip_enabled\":false",
      "\"secure_boot_enabled\":false", "\"binary_hash\":\"b\"", "\"active_model_hash\":\"a\"", "\"python_hash\":\"p\"",
      "\"runtime_hash\":\"r\"", "\"template_hashes\":{\"z\":\"1\",\"a\":\"2\"}", "\"model_hashes\":{\"m\":\"1\"}"}},
    {"{\"type\":\"attestation_response\",\"nonce\":\"n\",\"signature\":\"s\",\"public_key\":\"k\",",
     "}",
     1,
     0,
     {"\"hypervisor_active\":true", "\"rdma_disabled\":true", "\"sip_enabled\":true", "\"secure_boot_enabled\":true"}},
    {"{\"type\":\"code_attestation_response\",", "}", 2, 0, {"\"nonce\":\"n\"", "\"signature\":\"s\""}},
    {"{\"type\":\"load_model_status\",",
     "}",
     2,
     0,
     {"\"model_id\":\"a/b\"", "\"status\":\"failed\"", "\"error\":\"no such model\""}},
    {"{\"type\":\"prefetch_model_status\",",
     "}",
     2,
     0,
     {"\"model_id\":\"a/b\"", "\"status\":\"downloading\"", "\"bytes_done\":5000000000", "\"bytes_total\":9000000000",
      "\"error\":\"disk full\""}},
    {"{\"type\":\"inference_request\",",
     "}",
     1,
     1,
     {"\"request_id\":\"3f0e\"", "\"credit\":64", "\"estimated_prompt_tokens\":1200", "\"resume_notes\":true",
      "\"queue_notes\":true", "\"encrypted_body\":" PAYLOAD}},
    {"{\"type\":\"inference_request\",\"request_id\":\"r\",\"encrypted_body\":{",
     "}}",
     2,
     0,
     {"\"ephemeral_public_key\":\"a\"", "\"ciphertext\":\"b\""}},
    {"{\"type\":\"cancel\",", "}", 1, 1, {"\"request_id\":\"3f0e\""}},
    {"{\"type\":\"credit\",", "}", 2, 2, {"\"request_id\":\"3f0e\"", "\"chunks\":32"}},
    {"{\"type\":\"attestation_challenge\",", "}", 2, 2, {"\"nonce\":\"n\"", "\"timestamp\":\"2026-01-02T03:04:06Z\""}},
    {"{\"type\":\"trust_status\",",
     "}",
     2,
     2,
     {"\"trust_level\":\"hardware\"", "\"status\":\"online\"", "\"reason\":\"free text\""}},
    {"{\"type\":\"runtime_status\",",
     "}",
     2,
     1,
     {"\"verified\":true", "\"mismatches\":[{\"component\":\"c\",\"expected\":\"e\",\"got\":\"g\"}]"}},
    {"{\"type\":\"runtime_status\",\"verified\":false,\"mismatches\":[{",
     "}]}",
     3,
     0,
     {"\"component\":\"template:mlx_metallib\"", "\"expected\":\"5a\"", "\"got\":\"(missing)\""}},
    {"{\"type\":\"load_model\",", "}", 1, 1, {"\"model_id\":\"a/b\""}},
    {"{\"type\":\"prefetch_model\",", "}", 1, 1, {"\"model_id\":\"a/b\"", "\"priority\":5"}},
    {"{\"type\":\"desired_models\",", "}", 1, 1, {"\"models\":[{\"model_name\":\"tiny\",\"desired_build\":\"a/b\"}]"}},
    {"{\"type\":\"desired_models\",", "}", 1, 1, {"\"models\":[]"}},
    {"{\"type\":\"desired_models\",\"models\":[{",
     "}]}",
     2,
     2,
     {"\"model_name\":\"tiny\"", "\"desired_build\":\"a/b\"", "\"previous_build\":\"a/c\""}},
};
#define SHAPES (sizeof shapes / sizeof *shapes)

static unsigned member_count(const struct shape *shape)
{
	unsigned count = 0;
	while (count < MAX_MEMBERS && shape->members[count])
		count++;
	return count;
}

/* The message with those members whose bit is set; `instead`, when given, stands for member `changed`. */
static struct str written(const struct shape *shape, unsigned mask, unsigned changed, const char *instead)
{
	struct buf text;
	bool comma = false;
	buf_init(&text, 1u << 16);
	buf_append_c(&text, shape->before);
	for (unsigned i = 0; shape->members[i]; i++) {
		if (!(mask >> i & 1))
			continue;
		if (comma)
			buf_append_byte(&text, ',');
		buf_append_c(&text, instead && i == changed ? instead : shape->members[i]);
		comma = true;
	}
	if (!comma && text.at[text.len - 1] == ',')
		text.len--;
	buf_append_c(&text, shape->after);
	struct str copy = arena_str(arena, buf_str(&text));
	buf_free(&text);
	return copy;
}

static enum db_err through(struct str text, struct str *again, struct error *error)
{
	struct wire_message message;
	enum db_err err = wire_decode(text, arena, &message, error);
	if (err)
		return err;
	buf_clear(&out);
	assert_int_equal(wire_encode(&message, &out), DB_OK);
	*again = arena_str(arena, buf_str(&out));
	return DB_OK;
}

static struct str passed_through(struct str text)
{
	struct error error;
	struct str again = STR_NONE;
	if (through(text, &again, &error))
		fail_msg("%.*s: %s", STR_ARG(text), error.text);
	return again;
}

static void expect_same(const struct shape *shape, unsigned mask)
{
	struct str text = written(shape, mask, 0, NULL);
	assert_str(passed_through(text), text);
	arena_reset(arena);
}

static void every_message_type_is_in_the_table(void **state)
{
	(void)state;
	for (unsigned type = 0; type < WIRE_TYPE_COUNT; type++) {
		const char *start = arena_printf(arena, "{\"type\":\"%s\",", wire_type_name((enum wire_type)type));
		bool found = false;
		for (size_t i = 0; i < SHAPES; i++)
			found = found || strncmp(shapes[i].before, start, strlen(start)) == 0;
		if (!found)
			fail_msg("no shape for %s", start);
	}
}

/* All subsets of the optional members, or many of them where there are too many. */
static void every_combination_of_optional_members_survives(void **state)
{
	(void)state;
	for (size_t i = 0; i < SHAPES; i++) {
		const struct shape *shape = &shapes[i];
		unsigned optional = member_count(shape) - shape->required;
		unsigned always = (1u << shape->required) - 1, all = (1u << member_count(shape)) - 1;
		if (optional <= 9) {
			for (unsigned subset = 0; subset < 1u << optional; subset++)
				expect_same(shape, always | subset << shape->required);
			continue;
		}
		uint32_t random = 12345;
		for (unsigned member = 0; member < optional; member++) {
			expect_same(shape, always | 1u << (shape->required + member));
			expect_same(shape, all & ~(1u << (shape->required + member)));
		}
		for (unsigned round = 0; round < 500; round++) {
			random = random * 1664525u + 1013904223u;
			expect_same(shape, always | (random >> 8 & all));
		}
	}
}

static const char *key_of(const char *member)
{
	const char *end = strchr(member + 1, '"');
	return arena_printf(arena, "%.*s", (int)(end - member - 1), member + 1);
}

static const char *const *wrong_values_for(const char *member)
{
	static const char *const text[] = {"1", "true", "{}", "[]", NULL};
	static const char *const integer[] = {"\"1\"", "1.0", "1.5", "1e2", "true", "[]", "9223372036854775808", NULL};
	static const char *const number[] = {"\"1.5\"", "true", "{}", NULL};
	static const char *const boolean[] = {"\"true\"", "1", "0", "[]", NULL};
	static const char *const object[] = {"\"x\"", "[]", "1", "true", NULL};
	static const char *const array[] = {"\"x\"", "{}", "1", "[1]", NULL};
	const char *value = strstr(member, "\":") + 2;
	switch (*value) {
	case '"':
		return text;
	case 't':
	case 'f':
		return boolean;
	case '{':
		return object;
	case '[':
		return array;
	default:
		return strchr(value, '.') ? number : integer;
	}
}

static void a_wrong_type_refuses_the_message_and_names_the_member(void **state)
{
	(void)state;
	for (size_t i = 0; i < SHAPES; i++) {
		const struct shape *shape = &shapes[i];
		unsigned all = (1u << member_count(shape)) - 1;
		for (unsigned member = 0; shape->members[member]; member++) {
			const char *key = key_of(shape->members[member]);
			if (strcmp(key, "attestation") == 0)
				continue; /* kept raw, whatever it is */
			for (const char *const *wrong = wrong_values_for(shape->members[member]); *wrong; wrong++) {
				struct error error = {0};
				struct str again, text = written(shape, all, member, arena_printf(arena, "\"%s\":%s", key, *wrong));
				if (through(text, &again, &error) != DB_E_INVALID)
					fail_msg("taken: %.*s", STR_ARG(text));
				if (!strstr(error.text, key))
					fail_msg("\"%s\" does not name %s", error.text, key);
			}
		}
		arena_reset(arena);
	}
}

static void null_counts_as_absent(void **state)
{
	(void)state;
	for (size_t i = 0; i < SHAPES; i++) {
		const struct shape *shape = &shapes[i];
		unsigned all = (1u << member_count(shape)) - 1;
		for (unsigned member = 0; shape->members[member]; member++) {
			const char *null = arena_printf(arena, "\"%s\":null", key_of(shape->members[member]));
			struct str with_null = STR_NONE, without = STR_NONE;
			struct error error;
			enum db_err err = through(written(shape, all, member, null), &with_null, &error);
			enum db_err absent = through(written(shape, all & ~(1u << member), 0, NULL), &without, &error);
			assert_int_equal(err, member < shape->insisted ? DB_E_INVALID : DB_OK);
			assert_int_equal(absent, err);
			if (!err)
				assert_str(with_null, without);
			else
				assert_non_null(strstr(error.text, "is missing"));
		}
		arena_reset(arena);
	}
}

static void unknown_members_are_ignored(void **state)
{
	(void)state;
	for (size_t i = 0; i < SHAPES; i++) {
		const struct shape *shape = &shapes[i];
		unsigned all = (1u << member_count(shape)) - 1;
		const char *more = arena_printf(arena, "\"Type\":1,\"x_future\":{\"type\":[null,1.5]},%s", shape->members[0]);
		assert_str(passed_through(written(shape, all, 0, more)), written(shape, all, 0, NULL));
		arena_reset(arena);
	}
}

static void the_last_of_duplicates_wins(void **state)
{
	(void)state;
	struct str text = STR("{\"type\":\"cancel\",\"request_id\":7,\"request_id\":\"last\"}");
	assert_str(passed_through(text), STR("{\"type\":\"cancel\",\"request_id\":\"last\"}"));
}

static void members_may_stand_in_any_order_and_spacing(void **state)
{
	(void)state;
	struct str text =
	    STR(" {\n\t\"usage\" : { \"completion_tokens\":2 , \"prompt_tokens\" : 1 },\r\n \"request_id\":\"r\",\"type\": "
	        "\"inference_complete\" } \n");
	assert_str(passed_through(text), STR("{\"type\":\"inference_complete\",\"request_id\":\"r\",\"usage\":{\"prompt_tokens\":1,"
	                                     "\"completion_tokens\":2,\"reasoning_tokens\":0}}"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIRE_TEST(every_message_type_is_in_the_table),
	    WIRE_TEST(every_combination_of_optional_members_survives),
	    WIRE_TEST(a_wrong_type_refuses_the_message_and_names_the_member),
	    WIRE_TEST(null_counts_as_absent),
	    WIRE_TEST(unknown_members_are_ignored),
	    WIRE_TEST(the_last_of_duplicates_wins),
	    WIRE_TEST(members_may_stand_in_any_order_and_spacing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
