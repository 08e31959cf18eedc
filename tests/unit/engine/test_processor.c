#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "provider/engine/engine_processor.h"

#define HASWELL                                                                                                                \
	(ENGINE_PROCESSOR_SSE42 | ENGINE_PROCESSOR_AVX | ENGINE_PROCESSOR_AVX2 | ENGINE_PROCESSOR_FMA | ENGINE_PROCESSOR_F16C |    \
	 ENGINE_PROCESSOR_BMI2)

static void a_processor_that_can_all_of_it_may_run_it(void **state)
{
	char why[ENGINE_PROCESSOR_SENTENCE];
	(void)state;
	assert_true(engine_processor_suits(HASWELL, HASWELL, why));
	assert_true(engine_processor_suits(HASWELL, HASWELL | ENGINE_PROCESSOR_AVX512F, why));
	assert_true(engine_processor_suits(0, 0, why));
}

static void what_is_missing_is_named_with_what_to_do(void **state)
{
	char why[ENGINE_PROCESSOR_SENTENCE];
	(void)state;
	assert_false(engine_processor_suits(HASWELL | ENGINE_PROCESSOR_AVX512F | ENGINE_PROCESSOR_AVX512VNNI, HASWELL, why));
	assert_non_null(strstr(why, "with AVX512F, AVX512_VNNI,"));
	assert_null(strstr(why, "AVX2"));
	assert_non_null(strstr(why, "`make`"));
	assert_non_null(strstr(why, "DARKBLOOM_CPU=portable make"));
	assert_false(engine_processor_suits(HASWELL, ENGINE_PROCESSOR_SSE42, why));
	assert_non_null(strstr(why, "with AVX, AVX2, FMA, F16C, BMI2,"));
}

static void every_set_has_a_name_and_all_of_them_fit(void **state)
{
	char why[ENGINE_PROCESSOR_SENTENCE];
	(void)state;
	for (unsigned i = 0; i < ENGINE_PROCESSOR_SETS; i++) {
		assert_false(engine_processor_suits(UINT32_C(1) << i, ~(UINT32_C(1) << i), why));
		assert_null(strstr(why, "with ,"));
	}
	assert_false(engine_processor_suits((UINT32_C(1) << ENGINE_PROCESSOR_SETS) - 1, 0, why));
	assert_non_null(strstr(why, "AMX-INT8"));
	assert_non_null(strstr(why, "portable make`"));
}

/* The kernel's own list of what programs may use, where there is one; it may be shorter. */
static void what_the_system_lists_is_found(void **state)
{
	static const struct {
		uint32_t set;
		const char *flag;
	} flags[] = {{ENGINE_PROCESSOR_SSE42, " sse4_2 "},
	             {ENGINE_PROCESSOR_AVX, " avx "},
	             {ENGINE_PROCESSOR_AVX2, " avx2 "},
	             {ENGINE_PROCESSOR_FMA, " fma "},
	             {ENGINE_PROCESSOR_F16C, " f16c "},
	             {ENGINE_PROCESSOR_BMI2, " bmi2 "},
	             {ENGINE_PROCESSOR_AVX512F, " avx512f "},
	             {ENGINE_PROCESSOR_AVX512BW, " avx512bw "},
	             {ENGINE_PROCESSOR_AVX512DQ, " avx512dq "},
	             {ENGINE_PROCESSOR_AVX512VL, " avx512vl "},
	             {ENGINE_PROCESSOR_AVX512VBMI, " avx512vbmi "},
	             {ENGINE_PROCESSOR_AVX512VNNI, " avx512_vnni "}};
	char line[1 << 14] = "";
	(void)state;
	FILE *file = fopen("/proc/cpuinfo", "r");
	while (file && fgets(line, sizeof line, file) && strncmp(line, "flags", 5) != 0)
		line[0] = '\0';
	if (file)
		fclose(file);
	if (!line[0])
		skip();
	line[strcspn(line, "\n")] = ' ';
	uint32_t has = engine_processor_has();
	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
		if (strstr(line, flags[i].flag))
			assert_true(has & flags[i].set);
}

static void this_program_suits_the_processor_that_built_it(void **state)
{
	char why[ENGINE_PROCESSOR_SENTENCE];
	(void)state;
	if (!engine_processor_suits(engine_processor_built_for, engine_processor_has(), why))
		fail_msg("%s", why);
#if defined(__x86_64__) && defined(__linux__)
	assert_true(engine_processor_built_for & ENGINE_PROCESSOR_SSE42);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_processor_that_can_all_of_it_may_run_it),
	    cmocka_unit_test(what_is_missing_is_named_with_what_to_do),
	    cmocka_unit_test(every_set_has_a_name_and_all_of_them_fit),
	    cmocka_unit_test(what_the_system_lists_is_found),
	    cmocka_unit_test(this_program_suits_the_processor_that_built_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
