/* Attention of a few rows: the same bits as the library's own way, which it takes when it is asked for its reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <ggml-cpu.h>
#include <ggml.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct shape {
	int64_t dim, rows, cells, heads, groups;
	int threads;
	bool together; /* three of four rows are a prompt's: each sees all up to itself. Else about a third, in runs */
};

static uint32_t state;

static float noise(void)
{
	state = state * 1664525u + 1013904223u;
	return (float)(int32_t)state / 1e9f;
}

static void fill(struct ggml_tensor *tensor)
{
	for (int64_t i = 0; i < ggml_nelements(tensor); i++) {
		if (tensor->type == GGML_TYPE_F32)
			((float *)tensor->data)[i] = 3 * noise();
		else
			((ggml_fp16_t *)tensor->data)[i] = ggml_fp32_to_fp16(noise());
	}
}

/* The last row sees nothing; some cells are seen less than others. */
static float shown_to(const struct shape *shape, int64_t row, int64_t cell)
{
	bool apart = row % 4 == 3 || !shape->together;
	bool seen = apart ? (cell / 7 + row) % 3 == 0 : cell + shape->rows <= shape->cells + row;
	if (!seen || row + 1 == shape->rows)
		return -INFINITY;
	return cell % 11 == 5 ? -0.5f : 0;
}

static void hide(struct ggml_tensor *mask, const struct shape *shape)
{
	ggml_fp16_t *shown = mask->data;
	for (int64_t row = 0; row < shape->rows; row++)
		for (int64_t cell = 0; cell < shape->cells; cell++)
			shown[row * shape->cells + cell] = ggml_fp32_to_fp16(shown_to(shape, row, cell));
}

static void run(struct ggml_cgraph *graph, const struct ggml_tensor *node, int threads, bool reference, float *out)
{
	struct ggml_cplan plan = ggml_graph_plan(graph, threads, NULL);
	plan.work_data = plan.work_size ? malloc(plan.work_size) : NULL;
	plan.use_ref = reference;
	memset(node->data, 0xff, ggml_nbytes(node));
	assert_int_equal(ggml_graph_compute(graph, &plan), GGML_STATUS_SUCCESS);
	memcpy(out, node->data, ggml_nbytes(node));
	free(plan.work_data);
}

static void check(const struct shape *shape)
{
	struct ggml_context *context = ggml_init((struct ggml_init_params){.mem_size = 64 << 20});
	struct ggml_tensor *q = ggml_new_tensor_3d(context, GGML_TYPE_F32, shape->dim, shape->rows, shape->heads);
	struct ggml_tensor *k = ggml_new_tensor_3d(context, GGML_TYPE_F16, shape->dim, shape->cells, shape->groups);
	struct ggml_tensor *v = ggml_new_tensor_3d(context, GGML_TYPE_F16, shape->dim, shape->cells, shape->groups);
	struct ggml_tensor *mask = ggml_new_tensor_2d(context, GGML_TYPE_F16, shape->cells, shape->rows);
	state = (uint32_t)(shape->rows * 1000 + shape->cells);
	fill(q);
	fill(k);
	fill(v);
	hide(mask, shape);
	struct ggml_tensor *node = ggml_flash_attn_ext(context, q, k, v, mask, 0.125f, 0, 0);
	struct ggml_cgraph *graph = ggml_new_graph(context);
	ggml_build_forward_expand(graph, node);
	float *wanted = malloc(ggml_nbytes(node)), *got = malloc(ggml_nbytes(node));
	run(graph, node, shape->threads, true, wanted);
	run(graph, node, shape->threads, false, got);
	assert_memory_equal(got, wanted, ggml_nbytes(node));
	free(wanted);
	free(got);
	ggml_free(context);
}

static void rows_of_a_batch_give_the_librarys_bits(void **test)
{
	(void)test;
	static const struct shape shapes[] = {
	    {64, 2, 32, 9, 3, 1, false},  {64, 7, 1000, 9, 3, 2, false}, {64, 52, 513, 9, 3, 2, false},
	    {64, 63, 96, 4, 4, 3, false}, {64, 8, 4001, 8, 2, 2, false}, {64, 3, 31, 2, 1, 4, false},
	    {64, 5, 300, 6, 3, 2, false},
	};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		check(&shapes[i]);
}

static void rows_of_a_prompt_give_the_librarys_bits(void **test)
{
	(void)test;
	static const struct shape shapes[] = {
	    {64, 52, 2048, 9, 3, 2, true}, {64, 63, 513, 9, 3, 1, true}, {64, 63, 1000, 8, 2, 3, true},
	    {64, 33, 256, 4, 4, 1, true},  {64, 5, 300, 6, 3, 2, true},  {64, 13, 1024, 2, 1, 4, true},
	    {64, 17, 96, 12, 3, 2, true},  {64, 2, 2048, 9, 3, 2, true},
	};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		check(&shapes[i]);
}

/* Other heads, and more of them for one key, are the library's in either way. */
static void what_is_left_to_the_library_is_computed_too(void **test)
{
	(void)test;
	static const struct shape shapes[] = {
	    {128, 5, 200, 4, 2, 2, false}, {64, 5, 200, 8, 1, 2, false}, {64, 1, 300, 9, 3, 2, false}};
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
		check(&shapes[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rows_of_a_batch_give_the_librarys_bits),
	    cmocka_unit_test(rows_of_a_prompt_give_the_librarys_bits),
	    cmocka_unit_test(what_is_left_to_the_library_is_computed_too),
	};
	ggml_cpu_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
