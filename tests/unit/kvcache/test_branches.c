/* Conversations that branch, on disk: each file has what its conversation added to the ones before. */
#include "kv_fixture.h"

#define STEM   200 /* tokens that all branches begin with: 192 to their last boundary */
#define BRANCH 400

static void branch_tokens(int32_t branch, int32_t tokens[MAX_PROMPT], size_t count)
{
	prompt_tokens(1, tokens, count);
	for (size_t i = 192; i < count; i++)
		tokens[i] = (tokens[i] + branch) & 0xffff;
}

static size_t serve_branch(struct world *world, int32_t branch, size_t count)
{
	int32_t tokens[MAX_PROMPT];
	branch_tokens(branch, tokens, count);
	size_t found = serve(world, "a", tokens, count, NULL);
	kv_cache_settle(world->cache);
	return found;
}

/* Of the files that are filed under the stem's end only one has tokens of it. */
static void a_branch_is_read_where_other_branches_begin(void **state)
{
	(void)state;
	struct world world;
	struct kv_stats stats;
	make_root(world.root);
	world_open(&world, &(struct world_options){0});
	assert_int_equal(serve_branch(&world, 0, STEM), 0);
	for (int32_t branch = 1; branch < 6; branch++)
		assert_int_equal(serve_branch(&world, branch, BRANCH), 192);
	for (int32_t branch = 1; branch < 6; branch++)
		assert_int_equal(serve_branch(&world, branch, BRANCH + 300), 384);
	kv_cache_stats(world.cache, &stats);
	assert_int_equal(stats.hits_ssd, 10);
	assert_int_equal(stats.hits_ram, 0);
	assert_int_equal(stats.misses, 1);
	world_close(&world);
	world_open(&world, &(struct world_options){0});
	for (int32_t branch = 1; branch < 6; branch++)
		assert_int_equal(serve_branch(&world, branch, BRANCH + 300), 640);
	assert_int_equal(serve_branch(&world, 7, BRANCH), 192);
	world_close(&world);
	kv_folder_remove(world.root);
}

/* A branch that begins inside another branch's file, and one that begins where that one does. */
static void a_branch_of_a_branch_is_read(void **state)
{
	(void)state;
	struct world world;
	int32_t tokens[MAX_PROMPT];
	make_root(world.root);
	world_open(&world, &(struct world_options){0});
	assert_int_equal(serve_branch(&world, 0, STEM), 0);
	assert_int_equal(serve_branch(&world, 1, BRANCH), 192);
	for (int32_t other = 1; other < 4; other++) {
		branch_tokens(1, tokens, BRANCH);
		for (size_t i = 256; i < BRANCH; i++)
			tokens[i] ^= other;
		assert_int_equal(serve(&world, "a", tokens, BRANCH, NULL), 256);
		kv_cache_settle(world.cache);
		assert_int_equal(serve(&world, "a", tokens, BRANCH, NULL), 384);
	}
	assert_int_equal(serve_branch(&world, 2, BRANCH), 192);
	world_close(&world);
	kv_folder_remove(world.root);
}

static void what_is_on_disk_is_read_at_any_cost_when_that_is_asked_for(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	for (int always = 0; always < 2; always++) {
		world_open(&world, &(struct world_options){.always_read = always});
		for (int i = 0; i < 60; i++)
			kv_model_uploaded(world.model, 1, 1000000); /* nothing is dearer than to restore */
		assert_int_equal(serve_branch(&world, 0, BRANCH), always ? 384 : 0);
		world_close(&world);
	}
	kv_folder_remove(world.root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_branch_is_read_where_other_branches_begin),
	    cmocka_unit_test(a_branch_of_a_branch_is_read),
	    cmocka_unit_test(what_is_on_disk_is_read_at_any_cost_when_that_is_asked_for),
	};
	return cmocka_run_group_tests(tests, kv_setup, NULL);
}
