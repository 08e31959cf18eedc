#include "provider/residency/memory_plan.h"

#define GIB           (1024.0 * 1024.0 * 1024.0)
#define WEIGHT_FACTOR 1.2 /* weights as they lie in memory, over the files */
#define CAP_FRACTION  0.90
#define SYSTEM_GB     2.0
#define RESERVE_GB    4.0
#define ACTIVATION_GB 3.0
#define MIN_KV_GB     1.0
#define FULL_SIZE_GB  64.0 /* machines from here on keep the whole amounts */

static double smaller(double a, double b)
{
	return a < b ? a : b;
}

static double larger(double a, double b)
{
	return a > b ? a : b;
}

struct memory_policy memory_policy_of(double physical_gb, double reserve_gb)
{
	double share = smaller(larger(physical_gb, 0) / FULL_SIZE_GB, 1);
	return (struct memory_policy){.cap_fraction = CAP_FRACTION,
	                              .reserve_gb = reserve_gb >= 0 ? reserve_gb : RESERVE_GB * share,
	                              .activation_gb = ACTIVATION_GB * share,
	                              .min_kv_gb = MIN_KV_GB * share};
}

double memory_estimate_gb(uint64_t weight_bytes)
{
	return (double)weight_bytes / GIB * WEIGHT_FACTOR;
}

static double load_reserve_gb(const struct memory_policy *policy, double physical_gb)
{
	double hard_cap = smaller(policy->cap_fraction * physical_gb, physical_gb - SYSTEM_GB * smaller(physical_gb / 20, 1));
	return larger(policy->reserve_gb, physical_gb - hard_cap);
}

void memory_on_devices(struct memory_now *now, const struct memory_device *devices, size_t count)
{
	now->device_total_gb = now->device_free_gb = 0;
	for (size_t i = 0; i < count; i++) {
		if (!devices[i].dedicated || devices[i].total_gb <= 0)
			continue;
		now->device_total_gb += devices[i].total_gb;
		now->device_free_gb += smaller(larger(devices[i].free_gb, 0), devices[i].total_gb);
	}
}

/* Its owner's share is of the machine's memory; a device only keeps what is never used. */
static double device_free_for_load_gb(const struct memory_policy *policy, const struct memory_now *now)
{
	double kept = (1 - policy->cap_fraction) * now->device_total_gb;
	return larger(now->device_free_gb - kept - now->kv_reserved_gb, 0);
}

double memory_free_for_load_gb(const struct memory_policy *policy, const struct memory_now *now)
{
	if (now->device_total_gb > 0)
		return device_free_for_load_gb(policy, now);
	double free_gb = smaller(now->physical_gb, now->available_gb);
	return larger(free_gb - load_reserve_gb(policy, now->physical_gb) - now->kv_reserved_gb, 0);
}

double memory_kv_gb(const struct memory_policy *policy, const struct memory_now *at_start, double loaded_gb)
{
	return larger(memory_free_for_load_gb(policy, at_start) - policy->activation_gb - loaded_gb, policy->min_kv_gb);
}

double memory_need_gb(const struct memory_policy *policy, uint64_t weight_bytes)
{
	return memory_estimate_gb(weight_bytes) + policy->activation_gb + policy->min_kv_gb;
}

bool memory_is_short(const struct memory_policy *policy, const struct memory_now *now)
{
	return now->available_gb < policy->min_kv_gb;
}
