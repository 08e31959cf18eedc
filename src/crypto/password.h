/* Argon2id password hashes in the standard encoded form (libsodium). Slow on purpose: worker threads only. */
#ifndef CRYPTO_PASSWORD_H
#define CRYPTO_PASSWORD_H

#include "core/error.h"
#include "core/str.h"

#define PASSWORD_HASH_SIZE 128

enum db_err password_hash(struct str password, char out[PASSWORD_HASH_SIZE]);
bool password_verify(struct str password, const char *encoded);

#endif
