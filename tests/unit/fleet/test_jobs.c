/* Requests on their way through the fleet: sealed both ways, accounted for at every end. */
#include "fleet_fixture.h"

static struct scene scene_usual(void)
{
	struct scene s = {.options = {.min_trust = ROUTE_TRUST_SELF_SIGNED}};
	return s;
}

static void a_request_and_its_answer(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer p;
	struct consumer c = {0};
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	consumer_reach(&c, &p);
	assert_string_equal(p.body, "{\"model\":\"" MODEL "\",\"messages\":[]}");
	assert_string_equal(p.request_id, fleet_job_id(c.job));
	assert_int_equal(p.credit, -1); /* it did not ask for credit */
	assert_false(fleet_job_has_credit(c.job));
	struct fleet_provider_view view;
	fleet_job_provider(c.job, &view);
	assert_string_equal(view.status, "serving");
	assert_int_equal(route_node_pending(fleet_job_node(c.job)), 1);

	struct wire_message accepted = {.type = WIRE_ACCEPTED, .as.accepted = {.request_id = str_of(p.request_id)}};
	peer_send(&p, &accepted);
	peer_chunk(&p, p.request_id, "data: one\n\n");
	peer_chunk(&p, p.request_id, "data: two\n\n");
	peer_complete(&p, p.request_id);
	assert_true(run_until(&s, has_ended, &c));
	assert_int_equal(c.accepted, 1);
	assert_int_equal(c.chunks, 2);
	assert_string_equal(c.text, "data: one\n\ndata: two\n\n");
	assert_int_equal(c.completed, 1);
	assert_int_equal(c.end.usage.prompt_tokens, 7);
	assert_int_equal(c.end.usage.completion_tokens, 2);
	assert_int_equal(route_node_pending(c.node), 0);

	peer_complete(&p, p.request_id); /* again: late, ignored */
	run_for_ms(&s, 5);
	assert_int_equal(c.completed, 1);
	assert_int_equal(routable(&s), 1);
	peer_end(&p);
	scene_end(&s);
}

/* The name under which a provider keeps an account's cached prefixes. */
static void tenant_of(struct scene *s, struct peer *p, const char *account, const char *body, char out[80])
{
	struct consumer c = {.account = account, .body = str_of(body)};
	p->cache_tenant[0] = '\0';
	consumer_reach(&c, p);
	memcpy(out, p->cache_tenant, 80);
	fleet_job_cancel(c.job);
	run_for_ms(s, 3);
}

static void a_provider_tells_accounts_apart_without_knowing_them(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer p;
	char a[80], again[80], b[80], nobody[80], large[80];
	char *body = malloc(80000);
	memset(body, ' ', 79999);
	body[0] = '{';
	body[79998] = '}';
	body[79999] = '\0';
	memset(s.options.tenant_key, 7, sizeof s.options.tenant_key);
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	tenant_of(&s, &p, "account-a", "", a);
	tenant_of(&s, &p, "account-a", "", again);
	tenant_of(&s, &p, "account-b", "", b);
	tenant_of(&s, &p, NULL, "", nobody);
	tenant_of(&s, &p, "account-a", body, large); /* sealed on a worker */
	assert_int_equal(strlen(a), 64);
	assert_string_equal(a, again);
	assert_string_equal(a, large);
	assert_string_not_equal(a, b);
	assert_string_equal(nobody, "");
	assert_null(strstr(a, "account"));
	peer_end(&p);
	peer_join(&p, &s, (struct peer_options){0}); /* another device: another name for the same account */
	tenant_of(&s, &p, "account-a", "", again);
	assert_int_equal(strlen(again), 64);
	assert_string_not_equal(a, again);
	peer_end(&p);
	scene_end(&s);
	free(body);
}

static void every_attempt_has_keys_of_its_own(void **state)
{
	(void)state;
	enum { COUNT = 40 };
	struct scene s = scene_usual();
	struct peer p;
	struct box_shared seen[COUNT];
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	for (int i = 0; i < COUNT; i++) {
		struct consumer c = {0};
		consumer_reach(&c, &p);
		seen[i] = p.shared;
		for (int other = 0; other < i; other++)
			assert_memory_not_equal(&seen[i], &seen[other], sizeof seen[i]);
		peer_complete(&p, p.request_id);
		assert_true(run_until(&s, has_ended, &c));
	}
	uint64_t ahead = metric_count(metrics_counter(s.metrics, "darkbloom_request_keys_total", "made=\"ahead\"", ""));
	uint64_t now = metric_count(metrics_counter(s.metrics, "darkbloom_request_keys_total", "made=\"inline\"", ""));
	assert_int_equal(ahead + now, COUNT);
	assert_true(ahead > 0);
	peer_end(&p);
	scene_end(&s);
}

static void large_requests_are_sealed_apart(void **state)
{
	(void)state;
	enum { LARGE = 300000 };
	struct scene s = scene_usual();
	struct peer p;
	char *body = malloc(LARGE);
	struct consumer c = {.body = {body, LARGE}}, gone = {.body = {body, LARGE}};
	assert_non_null(body);
	memset(body, 'x', LARGE);
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	assert_int_equal(consumer_start(&gone, &s), DB_OK);
	fleet_job_cancel(gone.job); /* before it was ready: never sent */
	assert_int_equal(consumer_start(&c, &s), DB_OK);
	memset(body, 0, LARGE); /* the fleet has its own copy */
	assert_true(run_until(&s, has_request, &p));
	assert_int_equal(p.body_len, LARGE);
	assert_string_equal(p.request_id, fleet_job_id(c.job));
	run_for_ms(&s, 20);
	assert_int_equal(p.requests, 1);
	peer_complete(&p, p.request_id);
	assert_true(run_until(&s, has_ended, &c));
	assert_int_equal(c.completed, 1);
	assert_int_equal(consumer_start(&c, &s), DB_OK);
	free(body);
	peer_end(&p);
	scene_end(&s);
}

enum bad_chunk { PLAIN_TEXT, BOTH, NO_PAYLOAD, FOREIGN_KEY, NOT_BASE64, TOO_SHORT, FLIPPED, OLD_JOB };

static void send_bad_chunk(struct peer *p, enum bad_chunk kind, const struct box_shared *old)
{
	struct buf sealed, cipher;
	struct wire_message message = {.type = WIRE_CHUNK, .as.chunk = {.request_id = str_of(p->request_id)}};
	struct wire_chunk *chunk = &message.as.chunk;
	uint8_t bytes[8 + BOX_OVERHEAD];
	char text[BASE64_ENCODED_LEN(sizeof bytes)];
	struct str plain = STR("data: x\n");
	buf_init(&sealed, 1 << 16);
	buf_init(&cipher, 1 << 16);
	box_seal(kind == OLD_JOB ? old : &p->shared, plain.at, plain.len, bytes);
	if (kind == FLIPPED)
		bytes[sizeof bytes - 1] ^= 1;
	chunk->has_encrypted_data = kind != PLAIN_TEXT && kind != NO_PAYLOAD;
	chunk->data = kind == PLAIN_TEXT || kind == BOTH ? plain : STR_NONE;
	chunk->encrypted_data.sender_key =
	    kind == FOREIGN_KEY ? STR("e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM=") : str_of(p->key_b64);
	chunk->encrypted_data.ciphertext = (struct str){text, base64_encode(bytes, sizeof bytes, text)};
	if (kind == NOT_BASE64)
		chunk->encrypted_data.ciphertext = STR("!!!!");
	if (kind == TOO_SHORT)
		chunk->encrypted_data.ciphertext = STR("AAAAAAAA");
	peer_send(p, &message);
	buf_free(&sealed);
	buf_free(&cipher);
}

static void a_bad_chunk_untrusts_and_fails_the_request(void **state)
{
	(void)state;
	for (enum bad_chunk kind = PLAIN_TEXT; kind <= OLD_JOB; kind++) {
		struct scene s = scene_usual();
		struct peer p;
		struct consumer first = {0}, c = {0};
		scene_begin(&s, NULL);
		peer_join(&p, &s, (struct peer_options){0});
		consumer_reach(&first, &p);
		struct box_shared old = p.shared;
		peer_complete(&p, p.request_id);
		assert_true(run_until(&s, has_ended, &first));
		consumer_reach(&c, &p);
		send_bad_chunk(&p, kind, &old);
		assert_true(run_until(&s, has_ended, &c));
		assert_int_equal(c.failed, 1);
		assert_int_equal(c.chunks, 0);
		assert_int_equal(c.end.status, 502);
		assert_true(c.end.provider_fault);
		assert_int_equal(routable(&s), 0);
		assert_int_equal(consumer_start(&c, &s), DB_E_NOT_FOUND);
		assert_int_equal(c.decision.by_gate[ROUTE_UNTRUSTED], 1);
		run_for_ms(&s, 5);
		assert_false(p.closed); /* only a new connection cures it */
		assert_int_equal(p.cancels, 1);
		peer_end(&p);
		scene_end(&s);
	}
}

static void chunks_for_nobody_are_dropped_and_cancelled_once(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer p;
	struct consumer c = {0};
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	consumer_reach(&c, &p);
	for (int i = 0; i < 5; i++)
		peer_chunk(&p, "3f0e0000-0000-4000-8000-000000000000", "data: x\n\n");
	run_for_ms(&s, 10);
	assert_int_equal(p.cancels, 1);
	assert_string_equal(p.cancelled_id, "3f0e0000-0000-4000-8000-000000000000");
	assert_int_equal(routable(&s), 1); /* no violation */
	assert_int_equal(c.chunks, 0);
	peer_complete(&p, p.request_id);
	assert_true(run_until(&s, has_ended, &c));
	peer_end(&p);
	scene_end(&s);
}

static void nobody_can_answer_for_another(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer a, b;
	struct consumer c = {0};
	scene_begin(&s, NULL);
	peer_join(&a, &s, (struct peer_options){0});
	peer_join(&b, &s, (struct peer_options){0});
	assert_int_equal(consumer_start(&c, &s), DB_OK);
	run_for_ms(&s, 10);
	struct peer *busy = a.requests ? &a : &b, *other = a.requests ? &b : &a;
	other->shared = busy->shared;
	peer_chunk(other, busy->request_id, "data: not mine\n\n");
	peer_complete(other, busy->request_id);
	peer_error(other, busy->request_id, 500, "boom");
	run_for_ms(&s, 10);
	assert_int_equal(c.chunks + c.completed + c.failed, 0);
	assert_int_equal(routable(&s), 2);
	peer_chunk(busy, busy->request_id, "data: mine\n\n");
	peer_complete(busy, busy->request_id);
	assert_true(run_until(&s, has_ended, &c));
	assert_string_equal(c.text, "data: mine\n\n");
	peer_end(&a);
	peer_end(&b);
	scene_end(&s);
}

static bool was_cancelled(void *arg)
{
	return ((struct peer *)arg)->cancels > 0;
}

static void a_cancelled_job_is_forgotten(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer p;
	struct consumer c = {0};
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	consumer_reach(&c, &p);
	fleet_job_cancel(c.job);
	assert_int_equal(route_node_pending(c.node), 0);
	assert_true(run_until(&s, was_cancelled, &p));
	assert_string_equal(p.cancelled_id, p.request_id);
	peer_error(&p, p.request_id, 499, "request cancelled");
	run_for_ms(&s, 5);
	assert_int_equal(c.completed + c.failed, 0);
	peer_end(&p);
	scene_end(&s);
}

static void a_parked_job_tells_its_end_but_no_chunks(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer p;
	struct consumer c = {0};
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	consumer_reach(&c, &p);
	peer_chunk(&p, p.request_id, "data: seen\n\n");
	assert_true(run_until(&s, has_chunk, &c));
	fleet_job_park(c.job);
	assert_true(run_until(&s, was_cancelled, &p));
	peer_chunk(&p, p.request_id, "data: unseen\n\n");
	peer_complete(&p, p.request_id);
	assert_true(run_until(&s, has_ended, &c));
	assert_int_equal(c.completed, 1);
	assert_int_equal(c.chunks, 1);
	assert_int_equal(c.end.usage.completion_tokens, 2);
	peer_end(&p);
	scene_end(&s);
}

static void a_lost_provider_fails_its_requests(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer p;
	struct consumer c[3] = {0};
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	for (int i = 0; i < 3; i++)
		assert_int_equal(consumer_start(&c[i], &s), DB_OK);
	ws_abort(p.ws);
	assert_true(run_until(&s, has_ended, &c[2]));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(c[i].failed, 1);
		assert_int_equal(c[i].end.status, 502);
		assert_true(c[i].end.provider_fault);
		assert_string_equal(c[i].error, "provider disconnected");
	}
	assert_int_equal(fleet_count(s.fleet), 0);
	assert_int_equal(consumer_start(&c[0], &s), DB_E_NOT_FOUND);
	peer_end(&p);
	scene_end(&s);
}

static void errors_are_classified_and_load_failures_cool_the_model(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer p;
	struct consumer c = {0};
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	consumer_reach(&c, &p);
	peer_error(&p, p.request_id, 503, "provider draining for update");
	assert_true(run_until(&s, has_ended, &c));
	assert_int_equal(c.end.status, 503);
	assert_true(c.end.capacity);
	assert_false(c.end.provider_fault);
	assert_int_equal(routable(&s), 1);

	c = (struct consumer){0};
	consumer_reach(&c, &p);
	peer_error(&p, p.request_id, 7, "boom"); /* no HTTP status of an error */
	assert_true(run_until(&s, has_ended, &c));
	assert_int_equal(c.end.status, 502);

	c = (struct consumer){0};
	consumer_reach(&c, &p);
	peer_error(&p, p.request_id, 503, "insufficient memory to load model 'x'");
	assert_true(run_until(&s, has_ended, &c));
	assert_int_equal(routable(&s), 0);
	assert_int_equal(consumer_start(&c, &s), DB_E_NOT_FOUND);
	assert_int_equal(c.decision.by_gate[ROUTE_COOLING], 1);
	peer_end(&p);
	scene_end(&s);
}

static bool has_credit(void *arg)
{
	return ((struct peer *)arg)->credits > 0;
}

static void credit_is_granted_in_batches(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer p;
	struct consumer c = {0};
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){.flow_credit = true});
	consumer_reach(&c, &p);
	assert_int_equal(p.credit, 64);
	assert_true(fleet_job_has_credit(c.job));
	for (int i = 0; i < 31; i++)
		fleet_job_consumed(c.job, 1);
	run_for_ms(&s, 5);
	assert_int_equal(p.credits, 0);
	fleet_job_consumed(c.job, 1);
	assert_true(run_until(&s, has_credit, &p));
	assert_int_equal(p.granted, 32);
	fleet_job_consumed(c.job, 100);
	run_for_ms(&s, 5);
	assert_int_equal(p.granted, 132);
	fleet_job_cancel(c.job);
	peer_end(&p);
	scene_end(&s);
}

/* --- waiting --- */

struct waiting {
	struct fleet_waiter waiter;
	struct scene *scene;
	struct consumer consumer;
	bool picky; /* never satisfied */
	int woken, *turn, place;
};

static const struct route_request any_request = {.model = STR(MODEL), .prompt_tokens = 10, .max_tokens = 10};

static void on_wake(struct fleet_waiter *waiter)
{
	struct waiting *w = LIST_OF(waiter, struct waiting, waiter);
	w->woken++;
	if (w->picky || consumer_start(&w->consumer, w->scene) != DB_OK)
		assert_int_equal(fleet_wait(w->scene->fleet, &any_request, waiter, true), DB_OK);
	else
		w->place = ++*w->turn;
}

static bool is_full(void *arg)
{
	struct consumer probe = {0};
	enum db_err err = consumer_start(&probe, arg);
	if (!err)
		fleet_job_cancel(probe.job);
	return err == DB_E_AGAIN;
}

static bool is_served(void *arg)
{
	return ((struct waiting *)arg)->place > 0;
}

static void waiters_go_in_order_and_keep_their_place(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer p;
	struct waiting w[11] = {0};
	int turn = 0;
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	peer_beat(&p, 1, 1);
	assert_true(run_until(&s, is_full, &s));
	for (int i = 0; i < 11; i++) {
		w[i] = (struct waiting){.waiter = {.wake = on_wake}, .scene = &s, .picky = i == 0, .turn = &turn};
		assert_int_equal(fleet_wait(s.fleet, &any_request, &w[i].waiter, false), i < 10 ? DB_OK : DB_E_LIMIT);
	}
	assert_int_equal(fleet_waiting(s.fleet, STR(MODEL)), 10);
	peer_beat(&p, 0, 1); /* a place for one */
	assert_true(run_until(&s, is_served, &w[1]));
	assert_int_equal(w[1].place, 1);
	assert_int_equal(w[2].place, 0);
	assert_int_equal(fleet_waiting(s.fleet, STR(MODEL)), 9);
	int woken = w[3].woken;
	fleet_wait_cancel(&w[3].waiter);
	fleet_wait_cancel(&w[3].waiter); /* harmless again */
	fleet_job_cancel(w[1].consumer.job);
	assert_true(run_until(&s, is_served, &w[2]));
	fleet_job_cancel(w[2].consumer.job);
	assert_true(run_until(&s, is_served, &w[4])); /* the third had left */
	assert_int_equal(w[3].woken, woken);
	assert_int_equal(w[4].place, 3);
	assert_int_equal(w[0].place, 0);
	assert_int_equal(fleet_waiting(s.fleet, STR(MODEL)), 6);
	fleet_job_cancel(w[4].consumer.job);
	for (int i = 0; i < 10; i++)
		fleet_wait_cancel(&w[i].waiter);
	assert_int_equal(fleet_waiting(s.fleet, STR(MODEL)), 0);
	for (int i = 5; i < 10; i++)
		if (w[i].consumer.job)
			fleet_job_cancel(w[i].consumer.job);
	peer_end(&p);
	scene_end(&s);
}

static void beat_cold(struct peer *p, double free_gb)
{
	struct wire_message message = {
	    .type = WIRE_HEARTBEAT,
	    .as.heartbeat = {.status = WIRE_IDLE,
	                     .thermal_state = WIRE_THERMAL_NOMINAL,
	                     .has_capacity = true,
	                     .capacity = {.total_memory_gb = 64, .has_free_for_load = true, .free_for_load_gb = free_gb}},
	};
	peer_send(p, &message);
}

static bool has_load(void *arg)
{
	return ((struct peer *)arg)->loads > 0;
}

static bool both_are_cold(void *arg)
{
	struct route_model_view model[2];
	const struct scene *s = arg;
	return fleet_models(s->fleet, model, 2) == 1 && model[0].routable == 2 && model[0].warm == 0;
}

/* Routing 22: the load planner knows what those that wait ask for. */
static void a_queue_of_tools_is_loaded_for_where_tools_can_be_called(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer roomy, able;
	struct waiting w = {.waiter = {.wake = on_wake}, .scene = &s, .picky = true};
	struct route_request tools = any_request;
	tools.tools = true;
	scene_begin(&s, NULL);
	peer_join(&roomy, &s, (struct peer_options){.version = "0.6.2", .serial = "ROOMY"}); /* before tools were safe */
	peer_join(&able, &s, (struct peer_options){.version = "0.6.3", .serial = "ABLE"});
	beat_cold(&roomy, 60);
	beat_cold(&able, 20);
	assert_true(run_until(&s, both_are_cold, &s));
	assert_int_equal(fleet_wait(s.fleet, &tools, &w.waiter, false), DB_OK);
	assert_true(run_until(&s, has_load, &able));
	run_for_ms(&s, 20);
	assert_int_equal(roomy.loads, 0);
	fleet_wait_cancel(&w.waiter);
	peer_end(&roomy);
	peer_end(&able);
	scene_end(&s);
}

static void the_fleet_ends_with_everything_open(void **state)
{
	(void)state;
	struct scene s = scene_usual();
	struct peer p;
	struct consumer c = {0};
	struct waiting w = {.waiter = {.wake = on_wake}, .scene = &s, .picky = true};
	scene_begin(&s, NULL);
	peer_join(&p, &s, (struct peer_options){0});
	consumer_reach(&c, &p);
	assert_int_equal(fleet_wait(s.fleet, &any_request, &w.waiter, false), DB_OK);
	peer_beat(&p, 0, 1);
	run_for_ms(&s, 2);
	fleet_free(s.fleet);
	assert_int_equal(c.failed, 1);
	assert_true(run_until(&s, is_closed, &p));
	http_server_free(s.server);
	p256_free(p.signer);
	net_loop_free(s.loop);
	metrics_free(s.metrics);
}

int main(void)
{
	assert_int_equal(crypto_init(), DB_OK);
	log_set_level(LOG_OFF);
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_request_and_its_answer),
	    cmocka_unit_test(a_provider_tells_accounts_apart_without_knowing_them),
	    cmocka_unit_test(every_attempt_has_keys_of_its_own),
	    cmocka_unit_test(large_requests_are_sealed_apart),
	    cmocka_unit_test(a_bad_chunk_untrusts_and_fails_the_request),
	    cmocka_unit_test(chunks_for_nobody_are_dropped_and_cancelled_once),
	    cmocka_unit_test(nobody_can_answer_for_another),
	    cmocka_unit_test(a_cancelled_job_is_forgotten),
	    cmocka_unit_test(a_parked_job_tells_its_end_but_no_chunks),
	    cmocka_unit_test(a_lost_provider_fails_its_requests),
	    cmocka_unit_test(errors_are_classified_and_load_failures_cool_the_model),
	    cmocka_unit_test(credit_is_granted_in_batches),
	    cmocka_unit_test(waiters_go_in_order_and_keep_their_place),
	    cmocka_unit_test(a_queue_of_tools_is_loaded_for_where_tools_can_be_called),
	    cmocka_unit_test(the_fleet_ends_with_everything_open),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
