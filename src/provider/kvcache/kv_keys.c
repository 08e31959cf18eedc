#include "provider/kvcache/kv_keys.h"

#include "crypto/aead.h"
#include "crypto/secret.h"

struct kv_keys {
	uint8_t tag[KV_KEY_BYTES], name[KV_KEY_BYTES], tenant[KV_KEY_BYTES];
};

bool kv_tag_is_everybody(const struct kv_tag *tag)
{
	static const struct kv_tag everybody;
	return memcmp(tag, &everybody, sizeof everybody) == 0;
}

struct kv_keys *kv_keys_new(const uint8_t secret[KV_SECRET_BYTES])
{
	struct kv_keys *keys = secret_alloc(sizeof *keys);
	if (!keys)
		return NULL;
	uint8_t prk[HKDF_PRK_BYTES];
	hkdf_extract(STR("dbkv-device-v1"), (struct str){(const char *)secret, KV_SECRET_BYTES}, prk);
	hkdf_expand(prk, STR("dbkv-tag-v1"), keys->tag, sizeof keys->tag);
	hkdf_expand(prk, STR("dbkv-name-v1"), keys->name, sizeof keys->name);
	hkdf_expand(prk, STR("dbkv-tenant-v1"), keys->tenant, sizeof keys->tenant);
	secret_wipe(prk, sizeof prk);
	return keys;
}

void kv_keys_free(struct kv_keys *keys)
{
	secret_free(keys);
}

void kv_keys_tag(const struct kv_keys *keys, struct str scope, struct kv_tag *out)
{
	hmac_sha256(keys->tag, sizeof keys->tag, scope.at, scope.len, out->bytes);
}

void kv_keys_name(const struct kv_keys *keys, const struct kv_digest *digest, struct kv_digest *out)
{
	hmac_sha256(keys->name, sizeof keys->name, digest->bytes, sizeof digest->bytes, out->bytes);
}

void kv_keys_tenant(const struct kv_keys *keys, const struct kv_tag *tag, uint8_t out[KV_KEY_BYTES])
{
	hkdf_expand(keys->tenant, (struct str){(const char *)tag->bytes, sizeof tag->bytes}, out, KV_KEY_BYTES);
}

void kv_chunk_nonce(const uint8_t file_key[KV_KEY_BYTES], const uint8_t iv[KV_NONCE_BYTES], uint32_t index,
                    uint8_t out[KV_NONCE_BYTES])
{
	static const char label[] = "dbkv-chunk-v1";
	char info[sizeof label - 1 + KV_NONCE_BYTES + 4];
	size_t at = sizeof label - 1;
	memcpy(info, label, at);
	memcpy(info + at, iv, KV_NONCE_BYTES);
	at += KV_NONCE_BYTES;
	for (unsigned i = 0; i < 4; i++)
		info[at++] = (char)(uint8_t)(index >> (24 - 8 * i));
	hkdf_expand(file_key, (struct str){info, at}, out, KV_NONCE_BYTES);
}
