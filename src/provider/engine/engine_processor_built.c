/* Compiled with the options of the files that use them: no code here, or it could be what the processor does not know. */
#include "provider/engine/engine_processor.h"

const uint32_t engine_processor_built_for = 0
#ifdef __SSE4_2__
                                            | ENGINE_PROCESSOR_SSE42
#endif
#ifdef __AVX__
                                            | ENGINE_PROCESSOR_AVX
#endif
#ifdef __AVX2__
                                            | ENGINE_PROCESSOR_AVX2
#endif
#ifdef __FMA__
                                            | ENGINE_PROCESSOR_FMA
#endif
#ifdef __F16C__
                                            | ENGINE_PROCESSOR_F16C
#endif
#ifdef __BMI2__
                                            | ENGINE_PROCESSOR_BMI2
#endif
#ifdef __AVXVNNI__
                                            | ENGINE_PROCESSOR_AVX_VNNI
#endif
#ifdef __AVX512F__
                                            | ENGINE_PROCESSOR_AVX512F
#endif
#ifdef __AVX512BW__
                                            | ENGINE_PROCESSOR_AVX512BW
#endif
#ifdef __AVX512DQ__
                                            | ENGINE_PROCESSOR_AVX512DQ
#endif
#ifdef __AVX512VL__
                                            | ENGINE_PROCESSOR_AVX512VL
#endif
#ifdef __AVX512VBMI__
                                            | ENGINE_PROCESSOR_AVX512VBMI
#endif
#ifdef __AVX512VNNI__
                                            | ENGINE_PROCESSOR_AVX512VNNI
#endif
#ifdef __AVX512BF16__
                                            | ENGINE_PROCESSOR_AVX512BF16
#endif
#ifdef __AVX512FP16__
                                            | ENGINE_PROCESSOR_AVX512FP16
#endif
#ifdef __AMX_TILE__
                                            | ENGINE_PROCESSOR_AMX_TILE
#endif
#ifdef __AMX_INT8__
                                            | ENGINE_PROCESSOR_AMX_INT8
#endif
    ;
