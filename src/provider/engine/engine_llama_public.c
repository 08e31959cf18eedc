#include "provider/engine/engine_llama_public.h"

#include "core/json.h"

#include <stdlib.h>

struct llama_public {
	size_t count;
	struct {
		int32_t *tokens;
		size_t count;
	} prefixes[LLAMA_PUBLIC_MOST];
};

static size_t common(const int32_t *a, size_t a_count, const int32_t *b, size_t b_count)
{
	size_t most = a_count < b_count ? a_count : b_count, same = 0;
	while (same < most && a[same] == b[same])
		same++;
	return same;
}

/* The tokens of a conversation with that system prompt and something to say; the caller frees them. 0: it cannot be rendered.
 */
static size_t conversation_tokens(const struct chat_templates *templates, struct str system, const char *said, int32_t **out)
{
	struct buf messages;
	struct json_writer w;
	struct chat_prompt prompt;
	char why[200];
	int32_t count = 0;
	*out = NULL;
	buf_init(&messages, 2 * LLAMA_PUBLIC_MAX_BYTES);
	json_writer_init(&w, &messages);
	json_begin_array(&w);
	json_begin_object(&w);
	json_put_cstr(&w, "role", "system");
	json_put_str(&w, "content", system);
	json_end_object(&w);
	json_begin_object(&w);
	json_put_cstr(&w, "role", "user");
	json_put_cstr(&w, "content", said);
	json_end_object(&w);
	json_end_array(&w);
	buf_append_byte(&messages, '\0');
	struct chat_conversation conversation = {.messages_json = messages.failed ? "" : messages.at,
	                                         .parallel_tool_calls = -1,
	                                         .reasoning_budget = -1,
	                                         .effort_budget = -1};
	if (!messages.failed && !chat_prompt_render(templates, &conversation, &prompt, why, sizeof why)) {
		size_t most = prompt.text_len + 16;
		*out = most < INT32_MAX ? calloc(most, sizeof **out) : NULL;
		count = *out ? chat_prompt_tokenize(&prompt, *out, (int32_t)most) : 0;
		chat_prompt_free(&prompt);
	}
	buf_free(&messages);
	return count > 0 ? (size_t)count : 0;
}

/* What two conversations that only share the system prompt begin with alike. */
static void add(struct llama_public *list, const struct chat_templates *templates, struct str system)
{
	int32_t *one, *other;
	size_t one_count = conversation_tokens(templates, system, "Q1", &one);
	size_t other_count = conversation_tokens(templates, system, "\xc3\xa9", &other);
	size_t same = common(one, one_count, other, other_count);
	free(other);
	if (same == 0) {
		free(one);
		return;
	}
	list->prefixes[list->count].tokens = one;
	list->prefixes[list->count++].count = same;
}

enum db_err llama_public_new(const struct chat_templates *templates, struct str prompts_json, struct llama_public **out,
                             struct error *error)
{
	struct json_doc *doc = json_parse(prompts_json, NULL, NULL);
	const json_val *root = json_root(doc);
	struct json_iter iter = json_iter(root);
	struct str text;
	bool texts = json_type(root) == JSON_ARRAY && json_len(root) <= LLAMA_PUBLIC_MOST;
	*out = NULL;
	for (json_val *one; texts && (one = json_next(&iter, NULL));)
		texts = json_as_str(one, &text) && text.len;
	struct llama_public *list = texts && json_len(root) ? calloc(1, sizeof *list) : NULL;
	iter = json_iter(root);
	for (json_val *one; list && (one = json_next(&iter, NULL));)
		if (json_as_str(one, &text))
			add(list, templates, text);
	size_t wanted = texts ? json_len(root) : 0;
	json_free(doc);
	if (!texts)
		return error_set(error, DB_E_INVALID, "model load failed: its public prompts are not a JSON array of at most %d texts",
		                 LLAMA_PUBLIC_MOST);
	if (wanted && !list)
		return error_set(error, DB_E_NOMEM, "model load failed: insufficient memory");
	*out = list;
	return DB_OK;
}

void llama_public_free(struct llama_public *list)
{
	for (size_t i = 0; list && i < list->count; i++)
		free(list->prefixes[i].tokens);
	free(list);
}

size_t llama_public_tokens(const struct llama_public *list, const int32_t *tokens, size_t count)
{
	size_t longest = 0;
	for (size_t i = 0; list && i < list->count; i++) {
		size_t len = list->prefixes[i].count;
		if (len > longest && len <= count && common(list->prefixes[i].tokens, len, tokens, count) == len)
			longest = len;
	}
	return longest;
}
