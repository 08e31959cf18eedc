#include "coordinator/gateway/record_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/gateway/record_log.h"

#define PREFIX "routes-"
#define SUFFIX ".jsonl"
#define NUMBER 8 /* digits, at least */

static bool path_of(const char *dir, uint64_t number, char *out, size_t size)
{
	int len = snprintf(out, size, "%s/" PREFIX "%0*" PRIu64 SUFFIX, dir, NUMBER, number);
	return len > 0 && (size_t)len < size;
}

static bool number_of(const char *name, uint64_t *number)
{
	struct str text = str_of(name);
	if (!str_starts(text, STR(PREFIX)) || !str_ends(text, STR(SUFFIX)) || text.len < sizeof PREFIX SUFFIX - 1 + NUMBER)
		return false;
	return str_to_u64(str_sub(text, sizeof PREFIX - 1, text.len - (sizeof PREFIX SUFFIX - 1)), number);
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

size_t record_files_list(const char *dir, uint64_t *numbers, size_t max)
{
	DIR *at = opendir(dir);
	size_t count = 0;
	uint64_t number;
	if (!at)
		return 0;
	for (struct dirent *entry; (entry = readdir(at));) {
		if (!number_of(entry->d_name, &number))
			continue;
		if (count < max) {
			numbers[count++] = number;
			qsort(numbers, count, sizeof *numbers, by_number);
		} else if (max > 0 && number > numbers[0]) {
			numbers[0] = number;
			qsort(numbers, count, sizeof *numbers, by_number);
		}
	}
	closedir(at);
	return count;
}

static bool ends_torn(int fd, uint64_t bytes)
{
	char last = '\n';
	return bytes > 0 && (pread(fd, &last, 1, (off_t)bytes - 1) != 1 || last != '\n');
}

static enum db_err open_file(struct record_files *files, uint64_t number)
{
	char path[4096];
	struct stat st;
	if (!path_of(files->dir, number, path, sizeof path))
		return DB_E_LIMIT;
	int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &st) != 0) {
		if (fd >= 0)
			close(fd);
		return DB_E_IO;
	}
	if (files->fd >= 0)
		close(files->fd);
	files->fd = fd;
	files->number = number;
	files->bytes = (uint64_t)st.st_size;
	files->torn = ends_torn(fd, files->bytes);
	return DB_OK;
}

static void delete_oldest(const struct record_files *files)
{
	uint64_t numbers[RECORD_FILES_LISTED];
	char path[4096];
	size_t count = record_files_list(files->dir, numbers, RECORD_FILES_LISTED);
	for (size_t i = 0; i + files->keep < count; i++)
		if (path_of(files->dir, numbers[i], path, sizeof path))
			(void)unlink(path);
}

enum db_err record_files_open(struct record_files *files, const char *dir, uint64_t max_bytes, struct error *error)
{
	uint64_t newest;
	*files = (struct record_files){.fd = -1, .file_bytes = max_bytes / RECORD_LOG_SEGMENTS, .keep = RECORD_LOG_SEGMENTS};
	if (!str_copy(str_of(dir), files->dir, sizeof files->dir))
		return error_set(error, DB_E_LIMIT, "The path of the data folder is too long for the records of requests.");
	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return error_set(error, DB_E_IO, "Cannot make %s for the records of requests: %s.", dir, strerror(errno));
	if (record_files_list(dir, &newest, 1) == 0)
		newest = 1;
	if (open_file(files, newest) != DB_OK)
		return error_set(error, DB_E_IO, "Cannot open the records of requests in %s: %s.", dir, strerror(errno));
	delete_oldest(files);
	return DB_OK;
}

void record_files_close(struct record_files *files)
{
	if (files->fd >= 0)
		close(files->fd);
	files->fd = -1;
}

static enum db_err write_whole(struct record_files *files, struct str bytes)
{
	while (bytes.len > 0) {
		ssize_t n = write(files->fd, bytes.at, bytes.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return DB_E_IO;
		files->bytes += (uint64_t)n;
		files->torn = bytes.at[n - 1] != '\n';
		bytes = str_sub(bytes, (size_t)n, bytes.len);
	}
	return DB_OK;
}

enum db_err record_files_append(struct record_files *files, struct str lines)
{
	if (files->bytes > 0 && files->bytes + lines.len > files->file_bytes) {
		if (open_file(files, files->number + 1) != DB_OK)
			return DB_E_IO;
		delete_oldest(files);
	}
	if (files->torn && write_whole(files, STR("\n")) != DB_OK)
		return DB_E_IO;
	return write_whole(files, lines);
}

enum db_err record_files_read(const char *dir, uint64_t number, struct buf *out)
{
	char path[4096];
	struct stat st;
	ssize_t n = -1;
	buf_init(out, SIZE_MAX / 2);
	int fd = path_of(dir, number, path, sizeof path) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 && buf_reserve(out, (size_t)st.st_size) == DB_OK)
		while (out->len < (size_t)st.st_size && (n = read(fd, out->at + out->len, (size_t)st.st_size - out->len)) > 0)
			out->len += (size_t)n;
	if (fd >= 0)
		close(fd);
	return n >= 0 ? DB_OK : DB_E_IO;
}
