/* The ledger under load: durable hold + settle pairs per second, the CPU they cost, how long until durable.
 *
 * usage: bench_store [pairs] [database file or postgres:// address, empty] [pairs per second: only this pace]
 * DARKBLOOM_NO_RECEIPTS=1 leaves receipts unsigned, to see what they cost. Prints `bench <name> <value> <unit>` lines. First as
 * fast as it goes, then at a steady pace for the latencies. The loop thread keeps a window of requests open, so that some holds
 * end in the group they began in and others do not. Receipts are signed meanwhile, as in the coordinator, and the rest of them
 * at the end, with nothing else to do. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/money/ledger.h"
#include "coordinator/money/receipt_signer.h"
#include "coordinator/store/store.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/log.h"
#include "crypto/secret.h"

#define ACCOUNTS    64
#define PROVIDERS   16
#define WINDOW      512   /* requests that hold money at any time */
#define QUEUED      20000 /* operations that are not durable yet, at most */
#define BATCH       64    /* pairs per turn of the loop */
#define PROBE_EVERY 50
#define PROBES      200000
#define GROUP_US    2000 /* as the coordinator's setting */

struct phase {
	size_t pairs;
	uint64_t per_second; /* 0 = as fast as it goes */
};

struct bench {
	const char *on; /* "sqlite", "postgres" */
	uint64_t pace;  /* pairs per second at which latencies are taken */
	struct net_loop *loop;
	struct store *store;
	struct ledger *ledger;
	struct p256_key *key;
	struct receipt_signer signer;
	struct net_timer look;
	uint64_t settled;
	struct ledger_account *accounts[ACCOUNTS];
	struct ledger_hold *open[WINDOW];
	char account_ids[ACCOUNTS][STORE_ID_SIZE], provider_ids[PROVIDERS][STORE_ID_SIZE];
	size_t waiting;

	const struct phase *phase;
	size_t begun, probes;
	uint64_t start_us;
	uint64_t waits_us[PROBES];
};

static void fail(const char *what, const struct error *error)
{
	fprintf(stderr, "bench_store: %s: %s\n", what, error ? error->text : "failed");
	exit(1);
}

static double cpu_s(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- load --- */

struct probe {
	struct bench *bench;
	uint64_t asked_us;
};

static void on_probe(const struct error *error, void *user)
{
	struct probe *probe = user;
	struct bench *bench = probe->bench;
	if (error)
		fail("settle", error);
	if (bench->probes < PROBES)
		bench->waits_us[bench->probes++] = clock_mono_us() - probe->asked_us;
	free(probe);
}

/* A settlement whose durability is timed. Its account is not in the ledger's memory. */
static void send_probe(struct bench *bench)
{
	struct probe *probe = malloc(sizeof *probe);
	struct store_settlement s = {
	    .account_id = "prober", .cost_uusd = 100, .hold_uusd = 100, .created_us = 1, .outcome = "success"};
	if (!probe)
		fail("memory", NULL);
	id_uuid7(s.request_id);
	*probe = (struct probe){bench, clock_mono_us()};
	store_settle(bench->store, &s, on_probe, probe);
	bench->settled++;
}

static void settle(struct bench *bench, struct ledger_hold *hold)
{
	struct ledger_usage usage = {
	    .provider_account = str_of(bench->provider_ids[bench->begun % PROVIDERS]),
	    .provider_id = STR("0b9c0b7e-6d3c-4c8a-9d57-2f6f2a1f0c11"),
	    .provider_key = STR("n2Zr0cY0q6m1v7QkQv1yJm3uX0tqk0b8Z6r1s0d9f3g="),
	    .model = STR("smollm2-135m-instruct-q4"),
	    .public_model = STR("smollm2-135m"),
	    .price = {50000, 200000, 0},
	    .prompt_tokens = 100,
	    .completion_tokens = 2000,
	    .fee_percent = 5,
	    .outcome = "success",
	};
	ledger_settle(hold, &usage);
	bench->settled++;
}

static void hold(struct bench *bench, struct ledger_hold **out)
{
	char id[ID_UUID_SIZE];
	id_uuid7(id);
	struct ledger_hold_options options = {.request_id = str_of(id),
	                                      .key_id = STR("key_000000000000000000000000"),
	                                      .amount_uusd = 450,
	                                      .price = {50000, 200000, 0}};
	enum db_err err = ledger_hold(bench->ledger, bench->accounts[bench->begun % ACCOUNTS], &options, out);
	if (err)
		fail("hold", &(struct error){err, "refused"});
}

static void one_pair(struct bench *bench)
{
	struct ledger_hold **slot = &bench->open[bench->begun % WINDOW];
	if (*slot)
		settle(bench, *slot);
	*slot = NULL;
	if (bench->begun++ < bench->phase->pairs)
		hold(bench, slot);
	if (bench->phase->per_second && bench->begun % PROBE_EVERY == 0)
		send_probe(bench);
}

static void on_durable(const struct error *error, void *user)
{
	struct bench *bench = user;
	if (error)
		fail("flush", error);
	net_loop_stop(bench->loop);
}

static void on_turn(void *arg)
{
	struct bench *bench = arg;
	size_t last = bench->phase->pairs + WINDOW, allowed = last;
	struct store_stats stats;

	store_stats(bench->store, &stats);
	if (bench->phase->per_second)
		allowed = (size_t)((clock_mono_us() - bench->start_us) * bench->phase->per_second / 1000000);
	if (stats.queued > QUEUED || bench->begun >= allowed)
		usleep(100);
	else
		for (size_t i = 0; i < BATCH && bench->begun < allowed && bench->begun < last; i++)
			one_pair(bench);
	if (bench->begun < last)
		net_post(bench->loop, on_turn, bench);
	else
		store_flush(bench->store, on_durable, bench);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void run_phase(struct bench *bench, const struct phase *phase)
{
	bench->phase = phase;
	bench->begun = bench->probes = 0;
	bench->start_us = clock_mono_us();
	double loop_s = cpu_s(CLOCK_THREAD_CPUTIME_ID), all_s = cpu_s(CLOCK_PROCESS_CPUTIME_ID);
	net_post(bench->loop, on_turn, bench);
	net_loop_run(bench->loop);

	double pairs = (double)phase->pairs, took_s = (double)(clock_mono_us() - bench->start_us) / 1e6;
	loop_s = cpu_s(CLOCK_THREAD_CPUTIME_ID) - loop_s;
	all_s = cpu_s(CLOCK_PROCESS_CPUTIME_ID) - all_s;
	const char *on = bench->on;
	if (!phase->per_second) {
		printf("bench store_pairs_per_s_%s %.0f pairs/s\n", on, pairs / took_s);
		printf("bench store_loop_us_%s %.2f us\n", on, loop_s * 1e6 / pairs);
		printf("bench store_writer_us_%s %.2f us\n", on, (all_s - loop_s) * 1e6 / pairs);
		return;
	}
	qsort(bench->waits_us, bench->probes, sizeof bench->waits_us[0], by_value);
	double p99_ms = (double)bench->waits_us[bench->probes * 99 / 100] / 1e3;
	double cpu_us = (all_s - loop_s) * 1e6 / pairs;
	if (phase->per_second == bench->pace) {
		printf("bench store_hold_p99_ms_%s %.2f ms\n", on, p99_ms);
	} else {
		printf("bench store_hold_p99_ms_at_7000_%s %.2f ms\n", on, p99_ms);
		printf("bench store_writer_us_at_7000_%s %.2f us\n", on, cpu_us);
	}
}

/* --- set-up --- */

static void on_done(const struct error *error, void *user)
{
	struct bench *bench = user;
	if (error)
		fail("set-up", error);
	if (--bench->waiting == 0)
		net_loop_stop(bench->loop);
}

static void on_credited(bool applied, const struct error *error, void *user)
{
	(void)applied;
	on_done(error, user);
}

static void on_loaded(struct ledger_account *account, const struct error *error, void *user)
{
	struct bench *bench = user;
	if (account)
		bench->accounts[bench->waiting - 1] = account;
	on_done(error, user);
}

static void make_account(struct bench *bench, const char *id)
{
	struct store_account account = {.fee_percent = -1};
	struct store_transfer grant = {.type = "admin_credit", .from = STORE_ACCOUNT_GRANTS, .amount_uusd = INT64_C(1000000000000)};
	str_copy(str_of(id), account.id, sizeof account.id);
	str_copy(str_of(id), grant.key, sizeof grant.key);
	str_copy(str_of(id), grant.to, sizeof grant.to);
	bench->waiting += 2;
	store_account_create(bench->store, &account, on_done, bench);
	store_transfer(bench->store, &grant, on_credited, bench);
}

static void set_up(struct bench *bench)
{
	for (size_t i = 0; i < PROVIDERS; i++) {
		id_uuid4(bench->provider_ids[i]);
		make_account(bench, bench->provider_ids[i]);
	}
	for (size_t i = 0; i < ACCOUNTS; i++) {
		id_uuid4(bench->account_ids[i]);
		make_account(bench, bench->account_ids[i]);
	}
	make_account(bench, "prober");
	net_loop_run(bench->loop);
	bench->waiting = ACCOUNTS;
	for (size_t i = 0; i < ACCOUNTS; i++)
		ledger_account_load(bench->ledger, str_of(bench->account_ids[i]), on_loaded, bench);
	net_loop_run(bench->loop);
}

/* --- receipts --- */

static void on_look(struct net_timer *timer)
{
	struct bench *bench = LIST_OF(timer, struct bench, look);
	if (bench->signer.signed_count == bench->settled)
		net_loop_stop(bench->loop);
}

static void sign_the_rest(struct bench *bench)
{
	uint64_t before = bench->signer.signed_count, start_us = clock_mono_us();
	printf("bench store_receipts_with_load_%s %.3f of all\n", bench->on, (double)before / (double)bench->settled);
	net_timer_start(bench->loop, &bench->look, 10, 10, on_look);
	net_loop_run(bench->loop);
	net_timer_stop(&bench->look);
	double took_s = (double)(clock_mono_us() - start_us) / 1e6;
	printf("bench store_receipts_per_s_%s %.0f receipts/s\n", bench->on, (double)(bench->settled - before) / took_s);
	printf("bench store_receipts_behind_s_%s %.1f s\n", bench->on, took_s);
	receipt_signer_stop(&bench->signer);
}

static void remove_files(const char *path)
{
	static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
	char name[1024];
	for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
		snprintf(name, sizeof name, "%s%s", path, ends[i]);
		unlink(name);
	}
}

int main(int argc, char **argv)
{
	size_t pairs = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 400000;
	const char *path = argc > 2 ? argv[2] : "bench_store.db";
	struct error error = {0};
	static struct bench bench;
	struct store_audit audit;

	log_set_level(LOG_WARN);
	bool is_file = strncmp(path, "postgres", 8) != 0;
	bench.on = is_file ? "sqlite" : "postgres";
	bench.pace = is_file ? 25000 : 8000;
	if (is_file)
		remove_files(path);
	bench.loop = net_loop_new(&error);
	if (bench.loop)
		bench.store = store_open(&(struct store_options){.path = path, .group_commit_us = GROUP_US}, bench.loop, &error);
	if (bench.store)
		bench.ledger = ledger_new(bench.store);
	if (!bench.ledger)
		fail("open", &error);
	set_up(&bench);
	bench.key = p256_generate();
	if (crypto_init() || !bench.key)
		fail("key", NULL);
	if (!getenv("DARKBLOOM_NO_RECEIPTS"))
		receipt_signer_start(&bench.signer, bench.loop, bench.store, bench.key);

	if (argc > 3) {
		run_phase(&bench, &(struct phase){pairs, strtoul(argv[3], NULL, 10)});
	} else {
		run_phase(&bench, &(struct phase){pairs, 0});
		run_phase(&bench, &(struct phase){pairs / 4, bench.pace});
		run_phase(&bench, &(struct phase){pairs / 8, 7000});
	}

	if (bench.signer.loop)
		sign_the_rest(&bench);
	store_close(bench.store);
	ledger_free(bench.ledger);
	net_loop_free(bench.loop);
	p256_free(bench.key);
	uint64_t start_us = clock_mono_us();
	if (store_audit(path, &audit, &error))
		fail("audit", &error);
	printf("bench store_verify_us_per_entry_%s %.2f us\n", bench.on,
	       (double)(clock_mono_us() - start_us) / (double)audit.entries);
	if (!store_audit_clean(&audit))
		fail("the books are wrong", NULL);
	if (is_file)
		remove_files(path);
	return 0;
}
