#include "provider/platform/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/id.h"
#include "crypto/hash.h"

/* --- hardware --- */

struct chip_bandwidth {
	const char *family;
	double base, pro, max_few_gpu, max_many_gpu, ultra; /* GB/s; "many" is 40 GPU cores and up */
};

static const struct chip_bandwidth chip_bandwidths[] = {
    {"M1", 68, 200, 400, 400, 800}, {"M2", 100, 200, 400, 400, 800}, {"M3", 100, 150, 300, 400, 819},
    {"M4", 120, 273, 410, 546, 0},  {"M5", 153, 307, 460, 614, 0},
};

#define UNKNOWN_BANDWIDTH_GBS 100

void platform_chip_facts(struct str chip_name, int64_t gpu_cores, struct platform_hardware *out)
{
	str_copy(STR("Unknown"), out->chip_family, sizeof out->chip_family);
	str_copy(STR("Unknown"), out->chip_tier, sizeof out->chip_tier);
	out->memory_bandwidth_gbs = UNKNOWN_BANDWIDTH_GBS;
	out->gpu_cores = gpu_cores;
	if (!str_contains_nocase(chip_name, STR("apple")))
		return;
	const struct chip_bandwidth *chip = NULL;
	for (size_t i = 0; i < sizeof chip_bandwidths / sizeof *chip_bandwidths; i++)
		if (str_contains_nocase(chip_name, str_of(chip_bandwidths[i].family)))
			chip = &chip_bandwidths[i];
	if (!chip)
		return;
	str_copy(str_of(chip->family), out->chip_family, sizeof out->chip_family);
	struct str tier = STR("Base");
	double bandwidth = chip->base;
	if (str_contains_nocase(chip_name, STR("ultra"))) {
		tier = STR("Ultra");
		bandwidth = chip->ultra > 0 ? chip->ultra : UNKNOWN_BANDWIDTH_GBS;
	} else if (str_contains_nocase(chip_name, STR("max"))) {
		tier = STR("Max");
		bandwidth = gpu_cores >= 40 ? chip->max_many_gpu : chip->max_few_gpu;
	} else if (str_contains_nocase(chip_name, STR("pro"))) {
		tier = STR("Pro");
		bandwidth = chip->pro;
	}
	str_copy(tier, out->chip_tier, sizeof out->chip_tier);
	out->memory_bandwidth_gbs = bandwidth;
}

void platform_hardware(struct platform_hardware *out)
{
	*out = (struct platform_hardware){0};
	platform_os_hardware(out);
}

/* --- hardening --- */

#define SCRUBBED_MARK "DARKBLOOM_ENV_SCRUBBED"

static bool environment_is_dangerous(void)
{
	for (const char *const *name = platform_os_dangerous_env(); *name; name++)
		if (getenv(*name))
			return true;
	return false;
}

/* The loader has acted on these variables before main, so removing them is not enough: start again without them. */
static enum db_err scrub_environment(char **argv, struct error *error)
{
	if (!environment_is_dangerous())
		return DB_OK;
	if (getenv(SCRUBBED_MARK))
		return error_set(error, DB_E_DENIED, "the environment still holds loader variables after a restart without them");
	char path[4096];
	enum db_err err = platform_os_executable(path, sizeof path);
	if (err)
		return error_set(error, err, "the path of this program could not be read, so its environment cannot be cleaned");
	for (const char *const *name = platform_os_dangerous_env(); *name; name++)
		unsetenv(*name);
	setenv(SCRUBBED_MARK, "1", 1);
	execv(path, argv);
	return error_set(error, DB_E_IO, "the program could not be started again with a clean environment");
}

enum db_err platform_harden(char **argv, struct error *error)
{
	enum db_err err = scrub_environment(argv, error);
	if (err)
		return err;
	unsetenv(SCRUBBED_MARK);
	struct rlimit none = {0, 0};
	if (setrlimit(RLIMIT_CORE, &none) != 0)
		return error_set(error, DB_E_DENIED, "core dumps could not be turned off");
	return platform_os_harden(error);
}

enum db_err platform_self_hash(char out[65], struct error *error)
{
	static char cached[65]; /* the executable of this process does not change under it */
	if (!cached[0]) {
		char path[4096];
		enum db_err err = platform_os_executable(path, sizeof path);
		if (err)
			return error_set(error, err, "the path of this program could not be read");
		err = sha256_file(path, cached, error);
		if (err) {
			cached[0] = '\0';
			return err;
		}
	}
	str_copy((struct str){cached, 64}, out, 65);
	return DB_OK;
}

/* --- files --- */

void platform_home_path(const char *relative, char *out, size_t size)
{
	const char *home = getenv("HOME");
	int n = snprintf(out, size, "%s/%s", home && home[0] ? home : ".", relative);
	if (n < 0 || (size_t)n >= size)
		out[0] = '\0';
}

enum db_err platform_make_parents(const char *path, struct error *error)
{
	char folder[4096];
	if (!str_copy(str_of(path), folder, sizeof folder))
		return error_set(error, DB_E_LIMIT, "the path is too long");
	for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(folder, 0700) != 0 && errno != EEXIST)
			return error_set(error, DB_E_IO, "the folder %s could not be made: %s", folder, strerror(errno));
		*slash = '/';
	}
	return DB_OK;
}

static bool write_all(int fd, struct str content)
{
	while (content.len) {
		ssize_t n = write(fd, content.at, content.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		content = str_sub(content, (size_t)n, content.len - (size_t)n);
	}
	return true;
}

enum db_err platform_write_private(const char *path, struct str content, struct error *error)
{
	enum db_err err = platform_make_parents(path, error);
	if (err)
		return err;
	char suffix[17], temporary[4096];
	id_hex(suffix, 8);
	int n = snprintf(temporary, sizeof temporary, "%s.%s.tmp", path, suffix);
	if (n < 0 || (size_t)n >= sizeof temporary)
		return error_set(error, DB_E_LIMIT, "the path is too long");
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set(error, DB_E_IO, "%s could not be written: %s", path, strerror(errno));
	bool ok = write_all(fd, content) && fsync(fd) == 0;
	ok = close(fd) == 0 && ok;
	ok = ok && rename(temporary, path) == 0;
	if (ok)
		return DB_OK;
	int why = errno;
	unlink(temporary);
	return error_set(error, DB_E_IO, "%s could not be written: %s", path, strerror(why));
}

enum db_err platform_read_file(const char *path, size_t max, struct buf *out, struct error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(error, errno == ENOENT ? DB_E_NOT_FOUND : DB_E_IO, "%s could not be read: %s", path, strerror(errno));
	enum db_err err = DB_OK;
	for (size_t room = max + 1; room; room = max + 1 - out->len) { /* one byte more than allowed tells a larger file */
		size_t want = room < 4096 ? room : 4096;
		err = buf_reserve(out, want);
		if (err) {
			error_set(error, err, "%s does not fit into memory", path);
			break;
		}
		ssize_t n = read(fd, out->at + out->len, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = error_set(error, DB_E_IO, "%s could not be read: %s", path, strerror(errno));
		if (n <= 0)
			break;
		out->len += (size_t)n;
	}
	if (!err && out->len > max)
		err = error_set(error, DB_E_LIMIT, "%s is larger than %zu bytes", path, max);
	close(fd);
	return err;
}
