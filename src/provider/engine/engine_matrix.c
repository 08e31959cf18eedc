#include "provider/engine/engine_matrix.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#define GGML_COMMON_DECL_C
#include <ggml-common.h>
#include <immintrin.h>
#include <string.h>

#define ROWS       4 /* of weights, unpacked together */
#define COLUMNS    4 /* rows of tokens that they are used for */
#define MAX_BLOCKS 1024
#define INLINE     static inline __attribute__((always_inline))

/* What belongs to a block of each of a few rows of tokens. */
struct factors {
	float scale[COLUMNS], sum[COLUMNS];
};

INLINE __m256i unpack(const uint8_t *nibbles)
{
	__m128i packed = _mm_loadu_si128((const __m128i *)(const void *)nibbles);
	__m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(packed), _mm_srli_epi16(packed, 4), 1);
	return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* Of 32 products the sums of each 4. */
INLINE __m256 dot(__m256i weights, __m256i tokens)
{
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
	return _mm256_cvtepi32_ps(_mm256_dpbusd_epi32(_mm256_setzero_si256(), weights, tokens));
#else
	__m256i pairs = _mm256_maddubs_epi16(weights, tokens); /* 15 * 128 * 2 fits */
	return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

INLINE float sum(__m256 lanes)
{
	__m128 four = _mm_add_ps(_mm256_extractf128_ps(lanes, 1), _mm256_castps256_ps128(lanes));
	__m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
	return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* The scale and the offset of a block, as they lie. */
INLINE int32_t halves(const block_q4_1 *block)
{
	int32_t both;
	memcpy(&both, block, sizeof both);
	return both;
}

/* `rows` and `columns` are constants wherever this is called. */
INLINE void tile(const struct engine_matrix *matrix, int64_t row, int64_t column, const struct factors *factors, int rows,
                 int columns)
{
	const block_q4_1 *weights[ROWS];
	const block_q8_1 *tokens[COLUMNS];
	__m256 sums[ROWS][COLUMNS];
	__m128 offsets[COLUMNS];
	for (int i = 0; i < ROWS; i++)
		weights[i] = (const block_q4_1 *)matrix->weights + (row + (i < rows ? i : 0)) * matrix->weight_stride;
	for (int j = 0; j < columns; j++) {
		tokens[j] = (const block_q8_1 *)matrix->tokens + (column + j) * matrix->token_stride;
		offsets[j] = _mm_setzero_ps();
		for (int i = 0; i < rows; i++)
			sums[i][j] = _mm256_setzero_ps();
	}
	for (int64_t block = 0; block < matrix->blocks; block++) {
		__m256i packed[ROWS];
		for (int i = 0; i < rows; i++)
			packed[i] = unpack(weights[i][block].qs);
		__m256 both = _mm256_cvtph_ps(_mm_set_epi32(halves(&weights[3][block]), halves(&weights[2][block]),
		                                            halves(&weights[1][block]), halves(&weights[0][block])));
		__m128 low = _mm256_castps256_ps128(both), high = _mm256_extractf128_ps(both, 1);
		__m128 scales = _mm_shuffle_ps(low, high, 0x88), offset = _mm_shuffle_ps(low, high, 0xdd);
		for (int j = 0; j < columns; j++) {
			__m256i values = _mm256_loadu_si256((const __m256i *)(const void *)tokens[j][block].qs);
			float scale[ROWS];
			_mm_storeu_ps(scale, _mm_mul_ps(scales, _mm_set1_ps(factors[block].scale[j])));
			offsets[j] = _mm_fmadd_ps(offset, _mm_set1_ps(factors[block].sum[j]), offsets[j]);
			for (int i = 0; i < rows; i++)
				sums[i][j] = _mm256_fmadd_ps(_mm256_set1_ps(scale[i]), dot(packed[i], values), sums[i][j]);
		}
	}
	for (int j = 0; j < columns; j++) {
		float offset[ROWS];
		_mm_storeu_ps(offset, offsets[j]);
		for (int i = 0; i < rows; i++)
			matrix->out[(column + j) * matrix->out_stride + row + i] = sum(sums[i][j]) + offset[i];
	}
}

INLINE void strip(const struct engine_matrix *matrix, int64_t from, int64_t to, int64_t column, const struct factors *factors,
                  int columns)
{
	int64_t row = from;
	for (; row + ROWS <= to; row += ROWS)
		tile(matrix, row, column, factors, ROWS, columns);
	for (; row < to; row++)
		tile(matrix, row, column, factors, 1, columns);
}

static void read_factors(const struct engine_matrix *matrix, int64_t column, int64_t columns, struct factors *out)
{
	for (int64_t j = 0; j < columns; j++) {
		const block_q8_1 *tokens = (const block_q8_1 *)matrix->tokens + (column + j) * matrix->token_stride;
		for (int64_t block = 0; block < matrix->blocks; block++) {
			out[block].scale[j] = _cvtsh_ss(tokens[block].d);
			out[block].sum[j] = _cvtsh_ss(tokens[block].s);
		}
	}
}

bool engine_matrix_available(void)
{
	return true;
}

bool engine_matrix_multiply(const struct engine_matrix *matrix, int part, int parts)
{
	struct factors factors[MAX_BLOCKS];
	if (matrix->blocks > MAX_BLOCKS)
		return false;
	int64_t strips = (matrix->weight_rows + ROWS - 1) / ROWS;
	int64_t from = strips * part / parts * ROWS, to = strips * (part + 1) / parts * ROWS;
	to = to < matrix->weight_rows ? to : matrix->weight_rows;
	for (int64_t column = 0; column < matrix->token_rows && from < to; column += COLUMNS) {
		int64_t columns = matrix->token_rows - column < COLUMNS ? matrix->token_rows - column : COLUMNS;
		read_factors(matrix, column, columns, factors);
		if (columns == 4)
			strip(matrix, from, to, column, factors, 4);
		else if (columns == 3)
			strip(matrix, from, to, column, factors, 3);
		else if (columns == 2)
			strip(matrix, from, to, column, factors, 2);
		else
			strip(matrix, from, to, column, factors, 1);
	}
	return true;
}

#else

bool engine_matrix_available(void)
{
	return false;
}

bool engine_matrix_multiply(const struct engine_matrix *matrix, int part, int parts)
{
	(void)matrix;
	(void)part;
	(void)parts;
	return false;
}

#endif
