#include "coordinator/store/book.h"

#include "core/clock.h"

/* False when the id is taken, or the database failed. */
static bool insert_account(struct book *book, const struct store_account *account, bool is_owner)
{
	struct sql *db = book->db;
	struct sql_stmt *stmt = sql_say(db, book_statements[W_ACCOUNT_INSERT]);
	sql_put_text(stmt, 1, account->id);
	sql_put_text(stmt, 2, account->name);
	sql_put_text(stmt, 3, account->role == STORE_ROLE_SERVICE ? "service" : "");
	if (account->fee_percent < 0)
		sql_put_null(stmt, 4);
	else
		sql_put_i64(stmt, 4, account->fee_percent);
	sql_put_i64(stmt, 5, is_owner);
	sql_put_i64(stmt, 6, clock_wall_us());
	int64_t ref = sql_number(stmt);
	if (!ref)
		return false;
	stmt = sql_say(db, book_statements[W_BALANCE_INSERT]);
	sql_put_i64(stmt, 1, ref);
	return sql_run(stmt);
}

static bool refuse_account(struct store_op *op, const struct store_account *account)
{
	if (account->id[0] && account->fee_percent >= -1 && account->fee_percent <= 100)
		return false;
	op_fail(op, DB_E_INVALID, "An account needs an id, and a fee of 0 to 100 percent or none of its own.");
	return true;
}

void apply_account_create(struct book *book, struct op_account_create *op)
{
	if (!refuse_account(&op->op, &op->account) && !insert_account(book, &op->account, false))
		op_fail(&op->op, DB_E_EXISTS, "The account %s exists already.", op->account.id);
}

bool book_account_facts(struct book *book, const struct book_account *found, struct store_account *account)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_ACCOUNT_FACTS]);
	sql_put_i64(stmt, 1, found->ref);
	if (!sql_row(stmt))
		return false;
	*account = (struct store_account){.balance_uusd = found->balance, .withdrawable_uusd = found->withdrawable};
	memcpy(account->id, found->id, sizeof account->id);
	sql_copy(stmt, 0, account->name, sizeof account->name);
	account->role = sql_text(stmt, 1).len ? STORE_ROLE_SERVICE : STORE_ROLE_NORMAL;
	account->fee_percent = sql_is_null(stmt, 2) ? -1 : (int)sql_i64(stmt, 2);
	account->has_machine = sql_i64(stmt, 3) != 0;
	sql_copy(stmt, 4, account->referrer, sizeof account->referrer);
	sql_done(stmt);
	return true;
}

void apply_account_get(struct book *book, struct op_account_find *op)
{
	const struct book_account *found = book_account(book, op->key);
	op->found = found && book_account_facts(book, found, &op->account);
}

static bool owner_exists(struct book *book)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_OWNER]);
	return sql_exists(stmt);
}

static bool id_taken(struct book *book, const char *account_id)
{
	return book_account(book, account_id) != NULL;
}

void apply_owner_create(struct book *book, struct op_owner_create *op)
{
	if (refuse_account(&op->op, &op->account))
		return;
	if (op->grant_uusd < 0) {
		op_fail(&op->op, DB_E_INVALID, "The first grant cannot be negative.");
		return;
	}
	if (owner_exists(book) || id_taken(book, op->account.id)) {
		op_fail(&op->op, DB_E_EXISTS, "This database has an owner already.");
		return;
	}
	/* From here on a refusal would leave half of it behind, so what fails must spoil the transaction. */
	bool made = insert_account(book, &op->account, true);
	struct book_account *owner = made ? book_account(book, op->account.id) : NULL;
	made = owner && book_insert_key(book, &op->key, owner->ref);
	if (made && op->grant_uusd) {
		struct store_transfer grant = {.key = "first-start", .type = "admin_credit", .amount_uusd = op->grant_uusd};
		struct book_account *grants = book_account(book, STORE_ACCOUNT_GRANTS);
		made = grants && book_transfer(book, &grant, grants, owner);
	}
	if (!made)
		sql_fail(book->db, DB_E_INTERNAL, "The owner's account could not be made: its key or grant exists already.");
}

void apply_provider_token_create(struct book *book, struct op_provider_token_create *op)
{
	struct sql *db = book->db;
	struct book_account *account = book_account(book, op->account_id);
	if (!account) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", op->account_id);
		return;
	}
	struct sql_stmt *stmt = sql_say(db, book_statements[W_PROVIDER_TOKEN_INSERT]);
	sql_put_text(stmt, 1, op->hash_hex);
	sql_put_i64(stmt, 2, account->ref);
	sql_put_text(stmt, 3, op->label);
	sql_put_i64(stmt, 4, clock_wall_us());
	if (sql_run(stmt) && sql_changes(db) == 0)
		op_fail(&op->op, DB_E_EXISTS, "This provider token exists already.");
}

void apply_price_set(struct book *book, struct op_price_set *op)
{
	const struct store_price *price = &op->price;
	if (price->input <= 0 || price->output <= 0 || price->cached < 0 || !price->model[0]) {
		op_fail(&op->op, DB_E_INVALID, "A price needs a model and two amounts above 0.");
		return;
	}
	struct book_account *account = book_account(book, price->account_id);
	if (!account) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", price->account_id);
		return;
	}
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_PRICE_SET]);
	sql_put_i64(stmt, 1, account->ref);
	sql_put_text(stmt, 2, price->model);
	sql_put_i64(stmt, 3, price->input);
	sql_put_i64(stmt, 4, price->output);
	sql_put_i64(stmt, 5, price->cached);
	sql_put_i64(stmt, 6, clock_wall_us());
	sql_run(stmt);
}
