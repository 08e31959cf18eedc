/* Where decision records lie beside the database (gateway/record_log.h), and the key of the accounts' digests in them. */
#ifndef COORDINATOR_RECORD_KEEPER_H
#define COORDINATOR_RECORD_KEEPER_H

#include "coordinator/gateway/gateway.h"
#include "coordinator/gateway/record_log.h"

#define RECORD_KEEPER_RESTORED 1000

/* The folder of the records of the coordinator with this data folder. False when its path is too long. */
bool record_keeper_dir(const char *data_dir, char *out, size_t size);
/* Opens them, `max_bytes` of them at most, and fills in what the gateway needs of them. Blocks: start-up. NULL with a sentence.
 */
struct record_log *record_keeper_open(const char *data_dir, const uint8_t tenant_key[FLEET_TENANT_KEY_BYTES],
                                      uint64_t max_bytes, struct gateway_options *gateway, struct error *error);
/* Takes the newest from before the start into memory. Blocks: start-up. */
void record_keeper_restore(const struct record_log *log, struct gateway *gateway);

#endif
