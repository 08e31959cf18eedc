/* /v1/completions: bodies are refused with a sentence or travel on as plain prompts; a provider's frames become text_completion
 * objects of JSON. The first byte says which. */
#include <stdlib.h>

#include "api/dialect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void read_body(struct str body)
{
	struct arena *arena = arena_new(64 << 20);
	struct chat_request request, again;
	struct api_error error;
	struct buf out;
	buf_init(&out, 64 << 20);
	if (dialect_completions.parse(body, arena, &request, &error)) {
		check(request.prompt != NULL);
		check(chat_request_forward(&request, STR("build"), 1 << 20, &out) == DB_OK);
		check(chat_request_parse(buf_str(&out), arena, &again, &error));
		check(json_type(again.prompt) == json_type(request.prompt) && json_len(again.prompt) == json_len(request.prompt));
	} else {
		check(error.status >= 400 && error.message[0] != '\0');
	}
	buf_free(&out);
	arena_free(arena);
}

static void check_events(struct str out)
{
	while (out.len > 0) {
		struct str line;
		out = str_cut(out, '\n', &line);
		if (line.len == 0 || str_is(line, "data: [DONE]"))
			continue;
		struct json_doc *doc = str_starts(line, STR("data: ")) ? json_parse(str_sub(line, 6, line.len), NULL, NULL) : NULL;
		struct str object;
		check(doc && json_as_str(json_get(json_root(doc), "object"), &object) && str_is(object, "text_completion"));
		json_free(doc);
	}
}

static void answer(struct str frames, bool stream, bool usage)
{
	struct arena *arena = arena_new(0), *scratch = arena_new(0);
	struct chat_request request;
	struct api_error error;
	struct buf out;
	buf_init(&out, 64 << 20);
	struct str body = usage
	                      ? STR("{\"model\":\"m\",\"prompt\":\"x\",\"logprobs\":2,\"stream_options\":{\"include_usage\":true}}")
	                      : STR("{\"model\":\"m\",\"prompt\":\"x\",\"echo\":true}");
	check(dialect_completions.parse(body, arena, &request, &error));
	struct chat_answer_options options = {
	    .job_id = "job", .requested_model = STR("public"), .stream = stream, .max_tokens = 3, .request = &request};
	struct dialect_answer *answer = dialect_completions.answer_new(arena, &options);
	enum db_err err = DB_OK;
	while (!err && frames.len > 0) {
		struct chat_frame frame;
		err = chat_frame_read(frames, scratch, &frame, &frames);
		if (!err)
			err = dialect_completions.frame(answer, &frame, &out);
		arena_reset(scratch);
	}
	struct chat_answer_end end = {.has_usage = true, .usage = {.completion_tokens = 2}};
	if (!err)
		err = dialect_completions.finish(answer, &end, &out);
	struct json_doc *doc = stream || err ? NULL : json_parse(buf_str(&out), NULL, NULL);
	check(stream || err || doc);
	json_free(doc);
	if (stream && !err)
		check_events(buf_str(&out));
	dialect_answer_free(answer);
	buf_free(&out);
	arena_free(scratch);
	arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct str input = {(const char *)data + 1, size - 1};
	if (data[0] % 2 == 0) {
		read_body(input);
	} else {
		answer(input, true, data[0] % 4 == 3);
		answer(input, false, data[0] % 4 == 3);
	}
	return 0;
}
