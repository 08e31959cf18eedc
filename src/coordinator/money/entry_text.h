/* Ledger entries as text for other programs: CSV (RFC 4180) and JSON lines. Pure; thread: any. */
#ifndef COORDINATOR_ENTRY_TEXT_H
#define COORDINATOR_ENTRY_TEXT_H

#include "coordinator/store/store_books.h"
#include "core/buf.h"

enum entry_format { ENTRY_CSV, ENTRY_JSON };

/* "csv" or "jsonl". */
bool entry_format_of(struct str name, enum entry_format *out);
const char *entry_content_type(enum entry_format format);
struct str entry_head(enum entry_format format); /* CSV's first line; empty for JSON lines */
void entry_write(enum entry_format format, const struct store_entry *entry, struct buf *out);

#endif
