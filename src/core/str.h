/* Borrowed byte slices. A struct str owns nothing; whoever made the bytes says how long they live. Not NUL-terminated. */
#ifndef CORE_STR_H
#define CORE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
	const char *at; /* may be NULL when len is 0 */
	size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_NONE     ((struct str){NULL, 0})
/* For printf("%.*s", STR_ARG(s)). */
#define STR_ARG(s) ((int)((s).len > 0x7fffffff ? 0x7fffffff : (s).len)), ((s).at ? (s).at : "")

static inline struct str str_of(const char *text)
{
	return (struct str){text, text ? strlen(text) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool str_is(struct str a, const char *text)
{
	return str_eq(a, str_of(text));
}

bool str_eq_nocase(struct str a, struct str b); /* ASCII only */
bool str_starts(struct str text, struct str prefix);
bool str_ends(struct str text, struct str suffix);
bool str_contains_nocase(struct str text, struct str needle); /* ASCII only */
struct str str_trim(struct str text);                         /* strips ASCII white space on both sides */
struct str str_sub(struct str text, size_t from, size_t len); /* clamped to the text */

/* Splits at the first `separator`: *head is what stands before, the return value what stands after. Without a separator
 * *head is the whole text and the result is empty with at == NULL. */
struct str str_cut(struct str text, char separator, struct str *head);

/* Whole-text decimal integers, no sign for u64, no spaces, no overflow. Return false otherwise and leave *out alone. */
bool str_to_u64(struct str text, uint64_t *out);
bool str_to_i64(struct str text, int64_t *out);
bool str_to_double(struct str text, double *out); /* finite values only */

/* Copies into a NUL-terminated array of `size` bytes. Returns false, and writes "", when it does not fit. */
bool str_copy(struct str text, char *out, size_t size);

#endif
