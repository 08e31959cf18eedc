#include "provider/kvcache/kv_file.h"

#include "core/id.h"
#include "crypto/aead.h"
#include "crypto/secret.h"
#include "provider/kvcache/kv_meta.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define MAGIC     "DBKV"
#define AAD_LABEL "dbkv-aad-v1"

bool kv_why_deletes(enum kv_why why)
{
	switch (why) {
	case KV_DAMAGED:
	case KV_OTHER_MODEL:
	case KV_OTHER_SHAPE:
	case KV_OTHER_NAME:
	case KV_EXPIRED:
	case KV_UNREADABLE:
		return true;
	case KV_GOOD:
	case KV_ABSENT:
	case KV_OTHER_SCOPE:
	case KV_NO_MEMORY:
		break;
	}
	return false;
}

static void put_le(uint8_t *out, uint32_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		out[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get_le(const uint8_t *at, unsigned bytes)
{
	uint32_t value = 0;
	for (unsigned i = 0; i < bytes; i++)
		value |= (uint32_t)at[i] << (8 * i);
	return value;
}

/* What every sealed part of a file is bound to: the reader's own model, engine, tenant and digest, then the exact metadata. */
static enum db_err make_aad(const struct kv_place *place, struct str metadata, struct buf *out)
{
	const struct kv_shape *shape = place->shape;
	const char *texts[] = {shape->model_hash,    shape->engine,     shape->engine_version, shape->kv_type,
	                       shape->context_flags, shape->model_arch, shape->model_dtype};
	buf_append_c(out, AAD_LABEL);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		buf_append(out, texts[i], strlen(texts[i]) + 1);
	buf_append(out, place->tag.bytes, sizeof place->tag.bytes);
	buf_append(out, place->name.bytes, sizeof place->name.bytes);
	buf_append_str(out, metadata);
	return out->failed ? DB_E_NOMEM : DB_OK;
}

/* --- writing --- */

struct writer {
	int fd;
	uint8_t file_key[KV_KEY_BYTES], iv[KV_NONCE_BYTES];
	struct buf aad;
	uint8_t *scratch; /* one sealed chunk with its length in front */
	uint32_t index;
	uint64_t written;
};

static enum db_err write_all(struct writer *w, const void *bytes, size_t len)
{
	const char *at = bytes;
	while (len) {
		ssize_t n = write(w->fd, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return DB_E_IO;
		at += n;
		len -= (size_t)n;
		w->written += (uint64_t)n;
	}
	return DB_OK;
}

static enum db_err write_chunk(struct writer *w, const void *plain, size_t len)
{
	uint8_t nonce[KV_NONCE_BYTES];
	kv_chunk_nonce(w->file_key, w->iv, w->index++, nonce);
	put_le(w->scratch, (uint32_t)(len + AEAD_TAG_BYTES), 4);
	enum db_err err = aead_seal(w->file_key, nonce, buf_str(&w->aad), plain, len, w->scratch + 4);
	return err ? err : write_all(w, w->scratch, 4 + len + AEAD_TAG_BYTES);
}

static enum db_err write_header(struct writer *w, const struct kv_place *place, struct str metadata, uint32_t chunks)
{
	uint8_t head[KV_FILE_HEADER_BYTES], tenant[KV_KEY_BYTES], count[4];
	memcpy(head, MAGIC, 4);
	put_le(head + 4, KV_FILE_VERSION, 2);
	put_le(head + 6, 0, 2);
	memcpy(head + 8, w->iv, sizeof w->iv);
	put_le(head + 20, KV_FILE_WRAPPED, 4);
	id_random(head + 24, KV_NONCE_BYTES);
	put_le(head + 24 + KV_FILE_WRAPPED, (uint32_t)metadata.len, 4);
	kv_keys_tenant(place->keys, &place->tag, tenant);
	enum db_err err =
	    aead_seal(tenant, head + 24, buf_str(&w->aad), w->file_key, sizeof w->file_key, head + 24 + KV_NONCE_BYTES);
	secret_wipe(tenant, sizeof tenant);
	put_le(count, chunks, 4);
	if (!err)
		err = write_all(w, head, sizeof head);
	if (!err)
		err = write_all(w, metadata.at, metadata.len);
	return err ? err : write_all(w, count, sizeof count);
}

static enum db_err plan_chunks(const struct kv_file_facts *facts, size_t state_len, struct kv_chunks *out)
{
	size_t count = 1 + (state_len + KV_FILE_CHUNK - 1) / KV_FILE_CHUNK;
	out->plain = malloc(count * sizeof *out->plain);
	if (!out->plain)
		return DB_E_NOMEM;
	out->plain[out->count++] = facts->point_count * SHA256_BYTES;
	for (size_t left = state_len; left;) {
		size_t n = left < KV_FILE_CHUNK ? left : KV_FILE_CHUNK;
		out->plain[out->count++] = n;
		left -= n;
	}
	return DB_OK;
}

enum db_err kv_file_write(int fd, const struct kv_place *place, const struct kv_file_facts *facts,
                          const struct kv_digest *points, struct str state, kv_file_pace pace, void *user, uint64_t *written)
{
	struct writer w = {.fd = fd};
	struct kv_chunks chunks = {NULL, 0};
	struct buf metadata;
	buf_init(&metadata, KV_FILE_META_MAX);
	buf_init(&w.aad, KV_FILE_META_MAX + 4096);
	id_random(w.file_key, sizeof w.file_key);
	id_random(w.iv, sizeof w.iv);
	size_t points_len = facts->point_count * SHA256_BYTES, largest = points_len > KV_FILE_CHUNK ? points_len : KV_FILE_CHUNK;
	w.scratch = malloc(4 + largest + AEAD_TAG_BYTES);
	enum db_err err = !points_len || facts->point_count > KV_FILE_POINTS_MAX || !state.len ? DB_E_INVALID : DB_OK;
	if (!err && !w.scratch)
		err = DB_E_NOMEM;
	if (!err)
		err = plan_chunks(facts, state.len, &chunks);
	if (!err)
		err = kv_meta_write(place, facts, &chunks, &metadata);
	if (!err)
		err = make_aad(place, buf_str(&metadata), &w.aad);
	if (!err)
		err = write_header(&w, place, buf_str(&metadata), (uint32_t)chunks.count);
	if (!err)
		err = write_chunk(&w, points, points_len);
	for (size_t i = 1; !err && i < chunks.count; i++) {
		err = write_chunk(&w, state.at, chunks.plain[i]);
		state = str_sub(state, chunks.plain[i], state.len);
		if (!err && pace && !pace(w.written, user))
			err = DB_E_CLOSED;
	}
	if (written)
		*written = w.written;
	secret_wipe(w.file_key, sizeof w.file_key);
	buf_free(&w.aad);
	buf_free(&metadata);
	free(chunks.plain);
	free(w.scratch);
	return err;
}

/* --- reading --- */

struct reader {
	int fd;
	uint64_t at, size;
	uint8_t file_key[KV_KEY_BYTES], iv[KV_NONCE_BYTES];
	struct buf aad, metadata;
	struct kv_chunks chunks;
	uint32_t index;
};

static enum kv_why read_all(struct reader *r, void *out, size_t len)
{
	char *at = out;
	if (len > r->size - r->at)
		return KV_DAMAGED;
	while (len) {
		ssize_t n = pread(r->fd, at, len, (off_t)r->at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? KV_UNREADABLE : KV_DAMAGED;
		at += n;
		len -= (size_t)n;
		r->at += (uint64_t)n;
	}
	return KV_GOOD;
}

static enum kv_why why_of(enum db_err err)
{
	return err == DB_E_NOMEM ? KV_NO_MEMORY : err ? KV_DAMAGED : KV_GOOD;
}

static enum kv_why unwrap(struct reader *r, const struct kv_place *place, const uint8_t wrapped[KV_FILE_WRAPPED])
{
	uint8_t tenant[KV_KEY_BYTES];
	enum kv_why why = why_of(make_aad(place, buf_str(&r->metadata), &r->aad));
	if (why)
		return why;
	kv_keys_tenant(place->keys, &place->tag, tenant);
	why = why_of(
	    aead_open(tenant, wrapped, buf_str(&r->aad), wrapped + KV_NONCE_BYTES, KV_FILE_WRAPPED - KV_NONCE_BYTES, r->file_key));
	secret_wipe(tenant, sizeof tenant);
	return why;
}

static enum kv_why read_metadata(struct reader *r, const uint8_t length[4])
{
	uint32_t len = get_le(length, 4);
	if (len == 0 || len > KV_FILE_META_MAX || len > r->size - r->at)
		return KV_DAMAGED;
	if (buf_reserve(&r->metadata, len))
		return KV_NO_MEMORY;
	enum kv_why why = read_all(r, r->metadata.at, len);
	r->metadata.len = why ? 0 : len;
	return why;
}

/* The sizes in the metadata are those of the chunks that follow, to the last byte of the file. */
static enum kv_why check_chunks(struct reader *r)
{
	uint8_t count[4];
	enum kv_why why = read_all(r, count, sizeof count);
	if (why)
		return why;
	uint64_t total = 0;
	for (size_t i = 0; i < r->chunks.count; i++)
		total += r->chunks.plain[i] + 4 + AEAD_TAG_BYTES;
	return get_le(count, 4) == r->chunks.count && total == r->size - r->at ? KV_GOOD : KV_DAMAGED;
}

static enum kv_why begin(struct reader *r, int fd, const struct kv_place *place, struct kv_file_facts *facts)
{
	uint8_t head[KV_FILE_HEADER_BYTES];
	off_t size = lseek(fd, 0, SEEK_END);
	*r = (struct reader){.fd = fd, .size = size > 0 ? (uint64_t)size : 0};
	buf_init(&r->aad, KV_FILE_META_MAX + 4096);
	buf_init(&r->metadata, KV_FILE_META_MAX);
	enum kv_why why = read_all(r, head, sizeof head);
	if (why)
		return why;
	if (memcmp(head, MAGIC, 4) != 0 || get_le(head + 4, 2) != KV_FILE_VERSION || get_le(head + 6, 2) != 0 ||
	    get_le(head + 20, 4) != KV_FILE_WRAPPED)
		return KV_DAMAGED;
	memcpy(r->iv, head + 8, sizeof r->iv);
	why = read_metadata(r, head + 24 + KV_FILE_WRAPPED);
	if (why == KV_GOOD)
		why = kv_meta_read(buf_str(&r->metadata), place, facts, &r->chunks);
	if (why == KV_GOOD)
		why = check_chunks(r);
	return why == KV_GOOD ? unwrap(r, place, head + 24) : why;
}

static void end(struct reader *r)
{
	secret_wipe(r->file_key, sizeof r->file_key);
	buf_free(&r->aad);
	buf_free(&r->metadata);
	free(r->chunks.plain);
}

/* The next chunk into `out`, which needs 16 bytes more than the plain text. */
static enum kv_why read_chunk(struct reader *r, uint8_t *out)
{
	uint8_t length[4], nonce[KV_NONCE_BYTES];
	uint64_t plain = r->chunks.plain[r->index];
	enum kv_why why = read_all(r, length, sizeof length);
	if (why)
		return why;
	if (get_le(length, 4) != plain + AEAD_TAG_BYTES)
		return KV_DAMAGED;
	why = read_all(r, out, plain + AEAD_TAG_BYTES);
	if (why)
		return why;
	kv_chunk_nonce(r->file_key, r->iv, r->index++, nonce);
	return why_of(aead_open(r->file_key, nonce, buf_str(&r->aad), out, plain + AEAD_TAG_BYTES, out));
}

static enum kv_why read_points(struct reader *r, struct kv_digest **out)
{
	uint8_t *points = malloc(r->chunks.plain[0] + AEAD_TAG_BYTES);
	if (!points)
		return KV_NO_MEMORY;
	enum kv_why why = read_chunk(r, points);
	if (why || !out)
		free(points);
	else
		*out = (struct kv_digest *)(void *)points;
	return why;
}

enum kv_why kv_file_describe(int fd, const struct kv_place *place, struct kv_file_facts *facts, struct kv_digest **points)
{
	struct reader r;
	enum kv_why why = begin(&r, fd, place, facts);
	if (why == KV_GOOD)
		why = read_points(&r, points);
	end(&r);
	return why;
}

enum kv_why kv_file_read(int fd, const struct kv_place *place, struct kv_file_facts *facts, struct kv_blob **state)
{
	struct reader r;
	struct kv_blob *blob = NULL;
	enum kv_why why = begin(&r, fd, place, facts);
	if (why == KV_GOOD)
		why = read_points(&r, NULL);
	if (why == KV_GOOD) {
		blob = kv_blob_new(facts->state_bytes + AEAD_TAG_BYTES);
		why = blob ? KV_GOOD : KV_NO_MEMORY;
	}
	uint64_t at = 0;
	for (size_t i = 1; why == KV_GOOD && i < r.chunks.count; i++) {
		why = read_chunk(&r, blob->bytes + at);
		at += r.chunks.plain[i];
	}
	if (why == KV_GOOD) {
		blob->len = at;
		*state = blob;
	} else {
		kv_blob_release(blob);
	}
	end(&r);
	return why;
}
