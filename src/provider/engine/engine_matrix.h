/* Products of matrices that the library computes row by row or in narrow tiles. Weights in 4 bits with a scale and an offset
 * for each 32 (Q4_1) by activations in 8 (Q8_1): here a weight is unpacked once for several rows. Weights in 8 or 5 bits with a
 * scale (Q8_0, Q5_0) by activations in 8 (Q8_0): here 16 rows of weights are taken at once. Every result has the same bits as
 * the library's: sums are taken in the same order.
 *
 * The linker puts engine_matrix_wrap.c in the place of the library's `llamafile_sgemm`, which it asks for every product before
 * it falls back to rows. Thread: the library's own, all at once, each with its share. */
#ifndef PROVIDER_ENGINE_MATRIX_H
#define PROVIDER_ENGINE_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* out[row of tokens][row of weights]; strides in blocks of 32, and in floats. */
struct engine_matrix {
	int64_t weight_rows, token_rows, blocks; /* blocks: of each row */
	const void *weights, *tokens;
	int64_t weight_stride, token_stride, out_stride;
	float *out;
};
/* The processor that this was built for has what it takes. */
bool engine_matrix_available(void);
/* Share `part` of `parts`. False, for every share alike, when it cannot be done: too long, or not available. */
bool engine_matrix_multiply(const struct engine_matrix *matrix, int part, int parts);

/* The same two for weights without an offset. Worth it from two rows of tokens on. */
enum engine_matrix_weights { ENGINE_MATRIX_Q8_0, ENGINE_MATRIX_Q5_0 };
bool engine_matrix_bytes_available(void);
bool engine_matrix_multiply_bytes(const struct engine_matrix *matrix, enum engine_matrix_weights kind, int part, int parts);

#endif
