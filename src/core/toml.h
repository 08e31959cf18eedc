/* Strict TOML 1.0 reader for configuration files. Thread: one at a time. */
#ifndef CORE_TOML_H
#define CORE_TOML_H

#include "core/arena.h"
#include "core/error.h"
#include "core/str.h"

enum toml_type { TOML_STRING, TOML_INT, TOML_FLOAT, TOML_BOOL, TOML_DATETIME, TOML_ARRAY, TOML_TABLE };

struct toml_value {
	enum toml_type type;
	int line;       /* where it stands, from 1 */
	struct str key; /* empty for array elements and the root */
	union {
		struct str string; /* also the text of a date-time */
		int64_t integer;
		double real;
		bool boolean;
	} as;
	struct toml_value *first, *next; /* children of arrays and tables, in file order */
};

/* The root table, allocated in `arena` (the text is copied), or NULL with error saying "line N: ...". */
struct toml_value *toml_parse(struct str text, struct arena *arena, struct error *error);
/* Direct child of a table by key, or NULL. */
struct toml_value *toml_get(const struct toml_value *table, struct str key);

#endif
