#include "coordinator/store/book.h"

#include <stdlib.h>

#include "core/clock.h"

#define HOUR_US INT64_C(3600000000)

#define ACCOUNTS_IN_MEMORY 100000

void book_init(struct book *book, struct sql *db)
{
	*book = (struct book){.db = db};
	map_init(&book->accounts);
	map_init(&book->holds);
	map_init(&book->spends);
	map_init(&book->ended);
	list_init(&book->touched);
	list_init(&book->unwritten);
}

void book_free(struct book *book)
{
	book_forget(book);
	map_free(&book->accounts);
	map_free(&book->holds);
	map_free(&book->spends);
	map_free(&book->ended);
	postgres_rows_free(book->rows);
}

static void out_of_memory(struct book *book)
{
	sql_fail(book->db, DB_E_IO, "The database ran out of memory.");
}

/* --- accounts --- */

bool book_add_account(struct book *book, const struct book_account *read)
{
	struct book_account *account = malloc(sizeof *account);
	if (account)
		*account = *read;
	if (account && map_put(&book->accounts, str_of(account->id), account, NULL) == DB_OK)
		return true;
	free(account);
	out_of_memory(book);
	return false;
}

struct book_account *book_account(struct book *book, const char *id)
{
	struct book_account *account = map_get(&book->accounts, str_of(id)), read = {.ref = 0};
	if (account || book->db->failed || !str_copy(str_of(id), read.id, sizeof read.id))
		return account;

	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_ACCOUNT_READ]);
	sql_put_text(stmt, 1, id);
	sql_put_i64(stmt, 2, book->instance);
	if (!sql_row(stmt))
		return NULL;
	read.ref = sql_i64(stmt, 0);
	read.is_source = sql_i64(stmt, 1) != 0;
	read.balance = sql_i64(stmt, 2);
	read.withdrawable = sql_i64(stmt, 3);
	read.leased = sql_i64(stmt, 4);
	read.others = sql_i64(stmt, 5);
	read.watchers = sql_i64(stmt, 6);
	sql_done(stmt);
	return book_add_account(book, &read) ? map_get(&book->accounts, str_of(id)) : NULL;
}

int64_t book_spendable(const struct book_account *account)
{
	return account->balance - account->others;
}

static void forget_accounts(struct book *book)
{
	size_t cursor = 0;
	struct book_account *account;
	while ((account = map_next(&book->accounts, &cursor)))
		free(account);
	map_free(&book->accounts);
	map_init(&book->accounts);
	list_init(&book->touched);
}

/* What the views count as reward besides work (registry 9): the receiving sides. */
static void count_reward(struct book_account *account, const struct book_entry *entry)
{
	bool is_referral = strcmp(entry->type, "referral_reward") == 0;
	if (account->is_source || entry->amount <= 0)
		return;
	if (is_referral) {
		account->referral_jobs++;
		account->referrals += entry->amount;
	}
	if (is_referral || strcmp(entry->type, "admin_reward") == 0 || strcmp(entry->type, "provider_floor_draw") == 0)
		account->rewarded += entry->amount;
}

static void move(struct book *book, const struct book_entry *entry)
{
	struct book_account *account = entry->account;
	int64_t balance;
	if (__builtin_add_overflow(account->balance, entry->amount, &balance)) {
		sql_fail(book->db, DB_E_INTERNAL, "The balance of an account would overflow.");
		return;
	}
	account->balance = balance;
	count_reward(account, entry);
	if (!account->is_source) {
		if (entry->withdrawable)
			account->withdrawable += entry->amount;
		if (account->withdrawable > balance)
			account->withdrawable = balance; /* spending uses what cannot be withdrawn first (billing 5) */
	}
	if (entry->amount < 0 && account->leased > 0) {
		account->leased = account->leased > -entry->amount ? account->leased + entry->amount : 0;
		account->lease_shrunk = true;
	}
	if (!list_linked(&account->touched))
		list_push_back(&book->touched, &account->touched);
}

/* The entries of one transaction in one statement. */
static void write_entries(struct book *book, const struct book_transaction *transaction)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_ENTRIES_2 + transaction->count - 2]);
	sql_put_i64(stmt, 1, book->last_entry + 1);
	sql_put_i64_or_null(stmt, 2, transaction->hold);
	sql_put_i64_or_null(stmt, 3, transaction->transfer);
	sql_put_i64(stmt, 4, transaction->at_us);
	for (int i = 0; i < transaction->count; i++) {
		const struct book_entry *entry = &transaction->entries[i];
		int at = 5 + 5 * i;
		move(book, entry);
		sql_put_i64(stmt, at, entry->account->ref);
		sql_put_text(stmt, at + 1, entry->type);
		sql_put_i64(stmt, at + 2, entry->amount);
		sql_put_i64(stmt, at + 3, entry->account->balance);
		sql_put_i64(stmt, at + 4, entry->account->withdrawable);
	}
	sql_run(stmt);
}

static void gather_entries(struct book *book, const struct book_transaction *transaction)
{
	for (int i = 0; i < transaction->count; i++) {
		const struct book_entry *entry = &transaction->entries[i];
		move(book, entry);
		rows_i64(book->rows, ROWS_LEDGER, book->last_entry + 1 + i);
		rows_i64_or_null(book->rows, ROWS_LEDGER, transaction->hold);
		rows_i64_or_null(book->rows, ROWS_LEDGER, transaction->transfer);
		rows_i64(book->rows, ROWS_LEDGER, entry->account->ref);
		rows_text(book->rows, ROWS_LEDGER, entry->type);
		rows_i64(book->rows, ROWS_LEDGER, entry->amount);
		rows_i64(book->rows, ROWS_LEDGER, entry->account->balance);
		rows_i64(book->rows, ROWS_LEDGER, entry->account->withdrawable);
		rows_i64(book->rows, ROWS_LEDGER, transaction->at_us);
	}
}

void book_write(struct book *book, const struct book_transaction *transaction)
{
	if (book->rows)
		gather_entries(book, transaction);
	else
		write_entries(book, transaction);
	if (!book->db->failed)
		book->last_entry += transaction->count;
}

/* --- holds --- */

static void free_holds(struct book *book)
{
	size_t cursor = 0;
	struct book_hold *hold;
	while ((hold = map_next(&book->holds, &cursor)))
		free(hold);
	map_free(&book->holds);
	map_init(&book->holds);
	list_init(&book->unwritten);
}

bool book_add_hold(struct book *book, const struct book_hold *read)
{
	struct book_hold *hold = malloc(sizeof *hold);
	if (hold)
		*hold = *read;
	if (hold && map_put(&book->holds, str_of(hold->facts.request_id), hold, NULL) == DB_OK)
		return true;
	free(hold);
	out_of_memory(book);
	return false;
}

static void load_open_holds(struct book *book)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_OPEN_HOLDS]);
	while (sql_row(stmt)) {
		struct book_hold read = {.row = sql_i64(stmt, 0), .account = sql_i64(stmt, 2)};
		sql_copy(stmt, 1, read.facts.request_id, sizeof read.facts.request_id);
		read.facts.amount_uusd = sql_i64(stmt, 3);
		if (!book_add_hold(book, &read))
			break;
	}
	sql_done(stmt);
}

bool book_has_ended(const struct book *book, const char *request_id)
{
	return map_get(&book->ended, str_of(request_id)) != NULL;
}

void book_note_ended(struct book *book, const char *request_id)
{
	struct book_ended *ended = malloc(sizeof *ended);
	void *old = NULL;
	if (!ended || !str_copy(str_of(request_id), ended->request_id, sizeof ended->request_id) ||
	    map_put(&book->ended, str_of(ended->request_id), ended, &old)) {
		free(ended);
		out_of_memory(book);
	}
	free(old);
}

void book_forget_ended(struct book *book)
{
	size_t cursor = 0;
	struct book_ended *ended;
	while ((ended = map_next(&book->ended, &cursor)))
		free(ended);
	map_free(&book->ended);
	map_init(&book->ended);
}

/* --- the whole --- */

enum db_err book_load(struct book *book)
{
	if (book->rows) /* it is read anew with each turn */
		return DB_OK;
	book->last_hold = sql_number(sql_say(book->db, book_statements[W_LAST_HOLD]));
	book->last_entry = sql_number(sql_say(book->db, book_statements[W_LAST_ENTRY]));
	load_open_holds(book);
	return book->db->failed;
}

void book_forget(struct book *book)
{
	forget_accounts(book);
	free_holds(book);
	book_flush_spends(book, false);
	book_forget_ended(book);
	if (book->rows)
		postgres_rows_forget(book->rows);
	book->totals = (struct book_totals){0};
	book->due_count = 0;
}

static void write_hour(struct sql *db, const struct book_account *account)
{
	struct sql_stmt *stmt = sql_say(db, book_statements[W_EARNINGS_HOUR]);
	sql_put_i64(stmt, 1, account->ref);
	sql_put_i64(stmt, 2, clock_wall_us() / HOUR_US);
	sql_put_i64(stmt, 3, account->earned.jobs);
	sql_put_i64(stmt, 4, account->earned.amount);
	sql_put_i64(stmt, 5, account->earned.prompt_tokens);
	sql_put_i64(stmt, 6, account->earned.completion_tokens);
	sql_put_i64(stmt, 7, account->rewarded);
	sql_put_i64(stmt, 8, account->referral_jobs);
	sql_put_i64(stmt, 9, account->referrals);
	sql_post(stmt);
}

static void write_account(struct book *book, struct book_account *account)
{
	struct sql *db = book->db;
	struct sql_stmt *stmt = sql_say(db, book_statements[W_BALANCE_WRITE]);
	sql_put_i64(stmt, 1, account->balance);
	sql_put_i64(stmt, 2, account->withdrawable);
	sql_put_i64(stmt, 3, account->ref);
	sql_post(stmt);
	if (account->lease_shrunk) {
		stmt = sql_say(db, book_statements[W_LEASE_SHRINK]);
		sql_put_i64(stmt, 1, account->leased);
		sql_put_i64(stmt, 2, account->ref);
		sql_put_i64(stmt, 3, book->instance);
		sql_post(stmt);
		account->lease_shrunk = false;
	}
	if (account->watchers)
		book_tell_others(book, account, ":b:");

	if (account->earned.jobs || account->base_rewards) {
		stmt = sql_say(db, book_statements[W_EARNINGS_ADD]);
		sql_put_i64(stmt, 1, account->ref);
		sql_put_i64(stmt, 2, account->earned.jobs);
		sql_put_i64(stmt, 3, account->earned.amount + account->base_rewards);
		sql_put_i64(stmt, 4, account->earned.prompt_tokens);
		sql_put_i64(stmt, 5, account->earned.completion_tokens);
		sql_post(stmt);
	}
	if (account->earned.jobs || account->rewarded)
		write_hour(db, account);
	account->earned = (struct book_totals){0};
	account->base_rewards = account->rewarded = account->referral_jobs = account->referrals = 0;
}

static void write_totals(struct book *book)
{
	if (!book->totals.jobs)
		return;
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_TOTALS_ADD]);
	sql_put_i64(stmt, 1, book->totals.jobs);
	sql_put_i64(stmt, 2, book->totals.prompt_tokens);
	sql_put_i64(stmt, 3, book->totals.completion_tokens);
	sql_post(stmt);
	book->totals = (struct book_totals){0};
}

void book_flush(struct book *book)
{
	struct list_link *link;
	while ((link = list_pop_front(&book->unwritten)))
		book_write_hold(book, LIST_OF(link, struct book_hold, unwritten), &(struct book_hold_end){"open", "", 0, 0});
	while ((link = list_pop_front(&book->touched)))
		write_account(book, LIST_OF(link, struct book_account, touched));
	write_totals(book);
	book_flush_due(book);
	if (book->spends.count > 0)
		book_flush_spends(book, true);
	if (book->rows)
		postgres_rows_post(book->rows, book->db);
	if (book->accounts.count > ACCOUNTS_IN_MEMORY)
		forget_accounts(book);
}
