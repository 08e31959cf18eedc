/* Random histories against a model: whatever is asked in whatever order, with restarts and kills in between, the books agree
 * with a dozen lines of arithmetic. */
#include "../store_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "core/id.h"

#define ACCOUNTS 8
#define REQUESTS 4096 /* known at a time; older ones are only replayed */

/* --- the model --- */

enum request_state { UNKNOWN, OPEN, SETTLED, RELEASED };

struct model_request {
	int64_t number;
	enum request_state state;
	int account;
	int64_t amount;
	struct store_settlement settlement; /* when settled, for replays */
};

struct model {
	uint64_t random;
	int64_t balance[ACCOUNTS], withdrawable[ACCOUNTS], platform, grants;
	struct model_request requests[REQUESTS];
	int64_t next_request, next_transfer, settled, released, entries, applied_transfers;
};

static uint64_t dice(struct model *m, uint64_t sides)
{
	m->random ^= m->random << 13;
	m->random ^= m->random >> 7;
	m->random ^= m->random << 17;
	return m->random % sides;
}

static void account_name(int account, char out[STORE_ID_SIZE])
{
	snprintf(out, STORE_ID_SIZE, "account-%d", account);
}

static void request_name(int64_t number, char out[STORE_ID_SIZE])
{
	snprintf(out, STORE_ID_SIZE, "request-%lld", (long long)number);
}

static void spend(struct model *m, int account, int64_t amount)
{
	m->balance[account] -= amount;
	if (m->withdrawable[account] > m->balance[account])
		m->withdrawable[account] = m->balance[account];
}

/* --- one random step, on the store and on the model --- */

static void step_hold(struct fixture *f, struct model *m)
{
	int64_t number = m->next_request++;
	struct model_request *request = &m->requests[number % REQUESTS];
	char id[STORE_ID_SIZE], account[STORE_ID_SIZE];
	if (request->state == OPEN)
		return; /* its place is taken by one that is still open */
	*request = (struct model_request){
	    .number = number, .state = OPEN, .account = (int)dice(m, ACCOUNTS), .amount = (int64_t)dice(m, 900)};
	request_name(number, id);
	account_name(request->account, account);
	struct store_hold row = hold_of(id, account, request->amount);
	store_hold_create(f->store, &row);
}

/* A request of the last few, so that some end in the group they began in. */
static struct model_request *pick(struct model *m, char id[STORE_ID_SIZE])
{
	uint64_t reach = dice(m, 4) ? 40 : REQUESTS;
	int64_t number = m->next_request - 1 - (int64_t)dice(m, reach);
	struct model_request *request = number < 0 ? NULL : &m->requests[number % REQUESTS];
	if (!request || request->number != number || request->state == UNKNOWN)
		return NULL;
	request_name(number, id);
	return request;
}

static void step_settle(struct fixture *f, struct model *m)
{
	char id[STORE_ID_SIZE], account[STORE_ID_SIZE], provider[STORE_ID_SIZE] = "";
	struct model_request *request = pick(m, id);
	if (!request)
		return;
	int paid = (int)dice(m, ACCOUNTS + 2);
	int64_t cost = (int64_t)dice(m, (uint64_t)request->amount * 2 + 1);
	account_name(request->account, account);
	if (paid < ACCOUNTS)
		account_name(paid, provider);
	if (request->state == SETTLED) {
		store_settle(f->store, &request->settlement, NULL, NULL); /* a replay, or something else under the same id */
		return;
	}
	struct store_settlement s = settlement_of(id, account, provider, cost, cost * (int64_t)dice(m, 101) / 100);
	store_settle(f->store, &s, NULL, NULL);
	if (request->state != OPEN || m->balance[request->account] < cost)
		return;

	int64_t payout = cost - s.fee_uusd;
	request->state = SETTLED;
	request->settlement = s;
	m->settled++;
	spend(m, request->account, cost);
	if (paid < ACCOUNTS) {
		m->balance[paid] += payout;
		m->withdrawable[paid] += payout;
		m->platform += s.fee_uusd;
	} else {
		m->platform += cost;
	}
	m->entries += (cost > 0) + (payout > 0) + (s.fee_uusd > 0);
}

static void step_release(struct fixture *f, struct model *m)
{
	char id[STORE_ID_SIZE];
	struct model_request *request = pick(m, id);
	if (!request)
		return;
	store_hold_release(f->store, str_of(id), "provider_error");
	if (request->state == OPEN) {
		request->state = RELEASED;
		m->released++;
	}
}

static void step_raise(struct fixture *f, struct model *m)
{
	char id[STORE_ID_SIZE];
	struct model_request *request = pick(m, id);
	if (!request)
		return;
	int64_t amount = (int64_t)dice(m, 2000);
	store_hold_raise(f->store, str_of(id), amount);
	if (request->state == OPEN && amount > request->amount)
		request->amount = amount;
}

static void step_transfer(struct fixture *f, struct model *m)
{
	struct store_transfer transfer = {.type = "admin_credit", .amount_uusd = 1 + (int64_t)dice(m, 5000)};
	int from = (int)dice(m, ACCOUNTS * 2), to = (int)dice(m, ACCOUNTS);
	bool is_new = dice(m, 4) > 0 || !m->next_transfer;
	snprintf(transfer.key, sizeof transfer.key, "key-%lld", (long long)(is_new ? m->next_transfer : m->next_transfer - 1));
	transfer.withdrawable = dice(m, 2);
	account_name(to, transfer.to);
	if (from < ACCOUNTS)
		account_name(from, transfer.from);
	else
		str_copy(STR(STORE_ACCOUNT_GRANTS), transfer.from, sizeof transfer.from);
	store_transfer(f->store, &transfer, NULL, NULL);

	int64_t amount = transfer.amount_uusd;
	if (!is_new || from == to)
		return;
	if (from < ACCOUNTS && (m->balance[from] < amount || (transfer.withdrawable && m->withdrawable[from] < amount)))
		return;
	m->next_transfer++;
	m->applied_transfers++;
	m->entries += 2;
	if (from < ACCOUNTS) {
		if (transfer.withdrawable)
			m->withdrawable[from] -= amount;
		spend(m, from, amount);
	} else {
		m->grants -= amount;
	}
	m->balance[to] += amount;
	m->withdrawable[to] += transfer.withdrawable ? amount : 0;
}

static void step(struct fixture *f, struct model *m)
{
	uint64_t roll = dice(m, 100);
	if (roll < 40)
		step_hold(f, m);
	else if (roll < 75)
		step_settle(f, m);
	else if (roll < 85)
		step_release(f, m);
	else if (roll < 92)
		step_raise(f, m);
	else
		step_transfer(f, m);
}

static void begin(struct fixture *f, struct model *m, uint64_t seed)
{
	m->random = seed;
	for (int i = 0; i < ACCOUNTS; i++) {
		char id[STORE_ID_SIZE];
		account_name(i, id);
		make_account(f, id, 20000);
		m->balance[i] = 20000;
		m->grants -= 20000;
		m->entries += 2;
	}
}

static void assert_agrees(struct fixture *f, const struct model *m)
{
	for (int i = 0; i < ACCOUNTS; i++) {
		char id[STORE_ID_SIZE];
		account_name(i, id);
		assert_int_equal(balance_of(f, id), m->balance[i]);
		assert_int_equal(withdrawable_of(f, id), m->withdrawable[i]);
	}
	assert_int_equal(balance_of(f, STORE_ACCOUNT_PLATFORM), m->platform);
	assert_int_equal(balance_of(f, STORE_ACCOUNT_GRANTS), m->grants);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM usage"), m->settled);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM ledger"), m->entries);
	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE reason = 'provider_error'"), m->released);
}

static void a_restart(struct fixture *f, struct model *m)
{
	fixture_close(f);
	fixture_open(f);
	for (size_t i = 0; i < REQUESTS; i++)
		if (m->requests[i].state == OPEN)
			m->requests[i].state = RELEASED;
}

static void random_histories_agree_with_the_model(void **state)
{
	struct fixture *f = *state;
	static struct model m;
	memset(&m, 0, sizeof m);
	begin(f, &m, 0x9e3779b97f4a7c15u);
	int operations = (int)test_length("DARKBLOOM_HISTORY_OPERATIONS", f->on_postgres ? 30000 : 120000);
	for (int i = 1; i <= operations; i++) {
		step(f, &m);
		if (i % 10000 == 0)
			assert_agrees(f, &m);
		if (i % 25000 == 0)
			a_restart(f, &m);
	}
	assert_agrees(f, &m);
	assert_true(m.settled > operations / 10);
	assert_true(m.released > operations / 100 && m.applied_transfers > operations / 100);
	assert_books_right(f);
}

/* --- kill -9 --- */

static int acknowledge_fd;

static void acknowledge(const struct error *error, void *user)
{
	char *id = user;
	if (!error && write(acknowledge_fd, id, STORE_ID_SIZE) != STORE_ID_SIZE)
		_exit(4);
	free(id);
}

/* What the child does until it is killed: everything that writes, with a word to the parent for each durable settlement. */
static void child_turn(void *arg)
{
	struct fixture *f = arg;
	static uint64_t turn;
	for (int i = 0; i < 8; i++, turn++) {
		char request[ID_UUID_SIZE], key[ID_UUID_SIZE];
		id_uuid7(request);
		struct store_hold row = hold_of(request, "account-0", 100);
		store_hold_create(f->store, &row);
		if (turn % 7 == 0)
			continue; /* stays open */
		if (turn % 5 == 0)
			store_hold_raise(f->store, str_of(request), 150);
		if (turn % 3 == 0) {
			store_hold_release(f->store, str_of(request), "provider_error");
			continue;
		}
		struct store_settlement s = settlement_of(request, "account-0", turn % 2 ? "account-1" : "", 120, 12);
		s.hold_uusd = 100;
		char *id = calloc(1, STORE_ID_SIZE);
		if (!id)
			_exit(5);
		memcpy(id, request, sizeof request);
		store_settle(f->store, &s, acknowledge, id);
		id_uuid7(key);
		struct store_transfer refill = {
		    .type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .to = "account-0", .amount_uusd = 120};
		memcpy(refill.key, key, sizeof key);
		store_transfer(f->store, &refill, NULL, NULL);
	}
	struct store_stats stats;
	store_stats(f->store, &stats);
	if (stats.queued > 500)
		usleep(1000);
	net_post(f->loop, child_turn, f);
}

static void run_child(struct fixture *f, int fd)
{
	struct error error;
	acknowledge_fd = fd;
	f->loop = net_loop_new(&error);
	f->store = f->loop ? store_open(&(struct store_options){.path = f->path, .group_commit_us = 500, .instance = "fixture"},
	                                f->loop, &error)
	                   : NULL;
	if (!f->store)
		_exit(6);
	net_post(f->loop, child_turn, f);
	net_loop_run(f->loop);
	_exit(7);
}

/* Every settlement the child heard to be durable is there, and nothing is there by half. */
static size_t check_after_kill(struct fixture *f, int fd)
{
	char id[STORE_ID_SIZE];
	struct error error = {0};
	size_t heard = 0;

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	fixture_open(f); /* as the next start of the coordinator */
	fixture_close(f);
	struct sql *db = sql_open(f->path, SQL_READ, &error);
	assert_non_null(db);
	while (read(fd, id, sizeof id) == sizeof id) {
		struct sql_stmt *stmt = sql_say(db, "SELECT cost FROM usage JOIN holds USING (id) WHERE request_id = ?");
		sql_put_text(stmt, 1, id);
		if (!sql_row(stmt))
			fail_msg("the durable settlement %s is lost", id);
		assert_int_equal(sql_i64(stmt, 0), 120);
		sql_done(stmt);
		heard++;
	}
	sql_close(db);

	assert_int_equal(fixture_number(f, "SELECT count(*) FROM holds WHERE state = 'open'"), 0);
	struct store_audit audit = audit_of(f);
	assert_int_equal(audit.sum_uusd, 0);
	assert_books_right(f);
	return heard;
}

static void wait_for_first_word(int fd, pid_t child)
{
	int status;
	while (lseek(fd, 0, SEEK_END) == 0) {
		assert_int_equal(waitpid(child, &status, WNOHANG), 0);
		usleep(500);
	}
}

#define FRESH_BOOKS_EVERY 25 /* kills: each is followed by a check of the whole books, which grow with every turn */

static void begin_fresh_books(struct fixture *f, char *heard_path, size_t size)
{
	fixture_remove(f);
	fixture_folder(f);
	snprintf(heard_path, size, "%s/heard", f->folder);
	fixture_open(f);
	make_account(f, "account-0", 1000000);
	make_account(f, "account-1", 0);
	fixture_close(f);
}

static void a_kill_at_any_moment_leaves_right_books(void **state)
{
	struct fixture *f = *state;
	static struct model dice_only = {.random = 88172645463325252u};
	char heard_path[320];
	size_t all_heard = 0;
	int64_t left_open = 0;

	size_t kills = test_length("DARKBLOOM_KILLS", f->on_postgres ? 12 : 60);
	for (size_t i = 0; i < kills; i++) {
		if (i % FRESH_BOOKS_EVERY == 0)
			begin_fresh_books(f, heard_path, sizeof heard_path);
		int heard = open(heard_path, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, 0600); /* no pipe: that could fill up */
		assert_true(heard >= 0);
		pid_t child = fork();
		assert_true(child >= 0);
		if (child == 0)
			run_child(f, heard);
		if (i % 2) /* every second one dies at work, the others while they start */
			wait_for_first_word(heard, child);
		usleep((useconds_t)dice(&dice_only, 60000));
		kill(child, SIGKILL);
		int status;
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status)); /* it was killed, it did not give up */
		all_heard += check_after_kill(f, heard);
		close(heard);
		left_open += fixture_number(f, "SELECT count(*) FROM holds WHERE reason = 'restart'");
	}
	assert_true(all_heard >= kills / 2);
	assert_true(left_open > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(random_histories_agree_with_the_model, fixture_start, fixture_stop),
	    cmocka_unit_test_setup_teardown(a_kill_at_any_moment_leaves_right_books, fixture_start_without_store, fixture_stop),
	};
	return RUN_ON_BOTH(tests);
}
