/* /v1/responses: whatever comes as a body is refused with a sentence or becomes a body that is read again to the same meaning;
 * whatever a provider sends becomes events of JSON that begin, count up and end as they must. The first byte says which. */
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
	struct chat_request request = {0}, again;
	struct api_error error;
	struct buf out;
	buf_init(&out, 64 << 20);
	if (dialect_responses.parse(body, arena, &request, &error)) {
		check(chat_request_forward(&request, STR("build"), 1 << 20, &out) == DB_OK);
		check(chat_request_parse(buf_str(&out), arena, &again, &error));
		check(str_is(again.model, "build") && json_len(again.messages) == json_len(request.messages) && !again.prompt);
	} else {
		check(error.status >= 400 && error.message[0] != '\0');
	}
	buf_free(&out);
	arena_free(arena);
}

/* Lines "event: T", "data: {type T, sequence_number n}", "" over and over. */
static void check_events(struct str out)
{
	int64_t expected = 0;
	while (out.len > 0) {
		struct str name, data, blank, type;
		int64_t sequence;
		out = str_cut(out, '\n', &name);
		out = str_cut(out, '\n', &data);
		out = str_cut(out, '\n', &blank);
		check(str_starts(name, STR("event: ")) && str_starts(data, STR("data: ")) && blank.len == 0);
		struct json_doc *doc = json_parse(str_sub(data, 6, data.len), NULL, NULL);
		check(doc && json_as_str(json_get(json_root(doc), "type"), &type) && str_eq(type, str_sub(name, 7, name.len)));
		check(json_as_i64(json_get(json_root(doc), "sequence_number"), &sequence) && sequence == expected++);
		json_free(doc);
	}
}

static void answer(struct str frames, bool stream, bool fails)
{
	struct arena *arena = arena_new(0), *scratch = arena_new(0);
	struct chat_request request = {0};
	struct api_error error;
	struct buf out;
	buf_init(&out, 64 << 20);
	check(dialect_responses.parse(STR("{\"model\":\"m\",\"input\":\"x\"}"), arena, &request, &error));
	struct chat_answer_options options = {
	    .job_id = "job", .requested_model = STR("public"), .stream = stream, .max_tokens = 3, .request = &request};
	struct dialect_answer *answer = dialect_responses.answer_new(arena, &options);
	enum db_err err = DB_OK;
	while (!err && frames.len > 0) {
		struct chat_frame frame;
		err = chat_frame_read(frames, scratch, &frame, &frames);
		if (!err)
			err = dialect_responses.frame(answer, &frame, &out);
		arena_reset(scratch);
	}
	struct chat_answer_end end = {.has_usage = true, .usage = {.completion_tokens = 2}};
	api_fail(&error, 502, "provider_error", NULL, NULL, "The provider failed.");
	if (fails && stream)
		dialect_responses.fail(answer, &error, true, &out);
	else
		err = dialect_responses.finish(answer, &end, &out);
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
		answer(input, false, false);
	}
	return 0;
}
