#include "coordinator/store/postgres_db.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/store/postgres_text.h"
#include "coordinator/store/sql_backend.h"

#define PARAMS_MAX     32
#define PIPELINE_MAX   256 /* posted statements before their answers are read */
#define STATEMENT_MAX  (1u << 16)
#define TEXT_VALUE_MAX (64u << 20)
#define OID_BIGINT     20

struct postgres_db {
	struct sql sql;
	PGconn *conn;
	char *address;
	enum sql_mode mode;
	int limit_ms;
	unsigned connection; /* counts reconnections: statements of an earlier one are not prepared */
	unsigned names;
	int posted;   /* in the pipeline, unanswered */
	int prepares; /* of these, not to be relied on until they are answered */
};

struct postgres_stmt {
	struct sql_stmt head;
	char name[16];
	struct buf text;
	int params;
	unsigned connection;
	const char *values[PARAMS_MAX];
	int lengths[PARAMS_MAX], formats[PARAMS_MAX];
	Oid types[PARAMS_MAX]; /* what the server would guess from `?7 + 1` is too small */
	char numbers[PARAMS_MAX][32];
	struct buf cleaned[PARAMS_MAX]; /* texts that PostgreSQL would refuse */
	bool running, streamed;
	PGresult *result;
	int row;
	struct buf bytes; /* of a blob column */
};

static struct postgres_db *db_of(struct sql_stmt *stmt)
{
	return (struct postgres_db *)stmt->db;
}

static struct postgres_stmt *inner(struct sql_stmt *stmt)
{
	return (struct postgres_stmt *)stmt;
}

/* --- errors --- */

/* What a SQLSTATE means for the store. */
static enum db_err meaning(const PGconn *conn, const char *state)
{
	static const struct {
		const char *prefix;
		enum db_err code;
	} meanings[] = {
	    {"40", DB_E_AGAIN},        /* serialisation, dead lock */
	    {"08", DB_E_AGAIN},        /* connection */
	    {"57", DB_E_AGAIN},        /* shut down, starting up, cancelled by the statement's limit */
	    {"53", DB_E_AGAIN},        /* disk full, out of memory, too many connections */
	    {"55P03", DB_E_AGAIN},     /* a lock was not to be had */
	    {"25006", DB_E_AGAIN},     /* read-only: a standby, until it is promoted */
	    {"25P03", DB_E_AGAIN},     /* idle in a transaction for too long */
	    {"28", DB_E_DENIED},       /* authorisation */
	    {"3D000", DB_E_NOT_FOUND}, /* no such database */
	    {"XX001", DB_E_IO},        /* damaged data */
	    {"XX002", DB_E_IO},        /* damaged index */
	    {"58", DB_E_IO},           /* the disk */
	};
	if (PQstatus(conn) == CONNECTION_BAD)
		return DB_E_AGAIN;
	for (size_t i = 0; state && i < sizeof meanings / sizeof *meanings; i++)
		if (str_starts(str_of(state), str_of(meanings[i].prefix)))
			return meanings[i].code;
	return DB_E_INTERNAL;
}

static void trim(const char *text, char out[300])
{
	(void)str_copy(str_trim(str_sub(str_of(text), 0, 299)), out, 300);
	for (char *c = out; *c; c++)
		if (*c == '\n' || *c == '"')
			*c = *c == '\n' ? ' ' : '\'';
}

static void note(struct sql *db, enum db_err code, const char *message)
{
	char text[300];
	if (db->failed)
		return;
	trim(message, text);
	switch (code) {
	case DB_E_AGAIN:
		db->failed = error_set(&db->why, code, "PostgreSQL cannot do this now (%s).", text);
		break;
	case DB_E_IO:
		db->failed =
		    error_set(&db->why, code, "PostgreSQL's files are damaged or its disk fails (%s). Restore it from a backup.", text);
		break;
	case DB_E_DENIED:
		db->failed = error_set(&db->why, code, "PostgreSQL does not let the coordinator in (%s). Check [store] url.", text);
		break;
	case DB_E_NOT_FOUND:
		db->failed = error_set(&db->why, code, "The database does not exist (%s). Create it, or check [store] url.", text);
		break;
	default:
		db->failed = error_set(&db->why, code, "PostgreSQL refused a statement: %s.", text);
	}
}

static void fail_connection(struct postgres_db *db)
{
	note(&db->sql, meaning(db->conn, NULL), PQerrorMessage(db->conn));
}

static void fail_result(struct postgres_db *db, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	note(&db->sql, meaning(db->conn, state), PQresultErrorMessage(result));
}

static bool is_good(const PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_SINGLE_TUPLE;
}

/* --- sending --- */

static void no_memory(struct sql *db)
{
	sql_fail(db, DB_E_IO, "The database ran out of memory.");
}

/* A statement is prepared under a new name each time: the server may know it under the old one from before a failure. */
static void name(struct postgres_db *db, struct postgres_stmt *stmt)
{
	snprintf(stmt->name, sizeof stmt->name, "s%u", ++db->names);
	stmt->connection = db->connection;
}

static bool send(struct postgres_db *db, struct postgres_stmt *stmt)
{
	if (stmt->connection != db->connection) {
		name(db, stmt);
		db->prepares++;
		if (!PQsendPrepare(db->conn, stmt->name, stmt->text.at, stmt->params, stmt->types))
			return false;
	}
	return PQsendQueryPrepared(db->conn, stmt->name, stmt->params, stmt->values, stmt->lengths, stmt->formats, 0) == 1;
}

static bool begin_pipeline(struct postgres_db *db)
{
	if (PQpipelineStatus(db->conn) == PQ_PIPELINE_ON || PQenterPipelineMode(db->conn))
		return true;
	fail_connection(db);
	return false;
}

/* Reads the answers up to the mark. The last one with rows or a count is kept: it is the statement's that is waited for. */
static PGresult *end_pipeline(struct postgres_db *db)
{
	PGresult *last = NULL;
	int silent = 0;
	if (!PQpipelineSync(db->conn))
		fail_connection(db);
	while (silent < 2 && PQstatus(db->conn) == CONNECTION_OK) {
		PGresult *result = PQgetResult(db->conn);
		if (!result) {
			silent++;
			continue;
		}
		silent = 0;
		if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
			PQclear(result);
			break;
		}
		if (!is_good(result) && PQresultStatus(result) != PGRES_PIPELINE_ABORTED)
			fail_result(db, result);
		PQclear(last);
		last = result;
	}
	if (PQstatus(db->conn) != CONNECTION_OK)
		fail_connection(db);
	else
		(void)PQexitPipelineMode(db->conn);
	int prepares = db->prepares;
	db->posted = db->prepares = 0;
	if (!db->sql.failed)
		return last;
	if (prepares)
		db->connection++; /* which of them were prepared before the failure is not known */
	PQclear(last);
	return NULL;
}

static void wait_for_posted(struct postgres_db *db)
{
	if (db->posted)
		PQclear(end_pipeline(db));
}

static void post(struct sql_stmt *head)
{
	struct postgres_db *db = db_of(head);
	if (db->posted >= PIPELINE_MAX)
		wait_for_posted(db);
	if (db->sql.failed || !begin_pipeline(db))
		return;
	db->posted++;
	if (!send(db, inner(head)))
		fail_connection(db);
}

/* --- rows --- */

static void forget_result(struct postgres_stmt *stmt)
{
	PQclear(stmt->result);
	stmt->result = NULL;
}

/* The result that is next on the wire when rows come one by one. */
static PGresult *next_result(struct postgres_db *db)
{
	PGresult *result = PQgetResult(db->conn);
	if (!result && PQstatus(db->conn) != CONNECTION_OK)
		fail_connection(db);
	if (result && !is_good(result)) {
		fail_result(db, result);
		PQclear(result);
		while ((result = PQgetResult(db->conn)))
			PQclear(result);
	}
	return db->sql.failed ? NULL : result;
}

static void drain(struct postgres_db *db)
{
	PGresult *result;
	while ((result = PQgetResult(db->conn)))
		PQclear(result);
}

static PGresult *ask_alone(struct postgres_db *db, struct postgres_stmt *stmt)
{
	if (stmt->connection != db->connection) {
		name(db, stmt);
		PGresult *prepared = PQprepare(db->conn, stmt->name, stmt->text.at, stmt->params, stmt->types);
		bool good = is_good(prepared);
		if (!good)
			fail_result(db, prepared);
		PQclear(prepared);
		if (!good) {
			stmt->connection = 0;
			return NULL;
		}
	}
	if (!PQsendQueryPrepared(db->conn, stmt->name, stmt->params, stmt->values, stmt->lengths, stmt->formats, 0)) {
		fail_connection(db);
		return NULL;
	}
	if (stmt->streamed)
		(void)PQsetSingleRowMode(db->conn);
	PGresult *result = next_result(db);
	if (!stmt->streamed && result)
		drain(db);
	return result;
}

static void begin(struct postgres_db *db, struct postgres_stmt *stmt)
{
	stmt->running = true;
	stmt->row = -1;
	forget_result(stmt);
	if (!db->posted) {
		stmt->result = ask_alone(db, stmt);
	} else if (send(db, stmt)) {
		stmt->result = end_pipeline(db);
	} else {
		fail_connection(db);
	}
}

static void finish(struct postgres_db *db, struct postgres_stmt *stmt)
{
	if (stmt->streamed && stmt->running)
		drain(db);
	stmt->running = false;
	forget_result(stmt);
}

static bool row(struct sql_stmt *head)
{
	struct postgres_db *db = db_of(head);
	struct postgres_stmt *stmt = inner(head);
	if (!stmt->running)
		begin(db, stmt);
	else if (stmt->streamed && PQresultStatus(stmt->result) == PGRES_SINGLE_TUPLE) {
		forget_result(stmt);
		stmt->result = next_result(db);
		stmt->row = -1;
	}
	if (stmt->result && ++stmt->row < PQntuples(stmt->result))
		return true;
	if (stmt->result) {
		const char *count = PQcmdTuples(stmt->result);
		db->sql.changes = *count ? strtoll(count, NULL, 10) : 0;
	}
	finish(db, stmt);
	return false;
}

static void done(struct sql_stmt *head)
{
	finish(db_of(head), inner(head));
}

/* --- parameters --- */

static void put_value(struct postgres_stmt *stmt, int at, const char *value, size_t len, bool is_binary)
{
	stmt->values[at - 1] = value;
	stmt->lengths[at - 1] = (int)len;
	stmt->formats[at - 1] = is_binary;
}

static bool is_param(struct postgres_stmt *stmt, int at)
{
	return at >= 1 && at <= stmt->params;
}

static void put_i64(struct sql_stmt *head, int at, int64_t value)
{
	struct postgres_stmt *stmt = inner(head);
	if (!is_param(stmt, at))
		return;
	int len = snprintf(stmt->numbers[at - 1], sizeof stmt->numbers[0], "%lld", (long long)value);
	stmt->types[at - 1] = OID_BIGINT;
	put_value(stmt, at, stmt->numbers[at - 1], (size_t)len, false);
}

static void put_double(struct sql_stmt *head, int at, double value)
{
	struct postgres_stmt *stmt = inner(head);
	if (!is_param(stmt, at))
		return;
	int len = snprintf(stmt->numbers[at - 1], sizeof stmt->numbers[0], "%.17g", value);
	put_value(stmt, at, stmt->numbers[at - 1], (size_t)len, false);
}

static void put_null(struct sql_stmt *head, int at)
{
	if (is_param(inner(head), at))
		put_value(inner(head), at, NULL, 0, false);
}

static void put_bytes(struct sql_stmt *head, int at, struct str bytes, enum sql_bytes kind)
{
	struct postgres_stmt *stmt = inner(head);
	if (!is_param(stmt, at))
		return;
	if (kind == SQL_BLOB) {
		put_value(stmt, at, bytes.len ? bytes.at : "", bytes.len, true);
		return;
	}
	struct buf *copy = &stmt->cleaned[at - 1];
	buf_clear(copy);
	if (bytes.len == 0) {
		put_value(stmt, at, "", 0, false);
	} else if (kind == SQL_TEXT && postgres_takes(bytes)) {
		put_value(stmt, at, bytes.at, bytes.len, false);
	} else if (postgres_clean(bytes, copy)) {
		no_memory(head->db);
	} else {
		put_value(stmt, at, copy->at, copy->len - 1, false);
	}
}

/* --- columns --- */

static const char *cell(struct sql_stmt *head, int column)
{
	struct postgres_stmt *stmt = inner(head);
	return stmt->result ? PQgetvalue(stmt->result, stmt->row, column) : "";
}

static int64_t column_i64(struct sql_stmt *head, int column)
{
	const char *text = cell(head, column);
	return text[0] == 't' ? 1 : strtoll(text, NULL, 10); /* a boolean is t or f */
}

static double column_double(struct sql_stmt *head, int column)
{
	return strtod(cell(head, column), NULL);
}

static bool column_is_null(struct sql_stmt *head, int column)
{
	struct postgres_stmt *stmt = inner(head);
	return !stmt->result || PQgetisnull(stmt->result, stmt->row, column);
}

static struct str column_bytes(struct sql_stmt *head, int column, bool is_blob)
{
	struct postgres_stmt *stmt = inner(head);
	struct str text = {cell(head, column), 0};
	if (stmt->result)
		text.len = (size_t)PQgetlength(stmt->result, stmt->row, column);
	if (!is_blob)
		return text;
	size_t len = 0;
	unsigned char *bytes = PQunescapeBytea((const unsigned char *)text.at, &len);
	buf_clear(&stmt->bytes);
	if (!bytes || buf_append(&stmt->bytes, bytes, len))
		no_memory(head->db);
	PQfreemem(bytes);
	return buf_str(&stmt->bytes);
}

/* --- statements --- */

static void finalize(struct sql_stmt *head)
{
	struct postgres_stmt *stmt = inner(head);
	forget_result(stmt);
	for (int i = 0; i < PARAMS_MAX; i++)
		buf_free(&stmt->cleaned[i]);
	buf_free(&stmt->text);
	buf_free(&stmt->bytes);
	free(stmt);
}

static struct sql_stmt *prepare(struct sql *sql, const char *text)
{
	struct postgres_stmt *stmt = calloc(1, sizeof *stmt);
	if (!stmt) {
		no_memory(sql);
		return NULL;
	}
	stmt->head = (struct sql_stmt){sql, text};
	buf_init(&stmt->text, STATEMENT_MAX);
	buf_init(&stmt->bytes, TEXT_VALUE_MAX);
	for (int i = 0; i < PARAMS_MAX; i++)
		buf_init(&stmt->cleaned[i], TEXT_VALUE_MAX);
	if (postgres_parameters(text, &stmt->text, &stmt->params) || stmt->params > PARAMS_MAX) {
		sql_fail(sql, DB_E_INTERNAL, "A statement is too long or has too many parameters.");
		finalize(&stmt->head);
		return NULL;
	}
	return &stmt->head;
}

static void stream(struct sql_stmt *head)
{
	inner(head)->streamed = true;
}

static void exec(struct sql *sql, const char *text)
{
	struct postgres_db *db = (struct postgres_db *)sql;
	wait_for_posted(db);
	if (sql->failed)
		return;
	PGresult *result = PQexec(db->conn, text);
	if (!result)
		fail_connection(db);
	else if (!is_good(result) && PQresultStatus(result) != PGRES_EMPTY_QUERY)
		fail_result(db, result);
	PQclear(result);
}

static void rollback(struct sql *sql)
{
	struct postgres_db *db = (struct postgres_db *)sql;
	if (db->posted)
		PQclear(end_pipeline(db));
	if (PQstatus(db->conn) == CONNECTION_OK && PQtransactionStatus(db->conn) != PQTRANS_IDLE)
		PQclear(PQexec(db->conn, "ROLLBACK"));
}

static void close_db(struct sql *sql)
{
	struct postgres_db *db = (struct postgres_db *)sql;
	PQfinish(db->conn);
	free(db->address);
	free(db);
}

static const struct sql_backend postgres_backend = {
    .prepare = prepare,
    .finalize = finalize,
    .put_i64 = put_i64,
    .put_double = put_double,
    .put_null = put_null,
    .put_bytes = put_bytes,
    .row = row,
    .post = post,
    .done = done,
    .stream = stream,
    .i64 = column_i64,
    .real = column_double,
    .is_null = column_is_null,
    .bytes = column_bytes,
    .exec = exec,
    .rollback = rollback,
    .close = close_db,
};

/* --- copies --- */

static bool begin_copy(struct postgres_db *db, const char *statement, ExecStatusType wanted)
{
	wait_for_posted(db);
	if (db->sql.failed)
		return false;
	PGresult *result = PQexec(db->conn, statement);
	bool begun = PQresultStatus(result) == wanted;
	if (!begun)
		fail_result(db, result);
	PQclear(result);
	return begun;
}

static bool end_copy(struct postgres_db *db)
{
	PGresult *result;
	while ((result = PQgetResult(db->conn))) {
		if (!is_good(result))
			fail_result(db, result);
		PQclear(result);
	}
	return !db->sql.failed;
}

bool postgres_copy_out(struct sql *sql, const char *statement, FILE *file)
{
	struct postgres_db *db = (struct postgres_db *)sql;
	char *line;
	int len;
	if (!begin_copy(db, statement, PGRES_COPY_OUT))
		return false;
	while ((len = PQgetCopyData(db->conn, &line, 0)) > 0) {
		if (fwrite(line, 1, (size_t)len, file) != (size_t)len)
			sql_fail(sql, DB_E_IO, "The copy cannot be written: is its disk full?");
		PQfreemem(line);
	}
	if (len == -2)
		fail_connection(db);
	return end_copy(db);
}

bool postgres_copy_in(struct sql *sql, const char *statement, FILE *file)
{
	struct postgres_db *db = (struct postgres_db *)sql;
	char part[65536];
	size_t len;
	if (!begin_copy(db, statement, PGRES_COPY_IN))
		return false;
	while (!sql->failed && (len = fread(part, 1, sizeof part, file)) > 0)
		if (PQputCopyData(db->conn, part, (int)len) != 1)
			fail_connection(db);
	if (PQputCopyEnd(db->conn, ferror(file) ? "the file cannot be read" : NULL) != 1)
		fail_connection(db);
	return end_copy(db);
}

/* --- connections --- */

static void say_nothing(void *arg, const PGresult *result)
{
	(void)arg, (void)result; /* notices, as of a table that exists already */
}

static void set_up(struct postgres_db *db)
{
	char settings[400];
	snprintf(settings, sizeof settings,
	         "SET client_min_messages = warning; SET synchronous_commit = on; SET timezone = 'UTC';"
	         "SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = %s;"
	         "SET statement_timeout = %d; SET lock_timeout = %d; SET idle_in_transaction_session_timeout = 10000",
	         db->mode == SQL_READ ? "on" : "off", db->limit_ms, db->limit_ms);
	exec(&db->sql, settings);
	/* A plan that was made while a table was small is kept as the table grows, until the server next looks at it: for a minute
	 * of full load. What the writer asks for in large tables has an index; readers ask rarely, and have it planned each time.
	 */
	exec(&db->sql, db->mode == SQL_READ
	                   ? "SET plan_cache_mode = force_custom_plan"
	                   : "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_mergejoin = off; SET jit = off");
}

static void connect_now(struct postgres_db *db)
{
	/* What the address says comes last and wins. */
	static const char *const keys[] = {"application_name",    "connect_timeout",  "keepalives_idle",
	                                   "keepalives_interval", "keepalives_count", "tcp_user_timeout",
	                                   "client_encoding",     "dbname",           NULL};
	const char *const values[] = {"darkbloom-coordinator", "5", "10", "5", "3", "15000", "UTF8", db->address, NULL};
	sql_clear(&db->sql);
	db->connection++;
	db->posted = db->prepares = 0;
	db->conn = PQconnectdbParams(keys, values, 1);
	if (!db->conn) {
		no_memory(&db->sql);
		return;
	}
	PQsetNoticeReceiver(db->conn, say_nothing, NULL);
	if (PQstatus(db->conn) != CONNECTION_OK) {
		const char *text = PQerrorMessage(db->conn);
		bool refused = strstr(text, "authentication failed") || strstr(text, "no pg_hba.conf entry") ||
		               (strstr(text, "role \"") && strstr(text, "does not exist"));
		bool unknown = strstr(text, "database \"") && strstr(text, "does not exist");
		note(&db->sql, refused ? DB_E_DENIED : unknown ? DB_E_NOT_FOUND : DB_E_AGAIN, text);
	} else if (PQserverVersion(db->conn) < POSTGRES_VERSION_MIN) {
		sql_fail(&db->sql, DB_E_UNSUPPORTED, "This PostgreSQL is too old: version 15 or newer is needed.");
	} else {
		set_up(db);
	}
}

bool postgres_db_connected(struct sql *sql)
{
	return PQstatus(((struct postgres_db *)sql)->conn) == CONNECTION_OK;
}

bool postgres_db_reconnect(struct sql *sql)
{
	struct postgres_db *db = (struct postgres_db *)sql;
	PQfinish(db->conn);
	connect_now(db);
	return !sql->failed;
}

void postgres_db_statement_limit(struct sql *sql, int ms)
{
	struct postgres_db *db = (struct postgres_db *)sql;
	char text[80];
	db->limit_ms = ms;
	snprintf(text, sizeof text, "SET statement_timeout = %d; SET lock_timeout = %d", ms, ms);
	exec(sql, text);
}

struct sql *postgres_db_open(const char *address, enum sql_mode mode, struct error *error)
{
	struct postgres_db *db = calloc(1, sizeof *db);
	if (!db || !(db->address = strdup(address))) {
		free(db);
		error_set(error, DB_E_NOMEM, "There is no memory to open the database.");
		return NULL;
	}
	db->sql.backend = &postgres_backend;
	db->sql.kind = SQL_POSTGRES;
	db->mode = mode;
	db->limit_ms = 10000;
	connect_now(db);
	if (!db->sql.failed)
		return &db->sql;
	if (error)
		*error = db->sql.why;
	sql_close(&db->sql);
	return NULL;
}
