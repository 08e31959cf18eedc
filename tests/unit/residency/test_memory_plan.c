#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provider/residency/memory_plan.h"

#define GIB (UINT64_C(1) << 30)

static bool near(double a, double b)
{
	return a > b - 1e-9 && a < b + 1e-9;
}

/* provider-node 8.2: caps and headroom of a machine with the chapter's full amounts. */
static void a_large_machine_keeps_the_chapters_amounts(void **state)
{
	(void)state;
	struct memory_policy policy = memory_policy_of(64, -1);
	assert_true(near(policy.reserve_gb, 4));
	assert_true(near(policy.activation_gb, 3));
	struct memory_now now = {.physical_gb = 64, .available_gb = 64};
	assert_true(near(memory_free_for_load_gb(&policy, &now), 57.6));
	now = (struct memory_now){.physical_gb = 128, .available_gb = 128};
	policy = memory_policy_of(128, -1);
	assert_true(near(memory_free_for_load_gb(&policy, &now), 115.2));
	assert_true(near(memory_need_gb(&policy, 10 * GIB), 12 + 4));
}

static void the_owners_reserve_holds_where_it_is_larger(void **state)
{
	(void)state;
	struct memory_policy policy = memory_policy_of(64, 20);
	struct memory_now now = {.physical_gb = 64, .available_gb = 60};
	assert_true(near(memory_free_for_load_gb(&policy, &now), 40));
	now.kv_reserved_gb = 30;
	assert_true(near(memory_free_for_load_gb(&policy, &now), 10));
	now.kv_reserved_gb = 50;
	assert_true(near(memory_free_for_load_gb(&policy, &now), 0));
}

static void sequences_get_what_weights_leave_and_never_nothing(void **state)
{
	(void)state;
	struct memory_policy policy = memory_policy_of(64, -1);
	struct memory_now start = {.physical_gb = 64, .available_gb = 60};
	double idle = memory_kv_gb(&policy, &start, 0);
	assert_true(near(idle, memory_free_for_load_gb(&policy, &start) - policy.activation_gb));
	assert_true(near(memory_kv_gb(&policy, &start, 30), idle - 30));
	assert_true(near(memory_kv_gb(&policy, &start, 1000), policy.min_kv_gb));
}

static void a_small_machine_can_load_something_small(void **state)
{
	(void)state;
	for (int gb = 4; gb <= 64; gb += 4) {
		struct memory_policy policy = memory_policy_of(gb, -1);
		struct memory_now now = {.physical_gb = gb, .available_gb = gb * 0.8};
		assert_true(memory_need_gb(&policy, GIB / 4) < memory_free_for_load_gb(&policy, &now));
		assert_true(memory_need_gb(&policy, (uint64_t)gb * GIB) > memory_free_for_load_gb(&policy, &now));
	}
}

static void what_other_programs_took_is_not_free(void **state)
{
	(void)state;
	struct memory_policy policy = memory_policy_of(32, -1);
	struct memory_now now = {.physical_gb = 32, .available_gb = 3};
	assert_true(near(memory_free_for_load_gb(&policy, &now), 0));
	assert_false(memory_is_short(&policy, &now));
	now.available_gb = 0.2;
	assert_true(memory_is_short(&policy, &now));
}

static void weights_go_where_a_device_has_memory_of_its_own(void **state)
{
	(void)state;
	struct memory_policy policy = memory_policy_of(64, 20);
	struct memory_now now = {.physical_gb = 64, .available_gb = 60};
	double without = memory_free_for_load_gb(&policy, &now);
	static const struct memory_device shared_only[] = {{.dedicated = false, .total_gb = 48, .free_gb = 48}};
	memory_on_devices(&now, shared_only, 1);
	assert_true(near(memory_free_for_load_gb(&policy, &now), without)); /* it is the machine's own memory */
	static const struct memory_device two[] = {
	    {.dedicated = true, .total_gb = 80, .free_gb = 70}, {.dedicated = true, .total_gb = 20, .free_gb = 5}, {false, 48, 48}};
	memory_on_devices(&now, two, 3);
	assert_true(near(memory_free_for_load_gb(&policy, &now), 75 - 10)); /* a tenth of 100 is never used */
	now.kv_reserved_gb = 15;
	assert_true(near(memory_free_for_load_gb(&policy, &now), 50));
	now.available_gb = 1; /* of the machine's: the weights do not lie there */
	assert_true(near(memory_free_for_load_gb(&policy, &now), 50));
	static const struct memory_device full[] = {{.dedicated = true, .total_gb = 80, .free_gb = 90}, {.dedicated = true}};
	now.kv_reserved_gb = 0;
	memory_on_devices(&now, full, 2);
	assert_true(near(memory_free_for_load_gb(&policy, &now), 72));
	assert_true(near(memory_kv_gb(&policy, &now, 40), 72 - policy.activation_gb - 40));
	memory_on_devices(&now, NULL, 0);
	assert_true(near(now.device_total_gb, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_large_machine_keeps_the_chapters_amounts),
	    cmocka_unit_test(the_owners_reserve_holds_where_it_is_larger),
	    cmocka_unit_test(sequences_get_what_weights_leave_and_never_nothing),
	    cmocka_unit_test(a_small_machine_can_load_something_small),
	    cmocka_unit_test(what_other_programs_took_is_not_free),
	    cmocka_unit_test(weights_go_where_a_device_has_memory_of_its_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
