/* Prompts without a template: text or tokens as they came, and an answer whose text nobody reads. */
#include "provider/engine/engine_llama.h"

bool llama_plain_copy(struct llama_call *call, const json_val *prompt)
{
	struct llama_plain *plain = arena_alloc(call->arena, sizeof *plain);
	struct str text;
	if (!plain)
		return false;
	call->plain = plain;
	if (json_as_str(prompt, &text)) {
		plain->text = arena_cstr(call->arena, text);
		plain->text_len = text.len;
		return plain->text != NULL;
	}
	plain->tokens = arena_alloc(call->arena, (json_len(prompt) + 1) * sizeof *plain->tokens);
	struct json_iter iter = json_iter(prompt);
	int64_t token;
	for (json_val *value; plain->tokens && (value = json_next(&iter, NULL));)
		if (json_as_i64(value, &token))
			plain->tokens[plain->count++] = (int32_t)token;
	return plain->tokens != NULL;
}

enum db_err llama_plain_prompt(struct llama_engine *engine, struct llama_call *call, struct error *error)
{
	const struct llama_plain *plain = call->plain;
	if (plain->text) {
		call->prompt.text = plain->text; /* the arena's; the prompt owns nothing */
		call->prompt.text_len = plain->text_len;
		return DB_OK;
	}
	int32_t vocabulary = llama_vocab_n_tokens(engine->vocab);
	for (size_t i = 0; i < plain->count; i++)
		if (plain->tokens[i] >= vocabulary)
			return error_set(error, DB_E_INVALID, "the prompt has a token that this model does not know");
	buf_init(&call->tokens,
	         (plain->count > engine->sequence_tokens ? plain->count : engine->sequence_tokens + 1) * sizeof *plain->tokens);
	if (buf_append(&call->tokens, plain->tokens, plain->count * sizeof *plain->tokens))
		return error_set(error, DB_E_NOMEM, "insufficient memory for the request");
	call->prompt_count = plain->count;
	return DB_OK;
}
