#include "coordinator/store/journal.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "coordinator/store/reader.h"
#include "coordinator/store/sqlite_file.h"
#include "coordinator/store/trail.h"
#include "coordinator/store/writer.h"
#include "core/clock.h"
#include "core/log.h"

#define GROUP_MAX_OPS     16384
#define QUEUED_MAX_OPS    200000 /* about 200 MB; beyond it new money is refused */
#define GATHER_ENOUGH_OPS 4096   /* do not wait for more than these */
#define QUIET_US          20000  /* without a write: the write-ahead log is moved when it is longer than this */
#define LOG_PAGES_QUIET   256
#define LOG_PAGES_BUSY    4000 /* 16 MB: it is moved while writes go on */

struct op_queue {
	struct store_op *first, *last;
	size_t count;
};

/* What the loop's posts point to; outlives the journal while a post is on its way. */
struct door {
	struct journal *journal; /* NULL = closed */
};

struct journal {
	struct net_loop *loop;
	uint64_t gather_us;
	struct door *door;
	struct writer *writer;      /* the writer thread's */
	struct reader *reader;      /* the reader thread's */
	struct sqlite_mover *mover; /* the mover thread's */
	pthread_t writer_thread, reader_thread, mover_thread;
	int threads;               /* of these, started in this order */
	struct store_op **group;   /* writer thread: GROUP_MAX_OPS */
	struct store_actor *actor; /* loop thread: of the next operation that the trail notes */

	pthread_mutex_t lock; /* over everything below */
	pthread_cond_t wake_writer, wake_reader, wake_mover;
	struct op_queue writes, reads, finished;
	bool urgent; /* somebody waits for the queued writes */
	bool writer_idle;
	bool posted;                /* a delivery is on its way to the loop */
	bool log_moving, log_moved; /* the mover is at work; it is done and the writer is to finish */
	bool closing, writes_over;
	uint64_t issued, passed; /* tickets: of the last write taken in, of the last one carried out */
	struct store_stats stats;
	struct error why;

	atomic_bool failed; /* set once, after `why` */
	atomic_size_t queued;
};

static void queue_push(struct op_queue *queue, struct store_op *op)
{
	op->next = NULL;
	if (queue->last)
		queue->last->next = op;
	else
		queue->first = op;
	queue->last = op;
	queue->count++;
}

static void queue_append(struct op_queue *queue, const struct op_queue *more)
{
	if (!more->first)
		return;
	if (queue->last)
		queue->last->next = more->first;
	else
		queue->first = more->first;
	queue->last = more->last;
	queue->count += more->count;
}

static struct store_op *queue_pop(struct op_queue *queue)
{
	struct store_op *op = queue->first;
	queue->first = op->next;
	if (!queue->first)
		queue->last = NULL;
	queue->count--;
	return op;
}

/* Waits on cond for at most us microseconds. False when the time is over. */
static bool wait_us(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t us)
{
#ifdef __APPLE__
	struct timespec span = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
	return pthread_cond_timedwait_relative_np(cond, lock, &span) != ETIMEDOUT;
#else
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	us += (uint64_t)until.tv_nsec / 1000;
	until.tv_sec += (time_t)(us / 1000000);
	until.tv_nsec = (long)(us % 1000000) * 1000;
	return pthread_cond_timedwait(cond, lock, &until) != ETIMEDOUT;
#endif
}

static void init_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
#ifndef __APPLE__
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
#endif
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

/* --- delivery --- */

static void deliver_all(struct journal *journal)
{
	pthread_mutex_lock(&journal->lock);
	struct store_op *op = journal->finished.first;
	journal->finished = (struct op_queue){0};
	journal->posted = false;
	pthread_mutex_unlock(&journal->lock);

	while (op) {
		struct store_op *next = op->next;
		if (op->deliver)
			op->deliver(op);
		op_free(op);
		op = next;
	}
}

static void on_post(void *arg)
{
	struct door *door = arg;
	if (door->journal)
		deliver_all(door->journal);
	else
		free(door);
}

/* Under the lock. */
static void post_finished(struct journal *journal)
{
	if (journal->posted || !journal->finished.first)
		return;
	journal->posted = true;
	net_post(journal->loop, on_post, journal->door);
}

/* --- health --- */

static void mark_failed(struct journal *journal, const struct error *why)
{
	pthread_mutex_lock(&journal->lock);
	if (!atomic_load_explicit(&journal->failed, memory_order_relaxed)) {
		journal->why = *why;
		atomic_store_explicit(&journal->failed, true, memory_order_release);
		log_error("store.failed", "reason=\"%s\"", why->text);
	}
	pthread_mutex_unlock(&journal->lock);
}

bool journal_healthy(const struct journal *journal, struct error *error)
{
	if (atomic_load_explicit(&journal->failed, memory_order_acquire)) {
		if (error)
			*error = journal->why;
		return false;
	}
	if (atomic_load_explicit(&journal->queued, memory_order_relaxed) > QUEUED_MAX_OPS) {
		error_set(error, DB_E_LIMIT, "The database is too far behind: its disk is slower than the load.");
		return false;
	}
	return true;
}

void journal_stats(struct journal *journal, struct store_stats *out)
{
	pthread_mutex_lock(&journal->lock);
	*out = journal->stats;
	out->queued = atomic_load_explicit(&journal->queued, memory_order_relaxed);
	pthread_mutex_unlock(&journal->lock);
}

/* --- writer --- */

static void fail_all(struct store_op **ops, size_t count, const struct error *why)
{
	for (size_t i = 0; i < count; i++)
		op_fail_with(ops[i], why);
}

/* One transaction: all of them or none. */
static enum writer_result try_group(struct writer *writer, struct store_op **ops, size_t count)
{
	enum writer_result result = writer_begin(writer, ops, count);
	for (size_t i = 0; i < count && result == WRITER_OK; i++) {
		op_clear_error(ops[i]);
		result = writer_apply(writer, ops[i]);
	}
	if (result == WRITER_OK)
		result = writer_commit(writer);
	if (result != WRITER_OK)
		writer_rollback(writer);
	return result;
}

/* All in one transaction. An operation that breaks a constraint spoils the whole transaction: then both halves are tried on
 * their own, until it stands alone. This keeps savepoints, and their cost, out of the groups where all goes well. */
static void commit_group(struct journal *journal, struct store_op **ops, size_t count)
{
	struct writer *writer = journal->writer;
	const struct error *broken = writer_broken(writer);

	if (!broken && try_group(writer, ops, count) == WRITER_OK)
		return;
	broken = writer_broken(writer);
	if (broken) {
		mark_failed(journal, broken);
		fail_all(ops, count, broken);
	} else if (count == 1) {
		op_fail_with(ops[0], writer_error(writer));
	} else {
		commit_group(journal, ops, count / 2);
		commit_group(journal, ops + count / 2, count - count / 2);
	}
}

/* Under the lock, which is given up meanwhile. The mover does the long part while writes go on, the writer the short rest. */
static void tend_log(struct journal *journal, int longer_than)
{
	if (journal->log_moved) {
		journal->log_moved = false;
		pthread_mutex_unlock(&journal->lock);
		writer_finish_log(journal->writer);
		pthread_mutex_lock(&journal->lock);
	} else if (!journal->log_moving && writer_log_pages(journal->writer) > longer_than) {
		journal->log_moving = true;
		pthread_cond_signal(&journal->wake_mover);
	}
}

/* Under the lock: waits for writes, and for a group of them to gather. False when there will be no more. */
static bool wait_for_writes(struct journal *journal)
{
	bool is_quiet = false;
	while (!journal->writes.first && !journal->closing) {
		journal->writer_idle = true;
		if (is_quiet && !journal->log_moved)
			pthread_cond_wait(&journal->wake_writer, &journal->lock);
		else
			is_quiet = !wait_us(&journal->wake_writer, &journal->lock, QUIET_US);
		if (is_quiet && !journal->writes.first)
			tend_log(journal, LOG_PAGES_QUIET);
	}
	journal->writer_idle = false;

	uint64_t start_us = clock_mono_us(), waited_us = 0;
	while (journal->writes.first && !journal->urgent && !journal->closing && journal->writes.count < GATHER_ENOUGH_OPS &&
	       waited_us < journal->gather_us) {
		wait_us(&journal->wake_writer, &journal->lock, journal->gather_us - waited_us);
		waited_us = clock_mono_us() - start_us;
	}
	return journal->writes.first != NULL;
}

/* Under the lock. */
static void finish_group(struct journal *journal, const struct op_queue *done, uint64_t took_us)
{
	struct store_stats *stats = &journal->stats;
	stats->commits++;
	stats->operations += done->count;
	if (took_us > stats->commit_us_max)
		stats->commit_us_max = took_us;
	atomic_fetch_sub_explicit(&journal->queued, done->count, memory_order_relaxed);
	journal->passed = done->last->ticket;
	queue_append(&journal->finished, done);
	post_finished(journal);
	if (journal->reads.first)
		pthread_cond_signal(&journal->wake_reader);
}

/* Of a database that failed one line is enough, and is written. */
static void log_unheard_failures(struct journal *journal, struct store_op **ops, size_t count)
{
	for (size_t i = 0; i < count && !atomic_load_explicit(&journal->failed, memory_order_relaxed); i++)
		if (ops[i]->failed && !ops[i]->deliver)
			log_error("store.operation_failed", "operation=%s reason=\"%s\"", op_name(ops[i]->kind), op_error(ops[i])->text);
}

/* Takes a group off the queue and carries it out. */
static void write_group(struct journal *journal, struct op_queue *taken)
{
	struct op_queue done = {0};
	size_t count = 0;
	uint64_t start_us = clock_mono_us();

	while (taken->first && count < GROUP_MAX_OPS)
		journal->group[count++] = queue_pop(taken);
	commit_group(journal, journal->group, count);
	log_unheard_failures(journal, journal->group, count);
	for (size_t i = 0; i < count; i++)
		queue_push(&done, journal->group[i]);

	uint64_t took_us = clock_mono_us() - start_us;
	pthread_mutex_lock(&journal->lock);
	finish_group(journal, &done, took_us);
	tend_log(journal, LOG_PAGES_BUSY);
	pthread_mutex_unlock(&journal->lock);
}

static void *run_writer(void *arg)
{
	struct journal *journal = arg;

	pthread_mutex_lock(&journal->lock);
	while (wait_for_writes(journal)) {
		struct op_queue taken = journal->writes;
		journal->writes = (struct op_queue){0};
		journal->urgent = false;
		pthread_mutex_unlock(&journal->lock);
		while (taken.first)
			write_group(journal, &taken);
		pthread_mutex_lock(&journal->lock);
	}
	journal->writes_over = true;
	pthread_cond_signal(&journal->wake_reader);
	pthread_cond_signal(&journal->wake_mover);
	pthread_mutex_unlock(&journal->lock);
	return NULL;
}

/* --- reader --- */

static void answer(struct journal *journal, struct store_op *op)
{
	struct error why;
	if (journal_healthy(journal, &why) || why.code == DB_E_LIMIT)
		reader_query(journal->reader, op);
	else
		op_fail_with(op, &why);
	if (op->failed == DB_E_IO)
		mark_failed(journal, op_error(op));
}

static void *run_reader(void *arg)
{
	struct journal *journal = arg;

	pthread_mutex_lock(&journal->lock);
	for (;;) {
		struct store_op *op = journal->reads.first;
		if (op && op->ticket <= journal->passed) {
			queue_pop(&journal->reads);
			pthread_mutex_unlock(&journal->lock);
			answer(journal, op);
			pthread_mutex_lock(&journal->lock);
			queue_push(&journal->finished, op);
			post_finished(journal);
		} else if (!op && journal->writes_over) {
			break;
		} else {
			pthread_cond_wait(&journal->wake_reader, &journal->lock);
		}
	}
	pthread_mutex_unlock(&journal->lock);
	return NULL;
}

/* --- mover --- */

static void *run_mover(void *arg)
{
	struct journal *journal = arg;

	pthread_mutex_lock(&journal->lock);
	while (!journal->writes_over) {
		if (!journal->log_moving) {
			pthread_cond_wait(&journal->wake_mover, &journal->lock);
			continue;
		}
		pthread_mutex_unlock(&journal->lock);
		sqlite_mover_move(journal->mover);
		pthread_mutex_lock(&journal->lock);
		journal->log_moving = false;
		journal->log_moved = true;
		if (journal->writer_idle)
			pthread_cond_signal(&journal->wake_writer);
	}
	pthread_mutex_unlock(&journal->lock);
	return NULL;
}

/* --- the loop thread's side --- */

/* Holds and settlements may wait for company; whoever waits for anything else should not. */
static bool may_gather(enum op_kind kind)
{
	return kind == OP_HOLD_CREATE || kind == OP_HOLD_RAISE || kind == OP_HOLD_RELEASE || kind == OP_SETTLE;
}

void journal_act(struct journal *journal, struct store_actor *actor)
{
	free(journal->actor);
	journal->actor = actor;
}

static void submit_write(struct journal *journal, struct store_op *op)
{
	op->ticket = ++journal->issued;
	queue_push(&journal->writes, op);
	atomic_fetch_add_explicit(&journal->queued, 1, memory_order_relaxed);
	bool urgent = !journal->urgent && !may_gather(op->kind);
	journal->urgent = journal->urgent || urgent;
	if (journal->writer_idle || urgent || journal->writes.count == GATHER_ENOUGH_OPS) {
		journal->writer_idle = false;
		pthread_cond_signal(&journal->wake_writer);
	}
}

static void submit_read(struct journal *journal, struct store_op *op)
{
	op->ticket = journal->issued;
	queue_push(&journal->reads, op);
	if (op->ticket > journal->passed && !journal->urgent) {
		journal->urgent = true;
		pthread_cond_signal(&journal->wake_writer);
	}
	pthread_cond_signal(&journal->wake_reader);
}

void journal_submit(struct journal *journal, struct store_op *op)
{
	if (journal->actor && trail_notes(op)) {
		op->actor = journal->actor;
		journal->actor = NULL;
	}
	pthread_mutex_lock(&journal->lock);
	if (op->kind < OP_FIRST_READ)
		submit_write(journal, op);
	else
		submit_read(journal, op);
	pthread_mutex_unlock(&journal->lock);
}

static void free_journal(struct journal *journal)
{
	if (!journal)
		return;
	sqlite_mover_close(journal->mover);
	reader_close(journal->reader);
	writer_close(journal->writer);
	pthread_mutex_destroy(&journal->lock);
	pthread_cond_destroy(&journal->wake_writer);
	pthread_cond_destroy(&journal->wake_reader);
	pthread_cond_destroy(&journal->wake_mover);
	free(journal->group);
	free(journal->actor);
	free(journal->door);
	free(journal);
}

/* Ends what was started: the writer writes what is asked for, then the others stop. */
static void stop_threads(struct journal *journal)
{
	const pthread_t threads[] = {journal->writer_thread, journal->reader_thread, journal->mover_thread};
	pthread_mutex_lock(&journal->lock);
	journal->closing = true;
	pthread_cond_signal(&journal->wake_writer);
	pthread_mutex_unlock(&journal->lock);
	for (int i = 0; i < journal->threads; i++)
		pthread_join(threads[i], NULL);
}

static enum db_err start_threads(struct journal *journal, struct error *error)
{
	if (!pthread_create(&journal->writer_thread, NULL, run_writer, journal) && ++journal->threads &&
	    !pthread_create(&journal->reader_thread, NULL, run_reader, journal) && ++journal->threads &&
	    !pthread_create(&journal->mover_thread, NULL, run_mover, journal) && ++journal->threads)
		return DB_OK;
	stop_threads(journal);
	return error_set(error, DB_E_NOMEM, "The threads of the database could not be started.");
}

struct journal *journal_open(const struct store_options *options, struct net_loop *loop, struct error *error)
{
	struct journal *journal = calloc(1, sizeof *journal);
	if (!journal)
		goto no_memory;
	pthread_mutex_init(&journal->lock, NULL);
	init_cond(&journal->wake_writer);
	init_cond(&journal->wake_reader);
	init_cond(&journal->wake_mover);
	journal->loop = loop;
	journal->gather_us = options->group_commit_us;
	journal->group = malloc(GROUP_MAX_OPS * sizeof(struct store_op *));
	journal->door = calloc(1, sizeof *journal->door);
	if (!journal->group || !journal->door)
		goto no_memory;
	journal->door->journal = journal;
	journal->writer = writer_open(options, error);
	journal->reader = journal->writer ? reader_open(options->path, error) : NULL;
	journal->mover = journal->reader ? sqlite_mover_open(options->path, error) : NULL;
	if (!journal->mover || start_threads(journal, error))
		goto fail;
	return journal;

no_memory:
	error_set(error, DB_E_NOMEM, "There is no memory to open the database.");
fail:
	free_journal(journal);
	return NULL;
}

void journal_close(struct journal *journal)
{
	stop_threads(journal);
	bool posted = journal->posted;
	deliver_all(journal);
	if (posted) {
		journal->door->journal = NULL; /* the post that is still on its way frees it */
		journal->door = NULL;
	}
	free_journal(journal);
}
