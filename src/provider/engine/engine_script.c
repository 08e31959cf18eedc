/* The words of the scripted engine, and scripts from JSON. */
#include "provider/engine/engine_script.h"

#include "core/wipe.h"
#include "crypto/hash.h"
#include "provider/engine/engine.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_WORDS ((size_t)1 << 20)

void script_text_free(struct script_text *text)
{
	buf_free(&text->bytes);
	free(text->words);
	*text = (struct script_text){0};
}

static bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static size_t split_words(struct str text, struct str *words, size_t max)
{
	size_t count = 0;
	for (size_t at = 0; at < text.len && count < max; count++) {
		size_t from = at;
		while (at < text.len && !is_space(text.at[at]))
			at++;
		while (at < text.len && is_space(text.at[at]))
			at++;
		if (words)
			words[count] = str_sub(text, from, at - from);
	}
	return count;
}

enum db_err script_text_set(struct script_text *text, struct str from)
{
	*text = (struct script_text){0};
	buf_init(&text->bytes, from.len + 1);
	if (buf_append_str(&text->bytes, from) || buf_append_byte(&text->bytes, ' '))
		return DB_E_NOMEM;
	struct str whole = str_sub(buf_str(&text->bytes), 0, from.len);
	text->count = split_words(whole, NULL, MAX_WORDS);
	text->words = calloc(text->count + 1, sizeof *text->words);
	if (!text->words)
		return DB_E_NOMEM;
	split_words(whole, text->words, text->count);
	return DB_OK;
}

struct str script_text_piece(const struct script_text *text, uint64_t pieces, uint64_t index)
{
	if (!text->count)
		return STR_NONE;
	if (pieces >= text->count) {
		struct str word = text->words[index % text->count];
		bool last = (index + 1) % text->count == 0;
		if (last && index + 1 < pieces && !is_space(word.at[word.len - 1]))
			word.len++; /* the text begins anew behind the space that is kept after it */
		return word;
	}
	size_t from = (size_t)(index * text->count / pieces), to = (size_t)((index + 1) * text->count / pieces);
	const char *start = text->words[from].at;
	return (struct str){start, (size_t)(text->words[to - 1].at + text->words[to - 1].len - start)};
}

/* Adds up the words of every text in `value`, and remembers the last text. */
static uint64_t count_words(const json_val *value, struct str *last)
{
	struct str text;
	uint64_t words = 0;
	if (json_as_str(value, &text)) {
		*last = text;
		return split_words(text, NULL, MAX_WORDS);
	}
	struct json_iter parts = json_iter(value);
	for (json_val *part; (part = json_next(&parts, NULL));)
		if (json_as_str(json_get(part, "text"), &text)) {
			*last = text;
			words += split_words(text, NULL, MAX_WORDS);
		}
	return words;
}

enum db_err script_text_digest(struct script_text *text, struct str message)
{
	char hex[SHA256_HEX_SIZE], words[64];
	sha256_hex(message.at, message.len, hex);
	snprintf(words, sizeof words, "echo %.8s %.8s %.8s", hex, hex + 8, hex + 16);
	enum db_err err = script_text_set(text, str_of(words));
	wipe(hex, sizeof hex);
	wipe(words, sizeof words);
	return err;
}

uint64_t script_prompt_words(const json_val *messages, struct str *last)
{
	uint64_t words = 0;
	*last = STR_NONE;
	struct json_iter each = json_iter(messages);
	for (json_val *message; (message = json_next(&each, NULL));)
		words += count_words(json_get(message, "content"), last);
	return words;
}

uint64_t script_plain_words(const json_val *prompt, struct str *last)
{
	*last = STR_NONE;
	return json_type(prompt) == JSON_ARRAY ? json_len(prompt) : count_words(prompt, last);
}

/* --- scripts from JSON --- */

static bool read_u32(json_val *value, uint32_t max, uint32_t *out)
{
	int64_t number;
	if (!json_as_i64(value, &number) || number < 0 || number > (int64_t)max)
		return false;
	*out = (uint32_t)number;
	return true;
}

static bool read_text(json_val *value, struct arena *arena, const char **out)
{
	struct str text;
	if (json_type(value) == JSON_NULL)
		return true;
	if (!json_as_str(value, &text) || memchr(text.at, 0, text.len))
		return false;
	*out = arena_cstr(arena, text);
	return *out != NULL;
}

static bool read_field(struct str key, json_val *value, struct arena *arena, struct engine_script *out)
{
	uint32_t status;
	if (str_is(key, "text"))
		return read_text(value, arena, &out->text);
	if (str_is(key, "fail_text"))
		return read_text(value, arena, &out->fail_text);
	if (str_is(key, "vocabulary"))
		return read_text(value, arena, &out->vocabulary);
	if (str_is(key, "chat_template"))
		return read_text(value, arena, &out->chat_template);
	if (str_is(key, "tokens"))
		return read_u32(value, 1u << 24, &out->tokens);
	if (str_is(key, "first_delay_ms"))
		return read_u32(value, 3600000, &out->first_delay_ms);
	if (str_is(key, "token_delay_ms"))
		return read_u32(value, 3600000, &out->token_delay_ms);
	if (str_is(key, "load_delay_ms"))
		return read_u32(value, 3600000, &out->load_delay_ms);
	if (str_is(key, "max_concurrency"))
		return read_u32(value, 1u << 20, &out->max_concurrency);
	if (str_is(key, "fail_after_tokens"))
		return read_u32(value, 1u << 24, &out->fail_after_tokens);
	if (str_is(key, "hang_at_token"))
		return read_u32(value, 1u << 24, &out->hang_at_token);
	if (str_is(key, "hang"))
		return json_as_bool(value, &out->hang);
	if (!str_is(key, "fail_status") || !read_u32(value, 599, &status) || (status && status < 400))
		return false;
	out->fail_status = (int)status;
	return true;
}

enum db_err engine_script_parse(struct str json, struct arena *arena, struct engine_script *out, struct error *error)
{
	*out = (struct engine_script){0};
	struct json_doc *doc = json_parse(json, arena, error);
	if (!doc)
		return DB_E_INVALID;
	json_val *root = json_root(doc);
	if (json_type(root) != JSON_OBJECT)
		return error_set(error, DB_E_INVALID, "a script is a JSON object");
	struct json_iter fields = json_iter(root);
	struct str key;
	for (json_val *value; (value = json_next(&fields, &key));)
		if (!read_field(key, value, arena, out))
			return error_set(error, DB_E_INVALID, "script: %.*s is unknown or out of range", (int)(key.len < 40 ? key.len : 40),
			                 key.at);
	if (!out->vocabulary != !out->chat_template)
		return error_set(error, DB_E_INVALID, "script: vocabulary and chat_template belong together");
	return DB_OK;
}
