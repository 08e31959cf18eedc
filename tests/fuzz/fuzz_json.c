/* Any bytes as JSON text: what parses is written compact, parses again, and is then written the same. Any bytes as a string
 * value are written so that they parse. A raw member of a valid text is the value that the parser finds. */
#include <stdlib.h>

#include "core/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void write_value(const json_val *value, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_value(&w, value);
}

static void check_rewriting(const json_val *value, struct arena *arena)
{
	struct buf first, second;
	buf_init(&first, SIZE_MAX);
	buf_init(&second, SIZE_MAX);
	write_value(value, &first);
	check(!first.failed);
	struct json_doc *again = json_parse(buf_str(&first), arena, NULL);
	check(again != NULL);
	write_value(json_root(again), &second);
	check(str_eq(buf_str(&first), buf_str(&second)));
	buf_free(&first);
	buf_free(&second);
}

static void check_raw_member(struct str text, const json_val *root)
{
	struct str raw;
	enum db_err err = json_raw_member(text, (const char *const[]){"a", NULL}, &raw);
	const json_val *found = json_get(root, "a");
	check((err == DB_E_NOT_FOUND) == (found == NULL));
	if (err)
		return;
	struct json_doc *alone = json_parse(raw, NULL, NULL);
	struct buf ours, theirs;
	check(alone != NULL);
	buf_init(&ours, SIZE_MAX);
	buf_init(&theirs, SIZE_MAX);
	write_value(json_root(alone), &ours);
	write_value(found, &theirs);
	check(str_eq(buf_str(&ours), buf_str(&theirs)));
	buf_free(&ours);
	buf_free(&theirs);
	json_free(alone);
}

static void check_string(struct str text)
{
	struct json_writer w;
	struct buf out;
	struct str back;
	buf_init(&out, SIZE_MAX);
	json_writer_init(&w, &out);
	w.escape_slash = text.len % 2;
	json_str(&w, text);
	struct json_doc *doc = json_parse(buf_str(&out), NULL, NULL);
	check(json_as_str(json_root(doc), &back));
	json_free(doc);
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {(const char *)data, size}, raw;
	struct arena *arena = arena_new(0);
	struct json_doc *doc = json_parse(text, arena, NULL), *on_heap = json_parse(text, NULL, NULL);
	check((doc == NULL) == (on_heap == NULL));
	if (doc) {
		check_rewriting(json_root(doc), arena);
		check_raw_member(text, json_root(doc));
	} else {
		(void)json_raw_member(text, (const char *const[]){"a", "b", NULL}, &raw);
	}
	check_string(text);
	json_free(on_heap);
	arena_free(arena);
	return 0;
}
