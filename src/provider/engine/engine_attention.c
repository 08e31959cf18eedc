#include "provider/engine/engine_attention.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && !defined(__AVX512FP16__)

#include <ggml.h>
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define DIM    64 /* of a head: the only one that is computed here */
#define WIDTH  16 /* floats in a register */
#define PARTS  (DIM / WIDTH)
#define HEADS  4      /* at most so many share keys and values */
#define CELLS  32     /* looked at together */
#define TILED  64     /* so many rows the library computes in tiles */
#define HIDDEN 0xfc00 /* -infinity in 16 bits */
#define INLINE static inline __attribute__((always_inline))

/* One row of the heads that share keys and values. */
struct row {
	__m512 query[HEADS][PARTS];
	__m512 sums[HEADS][PARTS]; /* of values, rounded to 16 bits at every step */
	float most[HEADS], total[HEADS];
	float scale;
};

/* The cells of a block that the row sees. */
struct seen {
	const char *keys[CELLS], *values[CELLS];
	float shift[CELLS];
	int count;
};

INLINE __m512 load_half(const char *at)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at));
}

INLINE __m512 rounded(__m512 values)
{
	return _mm512_cvtph_ps(_mm512_cvtps_ph(values, 0));
}

INLINE float to_float(uint16_t half)
{
	return _cvtsh_ss(half);
}

static void find_seen(const uint16_t *mask, int64_t from, int64_t cells, const char *keys, size_t key_step, const char *values,
                      size_t value_step, struct seen *seen)
{
	int64_t left = cells - from;
	__mmask32 valid = left >= CELLS ? 0xffffffffu : (__mmask32)((1u << left) - 1);
	__m512i block = _mm512_maskz_loadu_epi16(valid, mask + from);
	uint32_t bits = _mm512_mask_cmpneq_epi16_mask(valid, block, _mm512_set1_epi16((short)HIDDEN));
	seen->count = 0;
	for (; bits; bits &= bits - 1) {
		int64_t cell = from + __builtin_ctz(bits);
		seen->keys[seen->count] = keys + (size_t)cell * key_step;
		seen->values[seen->count] = values + (size_t)cell * value_step;
		seen->shift[seen->count++] = to_float(mask[cell]);
	}
}

/* The sums of 16 registers' lanes, in their order; each is taken as _mm512_reduce_add_ps takes it. */
INLINE __m512 reduce(const __m512 *in)
{
	__m512 eights[8], fours[4], twos[2];
	for (int i = 0; i < 8; i++)
		eights[i] = _mm512_add_ps(_mm512_shuffle_f32x4(in[2 * i], in[2 * i + 1], 0x44),
		                          _mm512_shuffle_f32x4(in[2 * i], in[2 * i + 1], 0xee));
	for (int i = 0; i < 4; i++)
		fours[i] = _mm512_add_ps(_mm512_shuffle_f32x4(eights[2 * i], eights[2 * i + 1], 0x88),
		                         _mm512_shuffle_f32x4(eights[2 * i], eights[2 * i + 1], 0xdd));
	for (int i = 0; i < 2; i++) {
		__m512d a = _mm512_castps_pd(fours[2 * i]), b = _mm512_castps_pd(fours[2 * i + 1]);
		twos[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
	}
	__m512 mixed = _mm512_add_ps(_mm512_shuffle_ps(twos[0], twos[1], 0x88), _mm512_shuffle_ps(twos[0], twos[1], 0xdd));
	return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), mixed);
}

INLINE void add_block(struct row *row, const struct seen *seen, int heads)
{
	__m512 products[HEADS][CELLS];
	float scores[HEADS][CELLS], weights[HEADS][CELLS], shrinks[HEADS][CELLS];
	for (int i = 0; i < seen->count; i++) {
		__m512 key[PARTS];
		for (int p = 0; p < PARTS; p++)
			key[p] = load_half(seen->keys[i] + p * WIDTH * 2);
		for (int h = 0; h < heads; h++) {
			__m512 product[PARTS];
			for (int p = 0; p < PARTS; p++)
				product[p] = _mm512_fmadd_ps(key[p], row->query[h][p], _mm512_setzero_ps());
			__m512 left = _mm512_add_ps(product[0], product[2]), right = _mm512_add_ps(product[1], product[3]);
			products[h][i] = _mm512_add_ps(left, right);
		}
	}
	for (int h = 0; h < heads; h++) {
		for (int i = seen->count; i % WIDTH; i++)
			products[h][i] = _mm512_setzero_ps();
		for (int i = 0; i < seen->count; i += WIDTH)
			_mm512_storeu_ps(scores[h] + i, _mm512_mul_ps(reduce(products[h] + i), _mm512_set1_ps(row->scale)));
	}
	for (int h = 0; h < heads; h++)
		for (int i = 0; i < seen->count; i++) {
			float score = scores[h][i] + seen->shift[i];
			bool higher = score > row->most[h];
			shrinks[h][i] = higher ? expf(row->most[h] - score) : 1.0f;
			row->most[h] = higher ? score : row->most[h];
			weights[h][i] = higher ? 1.0f : expf(score - row->most[h]);
			row->total[h] = fmaf(row->total[h], shrinks[h][i], weights[h][i]);
		}
	__m512 sums[HEADS][PARTS];
	for (int h = 0; h < heads; h++)
		for (int p = 0; p < PARTS; p++)
			sums[h][p] = row->sums[h][p];
	for (int i = 0; i < seen->count; i++) {
		__m512 value[PARTS];
		for (int p = 0; p < PARTS; p++)
			value[p] = load_half(seen->values[i] + p * WIDTH * 2);
		for (int h = 0; h < heads; h++) {
			if (shrinks[h][i] < 1.0f)
				for (int p = 0; p < PARTS; p++)
					sums[h][p] = rounded(_mm512_mul_ps(sums[h][p], _mm512_set1_ps(shrinks[h][i])));
			__m512 weight = _mm512_set1_ps(weights[h][i]);
			for (int p = 0; p < PARTS; p++)
				sums[h][p] = rounded(_mm512_fmadd_ps(value[p], weight, sums[h][p]));
		}
	}
	for (int h = 0; h < heads; h++)
		for (int p = 0; p < PARTS; p++)
			row->sums[h][p] = sums[h][p];
}

/* `heads` is a constant wherever this is called. */
INLINE void run_row(struct ggml_tensor *node, int64_t token, int64_t group, int heads)
{
	const struct ggml_tensor *q = node->src[0], *k = node->src[1], *v = node->src[2], *mask = node->src[3];
	const uint16_t *shown = (const void *)((const char *)mask->data + (size_t)token * mask->nb[1]);
	const char *keys = (const char *)k->data + (size_t)group * k->nb[2];
	const char *values = (const char *)v->data + (size_t)group * v->nb[2];
	struct row row;
	struct seen seen;
	memcpy(&row.scale, node->op_params, sizeof row.scale);
	for (int h = 0; h < heads; h++) {
		const char *query = (const char *)q->data + (size_t)token * q->nb[1] + (size_t)(group * heads + h) * q->nb[2];
		row.most[h] = -INFINITY;
		row.total[h] = 0;
		for (int p = 0; p < PARTS; p++) {
			row.query[h][p] = rounded(_mm512_loadu_ps((const void *)(query + p * WIDTH * 4)));
			row.sums[h][p] = _mm512_setzero_ps();
		}
	}
	for (int64_t cell = 0; cell < k->ne[1]; cell += CELLS) {
		find_seen(shown, cell, k->ne[1], keys, k->nb[1], values, v->nb[1], &seen);
		if (seen.count)
			add_block(&row, &seen, heads);
	}
	for (int h = 0; h < heads; h++) {
		float part = row.total[h] > 0 || row.total[h] < 0 ? 1.0f / row.total[h] : 0.0f;
		char *out = (char *)node->data + (size_t)(group * heads + h + token * node->ne[1]) * node->nb[1];
		for (int p = 0; p < PARTS; p++)
			_mm512_storeu_ps((void *)(out + p * WIDTH * 4), _mm512_mul_ps(row.sums[h][p], _mm512_set1_ps(part)));
	}
}

static bool is_ours(const struct ggml_tensor *node)
{
	const struct ggml_tensor *q = node->src[0], *k = node->src[1], *v = node->src[2], *mask = node->src[3];
	float bias, cap;
	memcpy(&bias, (const float *)(const void *)node->op_params + 1, sizeof bias);
	memcpy(&cap, (const float *)(const void *)node->op_params + 2, sizeof cap);
	return mask && !node->src[4] && q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 &&
	       q->ne[0] == DIM && k->ne[0] == DIM && v->ne[0] == DIM && q->ne[1] > 1 && q->ne[1] < TILED && q->ne[3] == 1 &&
	       mask->ne[2] == 1 && k->ne[2] == v->ne[2] && q->ne[2] % k->ne[2] == 0 && q->ne[2] / k->ne[2] <= HEADS &&
	       !(bias < 0 || bias > 0) && !(cap < 0 || cap > 0);
}

/* Neighbours go to different threads: they see about as many cells. */
bool engine_attention_run(struct ggml_tensor *node, int part, int parts)
{
	const struct ggml_tensor *q = node->src[0], *k = node->src[1];
	if (!is_ours(node))
		return false;
	int64_t heads = q->ne[2] / k->ne[2], rows = q->ne[1] * k->ne[2];
	for (int64_t i = part; i < rows; i += parts) {
		int64_t token = i % q->ne[1], group = i / q->ne[1];
		if (heads == 1)
			run_row(node, token, group, 1);
		else if (heads == 2)
			run_row(node, token, group, 2);
		else if (heads == 3)
			run_row(node, token, group, 3);
		else
			run_row(node, token, group, 4);
	}
	return true;
}

#else

bool engine_attention_run(struct ggml_tensor *node, int part, int parts)
{
	(void)node;
	(void)part;
	(void)parts;
	return false;
}

#endif
