/* Calls in foreign forms: cut anywhere the same is taken and the same is left as at once, arguments are JSON objects, and where
 * nothing is taken nothing is changed. Input: a byte of forms, a byte that says how to cut, then the answer. */
#include "core/json.h"
#include "provider/engine/chat_foreign_calls.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void on_call(void *user, struct str name, struct str arguments)
{
	struct buf *calls = user;
	struct json_doc *doc = json_parse(arguments, NULL, NULL);
	must(str_is(name, "f"));
	must(json_type(json_root(doc)) == JSON_OBJECT);
	json_free(doc);
	buf_append_str(calls, arguments);
	buf_append_c(calls, "\n");
}

static void run(const uint8_t *data, size_t size, size_t piece, struct buf *rest, struct buf *calls)
{
	static const char *const own[] = {"[TOOL_CALLS]", NULL};
	const struct chat_foreign_options options = {
	    .marks = data[0],
	    .own = own,
	    .think = "<think>",
	    .thought = "</think>",
	    .thinks = data[0] & 64,
	    .one = data[0] & 128,
	    .tools_json = "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"k\":{\"type\":\"string\"}}}}}]"};
	struct chat_foreign *foreign = chat_foreign_new(&options);
	buf_init(rest, (size_t)4 << 20);
	buf_init(calls, (size_t)4 << 20);
	must(foreign != NULL);
	struct str answer = {(const char *)data + 2, size - 2};
	for (size_t at = 0; at < answer.len; at += piece)
		must(chat_foreign_feed(foreign, str_sub(answer, at, piece), false, rest, on_call, calls) == DB_OK);
	must(chat_foreign_feed(foreign, STR_NONE, true, rest, on_call, calls) == DB_OK);
	chat_foreign_free(foreign);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf rest, calls, whole_rest, whole_calls;
	if (size < 3 || size > 8192)
		return 0;
	run(data, size, 1 + data[1] % 32, &rest, &calls);
	run(data, size, size, &whole_rest, &whole_calls);
	must(str_eq(buf_str(&calls), buf_str(&whole_calls)));
	must(str_eq(buf_str(&rest), buf_str(&whole_rest)));
	if (!calls.len)
		must(str_eq(buf_str(&rest), (struct str){(const char *)data + 2, size - 2}));
	buf_free(&rest);
	buf_free(&calls);
	buf_free(&whole_rest);
	buf_free(&whole_calls);
	return 0;
}
