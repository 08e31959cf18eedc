#include "api/chat_resume.h"

#include "core/encode.h"

#define NOTE_BEGIN   ": resume "
#define PRINT_DIGITS 16

static void put_print(uint64_t print, char out[PRINT_DIGITS + 1])
{
	uint8_t bytes[8];
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(print >> (56 - 8 * i));
	hex_encode(bytes, sizeof bytes, out);
}

static bool read_print(struct str text, uint64_t *out)
{
	uint8_t bytes[8];
	if (hex_decode(text, bytes, sizeof bytes))
		return false;
	*out = 0;
	for (size_t i = 0; i < sizeof bytes; i++)
		*out = *out << 8 | bytes[i];
	return true;
}

static bool read_token(struct str text, int32_t *out)
{
	uint64_t value;
	if (!str_to_u64(text, &value) || value > INT32_MAX)
		return false;
	*out = (int32_t)value;
	return true;
}

void chat_resume_note(const struct chat_resume *note, struct buf *out)
{
	char print[PRINT_DIGITS + 1];
	put_print(note->print, print);
	buf_append_str(out, STR(NOTE_BEGIN));
	buf_append_c(out, print);
	for (size_t i = 0; i < note->count; i++)
		buf_printf(out, " %d", note->tokens[i]);
	buf_append_byte(out, '\n');
}

enum db_err chat_resume_read_note(struct str chunk, uint64_t *print, struct buf *tokens)
{
	struct str line, word;
	if (!str_starts(chunk, STR(NOTE_BEGIN)))
		return DB_E_NOT_FOUND;
	(void)str_cut(chunk, '\n', &line);
	struct str rest = str_cut(str_sub(line, strlen(NOTE_BEGIN), line.len), ' ', &word);
	size_t before = tokens->len;
	uint64_t said;
	if (!read_print(word, &said))
		return DB_E_INVALID;
	while (rest.len > 0) {
		int32_t token;
		rest = str_cut(rest, ' ', &word);
		enum db_err err = read_token(word, &token) ? buf_append(tokens, &token, sizeof token) : DB_E_INVALID;
		if (err) {
			tokens->len = before;
			tokens->failed = false;
			return err == DB_E_INVALID ? err : DB_E_LIMIT;
		}
	}
	*print = said;
	return DB_OK;
}

/* --- bodies --- */

/* Opens the object again: what follows becomes its last member. */
static enum db_err reopen(struct buf *body)
{
	struct str text = str_trim(buf_str(body));
	if (text.len < 2 || text.at[0] != '{' || text.at[text.len - 1] != '}')
		return DB_E_INVALID;
	body->len = (size_t)(text.at - body->at) + text.len - 1;
	bool empty = str_trim(str_sub(text, 1, text.len - 2)).len == 0;
	if (!empty)
		buf_append_byte(body, ',');
	return DB_OK;
}

static enum db_err finish(struct buf *body)
{
	buf_append_byte(body, '}');
	return body->failed ? DB_E_LIMIT : DB_OK;
}

enum db_err chat_resume_add(struct buf *body, const struct chat_resume *resume)
{
	char print[PRINT_DIGITS + 1];
	enum db_err err = reopen(body);
	if (err)
		return err;
	put_print(resume->print, print);
	buf_printf(body, "\"" CHAT_RESUME_MEMBER "\":{\"print\":\"%s\",\"tokens\":[", print);
	for (size_t i = 0; i < resume->count; i++)
		buf_printf(body, i ? ",%d" : "%d", resume->tokens[i]);
	buf_append_str(body, STR("]}"));
	return finish(body);
}

enum db_err chat_body_add_u64(struct buf *body, const char *name, uint64_t value)
{
	enum db_err err = reopen(body);
	if (err)
		return err;
	buf_printf(body, "\"%s\":%llu", name, (unsigned long long)value);
	return finish(body);
}

enum db_err chat_resume_read(const json_val *body, struct arena *arena, struct chat_resume *out)
{
	const json_val *said = json_get(body, CHAT_RESUME_MEMBER), *list = json_get(said, "tokens");
	struct str print;
	*out = (struct chat_resume){0};
	if (!said)
		return DB_OK;
	if (!json_as_str(json_get(said, "print"), &print) || !read_print(print, &out->print) || json_type(list) != JSON_ARRAY ||
	    json_len(list) > CHAT_RESUME_TOKENS)
		return DB_E_INVALID;
	int32_t *tokens = arena_alloc(arena, (json_len(list) + 1) * sizeof *tokens);
	if (!tokens)
		return DB_E_NOMEM;
	struct json_iter each = json_iter(list);
	for (json_val *value; (value = json_next(&each, NULL));) {
		int64_t token;
		if (!json_as_i64(value, &token) || token < 0 || token > INT32_MAX)
			return DB_E_INVALID;
		tokens[out->count++] = (int32_t)token;
	}
	out->tokens = tokens;
	return DB_OK;
}
