#include "coordinator/memory_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"

#define STEP_RECORDS 256 /* of devices, models or lengths: some tens of microseconds */
#define STEP_MS      20
#define ALL          SIZE_MAX

static int64_t wall_s(void)
{
	return clock_wall_us() / 1000000;
}

/* --- reading --- */

/* Up to MEMORY_MAX_BYTES of it; NULL without a file. The caller frees it. */
static char *read_file(const char *path, size_t *len)
{
	struct stat about;
	char *bytes = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return NULL;
	*len = 0;
	if (fstat(fd, &about) == 0 && about.st_size > 0 && about.st_size <= (off_t)MEMORY_MAX_BYTES)
		bytes = malloc((size_t)about.st_size);
	while (bytes && *len < (size_t)about.st_size) {
		ssize_t n = read(fd, bytes + *len, (size_t)about.st_size - *len);
		if (n <= 0)
			break;
		*len += (size_t)n;
	}
	close(fd);
	return bytes;
}

static void restore(struct memory_keeper *keeper)
{
	struct error error;
	size_t len = 0;
	uint64_t began_us = clock_mono_us();
	char *bytes = read_file(keeper->path, &len);
	if (!bytes) {
		if (errno != ENOENT)
			log_warn("routing.memory", "kept=false why=\"The file cannot be read.\"");
		return;
	}
	if (memory_restore(keeper->fleet, keeper->learn, (struct str){bytes, len}, net_now_us(keeper->loop), wall_s(), &error))
		log_warn("routing.memory", "kept=false why=\"%s\"", error.text);
	else
		log_info("routing.memory", "bytes=%zu us=%llu", len, (unsigned long long)(clock_mono_us() - began_us));
	free(bytes);
}

/* --- writing --- */

static bool write_all(int fd, struct str bytes)
{
	while (bytes.len) {
		ssize_t n = write(fd, bytes.at, bytes.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		bytes.at += n;
		bytes.len -= (size_t)n;
	}
	return true;
}

/* Whole or not at all. */
static bool replace_file(const char *path, struct str bytes)
{
	char part[MEMORY_PATH_SIZE + 8];
	(void)snprintf(part, sizeof part, "%s.part", path);
	int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool ok = fd >= 0 && write_all(fd, bytes) && fsync(fd) == 0;
	if (fd >= 0)
		ok = close(fd) == 0 && ok;
	return ok && rename(part, path) == 0;
}

/* The last one is not overwritten by one that a worker was late with. */
static void write_snapshot(struct memory_keeper *keeper, struct memory_snapshot *snapshot, bool last)
{
	pthread_mutex_lock(&keeper->lock);
	if (!keeper->closed) {
		memory_seal(&snapshot->bytes);
		if (!replace_file(keeper->path, buf_str(&snapshot->bytes)))
			log_warn("routing.memory", "written=false why=\"%s\"", strerror(errno));
	}
	keeper->closed |= last;
	pthread_mutex_unlock(&keeper->lock);
}

static void work(void *arg)
{
	struct memory_keeper *keeper = arg;
	write_snapshot(keeper, &keeper->snapshot, false);
	memory_end(&keeper->snapshot); /* wiping takes its time, too */
}

static void written(void *arg)
{
	struct memory_keeper *keeper = arg;
	keeper->writing = false;
}

static void on_step(struct net_timer *timer);

static void on_due(struct net_timer *timer)
{
	struct memory_keeper *keeper = LIST_OF(timer, struct memory_keeper, timer);
	if (keeper->writing) { /* a slow disk */
		net_timer_start(keeper->loop, timer, keeper->every_ms, 0, on_due);
		return;
	}
	memory_begin(&keeper->snapshot, keeper->fleet, wall_s());
	net_timer_start(keeper->loop, timer, STEP_MS, 0, on_step);
}

static void on_step(struct net_timer *timer)
{
	struct memory_keeper *keeper = LIST_OF(timer, struct memory_keeper, timer);
	bool whole = memory_step(&keeper->snapshot, keeper->fleet, keeper->learn, net_now_us(keeper->loop), STEP_RECORDS);
	if (!whole && !keeper->snapshot.bytes.failed) {
		net_timer_start(keeper->loop, timer, STEP_MS, 0, on_step);
		return;
	}
	net_timer_start(keeper->loop, timer, keeper->every_ms, 0, on_due);
	if (whole) {
		keeper->writing = true;
		net_work(keeper->loop, work, written, keeper);
	} else {
		log_warn("routing.memory", "written=false why=\"There is too much of it.\"");
		memory_end(&keeper->snapshot);
	}
}

void memory_keeper_start(struct memory_keeper *keeper, const struct memory_keeper_options *options)
{
	int n = snprintf(keeper->path, sizeof keeper->path, "%s/" MEMORY_KEEPER_FILE, options->dir);
	if (n < 0 || (size_t)n >= sizeof keeper->path) {
		log_warn("routing.memory", "kept=false why=\"The path of the data folder is too long.\"");
		return;
	}
	keeper->loop = options->loop;
	keeper->fleet = options->fleet;
	keeper->learn = options->learn;
	keeper->every_ms = options->every_ms;
	pthread_mutex_init(&keeper->lock, NULL);
	restore(keeper);
	if (keeper->every_ms)
		net_timer_start(keeper->loop, &keeper->timer, keeper->every_ms, 0, on_due);
}

/* A worker that still writes has its snapshot to itself; the last one is another. */
void memory_keeper_stop(struct memory_keeper *keeper)
{
	if (!keeper->loop)
		return;
	struct memory_snapshot last;
	net_timer_stop(&keeper->timer);
	memory_begin(&last, keeper->fleet, wall_s());
	if (memory_step(&last, keeper->fleet, keeper->learn, net_now_us(keeper->loop), ALL))
		write_snapshot(keeper, &last, true);
	memory_end(&last);
	if (!keeper->writing)
		memory_end(&keeper->snapshot);
}
