/* Public names of models: a document each that only its reader understands (coordinator/aliases.h). The rules of store.h hold:
 * callbacks on the loop thread, borrowed until they return, error NULL when all went well. */
#ifndef COORDINATOR_STORE_ALIASES_H
#define COORDINATOR_STORE_ALIASES_H

#include "coordinator/store/store.h"

#define STORE_ALIAS_ID_SIZE  160
#define STORE_ALIAS_DOC_SIZE 8192

struct store_alias {
	char id[STORE_ALIAS_ID_SIZE];
	char document[STORE_ALIAS_DOC_SIZE];
};
/* Made or replaced. DB_E_LIMIT at once, and done is not called, when one of the texts is too long. done may be NULL. */
enum db_err store_alias_save(struct store *store, struct str id, struct str document, store_done_fn done, void *user);
void store_alias_remove(struct store *store, struct str id, store_done_fn done, void *user); /* also when there is none */
typedef void (*store_aliases_fn)(const struct store_alias *rows, size_t count, const struct error *error, void *user);
void store_aliases_list(struct store *store, store_aliases_fn done, void *user); /* all, by id */

#endif
