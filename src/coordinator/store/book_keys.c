/* Rows of API keys, of what they spent, and of the levels of rate limits: the book's side. */
#include "coordinator/store/book.h"

#include <stdlib.h>

/* False when the key's hash or id is taken, or the database failed. */
bool book_insert_key(struct book *book, const struct store_key *key, int64_t account)
{
	struct sql *db = book->db;
	struct sql_stmt *stmt = sql_say(db, book_statements[W_KEY_INSERT]);
	sql_put_text(stmt, 1, key->hash_hex);
	sql_put_text(stmt, 2, key->id);
	sql_put_i64(stmt, 3, account);
	sql_put_text(stmt, 4, key->label);
	sql_put_text(stmt, 5, key->name);
	sql_put_i64(stmt, 6, key->disabled);
	sql_put_i64(stmt, 7, key->expires_us);
	sql_put_i64(stmt, 8, key->created_us);
	sql_put_text(stmt, 9, key->limit_group[0] ? key->limit_group : key->id);
	sql_put_i64(stmt, 10, key->scopes);
	if (key->limited)
		sql_put_i64(stmt, 11, key->limit_uusd);
	else
		sql_put_null(stmt, 11);
	sql_put_i64(stmt, 12, key->limit_reset);
	sql_put_i64(stmt, 13, key->rpm);
	sql_put_i64(stmt, 14, key->itpm);
	sql_put_i64(stmt, 15, key->otpm);
	sql_put_text(stmt, 16, key->allowed_models);
	sql_put_i64(stmt, 17, key->self_route_only);
	return sql_run(stmt) && sql_changes(db) > 0;
}

static bool has_room_for_key(struct book *book, const struct book_account *account)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_KEYS_OF_ACCOUNT]);
	sql_put_i64(stmt, 1, account->ref);
	return sql_number(stmt) < STORE_KEYS_OF_ACCOUNT;
}

void apply_key_create(struct book *book, struct op_key_create *op)
{
	struct book_account *account = book_account(book, op->key.account_id);
	if (!account)
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", op->key.account_id);
	else if (!has_room_for_key(book, account))
		op_fail(&op->op, DB_E_LIMIT, "The account %s has as many keys as an account may have.", op->key.account_id);
	else if (!book_insert_key(book, &op->key, account->ref))
		op_fail(&op->op, DB_E_EXISTS, "The key %s exists already.", op->key.id);
}

static struct sql_stmt *bind_update(struct book *book, const struct op_key_change *op)
{
	const struct store_key *key = &op->key;
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_KEY_UPDATE]);
	sql_put_text(stmt, 1, op->key_id);
	sql_put_i64(stmt, 2, op->fields);
	sql_put_text(stmt, 3, key->name);
	sql_put_i64(stmt, 4, key->disabled);
	if (key->limited)
		sql_put_i64(stmt, 5, key->limit_uusd);
	else
		sql_put_null(stmt, 5);
	sql_put_i64(stmt, 6, key->limit_reset);
	sql_put_i64(stmt, 7, key->rpm);
	sql_put_i64(stmt, 8, key->itpm);
	sql_put_i64(stmt, 9, key->otpm);
	sql_put_text(stmt, 10, key->allowed_models);
	sql_put_i64(stmt, 11, key->self_route_only);
	sql_put_i64(stmt, 12, key->expires_us);
	sql_put_i64(stmt, 13, key->scopes);
	return stmt;
}

static struct sql_stmt *bind_rotate(struct book *book, const struct op_key_change *op)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_KEY_ROTATE]);
	sql_put_text(stmt, 1, op->key_id);
	sql_put_text(stmt, 2, op->key.hash_hex);
	sql_put_text(stmt, 3, op->key.id);
	sql_put_text(stmt, 4, op->key.label);
	sql_put_i64(stmt, 5, op->key.created_us);
	return stmt;
}

void apply_key_change(struct book *book, struct op_key_change *op)
{
	struct sql_stmt *stmt;
	if (op->op.kind == OP_KEY_UPDATE) {
		stmt = bind_update(book, op);
	} else if (op->op.kind == OP_KEY_ROTATE) {
		stmt = bind_rotate(book, op);
	} else {
		stmt = sql_say(book->db, book_statements[op->op.kind == OP_KEY_DELETE ? W_KEY_DELETE : W_KEY_DISABLE]);
		sql_put_text(stmt, 1, op->key_id);
	}
	if (sql_run(stmt) && sql_changes(book->db) == 0)
		op_fail(&op->op, DB_E_NOT_FOUND, "There is no key %s.", op->key_id);
}

void apply_keys_touch(struct book *book, struct op_batch *op)
{
	const struct store_key_use *uses = op->rows;
	for (size_t i = 0; i < op->count; i++) {
		struct sql_stmt *stmt = sql_say(book->db, book_statements[W_KEY_TOUCH]);
		sql_put_text(stmt, 1, uses[i].key_id);
		sql_put_i64(stmt, 2, uses[i].at_us);
		sql_run(stmt);
	}
}

/* --- spend --- */

static void write_spend(struct book *book, const struct book_spend *spend)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_SPEND_ADD]);
	sql_put_text(stmt, 1, spend->group);
	sql_put_i64(stmt, 2, spend->day);
	sql_put_i64(stmt, 3, spend->amount);
	sql_post(stmt);
}

void book_spend(struct book *book, const char *group, int64_t day, int64_t amount)
{
	struct book_spend *spend = map_get(&book->spends, str_of(group));
	struct book_spend alone = {.day = day, .amount = amount};
	if (spend && spend->day == day) {
		spend->amount += amount;
		return;
	}
	(void)str_copy(str_of(group), alone.group, sizeof alone.group);
	spend = spend ? NULL : malloc(sizeof *spend);
	if (spend) {
		*spend = alone;
		if (map_put(&book->spends, str_of(spend->group), spend, NULL) == DB_OK)
			return;
		free(spend);
	}
	write_spend(book, &alone); /* another day, or no memory to gather it */
}

void book_flush_spends(struct book *book, bool write)
{
	size_t cursor = 0;
	struct book_spend *spend;
	while ((spend = map_next(&book->spends, &cursor))) {
		if (write)
			write_spend(book, spend);
		free(spend);
	}
	map_free(&book->spends);
	map_init(&book->spends);
}

/* --- levels --- */

void apply_levels_save(struct book *book, struct op_batch *op)
{
	const struct store_levels *levels = op->rows;
	for (size_t i = 0; i < op->count; i++) {
		const struct store_levels *row = &levels[i];
		struct sql_stmt *stmt = sql_say(book->db, book_statements[row->full ? W_LEVELS_FORGET : W_LEVELS_WRITE]);
		sql_put_text(stmt, 1, row->owner);
		if (!row->full) {
			sql_put_i64(stmt, 2, row->at_us);
			sql_put_double(stmt, 3, row->requests);
			sql_put_double(stmt, 4, row->input);
			sql_put_double(stmt, 5, row->output);
			sql_put_double(stmt, 6, row->financial);
		}
		sql_run(stmt);
	}
}
