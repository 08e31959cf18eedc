/* A second provider is asked when the first stays silent: whoever has content first answers, and is all that is paid for. */
#include "house.h"

#include "coordinator/gateway/hedges.h"

#define ROUNDS_MAX  40 /* until the silent provider was the first choice */
#define PATIENCE_US 60000000

static struct swarm_fleet_options with_fault(enum swarm_fault fault)
{
	struct swarm_fleet_options options = {.credit = true};
	options.faults[fault] = 1;
	return options;
}

static uint64_t hedges(const struct house *house, const char *outcome)
{
	char name[96];
	snprintf(name, sizeof name, "darkbloom_hedges_total{outcome=\"%s\"}", outcome);
	return house_metric(house, name);
}

static void until_hedged(const struct house *house)
{
	for (uint64_t end_us = clock_mono_us() + PATIENCE_US; hedges(house, "started") == 0 && clock_mono_us() < end_us;)
		usleep(5000);
	assert_true(hedges(house, "started") > 0);
}

/* Asks until a second provider has won. Every answer must be whole and paid for once. */
static void until_a_second_has_won(struct house *house, int64_t price_uusd)
{
	for (int round = 0; round < ROUNDS_MAX && hedges(house, "won") == 0; round++) {
		int64_t before = house_balance(house);
		struct said said = house_chat(house, round % 2 ? CHAT(",\"stream\":true") : CHAT(""));
		assert_int_equal(said.status, 200);
		assert_int_equal(said_times(&said, "error"), 0);
		if (round % 2)
			assert_int_equal(said_contents(&said), 3);
		said_free(&said);
		assert_true(house_settles(house));
		assert_int_equal(before - house_balance(house), price_uusd);
	}
	assert_true(hedges(house, "won") >= 1);
}

/* What one answer of the healthy providers costs. */
static int64_t price_of_one(void)
{
	struct house *house = house_new("10", NULL);
	house_add(house, (struct swarm_fleet_options){.credit = true});
	int64_t before = house_balance(house);
	struct said said = house_chat(house, CHAT(""));
	assert_int_equal(said.status, 200);
	said_free(&said);
	assert_true(house_settles(house));
	int64_t price = before - house_balance(house);
	assert_true(price > 0);
	house_free(house);
	return price;
}

static void a_silent_provider_is_overtaken_however_it_is_silent(void **state)
{
	(void)state;
	static const enum swarm_fault faults[] = {SWARM_FAULT_SILENT, SWARM_FAULT_HANG, SWARM_FAULT_STALL};
	int64_t price = price_of_one();
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		struct gateway_options timing = {.hedge_percent = 100, .first_content_ms = 60000};
		struct house *house = house_new("10", &timing);
		house_add(house, with_fault(faults[i]));
		house_add(house, (struct swarm_fleet_options){.credit = true});
		until_a_second_has_won(house, price);
		assert_int_equal(house_metric(house, "darkbloom_failovers_total"), 0);
		house_free(house);
	}
}

/* Whether the third was there long before the others' time was over. */
static bool a_third_is_asked_of(struct house *house)
{
	struct swarm_fleet_options silent = with_fault(SWARM_FAULT_HANG);
	silent.count = 2;
	house_add(house, silent);
	uint64_t begun_us = clock_mono_us();
	int fd = house_send(house, "POST", "/v1/chat/completions", NULL, CHAT(""));
	until_hedged(house);
	house_add(house, (struct swarm_fleet_options){.credit = true}); /* nobody else can answer */
	bool in_time = clock_mono_us() - begun_us < 2500000;
	struct said said = house_read(fd, false);
	if (in_time) {
		assert_int_equal(said.status, 200);
		assert_true(house_metric(house, "darkbloom_failovers_total") >= 1);
		assert_true(hedges(house, "started") >= 2);
	}
	said_free(&said);
	assert_true(house_settles(house));
	return in_time;
}

static void when_both_are_silent_a_third_is_asked(void **state)
{
	(void)state;
	bool in_time = false;
	for (int round = 0; round < ROUNDS_MAX && !in_time; round++) {
		struct gateway_options timing = {.hedge_percent = 100, .first_content_ms = 3000};
		struct house *house = house_new("10", &timing);
		in_time = a_third_is_asked_of(house);
		house_free(house);
	}
	assert_true(in_time);
}

static void a_second_that_fails_leaves_the_first_its_time(void **state)
{
	(void)state;
	struct gateway_options timing = {.hedge_percent = 100, .first_content_ms = 60000};
	struct house *house = house_new("10", &timing);
	struct swarm_fleet_options slow = {.credit = true, .think_us = 1500000};
	house_add(house, slow);
	house_add(house, with_fault(SWARM_FAULT_BUSY));
	for (int round = 0; round < ROUNDS_MAX && hedges(house, "started") == 0; round++) {
		struct said said = house_chat(house, CHAT(""));
		assert_int_equal(said.status, 200);
		said_free(&said);
	}
	assert_true(hedges(house, "started") >= 1);
	assert_int_equal(hedges(house, "won"), 0);
	assert_true(house_settles(house));
	house_free(house);
}

static void when_all_stay_silent_the_consumer_is_told_and_nobody_pays(void **state)
{
	(void)state;
	struct gateway_options timing = {.hedge_percent = 100, .first_content_ms = 300, .accepted_ms = 1500};
	struct house *house = house_new("10", &timing);
	struct swarm_fleet_options silent = with_fault(SWARM_FAULT_HANG);
	silent.count = 2;
	house_add(house, silent);
	int64_t before = house_balance(house);
	struct said said = house_chat(house, CHAT(""));
	assert_int_equal(said.status, 504);
	said_free(&said);
	assert_true(house_settles(house));
	assert_int_equal(house_balance(house), before);
	house_free(house);
}

static void a_consumer_who_leaves_ends_the_race(void **state)
{
	(void)state;
	struct gateway_options timing = {.hedge_percent = 100, .first_content_ms = 60000};
	struct house *house = house_new("10", &timing);
	struct swarm_fleet_options silent = with_fault(SWARM_FAULT_HANG);
	silent.count = 2;
	house_add(house, silent);
	int64_t before = house_balance(house);
	int fd = house_send(house, "POST", "/v1/chat/completions", NULL, CHAT(""));
	until_hedged(house);
	close(fd);
	assert_true(house_settles(house));
	assert_int_equal(house_balance(house), before);
	for (uint64_t end_us = clock_mono_us() + PATIENCE_US;
	     house_metric(house, "darkbloom_jobs_open") > 0 && clock_mono_us() < end_us;)
		usleep(5000);
	assert_int_equal(house_metric(house, "darkbloom_jobs_open"), 0);
	house_free(house);
}

static void without_a_budget_no_second_is_asked(void **state)
{
	(void)state;
	struct gateway_options timing = {.first_content_ms = 200, .accepted_ms = 1000};
	struct house *house = house_new("10", &timing);
	house_add(house, with_fault(SWARM_FAULT_HANG));
	house_add(house, (struct swarm_fleet_options){.credit = true});
	for (int round = 0; round < 6; round++) {
		struct said said = house_chat(house, CHAT(""));
		assert_int_equal(said.status, 200);
		said_free(&said);
	}
	assert_int_equal(hedges(house, "started"), 0);
	house_free(house);
}

/* While the provider streams to somebody else, its silence to the next request is no reason to ask a second one. */
static void a_provider_that_gets_on_with_others_is_waited_for(void **state)
{
	(void)state;
	struct gateway_options timing = {.hedge_percent = 100, .first_content_ms = 20000};
	struct house *house = house_new("1000", &timing);
	house_add(house, (struct swarm_fleet_options){.credit = true, .think_us = 900000, .pace_us = 20000, .chunks = 70});
	struct said alone = house_chat(house, CHAT(""));
	assert_int_equal(alone.status, 200);
	said_free(&alone);
	uint64_t looked = hedges(house, "refused"); /* nobody else is there to be asked */
	assert_true(looked >= 1);
	bool waited = false;
	for (int round = 0; round < ROUNDS_MAX && !waited; round++) { /* a machine that stalls for half a second spoils a round */
		int other = house_send(house, "POST", "/v1/chat/completions", NULL, CHAT(",\"stream\":true"));
		uint64_t relayed = house_metric(house, "darkbloom_relayed_chunks_total");
		while (house_metric(house, "darkbloom_relayed_chunks_total") < relayed + 3)
			usleep(1000);
		looked = hedges(house, "refused");
		struct said answer = house_chat(house, CHAT(",\"max_tokens\":2"));
		assert_int_equal(answer.status, 200);
		said_free(&answer);
		waited = hedges(house, "refused") == looked;
		answer = house_read(other, false);
		assert_int_equal(answer.status, 200);
		said_free(&answer);
	}
	assert_true(waited);
	house_free(house);
}

static void each_model_has_a_budget_of_its_own(void **state)
{
	(void)state;
	struct hedges hedges_by_model;
	struct hedge_policy policy = hedge_default_policy;
	struct hedge_backup backup = {.ttft_ms = 1, .prompt_tokens = 30000};
	hedges_init(&hedges_by_model, &policy);
	assert_true(hedge_begin(hedges_of(&hedges_by_model, STR("a")), &backup, 1000));
	assert_false(hedge_begin(hedges_of(&hedges_by_model, STR("a")), &backup, 1000));
	assert_true(hedge_begin(hedges_of(&hedges_by_model, STR("b")), &backup, 1000));
	struct hedge *shared = NULL;
	for (int i = 0; i < HEDGES_MODELS + 10; i++) {
		char name[32];
		snprintf(name, sizeof name, "model-%d", i);
		shared = hedges_of(&hedges_by_model, str_of(name));
		assert_non_null(shared);
	}
	assert_ptr_equal(shared, hedges_of(&hedges_by_model, STR("one more")));
	assert_ptr_equal(hedges_of(&hedges_by_model, STR("a")), hedges_of(&hedges_by_model, STR("a")));
	assert_ptr_not_equal(hedges_of(&hedges_by_model, STR("a")), shared);
	hedges_free(&hedges_by_model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_silent_provider_is_overtaken_however_it_is_silent),
	    cmocka_unit_test(when_both_are_silent_a_third_is_asked),
	    cmocka_unit_test(a_second_that_fails_leaves_the_first_its_time),
	    cmocka_unit_test(when_all_stay_silent_the_consumer_is_told_and_nobody_pays),
	    cmocka_unit_test(a_consumer_who_leaves_ends_the_race),
	    cmocka_unit_test(without_a_budget_no_second_is_asked),
	    cmocka_unit_test(a_provider_that_gets_on_with_others_is_waited_for),
	    cmocka_unit_test(each_model_has_a_budget_of_its_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
