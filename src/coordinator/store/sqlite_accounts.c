#include "coordinator/store/sqlite_book.h"

#include "core/clock.h"

/* False when the id is taken, or the database failed. */
static bool insert_account(struct sqlite_writer *writer, const struct store_account *account, bool is_owner)
{
	struct sqlite_db *db = &writer->db;
	sqlite3_stmt *stmt = sqlite_use(db, W_ACCOUNT_INSERT);
	sqlite_text(stmt, 1, account->id);
	sqlite_text(stmt, 2, account->name);
	sqlite_text(stmt, 3, account->role == STORE_ROLE_SERVICE ? "service" : "");
	if (account->fee_percent < 0)
		sqlite_null(stmt, 4);
	else
		sqlite_i64(stmt, 4, account->fee_percent);
	sqlite_i64(stmt, 5, is_owner);
	sqlite_i64(stmt, 6, clock_wall_us());
	if (!sqlite_run(db, stmt) || sqlite3_changes(db->handle) == 0)
		return false;

	int64_t ref = sqlite3_last_insert_rowid(db->handle);
	stmt = sqlite_use(db, W_BALANCE_INSERT);
	sqlite_i64(stmt, 1, ref);
	return sqlite_run(db, stmt);
}

static bool refuse_account(struct store_op *op, const struct store_account *account)
{
	if (account->id[0] && account->fee_percent >= -1 && account->fee_percent <= 100)
		return false;
	op_fail(op, DB_E_INVALID, "An account needs an id, and a fee of 0 to 100 percent or none of its own.");
	return true;
}

void apply_account_create(struct sqlite_writer *writer, struct op_account_create *op)
{
	if (!refuse_account(&op->op, &op->account) && !insert_account(writer, &op->account, false))
		op_fail(&op->op, DB_E_EXISTS, "The account %s exists already.", op->account.id);
}

void apply_account_get(struct sqlite_writer *writer, struct op_account_find *op)
{
	struct book_account *book = book_account(writer, op->key);
	op->found = false;
	if (!book)
		return;
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_ACCOUNT_FACTS);
	sqlite_i64(stmt, 1, book->ref);
	if (!sqlite_row(&writer->db, stmt))
		return;
	struct store_account *account = &op->account;
	*account = (struct store_account){.balance_uusd = book->balance, .withdrawable_uusd = book->withdrawable};
	memcpy(account->id, book->id, sizeof account->id);
	sqlite_copy(stmt, 0, account->name, sizeof account->name);
	account->role = sqlite3_column_bytes(stmt, 1) ? STORE_ROLE_SERVICE : STORE_ROLE_NORMAL;
	account->fee_percent = sqlite3_column_type(stmt, 2) == SQLITE_NULL ? -1 : sqlite3_column_int(stmt, 2);
	sqlite_done(stmt);
	op->found = true;
}

static bool owner_exists(struct sqlite_writer *writer)
{
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_OWNER);
	bool exists = sqlite_row(&writer->db, stmt);
	if (exists)
		sqlite_done(stmt);
	return exists;
}

static bool id_taken(struct sqlite_writer *writer, const char *account_id)
{
	return book_account(writer, account_id) != NULL;
}

void apply_owner_create(struct sqlite_writer *writer, struct op_owner_create *op)
{
	if (refuse_account(&op->op, &op->account))
		return;
	if (op->grant_uusd < 0) {
		op_fail(&op->op, DB_E_INVALID, "The first grant cannot be negative.");
		return;
	}
	if (owner_exists(writer) || id_taken(writer, op->account.id)) {
		op_fail(&op->op, DB_E_EXISTS, "This database has an owner already.");
		return;
	}
	/* From here on a refusal would leave half of it behind, so what fails must spoil the transaction. */
	struct sqlite_db *db = &writer->db;
	bool made = insert_account(writer, &op->account, true);
	struct book_account *owner = made ? book_account(writer, op->account.id) : NULL;
	made = owner && book_insert_key(writer, &op->key, owner->ref);
	if (made && op->grant_uusd) {
		struct store_transfer grant = {.key = "first-start", .type = "admin_credit", .amount_uusd = op->grant_uusd};
		struct book_account *grants = book_account(writer, STORE_ACCOUNT_GRANTS);
		made = grants && book_transfer(writer, &grant, grants, owner);
	}
	if (!made && !db->failed)
		db->failed =
		    error_set(&db->why, DB_E_INTERNAL, "The owner's account could not be made: its key or grant exists already.");
}

void apply_provider_token_create(struct sqlite_writer *writer, struct op_provider_token_create *op)
{
	struct sqlite_db *db = &writer->db;
	struct book_account *account = book_account(writer, op->account_id);
	if (!account) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", op->account_id);
		return;
	}
	sqlite3_stmt *stmt = sqlite_use(db, W_PROVIDER_TOKEN_INSERT);
	sqlite_text(stmt, 1, op->hash_hex);
	sqlite_i64(stmt, 2, account->ref);
	sqlite_text(stmt, 3, op->label);
	sqlite_i64(stmt, 4, clock_wall_us());
	if (sqlite_run(db, stmt) && sqlite3_changes(db->handle) == 0)
		op_fail(&op->op, DB_E_EXISTS, "This provider token exists already.");
}

void apply_price_set(struct sqlite_writer *writer, struct op_price_set *op)
{
	const struct store_price *price = &op->price;
	if (price->input <= 0 || price->output <= 0 || !price->model[0]) {
		op_fail(&op->op, DB_E_INVALID, "A price needs a model and two amounts above 0.");
		return;
	}
	struct book_account *account = book_account(writer, price->account_id);
	if (!account) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", price->account_id);
		return;
	}
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_PRICE_SET);
	sqlite_i64(stmt, 1, account->ref);
	sqlite_text(stmt, 2, price->model);
	sqlite_i64(stmt, 3, price->input);
	sqlite_i64(stmt, 4, price->output);
	sqlite_i64(stmt, 5, clock_wall_us());
	sqlite_run(&writer->db, stmt);
}
