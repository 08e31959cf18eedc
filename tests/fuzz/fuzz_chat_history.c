/* Sanitising of histories and tools: whatever comes in, what goes out is JSON without nulls, and sanitised once is sanitised.
 * Input: one byte, whose lowest bit asks for the corrections of GPT-OSS, then JSON: an array of messages, or an object with
 * "messages" and "tools". */
#include <stdlib.h>

#include "provider/engine/chat_history.h"

#define OUT_MAX ((size_t)4 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void no_nulls(const json_val *value)
{
	must(json_type(value) != JSON_NULL);
	if (json_type(value) != JSON_ARRAY && json_type(value) != JSON_OBJECT)
		return;
	struct json_iter each = json_iter(value);
	for (json_val *member; (member = json_next(&each, NULL));)
		no_nulls(member);
}

static void messages_stay_sane(const json_val *messages, const struct chat_history_options *options)
{
	struct buf once, twice;
	struct error error;
	buf_init(&once, OUT_MAX);
	buf_init(&twice, OUT_MAX);
	if (chat_history_write(messages, options, &once, &error) == DB_OK) {
		struct json_doc *doc = json_parse(buf_str(&once), NULL, NULL);
		must(doc != NULL);
		no_nulls(json_root(doc));
		if (chat_history_write(json_root(doc), options, &twice, &error) == DB_OK)
			must(str_eq(buf_str(&once), buf_str(&twice)));
		json_free(doc);
	}
	buf_free(&once);
	buf_free(&twice);
}

static void tools_stay_json(const json_val *tools, const struct chat_history_options *options)
{
	struct buf out;
	buf_init(&out, OUT_MAX);
	if (chat_history_write_tools(tools, options, &out) == DB_OK) {
		struct json_doc *doc = json_parse(buf_str(&out), NULL, NULL);
		must(doc != NULL && json_type(json_root(doc)) == JSON_ARRAY);
		json_free(doc);
	}
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str input = {(const char *)data, size};
	if (!input.len)
		return 0;
	struct chat_history_options options = {.gpt_oss = input.at[0] & 1};
	struct json_doc *doc = json_parse(str_sub(input, 1, input.len), NULL, NULL);
	if (!doc)
		return 0;
	const json_val *root = json_root(doc), *messages = json_get(root, "messages"), *tools = json_get(root, "tools");
	if (json_type(root) == JSON_ARRAY)
		messages = root;
	if (json_type(messages) == JSON_ARRAY)
		messages_stay_sane(messages, &options);
	if (json_type(tools) == JSON_ARRAY)
		tools_stay_json(tools, &options);
	json_free(doc);
	return 0;
}
