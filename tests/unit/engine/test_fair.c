/* Whose turn it is among calls that wait, without a model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "provider/engine/engine_llama.h"

#define CALLS 8

struct queue {
	struct llama_engine engine;
	struct llama_call calls[CALLS];
	size_t count;
};

static struct queue *queue_new(void)
{
	struct queue *queue = calloc(1, sizeof *queue);
	assert_non_null(queue);
	list_init(&queue->engine.waiting);
	list_init(&queue->engine.tenants);
	return queue;
}

static void queue_free(struct queue *queue)
{
	for (size_t i = 0; i < queue->count; i++)
		if (queue->calls[i].turn)
			llama_fair_leave(&queue->engine, &queue->calls[i]);
	assert_int_equal(queue->engine.tenants.count, 0);
	free(queue);
}

/* A call that comes now, behind all others. */
static struct llama_call *come(struct queue *queue, const char *tenant)
{
	assert_true(queue->count < CALLS);
	struct llama_call *call = &queue->calls[queue->count++];
	call->root = call;
	call->tenant = str_of(tenant);
	llama_fair_join(&queue->engine, call);
	list_push_back(&queue->engine.waiting, &call->link);
	return call;
}

static void start(struct queue *queue, struct llama_call *call)
{
	list_remove(&queue->engine.waiting, &call->link);
	call->turn->running++;
}

static unsigned place(struct llama_call *call)
{
	return atomic_load(&call->position);
}

static void tenants_take_turns_however_many_calls_each_has(void **state)
{
	(void)state;
	struct queue *queue = queue_new();
	struct llama_call *a[3], *b[2], *c;
	for (int i = 0; i < 3; i++)
		a[i] = come(queue, "a");
	for (int i = 0; i < 2; i++)
		b[i] = come(queue, "b");
	c = come(queue, "c");
	llama_fair_number(&queue->engine);
	assert_int_equal(place(a[0]), 1);
	assert_int_equal(place(b[0]), 2);
	assert_int_equal(place(c), 3);
	assert_int_equal(place(a[1]), 4);
	assert_int_equal(place(b[1]), 5);
	assert_int_equal(place(a[2]), 6);
	assert_ptr_equal(llama_fair_next(&queue->engine), a[0]);
	queue_free(queue);
}

static void who_has_calls_running_waits_for_who_has_none(void **state)
{
	(void)state;
	struct queue *queue = queue_new();
	start(queue, come(queue, "a"));
	struct llama_call *second = come(queue, "a"), *other = come(queue, "b");
	llama_fair_number(&queue->engine);
	assert_ptr_equal(llama_fair_next(&queue->engine), other);
	assert_int_equal(place(other), 1);
	assert_int_equal(place(second), 2);
	queue_free(queue);
}

static void of_those_that_are_level_the_one_that_was_given_less_goes_first(void **state)
{
	(void)state;
	struct queue *queue = queue_new();
	struct llama_call *a = come(queue, "a"), *b = come(queue, "b");
	a->turn->served = 100;
	b->turn->served = 99;
	assert_ptr_equal(llama_fair_next(&queue->engine), b);
	b->turn->served = 101;
	assert_ptr_equal(llama_fair_next(&queue->engine), a);
	queue_free(queue);
}

static void absence_earns_no_credit(void **state)
{
	(void)state;
	struct queue *queue = queue_new();
	struct llama_call *a = come(queue, "a"), *b = come(queue, "b");
	a->turn->served = 1000;
	b->turn->served = 700;
	struct llama_call *c = come(queue, "c");
	assert_true(c->turn->served >= 700 && c->turn->served <= 700);
	queue_free(queue);
}

static void what_was_put_back_goes_first_and_what_is_paused_does_not_go(void **state)
{
	(void)state;
	struct queue *queue = queue_new();
	struct llama_call *a = come(queue, "a"), *b = come(queue, "b"), *again = come(queue, "a");
	again->started = true;
	assert_ptr_equal(llama_fair_next(&queue->engine), again);
	atomic_store(&again->paused, true);
	assert_ptr_equal(llama_fair_next(&queue->engine), a);
	atomic_store(&a->paused, true);
	assert_ptr_equal(llama_fair_next(&queue->engine), b);
	atomic_store(&b->paused, true);
	assert_null(llama_fair_next(&queue->engine));
	queue_free(queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(tenants_take_turns_however_many_calls_each_has),
	    cmocka_unit_test(who_has_calls_running_waits_for_who_has_none),
	    cmocka_unit_test(of_those_that_are_level_the_one_that_was_given_less_goes_first),
	    cmocka_unit_test(absence_earns_no_credit),
	    cmocka_unit_test(what_was_put_back_goes_first_and_what_is_paused_does_not_go),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
