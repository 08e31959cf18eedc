/* JSON, over yyjson. This header is the only way the project reads or writes JSON.
 *
 * Reading: json_parse gives an immutable document. Values are borrowed from it. Accessors are strict: they answer false / NULL
 * on a wrong type, and integers must be written as integers (no fraction, no exponent: protocol-and-trust 14.5).
 * Writing: struct json_writer appends compact JSON to a struct buf. It never escapes '/', '<', '>', '&' or non-ASCII.
 * Thread: one document or writer at a time per thread. */
#ifndef CORE_JSON_H
#define CORE_JSON_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

#define JSON_MAX_DEPTH 128

struct json_doc;
struct yyjson_val; /* a value; borrowed from its document */
typedef struct yyjson_val json_val;

/* Parses one whole JSON text (no trailing bytes but white space). The document copies what it needs; `arena`, when given, is
 * where its memory comes from (json_free is then optional), otherwise the heap. Depth above JSON_MAX_DEPTH is refused.
 * Numbers too large for 64 bits are kept as text and written back unchanged. */
struct json_doc *json_parse(struct str text, struct arena *arena, struct error *error);
void json_free(struct json_doc *doc); /* wipes and frees; NULL allowed */
json_val *json_root(const struct json_doc *doc);

enum json_type { JSON_ABSENT, JSON_NULL, JSON_BOOL, JSON_INT, JSON_REAL, JSON_STRING, JSON_ARRAY, JSON_OBJECT };
enum json_type json_type(const json_val *val); /* NULL gives JSON_ABSENT; big numbers count as JSON_REAL */

/* Member of an object; NULL when val is not an object or has no such key. The last of duplicate keys wins. */
json_val *json_get(const json_val *val, const char *key);
/* Same, but an explicit null counts as absent (protocol-and-trust 1.2). */
json_val *json_get_some(const json_val *val, const char *key);

bool json_as_str(const json_val *val, struct str *out);
bool json_as_i64(const json_val *val, int64_t *out);
bool json_as_double(const json_val *val, double *out); /* integers too */
bool json_as_bool(const json_val *val, bool *out);

size_t json_len(const json_val *val); /* elements of an array or members of an object, else 0 */

json_val *json_at(const json_val *array, size_t index); /* by counting; NULL past the end */

struct json_iter {
	const json_val *container;
	json_val *cur;
	size_t left;
};
struct json_iter json_iter(const json_val *container); /* of an array or an object; empty for anything else */
/* Next element, NULL at the end. For objects *key (may be NULL) gets the member's name. */
json_val *json_next(struct json_iter *iter, struct str *key);

/* Byte range of a member's value exactly as it stood in the text (a string with its quotes), for signatures over raw bytes
 * (protocol-and-trust 5.2). Scans `text`, which json_parse has accepted, for the path of keys (NULL-terminated). DB_E_NOT_FOUND
 * if any key is missing, DB_E_INVALID if a key on the path is given twice. */
enum db_err json_raw_member(struct str text, const char *const path[], struct str *raw);

/* Members of an object in the text, as they stand there. Meant for text that json_parse accepted: syntax is not checked fully.
 * Keys come with their quotes and escapes: compare with json_raw_key_is. */
struct json_raw_iter {
	const char *at, *end;
	char separator; /* what must stand before the next member */
};
struct json_raw_iter json_raw_iter(struct str text);
/* DB_OK; DB_E_CLOSED at the end; DB_E_NOT_FOUND when text is no object; DB_E_INVALID when it is broken. */
enum db_err json_raw_next(struct json_raw_iter *iter, struct str *quoted_key, struct str *value);
/* Is the quoted JSON string the text `name`? Escapes count as what they stand for. */
bool json_raw_key_is(struct str quoted, const char *name);

/* --- writing --- */

struct json_writer {
	struct buf *out;
	unsigned depth;
	bool comma[JSON_MAX_DEPTH];
	bool after_key;
	bool escape_slash; /* write '/' as "\/" (protocol-and-trust 5.1) */
};

void json_writer_init(struct json_writer *w, struct buf *out);
void json_begin_object(struct json_writer *w);
void json_end_object(struct json_writer *w);
void json_begin_array(struct json_writer *w);
void json_end_array(struct json_writer *w);
void json_key(struct json_writer *w, const char *key);
void json_key_str(struct json_writer *w, struct str key);
void json_str(struct json_writer *w, struct str value);
void json_cstr(struct json_writer *w, const char *value); /* NULL writes null */
void json_i64(struct json_writer *w, int64_t value);
void json_u64(struct json_writer *w, uint64_t value);
void json_double(struct json_writer *w, double value); /* shortest form that reads back equal; not finite writes null */
void json_bool(struct json_writer *w, bool value);
void json_null(struct json_writer *w);
void json_raw(struct json_writer *w, struct str json);         /* trusted JSON text, written as it is */
void json_value(struct json_writer *w, const json_val *value); /* deep copy of a parsed value, compact */

/* Key and value in one call. */
void json_put_str(struct json_writer *w, const char *key, struct str value);
void json_put_cstr(struct json_writer *w, const char *key, const char *value);
void json_put_i64(struct json_writer *w, const char *key, int64_t value);
void json_put_double(struct json_writer *w, const char *key, double value);
void json_put_bool(struct json_writer *w, const char *key, bool value);
/* Errors (limit, memory) are sticky in the buffer: check out->failed once at the end. */

#endif
