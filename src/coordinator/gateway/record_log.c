#include "coordinator/gateway/record_log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/gateway/record_files.h"
#include "core/log.h"

#define GATHER_NS 20000000L /* between two writes */

struct record_log {
	struct record_files files; /* the writer's */
	struct buf text;           /* likewise */
	bool troubled;             /* likewise: the last write failed, and was told */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* under the lock */
	struct record *queue; /* RECORD_LOG_QUEUE of them */
	struct record *spare; /* the writer's while it writes */
	size_t queued;
	bool sleeping, closing;
	struct record_log_counts counts;
};

/* How many of the records are in the files now. */
static size_t write_all(struct record_log *log, const struct record *records, size_t count)
{
	size_t written = 0;
	for (size_t i = 0; i < count;) {
		size_t first = i;
		buf_clear(&log->text);
		for (; i < count && log->text.len < RECORD_FILES_WRITE - RECORD_JSON_MAX; i++) {
			struct json_writer w;
			json_writer_init(&w, &log->text);
			record_write(&records[i], &w);
			buf_append_byte(&log->text, '\n');
		}
		if (!log->text.failed && record_files_append(&log->files, buf_str(&log->text)) == DB_OK)
			written += i - first;
	}
	if (written < count && !log->troubled)
		log_warn("records.not_written", "count=%zu error=%s", count - written, strerror(errno));
	log->troubled = written < count;
	return written;
}

static void *run(void *arg)
{
	struct record_log *log = arg;
	pthread_mutex_lock(&log->lock);
	while (log->queued > 0 || !log->closing) {
		if (log->queued == 0) {
			log->sleeping = true;
			pthread_cond_wait(&log->wake, &log->lock);
			log->sleeping = false;
			continue;
		}
		struct record *taken = log->queue;
		size_t count = log->queued;
		bool closing = log->closing;
		log->queue = log->spare;
		log->spare = taken;
		log->queued = 0;
		pthread_mutex_unlock(&log->lock);
		size_t written = write_all(log, taken, count);
		if (!closing)
			(void)nanosleep(&(struct timespec){.tv_nsec = GATHER_NS}, NULL);
		pthread_mutex_lock(&log->lock);
		log->counts.written += written;
		log->counts.dropped += count - written;
	}
	pthread_mutex_unlock(&log->lock);
	return NULL;
}

struct record_log *record_log_open(const char *dir, uint64_t max_bytes, struct error *error)
{
	struct record_log *log = calloc(1, sizeof *log);
	if (!log || !(log->queue = calloc(RECORD_LOG_QUEUE, sizeof *log->queue)) ||
	    !(log->spare = calloc(RECORD_LOG_QUEUE, sizeof *log->spare))) {
		(void)error_set(error, DB_E_NOMEM, "There is not enough memory for the records of requests.");
		goto fail;
	}
	buf_init(&log->text, RECORD_FILES_WRITE + RECORD_JSON_MAX);
	if (record_files_open(&log->files, dir, max_bytes ? max_bytes : RECORD_LOG_BYTES, error) != DB_OK)
		goto fail;
	pthread_mutex_init(&log->lock, NULL);
	pthread_cond_init(&log->wake, NULL);
	if (pthread_create(&log->thread, NULL, run, log) == 0)
		return log;
	(void)error_set(error, DB_E_NOMEM, "The thread that keeps records of requests cannot be started.");
	pthread_cond_destroy(&log->wake);
	pthread_mutex_destroy(&log->lock);
	record_files_close(&log->files);
fail:
	if (log) {
		free(log->queue);
		free(log->spare);
	}
	free(log);
	return NULL;
}

void record_log_close(struct record_log *log)
{
	if (!log)
		return;
	pthread_mutex_lock(&log->lock);
	log->closing = true;
	pthread_cond_signal(&log->wake);
	pthread_mutex_unlock(&log->lock);
	pthread_join(log->thread, NULL);
	pthread_cond_destroy(&log->wake);
	pthread_mutex_destroy(&log->lock);
	record_files_close(&log->files);
	buf_free(&log->text);
	free(log->queue);
	free(log->spare);
	free(log);
}

void record_log_add(struct record_log *log, const struct record *record)
{
	pthread_mutex_lock(&log->lock);
	bool wake = log->sleeping;
	if (log->queued < RECORD_LOG_QUEUE)
		log->queue[log->queued++] = *record;
	else
		log->counts.dropped++;
	log->sleeping = false;
	pthread_mutex_unlock(&log->lock);
	if (wake)
		pthread_cond_signal(&log->wake);
}

void record_log_counts(struct record_log *log, struct record_log_counts *out)
{
	pthread_mutex_lock(&log->lock);
	*out = log->counts;
	pthread_mutex_unlock(&log->lock);
}

const char *record_log_dir(const struct record_log *log)
{
	return log->files.dir;
}

/* --- reading --- */

/* The line that ends before `end` of the text; *end moves before it. */
static struct str line_before(struct str text, size_t *end)
{
	size_t last = *end, first;
	while (last > 0 && text.at[last - 1] == '\n')
		last--;
	for (first = last; first > 0 && text.at[first - 1] != '\n';)
		first--;
	*end = first;
	return str_sub(text, first, last - first);
}

static bool read_line(struct str line, struct record *out)
{
	if (line.len == 0 || line.len > RECORD_JSON_MAX)
		return false;
	struct json_doc *doc = json_parse(line, NULL, NULL);
	bool right = doc && record_read(json_root(doc), out) == DB_OK;
	json_free(doc);
	return right;
}

static bool find_in(struct str text, struct str id, struct record *out)
{
	for (size_t end = text.len; end > 0;) {
		struct str line = line_before(text, &end);
		if (line.len > 0 && memmem(line.at, line.len, id.at, id.len) && read_line(line, out) && str_is(id, out->id))
			return true;
	}
	return false;
}

enum db_err record_log_find(const char *dir, struct str id, struct record *out)
{
	uint64_t numbers[RECORD_FILES_LISTED];
	size_t count = record_files_list(dir, numbers, RECORD_FILES_LISTED);
	enum db_err err = DB_E_NOT_FOUND;
	for (size_t i = count; i-- > 0 && err && id.len > 0;) {
		struct buf text;
		if (record_files_read(dir, numbers[i], &text) == DB_OK && find_in(buf_str(&text), id, out))
			err = DB_OK;
		buf_free(&text);
	}
	return err;
}

size_t record_log_newest(const char *dir, size_t max, void (*fn)(const struct record *record, void *user), void *user)
{
	uint64_t numbers[RECORD_FILES_LISTED];
	size_t files = record_files_list(dir, numbers, RECORD_FILES_LISTED), found = 0;
	struct record *records = max > 0 ? calloc(max, sizeof *records) : NULL;
	for (size_t i = files; records && i-- > 0 && found < max;) {
		struct buf text;
		if (record_files_read(dir, numbers[i], &text) == DB_OK)
			for (size_t end = text.len; end > 0 && found < max;)
				found += read_line(line_before(buf_str(&text), &end), &records[found]);
		buf_free(&text);
	}
	for (size_t i = found; i-- > 0;)
		fn(&records[i], user);
	free(records);
	return found;
}
