/* Receipts are signed behind the settlements and stored: none is lost in a crash, none is signed twice, each stays good. */
#include "../store_fixture.h"

#include <signal.h>
#include <sys/wait.h>

#include "coordinator/money/receipt_signer.h"
#include "core/clock.h"
#include "core/encode.h"
#include "crypto/secret.h"

struct receipts {
	struct fixture f;
	struct receipt_signer signer;
	struct p256_key *key;
	struct store_receipt read;
	bool found, put;
	struct store_receipts_due *due;
};

static int start(void **state)
{
	struct receipts *r = calloc(1, sizeof *r);
	assert_non_null(r);
	assert_int_equal(crypto_init(), DB_OK);
	r->key = p256_generate();
	fixture_folder(&r->f);
	fixture_open(&r->f);
	make_account(&r->f, "buyer", 1000000);
	make_account(&r->f, "farmer", 0);
	*state = r;
	return 0;
}

static int stop(void **state)
{
	struct receipts *r = *state;
	receipt_signer_stop(&r->signer);
	fixture_close(&r->f);
	fixture_remove(&r->f);
	p256_free(r->key);
	free(r);
	return 0;
}

static void settle_some(struct receipts *r, const char *prefix, int count)
{
	for (int i = 0; i < count; i++) {
		char id[STORE_ID_SIZE];
		snprintf(id, sizeof id, "%s-%d", prefix, i);
		struct store_settlement s = settlement_of(id, "buyer", i % 2 ? "farmer" : "", 100, 7);
		store_settle(r->f.store, &s, NULL, NULL);
	}
	fixture_flush(&r->f);
}

static void restart(struct receipts *r)
{
	receipt_signer_stop(&r->signer);
	fixture_close(&r->f);
	fixture_open(&r->f);
}

static void on_look(struct net_timer *timer)
{
	struct net_loop *loop = timer->loop;
	net_timer_stop(timer);
	net_loop_stop(loop);
}

/* Lets the signer work until nothing is due. */
static void sign_all(struct receipts *r)
{
	receipt_signer_start(&r->signer, r->f.loop, r->f.store, r->key);
	while (fixture_number(&r->f, "SELECT count(*) FROM receipts_due") > 0) {
		struct net_timer timer = {0};
		net_timer_start(r->f.loop, &timer, 20, 20, on_look);
		net_loop_run(r->f.loop);
	}
}

static void on_receipt(const struct store_receipt *receipt, const struct error *error, void *user)
{
	struct receipts *r = user;
	r->found = receipt != NULL;
	if (receipt)
		r->read = *receipt;
	fixture_answer(&r->f, error);
}

static bool get(struct receipts *r, const char *id)
{
	store_receipt_get(r->f.store, str_of(id), on_receipt, r);
	net_loop_run(r->f.loop);
	assert_false(r->f.failed);
	return r->found;
}

static void public_text(const struct p256_key *key, char out[92])
{
	uint8_t public_key[P256_PUBLIC_BYTES];
	p256_public(key, public_key);
	out[base64_encode(public_key, sizeof public_key, out)] = '\0';
}

/* The document of what is stored verifies by `key`. */
static void assert_good(const struct receipts *r, const struct p256_key *key)
{
	char pinned[92];
	struct receipt_check check;
	struct error error;
	struct buf out;
	public_text(key, pinned);
	struct receipt_expect expect = {.coordinator_key = str_of(pinned)};
	buf_init(&out, RECEIPT_MAX);
	assert_int_equal(receipt_document(&r->read, r->key, &out), DB_OK);
	if (receipt_verify(buf_str(&out), &expect, &check, &error))
		fail_msg("%s: %s", check.why, r->read.s.request_id);
	assert_int_equal(check.coordinator, RECEIPT_GOOD);
	assert_string_equal(check.request_id, r->read.s.request_id);
	buf_free(&out);
}

static void every_settlement_gets_one_stored_signature(void **state)
{
	struct receipts *r = *state;
	settle_some(r, "a", 700);
	store_settle(r->f.store, &(struct store_settlement){0}, NULL, NULL); /* refused: no receipt either */
	settle_some(r, "a", 10);                                             /* again: they are settled already */
	assert_int_equal(fixture_number(&r->f, "SELECT count(*) FROM receipts"), 0);
	assert_true(get(r, "a-3"));
	assert_string_equal(r->read.signature, "");
	assert_good(r, r->key); /* signed for whoever does not wait */
	sign_all(r);
	assert_int_equal(fixture_number(&r->f, "SELECT count(*) FROM receipts"), 700);
	assert_int_equal(fixture_number(&r->f, "SELECT count(*) FROM usage WHERE id NOT IN (SELECT id FROM receipts)"), 0);
	for (int i = 0; i < 700; i += 99) {
		char id[STORE_ID_SIZE];
		snprintf(id, sizeof id, "a-%d", i);
		assert_true(get(r, id));
		assert_true(r->read.signature[0]);
		assert_good(r, r->key);
	}
	assert_false(get(r, "nothing"));
	assert_books_right(&r->f);
}

static void what_a_stop_left_unsigned_is_signed_after_the_start(void **state)
{
	struct receipts *r = *state;
	settle_some(r, "before", 300);
	restart(r);
	assert_true(fixture_number(&r->f, "SELECT count(*) FROM receipts_due") > 0);
	sign_all(r);
	assert_int_equal(fixture_number(&r->f, "SELECT count(*) FROM receipts"), 300);
}

static void a_receipt_stays_good_when_the_key_changes(void **state)
{
	struct receipts *r = *state;
	struct p256_key *old = r->key;
	settle_some(r, "old", 5);
	sign_all(r);
	restart(r);
	r->key = p256_generate();
	settle_some(r, "new", 5);
	sign_all(r);
	assert_true(get(r, "old-1"));
	assert_good(r, old);
	assert_true(get(r, "new-1"));
	assert_good(r, r->key);
	while (r->signer.key_count < 2) {
		struct net_timer timer = {0};
		net_timer_start(r->f.loop, &timer, 5, 5, on_look);
		net_loop_run(r->f.loop);
	}
	assert_string_equal(r->signer.keys[0].kid, r->signer.kid); /* the newest first, and the old one beside it */
	assert_string_not_equal(r->signer.keys[1].kid, r->signer.kid);
	p256_free(old);
}

/* Whoever alters the books cannot make a receipt of it. */
static void an_altered_row_has_no_good_receipt(void **state)
{
	struct receipts *r = *state;
	struct receipt_check check;
	struct error error;
	struct buf out;
	settle_some(r, "a", 3);
	sign_all(r);
	fixture_sql(&r->f, "UPDATE usage SET prompt_tokens = prompt_tokens + 1");
	assert_true(get(r, "a-1"));
	buf_init(&out, RECEIPT_MAX);
	assert_int_equal(receipt_document(&r->read, r->key, &out), DB_OK);
	assert_int_equal(receipt_verify(buf_str(&out), &(struct receipt_expect){0}, &check, &error), DB_E_CRYPTO);
	assert_int_equal(check.coordinator, RECEIPT_BAD);
	buf_free(&out);
}

static void a_blind_requests_receipt_keeps_what_the_provider_signed(void **state)
{
	struct receipts *r = *state;
	struct store_settlement s = settlement_of("blind", "buyer", "farmer", 100, 7);
	memcpy(s.consumer_key, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 45);
	s.reported_prompt_tokens = 12;
	s.reported_reasoning_tokens = 3;
	store_settle(r->f.store, &s, NULL, NULL);
	fixture_flush(&r->f);
	sign_all(r);
	assert_true(get(r, "blind"));
	assert_string_equal(r->read.s.consumer_key, s.consumer_key);
	assert_int_equal(r->read.s.reported_prompt_tokens, 12);
	assert_int_equal(r->read.s.reported_reasoning_tokens, 3);
	assert_good(r, r->key);
}

/* --- beside settlements --- */

/* Settlements gather for a minute, so that whatever ends their gathering early is seen. */
static void gather_for_long(struct receipts *r)
{
	struct error error = {0};
	fixture_close(&r->f);
	r->f.loop = net_loop_new(&error);
	assert_non_null(r->f.loop);
	r->f.store =
	    store_open(&(struct store_options){.path = r->f.path, .instance = "fixture", .readers = 2, .group_commit_us = 60000000},
	               r->f.loop, &error);
	assert_non_null(r->f.store);
}

static void on_due(struct store_receipts_due *due, const struct error *error, void *user)
{
	struct receipts *r = user;
	r->due = due;
	fixture_answer(&r->f, error);
}

static void on_put(const struct error *error, void *user)
{
	struct receipts *r = user;
	assert_null(error);
	r->put = true;
}

static uint64_t commits(struct receipts *r)
{
	struct store_stats stats;
	store_stats(r->f.store, &stats);
	return stats.commits;
}

static void settle_one(struct receipts *r, const char *id)
{
	struct store_settlement s = settlement_of(id, "buyer", "farmer", 100, 7);
	store_settle(r->f.store, &s, NULL, NULL);
}

static void signing_does_not_hurry_the_settlements_that_gather(void **state)
{
	struct receipts *r = *state;
	struct store_receipt_key key = {.kid = "k", .public_key = "p"};
	settle_some(r, "before", 3);
	gather_for_long(r);
	AWAIT_OK(&r->f, store_receipt_key_add(r->f.store, &key, fixture_done, &r->f));
	uint64_t before = commits(r);

	settle_one(r, "gathers");
	AWAIT_OK(&r->f, store_receipts_due(r->f.store, on_due, r));
	assert_non_null(r->due);
	assert_int_equal(r->due->count, 3); /* what is durable, without the one that gathers */
	assert_int_equal(commits(r), before);
	for (size_t i = 0; i < r->due->count; i++)
		str_copy(STR("signed"), r->due->receipts[i].signature, sizeof r->due->receipts[i].signature);
	store_receipts_put(r->f.store, r->due, STR("k"), on_put, r);
	AWAIT_OK(&r->f, store_receipts_due(r->f.store, on_due, r)); /* the reader has looked: the writer was not woken */
	free(r->due);
	assert_int_equal(commits(r), before);
	assert_false(r->put);

	fixture_flush(&r->f); /* whoever waits hurries them all */
	assert_true(r->put);
	assert_int_equal(commits(r), before + 1);
	assert_int_equal(fixture_number(&r->f, "SELECT count(*) FROM receipts"), 3);
	AWAIT_OK(&r->f, store_receipts_due(r->f.store, on_due, r));
	assert_non_null(r->due);
	assert_int_equal(r->due->count, 1);
	free(r->due);
}

/* --- kill -9 --- */

static void child_turn(void *arg)
{
	struct receipts *r = arg;
	static int turn;
	for (int i = 0; i < 20; i++, turn++) {
		char id[STORE_ID_SIZE];
		snprintf(id, sizeof id, "%d-%d", (int)getpid(), turn);
		struct store_settlement s = settlement_of(id, "buyer", "farmer", 1, 0);
		store_settle(r->f.store, &s, NULL, NULL);
	}
	usleep(1000);
	net_post(r->f.loop, child_turn, r);
}

static void run_child(struct receipts *r)
{
	fixture_open(&r->f);
	receipt_signer_start(&r->signer, r->f.loop, r->f.store, r->key);
	net_post(r->f.loop, child_turn, r);
	net_loop_run(r->f.loop);
	_exit(7);
}

static void a_kill_at_any_moment_leaves_nothing_without_a_receipt(void **state)
{
	struct receipts *r = *state;
#ifdef __SANITIZE_THREAD__
	skip(); /* the child of a process whose workers sign may start no threads */
#endif
	fixture_close(&r->f);
	for (int i = 0; i < 6; i++) {
		int status;
		int64_t had = fixture_number(&r->f, "SELECT count(*) FROM receipts");
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0)
			run_child(r);
		uint64_t end_us = clock_mono_us() + 60000000;
		while (fixture_number(&r->f, "SELECT count(*) FROM receipts") == had) { /* it signs */
			assert_true(clock_mono_us() < end_us);
			assert_int_equal(waitpid(child, &status, WNOHANG), 0);
			usleep(1000);
		}
		usleep((useconds_t)(i * 3000));
		kill(child, SIGKILL);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
	}
	fixture_open(&r->f);
	sign_all(r);
	assert_int_equal(fixture_number(&r->f, "SELECT count(*) FROM usage WHERE id NOT IN (SELECT id FROM receipts)"), 0);
	assert_int_equal(fixture_number(&r->f, "SELECT count(*) FROM receipts WHERE id NOT IN (SELECT id FROM usage)"), 0);
	assert_books_right(&r->f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(every_settlement_gets_one_stored_signature, start, stop),
	    cmocka_unit_test_setup_teardown(what_a_stop_left_unsigned_is_signed_after_the_start, start, stop),
	    cmocka_unit_test_setup_teardown(a_receipt_stays_good_when_the_key_changes, start, stop),
	    cmocka_unit_test_setup_teardown(an_altered_row_has_no_good_receipt, start, stop),
	    cmocka_unit_test_setup_teardown(a_blind_requests_receipt_keeps_what_the_provider_signed, start, stop),
	    cmocka_unit_test_setup_teardown(signing_does_not_hurry_the_settlements_that_gather, start, stop),
	    cmocka_unit_test_setup_teardown(a_kill_at_any_moment_leaves_nothing_without_a_receipt, start, stop),
	};
	return RUN_ON_BOTH(tests);
}
