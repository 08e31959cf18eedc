/* What the tests of the shim share: the vocabulary of SmolLM2 without its weights, and the templates of llama.cpp's source. */
#ifndef TEST_SHIM_FIXTURE_H
#define TEST_SHIM_FIXTURE_H

#include "collect.h"

#include "provider/engine/chat_shim.h"

#include <llama.h>

#define MODEL     TEST_SOURCE_DIR "/build/deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define TEMPLATES TEST_SOURCE_DIR "/build/deps/src/llama.cpp/models/templates/"

static struct llama_model *model;

static inline void quiet(enum ggml_log_level level, const char *text, void *user)
{
	(void)level;
	(void)text;
	(void)user;
}

static inline int load_vocabulary(void **state)
{
	(void)state;
	chat_shim_init();
	llama_log_set(quiet, NULL);
	struct llama_model_params params = llama_model_default_params();
	params.vocab_only = true;
	model = llama_model_load_from_file(MODEL, params);
	return model ? 0 : 1;
}

static inline int free_vocabulary(void **state)
{
	(void)state;
	llama_model_free(model);
	return 0;
}

static inline struct chat_templates *template_of(const char *name)
{
	char path[512], error[320] = "";
	snprintf(path, sizeof path, "%s%s", TEMPLATES, name);
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	char *text = calloc(1, 1 << 17);
	assert_true(fread(text, 1, (1 << 17) - 1, file) > 0);
	fclose(file);
	struct chat_templates *templates = chat_templates_new(model, text, error, sizeof error);
	if (!templates)
		fail_msg("%s", error);
	free(text);
	return templates;
}

static const char hello[] = "[{\"role\":\"user\",\"content\":\"Hello?\"}]";
static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"Weather\",\"parameters\":"
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}},\"required\":[\"city\"]}}}]";

static inline void rendered(const struct chat_templates *templates, const struct chat_conversation *conversation,
                            struct chat_prompt *out)
{
	char error[320] = "";
	int status = chat_prompt_render(templates, conversation, out, error, sizeof error);
	if (status)
		fail_msg("%d %s", status, error);
}

#endif
