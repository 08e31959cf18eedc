/* Requests that go wrong: which failures the consumer never sees, what it is told of the others, and that nobody pays for them.
 */
#include "house.h"

static struct swarm_fleet_options with_fault(enum swarm_fault fault)
{
	struct swarm_fleet_options options = {.credit = true, .chunks = 40, .pace_us = 500};
	options.faults[fault] = 1;
	return options;
}

/* --- before the first content: another provider answers --- */

static void failures_before_content_are_not_seen(void **state)
{
	(void)state;
	static const enum swarm_fault faults[] = {SWARM_FAULT_ERROR, SWARM_FAULT_BUSY,       SWARM_FAULT_SILENT,
	                                          SWARM_FAULT_HANG,  SWARM_FAULT_EARLY_DROP, SWARM_FAULT_PLAINTEXT};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		struct gateway_options timing = {.first_content_ms = 500, .accepted_ms = 500};
		struct house *house = house_new("10", &timing);
		house_add(house, with_fault(faults[i]));
		house_add(house, (struct swarm_fleet_options){.credit = true});
		for (int round = 0; round < 6; round++) {
			struct said said = house_chat(house, round % 2 ? CHAT(",\"stream\":true") : CHAT(""));
			if (said.status != 200 || (round % 2 && said_times(&said, "[DONE]") != 1))
				print_error("%s: %d %s\n", swarm_fault_name(faults[i]), said.status, said.body.at);
			assert_int_equal(said.status, 200);
			assert_int_equal(said_times(&said, "error"), 0);
			said_free(&said);
		}
		assert_true(house_settles(house));
		house_free(house);
	}
}

static void when_every_provider_fails_nobody_pays(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	struct swarm_fleet_options broken = with_fault(SWARM_FAULT_ERROR);
	broken.count = 3;
	house_add(house, broken);
	int64_t before = house_balance(house);
	struct said said = house_chat(house, CHAT(""));
	assert_int_equal(said.status, 500);
	assert_true(said_is(&said, "error.type", "provider_error"));
	assert_int_equal(said_times(&said, "after 3 attempts"), 1);
	said_free(&said);
	assert_true(house_settles(house));
	assert_int_equal(house_balance(house), before);
	house_free(house);
}

static void busy_providers_are_asked_three_times(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	struct swarm_fleet_options busy = with_fault(SWARM_FAULT_BUSY);
	busy.count = 6;
	house_add(house, busy);
	struct said said = house_chat(house, CHAT(""));
	assert_int_equal(said.status, 429);
	assert_true(said_is(&said, "error.type", "rate_limit_exceeded"));
	assert_non_null(strstr(said.head.at, "\r\nretry-after: "));
	said_free(&said);
	assert_int_equal(house_metric(house, "darkbloom_attempts_total"), 3);
	house_free(house);
}

static void silence_ends_in_a_timeout(void **state)
{
	(void)state;
	struct gateway_options timing = {.first_content_ms = 50, .accepted_ms = 50};
	struct house *house = house_new("10", &timing);
	house_add(house, with_fault(SWARM_FAULT_SILENT));
	struct said said = house_chat(house, CHAT(""));
	assert_int_equal(said.status, 504);
	assert_true(said_is(&said, "error.type", "provider_error"));
	said_free(&said);
	assert_true(house_settles(house));
	house_free(house);
}

static void keepalives_hold_a_stream_open(void **state)
{
	(void)state;
	struct gateway_options timing = {.first_content_ms = 400, .accepted_ms = 400, .keepalive_ms = 50};
	struct house *house = house_new("10", &timing);
	house_add(house, with_fault(SWARM_FAULT_HANG));
	struct said said = house_chat(house, CHAT(",\"stream\":true"));
	for (int i = 0; i < 30 && said_times(&said, ": keepalive\n\n") < 2; i++) { /* the machine stood still meanwhile */
		said_free(&said);
		said = house_chat(house, CHAT(",\"stream\":true"));
	}
	assert_int_equal(said.status, 200);
	assert_true(said_times(&said, ": keepalive\n\n") >= 2);
	/* then the standard error object, and the end that a client waits for */
	assert_int_equal(said_times(&said, "data: {\"error\":{\"type\":\"provider_error\",\"code\""), 1);
	assert_true(str_ends(buf_str(&said.body), STR("data: [DONE]\n\n")));
	said_free(&said);
	house_free(house);
}

/* --- after content --- */

static void a_broken_stream_says_so_and_is_free(void **state)
{
	(void)state;
	static const enum swarm_fault faults[] = {SWARM_FAULT_DROP, SWARM_FAULT_BREAK, SWARM_FAULT_OVERSIZE};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		struct house *house = house_new("10", NULL);
		house_add(house, with_fault(faults[i]));
		int64_t before = house_balance(house);
		struct said said = house_chat(house, CHAT(",\"stream\":true"));
		assert_int_equal(said.status, 200);
		assert_true(said_contents(&said) > 0);
		assert_int_equal(said_times(&said, "data: {\"error\":{\"message\":"), 1);
		assert_int_equal(said_times(&said, "[DONE]"), 0);
		said_free(&said);
		assert_true(house_settles(house));
		assert_int_equal(house_balance(house), before);
		house_free(house);
	}
}

static void a_whole_answer_that_breaks_is_an_error(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	house_add(house, with_fault(SWARM_FAULT_DROP));
	int64_t before = house_balance(house);
	struct said said = house_chat(house, CHAT(""));
	assert_int_equal(said.status, 502);
	assert_true(said_is(&said, "error.type", "provider_error"));
	said_free(&said);
	assert_int_equal(house_balance(house), before);
	house_free(house);
}

static void a_stream_that_falls_silent_times_out(void **state)
{
	(void)state;
	struct gateway_options timing = {.idle_ms = 100};
	struct house *house = house_new("10", &timing);
	house_add(house, (struct swarm_fleet_options){.credit = true, .pace_us = 2000000});
	struct said said = house_chat(house, CHAT(",\"stream\":true"));
	assert_int_equal(said_times(&said, "\"type\":\"timeout\""), 1);
	said_free(&said);
	assert_true(house_settles(house));
	house_free(house);
}

/* Chunks of others, twice, or late harm nobody. */
static void odd_chunks_do_not_reach_consumers(void **state)
{
	(void)state;
	static const enum swarm_fault faults[] = {SWARM_FAULT_FOREIGN, SWARM_FAULT_REPLAY, SWARM_FAULT_GARBAGE};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		struct house *house = house_new("10", NULL);
		house_add(house, with_fault(faults[i]));
		for (int round = 0; round < 5; round++) {
			struct said said = house_chat(house, CHAT(",\"stream\":true"));
			assert_int_equal(said.status, 200);
			assert_int_equal(said_times(&said, "[DONE]"), 1);
			said_free(&said);
		}
		house_free(house);
	}
}

/* --- consumers that leave or stall --- */

static void cancelled_now(struct house *house, void *arg)
{
	struct swarm_fleet_counts counts;
	swarm_fleet_counts(house->fleets[0], &counts);
	*(uint64_t *)arg = counts.cancelled;
}

static bool provider_is_cancelled(struct house *house)
{
	for (int i = 0; i < 12000; i++) {
		uint64_t cancelled = 0;
		house_call(house, cancelled_now, &cancelled);
		if (cancelled > 0)
			return true;
		usleep(5000);
	}
	return false;
}

static void leaving_before_content_costs_nothing(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	house_add(house, with_fault(SWARM_FAULT_HANG));
	int64_t before = house_balance(house);
	int fd = house_send(house, "POST", "/v1/chat/completions", NULL, CHAT(",\"stream\":true"));
	while (house_metric(house, "darkbloom_attempts_total") == 0)
		usleep(1000);
	close(fd);
	assert_true(provider_is_cancelled(house));
	assert_true(house_settles(house));
	assert_int_equal(house_balance(house), before);
	house_free(house);
}

static void leaving_after_content_pays_for_what_came(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	house_add(house, (struct swarm_fleet_options){.credit = true, .chunks = 100000, .pace_us = 1000});
	int64_t before = house_balance(house);
	int fd = house_send(house, "POST", "/v1/chat/completions", NULL, CHAT(",\"stream\":true,\"max_tokens\":100000"));
	char some[4096];
	assert_true(recv(fd, some, sizeof some, 0) > 0);
	assert_true(recv(fd, some, sizeof some, 0) > 0);
	close(fd);
	assert_true(provider_is_cancelled(house));
	assert_true(house_settles(house));
	int64_t paid = before - house_balance(house);
	assert_true(paid >= 100 && paid < 2000);
	struct said said = house_ask(house, "GET", "/v1/payments/usage", NULL, NULL);
	assert_true(said_int(&said, "usage.0.completion_tokens") > 0);
	assert_true(said_int(&said, "usage.0.completion_tokens") < 10000);
	said_free(&said);
	house_free(house);
}

/* Chunks are numbered by position: the n-th must follow the one before. */
static void check_no_gap(const struct said *said, size_t chunks, bool may_be_cut)
{
	bool cut = said_times(said, "\"error\":{") > 0;
	assert_int_equal(said->status, 200);
	assert_true(may_be_cut || !cut);
	if (cut)
		assert_true(said_contents(said) < chunks);
	else
		assert_int_equal(said_contents(said), chunks);
	assert_int_equal(said_times(said, "[DONE]"), !cut);
	assert_int_equal(said_times(said, "\"usage\":{"), !cut);
}

/* Until an answer has begun and nothing more of it is relayed. */
static void until_it_stands_still(const struct house *house)
{
	uint64_t last = 0;
	for (int same = 0; same < 10;) {
		usleep(10000);
		uint64_t relayed = house_metric(house, "darkbloom_relayed_chunks_total");
		same = relayed > 0 && relayed == last ? same + 1 : 0;
		last = relayed;
	}
}

static void a_slow_reader_of_a_provider_with_credit_gets_everything(void **state)
{
	(void)state;
	struct house *house = house_new("100", NULL);
	house_add(house, (struct swarm_fleet_options){.credit = true, .chunks = 40000, .chunk_bytes = 16});
	int fd = house_send(house, "POST", "/v1/chat/completions", NULL, CHAT(",\"stream\":true,\"max_tokens\":50000"));
	until_it_stands_still(house);
	/* others are served meanwhile */
	struct said other = house_ask(house, "GET", "/health", "", NULL);
	assert_int_equal(other.status, 200);
	said_free(&other);
	struct said said = house_read(fd, false);
	check_no_gap(&said, 40000, false);
	said_free(&said);
	house_free(house);
}

static void a_slow_reader_of_a_provider_without_credit_gets_no_gap(void **state)
{
	(void)state;
	struct gateway_options timing = {.relay_buffer_bytes = 256 << 10};
	struct house *house = house_new("100", &timing);
	house_add(house, (struct swarm_fleet_options){.chunks = 40000, .chunk_bytes = 16});
	int64_t before = house_balance(house);
	int fd = house_send(house, "POST", "/v1/chat/completions", NULL, CHAT(",\"stream\":true,\"max_tokens\":50000"));
	do
		usleep(5000);
	while (house_metric(house, "darkbloom_attempts_total") == 0 || house_metric(house, "darkbloom_jobs_open") > 0);
	struct said said = house_read(fd, false);
	check_no_gap(&said, 40000, true);
	assert_int_equal(said_times(&said, "consumer_too_slow"), 1);
	size_t delivered = said_contents(&said);
	said_free(&said);
	assert_true(house_settles(house));
	/* what came is paid, not what was dropped */
	int64_t paid = before - house_balance(house);
	assert_true(paid > 0 && paid <= 100 + (int64_t)(delivered + 200) * 200000 / 1000000);
	house_free(house);
}

/* --- requests that are refused --- */

static void wrong_requests_are_refused(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	static const struct {
		const char *method, *path, *token, *body;
		int status;
		const char *type, *param;
	} cases[] = {
	    {"POST", "/v1/chat/completions", "", CHAT(""), 401, "authentication_error", NULL},
	    {"POST", "/v1/chat/completions", "sk-db-wrong", CHAT(""), 401, "authentication_error", NULL},
	    {"POST", "/v1/chat/completions", NULL, CHAT(""), 404, "model_not_found", "model"},
	    {"POST", "/v1/chat/completions", NULL, "{\"model\":", 400, "invalid_request_error", NULL},
	    {"POST", "/v1/chat/completions", NULL, CHAT(",\"n\":9"), 400, "invalid_request_error", "n"},
	    {"GET", "/v1/chat/completions", NULL, NULL, 404, "invalid_request_error", NULL},
	    {"GET", "/v1/nothing", NULL, NULL, 404, "invalid_request_error", NULL},
	    {"GET", "/v1/models/m", NULL, NULL, 404, "model_not_found", "model"},
	    {"GET", "/v1/models", "", NULL, 401, "authentication_error", NULL},
	    {"GET", "/v1/encryption-key", "", NULL, 503, "encryption_unavailable", NULL},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct said said = house_ask(house, cases[i].method, cases[i].path, cases[i].token, cases[i].body);
		if (said.status != cases[i].status)
			print_error("%s %s: %d\n", cases[i].method, cases[i].path, said.status);
		assert_int_equal(said.status, cases[i].status);
		assert_true(said_is(&said, "error.type", cases[i].type));
		assert_non_null(said_at(&said, "error.code"));
		if (cases[i].param)
			assert_true(said_is(&said, "error.param", cases[i].param));
		else
			assert_int_equal(json_type(said_at(&said, "error.param")), JSON_NULL);
		said_free(&said);
	}
	house_free(house);
}

static void a_body_above_the_cap_is_refused(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	size_t size = GATEWAY_MAX_BODY + 1;
	char *body = malloc(size + 1);
	memset(body, ' ', size);
	body[size] = '\0';
	struct said said = house_chat(house, body);
	assert_int_equal(said.status, 413);
	assert_true(said_is(&said, "error.type", "invalid_request_error"));
	said_free(&said);
	free(body);
	house_free(house);
}

static void odd_methods_and_paths_are_answered(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	struct said said = house_ask(house, "OPTIONS", "/v1/chat/completions", "", NULL);
	assert_int_equal(said.status, 204);
	assert_non_null(strstr(said.head.at, "\r\naccess-control-allow-methods: GET, POST, PUT, DELETE, OPTIONS\r\n"));
	said_free(&said);
	said = house_ask(house, "HEAD", "/health", "", NULL);
	assert_int_equal(said.status, 200);
	assert_int_equal(said.body.len, 0);
	said_free(&said);
	said = house_ask(house, "GET", "/nothing", "", NULL);
	assert_int_equal(said.status, 404);
	said_free(&said);
	said = house_ask(house, "POST", "/health", "", "{}");
	assert_int_equal(said.status, 405);
	said_free(&said);
	house_free(house);
}

static void drain_now(struct house *house, void *arg)
{
	(void)arg;
	server_drain(house->server);
}

static void draining_lets_running_answers_finish(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	house_add(house, (struct swarm_fleet_options){.credit = true, .chunks = 30, .pace_us = 10000});
	int fd = house_send(house, "POST", "/v1/chat/completions", NULL, CHAT(",\"stream\":true"));
	while (house_metric(house, "darkbloom_attempts_total") == 0)
		usleep(1000);
	house_call(house, drain_now, NULL);
	struct said refused = house_chat(house, CHAT(""));
	assert_int_equal(refused.status, 429);
	assert_non_null(strstr(refused.head.at, "\r\nretry-after: 3\r\n"));
	said_free(&refused);
	refused = house_ask(house, "GET", "/readyz", "", NULL);
	assert_int_equal(refused.status, 503);
	said_free(&refused);
	struct said said = house_read(fd, false);
	assert_int_equal(said_times(&said, "[DONE]"), 1);
	said_free(&said);
	house_free(house);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(failures_before_content_are_not_seen),
	    cmocka_unit_test(when_every_provider_fails_nobody_pays),
	    cmocka_unit_test(busy_providers_are_asked_three_times),
	    cmocka_unit_test(silence_ends_in_a_timeout),
	    cmocka_unit_test(keepalives_hold_a_stream_open),
	    cmocka_unit_test(a_broken_stream_says_so_and_is_free),
	    cmocka_unit_test(a_whole_answer_that_breaks_is_an_error),
	    cmocka_unit_test(a_stream_that_falls_silent_times_out),
	    cmocka_unit_test(odd_chunks_do_not_reach_consumers),
	    cmocka_unit_test(leaving_before_content_costs_nothing),
	    cmocka_unit_test(leaving_after_content_pays_for_what_came),
	    cmocka_unit_test(a_slow_reader_of_a_provider_with_credit_gets_everything),
	    cmocka_unit_test(a_slow_reader_of_a_provider_without_credit_gets_no_gap),
	    cmocka_unit_test(wrong_requests_are_refused),
	    cmocka_unit_test(a_body_above_the_cap_is_refused),
	    cmocka_unit_test(odd_methods_and_paths_are_answered),
	    cmocka_unit_test(draining_lets_running_answers_finish),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
