#include "node_fixture.h"

#include <signal.h>

#include "core/encode.h"
#include "core/version.h"

static const struct engine_script five_words = {.text = "one two three four five"};

/* --- what it says about itself --- */

static void registers_with_what_it_offers(void **state)
{
	struct world world;
	(void)state;
	world_open(&world, &five_words);
	const struct wire_register *said = &world.registration;
	assert_true(str_is(said->backend, NODE_BACKEND));
	assert_true(str_is(said->version, DARKBLOOM_PROTOCOL_VERSION));
	assert_true(said->encrypted_response_chunks);
	assert_true(said->flow_credit);
	assert_true(said->has_privacy);
	assert_true(said->privacy.text_backend_inprocess && said->privacy.text_proxy_disabled);
	assert_false(said->privacy.python_runtime_locked);
	assert_int_equal(said->models.count, 1);
	assert_true(str_is(said->models.at[0].id, MODEL));
	assert_int_equal(said->models.at[0].size_bytes, 123456);
	assert_true(str_is(said->models.at[0].weight_hash, residency_find(world.residency, STR(MODEL))->weight_hash));
	assert_int_equal(said->models.at[0].template_render_ok, WIRE_TRUE);
	assert_int_equal(said->auth_token.len, 0);
	assert_true(said->hardware.memory_gb > 0 && said->hardware.cpu_total > 0);
	world_close(&world);
}

static void says_whose_it_is(void **state)
{
	struct world world;
	char url[64], token[] = "account-token";
	(void)state;
	world_prepare(&world, &five_words);
	world.auth_token = token;
	world.private_only = true;
	snprintf(url, sizeof url, "ws://127.0.0.1:%u", world.port);
	start_node(&world, url);
	memset(token, 'x', sizeof token - 1); /* the node keeps its own copy */
	run_until(&world, is_registered);
	assert_true(str_is(world.registration.auth_token, "account-token"));
	assert_true(world.registration.private_only);
	world_close(&world);
}

static void its_attestation_verifies_and_binds_the_session_key(void **state)
{
	struct world world;
	struct attestation_result result;
	uint8_t xy[P256_PUBLIC_BYTES];
	(void)state;
	world_open(&world, &five_words);
	attestation_verify(world.registration.attestation, world.registration.public_key, world.arena, &result);
	assert_int_equal(result.verdict, ATTESTATION_VALID);
	platform_signer_public(world.signer, xy);
	assert_memory_equal(result.public_key, xy, sizeof xy);
	assert_int_equal(result.blob.binary_hash.len, 64);
	assert_int_equal(result.key_protection,
	                 platform_signer_is_hardware(world.signer) ? ATTESTATION_SECURE_ENCLAVE : ATTESTATION_SOFTWARE);
	struct str other = STR("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
	attestation_verify(world.registration.attestation, other, world.arena, &result);
	assert_int_equal(result.verdict, ATTESTATION_KEY_MISMATCH);
	world_close(&world);
}

static bool three_heartbeats(struct world *world)
{
	return world->heartbeats >= 3;
}

static void start_reporting(struct world *world)
{
	char url[64];
	snprintf(url, sizeof url, "ws://127.0.0.1:%u/ws/provider", world->port);
	world->heartbeat_ms = 20;
	start_node(world, url);
}

static void reports_at_once_and_then_at_its_interval(void **state)
{
	struct world world;
	(void)state;
	world_prepare(&world, &five_words);
	start_reporting(&world);
	run_until(&world, three_heartbeats);
	const struct wire_heartbeat *said = &world.heartbeat;
	assert_int_equal(said->status, WIRE_IDLE);
	assert_int_equal(said->warm_models.count, 1);
	assert_true(said->has_capacity);
	assert_int_equal(said->capacity.slot_count, 1);
	assert_int_equal(said->capacity.slots[0].max_concurrency, 8);
	double held_gb = 123456.0 / (1024.0 * 1024.0 * 1024.0);
	assert_true(said->capacity.gpu_memory_active_gb > 0.999 * held_gb && said->capacity.gpu_memory_active_gb < 1.001 * held_gb);
	assert_true(said->capacity.gpu_memory_peak_gb >= said->capacity.gpu_memory_active_gb);
	assert_false(said->draining);
	world_close(&world);
}

/* An engine that only says what the test wants to hear again. */
struct told {
	struct engine base;
	struct engine_capacity capacity;
	struct engine_info info;
};

static void told_info(const struct engine *engine, struct engine_info *out)
{
	*out = ((const struct told *)engine)->info;
}

static void told_capacity(struct engine *engine, struct engine_capacity *out)
{
	*out = ((struct told *)engine)->capacity;
}

static void told_free(struct engine *engine)
{
	(void)engine;
}

static const struct wire_slot *slot_of(const struct world *world, const char *model)
{
	for (size_t i = 0; i < world->heartbeat.capacity.slot_count; i++)
		if (str_is(world->heartbeat.capacity.slots[i].model, model))
			return &world->heartbeat.capacity.slots[i];
	return NULL;
}

static enum wire_slot_state awaited;

static bool slot_is_awaited(struct world *world)
{
	const struct wire_slot *slot = slot_of(world, "told");
	return slot && slot->state == awaited;
}

static void a_slot_is_told_as_its_engine_is(void **state)
{
	static const struct engine_ops ops = {.info = told_info, .capacity = told_capacity, .free = told_free};
	static const struct {
		enum wire_slot_state state;
		bool crashed, reloading;
		uint32_t running;
	} states[] = {{WIRE_SLOT_RUNNING, false, false, 3},
	              {WIRE_SLOT_IDLE, false, false, 0},
	              {WIRE_SLOT_CRASHED, true, false, 0},
	              {WIRE_SLOT_RELOADING, false, true, 0}};
	struct told told = {.base.ops = &ops,
	                    .capacity = {.waiting = 2,
	                                 .max_concurrency = 7,
	                                 .active_tokens = 310,
	                                 .max_tokens_potential = 420,
	                                 .budget_used_tokens = 530,
	                                 .budget_max_tokens = 6400,
	                                 .budget_queued_tokens = 75,
	                                 .decode_tps = 41.5,
	                                 .prefill_tps = 812.25},
	                    .info = {.kv_bytes_per_token = 23040, .load_time_ms = 1234}};
	struct world world;
	(void)state;
	world_prepare(&world, &five_words);
	struct residency_model model = {.id = "told", .size_bytes = 1000};
	assert_int_equal(residency_add(world.residency, &model, &told.base), DB_OK);
	start_reporting(&world);
	for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
		told.capacity.crashed = states[i].crashed;
		told.capacity.reloading = states[i].reloading;
		told.capacity.running = states[i].running;
		awaited = states[i].state;
		run_until(&world, slot_is_awaited);
		const struct wire_slot *slot = slot_of(&world, "told");
		assert_int_equal(slot->num_running, states[i].running);
		assert_int_equal(slot->num_waiting, 2);
		assert_int_equal(slot->max_concurrency, 7);
		assert_int_equal(slot->active_tokens, 310);
		assert_int_equal(slot->max_tokens_potential, 420);
		assert_int_equal(slot->active_token_budget_used, 530);
		assert_int_equal(slot->active_token_budget_max, 6400);
		assert_int_equal(slot->queued_token_budget, 75);
		assert_true(slot->observed_decode_tps == 41.5 && slot->observed_prefill_tps == 812.25);
		assert_int_equal(slot->kv_bytes_per_token, 23040);
		assert_int_equal(slot->model_load_time_ms, 1234);
		assert_int_equal(world.heartbeat.warm_models.count, states[i].crashed ? 1 : 2); /* with the scripted one */
		assert_true(str_is(world.heartbeat.active_model, states[i].running ? "told" : ""));
	}
	world_close(&world);
}

static bool a_quarter_is_loaded(struct world *world)
{
	const struct wire_loads *loads = &world->heartbeat.loads;
	return loads->count == 1 && str_is(loads->at[0].model, "cold") && loads->at[0].progress == 0.25;
}

static bool cold_is_warm(struct world *world)
{
	return world->heartbeat.loads.count == 0 && slot_of(world, "cold");
}

static void when_loaded(struct residency_use *use, struct engine *engine, int status, const char *why)
{
	(void)use;
	(void)why;
	assert_non_null(engine);
	assert_int_equal(status, 0);
}

static void the_progress_of_a_load_is_told(void **state)
{
	struct world world;
	struct engine *engine;
	struct error error;
	struct residency_use use = {.ready = when_loaded};
	(void)state;
	world_prepare(&world, &five_words);
	struct residency_model model = {.id = "cold", .size_bytes = 1000};
	assert_int_equal(residency_add(world.residency, &model, NULL), DB_OK);
	atomic_store(&world.load_held, true);
	start_reporting(&world);
	run_until(&world, three_heartbeats);
	assert_int_equal(world.heartbeat.loads.count, 0);
	assert_null(slot_of(&world, "cold"));
	assert_int_equal(residency_acquire(world.residency, STR("cold"), &use, &engine, &error), RESIDENCY_LATER);
	run_until(&world, a_quarter_is_loaded);
	assert_null(slot_of(&world, "cold"));
	atomic_store(&world.load_held, false);
	run_until(&world, cold_is_warm);
	residency_release(&use);
	world_close(&world);
}

static bool challenge_answered(struct world *world)
{
	return world->challenge_replies > 0;
}

static void answers_a_challenge_with_signatures_that_verify(void **state)
{
	struct world world;
	struct status_challenge challenge;
	struct status_result result;
	uint8_t xy[P256_PUBLIC_BYTES];
	(void)state;
	world_open(&world, &five_words);
	status_challenge_new(&challenge, clock_wall_us());
	struct wire_message message = {.type = WIRE_CHALLENGE, .as.challenge = status_challenge_message(&challenge)};
	send_message(&world, &message);
	run_until(&world, challenge_answered);
	platform_signer_public(world.signer, xy);
	struct str advertised = STR(MODEL);
	struct status_policy policy = {.nonce = str_of(challenge.nonce),
	                               .timestamp = str_of(challenge.timestamp),
	                               .registered_key = world.registration.public_key,
	                               .signing_key = xy,
	                               .is_linux = true,
	                               .advertised = &advertised,
	                               .advertised_count = 1,
	                               .runtime_accepted = true,
	                               .version_accepted = true};
	status_verify(&world.challenge_reply, &policy, &result);
	assert_int_equal(result.verdict, STATUS_PASS);
	assert_true(result.status_signed);
	assert_true(str_is(wire_pairs_get(&world.challenge_reply.model_hashes, STR(MODEL)),
	                   residency_find(world.residency, STR(MODEL))->weight_hash));
	world_close(&world);
}

static void a_challenge_that_is_none_is_not_signed(void **state)
{
	struct world world;
	struct wire_message message = {.type = WIRE_CHALLENGE,
	                               .as.challenge = {STR("x"), STR("2026-01-01T00:00:00Z")}}; /* a nonce of one character */
	(void)state;
	world_open(&world, &five_words);
	send_message(&world, &message);
	run_until(&world, after_a_while);
	assert_int_equal(world.challenge_replies, 0);
	assert_int_equal(world.closed, 0);
	world_close(&world);
}

static bool knows_its_trust(struct world *world)
{
	return status_of(world).trust_level[0] != '\0';
}

static void keeps_what_the_coordinator_says_about_its_trust(void **state)
{
	struct world world;
	struct wire_message message = {.type = WIRE_TRUST_STATUS,
	                               .as.trust_status = {WIRE_TRUST_SELF_SIGNED, STR("online"), STR("attested")}};
	(void)state;
	world_open(&world, &five_words);
	send_message(&world, &message);
	run_until(&world, knows_its_trust);
	struct node_status status = status_of(&world);
	assert_string_equal(status.trust_level, "self_signed");
	assert_string_equal(status.trust_status, "online");
	assert_string_equal(status.trust_reason, "attested");
	world_close(&world);
}

static bool one_load_reply(struct world *world)
{
	return world->load_replies == 1;
}

static bool two_load_replies(struct world *world)
{
	return world->load_replies == 2;
}

static bool one_prefetch_refusal(struct world *world)
{
	return world->prefetch_refusals == 1;
}

static void answers_requests_to_load_and_fetch_models(void **state)
{
	struct world world;
	struct wire_message load = {.type = WIRE_LOAD_MODEL, .as.load_model = {.model_id = STR(MODEL)}};
	struct wire_message prefetch = {.type = WIRE_PREFETCH_MODEL, .as.prefetch_model = {.model_id = STR("other")}};
	(void)state;
	world_open(&world, &five_words);
	send_message(&world, &load);
	run_until(&world, one_load_reply);
	assert_string_equal(world.load_status, "succeeded");
	load.as.load_model.model_id = STR("other");
	send_message(&world, &load);
	run_until(&world, two_load_replies);
	assert_string_equal(world.load_status, "failed");
	assert_non_null(strstr(world.load_error, "not found"));
	send_message(&world, &prefetch);
	run_until(&world, one_prefetch_refusal);
	world_close(&world);
}

static void takes_note_of_what_needs_no_answer(void **state)
{
	struct world world;
	struct wire_message runtime = {.type = WIRE_RUNTIME_STATUS}, desired = {.type = WIRE_DESIRED_MODELS};
	struct wire_message load = {.type = WIRE_LOAD_MODEL, .as.load_model = {.model_id = STR(MODEL)}};
	(void)state;
	world_open(&world, &five_words);
	send_message(&world, &runtime);
	send_message(&world, &desired);
	send_message(&world, &load); /* answered, so the others were read */
	run_until(&world, one_load_reply);
	assert_int_equal(world.others, 0);
	assert_int_equal(world.closed, 0);
	world_close(&world);
}

/* --- losing and finding the coordinator --- */

static bool reconnected(struct world *world)
{
	return world->connections == 2 && is_registered(world);
}

static bool disconnected(struct world *world)
{
	return status_of(world).state == NODE_CONNECTING;
}

static bool failed_to_connect(struct world *world)
{
	return strstr(status_of(world).last_error, "refused") != NULL;
}

static void comes_back_to_a_coordinator_that_was_restarted(void **state)
{
	struct world world;
	(void)state;
	world_open(&world, &five_words);
	struct str first = world.registration.attestation;
	stop_listening(&world);
	run_until(&world, disconnected);
	assert_true(status_of(&world).last_error[0] != '\0');
	run_until(&world, failed_to_connect);
	listen_on(&world, world.port);
	world.heartbeats = 0;
	run_until(&world, reconnected);
	assert_true(str_eq(world.registration.attestation, first)); /* made once */
	assert_int_equal(status_of(&world).sessions, 2);
	assert_string_equal(status_of(&world).last_error, "");
	world_close(&world);
}

static void reconnects_after_a_close_in_order(void **state)
{
	struct world world;
	(void)state;
	world_open(&world, &five_words);
	ws_close(world.ws, 1008, "attestation unresponsive");
	run_until(&world, disconnected);
	assert_non_null(strstr(status_of(&world).last_error, "attestation unresponsive"));
	world.heartbeats = 0;
	run_until(&world, reconnected);
	world_close(&world);
}

static void leaves_a_coordinator_that_answers_no_pings(void **state)
{
	struct world world;
	(void)state;
	world_prepare(&world, &five_words);
	world.ping_ms = 20;
	char url[64];
	snprintf(url, sizeof url, "ws://127.0.0.1:%u", world.port);
	start_node(&world, url);
	run_until(&world, is_registered);
	run_until(&world, after_a_while); /* several pings, all answered */
	assert_int_equal(world.connections, 1);
	ws_pause(world.ws); /* a paused end sees no pings */
	world.heartbeats = 0;
	run_until(&world, reconnected);
	world_close(&world);
}

static void an_answer_to_an_old_sessions_challenge_is_not_sent_on_the_new_one(void **state)
{
	struct world world;
	struct status_challenge challenge;
	(void)state;
	world_open(&world, &five_words);
	status_challenge_new(&challenge, clock_wall_us());
	struct wire_message message = {.type = WIRE_CHALLENGE, .as.challenge = status_challenge_message(&challenge)};
	send_message(&world, &message);
	ws_close(world.ws, 1000, "goodbye");
	world.heartbeats = 0;
	run_until(&world, reconnected);
	run_until(&world, after_a_while);
	assert_int_equal(world.challenge_replies, 0);
	world_close(&world);
}

static void freed_while_it_connects_or_waits_to_leaves_nothing_behind(void **state)
{
	struct world world;
	char url[64];
	(void)state;
	world_prepare(&world, &five_words);
	snprintf(url, sizeof url, "ws://127.0.0.1:%u", world.port);
	start_node(&world, url);
	world_close(&world); /* the connection is not yet open */
	world_prepare(&world, &five_words);
	snprintf(url, sizeof url, "ws://127.0.0.1:%u", world.port);
	stop_listening(&world);
	start_node(&world, url);
	run_until(&world, failed_to_connect);
	world_close(&world); /* the reconnect timer runs */
}

/* --- drain --- */

static void count_drained(void *arg)
{
	((struct world *)arg)->drained++;
}

static bool is_drained(struct world *world)
{
	return world->drained > 0 && world->closed > 0;
}

static bool first_has_chunks(struct world *world)
{
	return world->replies[0].chunks >= 2;
}

static bool second_ended(struct world *world)
{
	return world->replies[1].errors > 0;
}

static bool saw_drain(struct world *world)
{
	return world->heartbeat_draining;
}

static void a_drain_finishes_what_runs_and_refuses_what_is_new(void **state)
{
	struct world world;
	struct engine_script script = {.text = "word ", .tokens = 200, .token_delay_ms = 2};
	struct wire_message load = {.type = WIRE_LOAD_MODEL, .as.load_model = {.model_id = STR(MODEL)}};
	(void)state;
	world_open(&world, &script);
	struct reply *running = ask(&world, "request-1");
	run_until(&world, first_has_chunks);
	node_drain(world.node, 60000, count_drained, &world);
	assert_int_equal(status_of(&world).state, NODE_DRAINING);
	run_until(&world, saw_drain);
	struct reply *late = ask(&world, "request-2");
	run_until(&world, second_ended);
	assert_int_equal(late->status, 503);
	assert_string_equal(late->error, "provider draining for update");
	send_message(&world, &load);
	run_until(&world, one_load_reply);
	assert_string_equal(world.load_status, "failed");
	assert_string_equal(world.load_error, "provider draining for update");
	run_until(&world, is_drained);
	assert_int_equal(running->completes, 1);
	assert_int_equal(running->chunks, 200 + 4);
	assert_int_equal(world.close_code, 1001);
	assert_int_equal(world.drained, 1);
	assert_int_equal(status_of(&world).state, NODE_STOPPED);
	world_close(&world);
}

static void an_idle_drain_ends_at_once(void **state)
{
	struct world world;
	(void)state;
	world_open(&world, &five_words);
	node_drain(world.node, 60000, count_drained, &world);
	run_until(&world, is_drained);
	assert_int_equal(world.close_code, 1001);
	node_drain(world.node, 0, count_drained, &world); /* over already */
	run_until(&world, after_a_while);
	assert_int_equal(world.drained, 1);
	assert_int_equal(world.connections, 1); /* it does not come back */
	world_close(&world);
}

static void a_drain_cancels_at_its_limit_even_what_waits_for_credit(void **state)
{
	struct world world;
	struct engine_script script = {.text = "word ", .tokens = 100000, .token_delay_ms = 1};
	(void)state;
	world_open(&world, &script);
	struct reply *running = ask(&world, "request-1");
	struct reply *stuck = ask_with_credit(&world, "request-2", 1);
	run_until(&world, first_has_chunks);
	node_drain(world.node, 60000, count_drained, &world);
	node_drain(world.node, 10, count_drained, &world); /* a second signal */
	run_until(&world, is_drained);
	assert_int_equal(running->completes, 1);
	assert_true(running->completion_tokens < 100000);
	assert_int_equal(stuck->completes + stuck->errors, 1);
	assert_int_equal(stuck->chunks, 1);
	world_close(&world);
}

static void a_drain_does_not_wait_for_ever_for_a_coordinator_that_does_not_read(void **state)
{
	struct world world;
	enum { WORD = 16384 };
	static char text[WORD + 1];
	memset(text, 'x', WORD);
	struct engine_script script = {.text = text, .tokens = 100000};
	(void)state;
	world_open(&world, &script);
	ask(&world, "request-1");
	run_until(&world, first_has_chunks);
	ws_pause(world.ws);
	run_until(&world, after_a_while);
	node_drain(world.node, 10, count_drained, &world);
	while (!world.drained)
		run_until(&world, after_a_while);
	world_close(&world);
}

static void a_drain_without_a_session_ends_at_once(void **state)
{
	struct world world;
	(void)state;
	world_open(&world, &five_words);
	stop_listening(&world);
	run_until(&world, disconnected);
	node_drain(world.node, 60000, count_drained, &world);
	assert_int_equal(world.drained, 1);
	world_close(&world);
}

/* --- addresses --- */

static void understands_the_addresses_people_give(void **state)
{
	static const struct {
		const char *given, *expected; /* NULL = refused */
	} cases[] = {
	    {"ws://127.0.0.1:8080", "ws://127.0.0.1:8080/ws/provider"},
	    {"http://127.0.0.1:8080/", "ws://127.0.0.1:8080/ws/provider"},
	    {"https://host.example//", "wss://host.example/ws/provider"},
	    {"wss://host.example/ws/provider", "wss://host.example/ws/provider"},
	    {"wss://host.example/ws/provider/", "wss://host.example/ws/provider"},
	    {" wss://host.example\n", "wss://host.example/ws/provider"},
	    {"host.example", NULL},
	    {"ftp://host.example", NULL},
	    {"ws://", NULL},
	    {"ws:///ws/provider", NULL},
	    {"wss://host.example/other", NULL},
	    {"wss://host example", NULL},
	    {"", NULL},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char out[512] = "";
		struct error error = {0};
		enum db_err err = node_websocket_url(cases[i].given, out, sizeof out, &error);
		if (cases[i].expected)
			assert_string_equal(out, cases[i].expected);
		else
			assert_int_equal(err, DB_E_INVALID);
	}
	char small[8];
	assert_int_equal(node_websocket_url("ws://127.0.0.1:8080", small, sizeof small, NULL), DB_E_LIMIT);
}

static void a_bad_address_makes_no_node(void **state)
{
	struct world world;
	struct error error = {0};
	(void)state;
	world_prepare(&world, &five_words);
	struct node_options options = {.coordinator_url = "nowhere", .signer = world.signer, .residency = world.residency};
	assert_null(node_new(world.loop, &options, &error));
	assert_non_null(strstr(error.text, "nowhere"));
	world_close(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(registers_with_what_it_offers),
	    cmocka_unit_test(says_whose_it_is),
	    cmocka_unit_test(its_attestation_verifies_and_binds_the_session_key),
	    cmocka_unit_test(reports_at_once_and_then_at_its_interval),
	    cmocka_unit_test(a_slot_is_told_as_its_engine_is),
	    cmocka_unit_test(the_progress_of_a_load_is_told),
	    cmocka_unit_test(answers_a_challenge_with_signatures_that_verify),
	    cmocka_unit_test(a_challenge_that_is_none_is_not_signed),
	    cmocka_unit_test(keeps_what_the_coordinator_says_about_its_trust),
	    cmocka_unit_test(answers_requests_to_load_and_fetch_models),
	    cmocka_unit_test(takes_note_of_what_needs_no_answer),
	    cmocka_unit_test(comes_back_to_a_coordinator_that_was_restarted),
	    cmocka_unit_test(reconnects_after_a_close_in_order),
	    cmocka_unit_test(leaves_a_coordinator_that_answers_no_pings),
	    cmocka_unit_test(an_answer_to_an_old_sessions_challenge_is_not_sent_on_the_new_one),
	    cmocka_unit_test(freed_while_it_connects_or_waits_to_leaves_nothing_behind),
	    cmocka_unit_test(a_drain_finishes_what_runs_and_refuses_what_is_new),
	    cmocka_unit_test(an_idle_drain_ends_at_once),
	    cmocka_unit_test(a_drain_cancels_at_its_limit_even_what_waits_for_credit),
	    cmocka_unit_test(a_drain_does_not_wait_for_ever_for_a_coordinator_that_does_not_read),
	    cmocka_unit_test(a_drain_without_a_session_ends_at_once),
	    cmocka_unit_test(understands_the_addresses_people_give),
	    cmocka_unit_test(a_bad_address_makes_no_node),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
