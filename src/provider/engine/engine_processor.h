/* What this processor can, against what the engine was compiled for. llama.cpp and our own products of matrices use the
 * instructions of the processor that built them; on one without them the process would end by SIGILL. x86-64 only: elsewhere
 * nothing is asked for. This file's code is compiled for every processor of its architecture. Thread: any. */
#ifndef PROVIDER_ENGINE_PROCESSOR_H
#define PROVIDER_ENGINE_PROCESSOR_H

#include <stdbool.h>
#include <stdint.h>

/* Sets of instructions, as bits. Registers that the system does not save for programs count as not there. */
enum engine_processor_set {
	ENGINE_PROCESSOR_SSE42 = 1 << 0,
	ENGINE_PROCESSOR_AVX = 1 << 1,
	ENGINE_PROCESSOR_AVX2 = 1 << 2,
	ENGINE_PROCESSOR_FMA = 1 << 3,
	ENGINE_PROCESSOR_F16C = 1 << 4,
	ENGINE_PROCESSOR_BMI2 = 1 << 5,
	ENGINE_PROCESSOR_AVX_VNNI = 1 << 6,
	ENGINE_PROCESSOR_AVX512F = 1 << 7,
	ENGINE_PROCESSOR_AVX512BW = 1 << 8,
	ENGINE_PROCESSOR_AVX512DQ = 1 << 9,
	ENGINE_PROCESSOR_AVX512VL = 1 << 10,
	ENGINE_PROCESSOR_AVX512VBMI = 1 << 11,
	ENGINE_PROCESSOR_AVX512VNNI = 1 << 12,
	ENGINE_PROCESSOR_AVX512BF16 = 1 << 13,
	ENGINE_PROCESSOR_AVX512FP16 = 1 << 14,
	ENGINE_PROCESSOR_AMX_TILE = 1 << 15,
	ENGINE_PROCESSOR_AMX_INT8 = 1 << 16,
};
#define ENGINE_PROCESSOR_SETS 17

/* What the compiler was told for the files that use them, and so for llama.cpp. */
extern const uint32_t engine_processor_built_for;
uint32_t engine_processor_has(void);
#define ENGINE_PROCESSOR_SENTENCE 512
/* May a program that needs these sets run where there are those? If not, `why` is a sentence that says what to do. */
bool engine_processor_suits(uint32_t need, uint32_t has, char why[ENGINE_PROCESSOR_SENTENCE]);

#endif
