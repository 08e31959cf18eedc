/* What a provider writes in front of a frame, and what a body says of an answer to go on with. */
#include "api/chat_resume.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {(const char *)data, size};
	struct arena *arena = arena_new(16 << 20);
	struct buf tokens;
	uint64_t print = 0;
	buf_init(&tokens, 4096);
	if (chat_resume_read_note(text, &print, &tokens) == DB_OK) {
		struct chat_resume note = {print, (const int32_t *)(const void *)tokens.at, tokens.len / sizeof(int32_t)};
		struct buf again, same;
		uint64_t second;
		buf_init(&again, 1 << 20);
		buf_init(&same, 4096);
		chat_resume_note(&note, &again);
		if (chat_resume_read_note(buf_str(&again), &second, &same) != DB_OK || second != print || same.len != tokens.len)
			abort();
		buf_free(&again);
		buf_free(&same);
	} else if (tokens.len) {
		abort();
	}
	struct json_doc *doc = json_parse(text, arena, NULL);
	struct chat_resume resume;
	if (doc && chat_resume_read(json_root(doc), arena, &resume) == DB_OK && resume.count > CHAT_RESUME_TOKENS)
		abort();
	buf_free(&tokens);
	arena_free(arena);
	return 0;
}
