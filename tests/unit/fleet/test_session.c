/* Registration, attestation, challenges, heartbeats and the end of a provider's session. */
#include "fleet_fixture.h"

static struct scene scene_of(struct fleet_options options)
{
	struct scene s = {.options = options};
	return s;
}

static const struct fleet_options usual = {.min_trust = ROUTE_TRUST_SELF_SIGNED};

static void take_view(const struct fleet_provider_view *view, void *user)
{
	*(struct fleet_provider_view *)user = *view;
}

static void a_sound_provider_becomes_routable(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.serial = "TESTSERIAL01"});
	assert_int_equal(fleet_count(s.fleet), 1);
	assert_string_equal(p.order, "tda"); /* trust_status, desired_models, attestation_challenge */
	assert_int_equal(p.trust, WIRE_TRUST_SELF_SIGNED);
	assert_string_equal(p.status, "online");
	assert_int_equal(p.challenges, 1);
	struct fleet_provider_view view;
	fleet_each(s.fleet, take_view, &view);
	assert_int_equal(view.trust, ROUTE_TRUST_SELF_SIGNED);
	assert_true(view.attested && view.encrypted && view.secure_enclave && view.sip && view.secure_boot &&
	            view.authenticated_root);
	assert_false(view.mda_verified);
	assert_true(str_is(view.serial, "TESTSERIAL01"));
	assert_true(str_is(view.machine_model, "Mac16,6"));
	assert_true(str_is(view.chip_name, "Apple M4 Max"));
	assert_true(str_is(view.se_public_key, p.signer_b64));
	assert_true(str_is(view.encryption_public_key, p.key_b64));
	assert_true(str_is(view.platform, "macos"));
	assert_true(str_is(view.key_protection, "secure_enclave"));
	assert_int_equal(view.gpu_cores, 40);
	assert_int_equal(view.model_count, 1);
	peer_end(&p);
	scene_end(&s);
}

static bool has_many_cores(void *arg)
{
	struct fleet_provider_view view = {0};
	fleet_each(((struct scene *)arg)->fleet, take_view, &view);
	return view.gpu_cores == UINT16_MAX;
}

static void cores_beyond_counting_are_many(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	struct fleet_provider_view view;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.gpu_cores = 16896});
	fleet_each(s.fleet, take_view, &view);
	assert_int_equal(view.gpu_cores, 16896);
	peer_register(&p, (struct peer_options){.gpu_cores = 1000000});
	assert_true(run_until(&s, has_many_cores, &s));
	peer_end(&p);
	scene_end(&s);
}

static void note_serial(const struct fleet_provider_view *view, void *user)
{
	char *seen = user;
	size_t len = strlen(seen);
	assert_true(len < 15);
	seen[len] = view->serial.at[view->serial.len - 1];
}

struct crowd {
	struct scene *scene;
	size_t wanted;
};

static void count_settled(const struct fleet_provider_view *view, void *user)
{
	*(size_t *)user += view->serial.len > 0;
}

static bool crowd_is_there(void *arg)
{
	const struct crowd *crowd = arg;
	size_t count = 0;
	fleet_each(crowd->scene->fleet, count_settled, &count);
	return count == crowd->wanted;
}

static void a_walk_in_parts_meets_everybody_once_though_some_leave(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer peers[5];
	char seen[16] = "", serial[32];
	scene_begin(&s, NULL);
	assert_false(fleet_walk(s.fleet, true, 2, note_serial, seen));
	for (int i = 0; i < 5; i++) {
		snprintf(serial, sizeof serial, "SERIAL000%d", i);
		peer_connect(&peers[i], &s);
		peer_register(&peers[i], (struct peer_options){.serial = serial});
		assert_true(run_until(&s, crowd_is_there, &(struct crowd){&s, (size_t)i + 1}));
	}
	assert_true(fleet_walk(s.fleet, true, 2, note_serial, seen));
	peer_end(&peers[0]); /* who was met, and who comes next */
	peer_end(&peers[2]);
	assert_true(run_until(&s, crowd_is_there, &(struct crowd){&s, 3}));
	assert_true(fleet_walk(s.fleet, false, 1, note_serial, seen));
	assert_false(fleet_walk(s.fleet, false, 1, note_serial, seen));
	assert_string_equal(seen, "0134");
	assert_false(fleet_walk(s.fleet, false, 1, note_serial, seen));
	memset(seen, 0, sizeof seen);
	assert_false(fleet_walk(s.fleet, true, 10, note_serial, seen));
	assert_string_equal(seen, "134");
	for (int i = 1; i < 5; i += i == 1 ? 2 : 1)
		peer_end(&peers[i]);
	scene_end(&s);
}

static void a_software_key_on_linux_is_self_signed_and_says_so(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.backend = "llama.cpp", .version = "0.1.0", .software_key = true});
	struct fleet_provider_view view;
	fleet_each(s.fleet, take_view, &view);
	assert_true(str_is(view.platform, "linux"));
	assert_true(str_is(view.key_protection, "software"));
	assert_false(view.secure_enclave);
	assert_int_equal(view.trust, ROUTE_TRUST_SELF_SIGNED);
	assert_int_equal(p.desired, 0); /* below 0.5.17 */
	peer_end(&p);
	scene_end(&s);
}

static void both_generations_and_ours_are_accepted_by_default(void **state)
{
	(void)state;
	static const char *const backends[] = {"mlx-swift", "inprocess-mlx", "llama.cpp"};
	for (size_t i = 0; i < 3; i++) {
		struct scene s = scene_of(usual);
		struct peer p;
		scene_begin(&s, NULL);
		peer_join(&p, &s, (struct peer_options){.backend = backends[i]});
		peer_end(&p);
		scene_end(&s);
	}
}

static bool answered_once(void *arg)
{
	struct scene *s = arg;
	return metric_count(metrics_counter(s->metrics, "darkbloom_challenges_total", "result=\"passed\"", "")) > 0;
}

static void missing_legs_keep_a_provider_unroutable(void **state)
{
	(void)state;
	static const struct peer_options cases[] = {
	    {.backend = "vllm"},       {.no_privacy = true},      {.no_encrypted_chunks = true}, {.missing_capability = 1},
	    {.missing_capability = 2}, {.missing_capability = 3}, {.missing_capability = 4},     {.missing_capability = 5},
	    {.unattested = true},      {.altered = true},         {.version = "0.3.0"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct scene s = scene_of((struct fleet_options){.min_trust = ROUTE_TRUST_SELF_SIGNED, .min_version = STR("0.4.0")});
		struct peer p;
		struct consumer c = {0};
		scene_begin(&s, NULL);
		peer_connect(&p, &s);
		peer_register(&p, cases[i]);
		if (!cases[i].version)
			assert_true(run_until(&s, answered_once, &s));
		run_for_ms(&s, 20);
		assert_false(p.closed);
		assert_int_equal(fleet_count(s.fleet), 1);
		if (routable(&s))
			fail_msg("case %zu is routable", i);
		assert_int_equal(consumer_start(&c, &s), DB_E_NOT_FOUND);
		peer_end(&p);
		scene_end(&s);
	}
}

static void a_key_of_the_wrong_size_gets_no_traffic(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	scene_begin(&s, NULL);
	peer_connect(&p, &s);
	peer_register(&p, (struct peer_options){.short_key = true});
	run_for_ms(&s, 50);
	assert_false(p.closed);
	assert_int_equal(routable(&s), 0);
	peer_end(&p);
	scene_end(&s);
}

static void without_attestation_a_floor_of_none_is_needed(void **state)
{
	(void)state;
	struct scene s = scene_of((struct fleet_options){.min_trust = ROUTE_TRUST_NONE});
	struct peer p;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.unattested = true});
	assert_string_equal(p.order, "da"); /* nothing to say about trust */
	struct route_model_view view;
	assert_int_equal(fleet_models(s.fleet, &view, 1), 1);
	assert_int_equal(view.attested, 0);
	peer_end(&p);
	scene_end(&s);
}

static void garbage_is_dropped_and_the_connection_stays(void **state)
{
	(void)state;
	static const char *const texts[] = {
	    "",
	    "null",
	    "{",
	    "\xff\xfe",
	    "{\"type\":\"nonsense\"}",
	    "{\"type\":\"heartbeat\",\"status\":17}",
	    "{\"type\":\"register\",\"hardware\":{\"memory_gb\":63.5}}",
	    "{\"type\":\"inference_request\",\"request_id\":\"x\",\"encrypted_body\":{}}",
	    "{\"type\":\"attestation_response\",\"nonce\":\"A\",\"signature\":\"\",\"public_key\":\"\"}",
	    "{\"type\":\"inference_complete\",\"request_id\":\"nobody\",\"usage\":{}}",
	    "{\"type\":\"inference_error\",\"request_id\":\"\",\"error\":\"\",\"status_code\":0}",
	    "{\"type\":\"load_model_status\",\"model_id\":\"x\",\"status\":\"failed\"}",
	    "{\"type\":\"models_update\",\"models\":[{\"id\":\"\",\"size_bytes\":-1}]}",
	};
	struct scene s = scene_of(usual);
	struct peer p;
	scene_begin(&s, NULL);
	peer_connect(&p, &s);
	peer_beat(&p, 0, 4); /* before it registered */
	peer_register(&p, (struct peer_options){0});
	assert_true(run_until(&s, one_routable, &s));
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (strcmp(texts[i], "\xff\xfe") != 0)
			peer_send_text(&p, texts[i]);
	assert_int_equal(ws_send(p.ws, WS_BINARY, STR("\xff\xfe\x00")), DB_OK);
	run_for_ms(&s, 20);
	assert_false(p.closed);
	assert_int_equal(routable(&s), 1);
	peer_end(&p);
	scene_end(&s);
}

static bool nobody_is_registered(void *arg)
{
	return fleet_count(((struct scene *)arg)->fleet) == 0;
}

static void an_oversize_message_closes_the_connection(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	size_t len = WIRE_MAX_TO_COORDINATOR + 1;
	char *text = calloc(1, len);
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	memset(text, ' ', len);
	assert_int_equal(ws_send(p.ws, WS_TEXT, (struct str){text, len}), DB_OK);
	assert_true(run_until(&s, is_closed, &p));
	assert_int_equal(p.close_code, 1009);
	assert_true(run_until(&s, nobody_is_registered, &s));
	free(text);
	peer_end(&p);
	scene_end(&s);
}

static bool is_untrusted(void *arg)
{
	return strcmp(((struct peer *)arg)->status, "untrusted") == 0;
}

static bool is_online(void *arg)
{
	return strcmp(((struct peer *)arg)->status, "online") == 0;
}

static const struct fleet_options hurried = {
    .min_trust = ROUTE_TRUST_SELF_SIGNED, .challenge_interval_ms = 5, .challenge_timeout_ms = 30};

static void silence_untrusts_then_a_pass_restores(void **state)
{
	(void)state;
	struct scene s = scene_of(hurried);
	struct peer p;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	p.answer = ANSWER_SILENCE;
	assert_true(run_until(&s, is_untrusted, &p));
	assert_int_equal(routable(&s), 0);
	peer_beat(&p, 0, 4); /* never lifts it */
	p.answer = ANSWER_WELL;
	assert_true(run_until(&s, is_online, &p));
	assert_int_equal(routable(&s), 1);
	assert_false(p.closed);
	peer_end(&p);
	scene_end(&s);
}

static void lasting_silence_forces_a_fresh_registration(void **state)
{
	(void)state;
	struct scene s = scene_of(hurried);
	struct peer p;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	p.answer = ANSWER_SILENCE;
	int answered = p.challenges;
	assert_true(run_until(&s, is_closed, &p));
	assert_int_equal(p.close_code, 1008);
	assert_int_equal(p.challenges - answered >= 6, 1);
	peer_end(&p);
	scene_end(&s);
}

static bool is_hard(void *arg)
{
	struct scene *s = ((struct peer *)arg)->scene;
	return routable(s) == 0;
}

static void forged_replies_untrust_for_good(void **state)
{
	(void)state;
	struct scene s = scene_of(hurried);
	struct peer p;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	p.answer = ANSWER_FORGED;
	assert_true(run_until(&s, is_hard, &p)); /* eligibility goes with the first */
	assert_true(run_until(&s, is_untrusted, &p));
	p.answer = ANSWER_WELL;
	int challenges = p.challenges;
	run_for_ms(&s, 60);
	assert_int_equal(p.challenges, challenges); /* the loop has ended */
	assert_int_equal(routable(&s), 0);
	assert_false(p.closed);
	peer_end(&p);
	scene_end(&s);
}

static void posture_off_untrusts_at_once_and_silently(void **state)
{
	(void)state;
	struct scene s = scene_of(hurried);
	struct peer p;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	p.answer = ANSWER_SIP_OFF;
	assert_true(run_until(&s, is_hard, &p));
	run_for_ms(&s, 60);
	assert_int_equal(p.statuses, 1);
	struct fleet_provider_view view;
	fleet_each(s.fleet, take_view, &view);
	assert_string_equal(view.status, "untrusted");
	peer_end(&p);
	scene_end(&s);
}

static void the_newer_of_two_with_one_serial_stays_once_it_proved_itself(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer old, new, thief;
	scene_begin(&s, NULL);
	peer_join(&old, &s, (struct peer_options){.serial = "SERIAL0001"});
	peer_connect(&thief, &s); /* replays a blob but cannot answer */
	thief.answer = ANSWER_SILENCE;
	peer_register(&thief, (struct peer_options){.serial = "SERIAL0001"});
	run_for_ms(&s, 50);
	assert_false(old.closed);
	peer_connect(&new, &s);
	peer_register(&new, (struct peer_options){.serial = "SERIAL0001"});
	assert_true(run_until(&s, is_closed, &old));
	run_for_ms(&s, 10);
	assert_false(new.closed);
	assert_int_equal(routable(&s), 1);
	peer_end(&old);
	peer_end(&new);
	peer_end(&thief);
	scene_end(&s);
}

static void a_second_register_replaces_the_first(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	struct consumer c = {0};
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.serial = "SERIAL0001"});
	consumer_reach(&c, &p);
	peer_register(&p, (struct peer_options){.serial = "SERIAL0002", .model = "acme/other"});
	assert_true(run_until(&s, has_ended, &c));
	assert_int_equal(c.end.status, 502);
	assert_true(run_until(&s, one_routable, &s));
	struct fleet_provider_view view;
	fleet_each(s.fleet, take_view, &view);
	assert_true(str_is(view.serial, "SERIAL0002"));
	assert_int_equal(fleet_count(s.fleet), 1);
	assert_int_equal(consumer_start(&c, &s), DB_E_NOT_FOUND);
	peer_end(&p);
	scene_end(&s);
}

#define SILENT_MS 60

/* False when the machine stood still for so long that the lively one was silent too. */
static bool the_silent_are_dropped(void)
{
	struct scene s = scene_of((struct fleet_options){.min_trust = ROUTE_TRUST_SELF_SIGNED, .heartbeat_timeout_ms = SILENT_MS});
	struct peer quiet, lively, stranger;
	uint64_t longest_us = 0, last_us = clock_mono_us();
	scene_begin(&s, NULL);
	peer_join(&quiet, &s, (struct peer_options){0});
	peer_join(&lively, &s, (struct peer_options){0});
	peer_connect(&stranger, &s); /* never registers */
	for (int i = 0; i < 40; i++) {
		if (!lively.closed)
			peer_beat(&lively, 0, 4);
		run_for_ms(&s, 5);
		uint64_t now_us = clock_mono_us();
		longest_us = now_us - last_us > longest_us ? now_us - last_us : longest_us;
		last_us = now_us;
	}
	bool went_on = longest_us < SILENT_MS * 1000 / 2;
	if (went_on) {
		assert_true(quiet.closed);
		assert_true(stranger.closed);
		assert_false(lively.closed);
		assert_int_equal(fleet_count(s.fleet), 1);
	}
	peer_end(&quiet);
	peer_end(&lively);
	peer_end(&stranger);
	scene_end(&s);
	return went_on;
}

static void a_silent_provider_is_dropped(void **state)
{
	(void)state;
	bool went_on = false;
	for (int round = 0; round < 100 && !went_on; round++)
		went_on = the_silent_are_dropped();
	assert_true(went_on);
}

static bool is_warm(void *arg)
{
	struct route_model_view view;
	return fleet_models(((struct scene *)arg)->fleet, &view, 1) && view.warm == 1;
}

static void an_older_generation_is_warm_by_its_own_word(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	struct consumer c = {0};
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.backend = "inprocess-mlx", .version = "0.4.7"});
	assert_int_equal(p.desired, 0);
	peer_send_text(&p,
	               "{\"type\":\"heartbeat\",\"status\":\"idle\",\"active_model\":\"" MODEL
	               "\",\"stats\":{\"requests_served\":0,\"tokens_generated\":0},\"system_metrics\":{\"memory_pressure\":0.1,"
	               "\"cpu_usage\":0.1,\"thermal_state\":\"nominal\"}}");
	assert_true(run_until(&s, is_warm, &s));
	assert_int_equal(consumer_start(&c, &s), DB_OK);
	assert_false(c.decision.cold);
	fleet_job_cancel(c.job);
	peer_end(&p);
	scene_end(&s);
}

static bool is_out_of_routing(void *arg)
{
	return routable(arg) == 0;
}

static void a_draining_provider_gets_nothing_new(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	struct wire_message message = {
	    .type = WIRE_HEARTBEAT,
	    .as.heartbeat = {.status = WIRE_SERVING, .thermal_state = WIRE_THERMAL_NOMINAL, .draining = true}};
	peer_send(&p, &message);
	assert_true(run_until(&s, is_out_of_routing, &s));
	message.as.heartbeat.draining = false;
	peer_send(&p, &message);
	assert_true(run_until(&s, one_routable, &s));
	peer_end(&p);
	scene_end(&s);
}

static void models_are_added_by_an_update(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.model = "acme/other"});
	struct wire_model model = {.id = STR(MODEL), .size_bytes = 1000};
	struct wire_message message = {.type = WIRE_MODELS_UPDATE, .as.models_update = {{&model, 1}}};
	peer_send(&p, &message);
	run_for_ms(&s, 10);
	struct route_model_view views[4];
	assert_int_equal(fleet_models(s.fleet, views, 4), 2);
	assert_true(str_is(views[0].id, "acme/other"));
	assert_true(str_is(views[1].id, MODEL));
	peer_end(&p);
	scene_end(&s);
}

static void the_attestation_page_lists_providers(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	struct buf out;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.serial = "TESTSERIAL01"});
	buf_init(&out, 1 << 20);
	assert_int_equal(fleet_attestation_json(s.fleet, &out), DB_OK);
	struct json_doc *doc = json_parse(buf_str(&out), NULL, NULL);
	assert_non_null(doc);
	struct json_iter iter = json_iter(json_get(json_root(doc), "providers"));
	const json_val *provider = json_next(&iter, NULL);
	struct str text;
	bool flag;
	assert_true(json_as_str(json_get(provider, "serial_number"), &text) && str_is(text, "TESTSERIAL01"));
	assert_true(json_as_str(json_get(provider, "trust_level"), &text) && str_is(text, "self_signed"));
	assert_true(json_as_str(json_get(provider, "se_public_key"), &text) && str_is(text, p.signer_b64));
	assert_true(json_as_str(json_get(provider, "encryption_public_key"), &text) && str_is(text, p.key_b64));
	assert_true(json_as_str(json_get(provider, "platform"), &text) && str_is(text, "macos"));
	assert_true(json_as_str(json_get(provider, "key_protection"), &text) && str_is(text, "secure_enclave"));
	assert_true(json_as_bool(json_get(provider, "mdm_verified"), &flag) && !flag);
	assert_true(json_as_bool(json_get(provider, "mda_verified"), &flag) && !flag);
	assert_int_equal(json_len(json_get(provider, "models")), 1);
	assert_null(json_next(&iter, NULL));
	assert_int_equal(json_type(json_get(json_root(doc), "verification_instructions")), JSON_STRING);
	json_free(doc);
	buf_free(&out);
	peer_end(&p);
	scene_end(&s);
}

static void refused(struct ws *ws, const struct error *error, void *user)
{
	(void)error;
	*(int *)user = ws ? 1 : -1;
}

static bool is_set(void *arg)
{
	return *(int *)arg != 0;
}

static void a_draining_coordinator_takes_no_more_providers(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	char url[64];
	int result = 0;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	fleet_drain(s.fleet);
	snprintf(url, sizeof url, "ws://127.0.0.1:%u/ws/provider", http_server_port(s.server));
	struct ws_connect_options options = {.url = url};
	assert_non_null(ws_connect(s.loop, &options, &peer_handler, refused, &result, NULL));
	assert_true(run_until(&s, is_set, &result));
	assert_int_equal(result, -1);
	assert_false(p.closed);
	assert_int_equal(routable(&s), 1);
	peer_end(&p);
	scene_end(&s);
}

/* --- builds that aliases want --- */

#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct seen_builds {
	size_t count;
	struct fleet_build_view last;
};

static void take_build(const struct fleet_build_view *view, void *user)
{
	struct seen_builds *seen = user;
	seen->count++;
	seen->last = *view;
}

static struct seen_builds builds_of(const struct scene *s)
{
	struct seen_builds seen = {.count = 0};
	fleet_each_build(s->fleet, take_build, &seen);
	return seen;
}

static void wish(struct scene *s, const char *hash)
{
	struct error error;
	struct alias_change change = {
	    .id = STR("acme-chat"), .desired = STR("acme/new"), .previous = STR(MODEL), .weight_hash = str_of(hash)};
	if (fleet_alias_put(s->fleet, &change, &error))
		fail_msg("%s", error.text);
}

static void say(struct peer *p, const char *model, enum wire_prefetch_state status, int64_t done, int64_t total)
{
	struct wire_message message = {
	    .type = WIRE_PREFETCH_MODEL_STATUS,
	    .as.prefetch_model_status = {.model_id = str_of(model),
	                                 .status = status,
	                                 .bytes_done = done,
	                                 .bytes_total = total,
	                                 .error = status == WIRE_PREFETCH_FAILED ? STR("no room") : STR_NONE}};
	peer_send(p, &message);
	run_for_ms(p->scene, 20);
}

static void advertise(struct peer *p, const char *model, const char *hash)
{
	struct wire_model one = {.id = str_of(model), .weight_hash = str_of(hash)};
	struct wire_message message = {.type = WIRE_MODELS_UPDATE, .as.models_update = {{&one, 1}}};
	peer_send(p, &message);
	run_for_ms(p->scene, 20);
}

static size_t models_of(const struct scene *s)
{
	struct fleet_provider_view view;
	fleet_each(s->fleet, take_view, &view);
	return view.model_count;
}

static void what_a_provider_says_of_a_desired_build_is_kept_and_counted(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	size_t counts[FLEET_BUILD_STATES];
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.serial = "TESTSERIAL01"});
	wish(&s, HASH_A);
	run_for_ms(&s, 20);
	assert_string_equal(p.desired_build, "acme/new");
	assert_string_equal(p.desired_hash, HASH_A);
	static const enum wire_prefetch_state said[] = {WIRE_PREFETCH_PENDING, WIRE_PREFETCH_DOWNLOADING, WIRE_PREFETCH_VERIFYING,
	                                                WIRE_PREFETCH_LOADING, WIRE_PREFETCH_VERIFIED,    WIRE_PREFETCH_FAILED};
	for (int i = 0; i < FLEET_BUILD_STATES; i++) {
		say(&p, "acme/new", said[i], 1, 4);
		struct seen_builds seen = builds_of(&s);
		assert_int_equal(seen.count, 1);
		assert_int_equal(seen.last.state, i);
		assert_true(str_is(seen.last.model, "acme/new"));
		fleet_build_counts(s.fleet, STR("acme/new"), counts);
		for (int other = 0; other < FLEET_BUILD_STATES; other++)
			assert_int_equal(counts[other], other == i);
	}
	assert_true(str_is(builds_of(&s).last.why, "no room"));
	assert_true(builds_of(&s).last.progress > 0.24 && builds_of(&s).last.progress < 0.26);
	peer_end(&p);
	run_for_ms(&s, 20);
	assert_int_equal(builds_of(&s).count, 0);
	fleet_build_counts(s.fleet, STR("acme/new"), counts);
	assert_int_equal(counts[FLEET_BUILD_FAILED], 0);
	scene_end(&s);
}

static void words_about_builds_that_nobody_wants_are_not_kept(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.serial = "TESTSERIAL01"});
	say(&p, "acme/new", WIRE_PREFETCH_DOWNLOADING, 1, 4);
	assert_int_equal(builds_of(&s).count, 0);
	wish(&s, NULL);
	say(&p, "acme/other", WIRE_PREFETCH_DOWNLOADING, 1, 4);
	peer_send_text(&p, "{\"type\":\"prefetch_model_status\",\"model_id\":\"acme/new\",\"status\":\"perhaps\"}");
	run_for_ms(&s, 20);
	assert_int_equal(builds_of(&s).count, 0);
	say(&p, "acme/new", WIRE_PREFETCH_DOWNLOADING, 9, 4); /* more than all */
	assert_true(builds_of(&s).last.progress >= 1 && builds_of(&s).last.progress <= 1);
	assert_int_equal(fleet_alias_remove(s.fleet, STR("acme-chat")), DB_OK);
	assert_int_equal(builds_of(&s).count, 0);
	peer_end(&p);
	scene_end(&s);
}

static void a_build_with_other_files_than_the_pinned_ones_is_not_taken(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.serial = "TESTSERIAL01"});
	wish(&s, HASH_A);
	advertise(&p, "acme/new", HASH_B);
	advertise(&p, "acme/new", NULL);
	assert_int_equal(models_of(&s), 1); /* and the old build stays */
	advertise(&p, "acme/new", HASH_A);
	assert_int_equal(models_of(&s), 2);
	peer_end(&p);
	scene_end(&s);
}

static bool is_told(void *arg)
{
	const struct peer *p = arg;
	return p->desired_hash[0] != '\0';
}

static void who_has_other_files_of_a_build_is_told_which_are_wanted(void **state)
{
	(void)state;
	struct scene s = scene_of(usual);
	struct peer p;
	struct error error;
	struct alias_change change = {.id = STR("acme-chat"), .desired = STR(MODEL), .weight_hash = STR(HASH_B)};
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.serial = "TESTSERIAL01"});
	assert_int_equal(fleet_alias_put(s.fleet, &change, &error), DB_OK);
	assert_int_equal(models_of(&s), 0);
	assert_true(run_until(&s, is_told, &p));
	assert_string_equal(p.desired_build, MODEL);
	assert_string_equal(p.desired_hash, HASH_B);
	peer_end(&p);
	scene_end(&s);
}

int main(void)
{
	assert_int_equal(crypto_init(), DB_OK);
	log_set_level(LOG_OFF);
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_sound_provider_becomes_routable),
	    cmocka_unit_test(cores_beyond_counting_are_many),
	    cmocka_unit_test(a_walk_in_parts_meets_everybody_once_though_some_leave),
	    cmocka_unit_test(what_a_provider_says_of_a_desired_build_is_kept_and_counted),
	    cmocka_unit_test(words_about_builds_that_nobody_wants_are_not_kept),
	    cmocka_unit_test(a_build_with_other_files_than_the_pinned_ones_is_not_taken),
	    cmocka_unit_test(who_has_other_files_of_a_build_is_told_which_are_wanted),
	    cmocka_unit_test(a_software_key_on_linux_is_self_signed_and_says_so),
	    cmocka_unit_test(both_generations_and_ours_are_accepted_by_default),
	    cmocka_unit_test(missing_legs_keep_a_provider_unroutable),
	    cmocka_unit_test(a_key_of_the_wrong_size_gets_no_traffic),
	    cmocka_unit_test(without_attestation_a_floor_of_none_is_needed),
	    cmocka_unit_test(garbage_is_dropped_and_the_connection_stays),
	    cmocka_unit_test(an_oversize_message_closes_the_connection),
	    cmocka_unit_test(silence_untrusts_then_a_pass_restores),
	    cmocka_unit_test(lasting_silence_forces_a_fresh_registration),
	    cmocka_unit_test(forged_replies_untrust_for_good),
	    cmocka_unit_test(posture_off_untrusts_at_once_and_silently),
	    cmocka_unit_test(the_newer_of_two_with_one_serial_stays_once_it_proved_itself),
	    cmocka_unit_test(a_second_register_replaces_the_first),
	    cmocka_unit_test(a_silent_provider_is_dropped),
	    cmocka_unit_test(an_older_generation_is_warm_by_its_own_word),
	    cmocka_unit_test(a_draining_provider_gets_nothing_new),
	    cmocka_unit_test(models_are_added_by_an_update),
	    cmocka_unit_test(the_attestation_page_lists_providers),
	    cmocka_unit_test(a_draining_coordinator_takes_no_more_providers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
