/* The byte budget that all models share, and what a sequence costs. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <gguf.h>

#include "core/log.h"
#include "provider/engine/kv_budget.h"
#include "provider/engine/kv_cost.h"

static void what_does_not_fit_is_refused_at_once_and_changes_nothing(void **state)
{
	(void)state;
	struct kv_budget *budget = kv_budget_new(100);
	struct kv_reservation a = {0}, b = {0};
	assert_true(kv_budget_reserve(budget, 60, &a));
	assert_false(kv_budget_reserve(budget, 41, &b));
	assert_int_equal(b.bytes, 0);
	assert_true(kv_budget_reserve(budget, 40, &b));
	assert_false(kv_reservation_extend(&a, 61));
	assert_int_equal(a.bytes, 60);
	assert_true(kv_reservation_extend(&a, 10)); /* it holds more already */
	kv_reservation_shrink(&a, 30);
	kv_reservation_shrink(&a, 50); /* never grows */
	assert_int_equal(a.bytes, 30);
	assert_int_equal(kv_budget_free_bytes(budget), 30);
	assert_true(kv_reservation_extend(&b, 70));
	kv_reservation_release(&a);
	kv_reservation_release(&a);
	kv_reservation_release(&b);
	struct kv_budget_stats now;
	kv_budget_stats(budget, &now);
	assert_int_equal(now.reserved_bytes, 0);
	assert_int_equal(now.reservations, 0);
	assert_int_equal(now.peak_bytes, 100);
	assert_int_equal(now.refusals, 2);
	kv_budget_free(budget);
}

static void a_claim_counts_even_where_there_is_no_room(void **state)
{
	(void)state;
	struct kv_budget *budget = kv_budget_new(100);
	struct kv_reservation weights = {0}, call = {0};
	kv_budget_claim(budget, 150, &weights);
	assert_int_equal(kv_budget_free_bytes(budget), 0);
	assert_false(kv_budget_reserve(budget, 1, &call));
	kv_reservation_release(&weights);
	assert_true(kv_budget_reserve(budget, 100, &call));
	kv_budget_set_limit(budget, 50); /* what is held stays */
	assert_int_equal(call.bytes, 100);
	assert_int_equal(kv_budget_free_bytes(budget), 0);
	kv_reservation_release(&call);
	assert_int_equal(kv_budget_free_bytes(budget), 50);
	kv_budget_free(budget);
}

struct told {
	int room, shorts;
	uint64_t missing;
};

static void on_room(void *user)
{
	((struct told *)user)->room++;
}

static void on_short(void *user, uint64_t missing)
{
	((struct told *)user)->shorts++;
	((struct told *)user)->missing = missing;
}

static void watchers_hear_of_room_and_of_need(void **state)
{
	(void)state;
	struct kv_budget *budget = kv_budget_new(10);
	struct told told = {0};
	struct kv_budget_watcher watcher = {.on_room = on_room, .on_short = on_short, .user = &told};
	struct kv_reservation a = {0}, b = {0};
	kv_budget_watch(budget, &watcher);
	assert_true(kv_budget_reserve(budget, 8, &a));
	assert_false(kv_budget_reserve(budget, 5, &b));
	assert_int_equal(told.shorts, 1);
	assert_int_equal(told.missing, 3);
	kv_reservation_release(&a);
	assert_int_equal(told.room, 1);
	kv_budget_unwatch(budget, &watcher);
	assert_true(kv_budget_reserve(budget, 8, &a));
	kv_reservation_release(&a);
	assert_int_equal(told.room, 1);
	kv_budget_free(budget);
}

/* --- the ledger under random use from several threads --- */

enum { THREADS = 4, HELD = 16, ROUNDS = 20000, LIMIT = 5000 };

static void *use_at_random(void *user)
{
	struct kv_budget *budget = user;
	struct kv_reservation held[HELD] = {0};
	unsigned seed = (unsigned)(uintptr_t)&held;
	for (int round = 0; round < ROUNDS; round++) {
		struct kv_reservation *one = &held[rand_r(&seed) % HELD];
		uint64_t bytes = (uint64_t)(rand_r(&seed) % 700);
		switch (rand_r(&seed) % 4) {
		case 0:
			if (!one->bytes)
				kv_budget_reserve(budget, bytes, one);
			break;
		case 1:
			kv_reservation_extend(one, bytes);
			break;
		case 2:
			kv_reservation_shrink(one, bytes);
			break;
		default:
			kv_reservation_release(one);
		}
		struct kv_budget_stats now;
		kv_budget_stats(budget, &now);
		if (now.reserved_bytes > LIMIT)
			return (void *)"above the limit";
	}
	for (int i = 0; i < HELD; i++)
		kv_reservation_release(&held[i]);
	return NULL;
}

static void random_use_never_passes_the_limit_and_sums_return_to_zero(void **state)
{
	(void)state;
	struct kv_budget *budget = kv_budget_new(LIMIT);
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, use_at_random, budget), 0);
	for (int i = 0; i < THREADS; i++) {
		void *fault;
		pthread_join(threads[i], &fault);
		assert_null(fault);
	}
	struct kv_budget_stats now;
	kv_budget_stats(budget, &now);
	assert_int_equal(now.reserved_bytes, 0);
	assert_int_equal(now.reservations, 0);
	assert_true(now.peak_bytes <= LIMIT);
	kv_budget_free(budget);
}

/* --- what a sequence costs --- */

static struct gguf_context *metadata(const char *architecture)
{
	struct gguf_context *gguf = gguf_init_empty();
	gguf_set_val_str(gguf, "general.architecture", architecture);
	return gguf;
}

static struct kv_cost cost_of(struct gguf_context *gguf, uint64_t weight_bytes)
{
	struct kv_cost cost;
	kv_cost_read(gguf, weight_bytes, &cost);
	gguf_free(gguf);
	return cost;
}

static void full_attention_costs_the_chapters_figure(void **state)
{
	(void)state;
	struct gguf_context *gguf = metadata("qwen3"); /* Qwen3-0.6B */
	gguf_set_val_u32(gguf, "qwen3.block_count", 28);
	gguf_set_val_u32(gguf, "qwen3.embedding_length", 1024);
	gguf_set_val_u32(gguf, "qwen3.attention.head_count", 16);
	gguf_set_val_u32(gguf, "qwen3.attention.head_count_kv", 8);
	gguf_set_val_u32(gguf, "qwen3.attention.key_length", 128);
	gguf_set_val_u32(gguf, "qwen3.attention.value_length", 128);
	struct kv_cost cost = cost_of(gguf, 1);
	assert_false(cost.estimated);
	assert_int_equal(cost.bytes_per_token, 114688);
	assert_int_equal(kv_cost_bytes(&cost, 10), 1146880);
	assert_int_equal(kv_cost_tokens(&cost, 1146880, 4096), 10);
	assert_int_equal(kv_cost_tokens(&cost, 1146879, 4096), 9);
	assert_int_equal(kv_cost_tokens(&cost, UINT64_MAX, 4096), 4096);
}

static void sliding_windows_cost_until_they_are_full(void **state)
{
	(void)state;
	struct gguf_context *gguf = metadata("gpt-oss"); /* GPT-OSS-20B */
	gguf_set_val_u32(gguf, "gpt-oss.block_count", 24);
	gguf_set_val_u32(gguf, "gpt-oss.embedding_length", 2880);
	gguf_set_val_u32(gguf, "gpt-oss.attention.head_count", 64);
	gguf_set_val_u32(gguf, "gpt-oss.attention.head_count_kv", 8);
	gguf_set_val_u32(gguf, "gpt-oss.attention.key_length", 64);
	gguf_set_val_u32(gguf, "gpt-oss.attention.value_length", 64);
	gguf_set_val_u32(gguf, "gpt-oss.attention.sliding_window", 128);
	struct kv_cost cost = cost_of(gguf, 1);
	assert_int_equal(cost.full_layers, 12);
	assert_int_equal(cost.window_layers, 12);
	assert_int_equal(cost.bytes_per_token, 24576);
	assert_int_equal(kv_cost_bytes(&cost, 100), 100 * (24576 + 24576));
	assert_int_equal(kv_cost_bytes(&cost, 1000), 1000 * 24576 + 128 * 24576);
}

static void layers_that_share_or_list_their_windows_are_counted_one_by_one(void **state)
{
	(void)state;
	struct gguf_context *gguf = metadata("gemma4");
	const int8_t windows[] = {1, 1, 0, 1};
	gguf_set_val_u32(gguf, "gemma4.block_count", 4);
	gguf_set_val_u32(gguf, "gemma4.attention.head_count", 8);
	gguf_set_val_u32(gguf, "gemma4.attention.head_count_kv", 2);
	gguf_set_val_u32(gguf, "gemma4.attention.key_length", 512);
	gguf_set_val_u32(gguf, "gemma4.attention.value_length", 512);
	gguf_set_val_u32(gguf, "gemma4.attention.key_length_swa", 256);
	gguf_set_val_u32(gguf, "gemma4.attention.value_length_swa", 256);
	gguf_set_val_u32(gguf, "gemma4.attention.sliding_window", 64);
	gguf_set_val_u32(gguf, "gemma4.attention.shared_kv_layers", 1);
	gguf_set_arr_data(gguf, "gemma4.attention.sliding_window_pattern", GGUF_TYPE_BOOL, windows, 4);
	struct kv_cost cost = cost_of(gguf, 1);
	assert_int_equal(cost.full_layers, 1);
	assert_int_equal(cost.window_layers, 2);
	assert_int_equal(cost.bytes_per_token, 2 * 1024 * 2);
	assert_int_equal(cost.window_bytes_per_token, 2 * 2 * 512 * 2);
}

static void recurrent_layers_cost_the_same_at_any_length(void **state)
{
	(void)state;
	struct gguf_context *gguf = metadata("jamba");
	const int32_t kv_heads[] = {0, 0, 8, 0};
	gguf_set_val_u32(gguf, "jamba.block_count", 4);
	gguf_set_val_u32(gguf, "jamba.embedding_length", 4096);
	gguf_set_val_u32(gguf, "jamba.attention.head_count", 32);
	gguf_set_arr_data(gguf, "jamba.attention.head_count_kv", GGUF_TYPE_INT32, kv_heads, 4);
	gguf_set_val_u32(gguf, "jamba.ssm.conv_kernel", 4);
	gguf_set_val_u32(gguf, "jamba.ssm.inner_size", 8192);
	gguf_set_val_u32(gguf, "jamba.ssm.state_size", 16);
	struct kv_cost cost = cost_of(gguf, 1);
	assert_int_equal(cost.recurrent_layers, 3);
	assert_int_equal(cost.bytes_per_token, 8 * 256 * 2);
	assert_int_equal(cost.recurrent_bytes, 3 * (3 * 8192 + 16 * 8192) * 4);
	assert_int_equal(kv_cost_bytes(&cost, 0), cost.recurrent_bytes);
}

static void unusable_metadata_is_estimated_from_the_weights(void **state)
{
	(void)state;
	struct kv_cost cost;
	kv_cost_read(NULL, UINT64_C(20000000000), &cost);
	assert_true(cost.estimated);
	assert_int_equal(cost.bytes_per_token, 800000);
	assert_int_equal(cost_of(metadata("llama"), 1000).bytes_per_token, 100000);
	struct gguf_context *absurd = metadata("llama");
	gguf_set_val_u32(absurd, "llama.block_count", 4000000000u);
	assert_true(cost_of(absurd, 1000).estimated);
	struct gguf_context *text = metadata("llama");
	gguf_set_val_str(text, "llama.block_count", "many");
	assert_true(cost_of(text, 1000).estimated);
	struct gguf_context *tiny = metadata("llama");
	gguf_set_val_u32(tiny, "llama.block_count", 1);
	gguf_set_val_u32(tiny, "llama.embedding_length", 8);
	gguf_set_val_u32(tiny, "llama.attention.head_count", 1);
	assert_true(cost_of(tiny, 1000).estimated);
	kv_cost_read_file("/nowhere", 1000, &cost);
	assert_true(cost.estimated);
}

int main(void)
{
	log_set_level(LOG_ERROR);
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_does_not_fit_is_refused_at_once_and_changes_nothing),
	    cmocka_unit_test(a_claim_counts_even_where_there_is_no_room),
	    cmocka_unit_test(watchers_hear_of_room_and_of_need),
	    cmocka_unit_test(random_use_never_passes_the_limit_and_sums_return_to_zero),
	    cmocka_unit_test(full_attention_costs_the_chapters_figure),
	    cmocka_unit_test(sliding_windows_cost_until_they_are_full),
	    cmocka_unit_test(layers_that_share_or_list_their_windows_are_counted_one_by_one),
	    cmocka_unit_test(recurrent_layers_cost_the_same_at_any_length),
	    cmocka_unit_test(unusable_metadata_is_estimated_from_the_weights),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
