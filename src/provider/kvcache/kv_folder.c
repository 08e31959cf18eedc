#include "provider/kvcache/kv_folder.h"

#include "provider/kvcache/kv_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DEPTH 6

static bool join(char out[KV_PATH_SIZE], const char *folder, const char *name)
{
	int n = snprintf(out, KV_PATH_SIZE, "%s/%s", folder, name);
	return n > 0 && n < KV_PATH_SIZE;
}

enum db_err kv_folder_make(const char *path)
{
	char folder[KV_PATH_SIZE];
	if (!str_copy(str_of(path), folder, sizeof folder))
		return DB_E_LIMIT;
	for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(folder, 0700) != 0 && errno != EEXIST)
			return DB_E_IO;
		*slash = '/';
	}
	return mkdir(folder, 0700) == 0 || errno == EEXIST ? DB_OK : DB_E_IO;
}

enum db_err kv_folder_sync(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return DB_E_IO;
	bool ok = fsync(fd) == 0;
	close(fd);
	return ok ? DB_OK : DB_E_IO;
}

/* --- slots --- */

int kv_slot_try(const char *root, unsigned slot, char path[KV_PATH_SIZE])
{
	char name[32], lock[KV_PATH_SIZE];
	snprintf(name, sizeof name, "slot-%u", slot);
	if (!join(path, root, name) || !join(lock, path, "lock") || kv_folder_make(path))
		return -1;
	int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

enum db_err kv_slot_take(const char *root, char path[KV_PATH_SIZE], unsigned *slot, int *lock_fd, struct error *error)
{
	if (kv_folder_make(root))
		return error_set(error, DB_E_IO, "the cache folder %s could not be made: %s", root, strerror(errno));
	for (unsigned i = 0; i < KV_SLOTS; i++) {
		*lock_fd = kv_slot_try(root, i, path);
		*slot = i;
		if (*lock_fd >= 0)
			return DB_OK;
	}
	return error_set(error, DB_E_LIMIT, "no free slot in the cache folder %s: %d processes use it", root, KV_SLOTS);
}

/* --- walking --- */

static void walk(const char *path, int depth, void (*file)(const struct kv_found *found, void *user),
                 void (*left)(const char *path), void *user)
{
	DIR *folder = depth < MAX_DEPTH ? opendir(path) : NULL;
	if (!folder)
		return;
	for (struct dirent *each; (each = readdir(folder));) {
		char child[KV_PATH_SIZE];
		struct stat stat;
		if (strcmp(each->d_name, ".") == 0 || strcmp(each->d_name, "..") == 0 || !join(child, path, each->d_name) ||
		    lstat(child, &stat) != 0)
			continue;
		if (S_ISDIR(stat.st_mode)) {
			walk(child, depth + 1, file, left, user);
		} else {
			struct kv_found found = {.path = child,
			                         .name = each->d_name,
			                         .bytes = stat.st_size > 0 ? (uint64_t)stat.st_size : 0,
			                         .used_us = (int64_t)stat.st_mtime * 1000000,
			                         .temporary = strncmp(each->d_name, ".tmp-", 5) == 0};
			file(&found, user);
		}
	}
	closedir(folder);
	if (left)
		left(path);
}

struct chosen {
	void (*fn)(const struct kv_found *found, void *user);
	void *user;
};

static void choose(const struct kv_found *found, void *user)
{
	const struct chosen *chosen = user;
	if (found->temporary || str_ends(str_of(found->name), STR(KV_FILE_SUFFIX)))
		chosen->fn(found, chosen->user);
}

void kv_folder_walk(const char *path, void (*fn)(const struct kv_found *found, void *user), void *user)
{
	struct chosen chosen = {fn, user};
	walk(path, 0, choose, NULL, &chosen);
}

static void remove_file(const struct kv_found *found, void *user)
{
	(void)user;
	unlink(found->path);
}

static void remove_folder(const char *path)
{
	rmdir(path);
}

void kv_folder_remove(const char *path)
{
	walk(path, 0, remove_file, remove_folder, NULL);
}

/* --- the ledger --- */

uint64_t kv_ledger_update(const char *root, unsigned slot, uint64_t bytes)
{
	char path[KV_PATH_SIZE];
	uint8_t all[KV_SLOTS * 8] = {0};
	uint64_t others = 0;
	if (slot >= KV_SLOTS || !join(path, root, "ledger"))
		return 0;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return 0;
	if (flock(fd, LOCK_EX) == 0 && pread(fd, all, sizeof all, 0) >= 0) {
		for (size_t i = 0; i < 8; i++)
			all[slot * 8 + i] = (uint8_t)(bytes >> (8 * i));
		if (pwrite(fd, all, sizeof all, 0) == (ssize_t)sizeof all)
			for (unsigned i = 0; i < KV_SLOTS; i++)
				for (unsigned j = 0; i != slot && j < 8; j++)
					others += (uint64_t)all[i * 8 + j] << (8 * j);
	}
	close(fd);
	return others;
}
