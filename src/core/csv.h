/* One field of comma-separated values (RFC 4180). Thread: any. */
#ifndef CORE_CSV_H
#define CORE_CSV_H

#include "core/buf.h"

/* In quotes when it needs them. A field that a spreadsheet would take for a formula gets an apostrophe in front. */
void csv_field(struct buf *out, struct str text);

#endif
