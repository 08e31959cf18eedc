/* What the fuzz targets of the dialects do alike: give a provider's frames to an answer, streamed or whole. */
#ifndef DIALECT_FUZZ_H
#define DIALECT_FUZZ_H

#include <stdlib.h>

#include "api/dialect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void check(bool good)
{
	if (!good)
		abort();
}

struct fuzz_answer {
	const struct dialect *dialect;
	struct str body; /* of the request that is answered */
	bool stream;
	bool fails; /* a stream ends with an error instead */
	void (*check_events)(struct str out);
};

/* Each byte is some provider's word: the answer ends with an error, or it is JSON, or events of the dialect. */
static inline void fuzz_answer(const struct fuzz_answer *how, struct str frames)
{
	struct arena *arena = arena_new(0), *scratch = arena_new(0);
	struct chat_request request = {0};
	struct api_error error;
	struct buf out;
	buf_init(&out, 64 << 20);
	check(how->dialect->parse(how->body, arena, &request, &error));
	struct chat_answer_options options = {
	    .job_id = "job", .requested_model = STR("public"), .stream = how->stream, .max_tokens = 3, .request = &request};
	struct dialect_answer *answer = how->dialect->answer_new(arena, &options);
	enum db_err err = DB_OK;
	while (!err && frames.len > 0) {
		struct chat_frame frame;
		err = chat_frame_read(frames, scratch, &frame, &frames);
		if (!err)
			err = how->dialect->frame(answer, &frame, &out);
		arena_reset(scratch);
	}
	struct chat_answer_end end = {.has_usage = true, .usage = {.completion_tokens = 2}};
	if (how->fails && how->stream) {
		api_fail(&error, 502, "provider_error", NULL, NULL, "The provider failed.");
		how->dialect->fail(answer, &error, true, &out);
	} else if (!err) {
		err = how->dialect->finish(answer, &end, &out);
	}
	if (how->stream && (!err || how->fails)) {
		how->check_events(buf_str(&out));
	} else if (!err) {
		struct json_doc *doc = json_parse(buf_str(&out), NULL, NULL);
		check(doc != NULL);
		json_free(doc);
	}
	dialect_answer_free(answer);
	buf_free(&out);
	arena_free(scratch);
	arena_free(arena);
}

#endif
