/* Answers of models, cut anywhere, through the readers of every family: never a crash, deltas are JSON, and nothing is made up.
 * Input: one byte that picks the family, one that says how to cut, then the answer. The library's parsers see it too. */
#include "core/json.h"
#include "core/utf8.h"
#include "provider/engine/chat_shim.h"

#include <llama.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
const char *__asan_default_options(void);

#define TEMPLATES TEST_SOURCE_DIR "/build/deps/src/llama.cpp/models/templates/"
#define TEXT_MAX  ((size_t)4096)

static const char *const families[] = {
    "Qwen-Qwen3-0.6B.jinja",
    "Qwen3-Coder.jinja",
    "google-gemma-4-31B-it.jinja",
    "openai-gpt-oss-120b.jinja",
    "meta-llama-Llama-3.1-8B-Instruct.jinja",
    "MiniMax-M2.jinja",
    "moonshotai-Kimi-K2.jinja",
    "GLM-4.6.jinja",
    "LFM2-8B-A1B.jinja",
    "mistralai-Mistral-Nemo-Instruct-2407.jinja",
    "NVIDIA-Nemotron-Nano-v2.jinja",
};
#define FAMILIES (sizeof families / sizeof *families)

static struct chat_templates *templates[FAMILIES];

/* The shim's `delete` wipes and calls free(), which is not what the sanitizer's own `new` expects. */
const char *__asan_default_options(void)
{
	return "alloc_dealloc_mismatch=0";
}

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
	(void)level;
	(void)text;
	(void)user;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	chat_shim_init();
	llama_log_set(quiet, NULL);
	struct llama_model_params params = llama_model_default_params();
	params.vocab_only = true;
	struct llama_model *model =
	    llama_model_load_from_file(TEST_SOURCE_DIR "/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf", params);
	for (size_t i = 0; model && i < FAMILIES; i++) {
		char path[512], error[320], *text = calloc(1, 1 << 17);
		snprintf(path, sizeof path, TEMPLATES "%s", families[i]);
		FILE *file = fopen(path, "rb");
		if (!file || !text || !fread(text, 1, (1 << 17) - 1, file))
			abort();
		fclose(file);
		templates[i] = chat_templates_new(model, text, error, sizeof error);
		free(text);
	}
	if (!model || !templates[0])
		abort();
	return 0;
}

struct reading {
	struct buf content, reasoning, calls;
};

static void take(struct reading *reading, const struct chat_reader_delta *delta)
{
	struct str calls = {delta->tool_calls, delta->tool_calls_len};
	buf_append(&reading->content, delta->content, delta->content_len);
	buf_append(&reading->reasoning, delta->reasoning, delta->reasoning_len);
	struct json_doc *doc = calls.len ? json_parse(calls, NULL, NULL) : NULL;
	if (calls.len && json_type(json_root(doc)) != JSON_ARRAY)
		abort();
	json_free(doc);
}

static void read_answer(const struct chat_templates *family, struct str answer, size_t piece, struct reading *out)
{
	static const struct chat_conversation conversation = {
	    .messages_json = "[{\"role\":\"user\",\"content\":\"Hello?\"}]",
	    .tools_json =
	        "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"F\",\"parameters\":{\"type\":\"object\","
	        "\"properties\":{\"k\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}}}}}]",
	    .parallel_tool_calls = -1,
	    .reasoning_budget = -1,
	    .effort_budget = -1};
	struct chat_prompt prompt;
	char error[320];
	buf_init(&out->content, 1 << 20);
	buf_init(&out->reasoning, 1 << 20);
	if (chat_prompt_render(family, &conversation, &prompt, error, sizeof error) || !prompt.reader)
		abort();
	for (size_t at = 0, next; at < answer.len || !at; at = next) {
		struct chat_reader_delta delta;
		next = piece < answer.len - at ? at + piece : answer.len;
		while (next < answer.len && ((unsigned char)answer.at[next] & 0xc0) == 0x80)
			next++;
		if (!chat_reader_feed(prompt.reader, answer.at + at, next - at, next == answer.len, &delta))
			abort();
		take(out, &delta);
		if (!answer.len)
			break;
	}
	chat_prompt_free(&prompt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || size > TEXT_MAX || !utf8_valid((struct str){(const char *)data + 2, size - 2}))
		return 0;
	struct str answer = {(const char *)data + 2, size - 2};
	const struct chat_templates *family = templates[data[0] % FAMILIES];
	struct reading pieces;
	if (!family)
		return 0;
	read_answer(family, answer, 1 + data[1] % 16, &pieces);
	if (pieces.content.len + pieces.reasoning.len > 3 * answer.len + 64) /* nothing is made up */
		abort();
	buf_free(&pieces.content);
	buf_free(&pieces.reasoning);
	return 0;
}
