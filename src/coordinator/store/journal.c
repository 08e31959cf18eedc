#include "coordinator/store/journal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "coordinator/store/op_queue.h"
#include "coordinator/store/postgres_listen.h"
#include "coordinator/store/reader.h"
#include "coordinator/store/sqlite_file.h"
#include "coordinator/store/trail.h"
#include "coordinator/store/writer.h"
#include "core/clock.h"
#include "core/log.h"

#define READERS_MAX       16
#define READERS_SHARED    4
#define GIVE_UP_US        10000000 /* a server that is away while the store closes is waited for so long */
#define GROUP_MAX_OPS     16384
#define QUEUED_MAX_OPS    200000 /* about 200 MB; beyond it new money is refused */
#define GATHER_ENOUGH_OPS 32     /* do not wait for more than these: under load the next group gathers while one is written */
#define QUIET_US          20000  /* without a write: the write-ahead log is moved when it is longer than this */
#define LOG_PAGES_QUIET   256
#define LOG_PAGES_BUSY    1000  /* 4 MB: it is moved while writes go on, in pieces that hold a group up little */
#define LOG_PAGES_ANEW    16384 /* 64 MB: it is begun anew, for which writes wait some milliseconds */

/* What another coordinator told, on its way to the loop. */
struct news {
	struct news *next;
	enum store_news kind;
	uint64_t question;
	char account_id[STORE_ID_SIZE];
};

struct told {
	store_news_fn tell;
	void *user;
};

/* What the loop's posts point to; outlives the journal while a post is on its way. */
struct door {
	struct journal *journal; /* NULL = closed */
};

struct journal {
	struct net_loop *loop;
	uint64_t gather_us;
	struct door *door;
	struct writer *writer; /* the writer thread's */
	struct reader *readers[READERS_MAX];
	int reader_count;
	struct sqlite_mover *mover;         /* the mover thread's; NULL: there is no write-ahead log of ours */
	struct postgres_listener *listener; /* the listener thread's; NULL: nobody tells anything */
	struct told told[STORE_LISTENERS];  /* loop thread */
	size_t told_count;
	pthread_t threads[READERS_MAX + 2];
	int thread_count;
	uint64_t tend_at_us;       /* writer thread: when others are to hear of this coordinator again */
	uint64_t known_epoch;      /* writer thread: under which others tell of the accounts that the loop was told of */
	struct store_op **group;   /* writer thread: GROUP_MAX_OPS */
	struct store_actor *actor; /* loop thread: of the next operation that the trail notes */

	pthread_mutex_t lock; /* over everything below */
	pthread_cond_t wake_writer, wake_reader, wake_mover;
	struct op_queue writes, reads, finished;
	struct news *news, **news_end;
	bool urgent; /* somebody waits for the queued writes */
	bool writer_idle;
	bool posted;                /* a delivery is on its way to the loop */
	bool log_moving, log_moved; /* the mover is at work; it is done and the writer is to look */
	bool log_ends;              /* of that move: the writer is to finish it, so that the log begins anew */
	int log_moved_pages;        /* how long the log was when it was moved last */
	bool closing, writes_over;
	uint64_t issued, passed; /* tickets: of the last write taken in, of the last one carried out */
	struct store_stats stats;
	struct error why;

	atomic_bool failed; /* set once, after `why` */
	atomic_bool away;   /* the server cannot be reached, or takes no writes just now */
	atomic_size_t queued;
};

/* --- delivery --- */

static void deliver_news(const struct journal *journal, struct news *news)
{
	while (news) {
		struct news *next = news->next;
		for (size_t i = 0; i < journal->told_count; i++)
			journal->told[i].tell(news->kind, str_of(news->account_id), news->question, journal->told[i].user);
		free(news);
		news = next;
	}
}

static void deliver_all(struct journal *journal)
{
	pthread_mutex_lock(&journal->lock);
	struct store_op *op = journal->finished.first;
	struct news *news = journal->news;
	journal->finished = (struct op_queue){0};
	journal->news = NULL;
	journal->news_end = &journal->news;
	journal->posted = false;
	pthread_mutex_unlock(&journal->lock);

	while (op) {
		struct store_op *next = op->next;
		if (op->deliver)
			op->deliver(op);
		op_free(op);
		op = next;
	}
	deliver_news(journal, news);
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
	if (journal->posted || (!journal->finished.first && !journal->news))
		return;
	journal->posted = true;
	net_post(journal->loop, on_post, journal->door);
}

/* Under the lock; takes the news. */
static void push_news(struct journal *journal, struct news *news)
{
	*journal->news_end = news;
	journal->news_end = &news->next;
	post_finished(journal);
}

/* Listener thread. */
static void on_told(const struct postgres_news *told, void *user)
{
	struct journal *journal = user;
	if (told->instance && told->instance != writer_epoch(journal->writer))
		return;
	struct news *news = calloc(1, sizeof *news);
	if (!news || !str_copy(told->account_id, news->account_id, sizeof news->account_id)) {
		free(news);
		return;
	}
	news->kind = told->news;
	news->question = told->question;
	pthread_mutex_lock(&journal->lock);
	push_news(journal, news);
	pthread_mutex_unlock(&journal->lock);
}

/* Writer thread, under the lock. While others took this coordinator for lost they told it nothing. */
static void look_for_return(struct journal *journal)
{
	uint64_t epoch = writer_epoch(journal->writer);
	struct news *news = epoch == journal->known_epoch ? NULL : calloc(1, sizeof *news);
	if (!news)
		return;
	news->kind = STORE_NEWS_MISSED;
	push_news(journal, news);
	journal->known_epoch = epoch;
}

uint64_t journal_epoch(const struct journal *journal)
{
	return writer_epoch(journal->writer);
}

struct net_loop *journal_loop(const struct journal *journal)
{
	return journal->loop;
}

void journal_on_news(struct journal *journal, store_news_fn tell, void *user)
{
	if (journal->told_count < STORE_LISTENERS)
		journal->told[journal->told_count++] = (struct told){tell, user};
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
	if (atomic_load_explicit(&journal->away, memory_order_relaxed) || !writer_is_known(journal->writer)) {
		error_set(error, DB_E_AGAIN, "The database cannot be reached, or takes no writes just now.");
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

static void set_away(struct journal *journal, bool away, const struct error *why)
{
	if (atomic_exchange_explicit(&journal->away, away, memory_order_relaxed) == away)
		return;
	if (away)
		log_error("store.away", "reason=\"%s\"", why->text);
	else
		log_info("store.back", "queued=%zu", atomic_load_explicit(&journal->queued, memory_order_relaxed));
}

/* Under no lock. False when the store closes and the server stays away. */
static bool pause_before_retry(struct journal *journal, int attempt, uint64_t since_us)
{
	uint64_t pause_us = attempt < 8 ? UINT64_C(10000) << attempt : 2000000;
	pthread_mutex_lock(&journal->lock);
	bool closing = journal->closing;
	pthread_mutex_unlock(&journal->lock);
	if (closing && clock_mono_us() - since_us > GIVE_UP_US)
		return false;
	usleep((useconds_t)(closing && pause_us > 100000 ? 100000 : pause_us));
	return true;
}

/* The same once more while a failure is one that passes. An operation is in the books once, however often it was tried. */
static enum writer_result try_until_clear(struct journal *journal, struct store_op **ops, size_t count)
{
	struct writer *writer = journal->writer;
	uint64_t start_us = clock_mono_us();
	enum writer_result result = try_group(writer, ops, count);
	for (int attempt = 0; result != WRITER_OK && writer_may_retry(writer); attempt++) {
		bool committed = false;
		set_away(journal, attempt > 0, writer_error(writer));
		if (!pause_before_retry(journal, attempt, start_us))
			break;
		if (writer_recover(writer, &committed))
			result = committed ? WRITER_OK : try_group(writer, ops, count);
	}
	if (result == WRITER_OK)
		set_away(journal, false, NULL);
	return result;
}

/* All in one transaction. An operation that breaks a constraint spoils the whole transaction: then both halves are tried on
 * their own, until it stands alone. This keeps savepoints, and their cost, out of the groups where all goes well. */
static void commit_group(struct journal *journal, struct store_op **ops, size_t count)
{
	struct writer *writer = journal->writer;
	const struct error *broken = writer_broken(writer);

	if (!broken && try_until_clear(journal, ops, count) == WRITER_OK)
		return;
	broken = writer_broken(writer);
	if (broken) {
		mark_failed(journal, broken);
		fail_all(ops, count, broken);
	} else if (count == 1 || writer_may_retry(writer)) { /* alone, or given up */
		fail_all(ops, count, writer_error(writer));
	} else {
		commit_group(journal, ops, count / 2);
		commit_group(journal, ops + count / 2, count - count / 2);
	}
}

/* Under the lock, which is given up meanwhile. The mover does the long part while writes go on, the writer the short rest:
 * under load seldom, because each write that comes waits for it. */
static void tend_log(struct journal *journal, bool is_quiet)
{
	int pages = writer_log_pages(journal->writer);
	if (!journal->mover || journal->log_moving)
		return;
	bool is_to_finish = journal->log_moved && journal->log_ends;
	journal->log_moved = false;
	if (is_to_finish) {
		pthread_mutex_unlock(&journal->lock);
		writer_finish_log(journal->writer);
		pthread_mutex_lock(&journal->lock);
		return;
	}
	if (pages < journal->log_moved_pages)
		journal->log_moved_pages = 0;
	if (pages <= (is_quiet ? LOG_PAGES_QUIET : journal->log_moved_pages + LOG_PAGES_BUSY))
		return;
	journal->log_ends = is_quiet || pages > LOG_PAGES_ANEW;
	journal->log_moved_pages = pages;
	journal->log_moving = true;
	pthread_cond_signal(&journal->wake_mover);
}

/* Under the lock, which is given up meanwhile: other coordinators are to see that this one is here. */
static void tend_shared(struct journal *journal)
{
	uint64_t every_us = writer_tend_us(journal->writer);
	if (!every_us || clock_mono_us() < journal->tend_at_us)
		return;
	pthread_mutex_unlock(&journal->lock);
	writer_tend(journal->writer);
	pthread_mutex_lock(&journal->lock);
	look_for_return(journal);
	journal->tend_at_us = clock_mono_us() + every_us;
}

/* Under the lock. */
static void wait_idle(struct journal *journal)
{
	uint64_t every_us = writer_tend_us(journal->writer);
	bool is_quiet = false;
	while (!journal->writes.first && !journal->closing) {
		journal->writer_idle = true;
		if (!is_quiet || journal->log_moved)
			is_quiet = !wait_for_us(&journal->wake_writer, &journal->lock, QUIET_US);
		else if (every_us)
			wait_for_us(&journal->wake_writer, &journal->lock, every_us);
		else
			pthread_cond_wait(&journal->wake_writer, &journal->lock);
		if (is_quiet && !journal->writes.first) {
			tend_log(journal, true);
			tend_shared(journal);
		}
	}
	journal->writer_idle = false;
}

/* Under the lock: waits for writes, and for a group of them to gather. False when there will be no more. */
static bool wait_for_writes(struct journal *journal)
{
	wait_idle(journal);
	uint64_t start_us = clock_mono_us(), waited_us = 0;
	while (journal->writes.first && !journal->urgent && !journal->closing && journal->writes.count < GATHER_ENOUGH_OPS &&
	       waited_us < journal->gather_us) {
		wait_for_us(&journal->wake_writer, &journal->lock, journal->gather_us - waited_us);
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
	op_queue_append(&journal->finished, done);
	look_for_return(journal);
	post_finished(journal);
	if (journal->reads.first)
		pthread_cond_broadcast(&journal->wake_reader);
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
		journal->group[count++] = op_queue_pop(taken);
	commit_group(journal, journal->group, count);
	log_unheard_failures(journal, journal->group, count);
	for (size_t i = 0; i < count; i++)
		op_queue_push(&done, journal->group[i]);

	uint64_t took_us = clock_mono_us() - start_us;
	pthread_mutex_lock(&journal->lock);
	finish_group(journal, &done, took_us);
	tend_log(journal, false);
	tend_shared(journal);
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
	pthread_cond_broadcast(&journal->wake_reader);
	pthread_cond_signal(&journal->wake_mover);
	pthread_mutex_unlock(&journal->lock);
	return NULL;
}

/* --- reader --- */

static void answer(struct journal *journal, struct reader *reader, struct store_op *op)
{
	if (atomic_load_explicit(&journal->failed, memory_order_acquire))
		op_fail_with(op, &journal->why);
	else
		reader_query(reader, op);
	if (op->failed == DB_E_IO)
		mark_failed(journal, op_error(op));
}

struct reader_start {
	struct journal *journal;
	struct reader *reader;
};

static void *run_reader(void *arg)
{
	struct reader_start *start = arg;
	struct journal *journal = start->journal;
	struct reader *reader = start->reader;

	free(start);
	pthread_mutex_lock(&journal->lock);
	for (;;) {
		struct store_op *op = journal->reads.first;
		if (op && op->ticket <= journal->passed) {
			op_queue_pop(&journal->reads);
			pthread_mutex_unlock(&journal->lock);
			answer(journal, reader, op);
			pthread_mutex_lock(&journal->lock);
			op_queue_push(&journal->finished, op);
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

/* --- listener --- */

static void *run_listener(void *arg)
{
	postgres_listener_run(((struct journal *)arg)->listener);
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
		bool ends = journal->log_ends;
		pthread_mutex_unlock(&journal->lock);
		bool moved = sqlite_mover_move(journal->mover, ends);
		pthread_mutex_lock(&journal->lock);
		journal->log_ends = ends || !moved; /* what the disk refused is the writer's to find, at once */
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
static bool may_gather(const struct store_op *op)
{
	return op->patient || op->kind == OP_HOLD_CREATE || op->kind == OP_HOLD_RAISE || op->kind == OP_HOLD_RELEASE ||
	       op->kind == OP_SETTLE;
}

void journal_act(struct journal *journal, struct store_actor *actor)
{
	free(journal->actor);
	journal->actor = actor;
}

static void submit_write(struct journal *journal, struct store_op *op)
{
	op->ticket = ++journal->issued;
	op_queue_push(&journal->writes, op);
	atomic_fetch_add_explicit(&journal->queued, 1, memory_order_relaxed);
	bool urgent = !journal->urgent && !may_gather(op);
	journal->urgent = journal->urgent || urgent;
	if (journal->writer_idle || urgent || journal->writes.count == GATHER_ENOUGH_OPS) {
		journal->writer_idle = false;
		pthread_cond_signal(&journal->wake_writer);
	}
}

static void submit_read(struct journal *journal, struct store_op *op)
{
	op->ticket = op->patient ? 0 : journal->issued;
	op_queue_push(&journal->reads, op);
	if (op->ticket > journal->passed && !journal->urgent) {
		journal->urgent = true;
		pthread_cond_signal(&journal->wake_writer);
	}
	pthread_cond_broadcast(&journal->wake_reader);
}

void journal_submit(struct journal *journal, struct store_op *op)
{
	if (journal->closing) { /* asked for in a callback that was still owed */
		op_free(op);
		return;
	}
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
	postgres_listener_free(journal->listener);
	deliver_news(&(struct journal){0}, journal->news);
	for (int i = 0; i < journal->reader_count; i++)
		reader_close(journal->readers[i]);
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
	pthread_mutex_lock(&journal->lock);
	journal->closing = true;
	pthread_cond_signal(&journal->wake_writer);
	pthread_mutex_unlock(&journal->lock);
	if (journal->listener)
		postgres_listener_stop(journal->listener);
	for (int i = 0; i < journal->thread_count; i++)
		pthread_join(journal->threads[i], NULL);
}

static bool start_thread(struct journal *journal, void *(*run)(void *arg), void *arg)
{
	if (pthread_create(&journal->threads[journal->thread_count], NULL, run, arg))
		return false;
	journal->thread_count++;
	return true;
}

static bool start_reader(struct journal *journal, struct reader *reader)
{
	struct reader_start *start = malloc(sizeof *start);
	if (start)
		*start = (struct reader_start){journal, reader};
	if (start && start_thread(journal, run_reader, start))
		return true;
	free(start);
	return false;
}

/* The writer first: when it stops, the others do. */
static enum db_err start_threads(struct journal *journal, struct error *error)
{
	bool started = start_thread(journal, run_writer, journal);
	for (int i = 0; i < journal->reader_count && started; i++)
		started = start_reader(journal, journal->readers[i]);
	if (started && journal->mover)
		started = start_thread(journal, run_mover, journal);
	if (started && journal->listener)
		started = start_thread(journal, run_listener, journal);
	if (started)
		return DB_OK;
	if (journal->thread_count)
		stop_threads(journal);
	return error_set(error, DB_E_NOMEM, "The threads of the database could not be started.");
}

static enum db_err open_readers(struct journal *journal, const struct store_options *options, int count, struct error *error)
{
	while (journal->reader_count < count) {
		struct reader *reader = reader_open(options->path, error);
		if (!reader)
			return DB_E_IO;
		journal->readers[journal->reader_count++] = reader;
	}
	return DB_OK;
}

static enum db_err open_connections(struct journal *journal, const struct store_options *options, struct error *error)
{
	bool shared = sql_is_postgres(options->path);
	int readers = !shared ? 1 : options->readers ? (int)options->readers : READERS_SHARED;
	journal->writer = writer_open(options, error);
	if (!journal->writer || open_readers(journal, options, readers < READERS_MAX ? readers : READERS_MAX, error))
		return DB_E_IO;
	if (shared)
		journal->listener = postgres_listener_new(options->path, on_told, journal, error);
	else
		journal->mover = sqlite_mover_open(options->path, error);
	return journal->listener || journal->mover ? DB_OK : DB_E_IO;
}

struct journal *journal_open(const struct store_options *options, struct net_loop *loop, struct error *error)
{
	struct journal *journal = calloc(1, sizeof *journal);
	if (!journal)
		goto no_memory;
	pthread_mutex_init(&journal->lock, NULL);
	wait_cond_init(&journal->wake_writer);
	wait_cond_init(&journal->wake_reader);
	wait_cond_init(&journal->wake_mover);
	journal->loop = loop;
	journal->news_end = &journal->news;
	journal->gather_us = options->group_commit_us;
	journal->group = malloc(GROUP_MAX_OPS * sizeof(struct store_op *));
	journal->door = calloc(1, sizeof *journal->door);
	if (!journal->group || !journal->door)
		goto no_memory;
	journal->door->journal = journal;
	if (open_connections(journal, options, error))
		goto fail;
	journal->known_epoch = writer_epoch(journal->writer);
	if (start_threads(journal, error))
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
