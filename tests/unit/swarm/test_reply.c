#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "swarm/reply.h"

static const struct {
	const char *answer, *body;
	int status;
	enum reply_state end;
} cases[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 200, REPLY_DONE},
    {"HTTP/1.1 200 OK\r\ncontent-length:5\r\nX: y\r\n\r\nhello", "hello", 200, REPLY_DONE},
    {"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 2\r\n\r\n{}", "{}", 429, REPLY_DONE},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 200, REPLY_DONE},
    {"HTTP/1.1 204 No Content\r\n\r\n", "", 204, REPLY_DONE},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "hello", 200, REPLY_DONE},
    {"HTTP/1.1 200 OK\r\ntransfer-encoding: "
     "Chunked\r\n\r\n5\r\nhello\r\n1\r\n,\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
     "hello,abcdefghijklmnopqrstuvwxyz", 200, REPLY_DONE},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", 200, REPLY_DONE},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "hel", 200, REPLY_BODY},
    {"HTTP/1.1 200 OK\r\nContent-", "", 0, REPLY_HEAD},
    {"nonsense\r\n\r\n", "", 0, REPLY_BAD},
    {"HTTP/1.1 abc OK\r\n\r\n", "", 0, REPLY_BAD},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "", 200, REPLY_BAD},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", "", 200, REPLY_BAD},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", "", 200, REPLY_BAD},
};

static void on_body(struct str bytes, void *user)
{
	buf_append_str(user, bytes);
}

/* Feeds until nothing more is taken. */
static void feed(struct reply *reply, struct str bytes)
{
	size_t used = reply_feed(reply, bytes);
	assert_true(used <= bytes.len);
	if (reply->state < REPLY_DONE)
		assert_int_equal(used, bytes.len);
}

static void check(const struct reply *reply, const struct buf *body, size_t i)
{
	if (reply->state != cases[i].end || reply->status != cases[i].status || !str_is(buf_str(body), cases[i].body))
		fail_msg("case %zu: state %d, status %d, body %.*s", i, (int)reply->state, reply->status, STR_ARG(buf_str(body)));
}

static void reads_answers_whole_and_split_at_any_byte(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct str whole = str_of(cases[i].answer);
		for (size_t at = 0; at <= whole.len; at++) {
			struct buf body;
			struct reply reply;
			buf_init(&body, 1 << 16);
			reply_init(&reply, on_body, &body);
			feed(&reply, str_sub(whole, 0, at));
			feed(&reply, str_sub(whole, at, whole.len));
			check(&reply, &body, i);
			reply_free(&reply);
			buf_free(&body);
		}
	}
}

static void reads_answers_byte_by_byte_one_after_the_other(void **state)
{
	struct reply reply;
	struct buf body;
	(void)state;
	buf_init(&body, 1 << 16);
	reply_init(&reply, on_body, &body);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct str whole = str_of(cases[i].answer);
		buf_clear(&body);
		reply_reset(&reply);
		for (size_t at = 0; at < whole.len; at++)
			feed(&reply, str_sub(whole, at, 1));
		check(&reply, &body, i);
	}
	reply_free(&reply);
	buf_free(&body);
}

static void stops_at_the_end_of_an_answer(void **state)
{
	struct reply reply;
	struct buf body;
	(void)state;
	struct str two = STR("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nc");
	buf_init(&body, 1 << 16);
	reply_init(&reply, on_body, &body);
	size_t used = reply_feed(&reply, two);
	assert_int_equal(reply.state, REPLY_DONE);
	assert_true(str_is(buf_str(&body), "ab"));
	reply_reset(&reply);
	assert_int_equal(reply_feed(&reply, str_sub(two, used, two.len)), two.len - used);
	assert_int_equal(reply.state, REPLY_DONE);
	assert_true(str_is(buf_str(&body), "abc"));
	reply_free(&reply);
	buf_free(&body);
}

static void an_endless_head_is_bad(void **state)
{
	struct reply reply;
	struct buf body;
	(void)state;
	buf_init(&body, 1 << 16);
	reply_init(&reply, on_body, &body);
	reply_feed(&reply, STR("HTTP/1.1 200 OK\r\n"));
	for (int i = 0; i < 100000 && reply.state == REPLY_HEAD; i++)
		reply_feed(&reply, STR("x: y\r\n"));
	assert_int_equal(reply.state, REPLY_BAD);
	reply_free(&reply);
	buf_free(&body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(reads_answers_whole_and_split_at_any_byte),
	    cmocka_unit_test(reads_answers_byte_by_byte_one_after_the_other),
	    cmocka_unit_test(stops_at_the_end_of_an_answer),
	    cmocka_unit_test(an_endless_head_is_bad),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
