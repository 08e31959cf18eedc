/* A P-256 key kept in a file of mode 0600: what a machine without a Secure Enclave signs with. Its attestation says so
 * (key_protection "software"), and no coordinator takes it for hardware. Internal to platform/. */
#ifndef PROVIDER_SOFTWARE_KEY_H
#define PROVIDER_SOFTWARE_KEY_H

#include "core/error.h"

struct p256_key;

/* The key of <state_dir>/signing_key; made when the file does not exist. NULL and a sentence on failure. Free: p256_free. */
struct p256_key *software_key_open(const char *state_dir, struct error *error);

#endif
