#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/money/rewards.h"

#define APRIL_2026 INT64_C(1775001600000000) /* 2026-04-01T00:00Z: a month of 30 days */
#define DAY_US     INT64_C(86400000000)

static struct reward_terms usual(void)
{
	return (struct reward_terms){.pool_month_uusd = 9000000000,
	                             .left_uusd = -1,
	                             .min_uptime_percent = 90,
	                             .period_us = REWARD_PERIOD_US,
	                             .start_us = APRIL_2026};
}

static int64_t floor_of(int64_t memory_gb, int64_t uptime_us)
{
	struct reward_terms terms = usual();
	struct reward_claim claim = {.machine = "m", .payee = "a", .memory_gb = memory_gb, .uptime_us = uptime_us};
	reward_claim_want(&claim, &terms);
	return claim.floor_uusd;
}

static void the_worked_numbers_of_the_chapter_hold(void **state)
{
	(void)state;
	struct reward_terms terms = usual();
	assert_int_equal(floor_of(64, REWARD_PERIOD_US), 2083);
	assert_int_equal(reward_pool(&terms), 1041667);
}

static void periods_are_aligned_and_named_by_their_start(void **state)
{
	(void)state;
	char id[REWARD_ID_SIZE];
	assert_int_equal(reward_period_of(APRIL_2026), APRIL_2026);
	assert_int_equal(reward_period_of(APRIL_2026 + REWARD_PERIOD_US - 1), APRIL_2026);
	assert_int_equal(reward_period_of(APRIL_2026 - 1), APRIL_2026 - REWARD_PERIOD_US);
	assert_int_equal(reward_period_of(-1), -REWARD_PERIOD_US);
	reward_period_id(APRIL_2026 + REWARD_PERIOD_US, id);
	assert_string_equal(id, "2026-04-01T00:05Z");
}

static void tiers_are_the_largest_not_above_the_memory(void **state)
{
	(void)state;
	static const int64_t memory[] = {0, 8, 23, 24, 31, 32, 47, 48, 64, 95, 96, 127, 128, 191, 192, 511, 512, 4096};
	static const int64_t dollars[] = {0, 0, 0, 10, 10, 12, 12, 16, 18, 18, 22, 22, 26, 26, 30, 30, 40, 40};
	for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
		assert_int_equal(reward_tier(memory[i]), dollars[i] * 1000000);
}

static void known_models_have_a_most_memory_and_unknown_ones_none(void **state)
{
	(void)state;
	const char *const more[] = {"Acme Box=96", "broken", "Mac16,1=64"};
	assert_int_equal(reward_model_memory(STR("Mac14,14"), NULL, 0), 192);
	assert_int_equal(reward_model_memory(STR("Mac15,14"), NULL, 0), 512);
	assert_int_equal(reward_model_memory(STR("Mac15,1"), NULL, 0), 0);
	assert_int_equal(reward_model_memory(STR(""), NULL, 0), 0);
	assert_int_equal(reward_model_memory(STR("Acme Box"), NULL, 0), 0);
	assert_int_equal(reward_model_memory(STR("Acme Box"), more, 3), 96);
	assert_int_equal(reward_model_memory(STR("Mac16,1"), more, 3), 64);
	assert_int_equal(reward_model_memory(STR("broken"), more, 3), 0);
}

static void ninety_percent_earns_nothing_and_all_earns_the_tier(void **state)
{
	(void)state;
	int64_t before = 0;
	assert_int_equal(floor_of(64, REWARD_PERIOD_US / 10 * 9), 0);
	assert_int_equal(floor_of(64, REWARD_PERIOD_US / 20 * 19), 1042);       /* half of 2083.33, rounded half up */
	for (int64_t up = 0; up <= REWARD_PERIOD_US + 1000000; up += 1000000) { /* never less for being there longer */
		int64_t floor = floor_of(96, up);
		assert_true(floor >= before);
		before = floor;
	}
	assert_int_equal(before, floor_of(96, REWARD_PERIOD_US));
}

static void a_month_pays_a_tier_whatever_its_length(void **state)
{
	(void)state;
	static const struct {
		int64_t start_us;
		int days;
	} months[] = {
	    {APRIL_2026, 30}, {APRIL_2026 + 30 * DAY_US, 31}, {APRIL_2026 - 59 * DAY_US, 28}, {INT64_C(1706745600000000), 29}};
	for (size_t i = 0; i < sizeof months / sizeof *months; i++) {
		struct reward_terms terms = usual();
		struct reward_claim claim = {.machine = "m", .payee = "a", .memory_gb = 512, .uptime_us = REWARD_PERIOD_US};
		terms.start_us = months[i].start_us;
		reward_claim_want(&claim, &terms);
		int64_t periods = months[i].days * 288, sum = claim.floor_uusd * periods;
		assert_true(llabs(sum - 40000000) <= periods / 2 + 1);
	}
}

static void what_was_earned_is_taken_off_by_k(void **state)
{
	(void)state;
	struct reward_terms terms = usual();
	struct reward_claim claim = {
	    .machine = "m", .payee = "a", .memory_gb = 64, .uptime_us = REWARD_PERIOD_US, .earned_uusd = 1001};
	reward_claim_want(&claim, &terms);
	assert_int_equal(claim.want_uusd, 2083);
	terms.reduction_percent = 50;
	reward_claim_want(&claim, &terms);
	assert_int_equal(claim.want_uusd, 2083 - 500);
	claim.earned_uusd = INT64_MAX;
	reward_claim_want(&claim, &terms);
	assert_int_equal(claim.want_uusd, 0);
}

static void the_wanted_class_is_served_first_up_to_half(void **state)
{
	(void)state;
	struct reward_terms terms = usual();
	struct reward_claim claims[] = {{.machine = "b", .payee = "b", .memory_gb = 192, .uptime_us = REWARD_PERIOD_US},
	                                {.machine = "a", .payee = "a", .memory_gb = 64, .uptime_us = REWARD_PERIOD_US},
	                                {.machine = "c", .payee = "c", .memory_gb = 64, .uptime_us = REWARD_PERIOD_US}};
	terms.left_uusd = 3000;
	assert_true(reward_allocate(claims, 3, &terms));
	assert_string_equal(claims[0].machine, "a");
	assert_int_equal(claims[0].grant_uusd, 2083); /* 1500 of the first half, then in order */
	assert_int_equal(claims[1].grant_uusd, 917);
	assert_int_equal(claims[2].grant_uusd, 0);
}

static void a_payee_gets_its_part_of_the_pool_at_most(void **state)
{
	(void)state;
	struct reward_terms terms = usual();
	struct reward_claim claims[4];
	char names[4][24];
	terms.pool_month_uusd = 10000 * 8640; /* 10,000 for each period */
	terms.account_percent = 30;
	for (size_t i = 0; i < 4; i++) {
		snprintf(names[i], sizeof names[i], "m%zu", i);
		claims[i] = (struct reward_claim){
		    .machine = names[i], .payee = i < 3 ? "whale" : "minnow", .memory_gb = 64, .uptime_us = REWARD_PERIOD_US};
		claims[i].payee_has_uusd = i < 3 ? 500 : 0;
	}
	assert_true(reward_allocate(claims, 4, &terms));
	int64_t whale = 0, minnow = 0;
	for (size_t i = 0; i < 4; i++)
		*(claims[i].payee[0] == 'w' ? &whale : &minnow) += claims[i].grant_uusd;
	assert_int_equal(whale, 2500);
	assert_int_equal(minnow, 2083);
}

static uint64_t dice(uint64_t *random, uint64_t sides)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random % sides;
}

static void random_fleets_never_get_more_than_there_is(void **state)
{
	(void)state;
	static const int64_t sizes[] = {0, 8, 24, 36, 48, 64, 96, 128, 192, 512, 1024};
	uint64_t random = 88172645463325252ULL;
	static struct reward_claim claims[64];
	static char names[64][24], accounts[64][24];
	for (int round = 0; round < 3000; round++) {
		struct reward_terms terms = usual();
		size_t count = dice(&random, 65);
		terms.pool_month_uusd = (int64_t)dice(&random, 2000) * 1000000;
		terms.left_uusd = dice(&random, 3) ? -1 : (int64_t)dice(&random, 50000);
		terms.reduction_percent = (int)dice(&random, 101);
		terms.account_percent = dice(&random, 2) ? (int)dice(&random, 100) : 0;
		terms.start_us = APRIL_2026 + (int64_t)dice(&random, 1000) * DAY_US;
		for (size_t i = 0; i < count; i++) {
			snprintf(names[i], sizeof names[i], "m%zu", i);
			snprintf(accounts[i], sizeof accounts[i], "a%u", (unsigned)dice(&random, 9));
			claims[i] = (struct reward_claim){.machine = names[i],
			                                  .payee = accounts[i],
			                                  .memory_gb = sizes[dice(&random, sizeof sizes / sizeof *sizes)],
			                                  .uptime_us = (int64_t)dice(&random, REWARD_PERIOD_US * 2),
			                                  .earned_uusd = (int64_t)dice(&random, 5000)};
		}
		assert_true(reward_allocate(claims, count, &terms));
		int64_t pool = reward_pool(&terms), left = terms.left_uusd < 0 || terms.left_uusd > pool ? pool : terms.left_uusd,
		        sum = 0;
		for (size_t i = 0; i < count; i++) {
			assert_true(claims[i].grant_uusd >= 0 && claims[i].grant_uusd <= claims[i].want_uusd);
			assert_true(claims[i].want_uusd <= claims[i].floor_uusd);
			assert_true(claims[i].floor_uusd <= reward_tier(claims[i].memory_gb) / 8064 + 1); /* 28 days of 288 */
			sum += claims[i].grant_uusd;
		}
		assert_true(sum <= left);
	}
}

static void an_empty_fleet_gets_nothing(void **state)
{
	(void)state;
	struct reward_terms terms = usual();
	struct reward_claim none = {.machine = "", .payee = ""};
	assert_true(reward_allocate(&none, 0, &terms));
	assert_true(reward_allocate(&none, 1, &terms));
	assert_int_equal(none.grant_uusd, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_worked_numbers_of_the_chapter_hold),
	    cmocka_unit_test(periods_are_aligned_and_named_by_their_start),
	    cmocka_unit_test(tiers_are_the_largest_not_above_the_memory),
	    cmocka_unit_test(known_models_have_a_most_memory_and_unknown_ones_none),
	    cmocka_unit_test(ninety_percent_earns_nothing_and_all_earns_the_tier),
	    cmocka_unit_test(a_month_pays_a_tier_whatever_its_length),
	    cmocka_unit_test(what_was_earned_is_taken_off_by_k),
	    cmocka_unit_test(the_wanted_class_is_served_first_up_to_half),
	    cmocka_unit_test(a_payee_gets_its_part_of_the_pool_at_most),
	    cmocka_unit_test(random_fleets_never_get_more_than_there_is),
	    cmocka_unit_test(an_empty_fleet_gets_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
