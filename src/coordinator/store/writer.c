#include "coordinator/store/writer.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/store/book.h"
#include "coordinator/store/migrate.h"
#include "coordinator/store/op_login.h"
#include "coordinator/store/op_task.h"
#include "coordinator/store/postgres_db.h"
#include "coordinator/store/postgres_turn.h"
#include "coordinator/store/sqlite_db.h"
#include "coordinator/store/sqlite_file.h"
#include "core/clock.h"
#include "core/log.h"

struct writer {
	struct book book;
	int lock_fd;
	int log_pages;       /* in the write-ahead log, not yet moved into the file */
	struct error broken; /* code DB_OK while it works */
	bool shared;         /* PostgreSQL: `turn` holds */
	struct turn turn;
	uint64_t turn_us;             /* boot time when the turn began */
	atomic_uint_fast64_t epoch;   /* turn's registration */
	atomic_uint_fast64_t seen_us; /* boot time, before the last turn that the database has: since then it knows us */
};

#define LOST_AFTER_US 30000000
#define TEND_US       4000000

/* --- being known to the others --- */

/* Goes on while the machine sleeps, where there is such a clock: others do not sleep with it. */
static uint64_t boot_us(void)
{
#ifdef CLOCK_BOOTTIME
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
#else
	return clock_mono_us();
#endif
}

/* The epoch first: who finds this coordinator known finds the number under which it is. */
static void note_seen(struct writer *writer)
{
	atomic_store_explicit(&writer->epoch, (uint64_t)writer->book.instance, memory_order_release);
	atomic_store_explicit(&writer->seen_us, writer->turn_us, memory_order_release);
}

uint64_t writer_epoch(const struct writer *writer)
{
	return atomic_load_explicit(&writer->epoch, memory_order_acquire);
}

bool writer_is_known(const struct writer *writer)
{
	return !writer->shared || boot_us() - atomic_load_explicit(&writer->seen_us, memory_order_acquire) <
	                              (uint64_t)writer->turn.patience_us / 3 * 2;
}

/* --- opening --- */

static void release_left_open(struct sql *db)
{
	struct sql_stmt *stmt = sql_say(db, book_statements[W_RELEASE_LEFT_OPEN]);
	sql_put_i64(stmt, 1, clock_wall_us());
	if (sql_run(stmt) && sql_changes(db) > 0)
		log_warn("store.holds_released", "count=%lld reason=restart", (long long)sql_changes(db));
}

static struct sql *open_file(struct writer *writer, const char *path, struct error *error)
{
	writer->lock_fd = sqlite_file_lock(path, error);
	if (writer->lock_fd < 0 || sqlite_file_make(path, error))
		return NULL;
	struct sql *db = sqlite_db_open(path, SQL_WRITE, error);
	if (db)
		sqlite_file_count_log(db, &writer->log_pages);
	return db;
}

static void load_file(struct writer *writer)
{
	release_left_open(writer->book.db);
	if (!writer->book.db->failed)
		book_load(&writer->book);
}

static void join_others(struct writer *writer, const struct store_options *options)
{
	struct turn *turn = &writer->turn;
	writer->shared = true;
	turn->book = &writer->book;
	turn->patience_us = options->lost_after_us ? options->lost_after_us : LOST_AFTER_US;
	if (options->instance)
		(void)str_copy(str_sub(str_of(options->instance), 0, sizeof turn->name - 1), turn->name, sizeof turn->name);
	writer->book.rows = postgres_rows_new();
	writer->turn_us = boot_us();
	if (writer->book.rows)
		turn_register(turn);
	else
		sql_fail(writer->book.db, DB_E_NOMEM, "There is no memory to open the database.");
	note_seen(writer);
}

struct writer *writer_open(const struct store_options *options, struct error *error)
{
	struct writer *writer = calloc(1, sizeof *writer);
	bool shared = sql_is_postgres(options->path);
	if (!writer) {
		error_set(error, DB_E_NOMEM, "There is no memory to open the database.");
		return NULL;
	}
	writer->lock_fd = -1;
	book_init(&writer->book, NULL);
	struct sql *db = writer->book.db =
	    shared ? postgres_db_open(options->path, SQL_WRITE, error) : open_file(writer, options->path, error);
	if (!db || migrate_or_check(db, options->migrate, error))
		goto fail;
	if (shared)
		join_others(writer, options);
	else
		load_file(writer);
	if (!db->failed)
		return writer;
	if (error)
		*error = db->why;

fail:
	writer_close(writer);
	return NULL;
}

void writer_close(struct writer *writer)
{
	if (!writer)
		return;
	if (writer->shared && writer->book.instance && postgres_db_connected(writer->book.db))
		turn_leave(&writer->turn);
	book_free(&writer->book);
	sql_close(writer->book.db);
	if (writer->lock_fd >= 0)
		close(writer->lock_fd);
	free(writer);
}

/* --- transactions --- */

/* Everything but a broken constraint means that the file cannot be trusted to take more. */
static enum writer_result result(struct writer *writer)
{
	const struct sql *db = writer->book.db;
	if (!db->failed)
		return WRITER_OK;
	if (db->failed != DB_E_INTERNAL && db->failed != DB_E_AGAIN && !writer->broken.code)
		writer->broken = db->why;
	return WRITER_SPOILED;
}

/* Others took this coordinator for lost, and released what it held: it comes back as a new one. */
static bool come_back(struct writer *writer)
{
	struct turn *turn = &writer->turn;
	if (!turn->ended || writer->book.db->failed)
		return false;
	turn_rollback(turn);
	log_warn("store.taken_for_lost", "instance=%lld", (long long)writer->book.instance);
	turn_register(turn);
	return !writer->book.db->failed;
}

static bool begin_turn(struct writer *writer)
{
	struct turn *turn = &writer->turn;
	return turn_begin(turn) || (come_back(writer) && turn_begin(turn));
}

enum writer_result writer_begin(struct writer *writer, struct store_op **ops, size_t count)
{
	struct sql *db = writer->book.db;
	sql_clear(db);
	writer->turn_us = boot_us();
	if (!writer->shared)
		sql_run(sql_say(db, "BEGIN IMMEDIATE"));
	else if (begin_turn(writer))
		book_read_ahead(&writer->book, ops, count);
	return result(writer);
}

enum writer_result writer_apply(struct writer *writer, struct store_op *op)
{
	struct book *book = &writer->book;
	switch (op->kind) {
	case OP_FLUSH:
		break;
	case OP_ACCOUNT_CREATE:
		apply_account_create(book, (struct op_account_create *)op);
		break;
	case OP_ACCOUNT_GET:
		apply_account_get(book, (struct op_account_find *)op);
		break;
	case OP_OWNER_CREATE:
		apply_owner_create(book, (struct op_owner_create *)op);
		break;
	case OP_KEY_CREATE:
		apply_key_create(book, (struct op_key_create *)op);
		break;
	case OP_KEY_DISABLE:
	case OP_KEY_UPDATE:
	case OP_KEY_ROTATE:
	case OP_KEY_DELETE:
		apply_key_change(book, (struct op_key_change *)op);
		break;
	case OP_KEYS_TOUCH:
		apply_keys_touch(book, (struct op_batch *)op);
		break;
	case OP_LEVELS_SAVE:
		apply_levels_save(book, (struct op_batch *)op);
		break;
	case OP_PROVIDER_TOKEN_CREATE:
		apply_provider_token_create(book, (struct op_provider_token_create *)op);
		break;
	case OP_TRANSFER:
		apply_transfer(book, (struct op_transfer *)op);
		break;
	case OP_HOLD_CREATE:
		apply_hold_create(book, (struct op_hold_create *)op);
		break;
	case OP_HOLD_RAISE:
		apply_hold_raise(book, (struct op_hold_change *)op);
		break;
	case OP_HOLD_RELEASE:
		apply_hold_release(book, (struct op_hold_change *)op);
		break;
	case OP_SETTLE:
		apply_settle(book, (struct op_settle *)op);
		break;
	case OP_PRICE_SET:
		apply_price_set(book, (struct op_price_set *)op);
		break;
	case OP_LOGIN_WRITE:
		((struct op_login *)op)->run(book->db, (struct op_login *)op);
		break;
	case OP_TASK_WRITE:
		((struct op_task *)op)->write(book, (struct op_task *)op);
		break;
	default:
		op_fail(op, DB_E_UNSUPPORTED, "The writer does not know the operation %s.", op_name(op->kind));
	}
	trail_write(book->db, op);
	if (result(writer) == WRITER_OK)
		return WRITER_OK;
	op_fail_with(op, &book->db->why);
	return WRITER_SPOILED;
}

enum writer_result writer_commit(struct writer *writer)
{
	if (writer->shared) {
		if (turn_commit(&writer->turn))
			note_seen(writer);
	} else {
		book_flush(&writer->book);
		sql_run(sql_say(writer->book.db, "COMMIT"));
	}
	return result(writer);
}

static void undo(struct writer *writer)
{
	struct sql *db = writer->book.db;
	sql_rollback(db);
	book_forget(&writer->book);
	sql_clear(db);
	if (!writer->broken.code)
		book_load(&writer->book);
	result(writer);
}

void writer_rollback(struct writer *writer)
{
	struct sql *db = writer->book.db;
	struct error why = db->why;
	enum db_err failed = db->failed;

	if (writer->shared)
		turn_rollback(&writer->turn);
	else
		undo(writer);
	db->why = why;
	if (!db->failed)
		db->failed = failed;
}

bool writer_may_retry(const struct writer *writer)
{
	return writer->shared && !writer->broken.code && writer->book.db->failed == DB_E_AGAIN;
}

bool writer_recover(struct writer *writer, bool *committed)
{
	struct sql *db = writer->book.db;
	struct turn *turn = &writer->turn;
	*committed = false;
	if (!postgres_db_connected(db) && !postgres_db_reconnect(db)) {
		db->failed = DB_E_AGAIN; /* a password that is changed meanwhile is no reason to give up either */
		return false;
	}
	sql_clear(db);
	return !turn->uncertain || turn_resolve(turn, committed);
}

uint64_t writer_tend_us(const struct writer *writer)
{
	uint64_t third = (uint64_t)writer->turn.patience_us / 3;
	return !writer->shared ? 0 : third < TEND_US ? third : TEND_US;
}

void writer_tend(struct writer *writer)
{
	bool committed;
	if (writer->broken.code || !writer_recover(writer, &committed))
		return;
	writer->turn_us = boot_us();
	if (turn_sweep(&writer->turn) || come_back(writer))
		note_seen(writer);
	result(writer);
}

const struct error *writer_broken(const struct writer *writer)
{
	return writer->broken.code ? &writer->broken : NULL;
}

const struct error *writer_error(const struct writer *writer)
{
	return &writer->book.db->why;
}

/* --- SQLite's write-ahead log --- */

int writer_log_pages(const struct writer *writer)
{
	return writer->broken.code ? 0 : writer->log_pages;
}

void writer_finish_log(struct writer *writer)
{
	if (!writer->broken.code)
		sqlite_file_move_log(writer->book.db, &writer->log_pages, &writer->broken);
}
