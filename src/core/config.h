/* Typed configuration: a table of fields describes a struct; values come from defaults, then a strict TOML file, then the
 * environment. The same table prints --help, checks docs/operator/configuration.md and refuses unknown keys.
 * Strings set here live in the arena given. Thread: start-up only. */
#ifndef CORE_CONFIG_H
#define CORE_CONFIG_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

enum config_type {
	CONFIG_STRING,  /* const char * */
	CONFIG_INT,     /* int64_t, between min and max */
	CONFIG_BOOL,    /* bool */
	CONFIG_ENUM,    /* int: index into `choices` */
	CONFIG_STRINGS, /* struct config_strings; comma-separated in the environment */
};

struct config_strings {
	const char **at;
	size_t count;
};

struct config_field {
	const char *name; /* "section.key" as in the file */
	const char *env;  /* environment variable that overrides it, or NULL */
	enum config_type type;
	size_t offset;              /* offsetof the member in the target struct */
	const char *fallback;       /* default, as text in the environment's form */
	int64_t min, max;           /* CONFIG_INT */
	const char *const *choices; /* CONFIG_ENUM: NULL-terminated names */
	const char *help;           /* one sentence */
	bool secret;                /* never printed */
};

/* Fills *target from defaults, `path` (NULL = no file; a missing file is an error when given) and the environment, where an
 * empty variable counts as not set. Members without a default keep what they held. Refuses with a sentence that names file and
 * line, or the variable: DB_E_INVALID, DB_E_RANGE (numbers), DB_E_LIMIT (file above 1 MiB), DB_E_NOT_FOUND, DB_E_IO,
 * DB_E_NOMEM. */
enum db_err config_load(const struct config_field *fields, size_t count, void *target, const char *path, struct arena *arena,
                        struct error *error);
/* Appends a Markdown reference of the fields: the body of docs/operator/configuration.md. */
void config_document(const struct config_field *fields, size_t count, struct buf *out);

#endif
