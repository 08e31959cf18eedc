/* The metadata of a cache file as JSON with sorted keys (inference 11.3). Pure; thread: any. */
#ifndef PROVIDER_KV_META_H
#define PROVIDER_KV_META_H

#include "provider/kvcache/kv_file.h"

struct kv_chunks {
	uint64_t *plain; /* sizes; chunk 0 is the points */
	size_t count;
};

enum db_err kv_meta_write(const struct kv_place *place, const struct kv_file_facts *facts, const struct kv_chunks *chunks,
                          struct buf *out);
/* Reads and compares with the place, in the order of inference 11.5. chunks->plain is free()d by the caller. */
enum kv_why kv_meta_read(struct str json, const struct kv_place *place, struct kv_file_facts *facts, struct kv_chunks *chunks);

#endif
