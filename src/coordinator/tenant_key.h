/* The secret under which accounts get the names that providers keep their cached prefixes by
 * (docs/reference/protocol-extensions). It lies beside the database so that caches are of use after a restart. Blocks:
 * start-up. */
#ifndef COORDINATOR_TENANT_KEY_H
#define COORDINATOR_TENANT_KEY_H

#include <stdint.h>

#include "coordinator/fleet/fleet.h"

/* From <dir>/tenant_key, made when there is none. Where that cannot be, a key for this process alone. */
void tenant_key_load(const char *dir, uint8_t out[FLEET_TENANT_KEY_BYTES]);

#endif
