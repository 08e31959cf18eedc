#include "provider/engine/engine_processor.h"

#include <stddef.h>
#include <stdio.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum reg { EAX, EBX, ECX, EDX };

/* State that the system must save for a set's registers: bits of XCR0. */
#define SAVES_NONE   0u
#define SAVES_YMM    0x6u
#define SAVES_ZMM    0xe6u
#define SAVES_TILES  0x60000u
#define OSXSAVE_BIT  27u
#define LEAF_1       1u
#define LEAF_7       7u
#define LEAF_HIGHEST 0u

/* Intel 64 manual 2A, CPUID; in the order of the bits of enum engine_processor_set. */
static const struct {
	const char *name;
	unsigned leaf, part;
	enum reg reg;
	unsigned bit;
	uint64_t saves;
} sets[ENGINE_PROCESSOR_SETS] = {
    {"SSE4.2", LEAF_1, 0, ECX, 20, SAVES_NONE},     {"AVX", LEAF_1, 0, ECX, 28, SAVES_YMM},
    {"AVX2", LEAF_7, 0, EBX, 5, SAVES_YMM},         {"FMA", LEAF_1, 0, ECX, 12, SAVES_YMM},
    {"F16C", LEAF_1, 0, ECX, 29, SAVES_YMM},        {"BMI2", LEAF_7, 0, EBX, 8, SAVES_NONE},
    {"AVX-VNNI", LEAF_7, 1, EAX, 4, SAVES_YMM},     {"AVX512F", LEAF_7, 0, EBX, 16, SAVES_ZMM},
    {"AVX512BW", LEAF_7, 0, EBX, 30, SAVES_ZMM},    {"AVX512DQ", LEAF_7, 0, EBX, 17, SAVES_ZMM},
    {"AVX512VL", LEAF_7, 0, EBX, 31, SAVES_ZMM},    {"AVX512_VBMI", LEAF_7, 0, ECX, 1, SAVES_ZMM},
    {"AVX512_VNNI", LEAF_7, 0, ECX, 11, SAVES_ZMM}, {"AVX512_BF16", LEAF_7, 1, EAX, 5, SAVES_ZMM},
    {"AVX512_FP16", LEAF_7, 0, EDX, 23, SAVES_ZMM}, {"AMX-TILE", LEAF_7, 0, EDX, 24, SAVES_TILES},
    {"AMX-INT8", LEAF_7, 0, EDX, 25, SAVES_TILES},
};

#if defined(__x86_64__)
static uint64_t saved_state(void)
{
	unsigned a, b, c, d, low, high;
	__cpuid(LEAF_1, a, b, c, d);
	if (!(c >> OSXSAVE_BIT & 1))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

static bool has_set(size_t i, uint64_t saved)
{
	unsigned reg[4] = {0};
	if (sets[i].leaf > (unsigned)__get_cpuid_max(LEAF_HIGHEST, NULL))
		return false;
	__cpuid_count(sets[i].leaf, 0, reg[EAX], reg[EBX], reg[ECX], reg[EDX]);
	if (sets[i].part > 0 && sets[i].part > reg[EAX])
		return false;
	__cpuid_count(sets[i].leaf, sets[i].part, reg[EAX], reg[EBX], reg[ECX], reg[EDX]);
	return (reg[sets[i].reg] >> sets[i].bit & 1) && (saved & sets[i].saves) == sets[i].saves;
}

uint32_t engine_processor_has(void)
{
	uint64_t saved = saved_state();
	uint32_t has = 0;
	for (size_t i = 0; i < ENGINE_PROCESSOR_SETS; i++)
		has |= has_set(i, saved) ? UINT32_C(1) << i : 0;
	return has;
}
#else
uint32_t engine_processor_has(void)
{
	return 0;
}
#endif

static void name_missing(uint32_t missing, char *out, size_t size)
{
	size_t len = 0;
	out[0] = '\0';
	for (size_t i = 0; i < ENGINE_PROCESSOR_SETS; i++) {
		if (!(missing >> i & 1))
			continue;
		int n = snprintf(out + len, size - len, "%s%s", len ? ", " : "", sets[i].name);
		len += n > 0 && (size_t)n < size - len ? (size_t)n : 0;
	}
}

bool engine_processor_suits(uint32_t need, uint32_t has, char why[ENGINE_PROCESSOR_SENTENCE])
{
	char names[256];
	name_missing(need & ~has, names, sizeof names);
	snprintf(
	    why, ENGINE_PROCESSOR_SENTENCE,
	    "this program was built for a processor with %s, and this one has none of that or its system does not let programs "
	    "use it: build it on this machine with `make`, or for all machines with `DARKBLOOM_CPU=portable make`",
	    names);
	return !(need & ~has);
}
