#include "coordinator/store/book.h"

/* One transaction of the ledger in one statement. OR FAIL spares SQLite a journal for undoing part of it: when it fails, all of
 * the group is undone. */
#define ENTRIES_INSERT                                                                                                         \
	"INSERT OR FAIL INTO ledger (id, hold, transfer, created_us, account, type, amount, balance_after, withdrawable_after)"    \
	" VALUES "
#define ENTRY_VALUES(n, account, type, amount, balance, withdrawable)                                                          \
	"(?1 + " #n ", ?2, ?3, ?4, ?" #account ", ?" #type ", ?" #amount ", ?" #balance ", ?" #withdrawable ")"

#define IF_ASKED(bit, column, value) #column " = CASE WHEN (?2 & " #bit ") <> 0 THEN ?" #value " ELSE " #column " END"

const char *const book_statements[W_STATEMENTS] = {
    [W_RELEASE_LEFT_OPEN] = "UPDATE holds SET state = 'released', reason = 'restart', ended_us = ? WHERE state = 'open'",
    [W_LAST_HOLD] =
        "SELECT coalesce(max(id), 0) FROM (SELECT max(id) AS id FROM holds UNION ALL SELECT max(id) FROM earnings) t",
    [W_LAST_ENTRY] = "SELECT coalesce(max(id), 0) FROM ledger",
    [W_OPEN_HOLDS] = "SELECT id, request_id, account, amount FROM holds WHERE state = 'open'",

    [W_ACCOUNT_INSERT] = "INSERT INTO accounts (id, kind, name, role, fee_percent, is_owner, created_us)"
                         " VALUES (?, 'user', ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING ref",
    [W_BALANCE_INSERT] = "INSERT INTO balances (account, may_go_below) VALUES (?, 0)",
    [W_ACCOUNT_READ] = "SELECT ref, may_go_below, balance, withdrawable,"
                       " (SELECT coalesce(sum(l.amount), 0) FROM leases l WHERE l.account = ref AND l.instance = ?2),"
                       " (SELECT coalesce(sum(l.amount), 0) FROM leases l WHERE l.account = ref AND l.instance <> ?2),"
                       " (SELECT count(*) FROM leases l WHERE l.account = ref AND l.instance <> ?2)"
                       " FROM accounts JOIN balances ON account = ref WHERE id = ?1",
    [W_LEASE_SHRINK] = "UPDATE leases SET amount = ? WHERE account = ? AND instance = ?",
    [W_ACCOUNT_FACTS] =
        "SELECT name, role, fee_percent, CASE WHEN EXISTS (SELECT 1 FROM provider_tokens t WHERE t.account = a.ref)"
        " THEN 1 ELSE 0 END, coalesce((SELECT b.id FROM referrals r JOIN accounts b ON b.ref = r.referrer WHERE r.account ="
        " a.ref), '') FROM accounts a WHERE a.ref = ?",
    [W_OWNER] = "SELECT ref FROM accounts WHERE is_owner = 1",
    [W_KEY_INSERT] = "INSERT INTO api_keys (hash, id, account, label, name, disabled, expires_us, created_us, limit_group,"
                     " scopes, spend_limit, limit_reset, rpm, itpm, otpm, allowed_models, self_route_only)"
                     " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    [W_KEYS_OF_ACCOUNT] = "SELECT count(*) FROM api_keys WHERE account = ?",
    [W_KEY_DISABLE] = "UPDATE api_keys SET disabled = 1 WHERE id = ?",
    /* The bits are those of enum store_key_field. */
    /* clang-format off */
    [W_KEY_UPDATE] = "UPDATE api_keys SET "
                     IF_ASKED(1, name, 3) ", " IF_ASKED(2, disabled, 4) ", " IF_ASKED(4, spend_limit, 5) ", "
                     IF_ASKED(8, limit_reset, 6) ", " IF_ASKED(16, rpm, 7) ", " IF_ASKED(32, itpm, 8) ", "
                     IF_ASKED(64, otpm, 9) ", " IF_ASKED(128, allowed_models, 10) ", "
                     IF_ASKED(256, self_route_only, 11) ", " IF_ASKED(512, expires_us, 12) ", "
                     IF_ASKED(1024, scopes, 13) " WHERE id = ?1",
    /* clang-format on */
    [W_KEY_ROTATE] = "UPDATE api_keys SET hash = ?2, id = ?3, label = ?4, created_us = ?5, last_used_us = 0 WHERE id = ?1",
    [W_KEY_DELETE] = "DELETE FROM api_keys WHERE id = ?",
    [W_KEY_TOUCH] = "UPDATE api_keys SET last_used_us = ?2 WHERE id = ?1 AND last_used_us < ?2",
    [W_SPEND_ADD] = "INSERT INTO key_spend (limit_group, day, spent) VALUES (?, ?, ?)"
                    " ON CONFLICT (limit_group, day) DO UPDATE SET spent = key_spend.spent + excluded.spent",
    [W_LEVELS_WRITE] =
        "INSERT INTO rate_levels (owner, at_us, requests, input, output, financial) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (owner) DO UPDATE SET at_us = excluded.at_us, requests = excluded.requests, input = excluded.input,"
        " output = excluded.output, financial = excluded.financial",
    [W_LEVELS_FORGET] = "DELETE FROM rate_levels WHERE owner = ?",
    [W_PROVIDER_TOKEN_INSERT] = "INSERT INTO provider_tokens (hash, account, label, created_us) VALUES (?, ?, ?, ?)"
                                " ON CONFLICT DO NOTHING",
    [W_PRICE_SET] = "INSERT INTO prices (account, model, input, output, cached, updated_us) VALUES (?, ?, ?, ?, ?, ?)"
                    " ON CONFLICT (account, model) DO UPDATE SET input = excluded.input, output = excluded.output,"
                    " cached = excluded.cached, updated_us = excluded.updated_us",

    [W_TRANSFER_EXISTS] = "SELECT 1 FROM transfers WHERE key = ?",
    [W_TRANSFER_INSERT] = "INSERT INTO transfers (key, reference, created_us) VALUES (?, ?, ?)"
                          " ON CONFLICT DO NOTHING RETURNING id",
    [W_HOLD_INSERT] = "INSERT INTO holds (id, request_id, account, key_id, amount, price_in, price_out, state, reason, entry,"
                      " created_us, ended_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    [W_HOLD_EXISTS] = "SELECT 1 FROM holds WHERE request_id = ?",
    [W_HOLD_RAISE] = "UPDATE holds SET amount = ? WHERE id = ? AND state = 'open'",
    [W_HOLD_END] = "UPDATE holds SET state = ?, reason = ?, entry = ?, ended_us = ? WHERE id = ? AND state = 'open'",
    [W_ENTRIES_2] = ENTRIES_INSERT ENTRY_VALUES(0, 5, 6, 7, 8, 9) ", " ENTRY_VALUES(1, 10, 11, 12, 13, 14),
    [W_ENTRIES_3] = ENTRIES_INSERT ENTRY_VALUES(0, 5, 6, 7, 8, 9) ", " ENTRY_VALUES(1, 10, 11, 12, 13, 14) ", " ENTRY_VALUES(
        2, 15, 16, 17, 18, 19),
    [W_ENTRIES_4] = ENTRIES_INSERT ENTRY_VALUES(0, 5, 6, 7, 8, 9) ", " ENTRY_VALUES(1, 10, 11, 12, 13, 14) ", " ENTRY_VALUES(
        2, 15, 16, 17, 18, 19) ", " ENTRY_VALUES(3, 20, 21, 22, 23, 24),
    [W_USAGE_INSERT] =
        "INSERT INTO usage (id, account, key_id, provider_account, provider_id, provider_key, model, public_model,"
        " prompt_tokens, completion_tokens, reasoning_tokens, price_in, price_out, cost, fee, outcome, created_us,"
        " cached_tokens, price_cached, service, job_id, reported_tokens, response_hash, se_signature, se_public_key,"
        " consumer_key, reported_prompt, reported_reasoning)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [W_EARNING_INSERT] = "INSERT INTO earnings (id, account, provider_id, provider_key, model, amount, prompt_tokens,"
                         " completion_tokens, created_us) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [W_RECEIPTS_DUE] = "INSERT INTO receipts_due (instance, rows) VALUES (?, ?)",
    [W_BALANCE_WRITE] = "UPDATE balances SET balance = ?, withdrawable = ? WHERE account = ?",
    [W_EARNINGS_ADD] =
        "INSERT INTO earnings_summary AS s (account, jobs, amount, prompt_tokens, completion_tokens) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (account) DO UPDATE SET jobs = s.jobs + excluded.jobs, amount = s.amount + excluded.amount,"
        " prompt_tokens = s.prompt_tokens + excluded.prompt_tokens,"
        " completion_tokens = s.completion_tokens + excluded.completion_tokens",
    [W_EARNINGS_HOUR] =
        "INSERT INTO earnings_hours AS s (account, hour, jobs, amount, prompt_tokens, completion_tokens, rewards,"
        " referral_jobs, referrals) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (hour, account) DO UPDATE SET"
        " jobs = s.jobs + excluded.jobs, amount = s.amount + excluded.amount,"
        " prompt_tokens = s.prompt_tokens + excluded.prompt_tokens,"
        " completion_tokens = s.completion_tokens + excluded.completion_tokens,"
        " rewards = s.rewards + excluded.rewards, referral_jobs = s.referral_jobs + excluded.referral_jobs,"
        " referrals = s.referrals + excluded.referrals",
    [W_TOTALS_ADD] = "UPDATE usage_totals SET requests = requests + ?, prompt_tokens = prompt_tokens + ?,"
                     " completion_tokens = completion_tokens + ?",
};
