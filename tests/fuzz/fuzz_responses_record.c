/* Any bytes as kept records of answers, and as the body that names one: what is no record is refused, and what is one gives
 * JSON whose parts fit together. The first byte says how the rest is listed. */
#include <stdlib.h>

#include "api/responses.h"
#include "core/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int fact)
{
	if (!fact)
		abort();
}

static struct json_doc *json_of(const struct buf *text)
{
	struct error why;
	struct json_doc *doc = json_parse(buf_str(text), NULL, &why);
	check(doc != NULL || why.code == DB_E_NOMEM);
	return doc;
}

static size_t items_of(struct str record)
{
	struct str twice[2] = {record, record};
	struct buf one, both;
	buf_init(&one, 64u << 20);
	buf_init(&both, 64u << 20);
	enum db_err err = responses_history(twice, 1, &one);
	check(responses_history(twice, 2, &both) == err);
	size_t count = 0;
	if (!err) {
		struct json_doc *single = json_of(&one), *pair = json_of(&both);
		count = json_len(json_root(single));
		check(json_type(json_root(single)) == JSON_ARRAY && json_len(json_root(pair)) == 2 * count);
		json_free(single);
		json_free(pair);
	}
	buf_free(&one);
	buf_free(&both);
	return count;
}

/* Every item of the input stands on exactly one page. */
static void list(struct str record, uint8_t how)
{
	struct responses_page page = {.limit = 1u + how % 100, .ascending = how % 2};
	struct buf out;
	buf_init(&out, 64u << 20);
	if (responses_record_items(record, &page, &out) == DB_OK) {
		struct json_doc *doc = json_of(&out);
		bool more = false;
		check(json_len(json_get(json_root(doc), "data")) <= page.limit);
		check(json_as_bool(json_get(json_root(doc), "has_more"), &more));
		check(!more || json_len(json_get(json_root(doc), "data")) == page.limit);
		json_free(doc);
	}
	buf_clear(&out);
	page.after = STR("msg_x_in0");
	enum db_err err = responses_record_items(record, &page, &out);
	check(err == DB_OK || err == DB_E_NOT_FOUND || err == DB_E_INVALID || err == DB_E_LIMIT);
	buf_free(&out);
}

static void show(struct str record, size_t items)
{
	struct buf out;
	buf_init(&out, 64u << 20);
	if (responses_record_object(record, &out) == DB_OK) {
		struct json_doc *doc = json_of(&out);
		check(json_type(json_root(doc)) == JSON_OBJECT);
		check(json_len(json_get(json_root(doc), "output")) <= items ||
		      json_type(json_get(json_root(doc), "output")) != JSON_ARRAY);
		json_free(doc);
	} else {
		check(items == 0);
	}
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	struct str text = {(const char *)data + 1, size - 1}, id;
	struct arena *arena = arena_new(0);
	char made[RESPONSES_ID_BYTES];
	responses_previous(text, arena, &id);
	check(id.len < text.len || id.len == 0);
	char *job = arena ? arena_alloc(arena, size) : NULL;
	if (job) {
		memcpy(job, text.at, text.len);
		responses_id(job, made);
		check(strlen(made) < sizeof made && !strchr(made + 5, '-'));
	}
	show(text, items_of(text));
	list(text, data[0]);
	arena_free(arena);
	return 0;
}
