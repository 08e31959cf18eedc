#include "core/json_internal.h"
#include "core/wipe.h"

#include <math.h>
#include <stdlib.h>

/* What a document is: yyjson's own, made by our allocators. */
struct json_doc {
	yyjson_doc inner;
};

/* --- memory: the arena wipes when it is freed; on the heap each block carries its size so that it can be wiped --- */

static void *arena_take(void *arena, size_t size)
{
	return arena_alloc(arena, size);
}

static void *arena_resize(void *arena, void *at, size_t old_size, size_t size)
{
	if (size <= old_size)
		return at;
	void *moved = arena_alloc(arena, size);
	if (moved)
		memcpy(moved, at, old_size);
	return moved;
}

static void arena_keep(void *arena, void *at)
{
	(void)arena;
	(void)at;
}

union heap_block {
	size_t size;
	max_align_t align;
};

static void *heap_take(void *none, size_t size)
{
	(void)none;
	if (size > SIZE_MAX - sizeof(union heap_block))
		return NULL;
	union heap_block *block = malloc(sizeof *block + size);
	if (!block)
		return NULL;
	block->size = size;
	return block + 1;
}

static void heap_give_back(void *none, void *at)
{
	(void)none;
	if (!at)
		return;
	union heap_block *block = (union heap_block *)at - 1;
	wipe(at, block->size);
	free(block);
}

static void *heap_resize(void *none, void *at, size_t old_size, size_t size)
{
	void *moved = heap_take(none, size);
	if (!moved)
		return NULL;
	memcpy(moved, at, old_size < size ? old_size : size);
	heap_give_back(none, at);
	return moved;
}

/* --- parsing --- */

#define EVERY_BYTE(b) (UINT64_C(0x0101010101010101) * (b))

/* '{' and '[' differ in the bit 0x20 only. Eight bytes at a time: this runs over every text. */
static size_t count_openings(struct str text)
{
	size_t count = 0, at = 0;
	for (; at + 8 <= text.len; at += 8) {
		uint64_t word;
		memcpy(&word, text.at + at, sizeof word);
		uint64_t other = (word | EVERY_BYTE(0x20)) ^ EVERY_BYTE('{');
		uint64_t carried = ((other & EVERY_BYTE(0x7f)) + EVERY_BYTE(0x7f)) | other;
		count += (size_t)(((~carried & EVERY_BYTE(0x80)) >> 7) * EVERY_BYTE(1) >> 56);
	}
	for (; at < text.len; at++)
		count += (text.at[at] | 0x20) == '{';
	return count;
}

/* yyjson does not recurse and has no limit of its own, but everything that walks a document later does. */
static bool too_deep(struct str text)
{
	if (count_openings(text) <= JSON_MAX_DEPTH)
		return false;
	size_t depth = 0;
	bool in_string = false;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.at[i];
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '[' || c == '{') {
			if (++depth > JSON_MAX_DEPTH)
				return true;
		} else if ((c == ']' || c == '}') && depth > 0) {
			depth--;
		}
	}
	return false;
}

struct json_doc *json_parse(struct str text, struct arena *arena, struct error *error)
{
	if (text.len == 0) {
		error_set(error, DB_E_INVALID, "The JSON text is empty.");
		return NULL;
	}
	if (too_deep(text)) {
		error_set(error, DB_E_LIMIT, "The JSON text is nested deeper than %d levels.", JSON_MAX_DEPTH);
		return NULL;
	}
	yyjson_alc alc = arena ? (yyjson_alc){arena_take, arena_resize, arena_keep, arena}
	                       : (yyjson_alc){heap_take, heap_resize, heap_give_back, NULL};
	yyjson_read_err why;
	/* Without the in-situ flag yyjson copies the text before it looks at it; its parameter is not const for that flag only. */
	yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)text.at, text.len, YYJSON_READ_BIGNUM_AS_RAW, &alc, &why);
	if (doc)
		return (struct json_doc *)doc;
	if (why.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION)
		error_set(error, DB_E_NOMEM, "There is not enough memory for a JSON text of %zu bytes.", text.len);
	else
		error_set(error, DB_E_INVALID, "The text is not valid JSON at byte %zu: %s.", why.pos, why.msg);
	return NULL;
}

void json_free(struct json_doc *doc)
{
	if (doc)
		yyjson_doc_free(&doc->inner);
}

json_val *json_root(const struct json_doc *doc)
{
	return doc ? doc->inner.root : NULL;
}

/* --- values --- */

enum json_type json_type(const json_val *val)
{
	if (!val)
		return JSON_ABSENT;
	switch (unsafe_yyjson_get_type((void *)(uintptr_t)val)) {
	case YYJSON_TYPE_NULL:
		return JSON_NULL;
	case YYJSON_TYPE_BOOL:
		return JSON_BOOL;
	case YYJSON_TYPE_NUM:
		return unsafe_yyjson_is_real((void *)(uintptr_t)val) ? JSON_REAL : JSON_INT;
	case YYJSON_TYPE_RAW:
		return JSON_REAL;
	case YYJSON_TYPE_STR:
		return JSON_STRING;
	case YYJSON_TYPE_ARR:
		return JSON_ARRAY;
	case YYJSON_TYPE_OBJ:
		return JSON_OBJECT;
	default:
		return JSON_ABSENT;
	}
}

struct str json_text_of(const json_val *val)
{
	return (struct str){val->uni.str, (size_t)(val->tag >> YYJSON_TAG_BIT)};
}

/* A message is read by many look-ups, so this walks yyjson's own layout: each key is followed by its value. */
json_val *json_get(const json_val *val, const char *key)
{
	json_val *found = NULL;
	size_t len = strlen(key), left = json_type(val) == JSON_OBJECT ? json_len(val) : 0;
	yyjson_val *name = left > 0 ? unsafe_yyjson_get_first((void *)(uintptr_t)val) : NULL;
	for (; left > 0; left--) {
		struct str text = json_text_of(name);
		if (text.len == len && memcmp(text.at, key, len) == 0)
			found = name + 1;
		name = unsafe_yyjson_get_next(name + 1);
	}
	return found;
}

json_val *json_get_some(const json_val *val, const char *key)
{
	json_val *found = json_get(val, key);
	return json_type(found) == JSON_NULL ? NULL : found;
}

bool json_as_str(const json_val *val, struct str *out)
{
	if (json_type(val) != JSON_STRING)
		return false;
	*out = json_text_of(val);
	return true;
}

bool json_as_i64(const json_val *val, int64_t *out)
{
	if (json_type(val) != JSON_INT)
		return false;
	if (val->tag == (YYJSON_TYPE_NUM | YYJSON_SUBTYPE_UINT) && val->uni.u64 > INT64_MAX)
		return false;
	*out = val->uni.i64;
	return true;
}

bool json_as_double(const json_val *val, double *out)
{
	if (json_type(val) != JSON_INT && json_type(val) != JSON_REAL)
		return false;
	if (unsafe_yyjson_get_type((void *)(uintptr_t)val) == YYJSON_TYPE_RAW)
		return str_to_double(json_text_of(val), out);
	*out = unsafe_yyjson_get_num((void *)(uintptr_t)val);
	return true;
}

bool json_as_bool(const json_val *val, bool *out)
{
	if (json_type(val) != JSON_BOOL)
		return false;
	*out = unsafe_yyjson_get_bool((void *)(uintptr_t)val);
	return true;
}

size_t json_len(const json_val *val)
{
	enum json_type type = json_type(val);
	return type == JSON_ARRAY || type == JSON_OBJECT ? unsafe_yyjson_get_len((void *)(uintptr_t)val) : 0;
}

json_val *json_at(const json_val *array, size_t index)
{
	struct json_iter iter = json_iter(json_type(array) == JSON_ARRAY ? array : NULL);
	json_val *value = json_next(&iter, NULL);
	while (value && index-- > 0)
		value = json_next(&iter, NULL);
	return value;
}

struct json_iter json_iter(const json_val *container)
{
	struct json_iter iter = {.container = container, .left = json_len(container)};
	if (iter.left > 0)
		iter.cur = unsafe_yyjson_get_first((void *)(uintptr_t)container);
	return iter;
}

json_val *json_next(struct json_iter *iter, struct str *key)
{
	if (key)
		*key = STR_NONE;
	if (iter->left == 0)
		return NULL;
	json_val *value = iter->cur;
	if (json_type(iter->container) == JSON_OBJECT) {
		if (key)
			*key = json_text_of(iter->cur);
		value = iter->cur + 1; /* yyjson keeps a member's value right behind its key */
	}
	iter->left--;
	iter->cur = iter->left > 0 ? unsafe_yyjson_get_next(value) : NULL;
	return value;
}
