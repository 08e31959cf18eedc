/* Products of weights in 4, 5 and 8 bits: the same bits as the library's own, row by row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "provider/engine/engine_matrix.h"

#include <ggml-cpu.h>
#include <ggml.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 32 /* values */
#define GUARD 12345.0f

static uint32_t state = 1;

static float noise(void)
{
	state = state * 1664525u + 1013904223u;
	return (float)(int32_t)state / 3e8f;
}

/* Rows of noise, some of them with nothing in a block, packed as `type`. */
static void *packed_rows(enum ggml_type type, int64_t rows, int64_t blocks)
{
	size_t row_bytes = ggml_row_size(type, blocks * BLOCK);
	char *out = malloc(row_bytes * (size_t)rows);
	float *values = malloc((size_t)blocks * BLOCK * sizeof *values);
	assert_non_null(out);
	assert_non_null(values);
	for (int64_t row = 0; row < rows; row++) {
		for (int64_t i = 0; i < blocks * BLOCK; i++)
			values[i] = row % 5 == 4 && i < BLOCK ? 0.0f : noise();
		ggml_get_type_traits_cpu(type)->from_float(values, out + row_bytes * (size_t)row, blocks * BLOCK);
	}
	free(values);
	return out;
}

struct kind {
	enum ggml_type weights, tokens;
	bool (*multiply)(const struct engine_matrix *matrix, int part, int parts);
};

static bool multiply_q8_0(const struct engine_matrix *matrix, int part, int parts)
{
	return engine_matrix_multiply_bytes(matrix, ENGINE_MATRIX_Q8_0, part, parts);
}

static bool multiply_q5_0(const struct engine_matrix *matrix, int part, int parts)
{
	return engine_matrix_multiply_bytes(matrix, ENGINE_MATRIX_Q5_0, part, parts);
}

static const struct kind q4_1 = {GGML_TYPE_Q4_1, GGML_TYPE_Q8_1, engine_matrix_multiply};
static const struct kind q8_0 = {GGML_TYPE_Q8_0, GGML_TYPE_Q8_0, multiply_q8_0};
static const struct kind q5_0 = {GGML_TYPE_Q5_0, GGML_TYPE_Q8_0, multiply_q5_0};

/* As the library does it, without help. */
static float expected(const struct kind *kind, const struct engine_matrix *matrix, int64_t row, int64_t column)
{
	const char *weights = matrix->weights, *tokens = matrix->tokens;
	size_t weight_row = ggml_row_size(kind->weights, matrix->weight_stride * BLOCK);
	size_t token_row = ggml_row_size(kind->tokens, matrix->token_stride * BLOCK);
	float out = 0;
	ggml_get_type_traits_cpu(kind->weights)
	    ->vec_dot((int)matrix->blocks * BLOCK, &out, 0, weights + weight_row * (size_t)row, 0,
	              tokens + token_row * (size_t)column, 0, 1);
	return out;
}

/* The stride of the result is one more than it needs: what lies between must stay. */
static void check(const struct kind *kind, int64_t weight_rows, int64_t token_rows, int64_t blocks, int parts)
{
	size_t values = (size_t)(token_rows * (weight_rows + 1));
	float *out = malloc(values * sizeof *out);
	void *weights = packed_rows(kind->weights, weight_rows, blocks);
	void *tokens = packed_rows(kind->tokens, token_rows, blocks);
	assert_non_null(out);
	for (size_t i = 0; i < values; i++)
		out[i] = GUARD;
	struct engine_matrix matrix = {weight_rows, token_rows, blocks, weights, tokens, blocks, blocks, weight_rows + 1, out};
	for (int part = 0; part < parts; part++)
		assert_true(kind->multiply(&matrix, part, parts));
	for (int64_t column = 0; column < token_rows; column++) {
		const float *line = out + column * matrix.out_stride;
		for (int64_t row = 0; row < weight_rows; row++) {
			float wanted = expected(kind, &matrix, row, column);
			assert_memory_equal(&line[row], &wanted, sizeof wanted);
		}
		assert_true(line[weight_rows] >= GUARD && line[weight_rows] <= GUARD);
	}
	free(weights);
	free(tokens);
	free(out);
}

static void check_shapes(const struct kind *kind)
{
	static const int64_t rows[] = {1, 3, 4, 7, 16, 37, 64}, columns[] = {1, 2, 3, 4, 5, 9}, blocks[] = {1, 18, 48};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (size_t j = 0; j < sizeof columns / sizeof *columns; j++)
			for (size_t k = 0; k < sizeof blocks / sizeof *blocks; k++)
				check(kind, rows[i], columns[j], blocks[k], 1 + (int)((i + j + k) % 4));
}

static void every_shape_of_4_bits_gives_the_librarys_bits(void **test)
{
	(void)test;
	if (!engine_matrix_available())
		skip();
	check_shapes(&q4_1);
}

static void every_shape_of_8_and_5_bits_gives_the_librarys_bits(void **test)
{
	(void)test;
	if (!engine_matrix_bytes_available())
		skip();
	check_shapes(&q8_0);
	check_shapes(&q5_0);
}

static void more_tokens_than_are_prepared_together_are_taken_in_turns(void **test)
{
	(void)test;
	if (!engine_matrix_bytes_available())
		skip();
	check(&q8_0, 20, 19, 256, 2); /* 8 rows of tokens at once */
	check(&q5_0, 20, 10, 250, 3);
}

static void more_threads_than_rows_do_no_harm(void **test)
{
	(void)test;
	if (engine_matrix_available())
		check(&q4_1, 2, 6, 3, 7);
	if (engine_matrix_bytes_available())
		check(&q8_0, 2, 6, 3, 7);
}

static void rows_that_are_too_long_are_left_to_the_library_by_every_thread(void **test)
{
	(void)test;
	struct engine_matrix matrix = {.weight_rows = 4, .token_rows = 1, .blocks = 1 << 20};
	for (int part = 0; part < 3; part++) {
		assert_false(engine_matrix_multiply(&matrix, part, 3));
		assert_false(multiply_q8_0(&matrix, part, 3));
		assert_false(multiply_q5_0(&matrix, part, 3));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_shape_of_4_bits_gives_the_librarys_bits),
	    cmocka_unit_test(every_shape_of_8_and_5_bits_gives_the_librarys_bits),
	    cmocka_unit_test(more_tokens_than_are_prepared_together_are_taken_in_turns),
	    cmocka_unit_test(more_threads_than_rows_do_no_harm),
	    cmocka_unit_test(rows_that_are_too_long_are_left_to_the_library_by_every_thread),
	};
	ggml_cpu_init(); /* its tables of numbers in 16 bits */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
