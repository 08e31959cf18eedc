#include "coordinator/books_admin.h"

#include "coordinator/database.h"

#include <stdio.h>

#include "coordinator/money/entry_text.h"
#include "coordinator/store/store_trail.h"
#include "core/cli.h"
#include "core/clock.h"

/* --- export --- */

struct exporting {
	enum entry_format format;
	struct buf text;
};

static bool print_entry(const struct store_entry *entry, void *user)
{
	struct exporting *exporting = user;
	buf_clear(&exporting->text);
	entry_write(exporting->format, entry, &exporting->text);
	return fwrite(exporting->text.at, 1, exporting->text.len, stdout) == exporting->text.len;
}

/* A day stands for its first instant. */
static bool read_time(const char *text, int64_t *out)
{
	char whole[64];
	if (!text)
		return true;
	int n = snprintf(whole, sizeof whole, strlen(text) == 10 ? "%sT00:00:00Z" : "%s", text);
	if (n > 0 && (size_t)n < sizeof whole && !clock_parse_rfc3339(str_of(whole), out))
		return true;
	fprintf(stderr, "darkbloom-coordinator: %s is no time such as 2026-01-31 or 2026-01-31T12:00:00Z.\n", text);
	return false;
}

int books_export(const struct coordinator_config *config, const struct books_export *options)
{
	struct exporting exporting;
	struct store_entry_range range = {0};
	struct error error;
	if (!entry_format_of(str_of(options->format ? options->format : "jsonl"), &exporting.format)) {
		fprintf(stderr, "darkbloom-coordinator: the format is csv or jsonl.\n");
		return CLI_USAGE;
	}
	if (!read_time(options->from, &range.from_us) || !read_time(options->to, &range.to_us))
		return CLI_USAGE;
	if (options->account && !str_copy(str_of(options->account), range.account, sizeof range.account)) {
		fprintf(stderr, "darkbloom-coordinator: no account has so long a name.\n");
		return CLI_USAGE;
	}
	buf_init(&exporting.text, 65536);
	printf("%.*s", STR_ARG(entry_head(exporting.format)));
	enum db_err err = store_entries_each(database_place(config), &range, print_entry, &exporting, &error);
	buf_free(&exporting.text);
	if (err)
		fprintf(stderr, "darkbloom-coordinator: %s\n", error.text);
	else if (fflush(stdout) != 0 || ferror(stdout))
		fprintf(stderr, "darkbloom-coordinator: not everything could be written.\n");
	return err || ferror(stdout) ? CLI_FAILED : CLI_OK;
}

/* --- trail --- */

static void print_row(const struct store_trail_row *row, void *user)
{
	char when[CLOCK_RFC3339_SIZE];
	(void)user;
	clock_format_rfc3339(row->at_us, when);
	printf("%6lld  %s  %-28s  %-22s  %s  %s\n", (long long)row->id, when, row->actor, row->action, row->subject, row->details);
}

static void print_row_json(const struct store_trail_row *row, void *user)
{
	char when[CLOCK_RFC3339_SIZE];
	struct buf text;
	struct json_writer w;
	(void)user;
	clock_format_rfc3339(row->at_us, when);
	buf_init(&text, 65536);
	json_writer_init(&w, &text);
	json_begin_object(&w);
	json_put_i64(&w, "id", row->id);
	json_put_cstr(&w, "at", when);
	json_put_cstr(&w, "actor", row->actor);
	json_put_cstr(&w, "action", row->action);
	json_put_cstr(&w, "subject", row->subject);
	json_put_cstr(&w, "details", row->details);
	json_put_cstr(&w, "hash", row->hash);
	json_end_object(&w);
	printf("%.*s\n", STR_ARG(buf_str(&text)));
	buf_free(&text);
}

int books_trail(const struct coordinator_config *config, int64_t limit, bool as_json, bool verify_only)
{
	struct store_trail trail;
	struct error error;
	enum db_err err = store_trail_read(database_place(config), limit,
	                                   verify_only ? NULL
	                                   : as_json   ? print_row_json
	                                               : print_row,
	                                   NULL, &trail, &error);
	if (err) {
		fprintf(stderr, "darkbloom-coordinator: %s\n", error.text);
		return CLI_FAILED;
	}
	if (trail.broken) {
		fprintf(stderr, "darkbloom-coordinator: row %lld of the audit trail, or one before it, was altered or removed.\n",
		        (long long)trail.broken);
		return CLI_FAILED;
	}
	if (verify_only)
		printf("The audit trail is whole: %lld rows, the last hash is %s.\n", (long long)trail.rows, trail.head);
	return CLI_OK;
}

/* --- ledger verify --- */

bool books_put_chain(const struct coordinator_config *config, struct json_writer *w)
{
	struct store_chain chain;
	struct store_trail trail;
	struct error error;
	bool read = store_chain_verify(database_place(config), &chain, &error) == DB_OK &&
	            store_trail_read(database_place(config), 0, NULL, NULL, &trail, &error) == DB_OK;
	if (!read) {
		json_put_cstr(w, "why", error.text);
		return false;
	}
	json_put_i64(w, "closes", chain.closes);
	json_put_i64(w, "closed_entries", chain.covered_entries);
	json_put_i64(w, "open_entries", chain.open_entries);
	json_put_i64(w, "broken_close", chain.broken);
	if (chain.broken)
		json_put_cstr(w, "why", chain.why);
	json_put_cstr(w, "chain_head", chain.head);
	json_put_i64(w, "audit_rows", trail.rows);
	json_put_i64(w, "broken_audit_row", trail.broken);
	json_put_cstr(w, "audit_head", trail.head);
	return !chain.broken && !trail.broken;
}
