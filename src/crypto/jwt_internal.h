/* What the files of the token code share. Nothing outside includes this. */
#ifndef CRYPTO_JWT_INTERNAL_H
#define CRYPTO_JWT_INTERNAL_H

#include <openssl/evp.h>

#include "crypto/jwt.h"

#define JWT_KID_SIZE 256

struct jwt_key {
	EVP_PKEY *pkey;
	enum jwt_alg alg;
	char kid[JWT_KID_SIZE]; /* empty when it has none */
};

struct jwt_keys {
	struct jwt_key at[JWT_KEYS_MAX];
	size_t count;
};

#endif
