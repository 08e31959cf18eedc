/* Public names of models on the server: kept in the database, changed by the operator and by canaries (routing/alias.h,
 * registry 3). Thread: the loop's. */
#ifndef COORDINATOR_ALIASES_H
#define COORDINATOR_ALIASES_H

#include "coordinator/fleet/fleet.h"
#include "coordinator/store/store.h"
#include "core/buf.h"
#include "core/json.h"

struct aliases;

/* Reads the kept aliases; done when they hold, or with the error that stops the start. NULL when out of memory. */
struct aliases *aliases_new(struct store *store, struct fleet *fleet, store_done_fn done, void *user);
void aliases_free(struct aliases *aliases); /* after store_close */

/* The body of POST /v1/admin/models/aliases; a change that holds is durable when done is called. DB_E_INVALID, DB_E_EXISTS,
 * DB_E_LIMIT, DB_E_NOMEM with a sentence: nothing changed and done is not called. */
enum db_err aliases_put(struct aliases *aliases, struct str body, store_done_fn done, void *user, struct error *error);
/* DB_E_NOT_FOUND: done is not called. */
enum db_err aliases_remove(struct aliases *aliases, struct str id, store_done_fn done, void *user);
/* A canary moved: what the table says of it now is kept. */
void aliases_keep(struct aliases *aliases, struct str id);

void aliases_write(const struct aliases *aliases, struct json_writer *w, const struct alias *alias, bool with_health);
enum db_err aliases_read_document(struct str document, struct alias *out); /* what aliases_write wrote; DB_E_INVALID */

#endif
