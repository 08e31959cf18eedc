#include "coordinator/store/trail.h"

#include <stdarg.h>
#include <stdio.h>

#include "coordinator/store/migrate.h"
#include "coordinator/store/op_login.h"
#include "coordinator/store/op_task.h"
#include "coordinator/store/store_internal.h"
#include "core/clock.h"
#include "core/encode.h"
#include "crypto/hash.h"

#define ROW_HEAD    "darkbloom-audit-v1\n"
#define DETAILS_MAX 4096

void trail_subject(struct trail_note *note, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(note->subject, sizeof note->subject, format, args);
	va_end(args);
}

void trail_text(struct trail_note *note, const char *name, const char *value)
{
	if (value[0])
		json_put_cstr(&note->writer, name, value);
}

void trail_number(struct trail_note *note, const char *name, int64_t value)
{
	json_put_i64(&note->writer, name, value);
}

/* --- what an operation is called --- */

static void describe_key(struct trail_note *note, const char *action, const struct store_key *key)
{
	note->action = action;
	note->account_id = key->account_id;
	trail_subject(note, "%s", key->id);
	trail_text(note, "account", key->account_id);
	trail_text(note, "label", key->label);
	trail_text(note, "name", key->name);
	if (key->limited)
		trail_number(note, "limit_micro_usd", key->limit_uusd);
	trail_number(note, "scopes", key->scopes);
}

static void describe_key_change(struct trail_note *note, const struct op_key_change *change)
{
	static const char *const actions[] = {[OP_KEY_DISABLE] = "key.disable",
	                                      [OP_KEY_UPDATE] = "key.update",
	                                      [OP_KEY_ROTATE] = "key.rotate",
	                                      [OP_KEY_DELETE] = "key.delete"};
	note->action = actions[change->op.kind];
	trail_subject(note, "%s", change->key_id);
	if (change->op.kind == OP_KEY_ROTATE) {
		trail_text(note, "new_id", change->key.id);
		trail_text(note, "label", change->key.label);
	}
	if (change->op.kind != OP_KEY_UPDATE)
		return;
	trail_number(note, "fields", change->fields);
	if ((change->fields & STORE_KEY_LIMIT) && change->key.limited)
		trail_number(note, "limit_micro_usd", change->key.limit_uusd);
	if (change->fields & STORE_KEY_SCOPES)
		trail_number(note, "scopes", change->key.scopes);
	if (change->fields & STORE_KEY_DISABLED)
		trail_number(note, "disabled", change->key.disabled);
}

static void describe_transfer(struct trail_note *note, const struct op_transfer *op)
{
	const struct store_transfer *transfer = &op->transfer;
	if (!op->applied)
		return;
	note->action = "money.transfer";
	trail_subject(note, "%s", transfer->to);
	trail_text(note, "type", transfer->type);
	trail_text(note, "from", transfer->from);
	trail_number(note, "amount_micro_usd", transfer->amount_uusd);
	trail_text(note, "key", transfer->key);
	trail_text(note, "reference", transfer->reference);
}

static void describe_login(struct trail_note *note, const struct op_login *op)
{
	static const struct {
		void (*run)(struct sql *db, struct op_login *op);
		const char *action;
	} actions[] = {{login_signup, "account.signup"},           {login_identity, "account.identity"},
	               {login_password_change, "password.change"}, {login_invitation, "invitation.create"},
	               {login_session_create, "session.create"},   {login_session_end, "session.end"},
	               {login_session_revoke, "session.revoke"},   {login_token_revoke, "provider_token.revoke"}};
	for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
		if (op->run == actions[i].run)
			note->action = actions[i].action;
	if (op->run == login_session_create) {
		note->account_id = op->session.account_id;
		trail_subject(note, "%s", op->session.account_id);
		trail_text(note, "session", op->session.id);
		trail_text(note, "method", op->session.method);
	} else if (op->run == login_session_revoke) {
		note->account_id = op->key;
		trail_subject(note, "%s", op->key);
		trail_text(note, "session", op->other);
	} else if (op->run == login_password_change) {
		note->account_id = op->key;
		trail_subject(note, "%s", op->key);
	} else if (op->found) {
		note->account_id = op->person.account_id;
		trail_subject(note, "%s", op->person.account_id);
	}
}

static void describe(const struct store_op *op, struct trail_note *note)
{
	switch (op->kind) {
	case OP_ACCOUNT_CREATE: {
		const struct op_account_create *create = (const struct op_account_create *)op;
		note->action = "account.create";
		trail_subject(note, "%s", create->account.id);
		break;
	}
	case OP_OWNER_CREATE: {
		const struct op_owner_create *create = (const struct op_owner_create *)op;
		note->action = "account.create";
		trail_subject(note, "%s", create->account.id);
		trail_text(note, "key", create->key.id);
		trail_number(note, "grant_micro_usd", create->grant_uusd);
		break;
	}
	case OP_KEY_CREATE:
		describe_key(note, "key.create", &((const struct op_key_create *)op)->key);
		break;
	case OP_KEY_DISABLE:
	case OP_KEY_UPDATE:
	case OP_KEY_ROTATE:
	case OP_KEY_DELETE:
		describe_key_change(note, (const struct op_key_change *)op);
		break;
	case OP_PROVIDER_TOKEN_CREATE: {
		const struct op_provider_token_create *create = (const struct op_provider_token_create *)op;
		note->action = "provider_token.create";
		note->account_id = create->account_id;
		trail_subject(note, "%s", create->account_id);
		trail_text(note, "label", create->label);
		break;
	}
	case OP_TRANSFER:
		describe_transfer(note, (const struct op_transfer *)op);
		break;
	case OP_PRICE_SET: {
		const struct store_price *price = &((const struct op_price_set *)op)->price;
		note->action = "price.set";
		note->account_id = price->account_id;
		trail_subject(note, "%s", price->account_id);
		trail_text(note, "model", price->model);
		trail_number(note, "input", price->input);
		trail_number(note, "output", price->output);
		trail_number(note, "cached", price->cached);
		break;
	}
	case OP_LOGIN_WRITE:
		describe_login(note, (const struct op_login *)op);
		break;
	case OP_TASK_WRITE: {
		const struct op_task *task = (const struct op_task *)op;
		if (!task->note || !task->note(task, note))
			note->action = NULL;
		break;
	}
	default:
		break;
	}
}

bool trail_notes(const struct store_op *op)
{
	switch (op->kind) {
	case OP_ACCOUNT_CREATE:
	case OP_OWNER_CREATE:
	case OP_KEY_CREATE:
	case OP_KEY_DISABLE:
	case OP_KEY_UPDATE:
	case OP_KEY_ROTATE:
	case OP_KEY_DELETE:
	case OP_PROVIDER_TOKEN_CREATE:
	case OP_TRANSFER:
	case OP_PRICE_SET:
	case OP_LOGIN_WRITE:
		return true;
	case OP_TASK_WRITE:
		return ((const struct op_task *)op)->note != NULL;
	default:
		return false;
	}
}

/* --- rows --- */

static void add(struct sha256_state *state, const char *text)
{
	char length[24];
	int digits = snprintf(length, sizeof length, "%zu:", strlen(text));
	sha256_update(state, length, (size_t)digits);
	sha256_update(state, text, strlen(text));
}

static void seal(const char *before, const struct store_trail_row *row, const char *details, char hash[65])
{
	struct sha256_state state;
	uint8_t digest[SHA256_BYTES];
	char numbers[64];
	int len = snprintf(numbers, sizeof numbers, "%lld %lld\n", (long long)row->id, (long long)row->at_us);
	sha256_begin(&state);
	sha256_update(&state, ROW_HEAD, sizeof ROW_HEAD - 1);
	sha256_update(&state, numbers, (size_t)len);
	add(&state, before);
	add(&state, row->actor);
	add(&state, row->action);
	add(&state, row->subject);
	add(&state, details);
	sha256_end(&state, digest);
	hex_encode(digest, sizeof digest, hash);
}

static void zeros(char hash[65])
{
	memset(hash, '0', 64);
	hash[64] = '\0';
}

static void last_row(struct sql *db, int64_t *id, char hash[65])
{
	struct sql_stmt *stmt = sql_say(db, "SELECT id, hash FROM audit_trail ORDER BY id DESC LIMIT 1");
	*id = 0;
	zeros(hash);
	if (!sql_row(stmt))
		return;
	*id = sql_i64(stmt, 0);
	sql_copy(stmt, 1, hash, 65);
	sql_done(stmt);
}

static void insert(struct sql *db, const struct store_trail_row *row, const char *details)
{
	struct sql_stmt *stmt =
	    sql_say(db, "INSERT INTO audit_trail (id, at_us, actor, action, subject, details, hash) VALUES (?, ?, ?, ?, ?, ?, ?)");
	sql_put_i64(stmt, 1, row->id);
	sql_put_i64(stmt, 2, row->at_us);
	sql_put_text(stmt, 3, row->actor);
	sql_put_text(stmt, 4, row->action);
	sql_put_text(stmt, 5, row->subject);
	sql_put_text(stmt, 6, details);
	sql_put_text(stmt, 7, row->hash);
	sql_run(stmt);
}

static void name_actor(const struct store_op *op, const struct trail_note *note, struct store_trail_row *row)
{
	if (op->actor)
		snprintf(row->actor, sizeof row->actor, "%s", op->actor->name);
	else if (note->account_id && note->account_id[0])
		snprintf(row->actor, sizeof row->actor, "account:%s", note->account_id);
	else
		snprintf(row->actor, sizeof row->actor, "system");
}

void trail_write(struct sql *db, const struct store_op *op)
{
	struct trail_note note = {0};
	struct store_trail_row row = {.at_us = clock_wall_us()};
	char before[65];
	if (op->failed || !trail_notes(op))
		return;
	buf_init(&note.details, DETAILS_MAX);
	json_writer_init(&note.writer, &note.details);
	json_begin_object(&note.writer);
	describe(op, &note);
	if (op->actor)
		trail_text(&note, "reason", op->actor->reason);
	json_end_object(&note.writer);
	buf_append_byte(&note.details, '\0');
	if (note.action) {
		const char *details = note.details.failed ? "{}" : note.details.at;
		snprintf(row.action, sizeof row.action, "%s", note.action);
		snprintf(row.subject, sizeof row.subject, "%s", note.subject);
		name_actor(op, &note, &row);
		last_row(db, &row.id, before);
		row.id++;
		seal(before, &row, details, row.hash);
		insert(db, &row, details);
	}
	buf_free(&note.details);
}

/* --- rows of what changes nothing else --- */

struct op_trail {
	struct op_task task;
	store_done_fn done;
	char action[sizeof((struct store_trail_row *)0)->action], subject[STORE_ACTOR_SIZE];
};

static void write_nothing(struct book *book, struct op_task *task)
{
	(void)book;
	(void)task;
}

static bool note_added(const struct op_task *task, struct trail_note *note)
{
	const struct op_trail *op = (const struct op_trail *)task;
	note->action = op->action;
	trail_subject(note, "%s", op->subject);
	return true;
}

static void deliver_added(struct store_op *op)
{
	((struct op_trail *)op)->done(op_error(op), op->user);
}

void store_trail_add(struct store *store, struct str action, struct str subject, store_done_fn done, void *user)
{
	struct op_trail *op = store_new_op(sizeof *op, OP_TASK_WRITE, deliver_added, user);
	op->task.write = write_nothing;
	op->task.note = note_added;
	op->done = done;
	str_copy(str_sub(action, 0, sizeof op->action - 1), op->action, sizeof op->action);
	str_copy(str_sub(subject, 0, sizeof op->subject - 1), op->subject, sizeof op->subject);
	journal_submit(store->journal, &op->task.op);
}

/* --- reading --- */

struct trail_reading {
	struct sql *db;
	int64_t show_after;
	void (*each)(const struct store_trail_row *row, void *user);
	void *user;
	struct store_trail *out;
};

static void read_row(struct trail_reading *reading, struct sql_stmt *stmt, struct buf *details)
{
	struct store_trail *out = reading->out;
	struct store_trail_row row = {.id = sql_i64(stmt, 0), .at_us = sql_i64(stmt, 1)};
	char hash[65];
	sql_copy(stmt, 2, row.actor, sizeof row.actor);
	sql_copy(stmt, 3, row.action, sizeof row.action);
	sql_copy(stmt, 4, row.subject, sizeof row.subject);
	buf_clear(details);
	buf_append_str(details, sql_text(stmt, 5));
	buf_append_byte(details, '\0');
	snprintf(row.details, sizeof row.details, "%s", details->failed ? "" : details->at);
	sql_copy(stmt, 6, row.hash, sizeof row.hash);

	out->rows++;
	seal(out->head, &row, details->failed ? "" : details->at, hash);
	if (!out->broken && (row.id != out->rows || strcmp(hash, row.hash) != 0))
		out->broken = row.id ? row.id : -1;
	memcpy(out->head, row.hash, sizeof out->head);
	if (reading->each && row.id > reading->show_after)
		reading->each(&row, reading->user);
}

static void read_all(struct trail_reading *reading, int64_t limit)
{
	struct buf details;
	struct sql *db = reading->db;
	int64_t newest = sql_number(sql_say(db, "SELECT coalesce(max(id), 0) FROM audit_trail"));
	struct sql_stmt *stmt =
	    sql_say(db, "SELECT id, at_us, actor, action, subject, details, hash FROM audit_trail WHERE id <= ? ORDER BY id");
	sql_put_i64(stmt, 1, newest);
	reading->show_after = newest > limit ? newest - limit : 0;
	buf_init(&details, 1u << 20);
	while (sql_row(stmt))
		read_row(reading, stmt, &details);
	buf_free(&details);
}

enum db_err store_trail_read(const char *place, int64_t limit, void (*each)(const struct store_trail_row *row, void *user),
                             void *user, struct store_trail *out, struct error *error)
{
	struct trail_reading reading = {.each = each, .user = user, .out = out};
	*out = (struct store_trail){0};
	zeros(out->head);
	reading.db = sql_open(place, SQL_READ, error);
	if (!reading.db)
		return DB_E_IO;
	enum db_err err = schema_check(reading.db, error);
	if (!err) {
		read_all(&reading, limit);
		err = reading.db->failed;
		if (err && error)
			*error = reading.db->why;
	}
	sql_close(reading.db);
	return err;
}
