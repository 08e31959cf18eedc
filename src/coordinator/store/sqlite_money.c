#include "coordinator/store/sqlite_book.h"

#include <stdlib.h>

#include "core/clock.h"

#define TOKENS_MAX (INT64_C(1) << 40) /* of one request; keeps every sum far from overflow */

static struct book_hold *open_hold(struct sqlite_writer *writer, const char *request_id)
{
	return map_get(&writer->holds, str_of(request_id));
}

static void drop_hold(struct sqlite_writer *writer, struct book_hold *hold)
{
	list_remove(&writer->unwritten, &hold->unwritten);
	map_remove(&writer->holds, str_of(hold->facts.request_id));
	free(hold);
}

static void bind_end(sqlite3_stmt *stmt, int at, int64_t value)
{
	if (value)
		sqlite_i64(stmt, at, value);
	else
		sqlite_null(stmt, at);
}

/* Returns holds.id, or 0 when the request id is in the file already. */
static int64_t insert_hold(struct sqlite_writer *writer, const struct store_hold *facts, int64_t account,
                           const struct book_hold_end *end)
{
	struct sqlite_db *db = &writer->db;
	sqlite3_stmt *stmt = sqlite_use(db, W_HOLD_INSERT);
	sqlite_i64(stmt, 1, writer->last_hold + 1);
	sqlite_text(stmt, 2, facts->request_id);
	sqlite_i64(stmt, 3, account);
	sqlite_text(stmt, 4, facts->key_id);
	sqlite_i64(stmt, 5, facts->amount_uusd);
	sqlite_i64(stmt, 6, facts->price_in);
	sqlite_i64(stmt, 7, facts->price_out);
	sqlite_text(stmt, 8, end->state);
	sqlite_text(stmt, 9, end->reason);
	bind_end(stmt, 10, end->entry);
	sqlite_i64(stmt, 11, facts->created_us);
	bind_end(stmt, 12, end->at_us);
	if (!sqlite_run(db, stmt) || sqlite3_changes(db->handle) == 0)
		return 0;
	return ++writer->last_hold;
}

bool book_write_hold(struct sqlite_writer *writer, struct book_hold *hold, const struct book_hold_end *end)
{
	hold->row = insert_hold(writer, &hold->facts, hold->account, end);
	if (hold->row)
		return true;
	drop_hold(writer, hold);
	return false;
}

/* Writes that it ended. False when its row says that it ended before. */
static bool end_hold(struct sqlite_writer *writer, struct book_hold *hold, const struct book_hold_end *end, int64_t *row)
{
	struct sqlite_db *db = &writer->db;
	if (hold->row) {
		sqlite3_stmt *stmt = sqlite_use(db, W_HOLD_END);
		sqlite_text(stmt, 1, end->state);
		sqlite_text(stmt, 2, end->reason);
		bind_end(stmt, 3, end->entry);
		sqlite_i64(stmt, 4, end->at_us);
		sqlite_i64(stmt, 5, hold->row);
		if (!sqlite_run(db, stmt))
			return false;
	} else if (!book_write_hold(writer, hold, end)) {
		return false;
	}
	*row = hold->row;
	drop_hold(writer, hold);
	return true;
}

void apply_hold_create(struct sqlite_writer *writer, struct op_hold_create *op)
{
	if (op->hold.amount_uusd < 0 || !op->hold.request_id[0]) {
		op_fail(&op->op, DB_E_INVALID, "A hold needs a request id and an amount of at least 0.");
		return;
	}
	if (open_hold(writer, op->hold.request_id)) {
		op_fail(&op->op, DB_E_EXISTS, "The request %s holds money already.", op->hold.request_id);
		return;
	}
	struct book_account *account = book_account(writer, op->hold.account_id);
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
	if (map_put(&writer->holds, str_of(hold->facts.request_id), hold, NULL)) {
		free(hold);
		op_fail(&op->op, DB_E_NOMEM, "There is no memory for a hold.");
		return;
	}
	/* Its row is written before the commit, unless it ends in the same group: then once, as ended. */
	list_push_back(&writer->unwritten, &hold->unwritten);
}

void apply_hold_raise(struct sqlite_writer *writer, struct op_hold_change *op)
{
	struct book_hold *hold = open_hold(writer, op->request_id);
	if (!hold) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The request %s holds no money.", op->request_id);
		return;
	}
	if (op->amount_uusd < hold->facts.amount_uusd) {
		op_fail(&op->op, DB_E_INVALID, "A hold is only raised, never lowered.");
		return;
	}
	hold->facts.amount_uusd = op->amount_uusd;
	if (hold->row) {
		sqlite3_stmt *stmt = sqlite_use(&writer->db, W_HOLD_RAISE);
		sqlite_i64(stmt, 1, op->amount_uusd);
		sqlite_i64(stmt, 2, hold->row);
		sqlite_run(&writer->db, stmt);
	}
}

void apply_hold_release(struct sqlite_writer *writer, struct op_hold_change *op)
{
	struct book_hold *hold = open_hold(writer, op->request_id);
	int64_t row;
	if (!hold)
		return; /* it ended before: whoever comes second finds it so (billing 4.3) */
	end_hold(writer, hold, &(struct book_hold_end){"released", op->reason, 0, op->at_us}, &row);
}

/* --- transfers --- */

bool book_transfer(struct sqlite_writer *writer, const struct store_transfer *transfer, struct book_account *from,
                   struct book_account *to)
{
	struct sqlite_db *db = &writer->db;
	int64_t now_us = clock_wall_us();
	sqlite3_stmt *stmt = sqlite_use(db, W_TRANSFER_INSERT);
	sqlite_text(stmt, 1, transfer->key);
	sqlite_text(stmt, 2, transfer->reference);
	sqlite_i64(stmt, 3, now_us);
	if (!sqlite_run(db, stmt) || sqlite3_changes(db->handle) == 0)
		return false;

	struct book_transaction transaction = {.transfer = sqlite3_last_insert_rowid(db->handle), .at_us = now_us, .count = 2};
	transaction.entries[0] = (struct book_entry){from, transfer->type, -transfer->amount_uusd, transfer->withdrawable};
	transaction.entries[1] = (struct book_entry){to, transfer->type, transfer->amount_uusd, transfer->withdrawable};
	book_write(writer, &transaction);
	return true;
}

static bool transfer_known(struct sqlite_writer *writer, const char *key)
{
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_TRANSFER_EXISTS);
	sqlite_text(stmt, 1, key);
	bool known = sqlite_row(&writer->db, stmt);
	if (known)
		sqlite_done(stmt);
	return known;
}

void apply_transfer(struct sqlite_writer *writer, struct op_transfer *op)
{
	const struct store_transfer *transfer = &op->transfer;
	op->applied = false;
	if (transfer->amount_uusd <= 0 || !transfer->key[0] || !transfer->type[0]) {
		op_fail(&op->op, DB_E_INVALID, "A transfer needs a key, a type and an amount above 0.");
		return;
	}
	struct book_account *from = book_account(writer, transfer->from), *to = book_account(writer, transfer->to);
	if (!from || !to) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", from ? transfer->to : transfer->from);
		return;
	}
	if (from == to) {
		op_fail(&op->op, DB_E_INVALID, "A transfer needs two different accounts.");
		return;
	}
	if (transfer_known(writer, transfer->key))
		return; /* done before, and the giver may be poor by now */
	if (!from->is_source &&
	    (from->balance < transfer->amount_uusd || (transfer->withdrawable && from->withdrawable < transfer->amount_uusd))) {
		op_fail(&op->op, DB_E_FUNDS, "The account %s has not enough for the transfer.", transfer->from);
		return;
	}
	op->applied = book_transfer(writer, transfer, from, to);
}

/* --- settlement --- */

static bool valid_settlement(const struct store_settlement *s)
{
	return s->request_id[0] && s->cost_uusd >= 0 && s->fee_uusd >= 0 && s->fee_uusd <= s->cost_uusd && s->hold_uusd >= 0 &&
	       s->prompt_tokens <= TOKENS_MAX && s->completion_tokens <= TOKENS_MAX && s->reasoning_tokens <= TOKENS_MAX;
}

static bool hold_row_exists(struct sqlite_writer *writer, const char *request_id)
{
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_HOLD_EXISTS);
	sqlite_text(stmt, 1, request_id);
	bool exists = sqlite_row(&writer->db, stmt);
	if (exists)
		sqlite_done(stmt);
	return exists;
}

/* Turns the hold into a settled one. Returns its row, 0 when it ended before. */
static int64_t settle_hold(struct sqlite_writer *writer, const struct store_settlement *s, struct book_hold *hold,
                           struct book_account *consumer)
{
	struct book_hold_end end = {"settled", "", s->cost_uusd ? writer->last_entry + 1 : 0, s->created_us};
	int64_t row = 0;
	if (hold)
		return end_hold(writer, hold, &end, &row) ? row : 0;

	struct store_hold facts = {
	    .amount_uusd = s->hold_uusd, .price_in = s->price_in, .price_out = s->price_out, .created_us = s->created_us};
	memcpy(facts.request_id, s->request_id, sizeof facts.request_id);
	memcpy(facts.key_id, s->key_id, sizeof facts.key_id);
	return insert_hold(writer, &facts, consumer->ref, &end);
}

static void write_usage(struct sqlite_writer *writer, const struct store_settlement *s, int64_t row,
                        const struct book_account *consumer, const struct book_account *provider)
{
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_USAGE_INSERT);
	sqlite_i64(stmt, 1, row);
	sqlite_i64(stmt, 2, consumer->ref);
	sqlite_text(stmt, 3, s->key_id);
	bind_end(stmt, 4, provider ? provider->ref : 0);
	sqlite_text(stmt, 5, s->provider_id);
	sqlite_text(stmt, 6, s->provider_key);
	sqlite_text(stmt, 7, s->model);
	sqlite_text(stmt, 8, s->public_model);
	sqlite_i64(stmt, 9, (int64_t)s->prompt_tokens);
	sqlite_i64(stmt, 10, (int64_t)s->completion_tokens);
	sqlite_i64(stmt, 11, (int64_t)s->reasoning_tokens);
	sqlite_i64(stmt, 12, s->price_in);
	sqlite_i64(stmt, 13, s->price_out);
	sqlite_i64(stmt, 14, s->cost_uusd);
	sqlite_i64(stmt, 15, s->fee_uusd);
	sqlite_text(stmt, 16, s->outcome);
	sqlite_i64(stmt, 17, s->created_us);
	sqlite_run(&writer->db, stmt);

	if (s->cost_uusd && s->key_id[0])
		book_spend(writer, s->key_group[0] ? s->key_group : s->key_id, clock_day(s->created_us), s->cost_uusd);
	writer->totals.jobs++;
	writer->totals.prompt_tokens += (int64_t)s->prompt_tokens;
	writer->totals.completion_tokens += (int64_t)s->completion_tokens;
}

static void write_earning(struct sqlite_writer *writer, const struct store_settlement *s, int64_t row,
                          struct book_account *provider, int64_t payout)
{
	sqlite3_stmt *stmt = sqlite_use(&writer->db, W_EARNING_INSERT);
	sqlite_i64(stmt, 1, row);
	sqlite_i64(stmt, 2, provider->ref);
	sqlite_text(stmt, 3, s->provider_id);
	sqlite_text(stmt, 4, s->provider_key);
	sqlite_text(stmt, 5, s->model);
	sqlite_i64(stmt, 6, payout);
	sqlite_i64(stmt, 7, (int64_t)s->prompt_tokens);
	sqlite_i64(stmt, 8, (int64_t)s->completion_tokens);
	sqlite_i64(stmt, 9, s->created_us);
	sqlite_run(&writer->db, stmt);

	provider->earned.jobs++;
	provider->earned.amount += payout;
	provider->earned.prompt_tokens += (int64_t)s->prompt_tokens;
	provider->earned.completion_tokens += (int64_t)s->completion_tokens;
}

static void move_settled(struct sqlite_writer *writer, const struct store_settlement *s, int64_t row,
                         struct book_account *consumer, struct book_account *provider, struct book_account *platform)
{
	int64_t payout = s->cost_uusd - s->fee_uusd;
	struct book_transaction t = {.hold = row, .at_us = s->created_us};

	t.entries[t.count++] = (struct book_entry){consumer, "charge", -s->cost_uusd, false};
	if (payout && provider)
		t.entries[t.count++] = (struct book_entry){provider, "payout", payout, true};
	if (payout && !provider) /* so that the books close (billing 4.4) */
		t.entries[t.count++] = (struct book_entry){platform, "platform_retained", payout, false};
	if (s->fee_uusd)
		t.entries[t.count++] = (struct book_entry){platform, "platform_fee", s->fee_uusd, false};
	book_write(writer, &t);
	if (payout && provider)
		write_earning(writer, s, row, provider, payout);
}

void apply_settle(struct sqlite_writer *writer, struct op_settle *op)
{
	const struct store_settlement *s = &op->s;
	if (!valid_settlement(s)) {
		op_fail(&op->op, DB_E_INVALID, "The settlement of request %s has impossible numbers.", s->request_id);
		return;
	}
	struct book_hold *hold = open_hold(writer, s->request_id);
	if (!hold && hold_row_exists(writer, s->request_id))
		return; /* it ended before: nothing at all (billing 4.4) */

	bool linked = s->provider_account[0] != '\0';
	struct book_account *consumer = book_account(writer, s->account_id);
	struct book_account *provider = linked ? book_account(writer, s->provider_account) : NULL;
	struct book_account *platform = book_account(writer, STORE_ACCOUNT_PLATFORM);
	if (!consumer || !platform || (linked && !provider)) {
		op_fail(&op->op, DB_E_NOT_FOUND, "The account %s does not exist.", consumer ? s->provider_account : s->account_id);
		return;
	}
	if (hold && hold->account != consumer->ref) {
		op_fail(&op->op, DB_E_INVALID, "The request %s holds the money of another account.", s->request_id);
		return;
	}
	if (consumer->balance < s->cost_uusd && !consumer->is_source) {
		op_fail(&op->op, DB_E_FUNDS, "The account %s cannot pay for request %s.", s->account_id, s->request_id);
		return;
	}
	int64_t row = settle_hold(writer, s, hold, consumer);
	if (!row)
		return;
	write_usage(writer, s, row, consumer, provider);
	if (s->cost_uusd)
		move_settled(writer, s, row, consumer, provider, platform);
}
