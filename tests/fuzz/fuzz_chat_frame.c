/* A provider's opened chunks: both forms of an answer swallow anything, and what they emit is framed JSON. */
#include "api/chat_response.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_events(struct str out)
{
	while (out.len > 0) {
		struct str line;
		out = str_cut(out, '\n', &line);
		if (line.len == 0 || str_is(line, "data: [DONE]"))
			continue;
		struct json_doc *doc = str_starts(line, STR("data: ")) ? json_parse(str_sub(line, 6, line.len), NULL, NULL) : NULL;
		if (!doc)
			abort();
		json_free(doc);
	}
}

static void answer(struct str input, bool stream)
{
	struct arena *arena = arena_new(0), *scratch = arena_new(0);
	struct chat_answer_options options = {.job_id = "job", .requested_model = STR("public"), .stream = stream, .max_tokens = 3};
	struct chat_answer *answer = chat_answer_new(arena, &options);
	struct chat_answer_end end = {0};
	struct buf out;
	buf_init(&out, 64 << 20);
	while (input.len > 0) {
		struct chat_frame frame;
		if (chat_frame_read(input, scratch, &frame, &input) != DB_OK)
			break;
		chat_answer_frame(answer, &frame, &out);
		arena_reset(scratch);
	}
	end.has_usage = chat_answer_usage(answer, &end.usage);
	if (chat_answer_finish(answer, &end, &out) == DB_OK) {
		struct json_doc *doc = stream ? NULL : json_parse(buf_str(&out), NULL, NULL);
		if (!stream && !doc)
			abort();
		json_free(doc);
		if (stream)
			check_events(buf_str(&out));
	}
	chat_answer_free(answer);
	buf_free(&out);
	arena_free(scratch);
	arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	answer((struct str){(const char *)data, size}, true);
	answer((struct str){(const char *)data, size}, false);
	return 0;
}
