/* C door to llama.cpp's `common` library (C++): Jinja chat templates, tool-call and reasoning parsers, JSON schema to grammar.
 * chat_shim.cpp is the only C++ file of the tree. No exception crosses this header. Thread: one shim object per thread at a
 * time; chat_templates is read-only after it was made. */
#ifndef PROVIDER_CHAT_SHIM_H
#define PROVIDER_CHAT_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct llama_model;
struct chat_templates;

/* The GGUF's own template, or `override_or_null`. NULL with a sentence in error when it does not parse. */
struct chat_templates *chat_templates_new(const struct llama_model *model, const char *override_or_null, char *error,
                                          size_t error_size);
void chat_templates_free(struct chat_templates *templates);

/* Rendered prompt and everything needed to run and read the answer. Free with chat_prompt_free (wipes). */
struct chat_prompt {
	char *text;
	size_t text_len;
	char *grammar;     /* GBNF or NULL */
	bool grammar_lazy; /* starts only after a trigger */
	const char **trigger_words;
	size_t trigger_word_count;
	const char **trigger_patterns;
	size_t trigger_pattern_count;
	const int32_t *trigger_tokens;
	size_t trigger_token_count;
	const char **stops; /* additional stop strings of the family */
	size_t stop_count;
	const char **preserved_tokens; /* special tokens that must be kept in the text for the reader */
	size_t preserved_token_count;
	struct chat_reader *reader; /* owned */
	void *owned;
};
/* Everything as JSON texts ("" = absent): messages array, tools array, tool_choice value, response_format schema, template
 * arguments object. NULL with a sentence in error (never containing message text) on failure. */
struct chat_prompt *chat_prompt_render(const struct chat_templates *templates, const char *messages_json,
                                       const char *tools_json, const char *tool_choice_json, const char *schema_json,
                                       const char *template_args_json, const char *reasoning_effort, bool parallel_tool_calls,
                                       char *error, size_t error_size);
void chat_prompt_free(struct chat_prompt *prompt);

/* Incremental reader of the answer: text in, deltas out. */
struct chat_reader_delta {
	const char *content; /* NUL-terminated, borrowed until the next call; "" = none */
	const char *reasoning;
	const char *tool_calls; /* JSON array of OpenAI tool-call deltas, "" = none */
};
/* Appends generated text; `final` when the answer is complete. Returns false with a sentence when the parser fails. */
bool chat_reader_feed(struct chat_reader *reader, const char *text, size_t len, bool final, struct chat_reader_delta *delta,
                      char *error, size_t error_size);
bool chat_reader_has_tool_calls(const struct chat_reader *reader);

/* JSON schema to GBNF; caller frees with free(). NULL with the reason when it cannot be expressed. */
char *chat_schema_to_grammar(const char *schema_json, char *error, size_t error_size);

#ifdef __cplusplus
}
#endif
#endif
