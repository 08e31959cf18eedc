#include "node_fixture.h"

#include "core/encode.h"

static const struct engine_script five_words = {.text = "one two three four five"};

static bool first_ended(struct world *world)
{
	return world->replies[0].completes + world->replies[0].errors > 0;
}

static bool all_ended(struct world *world)
{
	for (size_t i = 0; i < world->reply_count; i++)
		if (world->replies[i].completes + world->replies[i].errors == 0)
			return false;
	return true;
}

static bool first_accepted(struct world *world)
{
	return world->replies[0].accepted > 0;
}

static bool first_has_chunks(struct world *world)
{
	return world->replies[0].chunks >= 3;
}

/* --- whole answers --- */

static void answers_a_sealed_request_with_a_hash_and_a_signature_that_verify(void **state)
{
	struct world world;
	struct response_hash hash;
	char hex[SHA256_HEX_SIZE], public_b64[BASE64_ENCODED_LEN(P256_PUBLIC_BYTES)];
	uint8_t xy[P256_PUBLIC_BYTES];
	(void)state;
	world_open(&world, &five_words);
	struct reply *reply = ask(&world, "request-1");
	run_until(&world, first_ended);
	assert_int_equal(reply->accepted, 1);
	assert_int_equal(reply->completes, 1);
	assert_true(str_is(buf_str(&reply->content), "one two three four five"));
	assert_int_equal(reply->chunks, 5 + 4); /* role, finish, usage, [DONE] */
	assert_true(str_ends(buf_str(&reply->frames), STR("data: [DONE]\n\n")));
	assert_int_equal(reply->prompt_tokens, 3);
	assert_int_equal(reply->completion_tokens, 5);
	response_hash_init(&hash, 4096);
	response_hash_add(&hash, buf_str(&reply->content), STR_NONE);
	assert_int_equal(response_hash_final(&hash, STR("request-1"), 5, hex), DB_OK);
	response_hash_free(&hash);
	assert_string_equal(reply->response_hash, hex);
	platform_signer_public(world.signer, xy);
	struct str public_key = {public_b64, base64_encode(xy, sizeof xy, public_b64)};
	assert_int_equal(p256_verify_base64(public_key, str_of(hex), str_of(reply->signature)), DB_OK);
	world_close(&world);
}

static void counts_what_it_served(void **state)
{
	struct world world;
	(void)state;
	world_open(&world, &five_words);
	ask(&world, "request-1");
	run_until(&world, first_ended);
	run_until(&world, nothing_runs);
	struct node_status status = status_of(&world);
	assert_int_equal(status.requests_served, 1);
	assert_int_equal(status.tokens_generated, 5);
	world_close(&world);
}

static void answers_several_requests_at_once_without_mixing_them(void **state)
{
	struct world world;
	struct engine_script script = {.token_delay_ms = 1, .max_concurrency = 16};
	char id[32], body[256];
	(void)state;
	world_open(&world, &script);
	for (int i = 0; i < 12; i++) {
		snprintf(id, sizeof id, "request-%d", i);
		snprintf(body, sizeof body, "{\"model\":\"" MODEL "\",\"messages\":[{\"role\":\"user\",\"content\":\"question %d\"}]}",
		         i);
		expect_reply(&world, id);
		send_request(&world, id, body, -1);
	}
	run_until(&world, all_ended);
	for (int i = 0; i < 12; i++) {
		assert_int_equal(world.replies[i].completes, 1);
		for (int j = 0; j < i; j++)
			assert_false(str_eq(buf_str(&world.replies[i].content), buf_str(&world.replies[j].content)));
	}
	world_close(&world);
}

static void reports_a_fault_of_the_engine_after_the_chunks_before_it(void **state)
{
	struct world world;
	struct engine_script script = {
	    .text = "one two three", .fail_status = 500, .fail_text = "internal error: scripted", .fail_after_tokens = 2};
	(void)state;
	world_open(&world, &script);
	struct reply *reply = ask(&world, "request-1");
	run_until(&world, first_ended);
	assert_int_equal(reply->completes, 0);
	assert_int_equal(reply->errors, 1);
	assert_int_equal(reply->status, 500);
	assert_string_equal(reply->error, "internal error: scripted");
	assert_true(str_is(buf_str(&reply->content), "one two "));
	world_close(&world);
}

/* --- refusals (protocol-and-trust 4.2, 11.2) --- */

static void refuse_and_expect(struct world *world, struct wire_request request, int status, const char *error)
{
	char id[32];
	snprintf(id, sizeof id, "bad-%zu", world->reply_count);
	struct reply *reply = expect_reply(world, id);
	struct wire_message message = {.type = WIRE_REQUEST, .as.request = request};
	message.as.request.request_id = str_of(id);
	send_message(world, &message);
	run_until(world, all_ended);
	assert_int_equal(reply->accepted, 0);
	assert_int_equal(reply->errors, 1);
	assert_int_equal(reply->status, status);
	assert_string_equal(reply->error, error);
}

static void seal_and_expect(struct world *world, const char *body, int status, const char *error)
{
	char id[32];
	snprintf(id, sizeof id, "bad-%zu", world->reply_count);
	struct reply *reply = expect_reply(world, id);
	send_request(world, id, body, -1);
	run_until(world, all_ended);
	assert_int_equal(reply->accepted, 0);
	assert_int_equal(reply->status, status);
	assert_string_equal(reply->error, error);
}

static void refuses_what_it_cannot_open_or_read(void **state)
{
	struct world world;
	char key[WIRE_KEY_B64_LEN + 1], text[512];
	(void)state;
	world_open(&world, &five_words);
	wire_key_encode(world.ephemeral.public_key, key);
	struct str good = str_of(key), short_key = STR("AAAA"), no_base64 = STR("!!!!");
	struct str sealed = STR("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
	struct str all_zero = STR("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
	refuse_and_expect(&world, (struct wire_request){0}, 400, "missing encrypted_body");
	refuse_and_expect(&world, (struct wire_request){.has_encrypted_body = true, .encrypted_body = {short_key, sealed}}, 400,
	                  "ephemeral_public_key is not 32 bytes of base64");
	refuse_and_expect(&world, (struct wire_request){.has_encrypted_body = true, .encrypted_body = {all_zero, sealed}}, 400,
	                  "decryption failed");
	refuse_and_expect(&world, (struct wire_request){.has_encrypted_body = true, .encrypted_body = {good, no_base64}}, 400,
	                  "ciphertext is not base64");
	refuse_and_expect(&world, (struct wire_request){.has_encrypted_body = true, .encrypted_body = {good, sealed}}, 400,
	                  "decryption failed");
	refuse_and_expect(&world, (struct wire_request){.has_encrypted_body = true, .encrypted_body = {good, STR("AAAA")}}, 400,
	                  "decryption failed");
	seal_and_expect(&world, "", 400, "invalid request body");
	seal_and_expect(&world, "not json", 400, "invalid request body");
	seal_and_expect(&world, "{\"model\":\"" MODEL "\"}", 400, "invalid request body");
	seal_and_expect(&world, "{\"model\":\"other\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", 404,
	                "model not loaded on this provider");
	struct reply *plain = expect_reply(&world, "plain");
	snprintf(text, sizeof text, "{\"type\":\"inference_request\",\"request_id\":\"plain\",\"body\":" BODY "}");
	assert_int_equal(ws_send(world.ws, WS_TEXT, str_of(text)), DB_OK);
	run_until(&world, all_ended);
	assert_int_equal(plain->status, 400);
	assert_string_equal(plain->error, "plaintext request bodies are refused");
	assert_int_equal(status_of(&world).requests_active, 0);
	world_close(&world);
}

static void drops_messages_that_it_does_not_understand_and_stays(void **state)
{
	static const char *const bad[] = {"",
	                                  "{",
	                                  "[]",
	                                  "7",
	                                  "{\"type\":\"brand_new\"}",
	                                  "{\"type\":7}",
	                                  "{\"type\":\"inference_request\"}",
	                                  "{\"type\":\"cancel\"}"};
	struct world world;
	(void)state;
	world_open(&world, &five_words);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(ws_send(world.ws, WS_TEXT, str_of(bad[i])), DB_OK);
	assert_int_equal(ws_send(world.ws, WS_BINARY, STR("\xff\x00\x01")), DB_OK);
	ask(&world, "request-1");
	run_until(&world, first_ended);
	assert_int_equal(world.replies[0].completes, 1);
	assert_int_equal(world.closed, 0);
	world_close(&world);
}

static void a_replayed_request_id_runs_once(void **state)
{
	struct world world;
	struct engine_script script = {.text = "a b c d e f", .first_delay_ms = 30, .token_delay_ms = 2};
	(void)state;
	world_open(&world, &script);
	struct reply *reply = ask(&world, "request-1");
	send_request(&world, "request-1", BODY, -1);
	send_request(&world, "request-1", BODY, -1);
	run_until(&world, first_ended);
	run_until(&world, nothing_runs);
	run_until(&world, after_a_while);
	assert_int_equal(reply->accepted, 1);
	assert_int_equal(reply->completes, 1);
	assert_int_equal(reply->errors, 0);
	assert_true(str_is(buf_str(&reply->content), "a b c d e f"));
	world_close(&world);
}

static bool all_answered_or_accepted(struct world *world)
{
	for (size_t i = 0; i < world->reply_count; i++)
		if (world->replies[i].accepted + world->replies[i].errors == 0)
			return false;
	return true;
}

static void refuses_more_than_the_engine_takes_with_the_engines_own_status(void **state)
{
	struct world world;
	struct engine_script script = {.hang = true, .max_concurrency = 1};
	char id[32];
	size_t accepted = 0;
	(void)state;
	world_open(&world, &script);
	for (int i = 0; i < ENGINE_MAX_WAITING + 10; i++) {
		snprintf(id, sizeof id, "request-%d", i);
		ask(&world, id);
	}
	run_until(&world, all_answered_or_accepted);
	for (size_t i = 0; i < world.reply_count; i++) {
		const struct reply *reply = &world.replies[i];
		accepted += reply->accepted > 0;
		assert_int_equal(reply->accepted + reply->errors, 1);
		if (reply->errors) {
			assert_int_equal(reply->status, 429);
			assert_non_null(strstr(reply->error, "queue full"));
		}
	}
	assert_in_range(accepted, ENGINE_MAX_WAITING, ENGINE_MAX_WAITING + 1); /* one may run already */
	world_close(&world); /* with more than a hundred requests that never answer */
}

/* --- cancel --- */

static void cancel_before_output_ends_with_499(void **state)
{
	struct world world;
	struct engine_script script = {.hang = true};
	(void)state;
	world_open(&world, &script);
	struct reply *reply = ask(&world, "request-1");
	run_until(&world, first_accepted);
	send_cancel(&world, "request-1");
	run_until(&world, first_ended);
	assert_int_equal(reply->status, 499);
	assert_string_equal(reply->error, "request cancelled");
	assert_int_equal(reply->chunks, 0);
	run_until(&world, nothing_runs);
	world_close(&world);
}

static void cancel_in_the_middle_ends_with_the_usage_so_far(void **state)
{
	struct world world;
	struct engine_script script = {.text = "word ", .tokens = 100000, .token_delay_ms = 1};
	(void)state;
	world_open(&world, &script);
	struct reply *reply = ask(&world, "request-1");
	run_until(&world, first_has_chunks);
	send_cancel(&world, "request-1");
	send_cancel(&world, "request-1");
	run_until(&world, first_ended);
	run_until(&world, nothing_runs);
	assert_int_equal(reply->completes, 1);
	assert_int_equal(reply->errors, 0);
	assert_true(reply->completion_tokens >= 1 &&
	            reply->completion_tokens < 100000); /* of three chunks, the first says only who speaks */
	assert_false(str_ends(buf_str(&reply->frames), STR("data: [DONE]\n\n")));
	assert_int_equal(reply->chunks, reply->chunks_at_terminal);
	assert_int_equal(strlen(reply->response_hash), 64);
	world_close(&world);
}

static void cancel_of_finished_and_unknown_requests_is_ignored(void **state)
{
	struct world world;
	(void)state;
	world_open(&world, &five_words);
	struct reply *reply = ask(&world, "request-1");
	run_until(&world, first_ended);
	run_until(&world, nothing_runs);
	send_cancel(&world, "request-1");
	send_cancel(&world, "never-seen");
	send_credit(&world, "never-seen", 5);
	run_until(&world, after_a_while);
	assert_int_equal(reply->completes, 1);
	assert_int_equal(reply->errors, 0);
	assert_int_equal(world.closed, 0);
	world_close(&world);
}

static void cancel_with_chunks_that_wait_for_credit_sends_none_of_them(void **state)
{
	struct world world;
	(void)state;
	world_open(&world, &five_words);
	struct reply *reply = ask_with_credit(&world, "request-1", 2);
	run_until(&world, first_accepted);
	run_until(&world, after_a_while); /* the engine may be done, its frames wait */
	assert_int_equal(reply->chunks, 2);
	send_cancel(&world, "request-1");
	run_until(&world, first_ended);
	run_until(&world, nothing_runs);
	assert_int_equal(reply->completes, 1);
	assert_int_equal(reply->chunks, 2);
	world_close(&world);
}

/* --- flow credit --- */

static bool first_has_14_chunks(struct world *world)
{
	return world->replies[0].chunks >= 14;
}

static bool engine_stands_still(struct world *world)
{
	static uint64_t last;
	if (world->ticks % 50)
		return false;
	uint64_t now = tokens_done(world);
	bool still = world->ticks > 0 && now == last;
	last = now;
	return still;
}

static void sends_no_more_chunks_than_credit_and_pauses_the_engine_meanwhile(void **state)
{
	struct world world;
	struct engine_script script = {.text = "word ", .tokens = 3000, .token_delay_ms = 1};
	(void)state;
	world_open(&world, &script);
	struct reply *reply = ask_with_credit(&world, "request-1", 4);
	run_until(&world, first_has_chunks);
	run_until(&world, engine_stands_still);
	assert_int_equal(reply->chunks, 4);
	assert_true(tokens_done(&world) < 3000);
	send_credit(&world, "request-1", 10);
	run_until(&world, first_has_14_chunks);
	run_until(&world, engine_stands_still);
	assert_int_equal(reply->chunks, 14);
	assert_true(tokens_done(&world) < 3000);
	send_credit(&world, "request-1", INT32_MAX);
	send_credit(&world, "request-1", INT32_MAX); /* saturates */
	run_until(&world, first_ended);
	assert_int_equal(reply->completes, 1);
	assert_int_equal(reply->chunks, 3000 + 4);
	assert_int_equal(reply->content.len, 3000 * strlen("word "));
	world_close(&world);
}

static void a_request_without_credit_does_not_slow_another(void **state)
{
	struct world world;
	(void)state;
	world_open(&world, &five_words);
	struct reply *stuck = ask_with_credit(&world, "request-1", 0);
	run_until(&world, first_accepted);
	struct reply *free_one = expect_reply(&world, "request-2");
	send_request(&world, "request-2", BODY, -1);
	while (!free_one->completes)
		run_until(&world, after_a_while);
	assert_int_equal(stuck->chunks, 0);
	assert_int_equal(stuck->completes, 0);
	send_credit(&world, "request-1", 100);
	run_until(&world, all_ended);
	assert_int_equal(stuck->chunks, 9);
	world_close(&world);
}

static void the_terminal_message_needs_no_credit(void **state)
{
	struct world world;
	(void)state;
	world_open(&world, &five_words);
	struct reply *reply = ask_with_credit(&world, "request-1", 9); /* exactly the chunks there are */
	run_until(&world, first_ended);
	assert_int_equal(reply->completes, 1);
	assert_int_equal(reply->chunks, 9);
	world_close(&world);
}

/* --- a coordinator that does not read --- */

static void a_blocked_socket_pauses_the_engine_and_loses_nothing(void **state)
{
	struct world world;
	enum { WORD = 16384, TOKENS = 4000 };
	char *text = malloc(WORD + 1);
	memset(text, 'x', WORD);
	text[WORD - 1] = ' ';
	text[WORD] = '\0';
	struct engine_script script = {.text = text, .tokens = TOKENS};
	(void)state;
	world_open(&world, &script);
	free(text);
	struct reply *reply = ask(&world, "request-1");
	run_until(&world, first_has_chunks);
	ws_pause(world.ws);
	run_until(&world, engine_stands_still);
	assert_true(tokens_done(&world) < TOKENS);
	ws_resume(world.ws);
	run_until(&world, first_ended);
	assert_int_equal(reply->completes, 1);
	assert_int_equal(reply->chunks, TOKENS + 4);
	assert_int_equal(reply->content.len, (size_t)WORD * TOKENS);
	world_close(&world);
}

/* --- a coordinator that leaves --- */

static bool reconnected(struct world *world)
{
	return world->connections == 2 && is_registered(world);
}

static void a_lost_session_cancels_what_ran_and_frees_the_engine(void **state)
{
	struct world world;
	struct engine_script script = {.text = "word ", .tokens = 1000000, .token_delay_ms = 1};
	(void)state;
	world_open(&world, &script);
	struct reply *reply = ask(&world, "request-1");
	ask_with_credit(&world, "request-2", 1); /* stands paused */
	run_until(&world, first_has_chunks);
	ws_abort(world.ws);
	run_until(&world, reconnected);
	run_until(&world, nothing_runs);
	struct engine_capacity capacity;
	engine_capacity(world.engine, &capacity);
	assert_int_equal(capacity.running, 0);
	assert_int_equal(reply->completes + reply->errors, 0); /* nothing about an old session on the new one */
	world_close(&world);
}

static void the_same_request_id_is_free_again_on_a_new_session(void **state)
{
	struct world world;
	struct engine_script script = {.text = "one two", .first_delay_ms = 20};
	(void)state;
	world_open(&world, &script);
	ask(&world, "request-1");
	run_until(&world, first_accepted);
	ws_abort(world.ws);
	run_until(&world, reconnected);
	send_request(&world, "request-1", BODY, -1);
	run_until(&world, first_ended);
	assert_int_equal(world.replies[0].completes, 1);
	world_close(&world);
}

/* --- waiting for the engine --- */

static uint32_t running(struct world *world)
{
	struct engine_capacity capacity;
	engine_capacity(world->engine, &capacity);
	return capacity.running;
}

static bool one_runs(struct world *world)
{
	return running(world) == 1;
}

static bool two_and_three_know_their_places(struct world *world)
{
	return world->replies[1].place_count > 0 && world->replies[2].place_count > 0;
}

static bool three_moved_up(struct world *world)
{
	return world->replies[2].place_count > 1;
}

static void who_asks_is_told_its_place_in_the_engines_queue(void **state)
{
	struct world world;
	struct engine_script script = {.hang = true, .max_concurrency = 1};
	struct node_queued queued[NODE_QUEUE_MAX];
	(void)state;
	world_open(&world, &script);
	world.queue_notes = true;
	ask(&world, "request-1");
	run_until(&world, one_runs);
	ask(&world, "request-2");
	ask(&world, "request-3");
	world.queue_notes = false;
	ask(&world, "request-4");
	run_until(&world, two_and_three_know_their_places);
	assert_int_equal(world.replies[1].places[0], 1);
	assert_int_equal(world.replies[2].places[0], 2);
	assert_int_equal(node_queue(world.node, queued, NODE_QUEUE_MAX), 3);
	assert_int_equal(node_queue(world.node, queued, 2), 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(queued[i].position, i + 1);
		assert_string_equal(queued[i].request_id, world.replies[i + 1].id);
		assert_string_equal(queued[i].model, MODEL);
	}
	struct wire_message cancel = {.type = WIRE_CANCEL, .as.cancel = {STR("request-1")}};
	send_message(&world, &cancel);
	run_until(&world, three_moved_up);
	assert_int_equal(world.replies[2].places[1], 1);
	assert_int_equal(world.replies[0].place_count, 0); /* it never waited */
	assert_int_equal(world.replies[1].place_count, 1); /* it runs, and waits no more */
	assert_int_equal(world.replies[3].place_count, 0); /* it did not ask */
	world_close(&world);
}

static void freed_in_the_middle_of_answers_leaves_nothing_behind(void **state)
{
	struct world world;
	struct engine_script script = {.text = "word ", .tokens = 1000000, .token_delay_ms = 0, .max_concurrency = 8};
	(void)state;
	world_open(&world, &script);
	ask(&world, "request-1");
	ask_with_credit(&world, "request-2", 1);
	ask_with_credit(&world, "request-3", 0);
	run_until(&world, first_has_chunks);
	world_close(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(answers_a_sealed_request_with_a_hash_and_a_signature_that_verify),
	    cmocka_unit_test(counts_what_it_served),
	    cmocka_unit_test(answers_several_requests_at_once_without_mixing_them),
	    cmocka_unit_test(reports_a_fault_of_the_engine_after_the_chunks_before_it),
	    cmocka_unit_test(refuses_what_it_cannot_open_or_read),
	    cmocka_unit_test(drops_messages_that_it_does_not_understand_and_stays),
	    cmocka_unit_test(a_replayed_request_id_runs_once),
	    cmocka_unit_test(refuses_more_than_the_engine_takes_with_the_engines_own_status),
	    cmocka_unit_test(cancel_before_output_ends_with_499),
	    cmocka_unit_test(cancel_in_the_middle_ends_with_the_usage_so_far),
	    cmocka_unit_test(cancel_of_finished_and_unknown_requests_is_ignored),
	    cmocka_unit_test(cancel_with_chunks_that_wait_for_credit_sends_none_of_them),
	    cmocka_unit_test(sends_no_more_chunks_than_credit_and_pauses_the_engine_meanwhile),
	    cmocka_unit_test(a_request_without_credit_does_not_slow_another),
	    cmocka_unit_test(the_terminal_message_needs_no_credit),
	    cmocka_unit_test(a_blocked_socket_pauses_the_engine_and_loses_nothing),
	    cmocka_unit_test(a_lost_session_cancels_what_ran_and_frees_the_engine),
	    cmocka_unit_test(the_same_request_id_is_free_again_on_a_new_session),
	    cmocka_unit_test(who_asks_is_told_its_place_in_the_engines_queue),
	    cmocka_unit_test(freed_in_the_middle_of_answers_leaves_nothing_behind),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
