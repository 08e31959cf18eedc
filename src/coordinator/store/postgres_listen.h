/* What other coordinators tell through PostgreSQL (LISTEN), on a connection and a thread of its own. Inside store/ only. */
#ifndef COORDINATOR_STORE_POSTGRES_LISTEN_H
#define COORDINATOR_STORE_POSTGRES_LISTEN_H

#include "coordinator/store/store_leases.h"

struct postgres_listener;

/* On the listener's thread. instance: whom it is for; 0 = everybody. account_id is borrowed. */
typedef void (*postgres_news_fn)(enum store_news news, uint64_t instance, struct str account_id, void *user);

struct postgres_listener *postgres_listener_new(const char *address, postgres_news_fn tell, void *user, struct error *error);
void postgres_listener_run(struct postgres_listener *listener);  /* returns after a stop */
void postgres_listener_stop(struct postgres_listener *listener); /* any thread */
void postgres_listener_free(struct postgres_listener *listener);

/* "<instance>:<kind>:<account id>". False for anything else. */
bool postgres_news_read(struct str text, enum store_news *news, uint64_t *instance, struct str *account_id);

#endif
