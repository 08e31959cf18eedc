/* SQL of what everybody sees: the leaderboard and the network's totals, under pseudonyms. */
#include "coordinator/store/views.h"

#include <stdio.h>

#include "core/clock.h"
#include "core/json.h"
#include "crypto/hash.h"

#define HOUR_US INT64_C(3600000000)

static const char *const adjectives[] = {
    "amber",  "bold",   "brave",  "bright", "calm",   "clever", "coral",  "cosmic", "crisp", "daring", "eager", "early",
    "fancy",  "fleet",  "gentle", "golden", "grand",  "happy",  "hidden", "humble", "icy",   "jolly",  "keen",  "kind",
    "lively", "lucid",  "lunar",  "merry",  "mighty", "misty",  "noble",  "polar",  "proud", "quick",  "quiet", "rapid",
    "royal",  "silent", "silver", "solar",  "steady", "sunny",  "swift",  "tidy",   "vivid", "warm",   "wild",  "wise"};
static const char *const animals[] = {
    "badger", "bear",   "beaver", "bison",  "crane",  "crow",  "deer",  "dolphin", "eagle",  "elk",   "falcon", "ferret",
    "finch",  "fox",    "gecko",  "gull",   "hare",   "hawk",  "heron", "ibex",    "jay",    "koala", "lark",   "lemur",
    "lion",   "llama",  "lynx",   "magpie", "marten", "mole",  "moose", "newt",    "ocelot", "orca",  "otter",  "owl",
    "panda",  "puffin", "raven",  "robin",  "seal",   "shrew", "stork", "swan",    "tapir",  "tiger", "walrus", "wren"};

void store_pseudonym(const uint8_t key[STORE_PSEUDONYM_KEY], struct str account_id, char out[STORE_PSEUDONYM_SIZE])
{
	uint8_t digest[SHA256_BYTES];
	if (account_id.len == 0) {
		snprintf(out, STORE_PSEUDONYM_SIZE, "anon");
		return;
	}
	hmac_sha256(key, STORE_PSEUDONYM_KEY, account_id.at, account_id.len, digest);
	unsigned adjective = (unsigned)digest[0] << 8 | digest[1], animal = (unsigned)digest[2] << 8 | digest[3];
	uint32_t number = (uint32_t)digest[4] << 24 | (uint32_t)digest[5] << 16 | (uint32_t)digest[6] << 8 | digest[7];
	snprintf(out, STORE_PSEUDONYM_SIZE, "%s-%s-%04u", adjectives[adjective % (sizeof adjectives / sizeof *adjectives)],
	         animals[animal % (sizeof animals / sizeof *animals)], (unsigned)(number % 10000));
}

/* The first hour that a window of whole hours includes. */
static int64_t first_hour(int64_t hours)
{
	return hours ? clock_wall_us() / HOUR_US - hours + 1 : 0;
}

#define SUMS "sum(e.amount), sum(e.rewards), sum(e.prompt_tokens) + sum(e.completion_tokens), sum(e.jobs) FROM earnings_hours e"
/* Rewards count for those who provide; somebody who only refers others is no provider (registry 9). */
#define PROVIDERS " JOIN accounts a ON a.ref = e.account JOIN earnings_summary s ON s.account = e.account WHERE e.hour >= ?"

void view_leaders(struct sql *db, const struct store_view *view, struct view_out *out)
{
	static const char *const statements[] = {
	    [STORE_BY_EARNINGS] =
	        "SELECT a.id, " SUMS PROVIDERS " GROUP BY a.ref, a.id ORDER BY sum(e.amount) + sum(e.rewards) DESC, a.id LIMIT ?",
	    [STORE_BY_TOKENS] = "SELECT a.id, " SUMS PROVIDERS " GROUP BY a.ref, a.id"
	                        " ORDER BY sum(e.prompt_tokens) + sum(e.completion_tokens) DESC, a.id LIMIT ?",
	    [STORE_BY_JOBS] = "SELECT a.id, " SUMS PROVIDERS " GROUP BY a.ref, a.id"
	                      " ORDER BY sum(e.jobs) DESC, a.id LIMIT ?",
	};
	struct json_writer w;
	struct sql_stmt *stmt = sql_say(db, statements[view->metric]);
	sql_put_i64(stmt, 1, first_hour(view->hours));
	sql_put_i64(stmt, 2, view->limit);
	while (sql_row(stmt)) {
		char pseudonym[STORE_PSEUDONYM_SIZE];
		int64_t work = sql_i64(stmt, 1), rewards = sql_i64(stmt, 2);
		store_pseudonym(view->pseudonym_key, sql_text(stmt, 0), pseudonym);
		if (out->answer.rows++ > 0)
			buf_append_byte(&out->text, ',');
		json_writer_init(&w, &out->text);
		json_begin_object(&w);
		json_put_i64(&w, "rank", (int64_t)out->answer.rows);
		json_put_cstr(&w, "pseudonym", pseudonym);
		json_put_i64(&w, "earnings_micro_usd", work + rewards);
		json_put_i64(&w, "work_earnings_micro_usd", work);
		json_put_i64(&w, "reward_earnings_micro_usd", rewards);
		json_put_i64(&w, "tokens", sql_i64(stmt, 3));
		json_put_i64(&w, "jobs", sql_i64(stmt, 4));
		json_end_object(&w);
	}
}

void view_totals(struct sql *db, const struct store_view *view, struct view_out *out)
{
	struct sql_stmt *stmt = sql_say(db, "SELECT coalesce(sum(amount), 0), coalesce(sum(rewards), 0),"
	                                    " coalesce(sum(prompt_tokens) + sum(completion_tokens), 0), coalesce(sum(jobs), 0),"
	                                    " count(DISTINCT account) FROM earnings_hours e WHERE hour >= ? AND EXISTS"
	                                    " (SELECT 1 FROM earnings_summary s WHERE s.account = e.account)");
	sql_put_i64(stmt, 1, first_hour(view->hours));
	if (!sql_row(stmt))
		return;
	for (int i = 0; i <= STORE_TOTAL_ACCOUNTS; i++)
		out->answer.numbers[i] = sql_i64(stmt, i);
	sql_done(stmt);
}
