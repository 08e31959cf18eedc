#include "coordinator/store/book.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"

#define TOKENS_MAX (INT64_C(1) << 40) /* of one request; keeps every sum far from overflow */

static struct book_hold *open_hold(struct book *book, const char *request_id)
{
	return map_get(&book->holds, str_of(request_id));
}

static void drop_hold(struct book *book, struct book_hold *hold)
{
	list_remove(&book->unwritten, &hold->unwritten);
	map_remove(&book->holds, str_of(hold->facts.request_id));
	free(hold);
}

static bool write_hold_row(struct book *book, const struct store_hold *facts, int64_t account, const struct book_hold_end *end)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_HOLD_INSERT]);
	sql_put_i64(stmt, 1, book->last_hold + 1);
	sql_put_text(stmt, 2, facts->request_id);
	sql_put_i64(stmt, 3, account);
	sql_put_text(stmt, 4, facts->key_id);
	sql_put_i64(stmt, 5, facts->amount_uusd);
	sql_put_i64(stmt, 6, facts->price_in);
	sql_put_i64(stmt, 7, facts->price_out);
	sql_put_text(stmt, 8, end->state);
	sql_put_text(stmt, 9, end->reason);
	sql_put_i64_or_null(stmt, 10, end->entry);
	sql_put_i64(stmt, 11, facts->created_us);
	sql_put_i64_or_null(stmt, 12, end->at_us);
	return sql_run(stmt) && sql_changes(book->db) > 0;
}

static bool gather_hold_row(struct book *book, const struct store_hold *facts, int64_t account, const struct book_hold_end *end)
{
	if (book_has_ended(book, facts->request_id))
		return false;
	rows_i64(book->rows, ROWS_HOLDS, book->last_hold + 1);
	rows_text(book->rows, ROWS_HOLDS, facts->request_id);
	rows_i64(book->rows, ROWS_HOLDS, account);
	rows_text(book->rows, ROWS_HOLDS, facts->key_id);
	rows_i64(book->rows, ROWS_HOLDS, facts->amount_uusd);
	rows_i64(book->rows, ROWS_HOLDS, facts->price_in);
	rows_i64(book->rows, ROWS_HOLDS, facts->price_out);
	rows_text(book->rows, ROWS_HOLDS, end->state);
	rows_text(book->rows, ROWS_HOLDS, end->reason);
	rows_i64_or_null(book->rows, ROWS_HOLDS, end->entry);
	rows_i64(book->rows, ROWS_HOLDS, facts->created_us);
	rows_i64_or_null(book->rows, ROWS_HOLDS, end->at_us);
	rows_i64(book->rows, ROWS_HOLDS, book->instance);
	if (end->at_us)
		book_note_ended(book, facts->request_id);
	return true;
}

/* Returns holds.id, or 0 when the request id is in the database already. */
static int64_t insert_hold(struct book *book, const struct store_hold *facts, int64_t account, const struct book_hold_end *end)
{
	bool written = book->rows ? gather_hold_row(book, facts, account, end) : write_hold_row(book, facts, account, end);
	return written ? ++book->last_hold : 0;
}

bool book_write_hold(struct book *book, struct book_hold *hold, const struct book_hold_end *end)
{
	hold->row = insert_hold(book, &hold->facts, hold->account, end);
	if (hold->row)
		return true;
	drop_hold(book, hold);
	return false;
}

static bool write_hold_end(struct book *book, const struct book_hold *hold, const struct book_hold_end *end)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_HOLD_END]);
	sql_put_text(stmt, 1, end->state);
	sql_put_text(stmt, 2, end->reason);
	sql_put_i64_or_null(stmt, 3, end->entry);
	sql_put_i64(stmt, 4, end->at_us);
	sql_put_i64(stmt, 5, hold->row);
	return sql_run(stmt);
}

static void gather_hold_end(struct book *book, const struct book_hold *hold, const struct book_hold_end *end)
{
	rows_i64(book->rows, ROWS_HOLD_ENDS, hold->row);
	rows_text(book->rows, ROWS_HOLD_ENDS, end->state);
	rows_text(book->rows, ROWS_HOLD_ENDS, end->reason);
	rows_i64_or_null(book->rows, ROWS_HOLD_ENDS, end->entry);
	rows_i64(book->rows, ROWS_HOLD_ENDS, end->at_us);
	book_note_ended(book, hold->facts.request_id);
}

/* Writes that it ended. False when its row says that it ended before. */
static bool end_hold(struct book *book, struct book_hold *hold, const struct book_hold_end *end, int64_t *row)
{
	if (!hold->row) {
		if (!book_write_hold(book, hold, end))
			return false;
	} else if (book->rows) {
		gather_hold_end(book, hold, end);
	} else if (!write_hold_end(book, hold, end)) {
		return false;
	}
	*row = hold->row;
	drop_hold(book, hold);
	return true;
}

void apply_hold_create(struct book *book, struct op_hold_create *op)
{
	if (op->hold.amount_uusd < 0 || !op->hold.request_id[0]) {
		op_fail(&op->op, DB_E_INVALID, "A hold needs a request id and an amount of at least 0.");
		return;
	}
	if (open_hold(book, op->hold.request_id)) {
		op_fail(&op->op, DB_E_EXISTS, "The request %s holds money already.", op->hold.request_id);
		return;
	}
	struct book_account *account = book_account(book, op->hold.account_id);
	if (!account) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s of a hold does not exist.", op->hold.account_id);
		return;
	}
	struct book_hold *hold = calloc(1, sizeof *hold);
	if (!hold) {
		op_fail(&op->op, DB_E_NOMEM, "There is no memory for a hold.");
		return;
	}
	hold->facts = op->hold;
	hold->account = account->ref;
	if (map_put(&book->holds, str_of(hold->facts.request_id), hold, NULL)) {
		free(hold);
		op_fail(&op->op, DB_E_NOMEM, "There is no memory for a hold.");
		return;
	}
	/* Its row is written before the commit, unless it ends in the same group: then once, as ended. */
	list_push_back(&book->unwritten, &hold->unwritten);
}

void apply_hold_raise(struct book *book, struct op_hold_change *op)
{
	struct book_hold *hold = open_hold(book, op->request_id);
	if (!hold) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The request %s holds no money.", op->request_id);
		return;
	}
	if (op->amount_uusd < hold->facts.amount_uusd) {
		op_fail(&op->op, DB_E_INVALID, "A hold is only raised, never lowered.");
		return;
	}
	hold->facts.amount_uusd = op->amount_uusd;
	if (hold->row && book->rows) {
		rows_i64(book->rows, ROWS_HOLD_RAISES, hold->row);
		rows_i64(book->rows, ROWS_HOLD_RAISES, op->amount_uusd);
	} else if (hold->row) {
		struct sql_stmt *stmt = sql_say(book->db, book_statements[W_HOLD_RAISE]);
		sql_put_i64(stmt, 1, op->amount_uusd);
		sql_put_i64(stmt, 2, hold->row);
		sql_run(stmt);
	}
}

void apply_hold_release(struct book *book, struct op_hold_change *op)
{
	struct book_hold *hold = open_hold(book, op->request_id);
	int64_t row;
	if (!hold)
		return; /* it ended before: whoever comes second finds it so (billing 4.3) */
	end_hold(book, hold, &(struct book_hold_end){"released", op->reason, 0, op->at_us}, &row);
}

/* --- transfers --- */

bool book_transfer(struct book *book, const struct store_transfer *transfer, struct book_account *from, struct book_account *to)
{
	struct sql *db = book->db;
	int64_t now_us = clock_wall_us();
	struct sql_stmt *stmt = sql_say(db, book_statements[W_TRANSFER_INSERT]);
	sql_put_text(stmt, 1, transfer->key);
	sql_put_text(stmt, 2, transfer->reference);
	sql_put_i64(stmt, 3, now_us);
	int64_t row = sql_number(stmt);
	if (!row)
		return false;

	struct book_transaction transaction = {.transfer = row, .at_us = now_us, .count = 2};
	transaction.entries[0] = (struct book_entry){from, transfer->type, -transfer->amount_uusd, transfer->withdrawable};
	transaction.entries[1] = (struct book_entry){to, transfer->type, transfer->amount_uusd, transfer->withdrawable};
	book_write(book, &transaction);
	return true;
}

static bool transfer_known(struct book *book, const char *key)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_TRANSFER_EXISTS]);
	sql_put_text(stmt, 1, key);
	return sql_exists(stmt);
}

void apply_transfer(struct book *book, struct op_transfer *op)
{
	const struct store_transfer *transfer = &op->transfer;
	op->applied = false;
	if (transfer->amount_uusd <= 0 || !transfer->key[0] || !transfer->type[0]) {
		op_fail(&op->op, DB_E_INVALID, "A transfer needs a key, a type and an amount above 0.");
		return;
	}
	struct book_account *from = book_account(book, transfer->from), *to = book_account(book, transfer->to);
	if (!from || !to) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", from ? transfer->to : transfer->from);
		return;
	}
	if (from == to) {
		op_fail(&op->op, DB_E_INVALID, "A transfer needs two different accounts.");
		return;
	}
	if (transfer_known(book, transfer->key))
		return; /* done before, and the giver may be poor by now */
	if (!from->is_source && (book_spendable(from) < transfer->amount_uusd ||
	                         (transfer->withdrawable && from->withdrawable < transfer->amount_uusd))) {
		op_fail(&op->op, DB_E_FUNDS, "The account %s has not enough for the transfer.", transfer->from);
		return;
	}
	op->applied = book_transfer(book, transfer, from, to);
}

/* --- settlement --- */

static bool valid_settlement(const struct store_settlement *s)
{
	return s->request_id[0] && s->cost_uusd >= 0 && s->fee_uusd >= 0 && s->fee_uusd <= s->cost_uusd && s->hold_uusd >= 0 &&
	       s->referral_uusd >= 0 && (s->referral_uusd == 0 || s->referral_uusd < s->fee_uusd) &&
	       s->prompt_tokens <= TOKENS_MAX && s->completion_tokens <= TOKENS_MAX && s->reasoning_tokens <= TOKENS_MAX &&
	       s->cached_tokens <= s->prompt_tokens && s->reported_tokens <= TOKENS_MAX &&
	       s->reported_prompt_tokens <= TOKENS_MAX && s->reported_reasoning_tokens <= TOKENS_MAX;
}

static bool hold_row_exists(struct book *book, const char *request_id)
{
	if (book->rows)
		return book_has_ended(book, request_id);
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_HOLD_EXISTS]);
	sql_put_text(stmt, 1, request_id);
	return sql_exists(stmt);
}

/* Turns the hold into a settled one. Returns its row, 0 when it ended before. */
static int64_t settle_hold(struct book *book, const struct store_settlement *s, struct book_hold *hold,
                           struct book_account *consumer)
{
	struct book_hold_end end = {"settled", "", s->cost_uusd ? book->last_entry + 1 : 0, s->created_us};
	int64_t row = 0;
	if (hold)
		return end_hold(book, hold, &end, &row) ? row : 0;

	struct store_hold facts = {
	    .amount_uusd = s->hold_uusd, .price_in = s->price_in, .price_out = s->price_out, .created_us = s->created_us};
	memcpy(facts.request_id, s->request_id, sizeof facts.request_id);
	memcpy(facts.key_id, s->key_id, sizeof facts.key_id);
	return insert_hold(book, &facts, consumer->ref, &end);
}

static void write_usage_row(struct book *book, const struct store_settlement *s, int64_t row, int64_t consumer,
                            int64_t provider)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_USAGE_INSERT]);
	sql_put_i64(stmt, 1, row);
	sql_put_i64(stmt, 2, consumer);
	sql_put_text(stmt, 3, s->key_id);
	sql_put_i64_or_null(stmt, 4, provider);
	sql_put_text(stmt, 5, s->provider_id);
	sql_put_text(stmt, 6, s->provider_key);
	sql_put_text(stmt, 7, s->model);
	sql_put_text(stmt, 8, s->public_model);
	sql_put_i64(stmt, 9, (int64_t)s->prompt_tokens);
	sql_put_i64(stmt, 10, (int64_t)s->completion_tokens);
	sql_put_i64(stmt, 11, (int64_t)s->reasoning_tokens);
	sql_put_i64(stmt, 12, s->price_in);
	sql_put_i64(stmt, 13, s->price_out);
	sql_put_i64(stmt, 14, s->cost_uusd);
	sql_put_i64(stmt, 15, s->fee_uusd);
	sql_put_text(stmt, 16, s->outcome);
	sql_put_i64(stmt, 17, s->created_us);
	sql_put_i64(stmt, 18, (int64_t)s->cached_tokens);
	sql_put_i64(stmt, 19, s->price_cached);
	sql_put_i64(stmt, 20, s->service);
	sql_put_text(stmt, 21, s->job_id);
	sql_put_i64(stmt, 22, (int64_t)s->reported_tokens);
	sql_put_text(stmt, 23, s->response_hash);
	sql_put_text(stmt, 24, s->se_signature);
	sql_put_text(stmt, 25, s->se_public_key);
	sql_put_text(stmt, 26, s->consumer_key);
	sql_put_i64(stmt, 27, (int64_t)s->reported_prompt_tokens);
	sql_put_i64(stmt, 28, (int64_t)s->reported_reasoning_tokens);
	sql_run(stmt);
}

static void gather_usage_row(struct postgres_rows *rows, const struct store_settlement *s, int64_t row, int64_t consumer,
                             int64_t provider)
{
	rows_i64(rows, ROWS_USAGE, row);
	rows_i64(rows, ROWS_USAGE, consumer);
	rows_text(rows, ROWS_USAGE, s->key_id);
	rows_i64_or_null(rows, ROWS_USAGE, provider);
	rows_text(rows, ROWS_USAGE, s->provider_id);
	rows_text(rows, ROWS_USAGE, s->provider_key);
	rows_text(rows, ROWS_USAGE, s->model);
	rows_text(rows, ROWS_USAGE, s->public_model);
	rows_i64(rows, ROWS_USAGE, (int64_t)s->prompt_tokens);
	rows_i64(rows, ROWS_USAGE, (int64_t)s->completion_tokens);
	rows_i64(rows, ROWS_USAGE, (int64_t)s->reasoning_tokens);
	rows_i64(rows, ROWS_USAGE, s->price_in);
	rows_i64(rows, ROWS_USAGE, s->price_out);
	rows_i64(rows, ROWS_USAGE, s->cost_uusd);
	rows_i64(rows, ROWS_USAGE, s->fee_uusd);
	rows_text(rows, ROWS_USAGE, s->outcome);
	rows_i64(rows, ROWS_USAGE, s->created_us);
	rows_i64(rows, ROWS_USAGE, (int64_t)s->cached_tokens);
	rows_i64(rows, ROWS_USAGE, s->price_cached);
	rows_i64(rows, ROWS_USAGE, s->service);
	rows_text(rows, ROWS_USAGE, s->job_id);
	rows_i64(rows, ROWS_USAGE, (int64_t)s->reported_tokens);
	rows_text(rows, ROWS_USAGE, s->response_hash);
	rows_text(rows, ROWS_USAGE, s->se_signature);
	rows_text(rows, ROWS_USAGE, s->se_public_key);
	rows_text(rows, ROWS_USAGE, s->consumer_key);
	rows_i64(rows, ROWS_USAGE, (int64_t)s->reported_prompt_tokens);
	rows_i64(rows, ROWS_USAGE, (int64_t)s->reported_reasoning_tokens);
}

void book_flush_due(struct book *book)
{
	char rows[STORE_RECEIPTS_DUE * 21 + 3];
	size_t len = 0;
	if (book->due_count == 0)
		return;
	for (size_t i = 0; i < book->due_count; i++)
		len += (size_t)snprintf(rows + len, sizeof rows - len, "%c%lld", i ? ',' : '[', (long long)book->due[i]);
	snprintf(rows + len, sizeof rows - len, "]");
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_RECEIPTS_DUE]);
	sql_put_i64(stmt, 1, book->instance);
	sql_put_text(stmt, 2, rows);
	sql_post(stmt);
	book->due_count = 0;
}

void book_note_due(struct book *book, int64_t row)
{
	book->due[book->due_count++] = row;
	if (book->due_count == STORE_RECEIPTS_DUE)
		book_flush_due(book);
}

static void write_usage(struct book *book, const struct store_settlement *s, int64_t row, const struct book_account *consumer,
                        const struct book_account *provider)
{
	if (book->rows)
		gather_usage_row(book->rows, s, row, consumer->ref, provider ? provider->ref : 0);
	else
		write_usage_row(book, s, row, consumer->ref, provider ? provider->ref : 0);
	book_note_due(book, row);
	if (s->cost_uusd && s->key_id[0])
		book_spend(book, s->key_group[0] ? s->key_group : s->key_id, clock_day(s->created_us), s->cost_uusd);
	book->totals.jobs++;
	book->totals.prompt_tokens += (int64_t)s->prompt_tokens;
	book->totals.completion_tokens += (int64_t)s->completion_tokens;
}

static void write_earning_row(struct book *book, const struct store_settlement *s, int64_t row, int64_t provider,
                              int64_t payout)
{
	struct sql_stmt *stmt = sql_say(book->db, book_statements[W_EARNING_INSERT]);
	sql_put_i64(stmt, 1, row);
	sql_put_i64(stmt, 2, provider);
	sql_put_text(stmt, 3, s->provider_id);
	sql_put_text(stmt, 4, s->provider_key);
	sql_put_text(stmt, 5, s->model);
	sql_put_i64(stmt, 6, payout);
	sql_put_i64(stmt, 7, (int64_t)s->prompt_tokens);
	sql_put_i64(stmt, 8, (int64_t)s->completion_tokens);
	sql_put_i64(stmt, 9, s->created_us);
	sql_run(stmt);
}

static void gather_earning_row(struct postgres_rows *rows, const struct store_settlement *s, int64_t row, int64_t provider,
                               int64_t payout)
{
	rows_i64(rows, ROWS_EARNINGS, row);
	rows_i64(rows, ROWS_EARNINGS, provider);
	rows_text(rows, ROWS_EARNINGS, s->provider_id);
	rows_text(rows, ROWS_EARNINGS, s->provider_key);
	rows_text(rows, ROWS_EARNINGS, s->model);
	rows_i64(rows, ROWS_EARNINGS, payout);
	rows_i64(rows, ROWS_EARNINGS, (int64_t)s->prompt_tokens);
	rows_i64(rows, ROWS_EARNINGS, (int64_t)s->completion_tokens);
	rows_i64(rows, ROWS_EARNINGS, s->created_us);
}

static void write_earning(struct book *book, const struct store_settlement *s, int64_t row, struct book_account *provider,
                          int64_t payout)
{
	if (book->rows)
		gather_earning_row(book->rows, s, row, provider->ref, payout);
	else
		write_earning_row(book, s, row, provider->ref, payout);
	provider->earned.jobs++;
	provider->earned.amount += payout;
	provider->earned.prompt_tokens += (int64_t)s->prompt_tokens;
	provider->earned.completion_tokens += (int64_t)s->completion_tokens;
}

void book_write_reward(struct book *book, struct book_account *account, const char *provider_key, int64_t amount)
{
	struct store_settlement earning = {.model = "base_reward", .created_us = clock_wall_us()};
	(void)str_copy(str_of(provider_key), earning.provider_key, sizeof earning.provider_key);
	book->last_hold++; /* earnings of requests have the ids of their holds */
	if (book->rows)
		gather_earning_row(book->rows, &earning, book->last_hold, account->ref, amount);
	else
		write_earning_row(book, &earning, book->last_hold, account->ref, amount);
	account->base_rewards += amount;
}

static void move_settled(struct book *book, const struct store_settlement *s, int64_t row, struct book_account *consumer,
                         struct book_account *provider, struct book_account *platform)
{
	int64_t payout = s->cost_uusd - s->fee_uusd;
	struct book_account *referrer = s->referral_uusd ? book_account(book, s->referrer) : NULL;
	int64_t referral = referrer && referrer != consumer ? s->referral_uusd : 0;
	struct book_transaction t = {.hold = row, .at_us = s->created_us};

	t.entries[t.count++] = (struct book_entry){consumer, "charge", -s->cost_uusd, false};
	if (payout && provider)
		t.entries[t.count++] = (struct book_entry){provider, "payout", payout, true};
	if (payout && !provider) /* so that the books close (billing 4.4) */
		t.entries[t.count++] = (struct book_entry){platform, "platform_retained", payout, false};
	if (s->fee_uusd)
		t.entries[t.count++] = (struct book_entry){platform, "platform_fee", s->fee_uusd - referral, false};
	if (referral)
		t.entries[t.count++] = (struct book_entry){referrer, "referral_reward", referral, true};
	book_write(book, &t);
	if (payout && provider)
		write_earning(book, s, row, provider, payout);
}

void apply_settle(struct book *book, struct op_settle *op)
{
	const struct store_settlement *s = &op->s;
	if (!valid_settlement(s)) {
		op_fail(&op->op, DB_E_INVALID, "The settlement of request %s has impossible numbers.", s->request_id);
		return;
	}
	struct book_hold *hold = open_hold(book, s->request_id);
	if (!hold && hold_row_exists(book, s->request_id))
		return; /* it ended before: nothing at all (billing 4.4) */

	bool linked = s->provider_account[0] != '\0';
	struct book_account *consumer = book_account(book, s->account_id);
	struct book_account *provider = linked ? book_account(book, s->provider_account) : NULL;
	struct book_account *platform = book_account(book, STORE_ACCOUNT_PLATFORM);
	if (!consumer || !platform || (linked && !provider)) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", consumer ? s->provider_account : s->account_id);
		return;
	}
	if (hold && hold->account != consumer->ref) {
		op_fail(&op->op, DB_E_INVALID, "The request %s holds the money of another account.", s->request_id);
		return;
	}
	if (book_spendable(consumer) < s->cost_uusd && !consumer->is_source) {
		op_fail(&op->op, DB_E_FUNDS, "The account %s cannot pay for request %s.", s->account_id, s->request_id);
		return;
	}
	int64_t row = settle_hold(book, s, hold, consumer);
	if (!row)
		return;
	write_usage(book, s, row, consumer, provider);
	if (s->cost_uusd)
		move_settled(book, s, row, consumer, provider, platform);
}
