#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/sse.h"

struct events {
	struct buf joined; /* each event's data between brackets */
	int count;
};

static void on_event(struct str data, void *user)
{
	struct events *events = user;
	events->count++;
	buf_append_byte(&events->joined, '[');
	buf_append_str(&events->joined, data);
	buf_append_byte(&events->joined, ']');
}

static void events_init(struct events *events)
{
	events->count = 0;
	buf_init(&events->joined, 1 << 20);
}

static const struct {
	const char *stream, *expected;
} cases[] = {
    {"data: one\n\ndata: two\n\n", "[one][two]"},
    {"data:one\n\n", "[one]"},
    {"data:  one\n\n", "[ one]"},
    {"data: one\r\n\r\ndata: two\r\n\r\n", "[one][two]"},
    {"data: one\r\rdata: two\r\r", "[one][two]"},
    {"data: one\r\n\ndata: two\n\r\n", "[one][two]"},
    {"data: a\ndata: b\n\n", "[a\nb]"},
    {"data:\ndata: b\n\n", "[\nb]"},
    {"data\n\n", "[]"},
    {"data:\n\n", "[]"},
    {"\n\n\n", ""},
    {": keepalive\n\n", ""},
    {": keepalive\n\ndata: x\n\n", "[x]"},
    {"event: message\nid: 7\nretry: 1000\ndata: x\n\n", "[x]"},
    {"datax: one\n\n", ""},
    {"data: {\"a\":\"b: c\"}\n\n", "[{\"a\":\"b: c\"}]"},
    {"data: one\n", ""},
    {"data: \xc3\xbc\n\n", "[\xc3\xbc]"},
    {"data: [DONE]\n\n", "[[DONE]]"},
};

static void reads_streams_in_one_piece(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct events events;
		struct sse_reader reader;
		events_init(&events);
		sse_reader_init(&reader, on_event, &events);
		assert_int_equal(sse_reader_feed(&reader, str_of(cases[i].stream)), DB_OK);
		if (!str_is(buf_str(&events.joined), cases[i].expected))
			fail_msg("%s gave %.*s", cases[i].stream, STR_ARG(buf_str(&events.joined)));
		sse_reader_free(&reader);
		buf_free(&events.joined);
	}
}

static void a_split_at_any_byte_changes_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct str whole = str_of(cases[i].stream);
		for (size_t at = 0; at <= whole.len; at++) {
			struct events events;
			struct sse_reader reader;
			events_init(&events);
			sse_reader_init(&reader, on_event, &events);
			assert_int_equal(sse_reader_feed(&reader, str_sub(whole, 0, at)), DB_OK);
			assert_int_equal(sse_reader_feed(&reader, str_sub(whole, at, whole.len)), DB_OK);
			assert_true(str_is(buf_str(&events.joined), cases[i].expected));
			sse_reader_free(&reader);
			buf_free(&events.joined);
		}
	}
}

static void byte_by_byte_changes_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct str whole = str_of(cases[i].stream);
		struct events events;
		struct sse_reader reader;
		events_init(&events);
		sse_reader_init(&reader, on_event, &events);
		for (size_t at = 0; at < whole.len; at++)
			assert_int_equal(sse_reader_feed(&reader, str_sub(whole, at, 1)), DB_OK);
		assert_true(str_is(buf_str(&events.joined), cases[i].expected));
		sse_reader_free(&reader);
		buf_free(&events.joined);
	}
}

static void an_endless_event_is_refused(void **state)
{
	static char piece[65536];
	struct events events;
	struct sse_reader reader;
	enum db_err err = DB_OK;
	(void)state;
	for (int lines = 0; lines < 2; lines++) {
		events_init(&events);
		sse_reader_init(&reader, on_event, &events);
		memset(piece, 'x', sizeof piece);
		if (lines) {
			memcpy(piece, "data: ", 6);
			piece[sizeof piece - 1] = '\n';
		}
		size_t fed = 0;
		for (err = DB_OK; !err && fed < 4 * (size_t)SSE_EVENT_MAX; fed += sizeof piece)
			err = sse_reader_feed(&reader, (struct str){piece, sizeof piece});
		assert_int_equal(err, DB_E_LIMIT);
		assert_int_equal(sse_reader_feed(&reader, STR("\n\n")), DB_E_LIMIT);
		assert_int_equal(events.count, 0);
		sse_reader_free(&reader);
		buf_free(&events.joined);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(reads_streams_in_one_piece),
	    cmocka_unit_test(a_split_at_any_byte_changes_nothing),
	    cmocka_unit_test(byte_by_byte_changes_nothing),
	    cmocka_unit_test(an_endless_event_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
