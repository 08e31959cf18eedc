/* /v1/responses: whatever comes as a body is refused with a sentence or becomes a body that is read again to the same meaning;
 * whatever a provider sends becomes events of JSON that begin, count up and end as they must. The first byte says which. */
#include "dialect_fuzz.h"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct str input = {(const char *)data + 1, size - 1};
	if (data[0] % 2 == 0) {
		read_body(input);
	} else {
		struct fuzz_answer how = {.dialect = &dialect_responses,
		                          .body = STR("{\"model\":\"m\",\"input\":\"x\"}"),
		                          .stream = true,
		                          .fails = data[0] % 4 == 3,
		                          .check_events = check_events};
		fuzz_answer(&how, input);
		how.stream = false;
		fuzz_answer(&how, input);
	}
	return 0;
}
