#include "provider/engine/engine_attention.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && !defined(__AVX512FP16__)

#include "provider/engine/engine_exp.h"

#include <ggml.h>
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
#define BUNCH  32     /* rows that are run block by block */
#define SHARED 3      /* rows that see all of a block: from so many on its keys are turned for all of them */
#define PROBES 16     /* blocks that are looked at to see whether rows share what they see */
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

/* What scores of cells in a row weigh against the highest so far, and by how much each shrinks what came before. True when one
 * of them is higher. */
INLINE bool weigh(struct row *row, int head, __m512 scores, int count, float *weights, float *shrinks)
{
	__m512 above = _mm512_sub_ps(scores, _mm512_set1_ps(row->most[head]));
	if (!_mm512_mask_cmp_ps_mask((__mmask16)((1u << count) - 1), above, _mm512_setzero_ps(), _CMP_NLE_UQ)) {
		_mm512_storeu_ps(weights, engine_exp(above));
		_mm512_storeu_ps(shrinks, _mm512_set1_ps(1));
		return false;
	}
	float each[WIDTH];
	_mm512_storeu_ps(each, scores);
	for (int i = 0; i < count; i++) {
		bool higher = each[i] > row->most[head];
		shrinks[i] = higher ? expf(row->most[head] - each[i]) : 1.0f;
		row->most[head] = higher ? each[i] : row->most[head];
		weights[i] = higher ? 1.0f : expf(each[i] - row->most[head]);
	}
	return true;
}

INLINE void add_totals(struct row *row, float weights[HEADS][CELLS], float shrinks[HEADS][CELLS], int count, int heads)
{
	for (int i = 0; i < count; i++)
		for (int h = 0; h < heads; h++)
			row->total[h] = fmaf(row->total[h], shrinks[h][i], weights[h][i]);
}

/* `higher`: a score among them was. */
INLINE void add_value(__m512 sums[HEADS][PARTS], const __m512 *value, float weights[HEADS][CELLS], float shrinks[HEADS][CELLS],
                      int cell, bool higher, int heads)
{
	for (int h = 0; h < heads; h++) {
		if (higher && shrinks[h][cell] < 1.0f)
			for (int p = 0; p < PARTS; p++)
				sums[h][p] = rounded(_mm512_mul_ps(sums[h][p], _mm512_set1_ps(shrinks[h][cell])));
		__m512 weight = _mm512_set1_ps(weights[h][cell]);
		for (int p = 0; p < PARTS; p++)
			sums[h][p] = rounded(_mm512_fmadd_ps(value[p], weight, sums[h][p]));
	}
}

INLINE void copy_sums(__m512 to[HEADS][PARTS], __m512 from[HEADS][PARTS], int heads)
{
	for (int h = 0; h < heads; h++)
		for (int p = 0; p < PARTS; p++)
			to[h][p] = from[h][p];
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
	bool higher = false;
	for (int h = 0; h < heads; h++)
		for (int i = 0; i < seen->count; i += WIDTH) {
			int count = seen->count - i < WIDTH ? seen->count - i : WIDTH;
			__m512 shifted = _mm512_add_ps(_mm512_loadu_ps(scores[h] + i), _mm512_loadu_ps(seen->shift + i));
			higher |= weigh(row, h, shifted, count, weights[h] + i, shrinks[h] + i);
		}
	add_totals(row, weights, shrinks, seen->count, heads);
	__m512 value[PARTS], sums[HEADS][PARTS];
	copy_sums(sums, row->sums, heads);
	for (int i = 0; i < seen->count; i++) {
		for (int p = 0; p < PARTS; p++)
			value[p] = load_half(seen->values[i] + p * WIDTH * 2);
		add_value(sums, value, weights, shrinks, i, higher, heads);
	}
	copy_sums(row->sums, sums, heads);
}

/* --- blocks that several rows see all of --- */

/* Keys are turned: one number of 16 cells in a register, so that sums are taken across registers. */
struct block {
	float keys[DIM][CELLS], values[CELLS][DIM];
};

static void read_block(const char *keys, size_t key_step, const char *values, size_t value_step, struct block *block)
{
	for (int i = 0; i < CELLS; i++)
		for (int p = 0; p < PARTS; p++) {
			float key[WIDTH];
			_mm512_storeu_ps(key, load_half(keys + (size_t)i * key_step + p * WIDTH * 2));
			for (int j = 0; j < WIDTH; j++)
				block->keys[p * WIDTH + j][i] = key[j];
			_mm512_storeu_ps(block->values[i] + p * WIDTH, load_half(values + (size_t)i * value_step + p * WIDTH * 2));
		}
}

/* Lane `lane` of what add_block takes as `products`. */
INLINE void add_lane(const struct block *block, int half, int lane, const struct row *row, int heads, __m512 *out)
{
	__m512 key[PARTS];
	for (int p = 0; p < PARTS; p++)
		key[p] = _mm512_loadu_ps(block->keys[p * WIDTH + lane] + half * WIDTH);
	for (int h = 0; h < heads; h++) {
		__m512 product[PARTS];
		for (int p = 0; p < PARTS; p++)
			product[p] = _mm512_mul_ps(key[p], _mm512_set1_ps(((const float *)&row->query[h][p])[lane]));
		out[h] = _mm512_add_ps(_mm512_add_ps(product[0], product[2]), _mm512_add_ps(product[1], product[3]));
	}
}

/* The lanes from `lane` on in steps of `step`, added in reduce's order: the far ones first. */
INLINE void add_lanes(const struct block *block, int half, int lane, const struct row *row, int heads, __m512 *out)
{
	__m512 eights[HEADS], other[HEADS], fours[2][HEADS];
	for (int i = 0; i < 2; i++) {
		add_lane(block, half, lane + 4 * i, row, heads, eights);
		add_lane(block, half, lane + 4 * i + 8, row, heads, other);
		for (int h = 0; h < heads; h++)
			fours[i][h] = _mm512_add_ps(eights[h], other[h]);
	}
	for (int h = 0; h < heads; h++)
		out[h] = _mm512_add_ps(fours[0][h], fours[1][h]);
}

INLINE void add_whole_block(struct row *row, const struct block *block, const uint16_t *mask, int heads)
{
	float weights[HEADS][CELLS], shrinks[HEADS][CELLS];
	bool higher = false;
	for (int half = 0; half < CELLS / WIDTH; half++) {
		__m512 fours[4][HEADS], shift = load_half((const char *)(mask + half * WIDTH));
		for (int lane = 0; lane < 4; lane++)
			add_lanes(block, half, lane, row, heads, fours[lane]);
		for (int h = 0; h < heads; h++) {
			__m512 sum = _mm512_add_ps(_mm512_add_ps(fours[0][h], fours[2][h]), _mm512_add_ps(fours[1][h], fours[3][h]));
			__m512 scores = _mm512_add_ps(_mm512_mul_ps(sum, _mm512_set1_ps(row->scale)), shift);
			higher |= weigh(row, h, scores, WIDTH, weights[h] + half * WIDTH, shrinks[h] + half * WIDTH);
		}
	}
	add_totals(row, weights, shrinks, CELLS, heads);
	__m512 value[PARTS], sums[HEADS][PARTS];
	copy_sums(sums, row->sums, heads);
	if (higher)
		for (int i = 0; i < CELLS; i++) {
			for (int p = 0; p < PARTS; p++)
				value[p] = _mm512_loadu_ps(block->values[i] + p * WIDTH);
			add_value(sums, value, weights, shrinks, i, true, heads);
		}
	else
		for (int i = 0; i < CELLS; i++) {
			for (int p = 0; p < PARTS; p++)
				value[p] = _mm512_loadu_ps(block->values[i] + p * WIDTH);
			add_value(sums, value, weights, shrinks, i, false, heads);
		}
	copy_sums(row->sums, sums, heads);
}

/* --- rows --- */

/* What all rows of a group of heads have in common. */
struct group {
	struct ggml_tensor *node;
	const char *keys, *values;
	size_t key_step, value_step;
	int64_t cells, number;
};

static struct group group_of(struct ggml_tensor *node, int64_t number)
{
	const struct ggml_tensor *k = node->src[1], *v = node->src[2];
	return (struct group){node,
	                      (const char *)k->data + (size_t)number * k->nb[2],
	                      (const char *)v->data + (size_t)number * v->nb[2],
	                      k->nb[1],
	                      v->nb[1],
	                      k->ne[1],
	                      number};
}

static const uint16_t *mask_of(const struct group *group, int64_t token)
{
	const struct ggml_tensor *mask = group->node->src[3];
	return (const void *)((const char *)mask->data + (size_t)token * mask->nb[1]);
}

/* `heads` is a constant wherever these are called. */
INLINE void begin_row(const struct group *group, int64_t token, int heads, struct row *row)
{
	const struct ggml_tensor *q = group->node->src[0];
	memcpy(&row->scale, group->node->op_params, sizeof row->scale);
	for (int h = 0; h < heads; h++) {
		const char *query = (const char *)q->data + (size_t)token * q->nb[1] + (size_t)(group->number * heads + h) * q->nb[2];
		row->most[h] = -INFINITY;
		row->total[h] = 0;
		for (int p = 0; p < PARTS; p++) {
			row->query[h][p] = rounded(_mm512_loadu_ps((const void *)(query + p * WIDTH * 4)));
			row->sums[h][p] = _mm512_setzero_ps();
		}
	}
}

INLINE void end_row(const struct group *group, int64_t token, int heads, const struct row *row)
{
	struct ggml_tensor *node = group->node;
	for (int h = 0; h < heads; h++) {
		float part = row->total[h] > 0 || row->total[h] < 0 ? 1.0f / row->total[h] : 0.0f;
		char *out = (char *)node->data + (size_t)(group->number * heads + h + token * node->ne[1]) * node->nb[1];
		for (int p = 0; p < PARTS; p++)
			_mm512_storeu_ps((void *)(out + p * WIDTH * 4), _mm512_mul_ps(row->sums[h][p], _mm512_set1_ps(part)));
	}
}

INLINE void add_seen(const struct group *group, const uint16_t *mask, int64_t cell, int heads, struct row *row)
{
	struct seen seen;
	find_seen(mask, cell, group->cells, group->keys, group->key_step, group->values, group->value_step, &seen);
	if (seen.count)
		add_block(row, &seen, heads);
}

INLINE void run_row(const struct group *group, int64_t token, int heads)
{
	struct row row;
	begin_row(group, token, heads, &row);
	for (int64_t cell = 0; cell < group->cells; cell += CELLS)
		add_seen(group, mask_of(group, token), cell, heads, &row);
	end_row(group, token, heads, &row);
}

static bool sees_all(const uint16_t *mask, int64_t cell)
{
	return !_mm512_cmpeq_epi16_mask(_mm512_loadu_epi16(mask + cell), _mm512_set1_epi16((short)HIDDEN));
}

/* Every `parts`-th row from `first` on, block by block. */
INLINE void run_bunch(const struct group *group, int64_t first, int64_t parts, int count, int heads)
{
	struct row rows[BUNCH];
	struct block block;
	for (int i = 0; i < count; i++)
		begin_row(group, first + i * parts, heads, &rows[i]);
	for (int64_t cell = 0; cell < group->cells; cell += CELLS) {
		bool whole[BUNCH];
		int wholes = 0;
		for (int i = 0; i < count; i++) {
			whole[i] = cell + CELLS <= group->cells && sees_all(mask_of(group, first + i * parts), cell);
			wholes += whole[i];
		}
		if (wholes >= SHARED)
			read_block(group->keys + (size_t)cell * group->key_step, group->key_step,
			           group->values + (size_t)cell * group->value_step, group->value_step, &block);
		for (int i = 0; i < count; i++) {
			const uint16_t *mask = mask_of(group, first + i * parts);
			if (whole[i] && wholes >= SHARED)
				add_whole_block(&rows[i], &block, mask + cell, heads);
			else
				add_seen(group, mask, cell, heads, &rows[i]);
		}
	}
	for (int i = 0; i < count; i++)
		end_row(group, first + i * parts, heads, &rows[i]);
}

/* Do some of the rows see the same? Answers of several streams do not, a prompt's rows do. */
static bool rows_share(const struct group *group, int64_t first, int64_t parts, int count)
{
	int64_t blocks = group->cells / CELLS;
	for (int64_t probe = 0; probe < PROBES && probe < blocks && count >= SHARED; probe++) {
		int wholes = 0;
		for (int i = 0; i < count; i++)
			wholes += sees_all(mask_of(group, first + i * parts), blocks * probe / PROBES * CELLS);
		if (wholes >= SHARED)
			return true;
	}
	return false;
}

INLINE void run_group(const struct group *group, int64_t part, int64_t parts, int heads)
{
	int64_t tokens = group->node->src[0]->ne[1];
	for (int64_t first = part; first < tokens; first += parts * BUNCH) {
		int64_t left = (tokens - first + parts - 1) / parts;
		int count = left < BUNCH ? (int)left : BUNCH;
		if (rows_share(group, first, parts, count))
			run_bunch(group, first, parts, count, heads);
		else
			for (int i = 0; i < count; i++)
				run_row(group, first + i * parts, heads);
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
	int64_t heads = q->ne[2] / k->ne[2];
	for (int64_t number = 0; number < k->ne[2]; number++) {
		struct group group = group_of(node, number);
		/* where the rows do not come out even another thread gets one more of each group */
		int64_t own = ((int64_t)part + parts - number * q->ne[1] % parts) % parts;
		if (heads == 1)
			run_group(&group, own, parts, 1);
		else if (heads == 2)
			run_group(&group, own, parts, 2);
		else if (heads == 3)
			run_group(&group, own, parts, 3);
		else
			run_group(&group, own, parts, 4);
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
