/* The coordinator's long-term keys (protocol-and-trust 4.6): one that is published and those before it, which stay good for a
 * while after a change. In locked memory. Thread: the loop's; a worker may read what sealed_keys_find gave. */
#ifndef COORDINATOR_SEALED_KEYS_H
#define COORDINATOR_SEALED_KEYS_H

#include "coordinator/gateway/sealed.h"
#include "crypto/box.h"

struct sealed_key {
	struct box_keypair pair;
	char kid[BOX_KID_SIZE];
};

struct sealed_keys {
	size_t count; /* at[0] is the current one; 0 = none */
	int64_t previous_until_us;
	struct sealed_key at[SEALED_MAX_KEYS];
};

/* NULL with a sentence on a mnemonic that is none. Free with secret_free. */
struct sealed_keys *sealed_keys_new(const struct sealed_options *options, struct error *error);
/* How many of them are good now. */
size_t sealed_keys_good(const struct sealed_keys *keys, int64_t wall_us);
/* NULL when no good key has this id. */
const struct sealed_key *sealed_keys_find(const struct sealed_keys *keys, struct str kid, int64_t wall_us);
enum db_err sealed_keys_write(const struct sealed_keys *keys, int64_t wall_us, struct buf *out);

#endif
