/* A file of the prefix cache, as the disk may hold it: header, metadata, sealed chunks, and the index made of a folder. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/log.h"
#include "crypto/secret.h"
#include "provider/kvcache/kv_file.h"
#include "provider/kvcache/kv_meta.h"

static struct kv_keys *keys;
static struct kv_shape shape = {.engine = "test", .model_hash = "weights"};

static struct kv_place place_of(void)
{
	struct kv_place place = {.keys = keys, .shape = &shape};
	kv_keys_tag(keys, STR("tenant"), &place.tag);
	return place;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const uint8_t secret[KV_SECRET_BYTES] = {1};
	(void)argc;
	(void)argv;
	log_set_level(LOG_OFF);
	if (crypto_init())
		abort();
	keys = kv_keys_new(secret);
	return 0;
}

static void read_file(const uint8_t *data, size_t size)
{
	struct kv_place place = place_of();
	struct kv_file_facts facts;
	struct kv_digest *points = NULL;
	struct kv_blob *state = NULL;
	int fd = memfd_create("kv", MFD_CLOEXEC);
	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	if (kv_file_describe(fd, &place, &facts, &points) == KV_GOOD && (!points || facts.tokens <= facts.from))
		abort();
	free(points);
	if (kv_file_read(fd, &place, &facts, &state) != KV_GOOD && state)
		abort();
	kv_blob_release(state);
	close(fd);
}

static void read_metadata(const uint8_t *data, size_t size)
{
	struct kv_place place = place_of();
	struct kv_file_facts facts;
	struct kv_chunks chunks;
	if (kv_meta_read((struct str){(const char *)data, size}, &place, &facts, &chunks) == KV_GOOD &&
	    (facts.from >= facts.tokens || chunks.count == 0))
		abort();
	free(chunks.plain);
}

/* A good file with some of its bytes replaced: gets past the checks that a stranger's bytes fail at. */
static void read_altered(const uint8_t *data, size_t size)
{
	struct kv_place place = place_of();
	struct kv_digest points[2] = {{{1}}, {{2}}};
	struct kv_file_facts facts = {.tokens = 2 * KV_GRID, .point_count = 2};
	uint8_t file[8192];
	uint64_t written = 0;
	int fd = memfd_create("kv", MFD_CLOEXEC);
	if (fd < 0 || kv_file_write(fd, &place, &facts, points, STR("0123456789"), NULL, NULL, &written) || written > sizeof file ||
	    pread(fd, file, written, 0) != (ssize_t)written)
		abort();
	close(fd);
	for (size_t i = 0; i + 3 <= size; i += 3)
		file[(size_t)(data[i] << 8 | data[i + 1]) % written] = data[i + 2];
	read_file(file, written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	switch (data[0] % 3) {
	case 0:
		read_file(data + 1, size - 1);
		break;
	case 1:
		read_metadata(data + 1, size - 1);
		break;
	default:
		read_altered(data + 1, size - 1);
		break;
	}
	return 0;
}
