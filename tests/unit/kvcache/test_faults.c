/* Every allocation and every call to the disk fails once, the first, the second, and so on: each time the cache goes on, and
 * nothing wrong is ever given out. The calls are wrapped by the linker, so that the code under test knows nothing of it. */
#include "kv_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>

static atomic_long countdown; /* the call that fails; 0 = none */
static atomic_long seen;      /* calls so far */
static atomic_bool counting;
static bool deadly; /* at that call the process dies instead */

static bool fails(void)
{
	if (!counting)
		return false;
	long call = atomic_fetch_add(&seen, 1) + 1;
	if (call == countdown && deadly)
		kill(getpid(), SIGKILL);
	return call == countdown;
}

/* What a test looks for in the order of calls: f and d for the syncing of a file and of a folder, r for a renaming. */
static struct {
	char calls[16];
	size_t count;
	void (*after_rename)(void);
} trail;

static void note(char call)
{
	if (trail.count + 1 < sizeof trail.calls)
		trail.calls[trail.count++] = call;
	trail.calls[trail.count] = '\0';
}

#define WRAP(type, name, parameters, arguments, failure)                                                                       \
	type __real_##name parameters;                                                                                             \
	type __wrap_##name parameters;                                                                                             \
	type __wrap_##name parameters                                                                                              \
	{                                                                                                                          \
		if (fails()) {                                                                                                         \
			errno = EIO;                                                                                                       \
			return failure;                                                                                                    \
		}                                                                                                                      \
		return __real_##name arguments;                                                                                        \
	}

WRAP(void *, malloc, (size_t size), (size), NULL)
WRAP(void *, calloc, (size_t count, size_t size), (count, size), NULL)
WRAP(void *, realloc, (void *at, size_t size), (at, size), NULL)
WRAP(ssize_t, write, (int fd, const void *at, size_t len), (fd, at, len), -1)
WRAP(ssize_t, pread, (int fd, void *at, size_t len, off_t offset), (fd, at, len, offset), -1)
WRAP(ssize_t, pwrite, (int fd, const void *at, size_t len, off_t offset), (fd, at, len, offset), -1)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), -1)
WRAP(int, unlink, (const char *path), (path), -1)
WRAP(off_t, lseek, (int fd, off_t offset, int whence), (fd, offset, whence), -1)
WRAP(DIR *, opendir, (const char *path), (path), NULL)
WRAP(struct dirent *, readdir, (DIR * dir), (dir), NULL)
WRAP(int, statvfs, (const char *path, struct statvfs *out), (path, out), -1)
WRAP(int, flock, (int fd, int operation), (fd, operation), -1)
WRAP(int, lstat, (const char *path, struct stat *out), (path, out), -1)
WRAP(int, rmdir, (const char *path), (path), -1)
WRAP(int, utimensat, (int at, const char *path, const struct timespec times[2], int flags), (at, path, times, flags), -1)

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	struct stat stat;
	if (fails()) {
		errno = EIO;
		return -1;
	}
	note(fstat(fd, &stat) == 0 && S_ISDIR(stat.st_mode) ? 'd' : 'f');
	return __real_fsync(fd);
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
	if (fails()) {
		errno = EIO;
		return -1;
	}
	note('r');
	int renamed = __real_rename(from, to);
	if (trail.after_rename)
		trail.after_rename();
	return renamed;
}

/* A file is closed however it fails. */
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
	int closed = __real_close(fd);
	if (!fails())
		return closed;
	errno = EIO;
	return -1;
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user)
{
	return fails() ? EAGAIN : __real_pthread_create(thread, attributes, run, user);
}

/* open has a variable part */
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, mode_t mode);
int __wrap_open(const char *path, int flags, mode_t mode)
{
	if (fails()) {
		errno = EIO;
		return -1;
	}
	return __real_open(path, flags, mode);
}

static struct kv_disk *try_open(const char *root)
{
	struct error error;
	struct kv_disk_options options = {.root = root, .secret = device_secret, .max_bytes = 1 << 20};
	struct kv_disk *disk = kv_disk_open(&options, &error);
	struct kv_shape shape = shape_of("weights-1");
	struct kv_disk_model_options model = {1, "fake/model", &shape, &fake_codec};
	if (disk && kv_disk_model_open(disk, &model, &error)) {
		kv_disk_close(disk);
		return NULL;
	}
	return disk;
}

static enum db_err store(struct kv_disk *disk, int32_t seed, size_t count)
{
	int32_t tokens[1024];
	struct kv_digest points[16];
	prompt_tokens(seed, tokens, count);
	struct kv_snapshot snapshot = {.model = 1, .cuttable = true, .points = points};
	kv_keys_tag(kv_disk_keys(disk), STR("a"), &snapshot.tag);
	snapshot.point_count = kv_points(STR("a"), tokens, count, points);
	snapshot.blob = state_of(tokens, 0, snapshot.point_count * KV_GRID);
	if (!snapshot.blob)
		return DB_E_NOMEM;
	enum db_err err = kv_disk_write(disk, &snapshot, NULL, NULL);
	kv_blob_release(snapshot.blob);
	return err;
}

/* What is found is right; finding nothing is always allowed. Returns how many tokens were. */
static size_t load(struct kv_disk *disk, int32_t seed, size_t count)
{
	int32_t tokens[1024];
	struct kv_digest points[16];
	struct kv_tag tag;
	struct kv_blob *blob = NULL;
	uint64_t bytes;
	prompt_tokens(seed, tokens, count);
	kv_keys_tag(kv_disk_keys(disk), STR("a"), &tag);
	size_t found = kv_disk_find(disk, 1, &tag, points, kv_points(STR("a"), tokens, count, points), &bytes);
	if (!found || kv_disk_read(disk, 1, &tag, points, found, &blob) != KV_GOOD) {
		assert_null(blob);
		return 0;
	}
	counting = false;
	assert_true(state_is(blob, tokens, found * KV_GRID));
	kv_blob_release(blob);
	counting = true;
	return found * KV_GRID;
}

/* A life on disk: opened, two turns of a conversation, read, erased, opened again. */
static void live(const char *root)
{
	struct kv_disk *disk = try_open(root);
	if (disk) {
		store(disk, 1, 512);
		store(disk, 1, 1024);
		load(disk, 1, 1024);
		load(disk, 1, 300);
		store(disk, 2, 512);
		struct kv_tag erased[2];
		kv_disk_tick(disk, true, erased, 2);
		kv_disk_close(disk);
	}
	disk = try_open(root);
	if (disk) {
		load(disk, 1, 1024);
		load(disk, 2, 512);
		kv_disk_close(disk);
	}
}

static void any_failing_call_of_the_disk_tier_is_survived(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	long calls = 1;
	for (long nth = 0; nth <= calls; nth++) {
		make_root(root);
		countdown = nth; /* 0 counts them */
		seen = 0;
		counting = true;
		live(root);
		counting = false;
		if (nth == 0)
			calls = seen;
		/* Whatever happened, the next start works and what it finds is right. */
		struct kv_disk *disk = try_open(root);
		assert_non_null(disk);
		counting = true; /* load turns it off and on */
		countdown = 0;
		load(disk, 1, 1024);
		load(disk, 2, 512);
		counting = false;
		assert_int_not_equal(store(disk, 3, 512), DB_E_NOMEM);
		kv_disk_close(disk);
		disk = try_open(root);
		struct file_list files;
		list_files(root, &files);
		assert_int_equal(files.temporary, 0);
		kv_disk_close(disk);
		kv_folder_remove(root);
	}
	assert_true(calls > 100);
}

/* --- what a crash finds --- */

/* Else a crash of the machine could leave a name without its content, or content without its name. */
static void a_file_is_on_the_disk_before_it_has_its_name_and_the_name_before_it_counts(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	make_root(root);
	struct kv_disk *disk = try_open(root);
	trail.count = 0;
	assert_int_equal(store(disk, 1, 512), DB_OK);
	assert_string_equal(trail.calls, "frd");
	kv_disk_close(disk);
	kv_folder_remove(root);
}

static void die_in_the_second_store(const char *root, long nth)
{
	struct kv_disk *disk = try_open(root);
	store(disk, 1, 512);
	deadly = true;
	countdown = nth;
	seen = 0;
	counting = true;
	store(disk, 1, 1024);
	_exit(0); /* there were no more calls than that */
}

/* Killed before each of them, the first, the second, and so on. */
static void a_process_killed_between_any_two_calls_of_a_store_leaves_whole_files_only(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	struct kv_disk_stats stats;
	struct file_list files;
	struct error error;
	struct kv_disk_options options = {.root = root, .secret = device_secret, .max_bytes = 1 << 20};
	size_t before = 0, after = 0;
	int status = 1;
	for (long nth = 1; !WIFEXITED(status) || nth == 1; nth++) {
		make_root(root);
		pid_t child = fork();
		if (child == 0)
			die_in_the_second_store(root, nth);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
		struct kv_disk *disk = kv_disk_open(&options, &error);
		assert_non_null(disk);
		list_files(root, &files); /* swept also where its model is never loaded again */
		assert_int_equal(files.temporary, 0);
		kv_disk_close(disk);
		disk = try_open(root);
		kv_disk_stats(disk, &stats);
		list_files(root, &files);
		assert_int_equal(files.temporary, 0);
		assert_int_equal(files.count, stats.entries);
		assert_int_equal(stats.read_errors, 0);
		size_t found = load(disk, 1, 1024);
		assert_true(found == 512 || found == 1024);
		before += found == 512;
		after += found == 1024;
		counting = false;
		kv_disk_close(disk);
		kv_folder_remove(root);
	}
	assert_true(before > 10 && after > 1);
}

static struct kv_disk *written_to;

static void erase_it(void)
{
	struct kv_tag tag;
	kv_keys_tag(kv_disk_keys(written_to), STR("a"), &tag);
	kv_disk_erase(written_to, &tag);
}

static void unload_it(void)
{
	kv_disk_model_close(written_to, 1);
}

/* The file has its name already: its writer looks once more, and takes it away. */
static void what_is_written_for_nobody_goes_again(void **state)
{
	(void)state;
	static void (*const meanwhile[])(void) = {erase_it, unload_it};
	for (size_t i = 0; i < sizeof meanwhile / sizeof *meanwhile; i++) {
		char root[KV_PATH_SIZE];
		struct kv_disk_stats stats;
		struct file_list files;
		make_root(root);
		written_to = try_open(root);
		trail.after_rename = meanwhile[i];
		assert_int_not_equal(store(written_to, 1, 512), DB_OK);
		trail.after_rename = NULL;
		kv_disk_stats(written_to, &stats);
		assert_int_equal(stats.entries, 0);
		list_files(root, &files);
		assert_int_equal(files.count, 0);
		kv_disk_close(written_to);
		kv_folder_remove(root);
	}
}

static void fill_memory(void)
{
	int32_t tokens[1024];
	struct kv_digest points[16];
	struct kv_ram *ram = kv_ram_new(20000, 3);
	for (int32_t seed = 0; ram && seed < 6; seed++) {
		prompt_tokens(seed % 4, tokens, 1024);
		size_t count = 4 + (size_t)seed * 2, found, held;
		kv_points(STR("a"), tokens, count * KV_GRID, points);
		struct kv_blob *blob = state_of(tokens, 0, count * KV_GRID);
		struct kv_snapshot snapshot = {.model = 1, .cuttable = seed % 2, .points = points, .point_count = count, .blob = blob};
		if (blob)
			kv_ram_put(ram, &snapshot, seed);
		kv_blob_release(blob);
		blob = kv_ram_take(ram, 1, points, count, seed, &found, &held);
		if (blob) {
			bool counted = counting;
			counting = false;
			assert_true(state_is(blob, tokens, held) || held > count * KV_GRID);
			counting = counted;
		}
		kv_blob_release(blob);
	}
	kv_ram_free(ram);
}

static void any_failing_allocation_of_the_memory_tier_is_survived(void **state)
{
	(void)state;
	long calls = 1;
	for (long nth = 0; nth <= calls; nth++) {
		countdown = nth;
		seen = 0;
		counting = true;
		fill_memory();
		counting = false;
		if (nth == 0)
			calls = seen;
	}
	assert_true(calls > 10);
}

/* --- both tiers with their threads --- */

static struct kv_cache *try_cache(const char *root, struct kv_model **model)
{
	struct error error;
	struct kv_cache_options options = {
	    .root = root, .secret = device_secret, .ram_bytes = 1 << 20, .disk_bytes = 1 << 20, .max_writes = 8};
	struct kv_cache *cache = kv_cache_open(&options, &error);
	struct kv_model_options described = {.model_id = "fake/model", .shape = shape_of("weights-1"), .codec = &fake_codec};
	*model = cache ? kv_model_open(cache, &described, &error) : NULL;
	if (cache && !*model) {
		kv_cache_close(cache);
		return NULL;
	}
	for (int i = 0; cache && i < 30; i++) /* computing is dear here: reading always pays */
		kv_model_prefilled(*model, 1, 1000000);
	return cache;
}

static void nothing_to_do(void *user)
{
	(void)user;
}

/* As an engine serves a prompt: what it finds is right, what it computes is kept. */
static void serve_whole(struct kv_cache *cache, struct kv_model *model, int32_t seed, size_t count)
{
	int32_t tokens[1024];
	struct kv_prompt prompt;
	struct kv_taken taken;
	prompt_tokens(seed, tokens, count);
	if (kv_prompt_make(model, STR("a"), STR("a"), tokens, count, &prompt))
		return;
	struct kv_fetch *fetch = kv_fetch_begin(model, &prompt, nothing_to_do, NULL);
	kv_cache_settle(cache);
	kv_take(model, &prompt, fetch, &taken);
	if (fetch)
		kv_fetch_end(fetch);
	bool counted = atomic_exchange(&counting, false);
	if (taken.state)
		assert_true(state_is(taken.state, tokens, taken.state_tokens));
	counting = counted;
	struct kv_blob *blob = state_of(tokens, 0, prompt.count * KV_GRID);
	if (blob)
		kv_store(model, &prompt, prompt.count * KV_GRID, taken.tokens, blob, true);
	kv_blob_release(blob);
	kv_blob_release(taken.state);
	kv_cache_settle(cache);
	kv_prompt_free(&prompt);
}

static void live_whole(const char *root)
{
	struct kv_model *model;
	for (int turn = 0; turn < 2; turn++) {
		struct kv_cache *cache = try_cache(root, &model);
		if (!cache)
			continue;
		serve_whole(cache, model, 1, 300);
		serve_whole(cache, model, 1, 600);
		if (turn)
			kv_cache_erase(cache, STR("a"));
		kv_model_close(model);
		kv_cache_close(cache);
	}
}

static void any_failing_call_of_the_whole_cache_is_survived(void **state)
{
	(void)state;
	char root[KV_PATH_SIZE];
	long calls = 1, step = getenv("DARKBLOOM_ALL_FAULTS") ? 1 : 7; /* each round waits for the disk */
	for (long nth = 0; nth <= calls; nth = nth ? nth + step : 1) {
		struct kv_model *model;
		make_root(root);
		countdown = nth;
		seen = 0;
		counting = true;
		live_whole(root);
		counting = false;
		if (nth == 0)
			calls = seen;
		struct kv_cache *cache = try_cache(root, &model);
		assert_non_null(cache);
		serve_whole(cache, model, 1, 600);
		kv_model_close(model);
		kv_cache_close(cache);
		kv_folder_remove(root);
	}
	assert_true(calls > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(any_failing_call_of_the_disk_tier_is_survived),
	    cmocka_unit_test(a_file_is_on_the_disk_before_it_has_its_name_and_the_name_before_it_counts),
	    cmocka_unit_test(a_process_killed_between_any_two_calls_of_a_store_leaves_whole_files_only),
	    cmocka_unit_test(what_is_written_for_nobody_goes_again),
	    cmocka_unit_test(any_failing_allocation_of_the_memory_tier_is_survived),
	    cmocka_unit_test(any_failing_call_of_the_whole_cache_is_survived),
	};
	return cmocka_run_group_tests(tests, kv_setup, NULL);
}
