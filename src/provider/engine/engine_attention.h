/* Attention of a few rows over a long cache, which the library computes for each row and head by itself. Here the heads that
 * share keys and values are computed together, and cells of other sequences are passed over 32 at a time. Every result has the
 * same bits as the library's. Reached as engine_matrix.h is. Thread: the library's own, all at once, each with its share. */
#ifndef PROVIDER_ENGINE_ATTENTION_H
#define PROVIDER_ENGINE_ATTENTION_H

#include <stdbool.h>

struct ggml_tensor;

/* Share `part` of `parts` of the node. False, for every share alike, when it is not of the kind that this computes. */
bool engine_attention_run(struct ggml_tensor *node, int part, int parts);

#endif
