/* Decision records: nothing of them is lost on the way to JSON and back, the files stay within their bound and outlive a crash,
 * and predictions are held against what came. */
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/gateway/record.h"
#include "coordinator/gateway/record_log.h"
#include "core/log.h"

static struct record sample(unsigned n)
{
	struct record record;
	record_init(&record);
	snprintf(record.id, sizeof record.id, "00000000-0000-7000-8000-%012u", n);
	record.at_us = INT64_C(1767225600000000) + (int64_t)n * 1000000;
	strcpy(record.model, "acme/build-2");
	strcpy(record.public_model, "acme");
	strcpy(record.regions, "US,CA");
	record.account = 0xdeadbeefcafef00d;
	record.prompt_tokens = 1000 + n;
	record.max_tokens = 256;
	record.expected_tokens = 100;
	record.tools = record.stream = record.routed = record.chosen = record.owned = record.hedged = true;
	record.prefers_own = true;
	record.min_trust = ROUTE_TRUST_SELF_SIGNED;
	record.considered = 9;
	record.by_gate[ROUTE_REGION] = 3;
	record.by_gate[ROUTE_MEMORY] = 2;
	strcpy(record.provider, "10000000-0000-4000-8000-000000000001");
	record.terms = (struct route_cost){.state = 1,
	                                   .queue = 20,
	                                   .pending = 300,
	                                   .backlog = 4000,
	                                   .own = 50000,
	                                   .health = 600000,
	                                   .total = 654321,
	                                   .ttft_ms = -1};
	record.cost_ms = 654321;
	record.runner_up_ms = 700000.25;
	record.predicted_ttft_ms = 125.5;
	record.tail_ms = 250;
	record.attempts = 2;
	record.capacity_failures = 1;
	record.queue_us = 1500000;
	record.ttft_ms = 251;
	record.completion_tokens = 50;
	record.status = 200;
	strcpy(record.outcome, "success");
	record.try_count = RECORD_TRIES;
	for (unsigned i = 0; i < RECORD_TRIES; i++) {
		record.tries[i] =
		    (struct record_try){.end = (enum record_try_end)(i + 1), .backup = i == 1, .status = i == 3 ? 503 : 0};
		record.tries[i].accepted = i > 0;
		record.tries[i].place = 2 * i;
		record.tries[i].tokens = 7 * i;
		record.tries[i].ms = 250.5 * i;
		memcpy(record.tries[i].provider, record.provider, sizeof record.provider);
	}
	return record;
}

static void to_json(const struct record *record, struct buf *out)
{
	struct json_writer w;
	buf_init(out, RECORD_JSON_MAX);
	json_writer_init(&w, out);
	record_write(record, &w);
	assert_false(out->failed);
}

static enum db_err from_json(const char *text, struct record *out)
{
	struct json_doc *doc = json_parse(str_of(text), NULL, NULL);
	enum db_err err = doc ? record_read(json_root(doc), out) : DB_E_INVALID;
	json_free(doc);
	return err;
}

static void a_record_reads_back_as_it_was_written(void **state)
{
	(void)state;
	struct record record = sample(1), again;
	struct buf first, second;
	to_json(&record, &first);
	buf_append_byte(&first, '\0');
	assert_int_equal(from_json(first.at, &again), DB_OK);
	first.len--;
	to_json(&again, &second);
	assert_true(str_eq(buf_str(&first), buf_str(&second)));
	assert_true(again.account == record.account && again.queue_us == record.queue_us && again.chosen && again.routed);
	assert_true(again.by_gate[ROUTE_REGION] == 3 && again.terms.health == 600000 && again.prefers_own && !again.own_only);
	assert_int_equal(again.min_trust, ROUTE_TRUST_SELF_SIGNED);
	assert_int_equal(again.try_count, RECORD_TRIES);
	assert_int_equal(again.tries[0].place, 0);
	assert_int_equal(again.tries[3].place, 6);
	assert_true(again.tries[1].backup && again.tries[1].end == RECORD_TRY_OVERTAKEN && again.tries[3].status == 503);
	assert_string_equal(again.regions, "US,CA");
	buf_free(&first);
	buf_free(&second);
}

static void what_no_record_holds_is_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {
	    "[]",
	    "{}",
	    "{\"request_id\":\"\",\"at\":\"2026-01-01T00:00:00Z\"}",
	    "{\"request_id\":\"a\",\"at\":\"yesterday\"}",
	    "{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"status\":-1}",
	    "{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"status\":1000}",
	    "{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"route\":\"elsewhere\"}",
	    "{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"min_trust\":\"blind\"}",
	    "{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"account_digest\":\"xyz\"}",
	    "{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"ttft_ms\":-3}",
	    "{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"passed_over\":{\"excluded\":-1}}",
	    "{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"stream\":1}",
	    "{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"tries\":{}}",
	    "{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"tries\":[1]}",
	    "{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"tries\":[{\"tokens\":-1}]}",
	    "{\"request_id\":\"a name that is longer than any request of ours has\",\"at\":\"2026-01-01T00:00:00Z\"}",
	};
	struct record record;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_int_equal(from_json(wrong[i], &record), DB_E_INVALID);
	assert_int_equal(from_json("{\"request_id\":\"a\",\"at\":\"2026-01-01T00:00:00Z\",\"later\":[1]}", &record), DB_OK);
	assert_false(record.chosen || record.routed);
	assert_true(record.cost_ms < 0 && record.ttft_ms < 0);
}

static void every_gate_and_every_term_is_said_in_words(void **state)
{
	(void)state;
	struct record record = sample(1);
	struct buf words;
	buf_init(&words, 65536);
	for (int gate = ROUTE_OK + 1; gate < ROUTE_GATES; gate++)
		record.by_gate[gate] = (uint32_t)gate;
	record_explain(&record, &words);
	buf_append_byte(&words, '\0');
	for (int gate = ROUTE_OK + 1; gate < ROUTE_GATES; gate++) {
		char wanted[64];
		snprintf(wanted, sizeof wanted, "(%s)", route_gate_name((enum route_gate)gate));
		assert_non_null(strstr(words.at, wanted));
		snprintf(wanted, sizeof wanted, ": %s (", route_gate_name((enum route_gate)gate));
		assert_null(strstr(words.at, wanted)); /* its name alone explains nothing */
	}
	static const char *const terms[] = {"1 ms until",
	                                    "20 ms for",
	                                    "300 ms for",
	                                    "4000 ms for",
	                                    "50000 ms for",
	                                    "600000 ms for",
	                                    "2.00 times what was predicted",
	                                    "0.50 times as long as expected",
	                                    "machines in US,CA"};
	for (size_t i = 0; i < sizeof terms / sizeof *terms; i++)
		assert_non_null(strstr(words.at, terms[i]));
	buf_free(&words);
	struct record refused;
	record_init(&refused);
	strcpy(refused.id, "a");
	strcpy(refused.outcome, "rate_limit_exceeded");
	strcpy(refused.reason, "requests_per_minute");
	refused.status = 429;
	record_explain(&refused, &words);
	buf_append_byte(&words, '\0');
	assert_non_null(strstr(words.at, "before its body was read"));
	assert_non_null(strstr(words.at, "No provider was looked for."));
	assert_non_null(strstr(words.at, "requests_per_minute"));
	buf_free(&words);
}

/* --- on disk --- */

struct folder {
	char dir[96];
};

static void folder_begin(struct folder *folder)
{
	snprintf(folder->dir, sizeof folder->dir, "%s/darkbloom-records.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(folder->dir));
}

static uint64_t folder_bytes(const struct folder *folder, bool remove)
{
	DIR *dir = opendir(folder->dir);
	uint64_t bytes = 0;
	assert_non_null(dir);
	for (struct dirent *entry; (entry = readdir(dir));) {
		struct stat st;
		if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && S_ISREG(st.st_mode)) {
			bytes += (uint64_t)st.st_size;
			if (remove)
				assert_int_equal(unlinkat(dirfd(dir), entry->d_name, 0), 0);
		}
	}
	closedir(dir);
	if (remove)
		assert_int_equal(rmdir(folder->dir), 0);
	return bytes;
}

static struct record_log *open_log(const struct folder *folder, uint64_t max_bytes)
{
	struct error error;
	struct record_log *log = record_log_open(folder->dir, max_bytes, &error);
	assert_non_null(log);
	return log;
}

static void wait_written(struct record_log *log, uint64_t count)
{
	struct record_log_counts counts;
	do {
		usleep(1000);
		record_log_counts(log, &counts);
	} while (counts.written + counts.dropped < count);
}

struct seen {
	unsigned count, last;
};

static void see(const struct record *record, void *user)
{
	struct seen *seen = user;
	unsigned n = (unsigned)strtoul(record->id + strlen(record->id) - 12, NULL, 10);
	if (seen->count++)
		assert_true(n > seen->last);
	seen->last = n;
}

static void records_are_found_after_a_restart_newest_last(void **state)
{
	(void)state;
	struct folder folder;
	struct seen seen = {0, 0};
	struct record found;
	folder_begin(&folder);
	for (unsigned start = 0; start < 3; start++) {
		struct record_log *log = open_log(&folder, 0);
		for (unsigned n = 0; n < 100; n++) {
			struct record record = sample(start * 100 + n);
			record_log_add(log, &record);
		}
		record_log_close(log);
	}
	for (unsigned n = 0; n < 300; n += 37) {
		struct record wanted = sample(n);
		assert_int_equal(record_log_find(folder.dir, str_of(wanted.id), &found), DB_OK);
		assert_int_equal(found.prompt_tokens, 1000 + n);
	}
	assert_int_equal(record_log_find(folder.dir, STR("00000000-0000-7000-8000"), &found), DB_E_NOT_FOUND);
	assert_int_equal(record_log_find(folder.dir, STR(""), &found), DB_E_NOT_FOUND);
	assert_int_equal(record_log_newest(folder.dir, 50, see, &seen), 50);
	assert_int_equal(seen.last, 299);
	seen = (struct seen){0, 0};
	assert_int_equal(record_log_newest(folder.dir, 1000, see, &seen), 300);
	folder_bytes(&folder, true);
	assert_int_equal(record_log_find(folder.dir, STR("none"), &found), DB_E_NOT_FOUND);
}

static void files_stay_within_their_bound_and_keep_the_newest(void **state)
{
	(void)state;
	struct folder folder;
	struct record found;
	const uint64_t bound = 64u << 10;
	const unsigned count = 600; /* more than half a MiB of them */
	folder_begin(&folder);
	struct record_log *log = open_log(&folder, bound);
	for (unsigned n = 0; n < count; n++) {
		struct record record = sample(n);
		record_log_add(log, &record);
		if (n % 5 == 4)
			wait_written(log, n + 1);
	}
	record_log_close(log);
	assert_true(folder_bytes(&folder, false) <= bound + bound / RECORD_LOG_SEGMENTS);
	struct record first = sample(0), last = sample(count - 1);
	assert_int_equal(record_log_find(folder.dir, str_of(first.id), &found), DB_E_NOT_FOUND);
	assert_int_equal(record_log_find(folder.dir, str_of(last.id), &found), DB_OK);
	folder_bytes(&folder, true);
}

static void half_a_line_of_a_crash_spoils_no_other(void **state)
{
	(void)state;
	struct folder folder;
	struct record found, before = sample(1), after = sample(2);
	char path[160];
	folder_begin(&folder);
	struct record_log *log = open_log(&folder, 0);
	record_log_add(log, &before);
	record_log_close(log);
	snprintf(path, sizeof path, "%s/routes-00000001.jsonl", folder.dir);
	int fd = open(path, O_WRONLY | O_APPEND);
	static const char half[] = "{\"request_id\":\"00000000-0000-7000-8000-0000000";
	assert_int_equal(write(fd, half, sizeof half - 1), (ssize_t)sizeof half - 1);
	close(fd);
	log = open_log(&folder, 0);
	record_log_add(log, &after);
	record_log_close(log);
	assert_int_equal(record_log_find(folder.dir, str_of(before.id), &found), DB_OK);
	assert_int_equal(record_log_find(folder.dir, str_of(after.id), &found), DB_OK);
	folder_bytes(&folder, true);
}

static void what_cannot_be_written_is_counted_and_nobody_waits(void **state)
{
	(void)state;
	struct folder folder;
	struct record_log_counts counts;
	struct rlimit before, none = {0, 0};
	folder_begin(&folder);
	struct record_log *log = open_log(&folder, 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none.rlim_max = before.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0); /* as a full disk */
	for (unsigned n = 0; n < 100; n++) {
		struct record record = sample(n);
		record_log_add(log, &record);
	}
	wait_written(log, 100);
	record_log_counts(log, &counts);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_true(counts.written == 0 && counts.dropped == 100);
	struct record record = sample(100), found;
	record_log_add(log, &record); /* there is room again */
	wait_written(log, 101);
	record_log_counts(log, &counts);
	assert_true(counts.written == 1 && counts.dropped == 100);
	record_log_close(log);
	assert_int_equal(record_log_find(folder.dir, str_of(record.id), &found), DB_OK);
	folder_bytes(&folder, true);
}

static void a_flood_is_written_or_counted(void **state)
{
	(void)state;
	struct folder folder;
	struct record_log_counts counts;
	const unsigned count = 5 * RECORD_LOG_QUEUE;
	folder_begin(&folder);
	struct record_log *log = open_log(&folder, UINT64_C(1) << 30);
	for (unsigned n = 0; n < count; n++) {
		struct record record = sample(n);
		record_log_add(log, &record);
	}
	wait_written(log, count);
	record_log_counts(log, &counts);
	record_log_close(log);
	struct seen seen = {0, 0};
	assert_int_equal(counts.written + counts.dropped, count);
	assert_int_equal(record_log_newest(folder.dir, count, see, &seen), counts.written);
	folder_bytes(&folder, true);
}

/* --- predicted against actual --- */

static void ratios_of_predictions_are_summed_up_for_each_model(void **state)
{
	(void)state;
	struct record_sum sum;
	record_sum_init(&sum);
	for (unsigned n = 0; n < 100; n++) {
		struct record record = sample(n);
		record.predicted_ttft_ms = 100;
		record.tail_ms = 300;
		record.ttft_ms = n < 90 ? 200 : 800;
		record.completion_tokens = 25;
		record_sum_add(&sum, &record);
		record.ttft_ms = -1; /* nothing came: nothing to compare */
		record_sum_add(&sum, &record);
	}
	const struct record_model_sum *model = record_sum_of(&sum, STR("acme/build-2"));
	assert_non_null(model);
	assert_true(model->ttft.seen == 100 && model->ttft.over == 100 && model->tokens.seen == 100 && model->tokens.over == 0);
	assert_true(fabs(record_ratios_quantile(&model->ttft, 0.5) - 2) < 0.01);
	assert_true(fabs(record_ratios_quantile(&model->ttft, 0.99) - 8) < 0.01);
	assert_true(fabs(record_ratios_quantile(&model->tokens, 0.5) - 0.25) < 0.01);
	assert_true(model->tail_seen == 100 && model->tail_held == 90);
	record_sum_free(&sum);
}

static void what_was_learnt_since_outweighs_the_beginning(void **state)
{
	(void)state;
	struct record_sum sum;
	struct record record = sample(0);
	record_sum_init(&sum);
	record.predicted_ttft_ms = 100;
	for (unsigned n = 0; n < 20000; n++) {
		record.ttft_ms = n < 10000 ? 1600 : 100;
		record_sum_add(&sum, &record);
	}
	const struct record_model_sum *model = record_sum_of(&sum, STR("acme/build-2"));
	assert_true(fabs(record_ratios_quantile(&model->ttft, 0.9) - 1) < 0.01);
	record_sum_free(&sum);
}

static void models_beyond_the_bound_are_counted_together(void **state)
{
	(void)state;
	struct record_sum sum;
	struct record record = sample(0);
	record_sum_init(&sum);
	for (unsigned n = 0; n < 2 * RECORD_SUM_MODELS; n++) {
		snprintf(record.model, sizeof record.model, "model-%u", n);
		record_sum_add(&sum, &record);
	}
	assert_int_equal(sum.by_model.count, RECORD_SUM_MODELS);
	assert_true(sum.other.ttft.seen == RECORD_SUM_MODELS);
	record_sum_free(&sum);
}

/* Any number of dispatches, up to three of them at once: each that runs has a place of its own, the first stays, the newest is
 * last, and all are in the order of dispatch. */
static void tries_that_run_keep_their_places_apart(void **state)
{
	(void)state;
	struct record record;
	unsigned at[3], live = 0; /* places of those that run */
	record_init(&record);
	for (unsigned n = 0; n < 200; n++) {
		unsigned running = 0, gone;
		for (unsigned i = 0; i < live; i++)
			running |= 1u << at[i];
		unsigned place = record_try_place(&record, running, &gone);
		assert_true(gone == RECORD_TRIES || !(running >> gone & 1));
		assert_int_equal(place, record.try_count - 1);
		assert_int_equal(record.tries[place].provider[0], '\0');
		record.tries[place].status = (int)n;
		for (unsigned i = 0; i < live; i++)
			at[i] -= at[i] > gone;
		at[live++] = place;
		assert_int_equal(record.tries[0].status, 0);
		for (unsigned i = 1; i < record.try_count; i++)
			assert_true(record.tries[i - 1].status < record.tries[i].status);
		for (unsigned i = 0; i < live; i++)
			for (unsigned j = 0; j < i; j++)
				assert_int_not_equal(at[i], at[j]);
		/* One ends, or two: never the same for long. */
		for (unsigned ends = live == 3 ? 1 + n % 2 : n % 3 == 0; ends; ends--) {
			unsigned one = n % live;
			memmove(&at[one], &at[one + 1], (live - 1 - one) * sizeof at[0]);
			live--;
		}
	}
	assert_int_equal(record.try_count, RECORD_TRIES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_record_reads_back_as_it_was_written),
	    cmocka_unit_test(tries_that_run_keep_their_places_apart),
	    cmocka_unit_test(what_no_record_holds_is_refused),
	    cmocka_unit_test(every_gate_and_every_term_is_said_in_words),
	    cmocka_unit_test(records_are_found_after_a_restart_newest_last),
	    cmocka_unit_test(files_stay_within_their_bound_and_keep_the_newest),
	    cmocka_unit_test(half_a_line_of_a_crash_spoils_no_other),
	    cmocka_unit_test(what_cannot_be_written_is_counted_and_nobody_waits),
	    cmocka_unit_test(a_flood_is_written_or_counted),
	    cmocka_unit_test(ratios_of_predictions_are_summed_up_for_each_model),
	    cmocka_unit_test(what_was_learnt_since_outweighs_the_beginning),
	    cmocka_unit_test(models_beyond_the_bound_are_counted_together),
	};
	log_set_level(LOG_OFF);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
