#include "provider/kvcache/kv_blob.h"

#include "core/wipe.h"

#include <stdlib.h>

struct kv_blob *kv_blob_new(size_t len)
{
	struct kv_blob *blob = len <= SIZE_MAX - sizeof *blob ? malloc(sizeof *blob + len) : NULL;
	if (!blob)
		return NULL;
	atomic_init(&blob->refs, 1);
	blob->len = len;
	return blob;
}

struct kv_blob *kv_blob_hold(struct kv_blob *blob)
{
	atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
	return blob;
}

void kv_blob_release(struct kv_blob *blob)
{
	if (!blob || atomic_fetch_sub_explicit(&blob->refs, 1, memory_order_acq_rel) != 1)
		return;
	wipe(blob->bytes, blob->len);
	free(blob);
}
