/* What state_export made, on a new host: the archive is read and checked whole before anything is put in place. Blocks: a
 * command's only thread. */
#ifndef COORDINATOR_STATE_IMPORT_H
#define COORDINATOR_STATE_IMPORT_H

#include "coordinator/config.h"
#include "core/str.h"

struct state_import;

/* The archive in the clear, as a stream; the copy of the database goes to `data_dir`/state-copy. NULL with a sentence. */
struct state_import *state_import_new(const char *data_dir, struct error *error);
enum db_err state_import_read(struct state_import *import, struct str bytes, struct error *error);
/* Every file of the manifest came, with its hash. */
enum db_err state_import_check(struct state_import *import, struct error *error);
size_t state_import_files(const struct state_import *import);
const char *
state_import_kid(const struct state_import *import); /* of the exporting coordinator's sealed transport; may be "" */
/* After state_import_check: keys and database take their places, which must be empty (DB_E_EXISTS). From then on a coordinator
 * starts draining. On an error nothing is left. */
enum db_err state_import_place(struct state_import *import, const struct coordinator_config *config, struct error *error);
void state_import_free(struct state_import *import); /* deletes the copy, wipes; NULL is allowed */

/* Whether an operator has to open the gate of a coordinator that starts here, because its state came from another host; and
 * that it was opened. */
bool state_starts_draining(const struct coordinator_config *config);
void state_gate_opened(const struct coordinator_config *config);

#endif
