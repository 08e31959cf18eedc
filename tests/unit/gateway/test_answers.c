/* Requests that are answered: what the consumer gets, what it costs, and which provider it came from. */
#include "house.h"

static const struct swarm_fleet_options good = {.credit = true};

static void a_whole_answer_is_given_and_charged(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	house_add(house, good);
	int64_t before = house_balance(house);
	struct said said = house_chat(house, CHAT(",\"max_tokens\":50"));
	assert_int_equal(said.status, 200);
	assert_true(said_is(&said, "object", "chat.completion"));
	assert_true(said_is(&said, "model", "m"));
	assert_true(said_is(&said, "choices.0.finish_reason", "stop"));
	assert_true(said_is(&said, "choices.0.message.role", "assistant"));
	assert_int_equal(said_int(&said, "usage.completion_tokens"), 3);
	assert_non_null(strstr(said.head.at, "\r\nx-provider-trust-level: self_signed\r\n"));
	assert_non_null(strstr(said.head.at, "\r\nx-provider-encrypted: true\r\n"));
	assert_non_null(strstr(said.head.at, "\r\nx-timing: {\"parse_us\":"));
	assert_non_null(strstr(said.head.at, "\r\nx-request-id: "));
	said_free(&said);
	/* the floor of a request, and at once visible */
	assert_int_equal(before - house_balance(house), 100);
	said = house_ask(house, "GET", "/v1/payments/usage", NULL, NULL);
	assert_int_equal(said_int(&said, "usage.0.cost_micro_usd"), 100);
	assert_int_equal(said_int(&said, "usage.0.completion_tokens"), 3);
	assert_true(said_is(&said, "usage.0.model", "m"));
	said_free(&said);
	house_free(house);
}

/* Every event parses, content comes in order, one finish, one usage, one [DONE] at the very end. */
static void check_stream(const struct said *said, size_t chunks)
{
	assert_int_equal(said->status, 200);
	assert_non_null(strstr(said->head.at, "\r\ncontent-type: text/event-stream\r\n"));
	assert_non_null(strstr(said->head.at, "\r\nx-inference-job-id: "));
	assert_int_equal(said_contents(said), chunks);
	assert_int_equal(said_times(said, "\"finish_reason\":\"stop\""), 1);
	assert_int_equal(said_times(said, "\"usage\":{"), 1);
	assert_int_equal(said_times(said, "data: [DONE]\n\n"), 1);
	assert_true(str_ends(buf_str(&said->body), STR("data: [DONE]\n\n")));
	struct str rest = buf_str(&said->body), line;
	while (rest.len > 0) {
		rest = str_cut(rest, '\n', &line);
		if (line.len == 0 || line.at[0] == ':' || str_is(line, "data: [DONE]"))
			continue;
		assert_true(str_starts(line, STR("data: ")));
		struct json_doc *doc = json_parse(str_sub(line, 6, line.len), NULL, NULL);
		struct str model;
		assert_non_null(doc);
		assert_true(json_as_str(json_get(json_root(doc), "model"), &model) && str_is(model, "m"));
		json_free(doc);
	}
}

static void a_stream_has_one_end(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	house_add(house, good);
	struct said said = house_chat(house, CHAT(",\"stream\":true"));
	check_stream(&said, 3);
	said_free(&said);
	assert_true(house_settles(house));
	house_free(house);
}

static void the_older_generation_is_understood(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	house_add(house, (struct swarm_fleet_options){.old_generation = true, .ignore_cancel = true});
	struct said said = house_chat(house, CHAT(",\"stream\":true"));
	check_stream(&said, 3);
	said_free(&said);
	said = house_chat(house, CHAT(""));
	assert_int_equal(said.status, 200);
	assert_true(said_is(&said, "choices.0.finish_reason", "stop"));
	said_free(&said);
	house_free(house);
}

struct asker {
	const struct house *house;
	const char *body;
	pthread_t thread;
	int status;
};

static void *ask_once(void *arg)
{
	struct asker *asker = arg;
	struct said said = house_chat(asker->house, asker->body);
	asker->status = said.status;
	said_free(&said);
	return NULL;
}

static size_t ask_together(const struct house *house, size_t count, const char *body, int wanted)
{
	struct asker askers[64];
	size_t with_status = 0;
	for (size_t i = 0; i < count; i++) {
		askers[i] = (struct asker){.house = house, .body = body};
		assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_once, &askers[i]), 0);
	}
	for (size_t i = 0; i < count; i++) {
		pthread_join(askers[i].thread, NULL);
		with_status += askers[i].status == wanted;
	}
	return with_status;
}

static void requests_wait_for_a_busy_provider(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	house_add(house, (struct swarm_fleet_options){.credit = true, .concurrency = 1, .think_us = 20000});
	assert_int_equal(ask_together(house, 8, CHAT(""), 200), 8);
	assert_true(house_metric(house, "darkbloom_queued_total") > 0);
	assert_true(house_settles(house));
	house_free(house);
}

static void a_full_queue_refuses_with_a_time_to_come_back(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	house_add(house, (struct swarm_fleet_options){.credit = true, .concurrency = 1, .think_us = 300000});
	size_t refused = ask_together(house, 30, CHAT(""), 429);
	assert_true(refused > 0 && refused < 30);
	house_free(house);
}

static void waiting_has_an_end(void **state)
{
	(void)state;
	struct gateway_options timing = {.queue_wait_ms = 50};
	struct house *house = house_new("10", &timing);
	house_add(house, (struct swarm_fleet_options){.credit = true, .concurrency = 1, .think_us = 1000000});
	assert_true(ask_together(house, 4, CHAT(""), 429) > 0);
	assert_true(house_settles(house));
	house_free(house);
}

static void a_lying_provider_is_not_believed(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	struct swarm_fleet_options liar = good;
	liar.faults[SWARM_FAULT_LIE] = 1;
	house_add(house, liar);
	int64_t before = house_balance(house);
	struct said said = house_chat(house, CHAT(",\"max_tokens\":20"));
	assert_int_equal(said.status, 200);
	assert_true(said_int(&said, "usage.completion_tokens") <= 20);
	said_free(&said);
	assert_int_equal(before - house_balance(house), 100);
	/* Nor of what it may have said, but of what came: two tokens a byte, and some for marks without text. */
	said = house_chat(house, CHAT(",\"max_tokens\":100000"));
	assert_int_equal(said.status, 200);
	assert_true(said_int(&said, "usage.completion_tokens") < 2000);
	said_free(&said);
	house_free(house);
}

static void long_answers_raise_their_hold(void **state)
{
	(void)state;
	struct house *house = house_new("10", NULL);
	struct swarm_fleet_options talker = good;
	talker.chunks = 3000;
	house_add(house, talker);
	int64_t before = house_balance(house);
	struct said said = house_chat(house, CHAT(",\"max_tokens\":4000,\"stream\":true"));
	assert_int_equal(said_contents(&said), 3000);
	said_free(&said);
	assert_true(before - house_balance(house) >= 3000 * 200000 / 1000000);
	house_free(house);
}

static void a_stream_ends_where_the_balance_ends(void **state)
{
	(void)state;
	struct house *house = house_new("0.0004", NULL);
	house_add(house, (struct swarm_fleet_options){.credit = true, .chunks = 20000, .pace_us = 20});
	struct said said = house_chat(house, CHAT(",\"max_tokens\":20000,\"stream\":true"));
	assert_int_equal(said.status, 200);
	assert_int_equal(said_times(&said, "\"type\":\"insufficient_funds\""), 1);
	assert_int_equal(said_times(&said, "[DONE]"), 0);
	assert_true(said_contents(&said) > 200);
	said_free(&said);
	assert_true(house_settles(house));
	int64_t left = house_balance(house);
	assert_true(left >= 0 && left < 400); /* what was delivered is paid */
	house_free(house);
}

static void without_money_nothing_is_sent(void **state)
{
	(void)state;
	struct house *house = house_new("0", NULL);
	house_add(house, good);
	struct said said = house_chat(house, CHAT(""));
	assert_int_equal(said.status, 402);
	assert_true(said_is(&said, "error.type", "insufficient_funds"));
	assert_true(said_is(&said, "error.code", "insufficient_quota"));
	said_free(&said);
	assert_int_equal(house_metric(house, "darkbloom_attempts_total"), 0);
	house_free(house);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_whole_answer_is_given_and_charged),
	    cmocka_unit_test(a_stream_has_one_end),
	    cmocka_unit_test(the_older_generation_is_understood),
	    cmocka_unit_test(requests_wait_for_a_busy_provider),
	    cmocka_unit_test(a_full_queue_refuses_with_a_time_to_come_back),
	    cmocka_unit_test(waiting_has_an_end),
	    cmocka_unit_test(a_lying_provider_is_not_believed),
	    cmocka_unit_test(long_answers_raise_their_hold),
	    cmocka_unit_test(a_stream_ends_where_the_balance_ends),
	    cmocka_unit_test(without_money_nothing_is_sent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
