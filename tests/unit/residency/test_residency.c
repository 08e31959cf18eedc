/* Models come and go on the scripted engine; the machine's memory is what the test says it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/log.h"
#include "provider/residency/residency.h"

#define GIB        (UINT64_C(1) << 30)
#define WAIT_TICKS 30000
#define USES       8

struct asked {
	struct residency_use use;
	struct engine *engine;
	int result; /* of residency_acquire */
	int ready, status;
	char why[160];
};

struct world {
	struct net_loop *loop;
	struct residency *residency;
	struct residency_options options;
	struct memory_now memory;
	atomic_int loads, failing;
	atomic_bool held; /* loads wait */
	int changes;
	struct asked asked[USES];
	struct net_timer tick;
	int ticks;
	bool (*until)(struct world *world);
};

static void on_tick(struct net_timer *timer)
{
	struct world *world = LIST_OF(timer, struct world, tick);
	if (!world->until(world) && ++world->ticks < WAIT_TICKS)
		return;
	net_timer_stop(timer);
	net_loop_stop(world->loop);
}

static void run_until(struct world *world, bool (*until)(struct world *world))
{
	world->until = until;
	world->ticks = 0;
	net_timer_start(world->loop, &world->tick, 0, 1, on_tick);
	net_loop_run(world->loop);
	assert_true(until(world));
}

static void memory(struct memory_now *out, void *context)
{
	const struct world *world = context;
	*out = world->memory;
	for (size_t i = 0; world->residency && i < residency_count(world->residency); i++) {
		struct residency_view view;
		residency_view(world->residency, i, &view);
		if (view.state == RESIDENCY_LOADED || view.state == RESIDENCY_UNLOADING)
			out->available_gb -= memory_estimate_gb(view.model->size_bytes);
	}
}

static struct engine *load(const struct residency_model *model, void (*progress)(float fraction, void *user), void *user,
                           void *context, struct error *error)
{
	static const struct engine_script script = {.text = "word"};
	struct world *world = context;
	(void)model;
	atomic_fetch_add(&world->loads, 1);
	progress(0.5f, user);
	while (atomic_load(&world->held))
		usleep(1000);
	if (atomic_load(&world->failing)) {
		error_set(error, DB_E_IO, "the file is damaged");
		return NULL;
	}
	return engine_scripted_new(&script, error);
}

static void on_change(void *user)
{
	((struct world *)user)->changes++;
}

static void open_world(struct world *world, uint32_t max_loaded)
{
	struct error error;
	*world = (struct world){.memory = {.physical_gb = 64, .available_gb = 60}};
	log_set_level(LOG_ERROR);
	world->loop = net_loop_new(&error);
	world->options = (struct residency_options){.max_loaded = max_loaded,
	                                            .poll_ms = 1,
	                                            .policy = memory_policy_of(64, 4),
	                                            .memory = memory,
	                                            .load = load,
	                                            .context = world};
	world->residency = residency_new(world->loop, &world->options);
	residency_on_change(world->residency, on_change, world);
}

static void close_world(struct world *world)
{
	for (size_t i = 0; i < USES; i++)
		residency_release(&world->asked[i].use);
	atomic_store(&world->held, false);
	residency_free(world->residency);
	net_loop_free(world->loop);
}

static void add(struct world *world, const char *id, double gb, bool pinned)
{
	struct residency_model model = {.size_bytes = (uint64_t)(gb * (double)GIB), .pinned = pinned};
	snprintf(model.id, sizeof model.id, "%s", id);
	assert_int_equal(residency_add(world->residency, &model, NULL), DB_OK);
}

static void on_ready(struct residency_use *use, struct engine *engine, int status, const char *why)
{
	struct asked *asked = LIST_OF(use, struct asked, use);
	asked->ready++;
	asked->engine = engine;
	asked->status = status;
	snprintf(asked->why, sizeof asked->why, "%.150s", why ? why : "");
}

static struct asked *ask(struct world *world, size_t i, const char *id)
{
	struct asked *asked = &world->asked[i];
	struct error error = {0};
	residency_release(&asked->use);
	*asked = (struct asked){.use.ready = on_ready};
	asked->result = residency_acquire(world->residency, str_of(id), &asked->use, &asked->engine, &error);
	if (asked->result > 0)
		snprintf(asked->why, sizeof asked->why, "%.150s", error.text);
	return asked;
}

static enum residency_state state_of(const struct world *world, size_t i)
{
	struct residency_view view;
	residency_view(world->residency, i, &view);
	return view.state;
}

static bool all_answered(struct world *world)
{
	for (size_t i = 0; i < USES; i++)
		if (world->asked[i].result == RESIDENCY_LATER && world->asked[i].use.entry && !world->asked[i].ready)
			return false;
	return true;
}

static bool first_is_loading(struct world *world)
{
	return state_of(world, 0) == RESIDENCY_LOADING && atomic_load(&world->loads) > 0;
}

static bool first_is_cold(struct world *world)
{
	return state_of(world, 0) == RESIDENCY_COLD;
}

static bool second_is_cold(struct world *world)
{
	return state_of(world, 1) == RESIDENCY_COLD;
}

/* --- tests --- */

static void a_model_is_loaded_when_it_is_asked_for_and_once_for_all(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 3);
	add(&world, "a", 4, false);
	atomic_store(&world.held, true);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(ask(&world, i, "a")->result, RESIDENCY_LATER);
	run_until(&world, first_is_loading);
	struct residency_view view;
	residency_view(world.residency, 0, &view);
	assert_true(view.progress > 0.4f && view.progress < 0.6f);
	atomic_store(&world.held, false);
	run_until(&world, all_answered);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(world.asked[i].ready, 1);
		assert_int_equal(world.asked[i].status, 0);
		assert_non_null(world.asked[i].engine);
	}
	assert_int_equal(atomic_load(&world.loads), 1);
	struct asked *again = ask(&world, 3, "a");
	assert_int_equal(again->result, 0);
	assert_ptr_equal(again->engine, world.asked[0].engine);
	assert_true(world.changes >= 2);
	close_world(&world);
}

static void what_is_not_offered_is_not_found(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 3);
	assert_int_equal(ask(&world, 0, "b")->result, 404);
	close_world(&world);
}

static void the_longest_unused_leaves_for_another(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 2);
	add(&world, "a", 1, false);
	add(&world, "b", 1, false);
	add(&world, "c", 1, false);
	ask(&world, 0, "a");
	run_until(&world, all_answered);
	ask(&world, 1, "b");
	run_until(&world, all_answered);
	residency_release(&world.asked[1].use); /* b rests longer than a */
	residency_release(&world.asked[0].use);
	ask(&world, 2, "c");
	run_until(&world, all_answered);
	assert_int_equal(world.asked[2].status, 0);
	assert_int_equal(state_of(&world, 0), RESIDENCY_LOADED);
	assert_int_equal(state_of(&world, 1), RESIDENCY_COLD);
	assert_int_equal(state_of(&world, 2), RESIDENCY_LOADED);
	close_world(&world);
}

static void what_is_held_is_counted_until_it_has_left_and_the_most_is_remembered(void **state)
{
	struct world world;
	struct residency_memory memory;
	(void)state;
	open_world(&world, 2);
	add(&world, "a", 1, false);
	add(&world, "b", 2, false);
	add(&world, "c", 4, false);
	residency_memory(world.residency, &memory);
	assert_true(memory.held_bytes == 0 && memory.peak_bytes == 0);
	ask(&world, 0, "a");
	run_until(&world, all_answered);
	residency_memory(world.residency, &memory);
	assert_true(memory.held_bytes == GIB && memory.peak_bytes == GIB);
	ask(&world, 1, "b");
	run_until(&world, all_answered);
	residency_release(&world.asked[0].use);
	ask(&world, 2, "c"); /* a leaves for it */
	run_until(&world, all_answered);
	residency_memory(world.residency, &memory);
	assert_true(memory.held_bytes == 6 * GIB && memory.peak_bytes == 6 * GIB);
	residency_release(&world.asked[2].use);
	ask(&world, 3, "a"); /* c leaves */
	run_until(&world, all_answered);
	residency_memory(world.residency, &memory);
	assert_true(memory.held_bytes == 3 * GIB && memory.peak_bytes == 6 * GIB);
	close_world(&world);
}

static void what_is_used_or_pinned_stays(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 2);
	add(&world, "a", 1, false);
	add(&world, "pinned", 1, true);
	add(&world, "c", 1, false);
	ask(&world, 0, "a");
	ask(&world, 1, "pinned");
	run_until(&world, all_answered);
	residency_release(&world.asked[1].use);
	struct asked *refused = ask(&world, 2, "c");
	assert_int_equal(refused->result, 503);
	assert_non_null(strstr(refused->why, "all 2 model slots are active"));
	assert_true(residency_free_for_load_gb(world.residency) <= 0);
	residency_release(&world.asked[0].use);
	assert_true(residency_free_for_load_gb(world.residency) > 40);
	assert_int_equal(ask(&world, 2, "c")->result, RESIDENCY_LATER);
	run_until(&world, all_answered);
	assert_int_equal(world.asked[2].status, 0);
	assert_int_equal(state_of(&world, 0), RESIDENCY_COLD);
	assert_int_equal(state_of(&world, 1), RESIDENCY_LOADED);
	close_world(&world);
}

static void what_can_never_fit_is_refused_at_once(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 3);
	add(&world, "small", 1, false);
	add(&world, "huge", 50, false);
	struct asked *refused = ask(&world, 0, "huge");
	assert_int_equal(refused->result, 503);
	assert_non_null(strstr(refused->why, "insufficient memory"));
	assert_int_equal(atomic_load(&world.loads), 0);
	close_world(&world);
}

static void memory_of_pinned_models_is_not_counted_on(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 3);
	add(&world, "pinned", 20, true);
	add(&world, "large", 25, false);
	ask(&world, 0, "pinned");
	run_until(&world, all_answered);
	residency_release(&world.asked[0].use);
	struct asked *refused = ask(&world, 1, "large");
	assert_int_equal(refused->result, 503);
	assert_non_null(strstr(refused->why, "insufficient memory"));
	assert_true(residency_free_for_load_gb(world.residency) < 30);
	close_world(&world);
}

static void models_leave_for_one_that_needs_their_memory(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 3);
	add(&world, "a", 10, false);
	add(&world, "b", 10, false);
	add(&world, "large", 28, false);
	ask(&world, 0, "a");
	ask(&world, 1, "b");
	run_until(&world, all_answered);
	residency_release(&world.asked[0].use);
	residency_release(&world.asked[1].use);
	ask(&world, 2, "large");
	run_until(&world, all_answered);
	assert_int_equal(world.asked[2].status, 0);
	assert_int_equal(state_of(&world, 0), RESIDENCY_COLD);
	assert_int_equal(state_of(&world, 1), RESIDENCY_LOADED); /* no more leave than must */
	close_world(&world);
}

static void a_load_that_fails_is_said_to_all_and_may_be_tried_again(void **state)
{
	struct world world;
	struct residency_view view;
	(void)state;
	open_world(&world, 3);
	add(&world, "a", 1, false);
	atomic_store(&world.failing, 1);
	ask(&world, 0, "a");
	ask(&world, 1, "a");
	run_until(&world, all_answered);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(world.asked[i].status, 500);
		assert_null(world.asked[i].engine);
		assert_null(world.asked[i].use.entry);
	}
	residency_view(world.residency, 0, &view);
	assert_int_equal(view.state, RESIDENCY_COLD);
	assert_string_equal(view.failure, "the file is damaged");
	atomic_store(&world.failing, 0);
	ask(&world, 0, "a");
	run_until(&world, all_answered);
	assert_int_equal(world.asked[0].status, 0);
	residency_view(world.residency, 0, &view);
	assert_string_equal(view.failure, "");
	close_world(&world);
}

static void who_gives_up_waiting_is_not_called(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 3);
	add(&world, "a", 1, false);
	atomic_store(&world.held, true);
	ask(&world, 0, "a");
	ask(&world, 1, "a");
	residency_release(&world.asked[0].use);
	atomic_store(&world.held, false);
	run_until(&world, all_answered);
	assert_int_equal(world.asked[0].ready, 0);
	assert_int_equal(world.asked[1].ready, 1);
	close_world(&world);
}

static void idle_models_leave(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 3);
	residency_free(world.residency);
	world.options.idle_unload_ms = 1;
	world.residency = residency_new(world.loop, &world.options);
	add(&world, "pinned", 1, true);
	add(&world, "b", 1, false);
	ask(&world, 0, "pinned");
	ask(&world, 1, "b");
	run_until(&world, all_answered);
	residency_release(&world.asked[0].use);
	assert_int_equal(state_of(&world, 1), RESIDENCY_LOADED); /* in use */
	residency_release(&world.asked[1].use);
	run_until(&world, second_is_cold);
	assert_int_equal(state_of(&world, 0), RESIDENCY_LOADED);
	close_world(&world);
}

static void models_leave_a_machine_that_runs_short_of_memory(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 3);
	add(&world, "a", 1, false);
	ask(&world, 0, "a");
	run_until(&world, all_answered);
	residency_release(&world.asked[0].use);
	world.memory.available_gb = 0.1;
	run_until(&world, first_is_cold);
	close_world(&world);
}

static void a_model_asked_for_while_it_leaves_comes_back(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 1);
	add(&world, "a", 1, false);
	add(&world, "b", 1, false);
	ask(&world, 0, "a");
	run_until(&world, all_answered);
	residency_release(&world.asked[0].use);
	ask(&world, 1, "b"); /* a is leaving */
	ask(&world, 2, "a");
	run_until(&world, all_answered);
	assert_int_equal(world.asked[1].status, 0);
	assert_int_equal(world.asked[2].status, 503); /* b is in use now */
	close_world(&world);
}

static void freeing_waits_for_a_load_that_runs(void **state)
{
	struct world world;
	(void)state;
	open_world(&world, 3);
	add(&world, "a", 1, false);
	atomic_store(&world.held, true);
	ask(&world, 0, "a");
	run_until(&world, first_is_loading);
	close_world(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_model_is_loaded_when_it_is_asked_for_and_once_for_all),
	    cmocka_unit_test(what_is_not_offered_is_not_found),
	    cmocka_unit_test(the_longest_unused_leaves_for_another),
	    cmocka_unit_test(what_is_held_is_counted_until_it_has_left_and_the_most_is_remembered),
	    cmocka_unit_test(what_is_used_or_pinned_stays),
	    cmocka_unit_test(what_can_never_fit_is_refused_at_once),
	    cmocka_unit_test(memory_of_pinned_models_is_not_counted_on),
	    cmocka_unit_test(models_leave_for_one_that_needs_their_memory),
	    cmocka_unit_test(a_load_that_fails_is_said_to_all_and_may_be_tried_again),
	    cmocka_unit_test(who_gives_up_waiting_is_not_called),
	    cmocka_unit_test(idle_models_leave),
	    cmocka_unit_test(models_leave_a_machine_that_runs_short_of_memory),
	    cmocka_unit_test(a_model_asked_for_while_it_leaves_comes_back),
	    cmocka_unit_test(freeing_waits_for_a_load_that_runs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
