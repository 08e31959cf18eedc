/* Keys of the SSD tier, all derived from one secret of this device (inference 11.2). A tenant is known on disk by its tag only,
 * a keyed hash of its scope; every tenant's files are sealed under a key of its own. Thread: any. */
#ifndef PROVIDER_KV_KEYS_H
#define PROVIDER_KV_KEYS_H

#include "core/error.h"
#include "provider/kvcache/kv_digest.h"

#define KV_SECRET_BYTES 32
#define KV_KEY_BYTES    32
#define KV_NONCE_BYTES  12

struct kv_tag {
	uint8_t bytes[SHA256_BYTES];
};

/* Where everybody is meant: all zero, which is nobody's. */
#define KV_EVERYBODY ((struct kv_tag){{0}})
bool kv_tag_is_everybody(const struct kv_tag *tag);

struct kv_keys; /* in locked memory */

struct kv_keys *kv_keys_new(const uint8_t secret[KV_SECRET_BYTES]); /* NULL when out of memory */
void kv_keys_free(struct kv_keys *keys);                            /* NULL allowed */

void kv_keys_tag(const struct kv_keys *keys, struct str scope, struct kv_tag *out);
/* The name of a prefix's file: whoever reads the disk cannot test a guess of the prompt against it. */
void kv_keys_name(const struct kv_keys *keys, const struct kv_digest *digest, struct kv_digest *out);
/* The key that wraps the file keys of one tenant. The caller wipes it. */
void kv_keys_tenant(const struct kv_keys *keys, const struct kv_tag *tag, uint8_t out[KV_KEY_BYTES]);

/* nonce_i = HKDF-Expand-SHA256(file key, "dbkv-chunk-v1" | file IV | u32 BE i, 12). */
void kv_chunk_nonce(const uint8_t file_key[KV_KEY_BYTES], const uint8_t iv[KV_NONCE_BYTES], uint32_t index,
                    uint8_t out[KV_NONCE_BYTES]);

#endif
