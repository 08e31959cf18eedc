/* Queues of lent chunks: bytes come out as they went in, and nothing of them stays in a chunk that was given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "net/chunk_pool.h"

static char byte_at(size_t i)
{
	return (char)('a' + i * 7 % 26 + (i / NET_CHUNK_BYTES) % 3);
}

static void bytes_come_out_in_the_order_in_which_they_went_in(void **state)
{
	static const size_t steps[] = {1, 3, NET_CHUNK_BYTES - 4, NET_CHUNK_BYTES, NET_CHUNK_BYTES + 1, 5, 3 * NET_CHUNK_BYTES,
	                               0, 7};
	struct net_pool pool;
	struct net_queue queue = {0};
	size_t in = 0, out = 0;
	(void)state;
	net_pool_init(&pool);
	assert_null(net_queue_peek(&queue).at);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		char *bytes = malloc(steps[i] + 1);
		for (size_t k = 0; k < steps[i]; k++)
			bytes[k] = byte_at(in + k);
		assert_int_equal(net_queue_append(&queue, &pool, bytes, steps[i]), DB_OK);
		in += steps[i];
		free(bytes);
		assert_int_equal(queue.len, in - out);
		struct str head = net_queue_peek(&queue); /* a part of it is sent */
		size_t part = head.len / 2 + 1;
		for (size_t k = 0; k < part; k++)
			assert_int_equal(head.at[k], byte_at(out + k));
		net_queue_consume(&queue, &pool, part);
		out += part;
	}
	while (queue.len) {
		struct str head = net_queue_peek(&queue);
		assert_true(head.len > 0);
		for (size_t k = 0; k < head.len; k++)
			assert_int_equal(head.at[k], byte_at(out + k));
		net_queue_consume(&queue, &pool, head.len);
		out += head.len;
	}
	assert_int_equal(out, in);
	assert_null(queue.first);
	assert_null(queue.last);
	net_pool_free(&pool);
}

static void chunks_are_lent_again_and_wiped_between(void **state)
{
	struct net_pool pool;
	struct net_queue one = {0}, other = {0};
	(void)state;
	net_pool_init(&pool);
	assert_int_equal(net_queue_append(&one, &pool, "a secret", 8), DB_OK);
	const struct net_chunk *chunk = one.first;
	net_queue_consume(&one, &pool, 3);
	net_queue_clear(&one, &pool);
	assert_null(net_queue_peek(&one).at);
	assert_int_equal(pool.spare_count, 1);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(chunk->bytes[i], 0);
	assert_int_equal(net_queue_append(&other, &pool, "x", 1), DB_OK);
	assert_ptr_equal(other.first, chunk);
	assert_int_equal(pool.spare_count, 0);
	net_queue_clear(&other, &pool);
	net_queue_clear(&other, &pool); /* an empty one stays empty */
	net_pool_free(&pool);
	assert_int_equal(pool.spare_count, 0);
}

static void a_pool_keeps_only_so_many_spare_chunks(void **state)
{
	struct net_pool pool;
	struct net_queue queue = {0};
	char *bytes = calloc(600, NET_CHUNK_BYTES);
	(void)state;
	net_pool_init(&pool);
	assert_int_equal(net_queue_append(&queue, &pool, bytes, (size_t)600 * NET_CHUNK_BYTES), DB_OK);
	net_queue_clear(&queue, &pool);
	assert_int_equal(pool.spare_count, 512);
	net_pool_free(&pool);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(bytes_come_out_in_the_order_in_which_they_went_in),
	    cmocka_unit_test(chunks_are_lent_again_and_wiped_between),
	    cmocka_unit_test(a_pool_keeps_only_so_many_spare_chunks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
