/* What a short answer costs in each dialect, from the consumer's body to the last byte. Lines `bench <name> <value> <unit>`. */
#include <stdio.h>
#include <stdlib.h>

#include "api/dialect.h"
#include "core/clock.h"

#define SECONDS 0.2

#define HEAD           "data: {\"id\":\"chatcmpl-3f\",\"object\":\"chat.completion.chunk\",\"created\":1767323045,\"model\":\"b\","
#define FRAME(choices) HEAD choices "}\n\n"

static const char *const frames[] = {
    FRAME("\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]"),
    FRAME("\"choices\":[{\"index\":0,\"delta\":{\"content\":\" network\"},\"finish_reason\":null}]"),
    FRAME("\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]"),
    FRAME("\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1,\"total_tokens\":6}"),
};

static const struct {
	const char *name;
	const struct dialect *dialect;
	const char *said;
} kinds[] = {
    {"chat", &dialect_chat, "\"messages\":[{\"role\":\"user\",\"content\":\"What is a network?\"}]"},
    {"responses", &dialect_responses, "\"input\":\"What is a network?\""},
    {"completions", &dialect_completions, "\"prompt\":\"What is a network?\""},
    {"messages", &dialect_anthropic, "\"max_tokens\":64,\"messages\":[{\"role\":\"user\",\"content\":\"What is a network?\"}]"},
};

static void must(bool good)
{
	if (!good) {
		fprintf(stderr, "a benchmark's own work failed\n");
		exit(1);
	}
}

static void answer_once(const struct dialect *dialect, struct str body, struct arena *arena, struct arena *scratch,
                        struct buf *out)
{
	struct chat_request request = {0};
	struct api_error error;
	out->len = 0;
	must(dialect->parse(body, arena, &request, &error));
	must(chat_request_forward(&request, STR("acme/tiny-4bit"), 256, out) == DB_OK);
	out->len = 0;
	struct chat_answer_options options = {.job_id = "0198f3a0-7e1c-7cc2-b0a0-000000000000",
	                                      .requested_model = STR("tiny"),
	                                      .stream = request.stream,
	                                      .max_tokens = 256,
	                                      .request = &request};
	struct dialect_answer *answer = dialect->answer_new(arena, &options);
	must(answer != NULL);
	for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
		struct chat_frame frame;
		struct str rest;
		arena_reset(scratch);
		must(chat_frame_read(str_of(frames[i]), scratch, &frame, &rest) == DB_OK);
		must(dialect->frame(answer, &frame, out) == DB_OK);
	}
	struct chat_answer_end end = {.has_usage = true, .usage = {.prompt_tokens = 5, .completion_tokens = 1}};
	must(dialect->finish(answer, &end, out) == DB_OK);
	dialect_answer_free(answer);
	arena_reset(arena);
}

static void measure(size_t kind, bool stream)
{
	struct arena *arena = arena_new(0), *scratch = arena_new(0);
	struct buf body, out;
	buf_init(&body, 1 << 20);
	buf_init(&out, 1 << 20);
	buf_printf(&body, "{\"model\":\"tiny\",\"temperature\":0.7,\"stream\":%s,%s}", stream ? "true" : "false", kinds[kind].said);
	uint64_t runs = 0, began = clock_mono_us(), now = began;
	for (; now - began < (uint64_t)(SECONDS * 1e6); now = clock_mono_us())
		for (int i = 0; i < 50; i++, runs++)
			answer_once(kinds[kind].dialect, buf_str(&body), arena, scratch, &out);
	printf("bench dialect_%s_%s_us %.3f us\n", kinds[kind].name, stream ? "stream" : "whole",
	       (double)(now - began) / (double)runs);
	buf_free(&body);
	buf_free(&out);
	arena_free(arena);
	arena_free(scratch);
}

int main(void)
{
	for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
		for (int stream = 0; stream < 2; stream++)
			measure(kind, stream);
	return 0;
}
