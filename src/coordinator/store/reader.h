/* Answers queries on a connection of its own. Inside store/ only; thread: the reader's. */
#ifndef COORDINATOR_STORE_READER_H
#define COORDINATOR_STORE_READER_H

#include "coordinator/store/op.h"

struct reader;

struct reader *reader_open(const char *path, struct error *error);
void reader_close(struct reader *reader);
/* Fills the operation's answer, or its error. */
void reader_query(struct reader *reader, struct store_op *op);

#endif
