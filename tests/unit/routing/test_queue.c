/* Waiting for a place: who is next, for how long, and that everybody who waits has one owner. */
#include <stdlib.h>

#include "coordinator/routing/queue.h"
#include "coordinator/routing/share.h"

#include "routing_fixture.h"
#include <stdio.h>

static struct queue_waiter waiter_of(struct str account, uint64_t tokens)
{
	struct queue_waiter waiter = {.request = fixture_request()};
	waiter.request.caller_account = account;
	waiter.request.expected_tokens = tokens;
	return waiter;
}

static bool anybody(const struct queue_waiter *waiter, void *user)
{
	(void)waiter;
	(void)user;
	return true;
}

static bool without_images(const struct queue_waiter *waiter, void *user)
{
	uint32_t *asked = user;
	++*asked;
	return !waiter->request.vision;
}

static bool all_but(const struct queue_waiter *waiter, void *user)
{
	return waiter != user;
}

static struct queue_waiter *next(struct queues *queues)
{
	return queue_take(queues, STR("acme/tiny"), anybody, NULL, NOW_US);
}

static void one_account_is_served_in_order(void **state)
{
	(void)state;
	struct queues *queues = queues_new();
	struct queue_waiter w[10];
	for (int i = 0; i < 10; i++) {
		w[i] = waiter_of(STR("a"), 100 + (uint64_t)(i % 3) * 1000); /* of several sizes, so of several groups */
		assert_int_equal(queue_enter(queues, &w[i], 10, NOW_US), DB_OK);
	}
	for (int i = 0; i < 10; i++)
		assert_ptr_equal(next(queues), &w[i]);
	assert_null(next(queues));
	assert_int_equal(queue_total(queues), 0);
	queues_free(queues);
}

/* Scenario 9: what cannot run does not block what can, and of each shape only the first is asked. */
static void a_head_that_cannot_run_does_not_block_others(void **state)
{
	(void)state;
	struct queues *queues = queues_new();
	struct queue_waiter w[10];
	uint32_t asked = 0;
	for (int i = 0; i < 10; i++) {
		w[i] = waiter_of(STR("a"), 100);
		w[i].request.vision = i < 8;
		assert_int_equal(queue_enter(queues, &w[i], 10, NOW_US), DB_OK);
	}
	assert_ptr_equal(queue_take(queues, STR("acme/tiny"), without_images, &asked, NOW_US), &w[8]);
	assert_int_equal(asked, 2);
	assert_ptr_equal(queue_take(queues, STR("acme/tiny"), without_images, &asked, NOW_US), &w[9]);
	assert_null(queue_take(queues, STR("acme/tiny"), without_images, &asked, NOW_US));
	assert_int_equal(queue_length(queues, STR("acme/tiny")), 8);
	assert_null(queue_take(queues, STR("acme/other"), anybody, NULL, NOW_US));
	queues_free(queues);
	assert_null(w[0].model);
}

static void a_heavy_account_does_not_keep_a_light_one_waiting(void **state)
{
	(void)state;
	struct queues *queues = queues_new();
	struct queue_waiter heavy[20], light = waiter_of(STR("light"), 100);
	for (int i = 0; i < 20; i++) {
		heavy[i] = waiter_of(STR("heavy"), 2000);
		assert_int_equal(queue_enter(queues, &heavy[i], 20, NOW_US), DB_OK);
	}
	struct queue_waiter refused = waiter_of(STR("heavy"), 1);
	assert_int_equal(queue_enter(queues, &refused, 20, NOW_US), DB_E_LIMIT);
	assert_int_equal(queue_enter(queues, &light, 20, NOW_US), DB_OK); /* a full queue still has room for others */
	assert_ptr_equal(next(queues), &light);
	assert_ptr_equal(next(queues), &heavy[0]);
	queues_free(queues);
}

/* Tokens are shared as the weights say while both wait. */
static void tokens_are_shared_by_weight_and_priority(void **state)
{
	(void)state;
	enum { EACH = 400, SERVED = 300 };
	static struct queue_waiter w[2][EACH];
	static const struct {
		enum route_priority priority;
		double weight, share;
	} sides[][2] = {
	    {{ROUTE_PRIORITY_NORMAL, 1, 0.5}, {ROUTE_PRIORITY_NORMAL, 1, 0.5}},
	    {{ROUTE_PRIORITY_NORMAL, 3, 0.75}, {ROUTE_PRIORITY_NORMAL, 1, 0.25}},
	    {{ROUTE_PRIORITY_INTERACTIVE, 0, 0.8}, {ROUTE_PRIORITY_NORMAL, 0, 0.2}},
	    {{ROUTE_PRIORITY_NORMAL, 0, 0.8}, {ROUTE_PRIORITY_BATCH, 0, 0.2}}, /* the least of all is served too */
	};
	for (size_t c = 0; c < sizeof sides / sizeof *sides; c++) {
		struct queues *queues = queues_new();
		unsigned served[2] = {0};
		for (int i = 0; i < EACH; i++)
			for (int side = 0; side < 2; side++) {
				w[side][i] = waiter_of(side ? STR("b") : STR("a"), 500);
				w[side][i].priority = sides[c][side].priority;
				w[side][i].weight = sides[c][side].weight;
				assert_int_equal(queue_enter(queues, &w[side][i], 2 * EACH, NOW_US), DB_OK);
			}
		for (int i = 0; i < SERVED; i++)
			served[str_is(next(queues)->request.caller_account, "b")]++;
		for (int side = 0; side < 2; side++)
			assert_near(served[side] / (double)SERVED, sides[c][side].share, 0.03);
		queues_free(queues);
	}
}

static void an_account_gets_what_the_operator_wrote(void **state)
{
	(void)state;
	enum { EACH = 200, SERVED = 200 };
	static struct queue_waiter w[2][EACH];
	static const char *const texts[] = {"c=9", "a=3", "a=100"};
	struct queues *queues = queues_new();
	struct shares *shares = shares_new(texts, 3);
	unsigned served[2] = {0};
	assert_non_null(shares);
	for (int i = 0; i < EACH; i++)
		for (int side = 0; side < 2; side++) {
			w[side][i] = waiter_of(side ? STR("b") : STR("a"), 500);
			shares_apply(shares, &w[side][i]);
			assert_int_equal(queue_enter(queues, &w[side][i], 2 * EACH, NOW_US), DB_OK);
		}
	for (int i = 0; i < SERVED; i++)
		served[str_is(next(queues)->request.caller_account, "b")]++;
	assert_near(served[0] / (double)SERVED, 0.75, 0.03);
	shares_free(shares);
	queues_free(queues);
}

static void shares_are_changed_and_taken_away(void **state)
{
	(void)state;
	static const char *const texts[] = {"a=3", "not a share", "b=batch"};
	struct shares *shares = shares_new(texts, 3);
	struct share share = {.account = STR("a"), .weight = 7, .priority = ROUTE_PRIORITY_INTERACTIVE};
	struct queue_waiter waiter = waiter_of(STR("a"), 500);
	assert_non_null(shares);
	assert_null(shares_find(shares, STR("not a share")));
	assert_int_equal(shares_find(shares, STR("b"))->priority, ROUTE_PRIORITY_BATCH);
	assert_int_equal(shares_put(shares, &share), DB_OK);
	shares_apply(shares, &waiter);
	assert_near(waiter.weight, 7, 1e-9);
	assert_int_equal(waiter.priority, ROUTE_PRIORITY_INTERACTIVE);
	assert_true(shares_remove(shares, STR("a")));
	assert_false(shares_remove(shares, STR("a")));
	waiter = waiter_of(STR("a"), 500);
	struct queue_waiter before = waiter;
	shares_apply(shares, &waiter);
	assert_near(waiter.weight, before.weight, 1e-9);
	assert_int_equal(waiter.priority, before.priority);
	for (int i = 0; i <= SHARES_MAX; i++) {
		char name[16];
		int len = snprintf(name, sizeof name, "x%d", i);
		share.account = (struct str){name, (size_t)len};
		assert_int_equal(shares_put(shares, &share), i < SHARES_MAX - 1 ? DB_OK : DB_E_LIMIT);
	}
	shares_free(shares);
}

static void shares_are_read_or_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"",     "a",     "=1",   "a=",       "a=0",       "a=101",
	                                  "a=-1", "a=nan", "a=1:", "a=1:soon", "a=x:batch", "a=:batch"};
	struct share share;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(share_read(str_of(bad[i]), &share), DB_E_INVALID);
	assert_int_equal(share_read(STR("acct-1=2.5:batch"), &share), DB_OK);
	assert_true(str_is(share.account, "acct-1"));
	assert_near(share.weight, 2.5, 1e-9);
	assert_int_equal(share.priority, ROUTE_PRIORITY_BATCH);
	assert_int_equal(share_read(STR("a=interactive"), &share), DB_OK);
	assert_near(share.weight, 1, 1e-9);
	assert_int_equal(share.priority, ROUTE_PRIORITY_INTERACTIVE);
}

static void one_that_could_not_start_keeps_its_turn_and_blocks_nobody(void **state)
{
	(void)state;
	struct queues *queues = queues_new();
	struct queue_waiter w[3];
	for (int i = 0; i < 3; i++) {
		w[i] = waiter_of(STR("a"), 100);
		assert_int_equal(queue_enter(queues, &w[i], 10, NOW_US), DB_OK);
	}
	assert_ptr_equal(next(queues), &w[0]);
	assert_int_equal(queue_return(queues, &w[0]), DB_OK);
	assert_ptr_equal(next(queues), &w[0]); /* still the first */
	assert_int_equal(queue_return(queues, &w[0]), DB_OK);
	assert_ptr_equal(queue_take(queues, STR("acme/tiny"), all_but, &w[0], NOW_US), &w[1]);
	assert_true(queue_leave(queues, &w[0]));
	assert_false(queue_leave(queues, &w[0]));
	assert_ptr_equal(next(queues), &w[2]);
	queues_free(queues);
}

static void a_cancelled_request_is_not_held_against_its_account(void **state)
{
	(void)state;
	struct queues *queues = queues_new();
	struct queue_waiter big = waiter_of(STR("a"), 100000), small = waiter_of(STR("a"), 100), other = waiter_of(STR("b"), 500);
	assert_int_equal(queue_enter(queues, &other, 10, NOW_US), DB_OK);
	assert_int_equal(queue_enter(queues, &big, 10, NOW_US), DB_OK);
	assert_true(queue_leave(queues, &big));
	assert_int_equal(queue_enter(queues, &small, 10, NOW_US), DB_OK);
	assert_ptr_equal(next(queues), &small);
	assert_ptr_equal(next(queues), &other);

	/* Also while the account waits for something else. */
	struct queue_waiter first = waiter_of(STR("a"), 100);
	other.request.expected_tokens = 5000;
	assert_int_equal(queue_enter(queues, &first, 10, NOW_US), DB_OK);
	assert_int_equal(queue_enter(queues, &big, 10, NOW_US), DB_OK);
	assert_int_equal(queue_enter(queues, &other, 10, NOW_US), DB_OK);
	assert_true(queue_leave(queues, &big));
	assert_int_equal(queue_enter(queues, &small, 10, NOW_US), DB_OK);
	assert_ptr_equal(next(queues), &first);
	assert_ptr_equal(next(queues), &small);
	assert_ptr_equal(next(queues), &other);
	queues_free(queues);
}

/* What all of them need, and nobody who asks for certain nodes. */
static void who_waits_is_told_by_what_all_of_them_need(void **state)
{
	(void)state;
	struct queues *queues = queues_new();
	struct queue_waiter tools[2] = {waiter_of(STR("a"), 100), waiter_of(STR("b"), 5000)}, text = waiter_of(STR("c"), 100);
	struct queue_waiter pinned[3] = {text, text, text};
	struct str serial = STR("S1");
	assert_int_equal(queue_demand(queues, STR("acme/tiny")).waiting, 0);
	pinned[0].request.own_only = true;
	pinned[1].request.serials = &serial;
	pinned[1].request.serial_count = 1;
	pinned[2].request.only = (struct route_node *)(void *)&serial; /* nobody looks into it here */
	for (int i = 0; i < 3; i++)
		assert_int_equal(queue_enter(queues, &pinned[i], 10, NOW_US), DB_OK);
	struct queue_demand demand = queue_demand(queues, STR("acme/tiny"));
	assert_false(demand.waiting || demand.tools || demand.vision || demand.some_tools || demand.some_vision);
	for (int i = 0; i < 2; i++) {
		tools[i].request.tools = true;
		tools[i].request.vision = i == 0;
		assert_int_equal(queue_enter(queues, &tools[i], 10, NOW_US), DB_OK);
	}
	demand = queue_demand(queues, STR("acme/tiny"));
	assert_int_equal(demand.waiting, 2);
	assert_true(demand.tools && !demand.vision);
	assert_true(demand.some_tools && demand.some_vision);
	assert_int_equal(queue_enter(queues, &text, 10, NOW_US), DB_OK);
	demand = queue_demand(queues, STR("acme/tiny"));
	assert_int_equal(demand.waiting, 3);
	assert_false(demand.tools);
	assert_true(demand.some_tools && demand.some_vision);
	assert_true(queue_leave(queues, &text));
	assert_true(queue_demand(queues, STR("acme/tiny")).tools);
	assert_int_equal(queue_length(queues, STR("acme/tiny")), 5);
	queues_free(queues);
}

static void of_equal_turns_the_one_that_came_first_is_taken(void **state)
{
	(void)state;
	struct queues *queues = queues_new();
	struct queue_waiter first = waiter_of(STR("a"), 100), late = first, early = waiter_of(STR("b"), 100);
	early.request.expected_tokens = first.request.prompt_tokens + 201; /* as much as the two of the other account */
	early.request.vision = true;
	assert_int_equal(queue_enter(queues, &first, 10, NOW_US), DB_OK);
	assert_int_equal(queue_enter(queues, &early, 10, NOW_US + 1), DB_OK);
	assert_int_equal(queue_enter(queues, &late, 10, NOW_US + 2), DB_OK);
	assert_true(early.tag == late.tag);
	assert_ptr_equal(next(queues), &first);
	assert_ptr_equal(next(queues), &early);
	assert_ptr_equal(next(queues), &late);
	queues_free(queues);
}

static void deadlines_end_a_wait_in_their_order(void **state)
{
	(void)state;
	struct queues *queues = queues_new();
	struct queue_waiter w[4];
	for (unsigned i = 0; i < 4; i++) {
		w[i] = waiter_of(STR("a"), 100);
		w[i].deadline_us = NOW_US + (4 - i) * SECOND_US;
		assert_int_equal(queue_enter(queues, &w[i], 10, NOW_US), DB_OK);
	}
	assert_null(queue_expired(queues, NOW_US + SECOND_US - 1));
	assert_ptr_equal(next(queues), &w[0]);
	uint64_t last_us = 0;
	for (int i = 0; i < 3; i++) {
		struct queue_waiter *expired = queue_expired(queues, NOW_US + 4 * SECOND_US);
		assert_true(expired->deadline_us >= last_us);
		last_us = expired->deadline_us;
	}
	assert_null(queue_expired(queues, NOW_US + 4 * SECOND_US));
	queues_free(queues);
}

static void retry_after_is_what_the_queue_really_takes(void **state)
{
	(void)state;
	struct queues *queues = queues_new();
	static struct queue_waiter w[60];
	uint64_t now_us = NOW_US;
	assert_int_equal(queue_retry_after_s(queues, STR("acme/tiny"), now_us), 3);
	for (int i = 0; i < 60; i++) {
		w[i] = waiter_of(STR("a"), 100);
		assert_int_equal(queue_enter(queues, &w[i], 100, now_us), DB_OK);
	}
	for (int i = 0; i < 40; i++) { /* two a second */
		now_us += SECOND_US / 2;
		assert_non_null(queue_take(queues, STR("acme/tiny"), anybody, NULL, now_us));
	}
	assert_in_range(queue_retry_after_s(queues, STR("acme/tiny"), now_us), 10, 12);                 /* 21 of them */
	assert_in_range(queue_retry_after_s(queues, STR("acme/tiny"), now_us + 4 * SECOND_US), 84, 84); /* it does not move */
	assert_in_range(queue_retry_after_s(queues, STR("acme/tiny"), now_us + 400 * SECOND_US), 120, 120);
	while (queue_take(queues, STR("acme/tiny"), anybody, NULL, now_us += SECOND_US / 2))
		;
	assert_int_equal(queue_retry_after_s(queues, STR("acme/tiny"), now_us + 400 * SECOND_US), 1); /* nobody waits */
	queues_free(queues);
}

/* --- scenario 10: cancellation, time-out and assignment at random; nobody is lost, nobody is served twice, nothing stays
 * reserved. ROUTE_QUEUE_STEPS=1000000 for the long run. --- */

#define STEPS  150000
#define PEOPLE 300
#define NODES  6

enum life { LIFE_IDLE, LIFE_WAITS, LIFE_RUNS };

struct person {
	struct queue_waiter waiter;
	struct route_reservation *reservation;
	enum life life;
	uint64_t order;
};

struct races {
	struct route_fleet *fleet;
	struct queues *queues;
	struct route_node *nodes[NODES];
	struct person people[PEOPLE];
	uint64_t now_us, seed;
	uint64_t waiting, running;
};

static uint32_t below(struct races *r, uint32_t bound)
{
	r->seed = r->seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((r->seed >> 33) % bound);
}

static bool node_can_run(const struct queue_waiter *waiter, void *user)
{
	void **at = user;
	const struct races *r = at[0];
	return route_check(r->fleet, at[1], &waiter->request, r->now_us) == ROUTE_OK;
}

static void hand_off(struct races *r, struct route_node *node)
{
	void *at[] = {r, node};
	struct queue_waiter *taken;
	while ((taken = queue_take(r->queues, STR("acme/tiny"), node_can_run, at, r->now_us))) {
		struct person *person = LIST_OF(taken, struct person, waiter);
		struct route_decision decision;
		assert_int_equal(person->life, LIFE_WAITS);
		assert_null(taken->model);
		r->waiting--;
		if (below(r, 20) == 0) { /* it cannot be sent after all */
			assert_int_equal(queue_return(r->queues, taken), DB_OK);
			r->waiting++;
			return;
		}
		assert_int_equal(route_select(r->fleet, &taken->request, r->now_us, &decision, &person->reservation), DB_OK);
		person->life = LIFE_RUNS;
		r->running++;
	}
}

static void arrive(struct races *r, struct person *person)
{
	static const char *const accounts[] = {"a", "b", "c", "d"};
	struct route_decision decision;
	person->waiter = waiter_of(str_of(accounts[below(r, 4)]), 1 + below(r, 2000));
	person->waiter.request.tools = below(r, 3) == 0;
	person->waiter.request.prompt_tokens = 1 + below(r, 30000);
	person->waiter.deadline_us = r->now_us + 1 + below(r, 120) * SECOND_US;
	enum db_err err = route_select(r->fleet, &person->waiter.request, r->now_us, &decision, &person->reservation);
	if (err == DB_OK) {
		person->life = LIFE_RUNS;
		r->running++;
	} else if (err == DB_E_AGAIN && queue_enter(r->queues, &person->waiter, 100, r->now_us) == DB_OK) {
		person->life = LIFE_WAITS;
		r->waiting++;
	}
}

static void end(struct races *r, struct person *person)
{
	struct route_node *node = route_reservation_node(person->reservation);
	route_outcome(r->fleet, person->reservation, below(r, 30) ? ROUTE_OUTCOME_OK : ROUTE_OUTCOME_CLIENT, r->now_us);
	route_release(r->fleet, person->reservation);
	person->reservation = NULL;
	person->life = LIFE_IDLE;
	r->running--;
	if (node)
		hand_off(r, node);
}

static struct route_node *fresh_node(struct races *r)
{
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = {.state = ROUTE_SLOT_IDLE, .budget_max = 40000, .max_concurrency = 6};
	facts.last_challenge_us = r->now_us;
	facts.tools_ok = below(r, 2) != 0;
	return fixture_node(r->fleet, &facts, &slot);
}

static void step(struct races *r)
{
	struct person *person = &r->people[below(r, PEOPLE)];
	uint32_t at = below(r, NODES);
	r->now_us += below(r, 10) ? 0 : below(r, 2) * SECOND_US;
	switch (below(r, 40)) {
	case 0: /* a node leaves and another comes */
		route_node_remove(r->fleet, r->nodes[at]);
		r->nodes[at] = fresh_node(r);
		hand_off(r, r->nodes[at]);
		return;
	case 1: /* its challenge is renewed */
		route_node_remove(r->fleet, r->nodes[at]);
		r->nodes[at] = fresh_node(r);
		return;
	case 2:
	case 3:
		for (struct queue_waiter *expired; (expired = queue_expired(r->queues, r->now_us)); r->waiting--) {
			struct person *late = LIST_OF(expired, struct person, waiter);
			assert_int_equal(late->life, LIFE_WAITS);
			assert_true(expired->deadline_us <= r->now_us);
			late->life = LIFE_IDLE;
		}
		return;
	default:
		break;
	}
	if (person->life == LIFE_IDLE)
		arrive(r, person);
	else if (person->life == LIFE_RUNS)
		end(r, person);
	else if (below(r, 3) == 0) { /* cancelled while it waits */
		assert_true(queue_leave(r->queues, &person->waiter));
		person->life = LIFE_IDLE;
		r->waiting--;
	}
}

static void no_race_leaves_a_ghost(void **state)
{
	(void)state;
	static struct races r;
	const char *steps_text = getenv("ROUTE_QUEUE_STEPS");
	unsigned long steps = steps_text ? strtoul(steps_text, NULL, 10) : STEPS;
	r = (struct races){.fleet = fixture_fleet(), .queues = queues_new(), .now_us = NOW_US, .seed = 11};
	for (int i = 0; i < NODES; i++)
		r.nodes[i] = fresh_node(&r);
	for (unsigned long i = 0; i < steps; i++) {
		step(&r);
		assert_int_equal(queue_total(r.queues), r.waiting);
		uint32_t pending = 0, lost = 0;
		for (int n = 0; n < NODES && i % 64 == 0; n++)
			pending += route_node_pending(r.nodes[n]);
		for (int p = 0; p < PEOPLE && i % 64 == 0; p++)
			lost += r.people[p].reservation && !route_reservation_node(r.people[p].reservation);
		if (i % 64 == 0)
			assert_int_equal(pending + lost, r.running);
	}
	for (int p = 0; p < PEOPLE; p++) {
		if (r.people[p].life == LIFE_WAITS)
			assert_true(queue_leave(r.queues, &r.people[p].waiter));
		if (r.people[p].life == LIFE_RUNS)
			route_release(r.fleet, r.people[p].reservation);
	}
	assert_int_equal(queue_total(r.queues), 0);
	for (int n = 0; n < NODES; n++)
		assert_int_equal(route_node_pending(r.nodes[n]), 0);
	queues_free(r.queues);
	route_fleet_free(r.fleet);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(one_account_is_served_in_order),
	    cmocka_unit_test(a_head_that_cannot_run_does_not_block_others),
	    cmocka_unit_test(a_heavy_account_does_not_keep_a_light_one_waiting),
	    cmocka_unit_test(tokens_are_shared_by_weight_and_priority),
	    cmocka_unit_test(an_account_gets_what_the_operator_wrote),
	    cmocka_unit_test(shares_are_changed_and_taken_away),
	    cmocka_unit_test(shares_are_read_or_refused),
	    cmocka_unit_test(one_that_could_not_start_keeps_its_turn_and_blocks_nobody),
	    cmocka_unit_test(a_cancelled_request_is_not_held_against_its_account),
	    cmocka_unit_test(who_waits_is_told_by_what_all_of_them_need),
	    cmocka_unit_test(of_equal_turns_the_one_that_came_first_is_taken),
	    cmocka_unit_test(deadlines_end_a_wait_in_their_order),
	    cmocka_unit_test(retry_after_is_what_the_queue_really_takes),
	    cmocka_unit_test(no_race_leaves_a_ghost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
