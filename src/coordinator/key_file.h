/* Secrets of this coordinator that lie beside its database: 32 bytes in hex, in files that only it may read. Blocks: start-up
 * only. */
#ifndef COORDINATOR_KEY_FILE_H
#define COORDINATOR_KEY_FILE_H

#include <stdint.h>

#include "core/error.h"

#define KEY_FILE_BYTES 32

/* From <dir>/<name>. DB_E_NOT_FOUND when there is no such file, or none that holds a key. */
enum db_err key_file_read(const char *dir, const char *name, uint8_t out[KEY_FILE_BYTES]);
/* The same, made when there is none. Fails when it cannot be kept: then `out` holds a key for this process alone. */
enum db_err key_file_load(const char *dir, const char *name, uint8_t out[KEY_FILE_BYTES], struct error *error);

/* The secret under which accounts get the names that providers keep their cached prefixes by
 * (docs/reference/protocol-extensions), so that caches are of use after a restart. Where it cannot be kept, a key for this
 * process alone. */
void tenant_key_load(const char *dir, uint8_t out[KEY_FILE_BYTES]);

#endif
