/* Referrals: who may refer whom, and shares of the fee that add up whatever happens in whatever order. */
#include "../store_fixture.h"

#include "coordinator/store/store_referrals.h"
#include "wire/price.h"

struct told {
	struct fixture *f;
	struct store_referral referral;
};

static void on_referral(const struct store_referral *referral, const struct error *error, void *user)
{
	struct told *told = user;
	told->referral = referral ? *referral : (struct store_referral){0};
	fixture_answer(told->f, error);
}

static enum db_err take_code(struct fixture *f, const char *account, const char *code, char *held)
{
	struct told told = {.f = f};
	AWAIT(f, store_referral_register(f->store, str_of(account), str_of(code), on_referral, &told));
	if (held)
		memcpy(held, told.referral.code, sizeof told.referral.code);
	return f->failed ? f->error.code : DB_OK;
}

static enum db_err apply(struct fixture *f, const char *account, const char *code)
{
	struct told told = {.f = f};
	AWAIT(f, store_referral_apply(f->store, str_of(account), str_of(code), STORE_REFERRED_BY_APPLYING, on_referral, &told));
	return f->failed ? f->error.code : DB_OK;
}

static struct store_referral referral_of(struct fixture *f, const char *account)
{
	struct told told = {.f = f};
	AWAIT_OK(f, store_referral_get(f->store, str_of(account), on_referral, &told));
	return told.referral;
}

static void an_account_has_one_code_for_good(void **state)
{
	struct fixture *f = *state;
	char held[STORE_REFERRAL_CODE_SIZE];
	make_account(f, "ann", 0);
	make_account(f, "bob", 0);
	assert_int_equal(take_code(f, "ann", "ANN-1", held), DB_OK);
	assert_string_equal(held, "ANN-1");
	assert_int_equal(take_code(f, "ann", "ANN-2", held), DB_OK);
	assert_string_equal(held, "ANN-1");
	assert_int_equal(take_code(f, "bob", "ANN-1", NULL), DB_E_EXISTS);
	assert_int_equal(take_code(f, "bob", "ANN-2", NULL), DB_OK);
	assert_int_equal(take_code(f, "nobody", "ANN-3", NULL), DB_E_NOT_FOUND);
	assert_int_equal(take_code(f, "grants", "ANN-3", NULL), DB_E_NOT_FOUND);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM audit_trail WHERE action = 'referral.register'"), 2);
}

static void an_account_is_referred_once_and_never_in_a_circle(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = {"ann", "bob", "cyd", "dan"};
	for (size_t i = 0; i < 4; i++) {
		make_account(f, names[i], 0);
		assert_int_equal(take_code(f, names[i], names[i], NULL), DB_OK);
	}
	assert_int_equal(apply(f, "ann", "nobody"), DB_E_NOT_FOUND);
	assert_int_equal(apply(f, "ann", "ann"), DB_E_DENIED); /* oneself */
	assert_int_equal(apply(f, "bob", "ann"), DB_OK);
	assert_int_equal(apply(f, "bob", "cyd"), DB_E_DENIED); /* twice */
	assert_int_equal(apply(f, "ann", "bob"), DB_E_DENIED); /* each other */
	assert_int_equal(apply(f, "cyd", "bob"), DB_OK);
	assert_int_equal(apply(f, "dan", "cyd"), DB_OK);
	assert_int_equal(apply(f, "ann", "dan"), DB_E_DENIED); /* a circle of four */
	assert_int_equal(referral_of(f, "ann").referred, 1);
	assert_string_equal(referral_of(f, "dan").referred_by, "cyd");
	balance_of(f, "dan");
	assert_string_equal(f->account.referrer, "cyd");
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM audit_trail WHERE action = 'referral.apply'"), 3);
}

static void log_in(struct fixture *f, const char *account, const char *email)
{
	char sql[512];
	snprintf(sql, sizeof sql,
	         "INSERT INTO passwords (account, email, hash, changed_us) SELECT ref, '%s', 'x', 0 FROM accounts WHERE id = '%s'",
	         email, account);
	fixture_sql(f, sql);
}

static void nobody_refers_themselves_under_another_name(void **state)
{
	struct fixture *f = *state;
	make_account(f, "ann", 0);
	make_account(f, "ann-again", 0);
	make_account(f, "bob", 0);
	log_in(f, "ann", "ann+work@example.test");
	log_in(f, "ann-again", "ann+spare@example.test");
	log_in(f, "bob", "bob@example.test");
	assert_int_equal(take_code(f, "ann", "ANN", NULL), DB_OK);
	assert_int_equal(apply(f, "ann-again", "ANN"), DB_E_DENIED);
	assert_int_equal(apply(f, "bob", "ANN"), DB_OK);
}

static void settle_with(struct fixture *f, const char *id, const char *referrer, int64_t cost, int64_t fee, int64_t referral)
{
	struct store_settlement s = settlement_of(id, "buyer", "farmer", cost, fee);
	str_copy(str_of(referrer), s.referrer, sizeof s.referrer);
	s.referral_uusd = referral;
	AWAIT(f, store_settle(f->store, &s, fixture_done, f));
}

static void a_share_comes_out_of_the_fee(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 10000);
	make_account(f, "farmer", 0);
	make_account(f, "ann", 0);
	assert_int_equal(take_code(f, "ann", "ANN", NULL), DB_OK);
	assert_int_equal(apply(f, "buyer", "ANN"), DB_OK);
	settle_with(f, "r1", "ann", 1000, 100, 20);
	assert_false(f->failed);
	settle_with(f, "r1", "ann", 1000, 100, 20); /* again */
	assert_int_equal(balance_of(f, "buyer"), 9000);
	assert_int_equal(balance_of(f, "farmer"), 900);
	assert_int_equal(balance_of(f, STORE_ACCOUNT_PLATFORM), 80);
	assert_int_equal(balance_of(f, "ann"), 20);
	assert_int_equal(withdrawable_of(f, "ann"), 20);
	assert_int_equal(referral_of(f, "ann").rewards_uusd, 20);
	assert_books_right(f);

	settle_with(f, "r2", "vanished", 1000, 100, 20); /* then the platform keeps all */
	assert_false(f->failed);
	assert_int_equal(balance_of(f, STORE_ACCOUNT_PLATFORM), 180);
	settle_with(f, "r3", "ann", 1000, 100, 100); /* more than a share */
	assert_true(f->failed);
	settle_with(f, "r4", "ann", 1000, 100, -1);
	assert_true(f->failed);
	assert_int_equal(balance_of(f, "buyer"), 8000);
	assert_books_right(f);
}

static void a_share_that_went_to_somebody_else_is_found(void **state)
{
	struct fixture *f = *state;
	make_account(f, "buyer", 10000);
	make_account(f, "farmer", 0);
	make_account(f, "ann", 0);
	settle_with(f, "r1", "ann", 1000, 100, 20); /* nobody ever referred the buyer */
	struct store_audit audit = audit_of(f);
	assert_int_equal(audit.wrong_settlements, 1);
	assert_int_equal(audit.unbalanced, 0);
}

/* --- random histories --- */

#define PEOPLE 10

static uint64_t dice(uint64_t *random, uint64_t sides)
{
	*random ^= *random << 13;
	*random ^= *random >> 7;
	*random ^= *random << 17;
	return *random % sides;
}

struct model {
	int64_t balance[PEOPLE], withdrawable[PEOPLE], rewards[PEOPLE], platform;
	int referrer[PEOPLE]; /* -1 = none */
};

static bool leads_to(const struct model *m, int at, int person)
{
	while (at >= 0 && at != person)
		at = m->referrer[at];
	return at == person;
}

static void name_of(int person, char out[STORE_ID_SIZE])
{
	snprintf(out, STORE_ID_SIZE, "person-%d", person);
}

static void step_apply(struct fixture *f, struct model *m, uint64_t *random)
{
	char account[STORE_ID_SIZE], code[STORE_ID_SIZE];
	int person = (int)dice(random, PEOPLE), referrer = (int)dice(random, PEOPLE);
	name_of(person, account);
	name_of(referrer, code);
	bool may = m->referrer[person] < 0 && !leads_to(m, referrer, person);
	assert_int_equal(apply(f, account, code), may ? DB_OK : DB_E_DENIED);
	if (may)
		m->referrer[person] = referrer;
}

static void step_settle(struct fixture *f, struct model *m, uint64_t *random, int64_t number)
{
	char id[STORE_ID_SIZE], buyer[STORE_ID_SIZE], provider[STORE_ID_SIZE];
	int person = (int)dice(random, PEOPLE), seller = (int)dice(random, PEOPLE), percent = (int)dice(random, 51);
	int64_t cost = (int64_t)dice(random, 2000), fee = price_fee(cost, (int)dice(random, 101));
	int64_t share = m->referrer[person] < 0 ? 0 : price_referral(fee, percent);
	snprintf(id, sizeof id, "request-%lld", (long long)number);
	name_of(person, buyer);
	name_of(seller, provider);
	struct store_settlement s = settlement_of(id, buyer, provider, cost, fee);
	if (m->referrer[person] >= 0)
		name_of(m->referrer[person], s.referrer);
	s.referral_uusd = share;
	store_settle(f->store, &s, NULL, NULL);
	if (dice(random, 4) == 0)
		store_settle(f->store, &s, NULL, NULL);
	if (m->balance[person] < cost)
		return;
	m->balance[person] -= cost;
	if (m->withdrawable[person] > m->balance[person])
		m->withdrawable[person] = m->balance[person];
	m->balance[seller] += cost - fee;
	m->withdrawable[seller] += cost - fee;
	m->platform += fee - share;
	if (share) {
		m->balance[m->referrer[person]] += share;
		m->withdrawable[m->referrer[person]] += share;
		m->rewards[m->referrer[person]] += share;
	}
}

static void compare(struct fixture *f, const struct model *m)
{
	char name[STORE_ID_SIZE];
	for (int i = 0; i < PEOPLE; i++) {
		name_of(i, name);
		assert_int_equal(balance_of(f, name), m->balance[i]);
		assert_int_equal(withdrawable_of(f, name), m->withdrawable[i]);
		assert_int_equal(referral_of(f, name).rewards_uusd, m->rewards[i]);
	}
	assert_int_equal(balance_of(f, STORE_ACCOUNT_PLATFORM), m->platform);
	assert_int_equal(fixture_number(f, "SELECT sum(amount) FROM ledger"), 0);
	assert_books_right(f);
}

static void no_micro_dollar_is_lost_over_random_histories(void **state)
{
	struct fixture *f = *state;
	struct model m = {.platform = 0};
	uint64_t random = 0x2545f4914f6cdd1dULL;
	size_t length = test_length("REFERRAL_STEPS", 2000);
	char name[STORE_ID_SIZE];
	for (int i = 0; i < PEOPLE; i++) {
		name_of(i, name);
		make_account(f, name, 100000);
		assert_int_equal(take_code(f, name, name, NULL), DB_OK);
		m.balance[i] = 100000;
		m.referrer[i] = -1;
	}
	for (size_t i = 0; i < length; i++) {
		if (dice(&random, 40) == 0)
			step_apply(f, &m, &random);
		else
			step_settle(f, &m, &random, (int64_t)i);
		if (i == length / 2) {
			fixture_close(f);
			fixture_open(f);
		}
	}
	compare(f, &m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_start, fixture_stop)
	    TEST(an_account_has_one_code_for_good),
	    TEST(an_account_is_referred_once_and_never_in_a_circle),
	    TEST(nobody_refers_themselves_under_another_name),
	    TEST(a_share_comes_out_of_the_fee),
	    TEST(a_share_that_went_to_somebody_else_is_found),
	    TEST(no_micro_dollar_is_lost_over_random_histories),
	};
	return RUN_ON_BOTH(tests);
}
