/* The books from the command line: entries, the chain of closes and the audit trail, read from the database itself. Each
 * returns an exit status of core/cli.h, having said on stderr what went wrong. A coordinator may run meanwhile. Thread: the
 * main one. */
#ifndef COORDINATOR_BOOKS_ADMIN_H
#define COORDINATOR_BOOKS_ADMIN_H

#include "coordinator/config.h"
#include "core/json.h"

struct books_export {
	const char *format;    /* "csv" or "jsonl"; NULL = jsonl */
	const char *from, *to; /* RFC 3339 or YYYY-MM-DD; NULL = open */
	const char *account;   /* NULL = all */
};
int books_export(const struct coordinator_config *config, const struct books_export *options);
/* The trail, newest rows last. verify_only: prints whether it is whole, and nothing else. */
int books_trail(const struct coordinator_config *config, int64_t limit, bool as_json, bool verify_only);
/* Adds what the chain of closes and the trail say to the JSON of `ledger verify`. False: they are broken, or unreadable. */
bool books_put_chain(const struct coordinator_config *config, struct json_writer *w);

#endif
