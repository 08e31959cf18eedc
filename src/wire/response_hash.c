#include "wire/response_hash.h"

#include "core/encode.h"

#include "wire/codec.h"

#include <stdio.h>
#include <stdlib.h>

#define TOOL_CALL_MAX ((size_t)4 << 20)

void response_hash_init(struct response_hash *hash, size_t max_bytes)
{
	buf_init(&hash->text, max_bytes);
}

void response_hash_free(struct response_hash *hash)
{
	buf_free(&hash->text);
}

void response_hash_add(struct response_hash *hash, struct str content, struct str reasoning)
{
	buf_append_str(&hash->text, content);
	buf_append_str(&hash->text, reasoning);
}

/* --- JSON with sorted keys --- */

struct member {
	struct str key;
	const json_val *value;
};

static int compare_members(const void *a, const void *b)
{
	const struct member *x = a, *y = b;
	int order = wire_order(x->key, y->key);
	return order ? order : (x->value > y->value) - (x->value < y->value);
}

static void write_sorted(struct json_writer *w, const json_val *value);

/* Of equal keys the last given wins; values of one document lie in the order in which they were given. */
static void write_sorted_object(struct json_writer *w, const json_val *object)
{
	size_t count = 0;
	struct member *members = calloc(json_len(object) + 1, sizeof *members);
	if (!members) {
		w->out->failed = true;
		return;
	}
	struct json_iter it = json_iter(object);
	struct str key;
	for (json_val *value; (value = json_next(&it, &key));)
		members[count++] = (struct member){key, value};
	qsort(members, count, sizeof *members, compare_members);
	json_begin_object(w);
	for (size_t i = 0; i < count; i++) {
		if (i + 1 < count && str_eq(members[i].key, members[i + 1].key))
			continue;
		json_key_str(w, members[i].key);
		write_sorted(w, members[i].value);
	}
	json_end_object(w);
	free(members);
}

/* Recursion is bounded: json_parse refuses what is deeper than JSON_MAX_DEPTH. */
static void write_sorted(struct json_writer *w, const json_val *value)
{
	if (json_type(value) == JSON_OBJECT) {
		write_sorted_object(w, value);
		return;
	}
	if (json_type(value) != JSON_ARRAY) {
		json_value(w, value);
		return;
	}
	json_begin_array(w);
	struct json_iter it = json_iter(value);
	for (json_val *element; (element = json_next(&it, NULL));)
		write_sorted(w, element);
	json_end_array(w);
}

static void add_tool_call(struct response_hash *hash, const json_val *call)
{
	struct json_writer w;
	json_writer_init(&w, &hash->text);
	buf_append_str(&hash->text, STR("\x1ftool_call:"));
	write_sorted(&w, call);
	buf_append_byte(&hash->text, '\x1f');
}

enum db_err response_hash_add_tool_call(struct response_hash *hash, struct str json)
{
	struct json_doc *doc = json_parse(json, NULL, NULL);
	if (!doc)
		return DB_E_INVALID;
	add_tool_call(hash, json_root(doc));
	json_free(doc);
	return DB_OK;
}

/* --- whole frames --- */

static void add_texts(struct response_hash *hash, const json_val *choices, const char *key)
{
	struct json_iter it = json_iter(choices);
	for (json_val *choice; (choice = json_next(&it, NULL));) {
		struct str text;
		if (json_as_str(json_get(json_get(choice, "delta"), key), &text))
			buf_append_str(&hash->text, text);
	}
}

static void add_tool_calls(struct response_hash *hash, const json_val *choices)
{
	struct json_iter it = json_iter(choices);
	for (json_val *choice; (choice = json_next(&it, NULL));) {
		struct json_iter calls = json_iter(json_get(json_get(choice, "delta"), "tool_calls"));
		for (json_val *call; (call = json_next(&calls, NULL));)
			add_tool_call(hash, call);
	}
}

void response_hash_add_tool_calls(struct response_hash *hash, struct str json_array)
{
	struct json_doc *doc = json_array.len ? json_parse(json_array, NULL, NULL) : NULL;
	struct json_iter each = json_iter(doc ? json_root(doc) : NULL);
	for (json_val *call; (call = json_next(&each, NULL));) {
		struct json_writer writer;
		struct buf text;
		buf_init(&text, TOOL_CALL_MAX);
		json_writer_init(&writer, &text);
		json_value(&writer, call);
		(void)response_hash_add_tool_call(hash, buf_str(&text));
		buf_free(&text);
	}
	json_free(doc);
}

void response_hash_add_frame(struct response_hash *hash, const json_val *frame)
{
	const json_val *choices = json_get(frame, "choices");
	add_texts(hash, choices, "content");
	add_texts(hash, choices, "reasoning_content");
	add_tool_calls(hash, choices);
}

/* --- the result --- */

enum db_err response_hash_final(const struct response_hash *hash, struct str request_id, int64_t completion_tokens,
                                char hex[SHA256_HEX_SIZE])
{
	char count[32];
	uint8_t digest[SHA256_BYTES];
	struct sha256_state state;
	if (hash->text.failed)
		return DB_E_LIMIT;
	int count_len = snprintf(count, sizeof count, ":%lld:", (long long)completion_tokens);
	sha256_begin(&state);
	sha256_update(&state, request_id.at, request_id.len);
	sha256_update(&state, count, (size_t)count_len);
	sha256_update(&state, hash->text.at, hash->text.len);
	sha256_end(&state, digest);
	hex_encode(digest, sizeof digest, hex);
	return DB_OK;
}

enum db_err response_hash_sign(const char hex[SHA256_HEX_SIZE], const struct wire_signer *signer, struct buf *signature)
{
	return signer->sign(signer->context, (struct str){hex, SHA256_HEX_SIZE - 1}, signature);
}
