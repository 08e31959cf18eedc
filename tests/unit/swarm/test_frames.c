/* The frames that are filled in must be what api/ would have written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/chat_event.h"
#include "swarm/fleet_internal.h"
#include "swarm/frames.h"

static void written_by_api(enum swarm_frame kind, struct buf *out)
{
	const struct chat_frame_head head = {"request-17", 1767225600, "acme/tiny"};
	const struct chat_usage usage = {.prompt_tokens = 50, .completion_tokens = 8};
	buf_clear(out);
	switch (kind) {
	case SWARM_FRAME_ROLE:
		chat_frame_role(&head, 0, out);
		break;
	case SWARM_FRAME_DELTA:
		chat_frame_delta(&head, 0, STR("3 abc def"), STR_NONE, STR_NONE, STR_NONE, out);
		break;
	case SWARM_FRAME_FINISH:
		chat_frame_finish(&head, 0, "stop", STR_NONE, out);
		break;
	case SWARM_FRAME_USAGE:
		chat_frame_usage(&head, &usage, out);
		break;
	default:
		chat_frame_done(out);
	}
}

static void filled_in_frames_are_those_of_the_api(void **state)
{
	(void)state;
	for (int old_generation = 0; old_generation < 2; old_generation++) {
		struct swarm_frames frames = {0};
		struct buf expected, found;
		buf_init(&expected, 4096);
		buf_init(&found, 4096);
		assert_int_equal(swarm_frames_init(&frames, 50, 8, old_generation), DB_OK);
		for (int kind = 0; kind < SWARM_FRAME_KINDS; kind++) {
			buf_clear(&found);
			written_by_api((enum swarm_frame)kind, &expected);
			swarm_frame_write(&frames, (enum swarm_frame)kind, STR("request-17"), STR("acme/tiny"), STR("3 "), STR("abc def"),
			                  &found);
			if (old_generation)
				expected.len -= 2; /* without the blank line */
			assert_true(str_eq(buf_str(&found), buf_str(&expected)));
		}
		swarm_frames_free(&frames);
		buf_free(&expected);
		buf_free(&found);
	}
}

static void numbers_are_decimal(void **state)
{
	char room[24];
	(void)state;
	assert_true(str_is(swarm_decimal(0, room), "0 "));
	assert_true(str_is(swarm_decimal(9, room), "9 "));
	assert_true(str_is(swarm_decimal(10, room), "10 "));
	assert_true(str_is(swarm_decimal(4294967295u, room), "4294967295 "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(filled_in_frames_are_those_of_the_api),
	    cmocka_unit_test(numbers_are_decimal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
