/* A counted piece of memory that holds the state of a prefix. It was made from a prompt: it is wiped when the last holder lets
 * go. Thread: any; the bytes are written only before the blob is shared. */
#ifndef PROVIDER_KV_BLOB_H
#define PROVIDER_KV_BLOB_H

#include "core/str.h"

#include <stdatomic.h>

struct kv_blob {
	atomic_uint refs;
	size_t len;
	uint8_t bytes[];
};

struct kv_blob *kv_blob_new(size_t len); /* one holder; NULL when out of memory */
struct kv_blob *kv_blob_hold(struct kv_blob *blob);
void kv_blob_release(struct kv_blob *blob); /* NULL allowed */

#endif
