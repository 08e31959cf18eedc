/* Stands before the library's own products of matrices and its attention: see engine_matrix.h and engine_attention.h. Compiled
 * where the linker can do that. */
#include "provider/engine/engine_attention.h"
#include "provider/engine/engine_matrix.h"

#ifdef DB_ENGINE_MATRIX

#include <ggml-cpu-impl.h>

bool __real_llamafile_sgemm(const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *a,
                            int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type);
bool __wrap_llamafile_sgemm(const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *a,
                            int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type);

static bool multiplied(const struct engine_matrix *matrix, int weights, int tokens, int part, int parts)
{
	if (weights == GGML_TYPE_Q4_1 && tokens == GGML_TYPE_Q8_1)
		return engine_matrix_multiply(matrix, part, parts);
	bool bytes = weights == GGML_TYPE_Q8_0 || weights == GGML_TYPE_Q5_0;
	return bytes && tokens == GGML_TYPE_Q8_0 && matrix->token_rows > 1 &&
	       engine_matrix_multiply_bytes(matrix, weights == GGML_TYPE_Q8_0 ? ENGINE_MATRIX_Q8_0 : ENGINE_MATRIX_Q5_0, part,
	                                    parts);
}

/* The arguments are the library's: k, lda and ldb count blocks, ldc floats. */
bool __wrap_llamafile_sgemm(const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *a,
                            int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type)
{
	const struct engine_matrix matrix = {m, n, k, a, b, lda, ldb, ldc, c};
	if (c_type == GGML_TYPE_F32 && !params->use_ref && multiplied(&matrix, a_type, b_type, params->ith, params->nth))
		return true;
	return __real_llamafile_sgemm(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
}

void __real_ggml_compute_forward_flash_attn_ext(const struct ggml_compute_params *params, struct ggml_tensor *node);
void __wrap_ggml_compute_forward_flash_attn_ext(const struct ggml_compute_params *params, struct ggml_tensor *node);

void __wrap_ggml_compute_forward_flash_attn_ext(const struct ggml_compute_params *params, struct ggml_tensor *node)
{
	if (params->use_ref || !engine_attention_run(node, params->ith, params->nth))
		__real_ggml_compute_forward_flash_attn_ext(params, node);
}

#endif
