#include "coordinator/store/sqlite_book.h"

#include <stdlib.h>

#include "core/clock.h"

#define ACCOUNTS_IN_MEMORY 100000

static void out_of_memory(struct sqlite_writer *writer)
{
	if (!writer->db.failed)
		writer->db.failed = error_set(&writer->db.why, DB_E_IO, "The database ran out of memory.");
}

/* --- accounts --- */

struct book_account *book_account(struct sqlite_writer *writer, const char *id)
{
	struct book_account *account = map_get(&writer->accounts, str_of(id));
	if (account || writer->db.failed)
		return account;

	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_ACCOUNT_READ);
	sqlite_text(stmt, 1, id);
	if (!sqlite_row(&writer->db, stmt))
		return NULL;
	account = calloc(1, sizeof *account);
	if (account && str_copy(str_of(id), account->id, sizeof account->id)) {
		account->ref = sqlite3_column_int64(stmt, 0);
		account->is_source = sqlite3_column_int(stmt, 1) != 0;
		account->balance = sqlite3_column_int64(stmt, 2);
		account->withdrawable = sqlite3_column_int64(stmt, 3);
	}
	sqlite_done(stmt);
	if (!account || map_put(&writer->accounts, str_of(account->id), account, NULL)) {
		free(account);
		out_of_memory(writer);
		return NULL;
	}
	return account;
}

static void forget_accounts(struct sqlite_writer *writer)
{
	size_t cursor = 0;
	struct book_account *account;
	while ((account = map_next(&writer->accounts, &cursor)))
		free(account);
	map_free(&writer->accounts);
	map_init(&writer->accounts);
	list_init(&writer->touched);
}

static void move(struct sqlite_writer *writer, const struct book_entry *entry)
{
	struct book_account *account = entry->account;
	struct sqlite_db *db = &writer->db;
	int64_t balance;
	if (__builtin_add_overflow(account->balance, entry->amount, &balance)) {
		if (!db->failed)
			db->failed = error_set(&db->why, DB_E_INTERNAL, "The balance of an account would overflow.");
		return;
	}
	account->balance = balance;
	if (!account->is_source) {
		if (entry->withdrawable)
			account->withdrawable += entry->amount;
		if (account->withdrawable > balance)
			account->withdrawable = balance; /* spending uses what cannot be withdrawn first (billing 5) */
	}
	if (!list_linked(&account->touched))
		list_push_back(&writer->touched, &account->touched);
}

static void bind_or_null(sqlite3_stmt *stmt, int at, int64_t value)
{
	if (value)
		sqlite_i64(stmt, at, value);
	else
		sqlite_null(stmt, at);
}

void book_write(struct sqlite_writer *writer, const struct book_transaction *transaction)
{
	sqlite3_stmt *stmt = sqlite_use(&writer->db, transaction->count == 2 ? W_ENTRIES_2 : W_ENTRIES_3);
	sqlite_i64(stmt, 1, writer->last_entry + 1);
	bind_or_null(stmt, 2, transaction->hold);
	bind_or_null(stmt, 3, transaction->transfer);
	sqlite_i64(stmt, 4, transaction->at_us);
	for (int i = 0; i < transaction->count; i++) {
		const struct book_entry *entry = &transaction->entries[i];
		int at = 5 + 5 * i;
		move(writer, entry);
		sqlite_i64(stmt, at, entry->account->ref);
		sqlite_text(stmt, at + 1, entry->type);
		sqlite_i64(stmt, at + 2, entry->amount);
		sqlite_i64(stmt, at + 3, entry->account->balance);
		sqlite_i64(stmt, at + 4, entry->account->withdrawable);
	}
	if (sqlite_run(&writer->db, stmt))
		writer->last_entry += transaction->count;
}

/* --- holds --- */

static void free_holds(struct sqlite_writer *writer)
{
	size_t cursor = 0;
	struct book_hold *hold;
	while ((hold = map_next(&writer->holds, &cursor)))
		free(hold);
	map_free(&writer->holds);
	map_init(&writer->holds);
	list_init(&writer->unwritten);
}

static void load_open_holds(struct sqlite_writer *writer)
{
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_OPEN_HOLDS);
	while (sqlite_row(&writer->db, stmt)) {
		struct book_hold *hold = calloc(1, sizeof *hold);
		if (!hold) {
			out_of_memory(writer);
			break;
		}
		hold->row = sqlite3_column_int64(stmt, 0);
		sqlite_copy(stmt, 1, hold->facts.request_id, sizeof hold->facts.request_id);
		hold->account = sqlite3_column_int64(stmt, 2);
		hold->facts.amount_uusd = sqlite3_column_int64(stmt, 3);
		if (map_put(&writer->holds, str_of(hold->facts.request_id), hold, NULL)) {
			free(hold);
			out_of_memory(writer);
			break;
		}
	}
}

static int64_t read_number(struct sqlite_writer *writer, int statement)
{
	int64_t number = 0;
	sqlite3_stmt *stmt = sqlite_use(&writer->db, statement);
	if (sqlite_row(&writer->db, stmt)) {
		number = sqlite3_column_int64(stmt, 0);
		sqlite_done(stmt);
	}
	return number;
}

/* --- the whole --- */

enum db_err book_load(struct sqlite_writer *writer)
{
	writer->last_hold = read_number(writer, W_LAST_HOLD);
	writer->last_entry = read_number(writer, W_LAST_ENTRY);
	load_open_holds(writer);
	return writer->db.failed;
}

void book_forget(struct sqlite_writer *writer)
{
	forget_accounts(writer);
	free_holds(writer);
	book_flush_spends(writer, false);
	writer->totals = (struct book_totals){0};
}

static void write_account(struct sqlite_writer *writer, struct book_account *account)
{
	struct sqlite_db *db = &writer->db;
	sqlite3_stmt *stmt = sqlite_use(db, W_BALANCE_WRITE);
	sqlite_i64(stmt, 1, account->balance);
	sqlite_i64(stmt, 2, account->withdrawable);
	sqlite_i64(stmt, 3, account->ref);
	sqlite_run(db, stmt);

	if (account->earned.jobs) {
		stmt = sqlite_use(db, W_EARNINGS_ADD);
		sqlite_i64(stmt, 1, account->ref);
		sqlite_i64(stmt, 2, account->earned.jobs);
		sqlite_i64(stmt, 3, account->earned.amount);
		sqlite_i64(stmt, 4, account->earned.prompt_tokens);
		sqlite_i64(stmt, 5, account->earned.completion_tokens);
		sqlite_run(db, stmt);
		account->earned = (struct book_totals){0};
	}
}

static void write_totals(struct sqlite_writer *writer)
{
	if (!writer->totals.jobs)
		return;
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_TOTALS_ADD);
	sqlite_i64(stmt, 1, writer->totals.jobs);
	sqlite_i64(stmt, 2, writer->totals.prompt_tokens);
	sqlite_i64(stmt, 3, writer->totals.completion_tokens);
	sqlite_run(&writer->db, stmt);
	writer->totals = (struct book_totals){0};
}

void book_flush(struct sqlite_writer *writer)
{
	struct list_link *link;
	while ((link = list_pop_front(&writer->unwritten)))
		book_write_hold(writer, LIST_OF(link, struct book_hold, unwritten), &(struct book_hold_end){"open", "", 0, 0});
	while ((link = list_pop_front(&writer->touched)))
		write_account(writer, LIST_OF(link, struct book_account, touched));
	write_totals(writer);
	if (writer->spends.count > 0)
		book_flush_spends(writer, true);
	if (writer->accounts.count > ACCOUNTS_IN_MEMORY)
		forget_accounts(writer);
}
