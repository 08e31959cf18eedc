/* /v1/completions: bodies are refused with a sentence or travel on as plain prompts; a provider's frames become text_completion
 * objects of JSON. The first byte says which. */
#include "dialect_fuzz.h"

static void read_body(struct str body)
{
	struct arena *arena = arena_new(64 << 20);
	struct chat_request request = {0}, again;
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct str input = {(const char *)data + 1, size - 1};
	if (data[0] % 2 == 0) {
		read_body(input);
	} else {
		bool usage = data[0] % 4 == 3;
		struct fuzz_answer how = {.dialect = &dialect_completions, .stream = true, .check_events = check_events};
		how.body = usage ? STR("{\"model\":\"m\",\"prompt\":\"x\",\"logprobs\":2,\"stream_options\":{\"include_usage\":true}}")
		                 : STR("{\"model\":\"m\",\"prompt\":\"x\",\"echo\":true}");
		fuzz_answer(&how, input);
		how.stream = false;
		fuzz_answer(&how, input);
	}
	return 0;
}
