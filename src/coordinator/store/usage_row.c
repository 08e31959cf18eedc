#include "coordinator/store/usage_row.h"

const char usage_of_request_sql[] =
    "SELECT " USAGE_ROW_COLUMNS " FROM holds h JOIN usage u ON u.id = h.id JOIN accounts a ON a.ref = u.account"
    " LEFT JOIN accounts p ON p.ref = u.provider_account WHERE h.request_id = ?";

/* The entries of a settlement stand side by side from holds.entry on: at most four. */
const char entries_of_request_sql[] =
    "SELECT e.id, a.id, e.type, h.request_id, e.amount, e.balance_after, e.created_us FROM holds h"
    " JOIN ledger e ON e.id BETWEEN h.entry AND h.entry + 3 AND e.hold = h.id JOIN accounts a ON a.ref = e.account"
    " WHERE h.request_id = ? ORDER BY e.id";

void usage_row_read(struct sql_stmt *stmt, struct store_settlement *s)
{
	sql_copy(stmt, 0, s->request_id, sizeof s->request_id);
	sql_copy(stmt, 1, s->account_id, sizeof s->account_id);
	sql_copy(stmt, 2, s->key_id, sizeof s->key_id);
	sql_copy(stmt, 3, s->provider_account, sizeof s->provider_account);
	sql_copy(stmt, 4, s->provider_id, sizeof s->provider_id);
	sql_copy(stmt, 5, s->provider_key, sizeof s->provider_key);
	sql_copy(stmt, 6, s->model, sizeof s->model);
	sql_copy(stmt, 7, s->public_model, sizeof s->public_model);
	sql_copy(stmt, 8, s->outcome, sizeof s->outcome);
	s->prompt_tokens = (uint64_t)sql_i64(stmt, 9);
	s->completion_tokens = (uint64_t)sql_i64(stmt, 10);
	s->reasoning_tokens = (uint64_t)sql_i64(stmt, 11);
	s->price_in = sql_i64(stmt, 12);
	s->price_out = sql_i64(stmt, 13);
	s->cost_uusd = sql_i64(stmt, 14);
	s->fee_uusd = sql_i64(stmt, 15);
	s->hold_uusd = sql_i64(stmt, 16);
	s->created_us = sql_i64(stmt, 17);
	s->cached_tokens = (uint64_t)sql_i64(stmt, 18);
	s->price_cached = sql_i64(stmt, 19);
	s->service = sql_i64(stmt, 20) != 0;
	sql_copy(stmt, 21, s->job_id, sizeof s->job_id);
	s->reported_tokens = (uint64_t)sql_i64(stmt, 22);
	sql_copy(stmt, 23, s->response_hash, sizeof s->response_hash);
	sql_copy(stmt, 24, s->se_signature, sizeof s->se_signature);
	sql_copy(stmt, 25, s->se_public_key, sizeof s->se_public_key);
	sql_copy(stmt, 26, s->consumer_key, sizeof s->consumer_key);
	s->reported_prompt_tokens = (uint64_t)sql_i64(stmt, 27);
	s->reported_reasoning_tokens = (uint64_t)sql_i64(stmt, 28);
}

void entry_row_read(struct sql_stmt *stmt, struct store_ledger_row *row)
{
	row->id = sql_i64(stmt, 0);
	sql_copy(stmt, 1, row->account_id, sizeof row->account_id);
	sql_copy(stmt, 2, row->type, sizeof row->type);
	sql_copy(stmt, 3, row->reference, sizeof row->reference);
	row->amount_uusd = sql_i64(stmt, 4);
	row->balance_after_uusd = sql_i64(stmt, 5);
	row->created_us = sql_i64(stmt, 6);
}
