/* What a conversation loses first when it has to be shorter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/str.h"
#include "provider/engine/chat_shorten.h"

static struct arena *arena;

static int begin(void **state)
{
	(void)state;
	arena = arena_new(0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	arena_free(arena);
	return 0;
}

#define SYSTEM       "{\"role\":\"system\",\"content\":\"s\"}"
#define USER(n)      "{\"role\":\"user\",\"content\":\"u" #n "\"}"
#define ASSISTANT(n) "{\"role\":\"assistant\",\"content\":\"a" #n "\"}"
#define CALL(n)      "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"c" #n "\"}]}"
#define RESULT(n)    "{\"role\":\"tool\",\"content\":\"r" #n "\"}"

static const char *without(const char *messages, size_t dropped)
{
	struct chat_shorten *shorten = chat_shorten_new(messages, arena);
	assert_non_null(shorten);
	const char *text = chat_shorten_write(shorten, dropped, arena);
	assert_non_null(text);
	return text;
}

static size_t parts(const char *messages)
{
	struct chat_shorten *shorten = chat_shorten_new(messages, arena);
	assert_non_null(shorten);
	return chat_shorten_parts(shorten);
}

static void the_oldest_exchange_goes_first_and_the_system_message_stays(void **state)
{
	(void)state;
	const char *messages = "[" SYSTEM "," USER(1) "," ASSISTANT(1) "," USER(2) "," ASSISTANT(2) "," USER(3) "]";
	assert_int_equal(parts(messages), 2);
	assert_string_equal(without(messages, 0), messages);
	assert_string_equal(without(messages, 1), "[" SYSTEM "," USER(2) "," ASSISTANT(2) "," USER(3) "]");
	assert_string_equal(without(messages, 2), "[" SYSTEM "," USER(3) "]");
	assert_string_equal(without(messages, 9), "[" SYSTEM "," USER(3) "]");
}

static void a_call_goes_with_its_results(void **state)
{
	(void)state;
	const char *messages = "[" USER(1) "," CALL(1) "," RESULT(1) "," RESULT(2) "," ASSISTANT(1) "," USER(2) "]";
	assert_int_equal(parts(messages), 1);
	assert_string_equal(without(messages, 1), "[" USER(2) "]");
}

static void of_the_last_exchange_the_question_and_the_newest_step_stay(void **state)
{
	(void)state;
	const char *messages = "[" USER(0) "," ASSISTANT(0) "," USER(1) "," CALL(1) "," RESULT(1) "," CALL(2) "," RESULT(
	    2) "," CALL(3) "," RESULT(3) "]";
	assert_int_equal(parts(messages), 3);
	assert_string_equal(without(messages, 2), "[" USER(1) "," CALL(2) "," RESULT(2) "," CALL(3) "," RESULT(3) "]");
	assert_string_equal(without(messages, 3), "[" USER(1) "," CALL(3) "," RESULT(3) "]");
}

static void system_messages_in_the_middle_stay(void **state)
{
	(void)state;
	const char *messages = "[" USER(1) "," SYSTEM "," ASSISTANT(1) "," USER(2) "]";
	assert_string_equal(without(messages, 1), "[" SYSTEM "," USER(2) "]");
}

static void one_message_has_nothing_to_lose(void **state)
{
	(void)state;
	assert_int_equal(parts("[" USER(1) "]"), 0);
	assert_int_equal(parts("[" SYSTEM "," USER(1) "]"), 0);
	assert_int_equal(parts("[" ASSISTANT(1) "]"), 0);
	assert_int_equal(parts("[" SYSTEM "]"), 0);
}

static void without_a_user_the_newest_step_stays(void **state)
{
	(void)state;
	const char *messages = "[" CALL(1) "," RESULT(1) "," CALL(2) "," RESULT(2) "]";
	assert_int_equal(parts(messages), 1);
	assert_string_equal(without(messages, 1), "[" CALL(2) "," RESULT(2) "]");
}

static void bytes_are_those_of_the_messages_left(void **state)
{
	(void)state;
	struct chat_shorten *shorten = chat_shorten_new("[" USER(1) "," ASSISTANT(1) "," USER(2) "]", arena);
	assert_int_equal(chat_shorten_bytes(shorten, 0), strlen(USER(1) ASSISTANT(1) USER(2)));
	assert_int_equal(chat_shorten_bytes(shorten, 1), strlen(USER(2)));
}

static void what_is_no_list_of_messages_is_none(void **state)
{
	(void)state;
	assert_null(chat_shorten_new("", arena));
	assert_null(chat_shorten_new("{}", arena));
	assert_null(chat_shorten_new("[]", arena));
	assert_null(chat_shorten_new("[", arena));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_oldest_exchange_goes_first_and_the_system_message_stays),
	    cmocka_unit_test(a_call_goes_with_its_results),
	    cmocka_unit_test(of_the_last_exchange_the_question_and_the_newest_step_stay),
	    cmocka_unit_test(system_messages_in_the_middle_stay),
	    cmocka_unit_test(one_message_has_nothing_to_lose),
	    cmocka_unit_test(without_a_user_the_newest_step_stays),
	    cmocka_unit_test(bytes_are_those_of_the_messages_left),
	    cmocka_unit_test(what_is_no_list_of_messages_is_none),
	};
	return cmocka_run_group_tests(tests, begin, end);
}
