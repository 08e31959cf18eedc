/* The single rules of decoding: clamps, words outside a closed set, limits, sentences; and the messages of the two existing
 * provider generations as they stand on the wire. */
#include "wire_support.h"

#include "wire/attestation.h"
#include "wire/payload.h"
#include "wire/status.h"

static struct wire_message decoded(const char *text)
{
	struct wire_message message;
	struct error error;
	if (wire_decode(str_of(text), arena, &message, &error))
		fail_msg("%s: %s", text, error.text);
	return message;
}

static void expect_refused(struct str text, enum db_err err, const char *sentence)
{
	struct wire_message message;
	struct error error = {0};
	assert_int_equal(wire_decode(text, arena, &message, &error), err);
	assert_int_equal(wire_decode(text, arena, &message, NULL), err);
	if (!strstr(error.text, sentence))
		fail_msg("\"%s\" does not say \"%s\"", error.text, sentence);
}

static void what_is_no_message_is_refused(void **state)
{
	(void)state;
	expect_refused(STR(""), DB_E_INVALID, "");
	expect_refused(STR("{"), DB_E_INVALID, "");
	expect_refused(STR("null"), DB_E_INVALID, "object");
	expect_refused(STR("[{\"type\":\"cancel\"}]"), DB_E_INVALID, "object");
	expect_refused(STR("\"register\""), DB_E_INVALID, "object");
	expect_refused(STR("{}"), DB_E_INVALID, "type");
	expect_refused(STR("{\"type\":null}"), DB_E_INVALID, "type");
	expect_refused(STR("{\"type\":7}"), DB_E_INVALID, "type");
	expect_refused(STR("{\"type\":\"Register\"}"), DB_E_INVALID, "Register");
	expect_refused(STR("{\"type\":\"\"}"), DB_E_INVALID, "unknown");
	expect_refused(STR("{\"type\":\"cancel\",\"request_id\":\"r\"} x"), DB_E_INVALID, "");
	expect_refused(STR("{\"type\":\"cancel\",\"request_id\":\"\xff\"}"), DB_E_INVALID, "");
	expect_refused(STR("{\"type\":\"goodbye_and_a_very_long_name_that_goes_on_and_on_and_on\"}"), DB_E_INVALID, "goodbye_and");
}

static void directions_are_known(void **state)
{
	(void)state;
	assert_true(wire_type_to_coordinator(WIRE_REGISTER));
	assert_true(wire_type_to_coordinator(WIRE_MODELS_UPDATE));
	assert_false(wire_type_to_coordinator(WIRE_REQUEST));
	assert_false(wire_type_to_coordinator(WIRE_DESIRED_MODELS));
	assert_string_equal(wire_type_name(WIRE_CHUNK), "inference_response_chunk");
}

static void a_provider_may_leave_everything_out(void **state)
{
	(void)state;
	for (unsigned type = 0; type < WIRE_TYPE_COUNT; type++) {
		if (!wire_type_to_coordinator((enum wire_type)type))
			continue;
		struct wire_message message = decoded(arena_printf(arena, "{\"type\":\"%s\"}", wire_type_name((enum wire_type)type)));
		assert_int_equal(message.type, type);
	}
	struct wire_message message = decoded("{\"type\":\"register\"}");
	assert_false(message.as.registration.has_privacy);
	assert_int_equal(message.as.registration.attestation.len, 0);
	message = decoded("{\"type\":\"heartbeat\"}");
	assert_false(message.as.heartbeat.has_capacity);
	assert_int_equal(message.as.heartbeat.status, WIRE_ACTIVITY_UNKNOWN);
}

static void hardware_is_clamped(void **state)
{
	(void)state;
	struct wire_message message =
	    decoded("{\"type\":\"register\",\"hardware\":{\"memory_gb\":5000,\"memory_available_gb\":-3,\"gpu_cores\":-1,"
	            "\"memory_bandwidth_gbs\":9999,\"cpu_cores\":{\"total\":-5}},\"prefill_tps\":6000,\"decode_tps\":501,"
	            "\"models\":[{\"id\":\"m\",\"size_bytes\":-1}]}");
	const struct wire_register *reg = &message.as.registration;
	assert_int_equal(reg->hardware.memory_gb, 1024);
	assert_true(reg->hardware.memory_available_gb == 0);
	assert_int_equal(reg->hardware.gpu_cores, 0);
	assert_int_equal(reg->hardware.cpu_total, 0);
	assert_true(reg->hardware.memory_bandwidth_gbs == 2000);
	assert_true(reg->prefill_tps == 5000 && reg->decode_tps == 500);
	assert_int_equal(reg->models.at[0].size_bytes, 0);
	message = decoded("{\"type\":\"register\",\"hardware\":{\"memory_gb\":-1},\"prefill_tps\":-1,\"decode_tps\":-0.5}");
	assert_int_equal(message.as.registration.hardware.memory_gb, 0);
	assert_true(message.as.registration.prefill_tps == 0 && message.as.registration.decode_tps == 0);
}

static void numbers_may_be_written_as_integers(void **state)
{
	(void)state;
	struct wire_message message =
	    decoded("{\"type\":\"register\",\"hardware\":{\"memory_available_gb\":9,\"memory_bandwidth_gbs\":100}}");
	assert_true(message.as.registration.hardware.memory_available_gb == 9);
	assert_true(message.as.registration.hardware.memory_bandwidth_gbs == 100);
}

static void a_slot_is_clamped(void **state)
{
	(void)state;
	struct wire_message message =
	    decoded("{\"type\":\"heartbeat\",\"system_metrics\":{\"memory_pressure\":1.5,\"cpu_usage\":-1},\"backend_capacity\":{"
	            "\"total_memory_gb\":1025,\"gpu_memory_active_gb\":-1,\"gpu_memory_peak_gb\":1e300,\"gpu_memory_cache_gb\":"
	            "1024,\"slots\":[{"
	            "\"num_running\":-2,\"active_tokens\":1000001,\"max_tokens_potential\":2000000,\"max_concurrency\":25,"
	            "\"observed_decode_tps\":501,\"observed_prefill_tps\":5001,\"active_token_budget_used\":10000000001,"
	            "\"active_token_budget_max\":99999999999,\"queued_token_budget\":-7,\"kv_bytes_per_token\":-1,"
	            "\"model_load_time_ms\":3600001},{\"observed_prefill_tps\":5000,\"max_concurrency\":24},{\"observed_prefill_"
	            "tps\":5000.5}]}}");
	const struct wire_heartbeat *beat = &message.as.heartbeat;
	assert_true(beat->memory_pressure == 1 && beat->cpu_usage == 0);
	assert_true(beat->capacity.total_memory_gb == 1024 && beat->capacity.gpu_memory_active_gb == 0);
	assert_true(beat->capacity.gpu_memory_peak_gb == 1024 && beat->capacity.gpu_memory_cache_gb == 1024);
	const struct wire_slot *slot = &beat->capacity.slots[0];
	assert_int_equal(slot->num_running, 0);
	assert_int_equal(slot->active_tokens, 1000000);
	assert_int_equal(slot->max_tokens_potential, 1000000);
	assert_int_equal(slot->max_concurrency, 24);
	assert_true(slot->observed_decode_tps == 500);
	assert_true(slot->observed_prefill_tps == 0);
	assert_int_equal(slot->active_token_budget_used, 10000000000);
	assert_int_equal(slot->active_token_budget_max, 10000000000);
	assert_int_equal(slot->queued_token_budget, 0);
	assert_int_equal(slot->kv_bytes_per_token, 0);
	assert_int_equal(slot->model_load_time_ms, 3600000);
	assert_true(beat->capacity.slots[1].observed_prefill_tps == 5000);
	assert_true(beat->capacity.slots[2].observed_prefill_tps == 0);
}

static void a_free_size_of_zero_is_not_an_unknown_one(void **state)
{
	(void)state;
	static const struct {
		const char *value;
		bool has;
		double gb;
	} cases[] = {{"0", true, 0},   {"0.0", true, 0},   {"38.5", true, 38.5}, {"1024", true, 1024}, {"1024.5", false, 0},
	             {"-1", false, 0}, {"-0.5", false, 0}, {"1e300", false, 0},  {"null", false, 0}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wire_message message = decoded(arena_printf(
		    arena, "{\"type\":\"heartbeat\",\"backend_capacity\":{\"slots\":[],\"free_for_load_gb\":%s}}", cases[i].value));
		assert_int_equal(message.as.heartbeat.capacity.has_free_for_load, cases[i].has);
		assert_true(message.as.heartbeat.capacity.free_for_load_gb == cases[i].gb);
	}
	struct wire_message message = {.type = WIRE_HEARTBEAT};
	message.as.heartbeat.has_capacity = true;
	message.as.heartbeat.capacity.has_free_for_load = true;
	wire_encode(&message, &out);
	message = decoded(arena_cstr(arena, buf_str(&out)));
	assert_true(message.as.heartbeat.capacity.has_free_for_load);
}

static void absent_lists_clear_and_absent_capacity_too(void **state)
{
	(void)state;
	struct wire_message message = decoded("{\"type\":\"heartbeat\",\"status\":\"idle\",\"active_model\":null}");
	assert_int_equal(message.as.heartbeat.warm_models.count, 0);
	assert_int_equal(message.as.heartbeat.active_model.len, 0);
	assert_false(message.as.heartbeat.has_capacity);
	assert_int_equal(message.as.heartbeat.status, WIRE_IDLE);
}

static void slot_states_and_thermal_words(void **state)
{
	(void)state;
	static const char *const words[] = {"", "running", "idle", "idle_shutdown", "reloading", "crashed", "unknown", "dancing"};
	static const enum wire_slot_state states[] = {WIRE_SLOT_LEGACY,        WIRE_SLOT_RUNNING,   WIRE_SLOT_IDLE,
	                                              WIRE_SLOT_IDLE_SHUTDOWN, WIRE_SLOT_RELOADING, WIRE_SLOT_CRASHED,
	                                              WIRE_SLOT_UNKNOWN,       WIRE_SLOT_UNKNOWN};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		struct wire_message message = decoded(
		    arena_printf(arena, "{\"type\":\"heartbeat\",\"backend_capacity\":{\"slots\":[{\"state\":\"%s\"}]}}", words[i]));
		assert_int_equal(message.as.heartbeat.capacity.slots[0].state, states[i]);
	}
	static const char *const heat[] = {"nominal", "fair", "serious", "critical", "boiling"};
	static const enum wire_thermal thermal[] = {WIRE_THERMAL_NOMINAL, WIRE_THERMAL_FAIR, WIRE_THERMAL_SERIOUS,
	                                            WIRE_THERMAL_CRITICAL, WIRE_THERMAL_UNKNOWN};
	for (size_t i = 0; i < sizeof heat / sizeof *heat; i++) {
		struct wire_message message =
		    decoded(arena_printf(arena, "{\"type\":\"heartbeat\",\"system_metrics\":{\"thermal_state\":\"%s\"}}", heat[i]));
		assert_int_equal(message.as.heartbeat.thermal_state, thermal[i]);
	}
}

static void words_outside_the_closed_sets_are_unknown(void **state)
{
	(void)state;
	assert_int_equal(decoded("{\"type\":\"load_model_status\",\"status\":\"maybe\"}").as.load_model_status.status,
	                 WIRE_LOAD_UNKNOWN);
	assert_int_equal(decoded("{\"type\":\"prefetch_model_status\",\"status\":\"maybe\"}").as.prefetch_model_status.status,
	                 WIRE_PREFETCH_UNKNOWN);
	struct wire_message message = decoded("{\"type\":\"trust_status\",\"trust_level\":\"cosmic\",\"status\":\"online\"}");
	assert_int_equal(message.as.trust_status.trust_level, WIRE_TRUST_NONE);
	enum wire_trust trust = WIRE_TRUST_HARDWARE;
	assert_false(wire_trust_parse(STR("cosmic"), &trust));
	assert_true(wire_trust_parse(STR("self_signed"), &trust));
	assert_int_equal(trust, WIRE_TRUST_SELF_SIGNED);
}

static void a_render_flag_of_false_is_not_an_unknown_one(void **state)
{
	(void)state;
	struct wire_message message = decoded("{\"type\":\"register\",\"models\":[{\"id\":\"a\",\"template_render_ok\":false},"
	                                      "{\"id\":\"b\",\"template_render_ok\":true},{\"id\":\"c\"},null,"
	                                      "{\"id\":\"d\",\"template_render_ok\":null}]}");
	const struct wire_models *models = &message.as.registration.models;
	assert_int_equal(models->count, 4);
	assert_int_equal(models->at[0].template_render_ok, WIRE_FALSE);
	assert_int_equal(models->at[1].template_render_ok, WIRE_TRUE);
	assert_int_equal(models->at[2].template_render_ok, WIRE_UNKNOWN);
	assert_int_equal(models->at[3].template_render_ok, WIRE_UNKNOWN);
}

static void members_of_maps_and_lists_have_types_too(void **state)
{
	(void)state;
	expect_refused(STR("{\"type\":\"register\",\"template_hashes\":{\"a\":1}}"), DB_E_INVALID, "template_hashes");
	expect_refused(STR("{\"type\":\"heartbeat\",\"warm_models\":[\"a\",1]}"), DB_E_INVALID, "warm_models");
	expect_refused(STR("{\"type\":\"register\",\"models\":[\"a\"]}"), DB_E_INVALID, "models");
	expect_refused(STR("{\"type\":\"register\",\"hardware\":{\"memory_gb\":63.5}}"), DB_E_INVALID, "memory_gb");
	expect_refused(STR("{\"type\":\"register\",\"models\":[{\"id\":\"a\"},{\"size_bytes\":1.0}]}"), DB_E_INVALID, "size_bytes");
	struct wire_message message = decoded("{\"type\":\"heartbeat\",\"warm_models\":[null,\"a\",null]}");
	assert_int_equal(message.as.heartbeat.warm_models.count, 1);
	assert_str(message.as.heartbeat.warm_models.at[0], STR("a"));
}

static void the_first_fault_is_the_one_reported(void **state)
{
	(void)state;
	expect_refused(STR("{\"type\":\"inference_error\",\"request_id\":1,\"error\":2}"), DB_E_INVALID,
	               "inference_error: request_id must be a string");
}

static struct str list_message(const char *before, const char *item, size_t count, const char *after)
{
	struct buf text;
	buf_init(&text, 4u << 20);
	buf_append_c(&text, before);
	for (size_t i = 0; i < count; i++) {
		buf_append_c(&text, i ? "," : "");
		buf_append_c(&text, item);
	}
	buf_append_c(&text, after);
	struct str copy = arena_str(arena, buf_str(&text));
	buf_free(&text);
	return copy;
}

static void lists_have_a_limit(void **state)
{
	(void)state;
	static const struct {
		const char *before, *item, *after;
		size_t max;
	} lists[] = {
	    {"{\"type\":\"register\",\"models\":[", "{}", "]}", WIRE_MAX_MODELS},
	    {"{\"type\":\"models_update\",\"models\":[", "{}", "]}", WIRE_MAX_MODELS},
	    {"{\"type\":\"heartbeat\",\"warm_models\":[", "\"\"", "]}", WIRE_MAX_WARM_MODELS},
	    {"{\"type\":\"heartbeat\",\"backend_capacity\":{\"slots\":[", "{}", "]}}", WIRE_MAX_SLOTS},
	    {"{\"type\":\"attestation_response\",\"model_hashes\":{", "\"\":\"\"", "}}", WIRE_MAX_PAIRS},
	    {"{\"type\":\"runtime_status\",\"verified\":false,\"mismatches\":[", "{}", "]}", WIRE_MAX_MISMATCHES},
	    {"{\"type\":\"desired_models\",\"models\":[", "{\"model_name\":\"\",\"desired_build\":\"\"}", "]}", WIRE_MAX_DESIRED},
	};
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		struct wire_message message;
		struct str fits = list_message(lists[i].before, lists[i].item, lists[i].max, lists[i].after);
		struct str over = list_message(lists[i].before, lists[i].item, lists[i].max + 1, lists[i].after);
		assert_int_equal(wire_decode(fits, arena, &message, NULL), DB_OK);
		expect_refused(over, DB_E_LIMIT, "too many");
	}
}

static void an_arena_that_is_full_refuses_the_message(void **state)
{
	(void)state;
	struct str text = list_message("{\"type\":\"register\",\"models\":[", "{\"id\":\"m\"}", 100, "]}");
	bool taken = false;
	for (size_t limit = 64; !taken; limit += 512) {
		struct arena *small = arena_new(limit);
		struct wire_message message;
		struct error error = {0};
		enum db_err err = wire_decode(text, small, &message, &error);
		taken = err == DB_OK;
		assert_true(taken || (err == DB_E_NOMEM && error.code == DB_E_NOMEM));
		arena_free(small);
	}
}

static void a_buffer_that_is_full_is_an_error(void **state)
{
	(void)state;
	struct wire_message message = {.type = WIRE_CANCEL, .as.cancel.request_id = STR("3f0e")};
	struct buf small;
	buf_init(&small, 10);
	assert_int_equal(wire_encode(&message, &small), DB_E_LIMIT);
	buf_free(&small);
}

static void messages_append_to_what_is_there(void **state)
{
	(void)state;
	struct wire_message message = {.type = WIRE_CANCEL, .as.cancel.request_id = STR("3f0e")};
	buf_append_c(&out, "x");
	wire_encode(&message, &out);
	assert_str(buf_str(&out), STR("x{\"type\":\"cancel\",\"request_id\":\"3f0e\"}"));
}

static void a_request_without_or_with_a_plain_body_is_seen_as_such(void **state)
{
	(void)state;
	struct wire_message message = decoded("{\"type\":\"inference_request\",\"request_id\":\"r\"}");
	assert_false(message.as.request.has_encrypted_body);
	assert_false(message.as.request.has_credit);
	message = decoded("{\"type\":\"inference_request\",\"request_id\":\"r\",\"body\":{\"model\":\"m\"}}");
	assert_true(message.as.request.has_plain_body);
	wire_encode(&message, &out);
	assert_str(buf_str(&out), STR("{\"type\":\"inference_request\",\"request_id\":\"r\"}"));
	message = decoded("{\"type\":\"inference_request\",\"request_id\":\"r\",\"body\":null,\"credit\":0}");
	assert_false(message.as.request.has_plain_body);
	assert_true(message.as.request.has_credit);
	message = decoded("{\"type\":\"credit\",\"request_id\":\"r\",\"chunks\":-5}");
	assert_int_equal(message.as.credit.chunks, 0);
	message = decoded("{\"type\":\"credit\",\"request_id\":\"r\",\"chunks\":99999999999}");
	assert_int_equal(message.as.credit.chunks, INT32_MAX);
}

static void a_chunk_with_plain_data_keeps_it_for_the_judge(void **state)
{
	(void)state;
	struct wire_message message = decoded("{\"type\":\"inference_response_chunk\",\"request_id\":\"r\",\"data\":\"plain\","
	                                      "\"encrypted_data\":{\"ephemeral_public_key\":\"k\",\"ciphertext\":\"c\"}}");
	assert_str(message.as.chunk.data, STR("plain"));
	assert_true(message.as.chunk.has_encrypted_data);
	message = decoded("{\"type\":\"inference_response_chunk\",\"request_id\":\"r\"}");
	assert_false(message.as.chunk.has_encrypted_data);
}

static void status_codes_stay_in_sixteen_bits(void **state)
{
	(void)state;
	assert_int_equal(decoded("{\"type\":\"inference_error\",\"status_code\":70000}").as.error.status_code, 65535);
	assert_int_equal(decoded("{\"type\":\"inference_error\",\"status_code\":-1}").as.error.status_code, 0);
}

static void an_attestation_is_kept_byte_for_byte(void **state)
{
	(void)state;
	const char *text =
	    "{\"models\":[],\"attestation\" :\t{ \"signature\":\"x\",\n\"attestation\":{\"b\":\"\\/\\u00e9\",\"a\":1.0} } ,"
	    "\"type\":\"register\"}";
	assert_str(decoded(text).as.registration.attestation,
	           STR("{ \"signature\":\"x\",\n\"attestation\":{\"b\":\"\\/\\u00e9\",\"a\":1.0} }"));
	assert_int_equal(decoded("{\"type\":\"register\",\"attestation\":null}").as.registration.attestation.len, 0);
	assert_str(decoded("{\"type\":\"register\",\"attestation\":\"odd\"}").as.registration.attestation, STR("\"odd\""));
	expect_refused(STR("{\"type\":\"register\",\"attestation\":{},\"attestation\":{}}"), DB_E_INVALID, "twice");
}

static void pairs_are_found_by_key(void **state)
{
	(void)state;
	struct wire_message message =
	    decoded("{\"type\":\"attestation_response\",\"model_hashes\":{\"a\":\"1\",\"b\":\"2\",\"a\":\"3\",\"c\":null}}");
	const struct wire_pairs *hashes = &message.as.attestation_response.model_hashes;
	assert_str(wire_pairs_get(hashes, STR("a")), STR("3"));
	assert_str(wire_pairs_get(hashes, STR("b")), STR("2"));
	assert_int_equal(wire_pairs_get(hashes, STR("c")).len, 0);
	assert_int_equal(hashes->count, 3);
}

/* --- the two existing generations --- */

static struct wire_message golden_message(const char *file, enum wire_type type, unsigned nth)
{
	struct str rest = golden_text(file), line;
	while (rest.len) {
		struct wire_message message;
		struct error error;
		rest = str_cut(rest, '\n', &line);
		if (wire_decode(line, arena, &message, &error))
			fail_msg("%.*s: %s", STR_ARG(line), error.text);
		if (message.type == type && nth-- == 0)
			return message;
	}
	fail_msg("%s lacks a %s", file, wire_type_name(type));
	return (struct wire_message){0};
}

static void expect_attested_and_alive(const char *file, const char *serial)
{
	struct attestation_result attested;
	struct wire_register reg = golden_message(file, WIRE_REGISTER, 0).as.registration;
	attestation_verify(reg.attestation, reg.public_key, arena, &attested);
	assert_int_equal(attested.verdict, ATTESTATION_VALID);
	assert_int_equal(attested.max_trust, WIRE_TRUST_HARDWARE);
	assert_str(attested.blob.serial_number, str_of(serial));

	struct wire_attestation_response reply = golden_message(file, WIRE_ATTESTATION_RESPONSE, 0).as.attestation_response;
	struct status_result result;
	struct status_policy policy = {
	    .nonce = STR("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
	    .timestamp = STR("2026-01-02T03:04:06Z"),
	    .registered_key = reg.public_key,
	    .signing_key = attested.public_key,
	    .runtime_accepted = true,
	    .version_accepted = true,
	};
	status_verify(&reply, &policy, &result);
	assert_int_equal(result.verdict, STATUS_PASS);
	assert_true(result.status_signed);
}

static void expect_opens(const struct wire_chunk *chunk, const char *frame)
{
	uint8_t provider_public[BOX_KEY_BYTES], secret[BOX_KEY_BYTES];
	struct box_shared shared;
	memset(secret, 0x22, sizeof secret);
	assert_int_equal(wire_key_decode(chunk->encrypted_data.sender_key, provider_public), DB_OK);
	assert_int_equal(box_shared_derive(&shared, provider_public, secret), DB_OK);
	buf_clear(&out);
	assert_int_equal(wire_payload_open(&shared, chunk->encrypted_data.ciphertext, &out), DB_OK);
	assert_str(buf_str(&out), str_of(frame));
}

static void the_older_generation_is_understood(void **state)
{
	(void)state;
	const char *file = "generation-0.4.7.jsonl";
	struct wire_register reg = golden_message(file, WIRE_REGISTER, 0).as.registration;
	assert_str(reg.backend, STR("inprocess-mlx"));
	assert_str(reg.version, STR("0.4.7"));
	assert_int_equal(reg.models.count, 2);
	assert_int_equal(reg.models.at[0].model_type.len, 0);
	assert_int_equal(reg.models.at[0].quantization.len, 0);
	assert_int_equal(reg.models.at[0].weight_hash.len, 0);
	assert_int_equal(reg.models.at[0].template_render_ok, WIRE_UNKNOWN);
	assert_str(reg.models.at[1].quantization, STR("8bit"));
	assert_true(reg.hardware.memory_available_gb == 9 && reg.hardware.memory_bandwidth_gbs == 100);
	assert_true(reg.encrypted_response_chunks && reg.has_privacy && !reg.flow_credit);
	assert_true(reg.prefill_tps == 0 && reg.decode_tps == 0);
	assert_int_equal(reg.template_hashes.count, 4);
	assert_int_equal(wire_pairs_get(&reg.template_hashes, STR("mlx_metallib")).len, 0);

	struct wire_heartbeat beat = golden_message(file, WIRE_HEARTBEAT, 0).as.heartbeat;
	assert_false(beat.has_capacity);
	assert_int_equal(beat.warm_models.count, 1);
	assert_str(beat.active_model, beat.warm_models.at[0]);

	struct wire_complete complete = golden_message(file, WIRE_COMPLETE, 0).as.complete;
	assert_int_equal(complete.completion_tokens, 9);
	assert_int_equal(complete.reasoning_tokens, 0);
	assert_int_equal(complete.se_signature.len, 0);

	expect_attested_and_alive(file, "TESTSERIAL01");
	struct wire_chunk chunk = golden_message(file, WIRE_CHUNK, 0).as.chunk;
	expect_opens(&chunk, "data: {\"id\": \"chatcmpl-1\", \"object\": \"chat.completion.chunk\", \"choices\": [{\"index\": 0, "
	                     "\"delta\": {\"content\": \"gr\\u00fc\\u00dfe\"}, \"finish_reason\": null}]}");
	chunk = golden_message(file, WIRE_CHUNK, 1).as.chunk;
	expect_opens(&chunk, "data: [DONE]");
}

static void the_current_generation_is_understood(void **state)
{
	(void)state;
	const char *file = "generation-0.6.17.jsonl";
	struct wire_register reg = golden_message(file, WIRE_REGISTER, 0).as.registration;
	assert_str(reg.backend, STR("mlx-swift"));
	assert_int_equal(reg.models.at[0].template_render_ok, WIRE_TRUE);
	assert_int_equal(reg.models.at[0].weight_hash.len, 64);
	assert_int_equal(reg.hardware.cpu_efficiency, 4);
	assert_str(reg.apns_environment, STR("production"));
	assert_int_equal(wire_pairs_get(&reg.template_hashes, STR("mlx_metallib")).len, 64);
	assert_true(reg.privacy.text_backend_inprocess && !reg.privacy.python_runtime_locked);
	expect_attested_and_alive(file, "TESTSERIAL01");

	struct wire_heartbeat beat = golden_message(file, WIRE_HEARTBEAT, 0).as.heartbeat;
	assert_int_equal(beat.status, WIRE_SERVING);
	assert_int_equal(beat.stats.tokens_generated, 900);
	assert_int_equal(beat.capacity.slots[0].state, WIRE_SLOT_RUNNING);
	assert_true(beat.capacity.has_free_for_load && beat.capacity.free_for_load_gb == 38.5);

	struct wire_chunk chunk = golden_message(file, WIRE_CHUNK, 0).as.chunk;
	expect_opens(&chunk, "data: {\"choices\":[{\"delta\":{\"content\":\"pong\"}}]}\n\n");
	assert_int_equal(golden_message(file, WIRE_ERROR, 0).as.error.status_code, 499);
	struct wire_desired_models desired = golden_message(file, WIRE_DESIRED_MODELS, 0).as.desired_models;
	assert_str(desired.models[0].previous_build, STR("acme/tiny-4bit"));
	assert_int_equal(golden_message(file, WIRE_TRUST_STATUS, 0).as.trust_status.trust_level, WIRE_TRUST_HARDWARE);
	struct wire_runtime_status runtime = golden_message(file, WIRE_RUNTIME_STATUS, 0).as.runtime_status;
	assert_true(!runtime.verified && runtime.mismatch_count == 1);
	assert_str(runtime.mismatches[0].got, STR("(missing)"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WIRE_TEST(what_is_no_message_is_refused),
	    WIRE_TEST(directions_are_known),
	    WIRE_TEST(a_provider_may_leave_everything_out),
	    WIRE_TEST(hardware_is_clamped),
	    WIRE_TEST(numbers_may_be_written_as_integers),
	    WIRE_TEST(a_slot_is_clamped),
	    WIRE_TEST(a_free_size_of_zero_is_not_an_unknown_one),
	    WIRE_TEST(absent_lists_clear_and_absent_capacity_too),
	    WIRE_TEST(slot_states_and_thermal_words),
	    WIRE_TEST(words_outside_the_closed_sets_are_unknown),
	    WIRE_TEST(a_render_flag_of_false_is_not_an_unknown_one),
	    WIRE_TEST(members_of_maps_and_lists_have_types_too),
	    WIRE_TEST(the_first_fault_is_the_one_reported),
	    WIRE_TEST(lists_have_a_limit),
	    WIRE_TEST(an_arena_that_is_full_refuses_the_message),
	    WIRE_TEST(a_buffer_that_is_full_is_an_error),
	    WIRE_TEST(messages_append_to_what_is_there),
	    WIRE_TEST(a_request_without_or_with_a_plain_body_is_seen_as_such),
	    WIRE_TEST(a_chunk_with_plain_data_keeps_it_for_the_judge),
	    WIRE_TEST(status_codes_stay_in_sixteen_bits),
	    WIRE_TEST(an_attestation_is_kept_byte_for_byte),
	    WIRE_TEST(pairs_are_found_by_key),
	    WIRE_TEST(the_older_generation_is_understood),
	    WIRE_TEST(the_current_generation_is_understood),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
