/* Failure accounting of challenges (protocol-and-trust 6.5, 6.6, trap 10) as traces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/trust/standing.h"

#define START_US 1000

/* One letter for each round: p pass, t no reply, f wrong reply, h hard, s inconclusive, v violation outside. */
static struct trust_effect play(struct trust_standing *standing, const char *trace)
{
	static const char letters[] = "ptfhs";
	struct trust_effect effect = {0};
	uint64_t now_us = START_US;
	for (; *trace; trace++) {
		now_us += 1000;
		if (*trace == 'v')
			trust_violated(standing);
		else
			effect = trust_challenged(standing, (enum trust_outcome)(strchr(letters, *trace) - letters), now_us);
	}
	return effect;
}

struct row {
	const char *trace;
	bool eligible, posture, untrusted, hard, tell, close;
	uint32_t failures;
};

static void traces(void **state)
{
	(void)state;
	static const struct row rows[] = {
	    /* trace        elig   post   untr   hard   tell   close  failures */
	    {"p", true, true, false, false, false, false, 0},
	    {"t", true, false, false, false, false, false, 1},
	    {"pt", true, true, false, false, false, false, 1},
	    {"ptt", true, true, false, false, false, false, 2},
	    {"pttt", false, false, true, false, true, false, 3},
	    {"ptttt", false, false, true, false, true, false, 4},
	    {"pttttt", false, false, true, false, true, false, 5},
	    {"ptttttt", false, false, true, false, true, true, 6},
	    {"ptttp", true, true, false, false, true, false, 0}, /* restored, and told so */
	    {"pttp", true, true, false, false, false, false, 0},
	    {"pttpt", true, true, false, false, false, false, 1},
	    {"pf", false, false, false, false, false, false, 1}, /* at once, and nothing is sent */
	    {"pfp", true, true, false, false, false, false, 0},
	    {"pff", false, false, false, false, false, false, 2},
	    {"pfff", false, false, true, true, true, false, 3},
	    {"pttf", false, false, true, true, true, false, 3},  /* the last reason decides */
	    {"pfft", false, false, true, false, true, false, 3}, /* the other way round */
	    {"pfftp", true, true, false, false, true, false, 0},
	    {"ptttf", false, false, true, true, true, false, 4},  /* hard overrides recoverable */
	    {"pffft", false, false, true, true, true, false, 4},  /* and never softens */
	    {"pfffp", false, false, true, true, false, false, 0}, /* nor does a pass help */
	    {"ph", false, false, true, true, false, false, 1},    /* hard below three: nothing is sent */
	    {"phtttttt", false, false, true, true, true, true, 7},
	    {"ps", true, true, false, false, false, false, 0},
	    {"pts", true, true, false, false, false, false, 1},
	    {"pv", false, false, true, true, false, false, 0},
	    {"pvp", false, false, true, true, false, false, 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct row *row = &rows[i];
		struct trust_standing standing;
		trust_registered(&standing, WIRE_TRUST_SELF_SIGNED, START_US);
		struct trust_effect effect = play(&standing, row->trace);
		if ((standing.last_pass_us != 0) != row->eligible || standing.posture_verified != row->posture ||
		    standing.untrusted != row->untrusted || standing.hard != row->hard || effect.tell != row->tell ||
		    effect.close != row->close || standing.failures != row->failures || standing.level != WIRE_TRUST_SELF_SIGNED)
			fail_msg("trace %s: eligible %d posture %d untrusted %d hard %d tell %d close %d failures %u", row->trace,
			         standing.last_pass_us != 0, standing.posture_verified, standing.untrusted, standing.hard, effect.tell,
			         effect.close, standing.failures);
	}
}

/* What a machine that is asleep for days adds up to. */
static void failures_beyond_counting_stay_many(void **state)
{
	(void)state;
	struct trust_standing standing;
	trust_registered(&standing, WIRE_TRUST_SELF_SIGNED, START_US);
	for (int i = 0; i < 3 * UINT8_MAX; i++) {
		struct trust_effect effect = play(&standing, "t");
		assert_int_equal(effect.tell, i + 1 >= TRUST_FAILURES_UNTRUST);
		assert_int_equal(effect.close, i + 1 >= TRUST_FAILURES_CLOSE);
		assert_int_equal(standing.failures, i < UINT8_MAX ? i + 1 : UINT8_MAX);
	}
	assert_true(play(&standing, "p").tell);
	assert_int_equal(standing.failures, 0);
}

static void a_pass_is_timed(void **state)
{
	(void)state;
	struct trust_standing standing;
	trust_registered(&standing, WIRE_TRUST_SELF_SIGNED, START_US);
	assert_int_equal(standing.last_pass_us, START_US);
	assert_false(standing.posture_verified);
	(void)play(&standing, "tp");
	assert_int_equal(standing.last_pass_us, START_US + 2000);
}

static void without_an_attestation_there_is_no_head_start(void **state)
{
	(void)state;
	struct trust_standing standing;
	trust_registered(&standing, WIRE_TRUST_NONE, START_US);
	assert_int_equal(standing.last_pass_us, 0);
	(void)play(&standing, "p");
	assert_int_equal(standing.last_pass_us, START_US + 1000);
	assert_int_equal(standing.level, WIRE_TRUST_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(traces),
	    cmocka_unit_test(failures_beyond_counting_stay_many),
	    cmocka_unit_test(a_pass_is_timed),
	    cmocka_unit_test(without_an_attestation_there_is_no_head_start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
