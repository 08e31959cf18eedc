/* Shared by the files of the TOML reader; not for anyone else. */
#ifndef CORE_TOML_INTERNAL_H
#define CORE_TOML_INTERNAL_H

#include "core/toml.h"

#define TOML_MAX_NESTING 64 /* arrays and inline tables inside each other: the reader recurses on these only */

struct toml_parser {
	const char *at, *end;
	int line;
	int nesting;
	struct arena *arena;
	struct error *error;
};

/* Reports "line N: ..." and returns false. */
bool toml_fail(struct toml_parser *p, enum db_err code, const char *format, ...) __attribute__((format(printf, 3, 4)));

static inline bool toml_at_end(const struct toml_parser *p)
{
	return p->at == p->end;
}

static inline char toml_peek(const struct toml_parser *p)
{
	return p->at < p->end ? *p->at : '\0'; /* NUL is in no grammar rule */
}

static inline bool toml_looking_at(const struct toml_parser *p, struct str text)
{
	return str_starts((struct str){p->at, (size_t)(p->end - p->at)}, text);
}

static inline bool toml_accept(struct toml_parser *p, char c)
{
	if (toml_at_end(p) || *p->at != c)
		return false;
	p->at++;
	return true;
}

/* Takes LF or CRLF and counts the line. */
bool toml_accept_newline(struct toml_parser *p);

/* A quoted string of any of the four kinds; p->at stands on the opening quote. `multiline` allows the triple-quoted kinds. */
bool toml_read_string(struct toml_parser *p, bool multiline, struct str *out);
/* Boolean, number or date-time. */
bool toml_read_scalar(struct toml_parser *p, struct toml_value *out);

#endif
