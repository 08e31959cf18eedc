/* A coordinator that dies between any two statements: each kind of transaction is there whole or not at all, and asking again
 * makes it once. The linker lays the test's own functions over sql_say and sql_exec (CMakeLists.txt): whatever the store says
 * to the database passes here, and the process ends at the statement whose turn it is. */
#include "../store_fixture.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "coordinator/store/sql.h"
#include "coordinator/store/store_books.h"
#include "coordinator/store/store_deposits.h"
#include "coordinator/store/store_invites.h"
#include "coordinator/store/store_referrals.h"
#include "coordinator/store/store_withdrawals.h"

struct sql_stmt *__real_sql_say(struct sql *db, const char *text);
bool __real_sql_exec(struct sql *db, const char *text);
struct sql_stmt *__wrap_sql_say(struct sql *db, const char *text);
bool __wrap_sql_exec(struct sql *db, const char *text);

static atomic_int statements_left = -1; /* before the process ends; below 0 = it does not */

static void count_statement(void)
{
	if (atomic_load(&statements_left) >= 0 && atomic_fetch_sub(&statements_left, 1) == 0)
		kill(getpid(), SIGKILL);
}

struct sql_stmt *__wrap_sql_say(struct sql *db, const char *text)
{
	count_statement();
	return __real_sql_say(db, text);
}

bool __wrap_sql_exec(struct sql *db, const char *text)
{
	count_statement();
	return __real_sql_exec(db, text);
}

/* --- what is done --- */

static char run_id[16]; /* of this attempt: part of every name */

static const char *named(const char *what)
{
	static char names[8][STORE_ID_SIZE];
	static unsigned next;
	char *name = names[next++ % 8];
	snprintf(name, STORE_ID_SIZE, "%s-%s", what, run_id);
	return name;
}

static void on_amount(int64_t amount, const struct error *error, void *user)
{
	(void)amount;
	fixture_answer(user, error);
}

static void on_step(const struct store_withdrawal *row, int64_t refunded, const struct error *error, void *user)
{
	(void)row, (void)refunded;
	fixture_answer(user, error);
}

static void on_close(const struct store_close *close, const struct error *error, void *user)
{
	(void)close;
	fixture_answer(user, error);
}

static void on_referral(const struct store_referral *referral, const struct error *error, void *user)
{
	(void)referral;
	fixture_answer(user, error);
}

static struct store_key key_named(const char *id, const char *account)
{
	struct store_key key = {.label = "sk-db-0000...0000", .scopes = 1, .created_us = 1};
	str_copy(str_of(id), key.id, sizeof key.id);
	str_copy(str_of(account), key.account_id, sizeof key.account_id);
	snprintf(key.hash_hex, sizeof key.hash_hex, "hash-%s", id);
	return key;
}

static void make_key(struct fixture *f)
{
	struct store_key key = key_named(named("key"), "buyer");
	AWAIT(f, store_key_create(f->store, &key, fixture_done, f));
}

static void rotate_key(struct fixture *f)
{
	struct store_key fresh = key_named(named("fresh"), "buyer");
	AWAIT(f, store_key_rotate(f->store, str_of(named("key")), &fresh, fixture_done, f));
}

static void make_account_now(struct fixture *f)
{
	struct store_account account = {.fee_percent = -1};
	str_copy(str_of(named("account")), account.id, sizeof account.id);
	AWAIT(f, store_account_create(f->store, &account, fixture_done, f));
}

static void transfer(struct fixture *f)
{
	struct store_transfer gift = {.type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "buyer", .amount_uusd = 1000};
	str_copy(str_of(named("gift")), gift.key, sizeof gift.key);
	AWAIT(f, store_transfer(f->store, &gift, fixture_transferred, f));
}

static void settle(struct fixture *f)
{
	struct store_hold row = hold_of(named("request"), "buyer", 100);
	struct store_settlement s = settlement_of(named("request"), "buyer", "farmer", 100, 10);
	str_copy(STR("key"), s.key_id, sizeof s.key_id);
	store_hold_create(f->store, &row);
	AWAIT(f, store_settle(f->store, &s, fixture_done, f));
}

/* The hold is in the database when it is settled. */
static void settle_in_two_groups(struct fixture *f)
{
	struct store_hold row = hold_of(named("request"), "buyer", 100);
	struct store_settlement s = settlement_of(named("request"), "buyer", "", 120, 0);
	store_hold_create(f->store, &row);
	fixture_flush(f);
	store_hold_raise(f->store, str_of(row.request_id), 120);
	fixture_flush(f);
	AWAIT(f, store_settle(f->store, &s, fixture_done, f));
}

static void release(struct fixture *f)
{
	struct store_hold row = hold_of(named("request"), "buyer", 100);
	store_hold_create(f->store, &row);
	fixture_flush(f);
	store_hold_release(f->store, str_of(row.request_id), "client_gone");
	fixture_flush(f);
}

static void set_price(struct fixture *f)
{
	struct store_price price = {.account_id = "platform", .input = 1, .output = 2};
	str_copy(str_of(named("model")), price.model, sizeof price.model);
	AWAIT(f, store_price_set(f->store, &price, fixture_done, f));
}

static void tell_deposit(struct fixture *f, enum store_deposit_news news, const char *event, int64_t amount)
{
	struct store_deposit_event told = {.news = news, .amount_uusd = amount, .created_s = 1, .type = "test"};
	str_copy(str_of(named(event)), told.event_id, sizeof told.event_id);
	str_copy(str_of(named("deposit")), told.deposit_id, sizeof told.deposit_id);
	AWAIT(f, store_deposit_apply(f->store, &told, on_amount, f));
}

static void make_deposit(struct fixture *f)
{
	struct store_deposit deposit = {.account_id = "buyer", .amount_uusd = 5000};
	str_copy(str_of(named("deposit")), deposit.id, sizeof deposit.id);
	AWAIT(f, store_deposit_create(f->store, &deposit, fixture_done, f));
}

static void pay_deposit(struct fixture *f)
{
	tell_deposit(f, STORE_DEPOSIT_PAID, "paid", 5000);
}

static void make_paid_deposit(struct fixture *f)
{
	make_deposit(f);
	pay_deposit(f);
}

static void refund_deposit(struct fixture *f)
{
	tell_deposit(f, STORE_DEPOSIT_REFUNDED, "refunded", 5000);
}

static void withdraw(struct fixture *f)
{
	struct store_withdrawal row = {
	    .account_id = "earner", .stripe_account = "acct", .amount_uusd = 3000, .net_uusd = 3000, .method = "standard"};
	str_copy(str_of(named("withdrawal")), row.id, sizeof row.id);
	struct store_withdrawal_limits limits = {.daily_uusd = INT64_C(1) << 50};
	AWAIT(f, store_withdrawal_create(f->store, &row, &limits, 0, fixture_done, f));
}

static void step_to(struct fixture *f, enum store_withdrawal_state to)
{
	struct store_withdrawal_step step = {.to = to};
	str_copy(str_of(named("withdrawal")), step.id, sizeof step.id);
	str_copy(str_of(named("tr")), step.transfer_id, sizeof step.transfer_id);
	AWAIT(f, store_withdrawal_step(f->store, &step, on_step, f));
}

static void step_on(struct fixture *f)
{
	step_to(f, STORE_WITHDRAWAL_TRANSFERRED);
}

static void give_back(struct fixture *f)
{
	step_to(f, STORE_WITHDRAWAL_FAILED);
}

static void make_invite(struct fixture *f)
{
	struct store_invite invite = {.amount_uusd = 700, .max_uses = 1};
	str_copy(str_of(named("INV")), invite.code, sizeof invite.code);
	AWAIT(f, store_invite_create(f->store, &invite, fixture_done, f));
}

static void redeem(struct fixture *f)
{
	AWAIT(f, store_invite_redeem(f->store, STR("buyer"), str_of(named("INV")), on_amount, f));
}

static void prepare_referral(struct fixture *f)
{
	make_account_now(f);
	AWAIT_OK(f, store_referral_register(f->store, STR("earner"), STR("EARNER"), on_referral, f));
}

static void refer(struct fixture *f)
{
	AWAIT(f,
	      store_referral_apply(f->store, str_of(named("account")), STR("EARNER"), STORE_REFERRED_BY_APPLYING, on_referral, f));
}

static void close_period(struct fixture *f)
{
	AWAIT(f, store_ledger_close(f->store, on_close, f));
}

/* --- all or nothing --- */

/* Every count is 0 when nothing happened, and as named here when it did. `@` stands for the attempt. */
struct trace {
	int64_t whole;
	const char *sql;
};

struct kind {
	const char *name;
	void (*prepare)(struct fixture *f);
	void (*act)(struct fixture *f);
	bool ends; /* what was not carried out was released at the restart, and asking again does nothing */
	struct trace traces[5];
};

#define TRAIL(action, subject)                                                                                                 \
	{                                                                                                                          \
		1, "SELECT count(*) FROM audit_trail WHERE action = '" action "' AND subject LIKE '" subject "-@%'"                    \
	}
#define ENTRIES(n, key)                                                                                                        \
	{                                                                                                                          \
		n, "SELECT count(*) FROM ledger JOIN transfers ON transfers.id = ledger.transfer WHERE transfers.key LIKE '" key "-@'" \
	}

static const struct kind kinds[] = {
    {"an account",
     NULL,
     make_account_now,
     false,
     {{1, "SELECT count(*) FROM accounts WHERE id = 'account-@'"},
      {1, "SELECT count(*) FROM balances JOIN accounts ON ref = account WHERE id = 'account-@'"},
      TRAIL("account.create", "account")}},
    {"a key", NULL, make_key, false, {{1, "SELECT count(*) FROM api_keys WHERE id = 'key-@'"}, TRAIL("key.create", "key")}},
    {"a rotation",
     make_key,
     rotate_key,
     false,
     {{1, "SELECT count(*) FROM api_keys WHERE id = 'fresh-@'"},
      {1, "SELECT 1 - count(*) FROM api_keys WHERE id = 'key-@'"},
      TRAIL("key.rotate", "key")}},
    {"a transfer", NULL, transfer, false, {{1, "SELECT count(*) FROM transfers WHERE key = 'gift-@'"}, ENTRIES(2, "gift")}},
    {"a settlement in one group",
     NULL,
     settle,
     true,
     {{1, "SELECT count(*) FROM holds WHERE request_id = 'request-@' AND state = 'settled'"},
      {3, "SELECT count(*) FROM ledger JOIN holds ON holds.id = hold WHERE request_id = 'request-@'"},
      {1, "SELECT count(*) FROM usage JOIN holds USING (id) WHERE request_id = 'request-@'"},
      {1, "SELECT count(*) FROM earnings JOIN holds USING (id) WHERE request_id = 'request-@'"}}},
    {"a settlement of a hold that is there",
     NULL,
     settle_in_two_groups,
     true,
     {{1, "SELECT count(*) FROM holds WHERE request_id = 'request-@' AND state = 'settled'"},
      {2, "SELECT count(*) FROM ledger JOIN holds ON holds.id = hold WHERE request_id = 'request-@'"},
      {1, "SELECT count(*) FROM usage JOIN holds USING (id) WHERE request_id = 'request-@'"}}},
    {"a release",
     NULL,
     release,
     true,
     {{1, "SELECT count(*) FROM holds WHERE request_id = 'request-@' AND reason = 'client_gone'"}}},
    {"a price", NULL, set_price, false, {{1, "SELECT count(*) FROM prices WHERE model = 'model-@'"}}},
    {"a deposit",
     NULL,
     make_deposit,
     false,
     {{1, "SELECT count(*) FROM deposits WHERE id = 'deposit-@'"}, TRAIL("deposit.create", "deposit")}},
    {"a payment",
     make_deposit,
     pay_deposit,
     false,
     {{1, "SELECT count(*) FROM deposits WHERE id = 'deposit-@' AND status = 'completed'"},
      {1, "SELECT count(*) FROM webhook_events WHERE event_id = 'paid-@'"},
      ENTRIES(2, "paid:paid"),
      TRAIL("deposit.paid", "deposit")}},
    {"a refund",
     make_paid_deposit,
     refund_deposit,
     false,
     {{5000, "SELECT reversed + lost FROM deposits WHERE id = 'deposit-@'"},
      {1, "SELECT count(*) FROM webhook_events WHERE event_id = 'refunded-@'"},
      TRAIL("deposit.refunded", "deposit")}},
    {"a withdrawal",
     NULL,
     withdraw,
     false,
     {{1, "SELECT count(*) FROM withdrawals WHERE id = 'withdrawal-@'"},
      ENTRIES(2, "wd:withdrawal"),
      TRAIL("withdrawal.request", "withdrawal")}},
    {"a step of a withdrawal",
     withdraw,
     step_on,
     false,
     {{1, "SELECT count(*) FROM withdrawals WHERE id = 'withdrawal-@' AND status = 'transferred' AND transfer_id = 'tr-@'"},
      TRAIL("withdrawal.step", "withdrawal")}},
    {"a withdrawal that is given back",
     withdraw,
     give_back,
     false,
     {{1, "SELECT count(*) FROM withdrawals WHERE id = 'withdrawal-@' AND status = 'failed' AND refunded = 1"},
      ENTRIES(2, "wd-refund:withdrawal")}},
    {"an invite code",
     make_invite,
     redeem,
     false,
     {{1, "SELECT used_count FROM invite_codes WHERE code = 'INV-@'"},
      {1, "SELECT count(*) FROM invite_redemptions WHERE code = 'INV-@'"}}},
    {"a referral",
     prepare_referral,
     refer,
     false,
     {{1, "SELECT count(*) FROM referrals JOIN accounts ON ref = account WHERE accounts.id = 'account-@'"}}},
    {"a close",
     transfer,
     close_period,
     false,
     {{1, "SELECT count(*) FROM ledger_closes WHERE last_entry >= (SELECT max(ledger.id) FROM ledger JOIN transfers ON"
          " transfers.id = ledger.transfer WHERE transfers.key = 'gift-@')"}}},
};

static int64_t count_of(struct fixture *f, const char *sql)
{
	char text[600];
	size_t len = 0;
	for (; *sql && len + sizeof run_id < sizeof text; sql++) {
		if (*sql == '@')
			len += (size_t)snprintf(text + len, sizeof text - len, "%s", run_id);
		else
			text[len++] = *sql;
	}
	text[len] = '\0';
	return fixture_number(f, text);
}

/* Whether it happened; fails when it did by half. */
static bool happened(struct fixture *f, const struct kind *kind, int n)
{
	int whole = 0, none = 0, all = 0;
	for (size_t i = 0; i < sizeof kind->traces / sizeof *kind->traces && kind->traces[i].sql; i++, all++) {
		int64_t count = count_of(f, kind->traces[i].sql);
		whole += count == kind->traces[i].whole;
		none += count == 0;
	}
	if (whole != all && none != all)
		fail_msg("%s: half of it is there after a crash at statement %d (%d of %d)", kind->name, n, whole, all);
	return whole == all;
}

/* True: it was killed. False: it came to the end first. */
static bool crash_at(struct fixture *f, const struct kind *kind, int n)
{
	int status;
	fixture_close(f);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		atomic_store(&statements_left, n);
		fixture_open(f);
		kind->act(f);
		_exit(f->failed ? 3 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	fixture_open(f);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		return true;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	return false;
}

static void each_point_of(struct fixture *f, const struct kind *kind, size_t which, int stride)
{
	int points = 0, done = 0;
	bool killed = true;
	for (int n = (int)which % stride; killed; n += stride) {
		snprintf(run_id, sizeof run_id, "%zux%d", which, n);
		if (kind->prepare)
			kind->prepare(f);
		killed = crash_at(f, kind, n);
		bool before = happened(f, kind, n);
		if (!killed)
			assert_true(before);
		kind->act(f); /* again: as whoever got no answer does */
		bool after = happened(f, kind, n);
		assert_true(after || kind->ends);
		assert_true(after || !before);
		assert_books_right(f);
		points++;
		done += before;
	}
	if (points < 2 && stride == 1)
		fail_msg("%s: no statement was counted", kind->name);
	print_message("    %s: %d crashes, done in %d\n", kind->name, points - 1, done - 1);
}

static void a_crash_between_any_two_statements_leaves_all_or_nothing(void **state)
{
	struct fixture *f = *state;
	int stride = (int)test_length("DARKBLOOM_CRASH_STRIDE", f->on_postgres ? 37 : 19);
	make_account(f, "buyer", 100000000);
	make_account(f, "farmer", 0);
	make_account(f, "earner", 0);
	struct store_transfer reward = {.key = "reward",
	                                .type = "admin_reward",
	                                .from = STORE_ACCOUNT_GRANTS,
	                                .to = "earner",
	                                .amount_uusd = 100000000,
	                                .withdrawable = true};
	AWAIT_OK(f, store_transfer(f->store, &reward, fixture_transferred, f));
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		each_point_of(f, &kinds[i], i, stride);
	struct store_chain chain;
	struct error error = {0};
	assert_int_equal(store_chain_verify(f->path, &chain, &error), DB_OK);
	assert_int_equal(chain.broken, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_crash_between_any_two_statements_leaves_all_or_nothing, fixture_start, fixture_stop),
	};
	return RUN_ON_BOTH(tests);
}
