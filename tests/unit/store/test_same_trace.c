/* One random history, asked of SQLite and of PostgreSQL alike: both give the same answers, and the books that they leave are
 * the same row by row but for the times that a clock gave (billing 14.18). DARKBLOOM_TRACE_OPERATIONS makes it longer,
 * DARKBLOOM_TRACE_SEED another one. */
#include "../store_fixture.h"

#define ACCOUNTS    8
#define KEYS        24
#define ROUND       500  /* operations between two looks at all answers */
#define RESTART     2000 /* operations between two restarts */
#define NO_ANSWER   (-1)
#define APPLIED     1000 /* added to the code of an answer */
#define ROW_SIZE    2048
#define MODEL_COUNT 5

enum act_kind {
	ACT_HOLD,
	ACT_SETTLE,
	ACT_RELEASE,
	ACT_RAISE,
	ACT_TRANSFER,
	ACT_ACCOUNT,
	ACT_OWNER,
	ACT_KEY_CREATE,
	ACT_KEY_DISABLE,
	ACT_KEY_UPDATE,
	ACT_KEY_ROTATE,
	ACT_KEY_DELETE,
	ACT_KEYS_TOUCH,
	ACT_TOKEN,
	ACT_LEVELS,
	ACT_PRICE,
	ACT_KINDS,
};

/* What is asked, drawn once for both sides. */
struct act {
	enum act_kind kind;
	struct store_account account;
	struct store_key key;
	unsigned fields;
	char key_id[STORE_ID_SIZE], request_id[STORE_ID_SIZE];
	int64_t amount;
	struct store_hold hold;
	struct store_settlement settlement;
	struct store_transfer transfer;
	struct store_levels levels;
	struct store_price price;
};

struct side {
	struct fixture f;
	int answers[ROUND];
};

struct pair {
	struct side sqlite, postgres;
	uint64_t random;
	int64_t requests, transfers, keys, tokens;
	size_t done[ACT_KINDS], refused;
};

static uint64_t dice(struct pair *pair, uint64_t sides)
{
	pair->random ^= pair->random << 13;
	pair->random ^= pair->random >> 7;
	pair->random ^= pair->random << 17;
	return pair->random % sides;
}

/* --- what is drawn --- */

static void name(char out[STORE_ID_SIZE], const char *kind, int64_t number)
{
	snprintf(out, STORE_ID_SIZE, "%s%06lld", kind, (long long)number);
}

/* One number more than there are accounts: sometimes there is none of this name. */
static void draw_account(struct pair *pair, char out[STORE_ID_SIZE])
{
	name(out, "account", (int64_t)dice(pair, ACCOUNTS + 1));
}

/* One of the last, so that some end in the group they began in; sometimes an old one. */
static int64_t draw_request(struct pair *pair, char out[STORE_ID_SIZE])
{
	int64_t back = (int64_t)dice(pair, dice(pair, 8) ? 30 : 3000), number = pair->requests > back ? pair->requests - back : 0;
	name(out, "request", number);
	return number;
}

/* A request is one account's, whatever is asked about it. */
static void name_owner(char out[STORE_ID_SIZE], int64_t request)
{
	name(out, "account", request * 7 % (ACCOUNTS + 1));
}

static void draw_key(struct pair *pair, char out[STORE_ID_SIZE])
{
	int64_t back = (int64_t)dice(pair, KEYS);
	name(out, "key", pair->keys > back ? pair->keys - back : 0);
}

static struct store_key draw_new_key(struct pair *pair)
{
	struct store_key key = {.scopes = 1 + (unsigned)dice(pair, 3),
	                        .limited = dice(pair, 2),
	                        .limit_uusd = (int64_t)dice(pair, 5000),
	                        .limit_reset = (enum store_window)dice(pair, 4),
	                        .rpm = (int64_t)dice(pair, 50),
	                        .disabled = dice(pair, 4) == 0,
	                        .expires_us = dice(pair, 3) ? 0 : INT64_C(4000000000000000),
	                        .self_route_only = dice(pair, 2),
	                        .created_us = 5000 + pair->keys};
	name(key.id, "key", dice(pair, 10) ? ++pair->keys : pair->keys); /* some are there already */
	draw_account(pair, key.account_id);
	snprintf(key.hash_hex, sizeof key.hash_hex, "%064llx", (unsigned long long)pair->random);
	snprintf(key.label, sizeof key.label, "sk-db-%llu", (unsigned long long)dice(pair, 1000));
	snprintf(key.name, sizeof key.name, "named \"%llu\" \xc3\xa9", (unsigned long long)dice(pair, 1000));
	snprintf(key.allowed_models, sizeof key.allowed_models, "model%llu", (unsigned long long)dice(pair, MODEL_COUNT));
	return key;
}

static struct store_settlement draw_settlement(struct pair *pair)
{
	char request[STORE_ID_SIZE], account[STORE_ID_SIZE], provider[STORE_ID_SIZE] = "";
	int64_t cost = (int64_t)dice(pair, 1500), fee = cost * (int64_t)dice(pair, 101) / 100;
	name_owner(account, draw_request(pair, request));
	if (dice(pair, 4))
		draw_account(pair, provider);
	struct store_settlement s = settlement_of(request, account, provider, cost, fee);
	draw_key(pair, s.key_id);
	draw_key(pair, s.key_group);
	s.prompt_tokens = dice(pair, 5000);
	s.completion_tokens = dice(pair, 5000);
	s.cached_tokens = dice(pair, 100);
	s.service = dice(pair, 2);
	s.reported_tokens = dice(pair, 5000);
	snprintf(s.response_hash, sizeof s.response_hash, "%064llx", (unsigned long long)pair->random);
	if (fee > 1 && dice(pair, 3) == 0) { /* of whom nobody knows: it stays the platform's */
		str_copy(STR("nobody"), s.referrer, sizeof s.referrer);
		s.referral_uusd = 1 + (int64_t)dice(pair, (uint64_t)fee - 1);
	}
	return s;
}

static struct store_transfer draw_transfer(struct pair *pair)
{
	static const char *const sources[] = {STORE_ACCOUNT_GRANTS, "stripe", "rewards"};
	struct store_transfer t = {
	    .type = "admin_credit", .amount_uusd = 1 + (int64_t)dice(pair, 4000), .withdrawable = dice(pair, 2)};
	name(t.key, "transfer", dice(pair, 5) ? ++pair->transfers : pair->transfers);
	snprintf(t.reference, sizeof t.reference, "reference %llu", (unsigned long long)dice(pair, 100));
	draw_account(pair, t.to);
	draw_account(pair, t.from);
	if (dice(pair, 2))
		str_copy(str_of(sources[dice(pair, 3)]), t.from, sizeof t.from);
	return t;
}

static enum act_kind draw_kind(struct pair *pair)
{
	uint64_t roll = dice(pair, 100);
	return roll < 35 ? ACT_HOLD : roll < 65 ? ACT_SETTLE : roll < 85 ? (enum act_kind)dice(pair, ACT_KINDS) : ACT_TRANSFER;
}

static struct act draw(struct pair *pair)
{
	struct act act = {.kind = draw_kind(pair), .amount = (int64_t)dice(pair, 2000)};
	char account[STORE_ID_SIZE];
	draw_account(pair, account);
	if (act.kind == ACT_HOLD) {
		char request[STORE_ID_SIZE];
		name(request, "request", dice(pair, 20) ? ++pair->requests : pair->requests);
		char owner[STORE_ID_SIZE];
		name_owner(owner, pair->requests);
		act.hold = hold_of(request, owner, 750 + act.amount); /* of which a settlement may cost twice as much */
		draw_key(pair, act.hold.key_id);
	}
	(void)draw_request(pair, act.request_id);
	draw_key(pair, act.key_id);
	act.account = (struct store_account){.fee_percent = (int)dice(pair, 12) - 1, .role = (enum store_role)dice(pair, 2)};
	memcpy(act.account.id, account, sizeof account);
	snprintf(act.account.name, sizeof act.account.name, "name %llu", (unsigned long long)dice(pair, 100));
	act.fields = (unsigned)dice(pair, STORE_KEY_SCOPES * 2);
	if (act.kind >= ACT_OWNER && act.kind <= ACT_TOKEN)
		act.key = draw_new_key(pair);
	if (act.kind == ACT_KEY_UPDATE)
		memcpy(act.key.id, act.key_id, sizeof act.key_id);
	if (act.kind == ACT_SETTLE)
		act.settlement = draw_settlement(pair);
	if (act.kind == ACT_TRANSFER)
		act.transfer = draw_transfer(pair);
	act.levels = (struct store_levels){.at_us = act.amount, .requests = (double)dice(pair, 9), .full = dice(pair, 4) == 0};
	memcpy(act.levels.owner, account, sizeof account);
	act.price = (struct store_price){.input = 1 + act.amount, .output = 2 + act.amount, .cached = (int64_t)dice(pair, 3)};
	memcpy(act.price.account_id, account, sizeof account);
	snprintf(act.price.model, sizeof act.price.model, "model%llu", (unsigned long long)dice(pair, MODEL_COUNT));
	return act;
}

/* --- what is asked --- */

static void on_done(const struct error *error, void *user)
{
	*(int *)user = error ? (int)error->code : 0;
}

static void on_transferred(bool applied, const struct error *error, void *user)
{
	*(int *)user = (error ? (int)error->code : 0) + (applied ? APPLIED : 0);
}

static void ask(struct side *side, const struct act *act, int *answer)
{
	struct store *store = side->f.store;
	*answer = NO_ANSWER;
	switch (act->kind) {
	case ACT_HOLD:
		store_hold_create(store, &act->hold);
		break;
	case ACT_SETTLE:
		store_settle(store, &act->settlement, on_done, answer);
		break;
	case ACT_RELEASE:
		store_hold_release(store, str_of(act->request_id), "provider_error");
		break;
	case ACT_RAISE:
		store_hold_raise(store, str_of(act->request_id), act->amount);
		break;
	case ACT_TRANSFER:
		store_transfer(store, &act->transfer, on_transferred, answer);
		break;
	case ACT_ACCOUNT:
		store_account_create(store, &act->account, on_done, answer);
		break;
	case ACT_OWNER:
		store_owner_create(store, &act->account, &act->key, act->amount, on_done, answer);
		break;
	case ACT_KEY_CREATE:
		store_key_create(store, &act->key, on_done, answer);
		break;
	case ACT_KEY_DISABLE:
		store_key_disable(store, str_of(act->key_id), on_done, answer);
		break;
	case ACT_KEY_UPDATE:
		store_key_update(store, &act->key, act->fields, on_done, answer);
		break;
	case ACT_KEY_ROTATE:
		store_key_rotate(store, str_of(act->key_id), &act->key, on_done, answer);
		break;
	case ACT_KEY_DELETE:
		store_key_delete(store, str_of(act->key_id), on_done, answer);
		break;
	case ACT_KEYS_TOUCH: {
		struct store_key_use use = {.at_us = act->amount};
		memcpy(use.key_id, act->key_id, sizeof use.key_id);
		store_keys_touch(store, &use, 1);
		break;
	}
	case ACT_TOKEN:
		store_provider_token_create(store, str_of(act->key.hash_hex), str_of(act->account.id), str_of(act->key.label), on_done,
		                            answer);
		break;
	case ACT_LEVELS:
		store_levels_save(store, &act->levels, 1, on_done, answer);
		break;
	case ACT_PRICE:
		store_price_set(store, &act->price, on_done, answer);
		break;
	case ACT_KINDS:
		break;
	}
}

/* --- what is there afterwards --- */

#define AND " || '|' || "

/* Every row of the books as a text, names in place of references. (A hold has its number from its first row, which is written
 * when its group ends, or when it ends before: the numbers depend on what came together.) */
static const char *const books[] = {
    "SELECT a.id" AND "a.kind" AND "a.name" AND "a.role" AND "coalesce(a.fee_percent, -1)" AND "a.is_owner" AND "b.balance" AND
    "b.withdrawable FROM accounts a JOIN balances b ON b.account = a.ref ORDER BY a.ref",
    "SELECT l.id" AND "coalesce(h.request_id, '')" AND "coalesce(t.key, '')" AND "a.id" AND "l.type" AND "l.amount" AND
    "l.balance_after" AND "l.withdrawable_after FROM ledger l JOIN accounts a ON a.ref = l.account"
    " LEFT JOIN holds h ON h.id = l.hold LEFT JOIN transfers t ON t.id = l.transfer ORDER BY l.id",
    "SELECT h.request_id" AND "a.id" AND "h.key_id" AND "h.amount" AND "h.price_in" AND "h.price_out" AND "h.state" AND
    "h.reason" AND "coalesce(h.entry, 0)" AND
    "h.created_us FROM holds h JOIN accounts a ON a.ref = h.account ORDER BY h.request_id",
    "SELECT h.request_id" AND "a.id" AND "u.key_id" AND "coalesce(p.id, '')" AND "u.provider_id" AND "u.provider_key" AND
    "u.model" AND "u.public_model" AND "u.prompt_tokens" AND "u.completion_tokens" AND "u.reasoning_tokens" AND
    "u.cached_tokens" AND "u.price_in" AND "u.price_out" AND "u.price_cached" AND "u.cost" AND "u.fee" AND "u.outcome" AND
    "u.created_us" AND "u.service" AND "u.job_id" AND "u.reported_tokens" AND "u.response_hash" AND "u.se_signature" AND
    "u.se_public_key" AND "u.consumer_key FROM usage u JOIN holds h ON h.id = u.id JOIN accounts a ON a.ref = u.account"
    " LEFT JOIN accounts p ON p.ref = u.provider_account ORDER BY h.request_id",
    "SELECT h.request_id" AND "a.id" AND "e.provider_id" AND "e.provider_key" AND "e.model" AND "e.amount" AND
    "e.prompt_tokens" AND "e.completion_tokens FROM earnings e JOIN holds h ON h.id = e.id JOIN accounts a ON a.ref ="
    " e.account ORDER BY h.request_id",
    "SELECT a.id" AND "s.jobs" AND "s.amount" AND "s.prompt_tokens" AND "s.completion_tokens FROM earnings_summary s"
    " JOIN accounts a ON a.ref = s.account ORDER BY s.account",
    "SELECT a.id" AND "sum(s.jobs)" AND "sum(s.amount)" AND "sum(s.prompt_tokens)" AND "sum(s.completion_tokens)" AND
    "sum(s.rewards)" AND "sum(s.referral_jobs)" AND "sum(s.referrals) FROM earnings_hours s"
    " JOIN accounts a ON a.ref = s.account GROUP BY a.ref, a.id ORDER BY a.ref",
    "SELECT requests" AND "prompt_tokens" AND "completion_tokens FROM usage_totals",
    "SELECT key" AND "reference FROM transfers ORDER BY id",
    "SELECT k.id" AND "k.hash" AND "a.id" AND "k.label" AND "k.name" AND "k.disabled" AND "k.expires_us" AND "k.created_us" AND
    "k.limit_group" AND "k.scopes" AND "coalesce(k.spend_limit, -1)" AND "k.limit_reset" AND "k.rpm" AND "k.allowed_models" AND
    "k.self_route_only" AND "k.last_used_us FROM api_keys k JOIN accounts a ON a.ref = k.account"
    " ORDER BY k.id",
    "SELECT limit_group" AND "sum(spent) FROM key_spend GROUP BY limit_group ORDER BY limit_group",
    "SELECT t.hash" AND "a.id" AND "t.label" AND "t.active FROM provider_tokens t JOIN accounts a ON a.ref = t.account"
    " ORDER BY t.hash",
    "SELECT a.id" AND "p.model" AND "p.input" AND "p.output" AND "p.cached FROM prices p JOIN accounts a ON a.ref ="
    " p.account ORDER BY p.account, p.model",
    "SELECT owner" AND "at_us" AND "CAST(requests AS INTEGER) FROM rate_levels ORDER BY owner",
    "SELECT id" AND "actor" AND "action" AND "subject" AND "details FROM audit_trail ORDER BY id",
};

static bool next_row(struct sql_stmt *stmt, char out[ROW_SIZE])
{
	out[0] = '\0';
	if (!sql_row(stmt))
		return false;
	struct str row = sql_text(stmt, 0);
	assert_true(row.len > 0 && row.len < ROW_SIZE);
	return str_copy(row, out, ROW_SIZE);
}

static struct sql *connect_beside(const struct fixture *f)
{
	struct error error = {0};
	struct sql *db = sql_open(f->path, SQL_READ, &error);
	if (!db)
		fail_msg("%s", error.text);
	return db;
}

static size_t same_rows(struct sql *one, struct sql *other, const char *text)
{
	char row[ROW_SIZE], other_row[ROW_SIZE];
	struct sql_stmt *rows = sql_say(one, text), *other_rows = sql_say(other, text);
	size_t count = 0;
	bool more = true;
	while (more) {
		more = next_row(rows, row);
		if (next_row(other_rows, other_row) != more || strcmp(row, other_row) != 0)
			fail_msg("row %zu of '%.60s...' is '%s' on SQLite, '%s' on PostgreSQL", count, text, row, other_row);
		count += more;
	}
	assert_int_equal(one->failed, DB_OK);
	assert_int_equal(other->failed, DB_OK);
	return count;
}

static void assert_same_books(struct pair *pair)
{
	struct sql *sqlite = connect_beside(&pair->sqlite.f), *postgres = connect_beside(&pair->postgres.f);
	for (size_t i = 0; i < sizeof books / sizeof books[0]; i++)
		if (same_rows(sqlite, postgres, books[i]) == 0)
			fail_msg("there is nothing in '%s'", books[i]);
	sql_close(sqlite);
	sql_close(postgres);
}

/* --- the history --- */

static void run_round(struct pair *pair)
{
	static enum act_kind kinds[ROUND];
	for (size_t i = 0; i < ROUND; i++) {
		struct act act = draw(pair);
		kinds[i] = act.kind;
		pair->done[act.kind]++;
		ask(&pair->sqlite, &act, &pair->sqlite.answers[i]);
		ask(&pair->postgres, &act, &pair->postgres.answers[i]);
	}
	fixture_flush(&pair->sqlite.f);
	fixture_flush(&pair->postgres.f);
	for (size_t i = 0; i < ROUND; i++) {
		int answer = pair->sqlite.answers[i];
		if (pair->postgres.answers[i] != answer)
			fail_msg("operation %zu of kind %d is answered with %d on SQLite, %d on PostgreSQL", i, (int)kinds[i], answer,
			         pair->postgres.answers[i]);
		pair->refused += answer > 0 && answer < APPLIED;
	}
}

static void restart(struct fixture *f)
{
	fixture_close(f);
	fixture_open(f);
}

static void one_history_leaves_the_same_books_on_both_back_ends(void **state)
{
	struct pair *pair = *state;
	size_t operations = test_length("DARKBLOOM_TRACE_OPERATIONS", 8000);
	pair->random = test_length("DARKBLOOM_TRACE_SEED", 0x9e3779b97f4a7c15u);
	for (size_t i = ROUND; i <= operations; i += ROUND) {
		run_round(pair);
		if (i % RESTART == 0) {
			restart(&pair->sqlite.f);
			restart(&pair->postgres.f);
		}
	}
	assert_same_books(pair);
	for (int i = 0; i < ACT_KINDS; i++)
		assert_true(pair->done[i] > 0);
	assert_true(pair->refused > 0);
	assert_books_right(&pair->sqlite.f);
	assert_books_right(&pair->postgres.f);
}

static int start(void **state)
{
	struct pair *pair = calloc(1, sizeof *pair);
	assert_non_null(pair);
	for (int on_postgres = 0; on_postgres < 2; on_postgres++) {
		struct fixture *f = on_postgres ? &pair->postgres.f : &pair->sqlite.f;
		fixture_on_postgres = on_postgres;
		fixture_folder(f);
		fixture_open(f);
		for (int i = 0; i < ACCOUNTS; i++) {
			char id[24];
			snprintf(id, sizeof id, "account%06d", i);
			make_account(f, id, 20000);
		}
	}
	*state = pair;
	return 0;
}

static int stop(void **state)
{
	struct pair *pair = *state;
	fixture_close(&pair->sqlite.f);
	fixture_close(&pair->postgres.f);
	fixture_remove(&pair->sqlite.f);
	fixture_remove(&pair->postgres.f);
	free(pair);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(one_history_leaves_the_same_books_on_both_back_ends, start, stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
