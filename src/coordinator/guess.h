/* Guards the codes that people type against guessing, by account and by address. Thread: the loop's. */
#ifndef COORDINATOR_GUESS_H
#define COORDINATOR_GUESS_H

#include "net/http_server.h"

struct server;

/* Milliseconds to wait first; 0: go on, and the try counts as wrong until guess_was_right. */
uint32_t guess_begin(struct server *server, const struct http_request *http, struct str account_id);
void guess_was_right(struct server *server, const struct http_request *http, struct str account_id);

#endif
