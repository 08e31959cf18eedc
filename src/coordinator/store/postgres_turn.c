#include "coordinator/store/postgres_turn.h"

#include "core/log.h"

#define NOW "(extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT"

static struct sql *db_of(const struct turn *turn)
{
	return turn->book->db;
}

/* --- who is here --- */

/* Under the lock. What ended coordinators promised is promised no longer. */
static void release_of_ended(struct turn *turn)
{
	struct sql *db = db_of(turn);
	struct sql_stmt *stmt =
	    sql_say(db, "UPDATE holds SET state = 'released', ended_us = " NOW ","
	                " reason = CASE WHEN (SELECT lost FROM instances WHERE instances.id = holds.instance) = 1"
	                " THEN 'instance_lost' ELSE 'restart' END WHERE state = 'open'"
	                " AND instance NOT IN (SELECT id FROM instances WHERE ended_us IS NULL)");
	bool released = sql_run(stmt) && sql_changes(db) > 0;
	if (released) {
		log_warn("store.holds_released", "count=%lld", (long long)sql_changes(db));
		book_forget(turn->book);
	}
	stmt = sql_say(db, "DELETE FROM key_holds WHERE instance NOT IN (SELECT id FROM instances WHERE ended_us IS NULL)");
	sql_run(stmt);
	stmt = sql_say(db, "DELETE FROM leases WHERE instance NOT IN (SELECT id FROM instances WHERE ended_us IS NULL)");
	if (sql_run(stmt) && sql_changes(db) > 0)
		book_forget(turn->book);
}

static void end_lost(struct turn *turn)
{
	struct sql_stmt *stmt = sql_say(db_of(turn), "UPDATE instances SET ended_us = " NOW ", lost = 1 WHERE ended_us IS NULL"
	                                             " AND seen_us < " NOW " - patience_us AND id <> ?");
	sql_put_i64(stmt, 1, turn->book->instance);
	if (sql_run(stmt) && sql_changes(db_of(turn)) > 0)
		log_warn("store.coordinators_lost", "count=%lld", (long long)sql_changes(db_of(turn)));
}

/* Under the lock. */
static void enter(struct turn *turn)
{
	struct sql *db = db_of(turn);
	if (turn->name[0]) {
		struct sql_stmt *stmt = sql_say(db, "UPDATE instances SET ended_us = " NOW " WHERE name = ? AND ended_us IS NULL");
		sql_put_text(stmt, 1, turn->name);
		sql_run(stmt);
	}
	struct sql_stmt *stmt = sql_say(db, "INSERT INTO instances (name, started_us, seen_us, patience_us)"
	                                    " VALUES (?, " NOW ", " NOW ", ?) RETURNING id");
	sql_put_text(stmt, 1, turn->name);
	sql_put_i64(stmt, 2, turn->patience_us);
	turn->book->instance = sql_number(stmt);
	turn->group = 0;
	turn->ended = false;
}

static void end_ourselves(struct turn *turn)
{
	struct sql_stmt *stmt = sql_say(db_of(turn), "UPDATE instances SET ended_us = " NOW " WHERE id = ? AND ended_us IS NULL");
	sql_put_i64(stmt, 1, turn->book->instance);
	sql_run(stmt);
	stmt = sql_say(db_of(turn), "DELETE FROM leases WHERE instance = ?");
	sql_put_i64(stmt, 1, turn->book->instance);
	sql_run(stmt);
}

/* --- the lock --- */

/* BEGIN, and the row of `turn`. */
static bool lock(struct turn *turn)
{
	struct sql *db = db_of(turn);
	struct book *book = turn->book;
	bool is_here = false;
	sql_clear(db);
	sql_post(sql_say(db, "BEGIN"));
	struct sql_stmt *stmt =
	    sql_say(db, "SELECT t.number, t.last_hold, t.last_entry, i.id,"
	                " (SELECT count(*) FROM instances WHERE ended_us IS NULL) FROM turn t"
	                " LEFT JOIN instances i ON i.id = ? AND i.ended_us IS NULL WHERE t.id = 1 FOR UPDATE OF t");
	sql_put_i64(stmt, 1, book->instance);
	if (sql_row(stmt)) {
		if (sql_i64(stmt, 0) != turn->number)
			book_forget(book);
		turn->number = sql_i64(stmt, 0);
		book->last_hold = sql_i64(stmt, 1);
		book->last_entry = sql_i64(stmt, 2);
		is_here = !sql_is_null(stmt, 3);
		book->alone = sql_i64(stmt, 4) <= 1;
		sql_done(stmt);
	} else {
		sql_fail(db, DB_E_IO, "The table `turn` is empty: this database was altered by hand. Restore it from a backup.");
	}
	turn->ended = book->instance && !is_here;
	return !db->failed;
}

static bool finish(struct turn *turn)
{
	struct sql *db = db_of(turn);
	struct book *book = turn->book;
	struct sql_stmt *stmt = sql_say(db, "UPDATE turn SET number = ?, last_hold = ?, last_entry = ? WHERE id = 1");
	sql_put_i64(stmt, 1, turn->number + 1);
	sql_put_i64(stmt, 2, book->last_hold);
	sql_put_i64(stmt, 3, book->last_entry);
	sql_post(stmt);
	stmt = sql_say(db, "UPDATE instances SET seen_us = " NOW ", last_group = ? WHERE id = ?");
	sql_put_i64(stmt, 1, turn->group);
	sql_put_i64(stmt, 2, book->instance);
	sql_post(stmt);
	bool sent = !db->failed;
	sql_run(sql_say(db, "COMMIT"));
	turn->uncertain = sent && db->failed == DB_E_AGAIN;
	if (!db->failed)
		turn->number++;
	return !db->failed;
}

bool turn_begin(struct turn *turn)
{
	if (!lock(turn))
		return false;
	turn->group++;
	return !turn->ended;
}

bool turn_commit(struct turn *turn)
{
	book_flush(turn->book);
	book_forget_ended(turn->book);
	return finish(turn);
}

void turn_rollback(struct turn *turn)
{
	struct sql *db = db_of(turn);
	book_forget(turn->book);
	turn->number = -1;
	sql_rollback(db);
}

void turn_register(struct turn *turn)
{
	turn->number = -1;
	turn->book->instance = 0;
	if (lock(turn)) {
		enter(turn);
		end_lost(turn);
		release_of_ended(turn);
	}
	if (db_of(turn)->failed || !finish(turn))
		turn_rollback(turn);
	turn->uncertain = false;
}

bool turn_resolve(struct turn *turn, bool *committed)
{
	struct sql *db = db_of(turn);
	*committed = false;
	/* The lost connection's transaction may still be at work: the lock is ours when it is over. */
	if (lock(turn)) {
		struct sql_stmt *stmt = sql_say(db, "SELECT last_group FROM instances WHERE id = ?");
		sql_put_i64(stmt, 1, turn->book->instance);
		*committed = sql_number(stmt) == turn->group;
	}
	bool known = !db->failed;
	struct error why = db->why;
	enum db_err failed = db->failed;
	turn_rollback(turn);
	if (known) {
		turn->uncertain = false;
	} else {
		db->failed = failed;
		db->why = why;
	}
	return known;
}

bool turn_sweep(struct turn *turn)
{
	if (lock(turn) && !turn->ended) {
		end_lost(turn);
		release_of_ended(turn);
	}
	bool done = !db_of(turn)->failed && !turn->ended && finish(turn);
	if (!done)
		turn_rollback(turn);
	turn->uncertain = false; /* of a sweep it does not matter: the next one does the same */
	return done;
}

void turn_leave(struct turn *turn)
{
	if (lock(turn))
		end_ourselves(turn);
	if (db_of(turn)->failed || !finish(turn))
		turn_rollback(turn);
}
