/* Keeping house on the disk: what waits, what is erased meanwhile, what goes first, and what others left there. */
#include "kv_fixture.h"

#include <stdatomic.h>
#include <utime.h>

#define RAM    (1 << 22)
#define HOUR_S INT64_C(3600)
/* What room is made for before a state of 1,024 tokens is written. */
#define ROOM (1024 * 8 + KV_FILE_META_MAX / 64)

/* --- a thread that is held at its work --- */

static atomic_bool held, arrived;

static struct kv_blob *held_cut(const struct kv_blob *state, size_t from, size_t to)
{
	if (atomic_load(&held)) {
		atomic_store(&arrived, true);
		while (atomic_load(&held))
			usleep(200);
	}
	return fake_cut(state, from, to);
}

static const struct kv_codec held_codec = {held_cut, fake_join};

static void hold(void)
{
	atomic_store(&arrived, false);
	atomic_store(&held, true);
}

static void await_arrival(void)
{
	while (!atomic_load(&arrived))
		usleep(200);
}

static void let_go(void)
{
	atomic_store(&held, false);
}

/* The second turn of a conversation: only its part is written, which is cut from the whole first. */
static void hold_a_write(struct world *world, const char *tenant)
{
	serve_seed(world, tenant, 1, 500);
	kv_cache_settle(world->cache);
	hold();
	serve_seed(world, tenant, 1, 1000);
	await_arrival();
}

static void what_waits_for_a_slow_disk_is_bounded_and_the_newest_is_kept(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM, .max_writes = 2, .codec = &held_codec});
	hold_a_write(&world, "a");
	for (int32_t seed = 10; seed < 15; seed++)
		assert_int_equal(serve_seed(&world, "a", seed, 1000), 0); /* nobody waits for the disk */
	assert_int_equal(stats_of(&world).write_drops, 3);
	let_go();
	kv_cache_settle(world.cache);
	assert_int_equal(stats_of(&world).disk.writes, 4);
	world_close(&world);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	for (int32_t seed = 10; seed < 15; seed++)
		assert_int_equal(serve_seed(&world, "a", seed, 1000), seed < 13 ? 0 : 960);
	world_end(&world);
}

static void what_is_erased_while_it_waits_or_is_written_does_not_come_back(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM, .codec = &held_codec});
	hold_a_write(&world, "a");
	serve_seed(&world, "a", 2, 1000);
	serve_seed(&world, "b", 3, 1000);
	kv_cache_erase(world.cache, STR("a"));
	let_go();
	kv_cache_settle(world.cache);
	assert_int_equal(stats_of(&world).disk.entries, 1);
	assert_int_equal(stats_of(&world).ram.entries, 1);
	struct file_list files;
	list_files(world.root, &files);
	assert_int_equal(files.count, 1);
	assert_int_equal(serve_seed(&world, "b", 3, 1000), 960);
	world_end(&world);
}

static void what_is_erased_while_it_is_read_does_not_come_back(void **state)
{
	(void)state;
	struct world world;
	int32_t tokens[700];
	struct kv_prompt prompt;
	struct kv_taken taken;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	serve_seed(&world, "a", 1, 1000);
	world_close(&world);
	world_open(&world, &(struct world_options){.ram_bytes = RAM, .codec = &held_codec});
	prompt_tokens(1, tokens, 700); /* a part of it, which is cut when it was read */
	assert_int_equal(kv_prompt_make(world.model, STR_NONE, STR("a"), tokens, 700, &prompt), DB_OK);
	hold();
	struct kv_fetch *fetch = kv_fetch_begin(world.model, &prompt, NULL, NULL);
	assert_non_null(fetch);
	await_arrival();
	kv_cache_erase(world.cache, STR("a"));
	let_go();
	kv_cache_settle(world.cache);
	kv_take(world.model, &prompt, fetch, &taken);
	assert_null(taken.state);
	assert_int_equal(stats_of(&world).ram.entries, 0);
	kv_fetch_end(fetch);
	kv_prompt_free(&prompt);
	world_end(&world);
}

static void a_long_match_that_memory_cannot_hold_still_wins(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = 8000, .whole_only = true});
	assert_int_equal(serve_seed(&world, "a", 1, 3900), 0);
	assert_int_equal(serve_seed(&world, "a", 1, 300), 0);
	kv_cache_settle(world.cache);
	assert_int_equal(stats_of(&world).ram.entries, 1); /* the short one, and no room for the long */
	assert_int_equal(serve_seed(&world, "a", 1, 3900), 3840);
	world_end(&world);
}

static void only_what_is_long_enough_and_of_known_weights_is_written(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM, .min_persist_tokens = 512});
	serve_seed(&world, "a", 1, 500);
	serve_seed(&world, "a", 2, 577);
	kv_cache_settle(world.cache);
	assert_int_equal(stats_of(&world).disk.entries, 1);
	assert_int_equal(stats_of(&world).ram.entries, 2);
	world_close(&world);
	world_open(&world,
	           &(struct world_options){.ram_bytes = RAM, .weights = ""}); /* no hash, nothing that a file could be bound to */
	assert_int_equal(serve_seed(&world, "a", 3, 1000), 0);
	kv_cache_settle(world.cache);
	assert_int_equal(stats_of(&world).disk.entries, 0);
	assert_int_equal(serve_seed(&world, "a", 3, 1000), 960);
	world_end(&world);
}

/* Even where both would name a prompt alike. */
static void a_file_is_found_for_its_own_tenant_only(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	int32_t tokens[1024];
	struct kv_digest points[16];
	struct kv_tag a, b;
	uint64_t bytes;
	make_root(root);
	struct kv_disk *disk = open_disk(root, 1 << 20, 0, NULL);
	assert_int_equal(write_seed(disk, 1, 1024), DB_OK);
	prompt_tokens(1, tokens, 1024);
	kv_points(STR("a"), tokens, 1024, points);
	kv_keys_tag(kv_disk_keys(disk), STR("a"), &a);
	kv_keys_tag(kv_disk_keys(disk), STR("b"), &b);
	assert_int_equal(kv_disk_find(disk, 1, &a, points, 16, &bytes), 16);
	assert_int_equal(kv_disk_find(disk, 1, &b, points, 16, &bytes), 0);
	kv_disk_close(disk);
	kv_folder_remove(root);
}

/* --- files that nobody has open --- */

static struct kv_disk *open_other(const char *root, uint64_t max_bytes, int64_t ttl_s)
{
	struct error error;
	struct kv_disk_options options = {.root = root, .secret = device_secret, .max_bytes = max_bytes, .ttl_us = ttl_s * 1000000};
	struct kv_shape shape = shape_of("weights-2");
	struct kv_disk_model_options model = {1, "other/model", &shape, &fake_codec};
	struct kv_disk *disk = kv_disk_open(&options, &error);
	assert_non_null(disk);
	assert_int_equal(kv_disk_model_open(disk, &model, &error), DB_OK);
	return disk;
}

static void make_old(const char *path)
{
	struct utimbuf old = {.actime = 1, .modtime = 1};
	assert_int_equal(utime(path, &old), 0);
}

/* Leaves two files of a model, the first of which was not used for long. */
static uint64_t leave_two(const char *root, struct file_list *files)
{
	struct kv_disk *disk = open_disk(root, 1 << 20, 0, NULL);
	assert_int_equal(write_seed(disk, 1, 1024), DB_OK);
	assert_int_equal(write_seed(disk, 2, 1024), DB_OK);
	kv_disk_close(disk);
	list_files(root, files);
	assert_int_equal(files->count, 2);
	make_old(files->path[0]);
	return files->bytes;
}

static void the_oldest_file_of_a_model_that_is_not_loaded_gives_way(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct file_list files;
	struct kv_disk_stats stats;
	make_root(root);
	uint64_t bytes = leave_two(root, &files);
	struct kv_disk *disk = open_other(root, bytes / 2 * 3 + ROOM - 1, 0);
	assert_int_equal(write_seed(disk, 3, 1024), DB_OK);
	assert_int_equal(write_seed(disk, 4, 1024), DB_OK);
	assert_int_equal(access(files.path[0], F_OK), -1);
	assert_int_equal(access(files.path[1], F_OK), 0);
	assert_int_equal(find_seed(disk, 3, 1024), 1024);
	kv_disk_stats(disk, &stats);
	assert_int_equal(stats.evictions, 1);
	assert_int_equal(stats.entries, 2);
	kv_disk_close(disk);
	kv_folder_remove(root);
}

static void a_model_that_is_not_loaded_is_no_shelter_from_age(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct file_list files;
	struct kv_disk_stats stats;
	struct kv_tag erased[1];
	make_root(root);
	leave_two(root, &files);
	struct kv_disk *disk = open_other(root, 1 << 20, HOUR_S);
	kv_disk_tick(disk, true, erased, 1);
	assert_int_equal(access(files.path[0], F_OK), -1);
	assert_int_equal(access(files.path[1], F_OK), 0);
	kv_disk_stats(disk, &stats);
	assert_int_equal(stats.expirations, 1);
	kv_disk_close(disk);
	kv_folder_remove(root);
}

static void a_model_that_is_not_loaded_is_no_shelter_from_erasing(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct file_list files;
	struct kv_tag tag;
	make_root(root);
	leave_two(root, &files);
	struct kv_disk *disk = open_other(root, 1 << 20, 0);
	kv_keys_tag(kv_disk_keys(disk), STR("b"), &tag);
	kv_disk_erase(disk, &tag);
	assert_int_equal(access(files.path[0], F_OK), 0);
	kv_keys_tag(kv_disk_keys(disk), STR("a"), &tag);
	kv_disk_erase(disk, &tag);
	list_files(root, &files);
	assert_int_equal(files.count, 0);
	kv_disk_close(disk);
	kv_folder_remove(root);
}

static void a_file_whose_beginning_is_gone_goes_too(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct file_list files;
	struct kv_disk_stats stats;
	make_root(root);
	struct kv_disk *disk = open_disk(root, 1 << 20, 0, NULL);
	assert_int_equal(write_seed(disk, 1, 512), DB_OK);
	list_files(root, &files);
	assert_int_equal(write_seed(disk, 1, 1024), DB_OK);
	kv_disk_close(disk);
	assert_int_equal(unlink(files.path[0]), 0);
	disk = open_disk(root, 1 << 20, 0, NULL);
	kv_disk_stats(disk, &stats);
	assert_int_equal(stats.entries, 0);
	list_files(root, &files);
	assert_int_equal(files.count, 0);
	kv_disk_close(disk);
	kv_folder_remove(root);
}

static void use_is_remembered_over_a_restart(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct file_list files;
	struct stat stat_now;
	int32_t tokens[1024];
	struct kv_digest points[16];
	struct kv_tag tag;
	struct kv_blob *blob = NULL;
	make_root(root);
	leave_two(root, &files);
	struct kv_disk *disk = open_disk(root, 1 << 20, 0, NULL);
	kv_keys_tag(kv_disk_keys(disk), STR("a"), &tag);
	for (int32_t seed = 1; seed <= 2; seed++) {
		prompt_tokens(seed, tokens, 1024);
		kv_points(STR("a"), tokens, 1024, points);
		assert_int_equal(kv_disk_read(disk, 1, &tag, points, 16, &blob), KV_GOOD);
		kv_blob_release(blob);
	}
	assert_int_equal(stat(files.path[0], &stat_now), 0);
	assert_true(stat_now.st_mtime > 1000000);
	kv_disk_close(disk);
	kv_folder_remove(root);
}

/* --- others under the same root --- */

static void the_quota_is_one_for_all_processes_and_the_dead_give_first(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct kv_disk_usage usage[KV_DISK_SLOTS];
	struct kv_tag erased[1];
	make_root(root);
	struct kv_disk *one = open_disk(root, 1 << 20, 0, NULL), *other = open_disk(root, 1 << 20, 0, NULL);
	assert_int_equal(write_seed(one, 1, 1024), DB_OK);
	assert_int_equal(write_seed(other, 2, 1024), DB_OK);
	kv_disk_tick(other, true, erased, 1); /* tells the others what it has */
	assert_int_equal(kv_disk_usage(root, usage), 2);
	uint64_t both = usage[0].bytes + usage[1].bytes;
	kv_disk_close(one);
	one = open_disk(root, both + ROOM - 1, 0, NULL);
	assert_int_equal(write_seed(one, 3, 1024), DB_OK); /* in the place of its own first one */
	assert_int_equal(find_seed(one, 1, 1024), 0);
	kv_disk_close(one);
	one = open_disk(root, usage[1].bytes + ROOM - 1, 0, NULL);
	assert_int_equal(write_seed(one, 4, 1024), DB_E_LIMIT); /* the rest is the other's, which lives */
	kv_disk_close(other);
	assert_int_equal(write_seed(one, 4, 1024), DB_OK); /* and now it does not */
	assert_int_equal(kv_disk_usage(root, usage), 1);
	assert_true(usage[0].in_use && usage[0].files == 1);
	kv_disk_close(one);
	kv_folder_remove(root);
}

static void what_a_dead_process_left_ages_too(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct file_list files;
	struct kv_tag erased[1];
	make_root(root);
	struct kv_disk *one = open_disk(root, 1 << 20, HOUR_S * 1000000, NULL), *other = open_disk(root, 1 << 20, 0, NULL);
	assert_int_equal(write_seed(other, 1, 1024), DB_OK);
	assert_int_equal(write_seed(other, 2, 1024), DB_OK);
	list_files(root, &files);
	assert_int_equal(files.count, 2);
	make_old(files.path[0]);
	kv_disk_tick(one, true, erased, 1);
	assert_int_equal(access(files.path[0], F_OK), 0); /* it lives */
	kv_disk_close(other);
	kv_disk_tick(one, true, erased, 1);
	assert_int_equal(access(files.path[0], F_OK), -1);
	assert_int_equal(access(files.path[1], F_OK), 0);
	kv_disk_close(one);
	kv_folder_remove(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_waits_for_a_slow_disk_is_bounded_and_the_newest_is_kept),
	    cmocka_unit_test(what_is_erased_while_it_waits_or_is_written_does_not_come_back),
	    cmocka_unit_test(what_is_erased_while_it_is_read_does_not_come_back),
	    cmocka_unit_test(a_long_match_that_memory_cannot_hold_still_wins),
	    cmocka_unit_test(only_what_is_long_enough_and_of_known_weights_is_written),
	    cmocka_unit_test(a_file_is_found_for_its_own_tenant_only),
	    cmocka_unit_test(the_oldest_file_of_a_model_that_is_not_loaded_gives_way),
	    cmocka_unit_test(a_model_that_is_not_loaded_is_no_shelter_from_age),
	    cmocka_unit_test(a_model_that_is_not_loaded_is_no_shelter_from_erasing),
	    cmocka_unit_test(a_file_whose_beginning_is_gone_goes_too),
	    cmocka_unit_test(use_is_remembered_over_a_restart),
	    cmocka_unit_test(the_quota_is_one_for_all_processes_and_the_dead_give_first),
	    cmocka_unit_test(what_a_dead_process_left_ages_too),
	};
	return cmocka_run_group_tests(tests, kv_setup, NULL);
}
