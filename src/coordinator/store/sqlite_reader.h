/* Answers queries from the SQLite file on its own connection. Inside store/ only; thread: the reader's. */
#ifndef COORDINATOR_STORE_SQLITE_READER_H
#define COORDINATOR_STORE_SQLITE_READER_H

#include "coordinator/store/op.h"

struct sqlite_reader;

struct sqlite_reader *sqlite_reader_open(const char *path, struct error *error);
void sqlite_reader_close(struct sqlite_reader *reader);
/* Fills the operation's answer, or its error. */
void sqlite_reader_query(struct sqlite_reader *reader, struct store_op *op);

#endif
