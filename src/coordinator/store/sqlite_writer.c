#include "coordinator/store/sqlite_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "coordinator/store/migrate.h"
#include "coordinator/store/op_login.h"
#include "coordinator/store/sqlite_book.h"
#include "core/clock.h"
#include "core/log.h"

/* One transaction of the ledger in one statement. OR FAIL spares SQLite a journal for undoing part of it: when it fails, all of
 * the group is undone. */
#define ENTRIES_INSERT                                                                                                         \
	"INSERT OR FAIL INTO ledger (id, hold, transfer, created_us, account, type, amount, balance_after, withdrawable_after)"    \
	" VALUES "
#define ENTRY_VALUES(n, account, type, amount, balance, withdrawable)                                                          \
	"(?1 + " #n ", ?2, ?3, ?4, ?" #account ", ?" #type ", ?" #amount ", ?" #balance ", ?" #withdrawable ")"

static const char *const statements[W_STATEMENTS] = {
    [W_BEGIN] = "BEGIN IMMEDIATE",
    [W_COMMIT] = "COMMIT",
    [W_ROLLBACK] = "ROLLBACK",
    [W_RELEASE_LEFT_OPEN] = "UPDATE holds SET state = 'released', reason = 'restart', ended_us = ? WHERE state = 'open'",
    [W_LAST_HOLD] = "SELECT coalesce(max(id), 0) FROM holds",
    [W_LAST_ENTRY] = "SELECT coalesce(max(id), 0) FROM ledger",
    [W_OPEN_HOLDS] = "SELECT id, request_id, account, amount FROM holds WHERE state = 'open'",

    [W_ACCOUNT_INSERT] = "INSERT INTO accounts (id, kind, name, role, fee_percent, is_owner, created_us)"
                         " VALUES (?, 'user', ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    [W_BALANCE_INSERT] = "INSERT INTO balances (account, may_go_below) VALUES (?, 0)",
    [W_ACCOUNT_READ] =
        "SELECT ref, may_go_below, balance, withdrawable FROM accounts JOIN balances ON account = ref WHERE id = ?",
    [W_ACCOUNT_FACTS] = "SELECT name, role, fee_percent FROM accounts WHERE ref = ?",
    [W_OWNER] = "SELECT ref FROM accounts WHERE is_owner = 1",
    [W_KEY_INSERT] = "INSERT INTO api_keys (hash, id, account, label, name, disabled, expires_us, created_us, limit_group,"
                     " scopes, spend_limit, limit_reset, rpm, itpm, otpm, allowed_models, self_route_only)"
                     " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    [W_KEY_DISABLE] = "UPDATE api_keys SET disabled = 1 WHERE id = ?",
    /* The bits are those of enum store_key_field. */
    [W_KEY_UPDATE] =
        "UPDATE api_keys SET name = iif(?2 & 1, ?3, name), disabled = iif(?2 & 2, ?4, disabled),"
        " spend_limit = iif(?2 & 4, ?5, spend_limit), limit_reset = iif(?2 & 8, ?6, limit_reset), rpm = iif(?2 & 16, ?7, rpm),"
        " itpm = iif(?2 & 32, ?8, itpm), otpm = iif(?2 & 64, ?9, otpm),"
        " allowed_models = iif(?2 & 128, ?10, allowed_models), self_route_only = iif(?2 & 256, ?11, self_route_only),"
        " expires_us = iif(?2 & 512, ?12, expires_us), scopes = iif(?2 & 1024, ?13, scopes) WHERE id = ?1",
    [W_KEY_ROTATE] = "UPDATE api_keys SET hash = ?2, id = ?3, label = ?4, created_us = ?5, last_used_us = 0 WHERE id = ?1",
    [W_KEY_DELETE] = "DELETE FROM api_keys WHERE id = ?",
    [W_KEY_TOUCH] = "UPDATE api_keys SET last_used_us = max(last_used_us, ?2) WHERE id = ?1",
    [W_SPEND_ADD] = "INSERT INTO key_spend (limit_group, day, spent) VALUES (?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET spent = spent + excluded.spent",
    [W_LEVELS_WRITE] =
        "INSERT INTO rate_levels (owner, at_us, requests, input, output, financial) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET at_us = excluded.at_us, requests = excluded.requests, input = excluded.input,"
        " output = excluded.output, financial = excluded.financial",
    [W_LEVELS_FORGET] = "DELETE FROM rate_levels WHERE owner = ?",
    [W_PROVIDER_TOKEN_INSERT] = "INSERT INTO provider_tokens (hash, account, label, created_us) VALUES (?, ?, ?, ?)"
                                " ON CONFLICT DO NOTHING",
    [W_PRICE_SET] =
        "INSERT INTO prices (account, model, input, output, updated_us) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET input = excluded.input, output = excluded.output, updated_us = excluded.updated_us",

    [W_TRANSFER_EXISTS] = "SELECT 1 FROM transfers WHERE key = ?",
    [W_TRANSFER_INSERT] = "INSERT INTO transfers (key, reference, created_us) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    [W_HOLD_INSERT] = "INSERT INTO holds (id, request_id, account, key_id, amount, price_in, price_out, state, reason, entry,"
                      " created_us, ended_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    [W_HOLD_EXISTS] = "SELECT 1 FROM holds WHERE request_id = ?",
    [W_HOLD_RAISE] = "UPDATE holds SET amount = ? WHERE id = ? AND state = 'open'",
    [W_HOLD_END] = "UPDATE holds SET state = ?, reason = ?, entry = ?, ended_us = ? WHERE id = ? AND state = 'open'",
    [W_ENTRIES_2] = ENTRIES_INSERT ENTRY_VALUES(0, 5, 6, 7, 8, 9) ", " ENTRY_VALUES(1, 10, 11, 12, 13, 14),
    [W_ENTRIES_3] = ENTRIES_INSERT ENTRY_VALUES(0, 5, 6, 7, 8, 9) ", " ENTRY_VALUES(1, 10, 11, 12, 13, 14) ", " ENTRY_VALUES(
        2, 15, 16, 17, 18, 19),
    [W_USAGE_INSERT] =
        "INSERT INTO usage (id, account, key_id, provider_account, provider_id, provider_key, model, public_model,"
        " prompt_tokens, completion_tokens, reasoning_tokens, price_in, price_out, cost, fee, outcome, created_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [W_EARNING_INSERT] = "INSERT INTO earnings (id, account, provider_id, provider_key, model, amount, prompt_tokens,"
                         " completion_tokens, created_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [W_BALANCE_WRITE] = "UPDATE balances SET balance = ?, withdrawable = ? WHERE account = ?",
    [W_EARNINGS_ADD] =
        "INSERT INTO earnings_summary VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs,"
        " amount = amount + excluded.amount, prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
        " completion_tokens = completion_tokens + excluded.completion_tokens",
    [W_TOTALS_ADD] = "UPDATE usage_totals SET requests = requests + ?, prompt_tokens = prompt_tokens + ?,"
                     " completion_tokens = completion_tokens + ?",
};

/* --- opening --- */

/* Two coordinators on one file would each trust their own memory of the balances. */
static enum db_err take_lock(struct sqlite_writer *writer, const char *path, struct error *error)
{
	char lock_path[4096];
	int len = snprintf(lock_path, sizeof lock_path, "%s.lock", path);
	if (len < 0 || (size_t)len >= sizeof lock_path)
		return error_set(error, DB_E_INVALID, "The path of the database is too long.");
	writer->lock_fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (writer->lock_fd < 0)
		return error_set(error, DB_E_IO,
		                 "%s cannot be made: %s. Check that the folder exists and belongs to the user the coordinator runs as.",
		                 lock_path, strerror(errno));
	if (flock(writer->lock_fd, LOCK_EX | LOCK_NB))
		return error_set(error, DB_E_EXISTS, "The database %s is in use by another coordinator. Stop that one first.", path);
	return DB_OK;
}

/* Balances and key hashes are nobody else's business. */
static enum db_err make_private_file(const char *path, struct error *error)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set(error, DB_E_IO, "The database %s cannot be opened for writing: %s. Check the file and its folder.",
		                 path, strerror(errno));
	close(fd);
	return DB_OK;
}

static enum db_err release_left_open(struct sqlite_writer *writer, struct error *error)
{
	struct sqlite_db *db = &writer->db;
	sqlite3_stmt *stmt = sqlite_use(db, W_RELEASE_LEFT_OPEN);
	sqlite_i64(stmt, 1, clock_wall_us());
	if (!sqlite_run(db, stmt)) {
		if (error)
			*error = db->why;
		return db->failed;
	}
	int released = sqlite3_changes(db->handle);
	if (released)
		log_warn("store.holds_released", "count=%d reason=restart", released);
	return DB_OK;
}

/* SQLite tells after each commit how long the write-ahead log is. */
static int note_log_pages(void *arg, sqlite3 *db, const char *schema, int pages)
{
	(void)db, (void)schema;
	((struct sqlite_writer *)arg)->log_pages = pages;
	return SQLITE_OK;
}

struct sqlite_writer *sqlite_writer_open(const char *path, struct error *error)
{
	struct sqlite_writer *writer = calloc(1, sizeof *writer);
	if (!writer) {
		error_set(error, DB_E_NOMEM, "There is no memory to open the database.");
		return NULL;
	}
	writer->lock_fd = -1;
	map_init(&writer->accounts);
	map_init(&writer->holds);
	map_init(&writer->spends);
	list_init(&writer->touched);
	list_init(&writer->unwritten);

	if (take_lock(writer, path, error) || make_private_file(path, error) ||
	    sqlite_db_open(&writer->db, path, SQLITE_DB_WRITE, error) ||
	    migrate(writer->db.handle, migrations, migrations_count, error))
		goto fail;
	sqlite_db_statements(&writer->db, statements, W_STATEMENTS);
	sqlite3_wal_hook(writer->db.handle, note_log_pages, writer);
	if (release_left_open(writer, error))
		goto fail;
	if (book_load(writer)) {
		if (error)
			*error = writer->db.why;
		goto fail;
	}
	return writer;

fail:
	sqlite_writer_close(writer);
	return NULL;
}

void sqlite_writer_close(struct sqlite_writer *writer)
{
	if (!writer)
		return;
	book_forget(writer);
	map_free(&writer->accounts);
	map_free(&writer->holds);
	map_free(&writer->spends);
	sqlite_db_close(&writer->db);
	if (writer->lock_fd >= 0)
		close(writer->lock_fd);
	free(writer);
}

/* --- transactions --- */

/* Everything but a broken constraint means that the file cannot be trusted to take more. */
static enum writer_result result(struct sqlite_writer *writer)
{
	struct sqlite_db *db = &writer->db;
	if (!db->failed)
		return WRITER_OK;
	if (db->failed != DB_E_INTERNAL && !writer->broken.code)
		writer->broken = db->why;
	return WRITER_SPOILED;
}

enum writer_result sqlite_writer_begin(struct sqlite_writer *writer)
{
	sqlite_db_clear(&writer->db);
	sqlite_run(&writer->db, sqlite_use(&writer->db, W_BEGIN));
	return result(writer);
}

enum writer_result sqlite_writer_apply(struct sqlite_writer *writer, struct store_op *op)
{
	switch (op->kind) {
	case OP_FLUSH:
		break;
	case OP_ACCOUNT_CREATE:
		apply_account_create(writer, (struct op_account_create *)op);
		break;
	case OP_ACCOUNT_GET:
		apply_account_get(writer, (struct op_account_find *)op);
		break;
	case OP_OWNER_CREATE:
		apply_owner_create(writer, (struct op_owner_create *)op);
		break;
	case OP_KEY_CREATE:
		apply_key_create(writer, (struct op_key_create *)op);
		break;
	case OP_KEY_DISABLE:
	case OP_KEY_UPDATE:
	case OP_KEY_ROTATE:
	case OP_KEY_DELETE:
		apply_key_change(writer, (struct op_key_change *)op);
		break;
	case OP_KEYS_TOUCH:
		apply_keys_touch(writer, (struct op_batch *)op);
		break;
	case OP_LEVELS_SAVE:
		apply_levels_save(writer, (struct op_batch *)op);
		break;
	case OP_PROVIDER_TOKEN_CREATE:
		apply_provider_token_create(writer, (struct op_provider_token_create *)op);
		break;
	case OP_TRANSFER:
		apply_transfer(writer, (struct op_transfer *)op);
		break;
	case OP_HOLD_CREATE:
		apply_hold_create(writer, (struct op_hold_create *)op);
		break;
	case OP_HOLD_RAISE:
		apply_hold_raise(writer, (struct op_hold_change *)op);
		break;
	case OP_HOLD_RELEASE:
		apply_hold_release(writer, (struct op_hold_change *)op);
		break;
	case OP_SETTLE:
		apply_settle(writer, (struct op_settle *)op);
		break;
	case OP_PRICE_SET:
		apply_price_set(writer, (struct op_price_set *)op);
		break;
	case OP_LOGIN_WRITE:
		((struct op_login *)op)->run(&writer->db, (struct op_login *)op);
		break;
	default:
		op_fail(op, DB_E_UNSUPPORTED, "The writer does not know the operation %s.", op_name(op->kind));
	}
	if (result(writer) == WRITER_OK)
		return WRITER_OK;
	op_fail_with(op, &writer->db.why);
	return WRITER_SPOILED;
}

enum writer_result sqlite_writer_commit(struct sqlite_writer *writer)
{
	book_flush(writer);
	sqlite_run(&writer->db, sqlite_use(&writer->db, W_COMMIT));
	return result(writer);
}

void sqlite_writer_rollback(struct sqlite_writer *writer)
{
	struct sqlite_db *db = &writer->db;
	struct error why = db->why;

	book_forget(writer);
	sqlite_db_clear(db);
	if (!sqlite3_get_autocommit(db->handle))
		sqlite_run(db, sqlite_use(db, W_ROLLBACK));
	if (!writer->broken.code && !db->failed)
		book_load(writer);
	result(writer);
	db->why = why;
}

const struct error *sqlite_writer_broken(const struct sqlite_writer *writer)
{
	return writer->broken.code ? &writer->broken : NULL;
}

const struct error *sqlite_writer_error(const struct sqlite_writer *writer)
{
	return &writer->db.why;
}

/* --- the write-ahead log --- */

int sqlite_writer_log_pages(const struct sqlite_writer *writer)
{
	return writer->broken.code ? 0 : writer->log_pages;
}

void sqlite_writer_finish_log(struct sqlite_writer *writer)
{
	int all = 0, moved = 0;
	if (writer->broken.code)
		return;
	/* Busy is no failure: a reader is in the middle of the log, and there will be a next time. */
	int rc = sqlite3_wal_checkpoint_v2(writer->db.handle, "main", SQLITE_CHECKPOINT_PASSIVE, &all, &moved);
	if (rc == SQLITE_OK)
		writer->log_pages = all - moved;
	else if ((rc & 0xff) != SQLITE_BUSY)
		sqlite_error(writer->db.handle, &writer->broken);
}

struct sqlite_mover {
	struct sqlite_db db;
};

struct sqlite_mover *sqlite_mover_open(const char *path, struct error *error)
{
	struct sqlite_mover *mover = calloc(1, sizeof *mover);
	if (!mover) {
		error_set(error, DB_E_NOMEM, "There is no memory to open the database.");
		return NULL;
	}
	if (sqlite_db_open(&mover->db, path, SQLITE_DB_WRITE, error)) {
		free(mover);
		return NULL;
	}
	return mover;
}

void sqlite_mover_close(struct sqlite_mover *mover)
{
	if (!mover)
		return;
	sqlite_db_close(&mover->db);
	free(mover);
}

void sqlite_mover_move(struct sqlite_mover *mover)
{
	/* A failure is the writer's to find: it does the rest of the same work. */
	sqlite3_wal_checkpoint_v2(mover->db.handle, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}
