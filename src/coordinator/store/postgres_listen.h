/* What other coordinators tell through PostgreSQL (LISTEN), on a connection and a thread of its own. Inside store/ only. */
#ifndef COORDINATOR_STORE_POSTGRES_LISTEN_H
#define COORDINATOR_STORE_POSTGRES_LISTEN_H

#include "coordinator/store/store_leases.h"

struct postgres_listener;

struct postgres_news {
	enum store_news news;
	uint64_t instance;     /* whom it is for; 0 = everybody */
	uint64_t question;     /* of STORE_NEWS_WANTED */
	struct str account_id; /* borrowed */
};
/* On the listener's thread. */
typedef void (*postgres_news_fn)(const struct postgres_news *news, void *user);

struct postgres_listener *postgres_listener_new(const char *address, postgres_news_fn tell, void *user, struct error *error);
void postgres_listener_run(struct postgres_listener *listener);  /* returns after a stop */
void postgres_listener_stop(struct postgres_listener *listener); /* any thread */
void postgres_listener_free(struct postgres_listener *listener);

/* "<instance>:<kind>:<account id>", the kind b, g, s, or w and the number of the question. False for anything else. */
bool postgres_news_read(struct str text, struct postgres_news *out);

#endif
