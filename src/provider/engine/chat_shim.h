/* C door to llama.cpp's `common` library (C++): Jinja chat templates, tool-call and reasoning parsers, JSON schema to grammar.
 * The files chat_shim*.cpp behind it are the only C++ of the tree. No exception crosses this header, and no error text given
 * here contains message text. Linking it replaces the C++ allocator's `delete` by one that wipes, because the library passes
 * prompts and answers through temporary strings that nobody else could wipe. Thread: one shim object per thread at a time;
 * chat_templates is read-only after it was made and may be shared. */
#ifndef PROVIDER_CHAT_SHIM_H
#define PROVIDER_CHAT_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct llama_model;
struct llama_context;
struct llama_batch;
struct llama_vocab;
struct llama_token_data_array;
struct chat_templates;
struct chat_reader;
struct chat_grammar;

/* Once per process, before anything else here: silences the library's own log, which prints prompts and answers. */
void chat_shim_init(void);
/* Threads that llama.cpp's own programs would use on this machine. */
int32_t chat_shim_default_threads(void);
/* Bytes that are allocated for a context: its cells, its work space and, unless another context's count has them, the model's
 * weights. */
uint64_t chat_shim_memory_bytes(const struct llama_context *context, bool weights);

/* The GGUF's own template, or `override_or_null`. NULL with a sentence in error when it does not parse. */
struct chat_templates *chat_templates_new(const struct llama_model *model, const char *override_or_null, char *error,
                                          size_t error_size);
void chat_templates_free(struct chat_templates *templates);

struct chat_caps {
	bool has_template;        /* false: the model brings none, and ChatML stands in */
	bool tools, tool_calls;   /* it tells the model about tools; it renders calls of the history */
	bool parallel_tool_calls; /* ... several of one message */
	bool reasoning_effort;    /* it tells the model how much to think */
};
void chat_templates_caps(const struct chat_templates *templates, struct chat_caps *out);
/* Of the cache of compiled JSON schemas, for tests and figures. */
void chat_templates_cache_counts(const struct chat_templates *templates, size_t *hits, size_t *misses);

/* What to render: JSON texts, "" = absent. */
struct chat_conversation {
	const char *messages_json;      /* array, OpenAI shape */
	const char *tools_json;         /* array */
	const char *tool_choice_json;   /* "none", "auto", "required" (JSON strings) or {"type":"function","function":{"name"}} */
	const char *schema_json;        /* the answer must match this JSON schema; "{}" = any object */
	const char *template_args_json; /* object: chat_template_kwargs */
	const char *reasoning_effort;   /* plain text */
	int parallel_tool_calls;        /* 1, 0, or -1: what the template supports */
	/* The messages were rewritten by chat_plain_tools.h: the template is not shown the tools, and calls are read as told there.
	 */
	bool plain_tools;
	/* Most tokens of a reasoning block, after which it is closed; -1 = no limit. effort_budget is what reasoning_effort comes
	 * to for templates that do not tell the model about it; 0 holds for all. */
	int64_t reasoning_budget, effort_budget;
};

/* Rendered prompt and everything needed to run and read the answer. Free with chat_prompt_free (wipes). */
struct chat_prompt {
	const char *text;
	size_t text_len;
	const char *const *stops; /* additional stop strings of the family */
	size_t stop_count;
	const int32_t *visible_tokens; /* special tokens that must be kept in the text for the reader */
	size_t visible_token_count;
	struct chat_reader *reader;   /* owned; NULL: the text of the answer is its content as it stands */
	struct chat_grammar *grammar; /* owned; NULL: no constraint */
	void *owned;
};
/* Returns 0 and fills *out (free with chat_prompt_free), or an HTTP-like status (400, 500) and a sentence in error. */
int chat_prompt_render(const struct chat_templates *templates, const struct chat_conversation *conversation,
                       struct chat_prompt *out, char *error, size_t error_size);
void chat_prompt_free(struct chat_prompt *prompt);
/* The prompt's tokens: their count, or INT32_MIN when `max` is too few. Words in messages that look like control tokens
 * ("<|im_end|>") become the tokens of plain text: nobody can end their own message and begin another. */
int32_t chat_prompt_tokenize(const struct chat_prompt *prompt, int32_t *tokens, int32_t max);

/* Incremental reader of the answer: text in, deltas out. */
struct chat_reader_delta {
	const char *content; /* borrowed until the next call; may contain NUL bytes, hence the lengths; length 0 = none */
	size_t content_len;
	const char *reasoning;
	size_t reasoning_len;
	const char *tool_calls; /* JSON array of OpenAI tool-call deltas */
	size_t tool_calls_len;
};
/* Appends generated text (whole characters); `final` when the answer is complete. Text that the family's parser cannot read at
 * the end is given out as content rather than lost. Returns false only when memory ran out. */
bool chat_reader_feed(struct chat_reader *reader, const char *text, size_t len, bool final, struct chat_reader_delta *delta);
bool chat_reader_has_tool_calls(const struct chat_reader *reader);

/* Constraint on the next token. apply sets the logit of every candidate that may not follow to -INFINITY; accept takes the
 * token that was chosen and returns false when it did not fit (the grammar must not be used any more). */
void chat_grammar_apply(struct chat_grammar *grammar, struct llama_token_data_array *candidates);
bool chat_grammar_accept(struct chat_grammar *grammar, int32_t token);
/* Tokens between the marks of reasoning blocks so far; 0 for NULL. */
uint64_t chat_grammar_reasoning_tokens(const struct chat_grammar *grammar);
/* Is a reasoning block open? */
bool chat_grammar_thinks(const struct chat_grammar *grammar);

/* llama_tokenize and llama_decode with C++ exceptions turned into error returns. tokenize: count of tokens, or the negated
 * count needed when `max` is too small, INT32_MIN when it failed. decode: as llama_decode, -100 for an exception. */
int32_t chat_shim_tokenize(const struct llama_vocab *vocab, const char *text, size_t len, int32_t *tokens, int32_t max,
                           bool add_special, bool parse_special);
int32_t chat_shim_decode(struct llama_context *context, const struct llama_batch *batch);

#ifdef __cplusplus
}
#endif
#endif
