/* What reading requests and rewriting answers costs. Lines `bench <name> <value> <unit>`. */
#include <stdio.h>
#include <stdlib.h>

#include "api/chat_request.h"
#include "api/chat_response.h"
#include "core/clock.h"

#define SECONDS 0.4

static const char content_frame[] =
    "data: "
    "{\"id\":\"chatcmpl-3f0e5b0a\",\"object\":\"chat.completion.chunk\",\"created\":1767323045,\"model\":\"acme/tiny-4bit\","
    "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" network\"},\"finish_reason\":null}]}\n\n";

struct bench {
	struct arena *arena, *scratch;
	struct buf body, out;
	struct chat_answer *answer;
};

static void must(bool good)
{
	if (!good) {
		fprintf(stderr, "a benchmark's own work failed\n");
		exit(1);
	}
}

static void relay_frame(struct bench *b)
{
	struct chat_frame frame;
	struct str rest;
	b->out.len = 0;
	must(chat_frame_read(STR(content_frame), b->scratch, &frame, &rest) == DB_OK);
	must(chat_answer_frame(b->answer, &frame, &b->out) == DB_OK);
	arena_reset(b->scratch);
}

static void roundtrip(struct bench *b)
{
	struct chat_request request;
	struct api_error error;
	b->out.len = 0;
	must(chat_request_parse(buf_str(&b->body), b->scratch, &request, &error));
	must(chat_request_forward(&request, STR("acme/tiny-4bit"), 256, &b->out) == DB_OK);
	arena_reset(b->scratch);
}

static void measure(const char *name, void (*work)(struct bench *b), struct bench *b)
{
	uint64_t runs = 0, began = clock_mono_us(), now = began;
	while (now - began < (uint64_t)(SECONDS * 1e6)) {
		for (int i = 0; i < 50; i++)
			work(b);
		runs += 50;
		now = clock_mono_us();
	}
	printf("bench %s %.3f us\n", name, (double)(now - began) / (double)runs);
}

/* A conversation of about `bytes` in messages of a usual size. */
static void make_body(struct buf *body, size_t bytes)
{
	buf_clear(body);
	buf_append_c(body, "{\"model\":\"tiny\",\"temperature\":0.7,\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"}");
	while (body->len < bytes) {
		buf_append_c(body, ",{\"role\":\"user\",\"content\":\"");
		for (int i = 0; i < 40; i++)
			buf_append_c(body, "The quick brown fox \\\"jumps\\\" over it.\\n");
		buf_append_c(body, "\"}");
	}
	buf_append_c(body, "]}");
}

int main(void)
{
	struct bench b = {.arena = arena_new(0), .scratch = arena_new(0)};
	struct chat_answer_options options = {.job_id = "job", .requested_model = STR("tiny"), .stream = true};
	buf_init(&b.body, 1 << 20);
	buf_init(&b.out, 1 << 20);
	b.answer = chat_answer_new(b.arena, &options);
	must(b.answer != NULL);
	measure("chat_relay_frame_us", relay_frame, &b);
	make_body(&b.body, 200);
	measure("chat_2k_roundtrip_us", roundtrip, &b);
	make_body(&b.body, 100000);
	measure("chat_100k_roundtrip_us", roundtrip, &b);
	chat_answer_free(b.answer);
	buf_free(&b.body);
	buf_free(&b.out);
	arena_free(b.scratch);
	arena_free(b.arena);
	return 0;
}
