/* An engine that hangs is noticed, its calls go elsewhere, its model is loaded anew. */
#include <sched.h>
#include <time.h>

#include "collect.h"

#include "core/log.h"
#include "provider/engine/engine_guard.h"

struct maker {
	atomic_int made, freed;
	int hang_first; /* so many engines hang */
	int fail_at;    /* this one cannot be made */
};

static struct engine *make(void *user, struct error *error)
{
	struct maker *maker = user;
	int number = atomic_fetch_add(&maker->made, 1) + 1;
	if (number == maker->fail_at) {
		error_set(error, DB_E_NOMEM, "no memory today");
		return NULL;
	}
	struct engine_script script = {.text = "one two three", .hang = number <= maker->hang_first, .max_concurrency = 2};
	return engine_scripted_new(&script, error);
}

static void forget_maker(void *user)
{
	atomic_fetch_add(&((struct maker *)user)->freed, 1);
}

static struct engine *guarded(struct maker *maker, uint32_t wedged_ms)
{
	struct error error = {0};
	struct engine_guard_options options = {.make = make,
	                                       .free_user = forget_maker,
	                                       .user = maker,
	                                       .poll_ms = 5,
	                                       .wedged_ms = wedged_ms,
	                                       .pinned_ms = 600000,
	                                       .cooldown_ms = 1};
	struct engine *engine = engine_guard_new(&options, &error);
	assert_non_null(engine);
	return engine;
}

/* On a very busy machine a healthy engine may look as if it hung. */
static void run_until_well(struct engine *engine, const struct request *request, struct collector *c)
{
	for (;;) {
		collector_init(c);
		if (submit_as(engine, request, "", c) == 0) {
			wait_end(c);
			if (!c->status)
				return;
		}
		collector_free(c);
	}
}

static void a_healthy_engine_is_forwarded_and_left_alone(void **state)
{
	(void)state;
	struct maker maker = {.made = 0};
	struct engine *engine = guarded(&maker, 60000);
	struct request request = ask("hello");
	for (int i = 0; i < 20; i++) {
		struct collector c;
		run(engine, &request, &c);
		assert_int_equal(c.status, 0);
		assert_int_equal(c.started, 1);
		assert_string_equal(content_of(&c), "one two three");
		collector_free(&c);
	}
	struct engine_info info;
	engine_info(engine, &info);
	assert_string_equal(info.architecture, "scripted");
	struct engine_capacity capacity;
	engine_capacity(engine, &capacity);
	assert_int_equal(capacity.requests_done, 20);
	assert_int_equal(engine_guard_restarts(engine), 0);
	request_free(&request);
	engine_free(engine);
	assert_int_equal(maker.made, 1);
	assert_int_equal(maker.freed, 1);
}

static void a_hung_engine_fails_its_calls_over_and_is_replaced(void **state)
{
	(void)state;
	struct maker maker = {.hang_first = 1};
	struct engine *engine = guarded(&maker, 200);
	struct request request = ask("hello");
	struct collector c[3], after; /* two run, one waits: all go elsewhere */
	for (int i = 0; i < 3; i++) {
		collector_init(&c[i]);
		submit(engine, &request, &c[i]);
	}
	for (int i = 0; i < 3; i++) {
		wait_end(&c[i]);
		assert_int_equal(c[i].status, 503);
		assert_int_equal(c[i].ends, 1);
		collector_free(&c[i]);
	}
	while (!engine_guard_restarts(engine))
		sched_yield();
	run_until_well(engine, &request, &after);
	assert_string_equal(content_of(&after), "one two three");
	collector_free(&after);
	request_free(&request);
	engine_free(engine);
	assert_true(maker.made >= 2);
	assert_int_equal(maker.freed, 1);
}

static void a_reload_that_fails_is_reported_and_tried_again(void **state)
{
	(void)state;
	struct maker maker = {.hang_first = 1, .fail_at = 2};
	struct engine *engine = guarded(&maker, 200);
	struct request request = ask("hello");
	struct collector c;
	run(engine, &request, &c);
	assert_int_equal(c.status, 503);
	collector_free(&c);
	while (engine_guard_restarts(engine) < 2) {
		struct engine_capacity capacity;
		engine_capacity(engine, &capacity);
		assert_false(capacity.crashed && capacity.reloading);
		sched_yield();
	}
	run_until_well(engine, &request, &c);
	collector_free(&c);
	request_free(&request);
	engine_free(engine);
	assert_true(maker.made >= 3);
}

static void a_paused_call_is_no_sign_of_hanging(void **state)
{
	(void)state;
	struct maker maker = {.hang_first = 1};
	struct engine *engine = guarded(&maker, 1000);
	struct request request = ask("hello");
	struct collector c;
	collector_init(&c);
	submit(engine, &request, &c);
	engine_pause(c.call);
	struct timespec while_it_could = {1, 500000000};
	nanosleep(&while_it_could, NULL);
	assert_int_equal(engine_guard_restarts(engine), 0);
	engine_cancel(c.call);
	wait_end(&c);
	assert_int_equal(c.status, 499);
	collector_free(&c);
	request_free(&request);
	engine_free(engine);
}

/* --- an engine without room --- */

/* Takes calls and never starts one, as if others held all memory. */
struct crowded {
	struct engine base;
	struct crowd *crowd;
	struct engine_call *call;
	struct engine_callbacks callbacks;
	void *user;
};

struct crowd {
	uint64_t budget_tokens;
	int engines; /* so many of the engines are crowded; 0 = one */
	bool refuses;
	atomic_int looks, made;
};

static void free_call(struct engine_call *call)
{
	free(call);
}

static int crowded_submit(struct engine *engine, const struct engine_request *request, const struct engine_callbacks *given,
                          void *user, struct engine_call **call, struct error *error)
{
	struct crowded *crowded = (struct crowded *)engine;
	(void)request;
	if (crowded->crowd->refuses) {
		error_set(error, DB_E_LIMIT, "token_budget_exhausted");
		return 503;
	}
	crowded->call = *call = calloc(1, sizeof **call);
	engine_call_init(*call, engine, free_call);
	engine_call_hold(*call);
	crowded->callbacks = *given;
	crowded->user = user;
	return 0;
}

static void crowded_cancel(struct engine_call *call)
{
	(void)call;
}

static void crowded_pause(struct engine_call *call, bool paused)
{
	(void)call;
	(void)paused;
}

static void crowded_info(const struct engine *engine, struct engine_info *out)
{
	(void)engine;
	(void)out;
}

static void crowded_capacity(struct engine *engine, struct engine_capacity *out)
{
	struct crowd *crowd = ((struct crowded *)engine)->crowd;
	out->waiting = 1;
	out->budget_max_tokens = crowd->budget_tokens;
	atomic_fetch_add(&crowd->looks, 1);
}

static void crowded_free(struct engine *engine)
{
	struct crowded *crowded = (struct crowded *)engine;
	const struct chat_usage nothing = {0};
	if (crowded->call) {
		crowded->callbacks.on_error(crowded->call, 503, ENGINE_REASON_NONE, "gone", &nothing, crowded->user);
		engine_call_release(crowded->call);
	}
	free(crowded);
}

static struct engine *make_crowded(void *user, struct error *error)
{
	static const struct engine_ops ops = {.submit = crowded_submit,
	                                      .cancel = crowded_cancel,
	                                      .set_paused = crowded_pause,
	                                      .info = crowded_info,
	                                      .capacity = crowded_capacity,
	                                      .free = crowded_free};
	struct crowd *crowd = user;
	if (atomic_fetch_add(&crowd->made, 1) >= (crowd->engines ? crowd->engines : 1))
		return engine_scripted_new(&(struct engine_script){.text = "one two three"}, error);
	struct crowded *crowded = calloc(1, sizeof *crowded);
	crowded->base.ops = &ops;
	crowded->crowd = crowd;
	return &crowded->base;
}

static struct engine *guard_crowd(struct crowd *crowd)
{
	struct error error;
	struct engine_guard_options options = {
	    .make = make_crowded, .user = crowd, .poll_ms = 2, .wedged_ms = 600000, .pinned_ms = 20, .cooldown_ms = 600000};
	struct engine *engine = engine_guard_new(&options, &error);
	assert_non_null(engine);
	return engine;
}

static void an_engine_that_stays_without_room_is_replaced(void **state)
{
	(void)state;
	struct crowd crowd = {.budget_tokens = 4096};
	struct engine *engine = guard_crowd(&crowd);
	struct request request = ask("hello");
	struct collector c;
	run(engine, &request, &c);
	assert_int_equal(c.status, 503);
	collector_free(&c);
	run_until_well(engine, &request, &c);
	assert_int_equal(engine_guard_restarts(engine), 1);
	collector_free(&c);
	request_free(&request);
	engine_free(engine);
}

static void an_engine_with_room_or_without_demand_is_left_alone(void **state)
{
	(void)state;
	for (int demand = 0; demand < 2; demand++) {
		struct crowd crowd = {.budget_tokens = demand ? 4097 : 0};
		struct engine *engine = guard_crowd(&crowd);
		struct request request = ask("hello");
		struct collector c;
		collector_init(&c);
		if (demand)
			submit(engine, &request, &c);
		while (atomic_load(&crowd.looks) < 40) /* many times as long as it takes to be without room */
			sched_yield();
		assert_int_equal(engine_guard_restarts(engine), 0);
		engine_free(engine);
		collector_free(&c);
		request_free(&request);
	}
}

static void what_was_refused_is_demand_too(void **state)
{
	(void)state;
	struct crowd crowd = {.budget_tokens = 4096, .refuses = true};
	struct engine *engine = guard_crowd(&crowd);
	struct request request = ask("hello");
	struct collector c;
	collector_init(&c);
	assert_int_equal(submit_as(engine, &request, "", &c), 503);
	collector_free(&c);
	while (!engine_guard_restarts(engine)) /* nobody asks again meanwhile */
		sched_yield();
	run_until_well(engine, &request, &c);
	assert_int_equal(engine_guard_restarts(engine), 1);
	collector_free(&c);
	request_free(&request);
	engine_free(engine);
}

static void an_engine_is_given_time_before_it_is_replaced_again(void **state)
{
	(void)state;
	struct crowd crowd = {.budget_tokens = 4096, .engines = 2};
	struct engine *engine = guard_crowd(&crowd);
	struct request request = ask("hello");
	struct collector c;
	run(engine, &request, &c);
	assert_int_equal(c.status, 503);
	collector_free(&c);
	collector_init(&c);
	while (submit_as(engine, &request, "", &c)) /* while it is reloaded */
		sched_yield();
	for (int before = atomic_load(&crowd.looks); atomic_load(&crowd.looks) < before + 40;)
		sched_yield();
	assert_int_equal(engine_guard_restarts(engine), 1);
	assert_int_equal(atomic_load(&crowd.made), 2);
	engine_free(engine);
	assert_int_equal(c.status, 503);
	collector_free(&c);
	request_free(&request);
}

static void freeing_the_guard_ends_every_call(void **state)
{
	(void)state;
	struct maker maker = {.hang_first = 1};
	struct error error;
	struct engine_guard_options options = {.make = make, .user = &maker};
	struct engine *engine = engine_guard_new(&options, &error);
	struct request request = ask("hello");
	struct collector c;
	collector_init(&c);
	submit(engine, &request, &c);
	engine_free(engine);
	assert_int_equal(c.ends, 1);
	assert_int_equal(c.status, 503);
	collector_free(&c);
	request_free(&request);
}

int main(void)
{
	log_set_level(LOG_ERROR);
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_healthy_engine_is_forwarded_and_left_alone),
	    cmocka_unit_test(a_hung_engine_fails_its_calls_over_and_is_replaced),
	    cmocka_unit_test(a_reload_that_fails_is_reported_and_tried_again),
	    cmocka_unit_test(a_paused_call_is_no_sign_of_hanging),
	    cmocka_unit_test(an_engine_that_stays_without_room_is_replaced),
	    cmocka_unit_test(an_engine_with_room_or_without_demand_is_left_alone),
	    cmocka_unit_test(what_was_refused_is_demand_too),
	    cmocka_unit_test(an_engine_is_given_time_before_it_is_replaced_again),
	    cmocka_unit_test(freeing_the_guard_ends_every_call),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
