/* Digests and rows of closes. Inside store/ only; thread: the writer's or a reader's. */
#ifndef COORDINATOR_STORE_BOOKS_SQL_H
#define COORDINATOR_STORE_BOOKS_SQL_H

#include "coordinator/store/sql.h"
#include "coordinator/store/store_books.h"
#include "crypto/hash.h"

/* Fills the counts and both digests of the entries first..last. */
void books_digest(struct sql *db, int64_t first, int64_t last, struct store_close *out);
/* Computes close->hash from everything else in it. */
void books_seal(struct store_close *close);
/* The newest close. False when there is none: then hash is that before the first one. */
bool books_last(struct sql *db, struct store_close *out);
/* The close that would come next. False when there is nothing to close, or the database failed. */
bool books_prepare(struct sql *db, int64_t now_us, struct store_close *out);
/* False when this number was taken meanwhile, or the database failed. */
bool books_insert(struct sql *db, const struct store_close *close);

#endif
