#include "provider/engine/engine_matrix.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)

#define GGML_COMMON_DECL_C
#include <ggml-common.h>
#include <immintrin.h>
#include <string.h>

#define ROWS       16   /* of weights: one in each lane */
#define WORDS      8    /* of 4 values in a block; each has sums of its own, as the library's lanes have */
#define COLUMNS    3    /* rows of tokens that are multiplied together */
#define MAX_BLOCKS 256  /* of a row */
#define STARTS     2048 /* blocks of tokens that are prepared together */
#define INLINE     static inline __attribute__((always_inline))

/* 16 rows of weights, unpacked and turned: above 0 by what `bias_of` says. */
struct tile {
	__m512i words[MAX_BLOCKS][WORDS];
	__m512 scales[MAX_BLOCKS];
};

/* A block of tokens: where its sums start, so that the weights' bias comes off, and its scale. */
struct start {
	int32_t words[WORDS];
	float scale;
};

INLINE int bias_of(enum engine_matrix_weights kind)
{
	return kind == ENGINE_MATRIX_Q8_0 ? 128 : 16;
}

INLINE __m256i unpack_5_bits(const block_q5_0 *block)
{
	const __m256i places = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
	uint32_t high;
	memcpy(&high, block->qh, sizeof high);
	__m128i packed = _mm_loadu_si128((const __m128i *)(const void *)block->qs);
	__m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(packed), _mm_srli_epi16(packed, 4), 1);
	__m256i bits = _mm256_shuffle_epi8(_mm256_set1_epi32((int)high), places);
	__mmask32 set = _mm256_test_epi8_mask(bits, _mm256_set1_epi64x((long long)0x8040201008040201));
	__m256i low = _mm256_and_si256(both, _mm256_set1_epi8(15));
	return _mm256_mask_add_epi8(low, set, low, _mm256_set1_epi8(16));
}

/* The values of a row's block, and its scale. */
INLINE __m256i unpack(const struct engine_matrix *matrix, enum engine_matrix_weights kind, int64_t at, uint16_t *scale)
{
	if (kind == ENGINE_MATRIX_Q5_0) {
		const block_q5_0 *block = (const block_q5_0 *)matrix->weights + at;
		*scale = block->d;
		return unpack_5_bits(block);
	}
	const block_q8_0 *block = (const block_q8_0 *)matrix->weights + at;
	*scale = block->d;
	__m256i values = _mm256_loadu_si256((const __m256i *)(const void *)block->qs);
	return _mm256_xor_si256(values, _mm256_set1_epi8((char)0x80));
}

/* in[i]: row i, and row i + 8 in the upper half. out[w]: word w of every row. */
INLINE void turn(const __m512i in[WORDS], __m512i out[WORDS])
{
	const __m512i even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
	__m512i pairs[WORDS], fours[WORDS];
	for (int i = 0; i < WORDS; i += 2) {
		pairs[i] = _mm512_unpacklo_epi32(in[i], in[i + 1]);
		pairs[i + 1] = _mm512_unpackhi_epi32(in[i], in[i + 1]);
	}
	for (int i = 0; i < WORDS; i += 4)
		for (int j = 0; j < 2; j++) {
			fours[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + j + 2]);
			fours[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + j + 2]);
		}
	for (int i = 0; i < 4; i++) {
		out[i] = _mm512_permutex2var_epi64(fours[i], even, fours[i + 4]);
		out[i + 4] = _mm512_permutex2var_epi64(fours[i], odd, fours[i + 4]);
	}
}

INLINE size_t block_bytes(enum engine_matrix_weights kind)
{
	return kind == ENGINE_MATRIX_Q5_0 ? sizeof(block_q5_0) : sizeof(block_q8_0);
}

/* The first block of a row; of one past the last, that of the last: what comes of it is not kept. */
INLINE int64_t start_of(const struct engine_matrix *matrix, int64_t row)
{
	return (row < matrix->weight_rows ? row : matrix->weight_rows - 1) * matrix->weight_stride;
}

/* 16 streams are more than the processor foresees: what the next tile reads is asked for while this one is read. Into the
 * second cache: the first is full of this tile. */
INLINE void read_tile(const struct engine_matrix *matrix, enum engine_matrix_weights kind, int64_t row, struct tile *tile)
{
	int64_t starts[ROWS], next[ROWS];
	for (int i = 0; i < ROWS; i++) {
		starts[i] = start_of(matrix, row + i);
		next[i] = start_of(matrix, row + ROWS + i);
	}
	for (int64_t block = 0; block < matrix->blocks; block++) {
		uint16_t scales[ROWS];
		__m512i rows[WORDS];
		for (int i = 0; i < ROWS; i++)
			_mm_prefetch((const char *)matrix->weights + (size_t)(next[i] + block) * block_bytes(kind), _MM_HINT_T1);
		for (int i = 0; i < WORDS; i++) {
			__m256i low = unpack(matrix, kind, starts[i] + block, &scales[i]);
			__m256i high = unpack(matrix, kind, starts[i + WORDS] + block, &scales[i + WORDS]);
			rows[i] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
		}
		turn(rows, tile->words[block]);
		tile->scales[block] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)scales));
	}
}

INLINE const block_q8_0 *tokens_of(const struct engine_matrix *matrix, int64_t column)
{
	return (const block_q8_0 *)matrix->tokens + column * matrix->token_stride;
}

static void read_starts(const struct engine_matrix *matrix, int bias, int64_t column, int64_t columns, struct start *starts)
{
	for (int64_t i = 0; i < columns; i++)
		for (int64_t block = 0; block < matrix->blocks; block++, starts++) {
			const block_q8_0 *tokens = tokens_of(matrix, column + i) + block;
			__m256i values = _mm256_loadu_si256((const __m256i *)(const void *)tokens->qs);
			__m256i over = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8((char)bias), values);
			_mm256_storeu_si256((__m256i *)(void *)starts->words, _mm256_sub_epi32(_mm256_setzero_si256(), over));
			starts->scale = _cvtsh_ss(tokens->d);
		}
}

INLINE __m512i word_of(const void *at, int word)
{
	int32_t value;
	memcpy(&value, (const char *)at + word * 4, sizeof value);
	return _mm512_set1_epi32(value);
}

/* `columns` is a constant wherever this is called. */
INLINE void multiply(const struct engine_matrix *matrix, const struct tile *tile, const struct start *starts, int64_t row,
                     int64_t column, int columns)
{
	__m512 sums[COLUMNS][WORDS];
	for (int j = 0; j < columns; j++)
		for (int w = 0; w < WORDS; w++)
			sums[j][w] = _mm512_setzero_ps();
	for (int64_t block = 0; block < matrix->blocks; block++) {
		__m512 scales[COLUMNS];
		for (int j = 0; j < columns; j++)
			scales[j] = _mm512_mul_ps(tile->scales[block], _mm512_set1_ps(starts[j * matrix->blocks + block].scale));
		for (int w = 0; w < WORDS; w++)
			for (int j = 0; j < columns; j++) {
				__m512i sum = word_of(starts[j * matrix->blocks + block].words, w);
				sum = _mm512_dpbusd_epi32(sum, tile->words[block][w], word_of(tokens_of(matrix, column + j)[block].qs, w));
				sums[j][w] = _mm512_fmadd_ps(scales[j], _mm512_cvtepi32_ps(sum), sums[j][w]);
			}
	}
	int64_t left = matrix->weight_rows - row;
	__mmask16 kept = (__mmask16)(left < ROWS ? (1u << left) - 1 : 0xffffu);
	for (int j = 0; j < columns; j++) {
		__m512 fours[WORDS / 2];
		for (int w = 0; w < WORDS / 2; w++)
			fours[w] = _mm512_add_ps(sums[j][w + WORDS / 2], sums[j][w]);
		__m512 all = _mm512_add_ps(_mm512_add_ps(fours[0], fours[2]), _mm512_add_ps(fours[1], fours[3]));
		_mm512_mask_storeu_ps(matrix->out + (column + j) * matrix->out_stride + row, kept, all);
	}
}

static void multiply_tile(const struct engine_matrix *matrix, const struct tile *tile, const struct start *starts, int64_t row,
                          int64_t column, int64_t columns)
{
	int64_t j = 0;
	for (; j + 3 <= columns; j += 3)
		multiply(matrix, tile, starts + j * matrix->blocks, row, column + j, 3);
	if (columns - j == 2)
		multiply(matrix, tile, starts + j * matrix->blocks, row, column + j, 2);
	else if (columns - j == 1)
		multiply(matrix, tile, starts + j * matrix->blocks, row, column + j, 1);
}

bool engine_matrix_bytes_available(void)
{
	return true;
}

bool engine_matrix_multiply_bytes(const struct engine_matrix *matrix, enum engine_matrix_weights kind, int part, int parts)
{
	if (matrix->blocks > MAX_BLOCKS || matrix->blocks < 1)
		return false;
	struct tile tile;
	struct start starts[STARTS];
	int64_t tiles = (matrix->weight_rows + ROWS - 1) / ROWS, together = STARTS / matrix->blocks;
	int64_t from = tiles * part / parts * ROWS, to = tiles * (part + 1) / parts * ROWS;
	for (int64_t column = 0; column < matrix->token_rows && from < to; column += together) {
		int64_t left = matrix->token_rows - column, columns = left < together ? left : together;
		read_starts(matrix, bias_of(kind), column, columns, starts);
		for (int64_t row = from; row < to; row += ROWS) {
			if (kind == ENGINE_MATRIX_Q8_0)
				read_tile(matrix, ENGINE_MATRIX_Q8_0, row, &tile);
			else
				read_tile(matrix, ENGINE_MATRIX_Q5_0, row, &tile);
			multiply_tile(matrix, &tile, starts, row, column, columns);
		}
	}
	return true;
}

#else

bool engine_matrix_bytes_available(void)
{
	return false;
}

bool engine_matrix_multiply_bytes(const struct engine_matrix *matrix, enum engine_matrix_weights kind, int part, int parts)
{
	(void)matrix;
	(void)kind;
	(void)part;
	(void)parts;
	return false;
}

#endif
