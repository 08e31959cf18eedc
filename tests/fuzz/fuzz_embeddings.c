/* Request bodies of /v1/embeddings from anybody, and the vectors that a provider sends back. */
#include "api/dialect.h"
#include "core/arena.h"

#include <stdlib.h>

static void answer(struct arena *arena, const struct chat_request *request, struct str bytes)
{
	struct chat_answer_options options = {.job_id = "j", .requested_model = STR("m"), .request = request};
	struct dialect_answer *made = dialect_embeddings.answer_new(arena, &options);
	struct buf out;
	if (!made)
		return;
	buf_init(&out, 64u << 20);
	while (bytes.len > 0) {
		struct chat_frame frame;
		struct str chunk = bytes;
		if (chat_frame_read(chunk, arena, &frame, &bytes) != DB_OK || bytes.len >= chunk.len)
			break;
		if (dialect_embeddings.frame(made, &frame, &out) != DB_OK)
			break;
	}
	struct chat_answer_end end = {.has_usage = true};
	if (dialect_embeddings.finish(made, &end, &out) == DB_OK && !json_parse(buf_str(&out), arena, NULL))
		abort();
	buf_free(&out);
	dialect_embeddings.answer_free(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(256u << 20);
	struct chat_request request;
	struct api_error error = {0};
	struct str body, all = {(const char *)data, size};
	struct str frames = str_cut(all, '\x01', &body);
	if (dialect_embeddings.parse(body, arena, &request, &error)) {
		if (request.task != CHAT_TASK_EMBED)
			abort();
		answer(arena, &request, frames);
	} else if (error.status != 400 && error.status != 503) {
		abort();
	}
	arena_free(arena);
	return 0;
}
