/* e to the power of each, for none above 0, with the bits of the C library's expf: its steps, sixteen at once. Pure. */
#ifndef PROVIDER_ENGINE_EXP_H
#define PROVIDER_ENGINE_EXP_H

#include <immintrin.h>

#define ENGINE_EXP_LEAST -0x1.9fe368p6f /* below it is 0 */

/* 2^(i/32) */
static const double engine_exp_table[32] = {
    0x1.0000000000000p+0, 0x1.059b0d3158574p+0, 0x1.0b5586cf9890fp+0, 0x1.11301d0125b51p+0, 0x1.172b83c7d517bp+0,
    0x1.1d4873168b9aap+0, 0x1.2387a6e756238p+0, 0x1.29e9df51fdee1p+0, 0x1.306fe0a31b715p+0, 0x1.371a7373aa9cbp+0,
    0x1.3dea64c123422p+0, 0x1.44e086061892dp+0, 0x1.4bfdad5362a27p+0, 0x1.5342b569d4f82p+0, 0x1.5ab07dd485429p+0,
    0x1.6247eb03a5585p+0, 0x1.6a09e667f3bcdp+0, 0x1.71f75e8ec5f74p+0, 0x1.7a11473eb0187p+0, 0x1.82589994cce13p+0,
    0x1.8ace5422aa0dbp+0, 0x1.93737b0cdc5e5p+0, 0x1.9c49182a3f090p+0, 0x1.a5503b23e255dp+0, 0x1.ae89f995ad3adp+0,
    0x1.b7f76f2fb5e47p+0, 0x1.c199bdd85529cp+0, 0x1.cb720dcef9069p+0, 0x1.d5818dcfba487p+0, 0x1.dfc97337b9b5fp+0,
    0x1.ea4afa2a490dap+0, 0x1.f50765b6e4540p+0,
};

static inline __attribute__((always_inline)) __m256 engine_exp8(__m256 x)
{
	const __m512d per_part = _mm512_set1_pd(0x1.71547652b82fep+5), shift = _mm512_set1_pd(0x1.8p52);
	__m512d wide = _mm512_cvtps_pd(x);
	__m512d parts = _mm512_fmadd_pd(per_part, wide, shift); /* the nearest 32nd, in the lowest bits */
	__m512i places = _mm512_castpd_si512(parts);
	__m512d rest = _mm512_fmsub_pd(per_part, wide, _mm512_sub_pd(parts, shift));
	__m512d low = _mm512_permutex2var_pd(_mm512_loadu_pd(engine_exp_table), places, _mm512_loadu_pd(engine_exp_table + 8));
	__m512d high =
	    _mm512_permutex2var_pd(_mm512_loadu_pd(engine_exp_table + 16), places, _mm512_loadu_pd(engine_exp_table + 24));
	__m512d power = _mm512_mask_blend_pd(_mm512_test_epi64_mask(places, _mm512_set1_epi64(16)), low, high);
	__m512i whole = _mm512_slli_epi64(_mm512_srai_epi64(places, 5), 52);
	__m512d scale = _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(power), whole));
	__m512d upper = _mm512_fmadd_pd(_mm512_set1_pd(0x1.c6af84b912394p-20), rest, _mm512_set1_pd(0x1.ebfce50fac4f3p-13));
	__m512d lower = _mm512_fmadd_pd(_mm512_set1_pd(0x1.62e42ff0c52d6p-6), rest, _mm512_set1_pd(1));
	__m512d sum = _mm512_fmadd_pd(upper, _mm512_mul_pd(rest, rest), lower);
	return _mm512_cvtpd_ps(_mm512_mul_pd(sum, scale));
}

static inline __attribute__((always_inline)) __m512 engine_exp(__m512 x)
{
	__mmask16 kept = _mm512_cmp_ps_mask(x, _mm512_set1_ps(ENGINE_EXP_LEAST), _CMP_GE_OQ);
	x = _mm512_maskz_mov_ps(kept, x);
	__m256 low = engine_exp8(_mm512_castps512_ps256(x)), high = engine_exp8(_mm512_extractf32x8_ps(x, 1));
	return _mm512_maskz_mov_ps(kept, _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1));
}

#endif
