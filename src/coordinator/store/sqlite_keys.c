/* Rows of API keys, of what they spent, and of the levels of rate limits: the writer's side. */
#include "coordinator/store/sqlite_book.h"

#include <stdlib.h>

/* False when the key's hash or id is taken, or the database failed. */
bool book_insert_key(struct sqlite_writer *writer, const struct store_key *key, int64_t account)
{
	struct sqlite_db *db = &writer->db;
	sqlite3_stmt *stmt = sqlite_use(db, W_KEY_INSERT);
	sqlite_text(stmt, 1, key->hash_hex);
	sqlite_text(stmt, 2, key->id);
	sqlite_i64(stmt, 3, account);
	sqlite_text(stmt, 4, key->label);
	sqlite_text(stmt, 5, key->name);
	sqlite_i64(stmt, 6, key->disabled);
	sqlite_i64(stmt, 7, key->expires_us);
	sqlite_i64(stmt, 8, key->created_us);
	sqlite_text(stmt, 9, key->limit_group[0] ? key->limit_group : key->id);
	sqlite_i64(stmt, 10, key->scopes);
	if (key->limited)
		sqlite_i64(stmt, 11, key->limit_uusd);
	else
		sqlite_null(stmt, 11);
	sqlite_i64(stmt, 12, key->limit_reset);
	sqlite_i64(stmt, 13, key->rpm);
	sqlite_i64(stmt, 14, key->itpm);
	sqlite_i64(stmt, 15, key->otpm);
	sqlite_text(stmt, 16, key->allowed_models);
	sqlite_i64(stmt, 17, key->self_route_only);
	return sqlite_run(db, stmt) && sqlite3_changes(db->handle) > 0;
}

void apply_key_create(struct sqlite_writer *writer, struct op_key_create *op)
{
	struct book_account *account = book_account(writer, op->key.account_id);
	if (!account)
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", op->key.account_id);
	else if (!book_insert_key(writer, &op->key, account->ref))
		op_fail(&op->op, DB_E_EXISTS, "The key %s exists already.", op->key.id);
}

static sqlite3_stmt *bind_update(struct sqlite_writer *writer, const struct op_key_change *op)
{
	const struct store_key *key = &op->key;
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_KEY_UPDATE);
	sqlite_text(stmt, 1, op->key_id);
	sqlite_i64(stmt, 2, op->fields);
	sqlite_text(stmt, 3, key->name);
	sqlite_i64(stmt, 4, key->disabled);
	if (key->limited)
		sqlite_i64(stmt, 5, key->limit_uusd);
	else
		sqlite_null(stmt, 5);
	sqlite_i64(stmt, 6, key->limit_reset);
	sqlite_i64(stmt, 7, key->rpm);
	sqlite_i64(stmt, 8, key->itpm);
	sqlite_i64(stmt, 9, key->otpm);
	sqlite_text(stmt, 10, key->allowed_models);
	sqlite_i64(stmt, 11, key->self_route_only);
	sqlite_i64(stmt, 12, key->expires_us);
	sqlite_i64(stmt, 13, key->scopes);
	return stmt;
}

static sqlite3_stmt *bind_rotate(struct sqlite_writer *writer, const struct op_key_change *op)
{
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_KEY_ROTATE);
	sqlite_text(stmt, 1, op->key_id);
	sqlite_text(stmt, 2, op->key.hash_hex);
	sqlite_text(stmt, 3, op->key.id);
	sqlite_text(stmt, 4, op->key.label);
	sqlite_i64(stmt, 5, op->key.created_us);
	return stmt;
}

void apply_key_change(struct sqlite_writer *writer, struct op_key_change *op)
{
	sqlite3_stmt *stmt;
	if (op->op.kind == OP_KEY_UPDATE) {
		stmt = bind_update(writer, op);
	} else if (op->op.kind == OP_KEY_ROTATE) {
		stmt = bind_rotate(writer, op);
	} else {
		stmt = sqlite_use(&writer->db, op->op.kind == OP_KEY_DELETE ? W_KEY_DELETE : W_KEY_DISABLE);
		sqlite_text(stmt, 1, op->key_id);
	}
	if (sqlite_run(&writer->db, stmt) && sqlite3_changes(writer->db.handle) == 0)
		op_fail(&op->op, DB_E_NOT_FOUND, "There is no key %s.", op->key_id);
}

void apply_keys_touch(struct sqlite_writer *writer, struct op_batch *op)
{
	const struct store_key_use *uses = op->rows;
	for (size_t i = 0; i < op->count; i++) {
		sqlite3_stmt *stmt = sqlite_use(&writer->db, W_KEY_TOUCH);
		sqlite_text(stmt, 1, uses[i].key_id);
		sqlite_i64(stmt, 2, uses[i].at_us);
		sqlite_run(&writer->db, stmt);
	}
}

/* --- spend --- */

static void write_spend(struct sqlite_writer *writer, const struct book_spend *spend)
{
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_SPEND_ADD);
	sqlite_text(stmt, 1, spend->group);
	sqlite_i64(stmt, 2, spend->day);
	sqlite_i64(stmt, 3, spend->amount);
	sqlite_run(&writer->db, stmt);
}

void book_spend(struct sqlite_writer *writer, const char *group, int64_t day, int64_t amount)
{
	struct book_spend *spend = map_get(&writer->spends, str_of(group));
	struct book_spend alone = {.day = day, .amount = amount};
	if (spend && spend->day == day) {
		spend->amount += amount;
		return;
	}
	(void)str_copy(str_of(group), alone.group, sizeof alone.group);
	spend = spend ? NULL : malloc(sizeof *spend);
	if (spend) {
		*spend = alone;
		if (map_put(&writer->spends, str_of(spend->group), spend, NULL) == DB_OK)
			return;
		free(spend);
	}
	write_spend(writer, &alone); /* another day, or no memory to gather it */
}

void book_flush_spends(struct sqlite_writer *writer, bool write)
{
	size_t cursor = 0;
	struct book_spend *spend;
	while ((spend = map_next(&writer->spends, &cursor))) {
		if (write)
			write_spend(writer, spend);
		free(spend);
	}
	map_free(&writer->spends);
	map_init(&writer->spends);
}

/* --- levels --- */

void apply_levels_save(struct sqlite_writer *writer, struct op_batch *op)
{
	const struct store_levels *levels = op->rows;
	for (size_t i = 0; i < op->count; i++) {
		const struct store_levels *row = &levels[i];
		sqlite3_stmt *stmt = sqlite_use(&writer->db, row->full ? W_LEVELS_FORGET : W_LEVELS_WRITE);
		sqlite_text(stmt, 1, row->owner);
		if (!row->full) {
			sqlite_i64(stmt, 2, row->at_us);
			sqlite_double(stmt, 3, row->requests);
			sqlite_double(stmt, 4, row->input);
			sqlite_double(stmt, 5, row->output);
			sqlite_double(stmt, 6, row->financial);
		}
		sqlite_run(&writer->db, stmt);
	}
}
