/* Records of kept answers: what is written, what goes on from it, how its input is listed. */
#include "api/responses.h"

#include "api/dialect.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define DELTA                                                                                                                  \
	"data: {\"id\":\"c1\",\"created\":5,\"model\":\"b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},"          \
	"\"finish_reason\":null}]}\n\n"

static const struct responses_keeping keeps_nothing_yet = {.earlier = {0}};

static bool parse(const char *body, const struct responses_keeping *keeping, struct arena *arena, struct chat_request *request,
                  struct api_error *error)
{
	*request = (struct chat_request){.dialect_input = keeping};
	return dialect_responses.parse(str_of(body), arena, request, error);
}

/* The record of an answer "Hello" to the body. */
static void record_of(const char *body, struct arena *arena, struct buf *out)
{
	struct chat_request request;
	struct api_error error;
	struct chat_frame frame;
	struct str rest = STR(DELTA);
	struct buf answered;
	buf_init(&answered, 1 << 20);
	buf_init(out, 1 << 20);
	assert_true(parse(body, &keeps_nothing_yet, arena, &request, &error));
	struct chat_answer_options options = {.job_id = "ab-cd", .requested_model = STR("m"), .max_tokens = 9, .request = &request};
	struct dialect_answer *answer = dialect_responses.answer_new(arena, &options);
	struct chat_answer_end end = {.has_usage = true, .usage = {.prompt_tokens = 3, .completion_tokens = 1}};
	assert_int_equal(chat_frame_read(rest, arena, &frame, &rest), DB_OK);
	assert_int_equal(dialect_responses.frame(answer, &frame, &answered), DB_OK);
	assert_int_equal(dialect_responses.finish(answer, &end, &answered), DB_OK);
	assert_int_equal(dialect_responses.record(answer, &end, out), DB_OK);
	if (out->len > 0) { /* the object is the one that the caller got */
		struct buf object;
		buf_init(&object, 1 << 20);
		assert_int_equal(responses_record_object(buf_str(out), &object), DB_OK);
		assert_true(str_eq(buf_str(&object), buf_str(&answered)));
		buf_free(&object);
	}
	dialect_answer_free(answer);
	buf_free(&answered);
}

static void only_what_was_asked_for_is_recorded(void **state)
{
	(void)state;
	static const char *const silent[] = {"{\"model\":\"m\",\"input\":\"hi\"}",
	                                     "{\"model\":\"m\",\"input\":\"hi\",\"store\":false}",
	                                     "{\"model\":\"m\",\"input\":\"hi\",\"store\":null}"};
	for (size_t i = 0; i < 3; i++) {
		struct arena *arena = arena_new(0);
		struct buf record;
		record_of(silent[i], arena, &record);
		assert_int_equal(record.len, 0);
		buf_free(&record);
		arena_free(arena);
	}
}

static void a_conversation_goes_on_from_its_records(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	struct chat_request request;
	struct api_error error;
	struct buf record, history, sent;
	record_of("{\"model\":\"m\",\"store\":true,\"instructions\":\"Old.\",\"input\":[{\"role\":\"user\",\"content\":\"hi\"},"
	          "{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"},"
	          "{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"4\"}]}",
	          arena, &record);
	buf_init(&history, 1 << 20);
	buf_init(&sent, 1 << 20);
	const struct str records[] = {buf_str(&record)};
	assert_int_equal(responses_history(records, 1, &history), DB_OK);
	const struct responses_keeping keeping = {buf_str(&history)};
	assert_true(parse("{\"model\":\"m\",\"input\":\"and?\",\"previous_response_id\":\"resp_abcd\",\"instructions\":\"New.\"}",
	                  &keeping, arena, &request, &error));
	assert_int_equal(chat_request_forward(&request, STR("m"), 9, &sent), DB_OK);
	struct json_doc *doc = json_parse(buf_str(&sent), NULL, NULL);
	struct str messages;
	static const char *const path[] = {"messages", NULL};
	assert_int_equal(json_raw_member(buf_str(&sent), path, &messages), DB_OK);
	assert_true(str_is(messages, "[{\"role\":\"system\",\"content\":\"New.\"},{\"role\":\"user\",\"content\":\"hi\"},"
	                             "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"c\",\"type\":\"function\","
	                             "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
	                             "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"4\"},"
	                             "{\"role\":\"assistant\",\"content\":\"Hello\"},{\"role\":\"user\",\"content\":\"and?\"}]"));
	json_free(doc);
	buf_free(&record);
	buf_free(&history);
	buf_free(&sent);
	arena_free(arena);
}

static void what_cannot_be_kept_is_refused_before_anything_is_charged(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	struct chat_request request;
	struct api_error error;
	struct buf large;
	assert_false(parse("{\"model\":\"m\",\"input\":\"x\",\"store\":true}", NULL, arena, &request, &error));
	assert_string_equal(error.param, "store");
	assert_false(parse("{\"model\":\"m\",\"input\":\"x\",\"previous_response_id\":\"a\"}", NULL, arena, &request, &error));
	assert_string_equal(error.param, "previous_response_id");
	assert_false(
	    parse("{\"model\":\"m\",\"input\":\"x\",\"previous_response_id\":\"a\"}", &keeps_nothing_yet, arena, &request, &error));
	assert_string_equal(error.param, "previous_response_id");
	assert_false(
	    parse("{\"model\":\"m\",\"input\":\"x\",\"previous_response_id\":4}", &keeps_nothing_yet, arena, &request, &error));
	assert_string_equal(error.param, "previous_response_id");
	buf_init(&large, 4 << 20);
	buf_append_c(&large, "{\"model\":\"m\",\"store\":true,\"input\":\"");
	for (size_t i = 0; i < RESPONSES_KEPT_INPUT_BYTES; i++)
		buf_append_byte(&large, 'x');
	buf_append_str(&large, (struct str){"\"}", 3}); /* with its NUL */
	assert_false(parse(large.at, &keeps_nothing_yet, arena, &request, &error));
	assert_string_equal(error.param, "store");
	buf_free(&large);
	arena_free(arena);
}

static void page(const struct buf *record, uint32_t limit, bool ascending, const char *after, const char *ids, bool more)
{
	struct buf out, found;
	buf_init(&out, 1 << 20);
	buf_init(&found, 1 << 20);
	const struct responses_page asked = {limit, ascending, str_of(after)};
	assert_int_equal(responses_record_items(buf_str(record), &asked, &out), DB_OK);
	struct json_doc *doc = json_parse(buf_str(&out), NULL, NULL);
	struct json_iter iter = json_iter(json_get(json_root(doc), "data"));
	struct str id;
	bool has_more = !more;
	for (json_val *item; (item = json_next(&iter, NULL));) {
		assert_true(json_as_str(json_get(item, "id"), &id));
		buf_append_str(&found, id);
		buf_append_byte(&found, ' ');
	}
	assert_true(str_is(buf_str(&found), ids));
	assert_true(json_as_bool(json_get(json_root(doc), "has_more"), &has_more));
	assert_true(has_more == more);
	json_free(doc);
	buf_free(&out);
	buf_free(&found);
}

static void input_items_come_in_pages(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	struct buf record, out;
	record_of("{\"model\":\"m\",\"store\":true,\"input\":[{\"role\":\"user\",\"content\":\"1\",\"id\":\"own\"},"
	          "{\"role\":\"assistant\",\"content\":\"2\"},{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":"
	          "\"3\"}]}]}",
	          arena, &record);
	page(&record, 9, true, "", "own msg_abcd_in1 msg_abcd_in2 ", false);
	page(&record, 2, false, "", "msg_abcd_in2 msg_abcd_in1 ", true);
	page(&record, 2, false, "msg_abcd_in1", "own ", false);
	page(&record, 1, true, "own", "msg_abcd_in1 ", true);
	page(&record, 1, true, "msg_abcd_in2", "", false);
	buf_init(&out, 1 << 20);
	const struct responses_page lost = {1, true, STR("none")};
	assert_int_equal(responses_record_items(buf_str(&record), &lost, &out), DB_E_NOT_FOUND);
	assert_int_equal(responses_record_object(STR("{}"), &out), DB_E_INVALID);
	assert_int_equal(responses_record_object(STR("no JSON"), &out), DB_E_INVALID);
	buf_free(&out);
	buf_free(&record);
	arena_free(arena);
}

static void the_answer_gone_on_from_is_found_before_parsing(void **state)
{
	(void)state;
	struct arena *arena = arena_new(0);
	struct str id;
	responses_previous(STR("{\"a\":1,\"previous_response_id\":\"x\",\"previous_response_id\":\"y\"}"), arena, &id);
	assert_true(str_is(id, "y"));
	static const char *const none[] = {"",
	                                   "[]",
	                                   "{",
	                                   "{\"previous_response_id\":null}",
	                                   "{\"previous_response_id\":\"\"}",
	                                   "{\"previous_response_id\":7}",
	                                   "{\"input\":{\"previous_response_id\":\"x\"}}"};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		responses_previous(str_of(none[i]), arena, &id);
		assert_int_equal(id.len, 0);
	}
	arena_free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_what_was_asked_for_is_recorded),
	    cmocka_unit_test(a_conversation_goes_on_from_its_records),
	    cmocka_unit_test(what_cannot_be_kept_is_refused_before_anything_is_charged),
	    cmocka_unit_test(input_items_come_in_pages),
	    cmocka_unit_test(the_answer_gone_on_from_is_found_before_parsing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
