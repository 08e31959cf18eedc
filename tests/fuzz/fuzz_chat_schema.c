/* Schemas of answers: uniting their parts gives JSON or a reason, checking and judging them ends, and grammars of bounds are
 * made of any text. Input: a JSON schema; where it has a "minimum" or "maximum" that is a text, that is a bound too. */
#include <stdlib.h>

#include "provider/engine/chat_schema.h"
#include "provider/engine/chat_schema_merge.h"
#include "provider/engine/chat_schema_unfold.h"
#include "provider/engine/number_grammar.h"

#define OUT_MAX ((size_t)4 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

/* Refused with a reason, or JSON. */
static void unite(const json_val *schema)
{
	struct buf out;
	struct error error = {0};
	if (chat_schema_unfolds("here", schema, false, &error)) {
		must(error.text[0]);
		return;
	}
	buf_init(&out, OUT_MAX);
	enum db_err err = chat_schema_merge("here", schema, &out, &error);
	if (!err) {
		struct json_doc *doc = json_parse(buf_str(&out), NULL, NULL);
		must(doc != NULL);
		(void)chat_schema_check("here", json_root(doc), out.len % 2 == 0, &error);
		(void)chat_schema_holds(json_root(doc), schema);
		json_free(doc);
	}
	must(!err || error.text[0]);
	buf_free(&out);
}

static void bound(const json_val *schema)
{
	struct str least = STR_NONE, most = STR_NONE;
	struct arena *arena = arena_new(0);
	struct buf out;
	buf_init(&out, OUT_MAX);
	json_as_str(json_get(schema, "minimum"), &least);
	json_as_str(json_get(schema, "maximum"), &most);
	struct number_bound from = {least.len ? arena_cstr(arena, least) : NULL, least.len % 2 == 1},
	                    to = {most.len ? arena_cstr(arena, most) : NULL, false};
	enum db_err err = number_grammar(&from, &to, least.len % 3 == 1, &out);
	must(err || (out.len > 4 && out.at[0] == '(' && out.at[out.len - 1] == ')'));
	buf_free(&out);
	arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct json_doc *doc = json_parse((struct str){(const char *)data, size}, NULL, NULL);
	if (!doc)
		return 0;
	unite(json_root(doc));
	bound(json_root(doc));
	json_free(doc);
	return 0;
}
