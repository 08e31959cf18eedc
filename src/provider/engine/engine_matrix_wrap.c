/* Stands before the library's own fast products of matrices: see engine_matrix.h. Compiled where the linker can do that. */
#include "provider/engine/engine_matrix.h"

#ifdef DB_ENGINE_MATRIX

#include <ggml-cpu-impl.h>

bool __real_llamafile_sgemm(const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *a,
                            int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type);
bool __wrap_llamafile_sgemm(const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *a,
                            int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type);

/* The arguments are the library's: k, lda and ldb count blocks, ldc floats. */
bool __wrap_llamafile_sgemm(const struct ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *a,
                            int64_t lda, const void *b, int64_t ldb, void *c, int64_t ldc, int a_type, int b_type, int c_type)
{
	const struct engine_matrix matrix = {m, n, k, a, b, lda, ldb, ldc, c};
	if (a_type == GGML_TYPE_Q4_1 && b_type == GGML_TYPE_Q8_1 && c_type == GGML_TYPE_F32 && !params->use_ref &&
	    engine_matrix_multiply(&matrix, params->ith, params->nth))
		return true;
	return __real_llamafile_sgemm(params, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type);
}

#endif
