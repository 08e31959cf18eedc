/* Products of matrices that the library computes row by row: weights in 4 bits with a scale and an offset for each 32 (Q4_1) by
 * activations in 8 (Q8_1). Here a weight is unpacked once for several rows. Every result has the same bits as the library's:
 * sums are taken in the same order.
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

#endif
