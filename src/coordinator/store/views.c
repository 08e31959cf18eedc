/* SQL of what one account sees of itself: usage, earnings, statements. */
#include "coordinator/store/views.h"

#include "core/clock.h"
#include "core/csv.h"
#include "core/json.h"

static void comma(struct buf *out, size_t rows)
{
	if (rows > 0)
		buf_append_byte(out, ',');
}

static void put_time(struct json_writer *w, const char *name, int64_t wall_us)
{
	char text[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(wall_us, text);
	json_put_cstr(w, name, text);
}

static void put_column(struct json_writer *w, const char *name, struct sql_stmt *stmt, int column)
{
	json_put_str(w, name, sql_text(stmt, column));
}

static void put_number(struct json_writer *w, const char *name, struct sql_stmt *stmt, int column)
{
	json_put_i64(w, name, sql_i64(stmt, column));
}

/* --- usage --- */

enum usage_column {
	U_ID,
	U_REQUEST,
	U_MODEL,
	U_PUBLIC_MODEL,
	U_KEY,
	U_PROMPT,
	U_CACHED,
	U_COMPLETION,
	U_REASONING,
	U_COST,
	U_OUTCOME,
	U_CREATED,
};

static const char usage_sql[] =
    "SELECT u.id, h.request_id, u.model, CASE WHEN u.public_model = '' THEN u.model ELSE u.public_model END, u.key_id,"
    " u.prompt_tokens, u.cached_tokens, u.completion_tokens, u.reasoning_tokens, u.cost, u.outcome, u.created_us"
    " FROM usage u JOIN holds h ON h.id = u.id JOIN accounts a ON a.ref = u.account WHERE a.id = ?1 AND u.created_us >= ?2"
    " AND u.created_us < ?3 AND (u.created_us < ?4 OR (u.created_us = ?4 AND u.id < ?5)) AND (?6 = '' OR u.key_id = ?6)"
    " AND (?7 = '' OR u.model = ?7 OR u.public_model = ?7) ORDER BY u.created_us DESC, u.id DESC LIMIT ?8";

const char *store_usage_csv_head(void)
{
	return "job_id,timestamp,model,build,key_id,prompt_tokens,cached_tokens,completion_tokens,reasoning_tokens,"
	       "cost_micro_usd,outcome\r\n";
}

static void usage_json(struct sql_stmt *stmt, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	put_column(&w, "job_id", stmt, U_REQUEST);
	put_column(&w, "model", stmt, U_PUBLIC_MODEL);
	put_column(&w, "build", stmt, U_MODEL);
	put_column(&w, "key_id", stmt, U_KEY);
	put_number(&w, "prompt_tokens", stmt, U_PROMPT);
	put_number(&w, "cached_tokens", stmt, U_CACHED);
	put_number(&w, "completion_tokens", stmt, U_COMPLETION);
	put_number(&w, "reasoning_tokens", stmt, U_REASONING);
	put_number(&w, "cost_micro_usd", stmt, U_COST);
	put_column(&w, "outcome", stmt, U_OUTCOME);
	put_time(&w, "timestamp", sql_i64(stmt, U_CREATED));
	json_end_object(&w);
}

static void usage_csv(struct sql_stmt *stmt, struct buf *out)
{
	char when[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(sql_i64(stmt, U_CREATED), when);
	csv_field(out, sql_text(stmt, U_REQUEST));
	buf_printf(out, ",%s,", when);
	csv_field(out, sql_text(stmt, U_PUBLIC_MODEL));
	buf_append_byte(out, ',');
	csv_field(out, sql_text(stmt, U_MODEL));
	buf_append_byte(out, ',');
	csv_field(out, sql_text(stmt, U_KEY));
	for (int column = U_PROMPT; column <= U_COST; column++)
		buf_printf(out, ",%lld", (long long)sql_i64(stmt, column));
	buf_append_byte(out, ',');
	csv_field(out, sql_text(stmt, U_OUTCOME));
	buf_append_c(out, "\r\n");
}

static void usage_row(struct sql_stmt *stmt, const struct store_view *view, struct view_out *out)
{
	if (view->format == STORE_VIEW_CSV) {
		usage_csv(stmt, &out->text);
		return;
	}
	if (view->format == STORE_VIEW_JSON)
		comma(&out->text, out->answer.rows);
	usage_json(stmt, &out->text);
	if (view->format == STORE_VIEW_JSON_LINES)
		buf_append_byte(&out->text, '\n');
}

void view_usage(struct sql *db, const struct store_view *view, struct view_out *out)
{
	struct sql_stmt *stmt = sql_say(db, usage_sql);
	int64_t last_us = 0, last_id = 0;
	sql_put_text(stmt, 1, view->account);
	sql_put_i64(stmt, 2, view->from_us);
	sql_put_i64(stmt, 3, view->to_us ? view->to_us : INT64_MAX);
	sql_put_i64(stmt, 4, view->cursor_us ? view->cursor_us : INT64_MAX);
	sql_put_i64(stmt, 5, view->cursor_us ? view->cursor_id : INT64_MAX);
	sql_put_text(stmt, 6, view->key_id);
	sql_put_text(stmt, 7, view->model);
	sql_put_i64(stmt, 8, (int64_t)view->limit + 1); /* one more says that there are more */
	while (sql_row(stmt)) {
		if (out->answer.rows == view->limit) {
			out->answer.next_us = last_us;
			out->answer.next_id = last_id;
			continue;
		}
		usage_row(stmt, view, out);
		last_us = sql_i64(stmt, U_CREATED);
		last_id = sql_i64(stmt, U_ID);
		out->answer.rows++;
	}
}

/* --- earnings --- */

static int64_t account_ref(struct sql *db, const char *id)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT ref FROM accounts WHERE id = ?");
	sql_put_text(stmt, 1, id);
	return sql_number(stmt);
}

static void lifetime(struct sql *db, int64_t account, struct view_out *out)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT amount, jobs FROM earnings_summary WHERE account = ?");
	sql_put_i64(stmt, 1, account);
	if (!sql_row(stmt))
		return;
	out->answer.numbers[0] = sql_i64(stmt, 0);
	out->answer.numbers[1] = sql_i64(stmt, 1);
	sql_done(stmt);
}

void view_earnings(struct sql *db, const struct store_view *view, struct view_out *out)
{
	struct json_writer w;
	int64_t account = account_ref(db, view->account), last_id = 0;
	lifetime(db, account, out);
	struct sql_stmt *stmt =
	    sql_say(db, "SELECT e.id, coalesce(h.request_id, ''), e.provider_id, e.provider_key, e.model, e.amount,"
	                " e.prompt_tokens, e.completion_tokens, e.created_us FROM earnings e"
	                " LEFT JOIN holds h ON h.id = e.id WHERE e.account = ?1 AND e.id < ?2"
	                " ORDER BY e.id DESC LIMIT ?3");
	sql_put_i64(stmt, 1, account);
	sql_put_i64(stmt, 2, view->cursor_id ? view->cursor_id : INT64_MAX);
	sql_put_i64(stmt, 3, (int64_t)view->limit + 1);
	while (sql_row(stmt)) {
		if (out->answer.rows == view->limit) {
			out->answer.next_id = last_id;
			continue;
		}
		comma(&out->text, out->answer.rows++);
		last_id = sql_i64(stmt, 0);
		json_writer_init(&w, &out->text);
		json_begin_object(&w);
		json_put_i64(&w, "id", last_id);
		json_put_cstr(&w, "account_id", view->account);
		put_column(&w, "provider_id", stmt, 2);
		put_column(&w, "provider_key", stmt, 3);
		put_column(&w, "job_id", stmt, 1);
		put_column(&w, "model", stmt, 4);
		put_number(&w, "amount_micro_usd", stmt, 5);
		put_number(&w, "prompt_tokens", stmt, 6);
		put_number(&w, "completion_tokens", stmt, 7);
		put_time(&w, "created_at", sql_i64(stmt, 8));
		json_end_object(&w);
	}
}

/* --- statements --- */

struct movement {
	int64_t count, amount;
};

static void put_movement(struct view_out *out, const char *type, struct movement movement)
{
	struct json_writer w;
	if (movement.count == 0)
		return;
	comma(&out->text, out->answer.rows++);
	json_writer_init(&w, &out->text);
	json_begin_object(&w);
	json_put_cstr(&w, "type", type);
	json_put_i64(&w, "count", movement.count);
	json_put_i64(&w, "amount_micro_usd", movement.amount);
	json_end_object(&w);
}

static struct movement read_movement(struct sql_stmt *stmt)
{
	struct movement movement = {0};
	if (sql_row(stmt)) {
		movement = (struct movement){sql_i64(stmt, 0), sql_i64(stmt, 1)};
		sql_done(stmt);
	}
	return movement;
}

static struct movement charged(struct sql *db, int64_t account, int64_t from_us, int64_t to_us)
{
	struct sql_stmt *stmt = sql_say(
	    db, "SELECT coalesce(sum(n), 0), -coalesce(sum(cost), 0) FROM (SELECT 1 AS n, cost FROM usage WHERE account = ?1"
	        " AND cost > 0 AND created_us >= ?2 AND created_us < ?3 UNION ALL SELECT charged, cost FROM usage_months WHERE"
	        " account = ?1 AND month >= ?4 AND month < ?5) AS parts");
	sql_put_i64(stmt, 1, account);
	sql_put_i64(stmt, 2, from_us);
	sql_put_i64(stmt, 3, to_us);
	sql_put_i64(stmt, 4, clock_day(from_us));
	sql_put_i64(stmt, 5, clock_day(to_us));
	return read_movement(stmt);
}

#define HOUR_US INT64_C(3600000000)

static struct movement earned(struct sql *db, int64_t account, int64_t from_us, int64_t to_us)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT coalesce(sum(jobs), 0), coalesce(sum(amount), 0) FROM earnings_hours"
	                                    " WHERE account = ? AND hour >= ? AND hour < ?");
	sql_put_i64(stmt, 1, account);
	sql_put_i64(stmt, 2, from_us / HOUR_US);
	sql_put_i64(stmt, 3, to_us / HOUR_US);
	return read_movement(stmt);
}

static struct movement referred(struct sql *db, int64_t account, int64_t from_us, int64_t to_us)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT coalesce(sum(referral_jobs), 0), coalesce(sum(referrals), 0) FROM"
	                                    " earnings_hours WHERE account = ? AND hour >= ? AND hour < ?");
	sql_put_i64(stmt, 1, account);
	sql_put_i64(stmt, 2, from_us / HOUR_US);
	sql_put_i64(stmt, 3, to_us / HOUR_US);
	return read_movement(stmt);
}

/* Returns the sum of the transfers; with out their types are listed. */
static int64_t transferred(struct sql *db, int64_t account, int64_t from_us, int64_t to_us, struct view_out *out)
{
	int64_t sum = 0;
	struct sql_stmt *stmt =
	    sql_say(db, "SELECT count(*), sum(amount), type FROM ledger WHERE account = ? AND transfer IS NOT NULL"
	                " AND created_us >= ? AND created_us < ? GROUP BY type ORDER BY type");
	sql_put_i64(stmt, 1, account);
	sql_put_i64(stmt, 2, from_us);
	sql_put_i64(stmt, 3, to_us);
	while (sql_row(stmt)) {
		char type[64];
		sql_copy(stmt, 2, type, sizeof type);
		sum += sql_i64(stmt, 1);
		if (out)
			put_movement(out, type, (struct movement){sql_i64(stmt, 0), sql_i64(stmt, 1)});
	}
	return sum;
}

static void list_models(struct sql *db, int64_t account, const struct store_view *view, struct view_out *out)
{
	struct json_writer w;
	size_t models = 0;
	struct sql_stmt *stmt = sql_say(
	    db,
	    "SELECT model, sum(n), sum(prompt), sum(cached), sum(completion), sum(cost) FROM (SELECT model, 1 AS n,"
	    " prompt_tokens AS prompt, cached_tokens AS cached, completion_tokens AS completion, cost FROM usage WHERE account = ?1"
	    " AND created_us >= ?2 AND created_us < ?3 UNION ALL SELECT model, requests, prompt_tokens, cached_tokens,"
	    " completion_tokens, cost FROM usage_months WHERE account = ?1 AND month >= ?4 AND month < ?5) AS parts GROUP BY model"
	    " ORDER BY model");
	sql_put_i64(stmt, 1, account);
	sql_put_i64(stmt, 2, view->from_us);
	sql_put_i64(stmt, 3, view->to_us);
	sql_put_i64(stmt, 4, clock_day(view->from_us));
	sql_put_i64(stmt, 5, clock_day(view->to_us));
	while (sql_row(stmt)) {
		comma(&out->more, models++);
		json_writer_init(&w, &out->more);
		json_begin_object(&w);
		put_column(&w, "model", stmt, 0);
		put_number(&w, "requests", stmt, 1);
		put_number(&w, "prompt_tokens", stmt, 2);
		put_number(&w, "cached_tokens", stmt, 3);
		put_number(&w, "completion_tokens", stmt, 4);
		put_number(&w, "cost_micro_usd", stmt, 5);
		json_end_object(&w);
	}
}

void view_statement(struct sql *db, const struct store_view *view, struct view_out *out)
{
	int64_t account = account_ref(db, view->account);
	struct sql_stmt *stmt = sql_say(db, "SELECT balance FROM balances WHERE account = ?");
	sql_put_i64(stmt, 1, account);
	int64_t balance = sql_number(stmt);
	int64_t since = charged(db, account, view->to_us, INT64_MAX).amount + earned(db, account, view->to_us, INT64_MAX).amount +
	                referred(db, account, view->to_us, INT64_MAX).amount +
	                transferred(db, account, view->to_us, INT64_MAX, NULL);
	struct movement charges = charged(db, account, view->from_us, view->to_us);
	struct movement payouts = earned(db, account, view->from_us, view->to_us);
	put_movement(out, "charge", charges);
	struct movement referrals = referred(db, account, view->from_us, view->to_us);
	put_movement(out, "payout", payouts);
	put_movement(out, "referral_reward", referrals);
	int64_t others = transferred(db, account, view->from_us, view->to_us, out);
	list_models(db, account, view, out);
	out->answer.numbers[1] = balance - since;
	out->answer.numbers[0] = balance - since - charges.amount - payouts.amount - referrals.amount - others;
}
