/* How far away a provider is: from the round trips of pings, on a session that is nobody's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/fleet/fleet_internal.h"

#define TICKS_PER_MS 100 /* as distance.c counts */
#define SLACK_MS     1.0 /* the loop's clock is read once */

struct scene {
	struct fleet fleet;
	struct session session;
};

static void scene_begin(struct scene *s)
{
	struct route_policy policy = {.seed = 1};
	*s = (struct scene){.fleet = {.loop = net_loop_new(NULL), .routes = route_fleet_new(&policy)}};
	assert_non_null(s->fleet.loop);
	assert_non_null(s->fleet.routes);
	s->session.fleet = &s->fleet;
	s->session.node = route_node_add(s->fleet.routes, &s->session);
	assert_non_null(s->session.node);
}

static void scene_end(struct scene *s)
{
	route_fleet_free(s->fleet.routes);
	net_loop_free(s->fleet.loop);
}

/* A pong to a ping of so long ago. */
static void answer(struct scene *s, uint32_t after_ms)
{
	s->session.pinged = (uint32_t)(net_now_us(s->fleet.loop) / 10) - after_ms * TICKS_PER_MS;
	s->session.awaits_pong = true;
	distance_answered(&s->session);
}

static double told_ms(const struct scene *s)
{
	struct route_node_facts facts;
	route_node_facts(s->fleet.routes, s->session.node, &facts);
	return facts.network_ms;
}

static void assert_about(double actual, double wanted)
{
	if (!(fabs(actual - wanted) <= SLACK_MS))
		fail_msg("%g ms, not %g", actual, wanted);
}

static void the_first_round_trip_is_taken_and_later_ones_change_it_slowly(void **state)
{
	(void)state;
	struct scene s;
	scene_begin(&s);
	assert_about(told_ms(&s), 0);
	answer(&s, 40);
	assert_about(told_ms(&s), 40);
	answer(&s, 140);
	assert_about(told_ms(&s), 70);
	for (int i = 0; i < 30; i++)
		answer(&s, 10);
	assert_about(told_ms(&s), 10);
	scene_end(&s);
}

static void a_pong_that_nobody_asked_for_says_nothing(void **state)
{
	(void)state;
	struct scene s;
	scene_begin(&s);
	answer(&s, 40);
	s.session.pinged -= 500 * TICKS_PER_MS;
	distance_answered(&s.session); /* a second answer to one ping */
	assert_about(told_ms(&s), 40);
	s.session.awaits_pong = true;
	s.session.node = NULL; /* it has not registered, or has gone */
	distance_answered(&s.session);
	scene_end(&s);
}

static void a_round_trip_of_many_seconds_is_not_the_way(void **state)
{
	(void)state;
	struct scene s;
	scene_begin(&s);
	answer(&s, 40);
	answer(&s, 11000);
	assert_about(told_ms(&s), 40);
	answer(&s, 9000);
	assert_true(told_ms(&s) > 2000);
	scene_end(&s);
}

static void a_closed_connection_is_not_asked(void **state)
{
	(void)state;
	struct scene s;
	scene_begin(&s);
	distance_ask(&s.session);
	assert_false(s.session.awaits_pong);
	assert_int_equal(s.session.pinged, 0);
	scene_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_first_round_trip_is_taken_and_later_ones_change_it_slowly),
	    cmocka_unit_test(a_pong_that_nobody_asked_for_says_nothing),
	    cmocka_unit_test(a_round_trip_of_many_seconds_is_not_the_way),
	    cmocka_unit_test(a_closed_connection_is_not_asked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
