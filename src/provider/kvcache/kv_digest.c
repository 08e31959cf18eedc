#include "provider/kvcache/kv_digest.h"

#include "crypto/secret.h"

static void put_u64(uint8_t out[8], uint64_t value)
{
	for (size_t i = 0; i < 8; i++)
		out[i] = (uint8_t)(value >> (8 * i));
}

void kv_roll_begin(struct kv_roll *roll, struct str scope)
{
	static const struct str prefix = {"dbkv-prefix-v1", 14}, scoped = {"dbkv-scope-v1", 13};
	sha256_begin(&roll->state);
	sha256_update(&roll->state, prefix.at, prefix.len);
	if (!scope.len)
		return;
	uint8_t len[8];
	put_u64(len, scope.len);
	sha256_update(&roll->state, scoped.at, scoped.len);
	sha256_update(&roll->state, len, sizeof len);
	sha256_update(&roll->state, scope.at, scope.len);
}

void kv_roll_add(struct kv_roll *roll, const int32_t *tokens, size_t count)
{
	uint8_t part[8 * 64];
	while (count) {
		size_t n = count < 64 ? count : 64;
		for (size_t i = 0; i < n; i++)
			put_u64(part + 8 * i, (uint64_t)(int64_t)tokens[i]);
		sha256_update(&roll->state, part, 8 * n);
		tokens += n;
		count -= n;
	}
	secret_wipe(part, sizeof part);
}

void kv_roll_peek(const struct kv_roll *roll, struct kv_digest *out)
{
	struct sha256_state copy = roll->state;
	sha256_end(&copy, out->bytes);
}

void kv_roll_end(struct kv_roll *roll)
{
	secret_wipe(roll, sizeof *roll);
}

size_t kv_points(struct str scope, const int32_t *tokens, size_t count, struct kv_digest *out)
{
	struct kv_roll roll;
	size_t points = count / KV_GRID;
	kv_roll_begin(&roll, scope);
	for (size_t i = 0; i < points; i++) {
		kv_roll_add(&roll, tokens + i * KV_GRID, KV_GRID);
		kv_roll_peek(&roll, &out[i]);
	}
	kv_roll_end(&roll);
	return points;
}

/* --- boundaries --- */

static size_t insert(uint32_t out[KV_LADDER_MAX], size_t count, uint32_t value)
{
	size_t at = count;
	while (at > 0 && out[at - 1] >= value)
		at--;
	if (value == 0 || count == KV_LADDER_MAX || (at < count && out[at] == value))
		return count;
	memmove(out + at + 1, out + at, (count - at) * sizeof *out);
	out[at] = value;
	return count + 1;
}

size_t kv_ladder(uint32_t window, bool proven, uint32_t context, uint32_t out[KV_LADDER_MAX])
{
	uint32_t limit = proven ? context : window ? window : 8192;
	size_t count = 0;
	for (uint64_t value = 256; value <= limit && value <= context; value *= 2)
		count = insert(out, count, (uint32_t)value);
	if (window && window <= context)
		count = insert(out, count, window);
	if (window / 2 < 256 && window / 2 <= context)
		count = insert(out, count, window / 2);
	return count;
}
