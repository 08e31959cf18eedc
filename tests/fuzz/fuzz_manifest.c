/* Model manifests: whatever is accepted has only paths below its folder and reads back the same when it is written. */
#include <stdlib.h>

#include "provider/models/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int fact)
{
	if (!fact)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct manifest first, second;
	struct error error;
	char quantization[32];
	struct arena *arena = arena_new(0);
	struct buf text;
	buf_init(&text, 2 * MANIFEST_MAX_BYTES);
	manifest_quantization((struct str){(const char *)data, size}, quantization, sizeof quantization);
	if (manifest_parse((struct str){(const char *)data, size}, arena, &first, &error) == DB_OK) {
		uint64_t total = 0;
		for (size_t i = 0; i < first.file_count; i++) {
			struct str path = first.files[i].path;
			check(path.len && path.at[0] != '/' && path.at[0] != '.' && !memmem(path.at, path.len, "/.", 2));
			check(!memchr(path.at, '\0', path.len));
			total += first.files[i].size_bytes;
		}
		check(total == first.total_size_bytes);
		check(manifest_write(&first, &text) == DB_OK);
		if (text.len <= MANIFEST_MAX_BYTES) {
			check(manifest_parse(buf_str(&text), arena, &second, &error) == DB_OK);
			check(second.file_count == first.file_count);
			check(memcmp(second.aggregate_sha256, first.aggregate_sha256, SHA256_HEX_SIZE) == 0);
		}
	}
	buf_free(&text);
	arena_free(arena);
	return 0;
}
