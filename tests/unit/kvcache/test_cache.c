/* Both tiers together: what is found, kept, evicted and forgotten (inference 10, 12). */
#include "kv_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <utime.h>

#include "core/clock.h"
#include "core/encode.h"
#include "provider/kvcache/kv_score.h"

#define RAM (1 << 22)

static void wait_for(bool (*condition)(void *), void *user)
{
	for (int i = 0; i < 60000 && !condition(user); i++)
		usleep(1000);
	assert_true(condition(user));
}

static void a_prompt_is_found_again_up_to_its_last_boundary(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	assert_int_equal(serve_seed(&world, "a", 1, 1000), 0);
	assert_int_equal(serve_seed(&world, "a", 1, 1000), 960);
	assert_int_equal(serve_seed(&world, "a", 1, 961), 960);
	assert_int_equal(serve_seed(&world, "a", 1, 960), 896); /* at least one token has to be computed */
	assert_int_equal(serve_seed(&world, "a", 1, 300), 256); /* a part of a longer one */
	assert_int_equal(serve_seed(&world, "a", 1, 64), 0);
	assert_int_equal(serve_seed(&world, "a", 2, 1000), 0);
	struct kv_stats stats = stats_of(&world);
	assert_int_equal(stats.hits_ram, 4);
	assert_int_equal(stats.hits_ssd, 0);
	world_end(&world);
}

static void a_state_that_cannot_be_cut_is_found_at_its_own_length_only(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM, .whole_only = true});
	assert_int_equal(serve_seed(&world, "a", 1, 1000), 0);
	assert_int_equal(serve_seed(&world, "a", 1, 300), 0); /* and keeps one of 256 */
	assert_int_equal(serve_seed(&world, "a", 1, 1000), 960);
	assert_int_equal(serve_seed(&world, "a", 1, 500), 256);
	world_end(&world);
}

/* Whatever another tenant has asked, a tenant's prompt is computed from its first token: there is nothing to be timed. */
static void one_tenants_prompts_are_nothing_to_another(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	for (int restart = 0; restart < 2; restart++) {
		world_open(&world, &(struct world_options){.ram_bytes = RAM});
		if (restart == 0)
			assert_int_equal(serve_seed(&world, "a", 1, 1000), 0);
		else
			assert_int_equal(serve_seed(&world, "a", 1, 1000), 960);
		struct kv_taken taken;
		int32_t tokens[1000];
		const char *name = restart ? "c" : "b";
		prompt_tokens(1, tokens, 1000);
		assert_int_equal(serve(&world, name, tokens, 1000, &taken), 0);
		assert_null(taken.state);
		assert_int_equal(serve_seed(&world, name, 1, 1000), 960);
		kv_cache_settle(world.cache);
		world_close(&world);
	}
	kv_folder_remove(world.root);
}

static void what_was_kept_survives_a_restart(void **state)
{
	(void)state;
	struct world world;
	struct kv_taken taken;
	int32_t tokens[1500];
	prompt_tokens(1, tokens, 1500);
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	serve(&world, "a", tokens, 1000, NULL);
	kv_cache_settle(world.cache);
	serve(&world, "a", tokens, 1500, NULL); /* the same conversation, later */
	world_close(&world);                    /* writes what waits */
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	assert_int_equal(stats_of(&world).disk.entries, 2);
	assert_int_equal(serve(&world, "a", tokens, 1500, &taken), 1472);
	assert_true(taken.from_disk);
	assert_int_equal(serve(&world, "a", tokens, 1500, &taken), 1472);
	assert_int_equal(serve(&world, "a", tokens, 700, NULL), 640);
	struct kv_stats stats = stats_of(&world);
	assert_int_equal(stats.hits_ssd, 1);
	assert_int_equal(stats.disk.read_errors, 0);
	world_end(&world);
}

static void a_longer_conversation_writes_only_what_is_new(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	for (size_t tokens = 300; tokens <= 3900; tokens += 300) {
		serve_seed(&world, "a", 1, tokens);
		kv_cache_settle(world.cache);
	}
	struct kv_stats stats = stats_of(&world);
	uint64_t content = 3840 * 8;
	assert_int_equal(stats.disk.bytes_written, stats.disk.bytes);
	assert_true(stats.disk.bytes < content + 13 * 3000);
	world_close(&world);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	assert_int_equal(serve_seed(&world, "a", 1, 3900), 3840);
	world_end(&world);
}

static void other_weights_or_a_new_library_start_cold_and_remove_the_old_files(void **state)
{
	(void)state;
	struct world world;
	struct file_list files;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	serve_seed(&world, "a", 1, 1000);
	world_close(&world);
	world_open(&world, &(struct world_options){.ram_bytes = RAM, .weights = "weights-2"});
	list_files(world.root, &files);
	assert_int_equal(files.count, 0);
	assert_int_equal(serve_seed(&world, "a", 1, 1000), 0);
	world_end(&world);
}

static void flip(const char *path)
{
	uint8_t byte;
	int fd = open(path, O_RDWR);
	off_t size = lseek(fd, 0, SEEK_END);
	assert_int_equal(pread(fd, &byte, 1, size - 30), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, size - 30), 1);
	close(fd);
}

static void a_damaged_file_is_a_miss_and_goes_with_all_that_build_on_it(void **state)
{
	(void)state;
	struct world world;
	struct file_list files;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	for (size_t tokens = 500; tokens <= 1500; tokens += 500) {
		serve_seed(&world, "a", 1, tokens);
		kv_cache_settle(world.cache);
		if (tokens == 500) {
			list_files(world.root, &files);
			assert_int_equal(files.count, 1);
		}
	}
	world_close(&world);
	flip(files.path[0]); /* the one that both others build on; its index part is whole */
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	assert_int_equal(stats_of(&world).disk.entries, 3);
	assert_int_equal(serve_seed(&world, "a", 1, 1500), 0);
	kv_cache_settle(world.cache);
	struct kv_stats stats = stats_of(&world);
	assert_int_equal(stats.disk.read_errors, 1);
	assert_int_equal(stats.disk.entries, 1); /* written anew, whole */
	assert_int_equal(serve_seed(&world, "a", 1, 1500), 1472);
	world_end(&world);
}

static void a_file_in_another_tenants_folder_stays_and_is_no_use(void **state)
{
	(void)state;
	struct world world;
	struct file_list files;
	char moved[KV_PATH_SIZE + 80];
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	serve_seed(&world, "a", 1, 1000);
	world_close(&world);
	list_files(world.root, &files);
	assert_int_equal(files.count, 1);
	char *tag = strrchr(files.path[0], '/') - 64;
	snprintf(moved, sizeof moved, "%.*s%s", (int)(tag - files.path[0]), files.path[0],
	         "0123456789012345678901234567890123456789012345678901234567890123");
	mkdir(moved, 0700);
	snprintf(moved + strlen(moved), sizeof moved - strlen(moved), "%s", strrchr(files.path[0], '/'));
	assert_int_equal(rename(files.path[0], moved), 0);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	assert_int_equal(stats_of(&world).disk.entries, 0);
	assert_int_equal(stats_of(&world).disk.scope_mismatches, 1);
	assert_int_equal(access(moved, F_OK), 0);
	assert_int_equal(serve_seed(&world, "a", 1, 1000), 0);
	world_end(&world);
}

/* The fault of the reference: every prompt crosses a short boundary that is always hot in memory and hides the long one on
 * disk.
 */
static void a_short_match_in_memory_does_not_hide_a_long_one_on_disk(void **state)
{
	(void)state;
	struct world world;
	int32_t tokens[4000];
	uint64_t asked = 0, saved = 0;
	make_root(world.root);
	/* Memory for two prompts, disk for all. */
	world_open(&world, &(struct world_options){.ram_bytes = 2 * 4000 * 8 + 20000, .whole_only = true});
	for (int round = 0; round < 5; round++)
		for (int32_t body = 0; body < 8; body++) {
			prompt_tokens(100, tokens, 64);
			prompt_tokens(body, tokens + 64, 3936);
			size_t found = serve(&world, "a", tokens, 4000, NULL);
			if (round > 0) {
				asked += 4000;
				saved += found;
			}
			serve(&world, "a", tokens, 100, NULL); /* the shared head, again and again */
			kv_cache_settle(world.cache);
		}
	struct kv_stats stats = stats_of(&world);
	assert_true(stats.hits_ssd >= 28);
	assert_true(saved * 10 > asked * 8);
	world_end(&world);
}

static void reading_is_chosen_only_where_it_is_quicker_than_computing(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	serve_seed(&world, "a", 1, 1000);
	world_close(&world);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	for (int i = 0; i < 100; i++) {
		kv_model_prefilled(world.model, 1000000, 1); /* computing costs nothing ... */
		kv_model_uploaded(world.model, 1, 1000000);  /* ... and loading a state very much */
	}
	assert_int_equal(serve_seed(&world, "a", 1, 1000), 0);
	world_end(&world);
}

static void memory_is_bounded_and_the_least_worth_goes_first(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = 4 * (960 * 8 + 2200), .disk_bytes = 1});
	for (int32_t seed = 1; seed <= 3; seed++)
		serve_seed(&world, "a", seed, 1000);
	assert_int_equal(serve_seed(&world, "a", 1, 1000), 960); /* used twice: worth more */
	assert_int_equal(serve_seed(&world, "a", 2, 1000), 960);
	for (int32_t seed = 10; seed < 40; seed++) {
		serve_seed(&world, "a", seed, 1000);
		assert_true(stats_of(&world).ram.bytes <= 4 * (960 * 8 + 2200));
	}
	assert_int_equal(serve_seed(&world, "a", 1, 1000), 960);
	assert_int_equal(serve_seed(&world, "a", 3, 1000), 0);
	assert_true(stats_of(&world).ram.evicted >= 28);
	world_end(&world);
}

static void a_short_state_does_not_stay_when_a_longer_one_accounts_for_it(void **state)
{
	(void)state;
	struct kv_ram_use use;
	struct kv_digest points[20];
	int32_t tokens[20 * KV_GRID];
	prompt_tokens(1, tokens, 20 * KV_GRID);
	kv_points(STR("a"), tokens, 20 * KV_GRID, points);
	for (int cuttable = 0; cuttable < 2; cuttable++) {
		struct kv_ram *ram = kv_ram_new(1 << 20, 3);
		for (size_t count = 4; count <= 12; count += 4) {
			struct kv_blob *blob = kv_blob_new(100);
			memset(blob->bytes, 0, 100);
			struct kv_snapshot snapshot = {.model = 1,
			                               .cuttable = cuttable,
			                               .points = points,
			                               .point_count = count,
			                               .parent_points = count - 4,
			                               .blob = blob};
			size_t found, held;
			if (count > 4) /* the hit that led to the longer one */
				kv_blob_release(kv_ram_take(ram, 1, points, count, (int64_t)count, &found, &held));
			assert_int_equal(kv_ram_put(ram, &snapshot, (int64_t)count), DB_OK);
			assert_int_equal(kv_ram_put(ram, &snapshot, (int64_t)count), DB_E_EXISTS);
			kv_blob_release(blob);
		}
		kv_ram_use(ram, &use);
		assert_int_equal(use.entries, cuttable ? 1 : 3);
		/* Room for one more: a parent whose every use led to its child goes, not the child. */
		struct kv_digest other[1] = {{{99}}};
		struct kv_blob *blob = kv_blob_new(100);
		memset(blob->bytes, 0, 100);
		struct kv_snapshot snapshot = {.model = 1, .cuttable = cuttable, .points = other, .point_count = 1, .blob = blob};
		assert_int_equal(kv_ram_put(ram, &snapshot, 100), DB_OK);
		kv_blob_release(blob);
		assert_int_equal(kv_ram_find(ram, 1, points, 20), 12);
		if (!cuttable)
			assert_int_not_equal(kv_ram_find(ram, 1, points, 4) + kv_ram_find(ram, 1, points + 7, 1), 4 + 1);
		kv_ram_free(ram);
	}
}

static void worth_is_use_length_size_and_age(void **state)
{
	(void)state;
	struct kv_digest low = {{1}}, high = {{2}};
	int64_t day = INT64_C(86400) * 1000000;
	struct kv_worth base = {.uses = 2, .tokens = 1000, .bytes = 500, .last_hit_us = 0, .digest = &low}, other = base;
	double score = kv_score(&base, day);
	assert_true(score > 1.99 && score < 2.01); /* (1+1) * 1000 / 500 * 1/2 */
	other.uses = 3;
	assert_true(kv_goes_first(&base, &other, day));
	other = base;
	other.bytes = 400;
	assert_true(kv_goes_first(&base, &other, day));
	other = base;
	other.last_hit_us = day / 2;
	assert_true(kv_goes_first(&base, &other, day));
	other = base;
	other.digest = &high;
	assert_true(kv_goes_first(&base, &other, day));
	assert_false(kv_goes_first(&other, &base, day));
}

/* --- disk: quota, age, erasing --- */

static void the_quota_follows_what_is_free(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct kv_disk_stats stats;
	struct kv_tag erased[1];
	uint64_t free_bytes = 1 << 20;
	make_root(root);
	struct kv_disk *disk = open_disk(root, 0, 0, &free_bytes);
	for (int32_t seed = 0; seed < 10; seed++)
		assert_int_equal(write_seed(disk, seed, 1024), DB_OK);
	kv_disk_stats(disk, &stats);
	assert_int_equal(stats.entries, 10);
	assert_int_equal(stats.evictions, 0);
	free_bytes = 40000; /* the disk fills up: half of what is left and ours */
	kv_disk_tick(disk, true, erased, 1);
	kv_disk_stats(disk, &stats);
	assert_true(stats.bytes <= stats.quota_bytes);
	assert_true(stats.evictions > 0 && stats.entries > 0);
	free_bytes = 0;
	for (int i = 0; i < 20; i++)
		kv_disk_tick(disk, true, erased, 1);
	assert_int_equal(write_seed(disk, 77, 1024), DB_E_LIMIT);
	free_bytes = UINT64_MAX / 4;
	kv_disk_tick(disk, true, erased, 1);
	kv_disk_stats(disk, &stats);
	assert_int_equal(stats.quota_bytes, KV_DISK_DEFAULT_BYTES);
	kv_disk_close(disk);
	kv_folder_remove(root);
}

static void eviction_spares_what_was_used_and_what_others_build_on(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct kv_disk_stats stats;
	make_root(root);
	struct kv_disk *disk = open_disk(root, 80000, 0, NULL);
	assert_int_equal(write_seed(disk, 1, 512), DB_OK);
	assert_int_equal(write_seed(disk, 1, 1024), DB_OK); /* builds on it */
	assert_int_equal(write_seed(disk, 2, 1024), DB_OK);
	for (int i = 0; i < 3; i++) {
		struct kv_blob *blob = NULL;
		int32_t tokens[1024];
		struct kv_digest points[16];
		struct kv_tag tag;
		prompt_tokens(1, tokens, 1024);
		kv_keys_tag(kv_disk_keys(disk), STR("a"), &tag);
		kv_points(STR("a"), tokens, 1024, points);
		assert_int_equal(kv_disk_read(disk, 1, &tag, points, 16, &blob), KV_GOOD);
		assert_true(state_is(blob, tokens, 1024));
		kv_blob_release(blob);
	}
	for (int32_t seed = 10; seed < 30; seed++)
		assert_int_equal(write_seed(disk, seed, 1024), DB_OK);
	kv_disk_stats(disk, &stats);
	assert_true(stats.bytes <= 80000 && stats.evictions >= 10);
	assert_int_equal(find_seed(disk, 1, 1024), 1024);
	assert_int_equal(find_seed(disk, 2, 1024), 0);
	kv_disk_close(disk);
	kv_folder_remove(root);
}

static void what_is_too_old_expires_at_start_and_later(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct kv_disk_stats stats;
	struct kv_tag erased[1];
	struct file_list files;
	make_root(root);
	struct kv_disk *disk = open_disk(root, 1 << 20, INT64_C(3600) * 1000000, NULL);
	write_seed(disk, 1, 1024);
	write_seed(disk, 2, 1024);
	kv_disk_close(disk);
	list_files(root, &files);
	assert_int_equal(files.count, 2);
	struct utimbuf old = {.actime = 1, .modtime = 1};
	assert_int_equal(utime(files.path[0], &old), 0);
	disk = open_disk(root, 1 << 20, INT64_C(3600) * 1000000, NULL);
	kv_disk_stats(disk, &stats);
	assert_int_equal(stats.entries, 1);
	assert_int_equal(stats.expirations, 1);
	kv_disk_close(disk);
	disk = open_disk(root, 1 << 20, 1, NULL); /* a microsecond */
	write_seed(disk, 3, 1024);
	usleep(1000);
	kv_disk_tick(disk, true, erased, 1);
	kv_disk_stats(disk, &stats);
	assert_int_equal(stats.entries, 0);
	kv_disk_close(disk);
	kv_folder_remove(root);
}

static void a_tenant_is_erased_from_memory_and_disk(void **state)
{
	(void)state;
	struct world world;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	serve_seed(&world, "a", 1, 1000);
	serve_seed(&world, "b", 1, 1000);
	kv_cache_settle(world.cache);
	kv_cache_erase(world.cache, STR("a"));
	assert_int_equal(stats_of(&world).disk.entries, 1);
	assert_int_equal(stats_of(&world).ram.entries, 1);
	assert_int_equal(serve_seed(&world, "b", 1, 1000), 960);
	assert_int_equal(serve_seed(&world, "a", 1, 1000), 0);
	world_end(&world);
}

static bool is_empty(void *user)
{
	struct kv_stats stats = stats_of(user);
	return stats.ram.entries == 0 && stats.disk.entries == 0;
}

static bool has_one(void *user)
{
	struct kv_stats stats = stats_of(user);
	return stats.ram.entries == 1 && stats.disk.entries == 1;
}

static void a_command_erases_what_a_running_process_holds(void **state)
{
	(void)state;
	struct world world;
	struct kv_tag tag;
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM, .tick_ms = 5});
	serve_seed(&world, "a", 1, 1000);
	serve_seed(&world, "b", 1, 1000);
	kv_cache_settle(world.cache);
	struct kv_keys *keys = kv_keys_new(device_secret);
	kv_keys_tag(keys, STR("a"), &tag);
	kv_disk_erase_root(world.root, &tag);
	wait_for(has_one, &world);
	assert_int_equal(serve_seed(&world, "a", 1, 1000), 0);
	tag = KV_EVERYBODY;
	kv_cache_settle(world.cache);
	kv_disk_erase_root(world.root, &tag);
	wait_for(is_empty, &world);
	kv_keys_free(keys);
	serve_seed(&world, "a", 1, 1000);
	world_close(&world);
	kv_disk_erase_root(world.root, &tag); /* nobody runs: at once */
	struct file_list files;
	list_files(world.root, &files);
	assert_int_equal(files.count, 0);
	kv_folder_remove(world.root);
}

/* --- several processes --- */

static void two_processes_share_a_root_and_spare_each_others_files(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	int go[2], done[2];
	char byte = 0;
	make_root(root);
	assert_int_equal(pipe(go) | pipe(done), 0);
	pid_t child = fork();
	if (child == 0) {
		struct kv_disk *disk = open_disk(root, 1 << 20, 0, NULL);
		bool good = write_seed(disk, 1, 1024) == DB_OK && write(done[1], &byte, 1) == 1 && read(go[0], &byte, 1) == 1 &&
		            find_seed(disk, 1, 1024) == 1024;
		kv_disk_close(disk);
		_exit(good ? 0 : 1);
	}
	assert_int_equal(read(done[0], &byte, 1), 1);
	struct kv_disk *disk = open_disk(root, 1 << 20, 0, NULL);
	assert_int_equal(find_seed(disk, 1, 1024), 0);
	assert_int_equal(write_seed(disk, 2, 1024), DB_OK);
	struct kv_disk_usage usage[KV_DISK_SLOTS];
	assert_int_equal(kv_disk_usage(root, usage), 2);
	assert_true(usage[0].in_use && usage[1].in_use);
	/* The quota is one for both: with the other's bytes there is no room, and the other's files are not ours to take. */
	kv_disk_close(disk);
	disk = open_disk(root, usage[0].bytes + 5000, 0, NULL);
	write_seed(disk, 3, 1024);
	assert_int_equal(write(go[1], &byte, 1), 1);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	kv_disk_close(disk);
	/* The first that comes afterwards has the first one's files. */
	disk = open_disk(root, 1 << 20, 0, NULL);
	assert_int_equal(find_seed(disk, 1, 1024), 1024);
	kv_disk_close(disk);
	kv_folder_remove(root);
	for (int i = 0; i < 2; i++) {
		close(go[i]);
		close(done[i]);
	}
}

static void a_killed_process_leaves_whole_files_only(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct file_list files;
	struct kv_disk_stats stats;
	struct kv_disk *disk;
	make_root(root);
	for (int point = 0; point < 200; point++) {
		pid_t child = fork();
		if (child == 0) {
			disk = open_disk(root, 1 << 20, 0, NULL);
			for (int32_t seed = 0;; seed++)
				write_seed(disk, point * 1000 + seed % 16, 256 + (size_t)(seed % 3) * 64);
		}
		usleep((useconds_t)(100 + (point * 37) % 3000));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, NULL, 0), child);
		disk = open_disk(root, 1 << 20, 0, NULL); /* whatever it was doing, each time */
		kv_disk_stats(disk, &stats);
		list_files(root, &files);
		assert_int_equal(files.temporary, 0);
		assert_int_equal(files.count, stats.entries);
		assert_int_equal(stats.read_errors, 0);
		kv_disk_close(disk);
	}
	disk = open_disk(root, 1 << 20, 0, NULL);
	/* every one of them can be read */
	size_t readable = 0;
	for (int32_t seed = 0; seed < 200 * 1000; seed += (seed % 1000 == 15) ? 985 : 1) {
		size_t found = find_seed(disk, seed, 384);
		int32_t tokens[384];
		struct kv_digest points[6];
		struct kv_tag tag;
		struct kv_blob *blob = NULL;
		if (!found)
			continue;
		prompt_tokens(seed, tokens, 384);
		kv_points(STR("a"), tokens, found, points);
		kv_keys_tag(kv_disk_keys(disk), STR("a"), &tag);
		assert_int_equal(kv_disk_read(disk, 1, &tag, points, found / KV_GRID, &blob), KV_GOOD);
		assert_true(state_is(blob, tokens, found));
		kv_blob_release(blob);
		readable++;
	}
	assert_true(readable > 0);
	kv_disk_close(disk);
	kv_folder_remove(root);
}

static void no_prompt_can_be_read_on_disk(void **state)
{
	(void)state;
	struct world world;
	struct file_list files;
	int32_t tokens[1000];
	static const char canary[] = "CANARY-in-the-coal-mine-0123456789";
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = RAM});
	for (size_t i = 0; i < 1000; i++)
		tokens[i] = 0x41424344; /* "DCBA" */
	serve(&world, canary, tokens, 1000, NULL);
	world_close(&world);
	list_files(world.root, &files);
	assert_int_equal(files.count, 1);
	for (size_t i = 0; i < files.count; i++) {
		uint8_t *bytes = malloc(1 << 20);
		int fd = open(files.path[i], O_RDONLY);
		ssize_t len = read(fd, bytes, 1 << 20);
		close(fd);
		assert_true(len > 0);
		assert_null(memmem(bytes, (size_t)len, canary, 6));
		assert_null(memmem(bytes, (size_t)len, tokens, 8));
		assert_null(strstr(files.path[i], "CANARY"));
		free(bytes);
	}
	kv_folder_remove(world.root);
}

/* --- threads --- */

struct worker {
	struct world *world;
	int number;
};

static void *work(void *user)
{
	struct worker *worker = user;
	char tenant[8];
	snprintf(tenant, sizeof tenant, "t%d", worker->number % 2);
	for (int i = 0; i < 60; i++) {
		serve_seed(worker->world, tenant, i % 7, 200 + (size_t)(i % 5) * 128);
		if (i % 20 == 19)
			kv_cache_erase(worker->world->cache, str_of(tenant));
	}
	return NULL;
}

static void many_threads_use_it_at_once(void **state)
{
	(void)state;
	struct world world;
	pthread_t threads[4];
	struct worker workers[4];
	make_root(world.root);
	world_open(&world, &(struct world_options){.ram_bytes = 60000, .disk_bytes = 100000, .tick_ms = 2});
	for (int i = 0; i < 4; i++) {
		workers[i] = (struct worker){&world, i};
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	kv_cache_settle(world.cache);
	struct kv_stats stats = stats_of(&world);
	assert_true(stats.disk.bytes <= 100000);
	assert_true(stats.ram.bytes <= 60000);
	world_end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_prompt_is_found_again_up_to_its_last_boundary),
	    cmocka_unit_test(a_state_that_cannot_be_cut_is_found_at_its_own_length_only),
	    cmocka_unit_test(one_tenants_prompts_are_nothing_to_another),
	    cmocka_unit_test(what_was_kept_survives_a_restart),
	    cmocka_unit_test(a_longer_conversation_writes_only_what_is_new),
	    cmocka_unit_test(other_weights_or_a_new_library_start_cold_and_remove_the_old_files),
	    cmocka_unit_test(a_damaged_file_is_a_miss_and_goes_with_all_that_build_on_it),
	    cmocka_unit_test(a_file_in_another_tenants_folder_stays_and_is_no_use),
	    cmocka_unit_test(a_short_match_in_memory_does_not_hide_a_long_one_on_disk),
	    cmocka_unit_test(reading_is_chosen_only_where_it_is_quicker_than_computing),
	    cmocka_unit_test(memory_is_bounded_and_the_least_worth_goes_first),
	    cmocka_unit_test(a_short_state_does_not_stay_when_a_longer_one_accounts_for_it),
	    cmocka_unit_test(worth_is_use_length_size_and_age),
	    cmocka_unit_test(the_quota_follows_what_is_free),
	    cmocka_unit_test(eviction_spares_what_was_used_and_what_others_build_on),
	    cmocka_unit_test(what_is_too_old_expires_at_start_and_later),
	    cmocka_unit_test(a_tenant_is_erased_from_memory_and_disk),
	    cmocka_unit_test(a_command_erases_what_a_running_process_holds),
	    cmocka_unit_test(two_processes_share_a_root_and_spare_each_others_files),
	    cmocka_unit_test(a_killed_process_leaves_whole_files_only),
	    cmocka_unit_test(no_prompt_can_be_read_on_disk),
	    cmocka_unit_test(many_threads_use_it_at_once),
	};
	return cmocka_run_group_tests(tests, kv_setup, NULL);
}
