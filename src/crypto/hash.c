/* The SHA256_ functions of OpenSSL are marked deprecated in favour of EVP, but they need no memory and cannot fail, and they
 * use the processor's SHA instructions, which libsodium's do not. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "crypto/hash.h"

#include "core/encode.h"
#include "crypto/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <sodium.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_PART_BYTES (256u * 1024u)

_Static_assert(sizeof(SHA256_CTX) <= sizeof(struct sha256_state), "a state must hold OpenSSL's");

static SHA256_CTX *inner(struct sha256_state *state)
{
	return (SHA256_CTX *)(void *)state->opaque;
}

void sha256_begin(struct sha256_state *state)
{
	SHA256_Init(inner(state));
}

void sha256_update(struct sha256_state *state, const void *bytes, size_t len)
{
	if (len > 0)
		SHA256_Update(inner(state), bytes, len);
}

void sha256_end(struct sha256_state *state, uint8_t out[SHA256_BYTES])
{
	SHA256_Final(out, inner(state));
	secret_wipe(state, sizeof *state);
}

void sha256(const void *bytes, size_t len, uint8_t out[SHA256_BYTES])
{
	struct sha256_state state;
	sha256_begin(&state);
	sha256_update(&state, bytes, len);
	sha256_end(&state, out);
}

void sha256_hex(const void *bytes, size_t len, char out[SHA256_HEX_SIZE])
{
	uint8_t digest[SHA256_BYTES];
	sha256(bytes, len, digest);
	hex_encode(digest, sizeof digest, out);
}

void hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len, uint8_t out[SHA256_BYTES])
{
	crypto_auth_hmacsha256_state state;
	crypto_auth_hmacsha256_init(&state, key, key_len);
	crypto_auth_hmacsha256_update(&state, bytes, len);
	crypto_auth_hmacsha256_final(&state, out);
	secret_wipe(&state, sizeof state);
}

static int hash_descriptor(int fd, void *part, uint8_t digest[SHA256_BYTES])
{
	struct sha256_state state;
	sha256_begin(&state);
	ssize_t got;
	while ((got = read(fd, part, FILE_PART_BYTES)) != 0) {
		if (got > 0)
			sha256_update(&state, part, (size_t)got);
		else if (errno != EINTR)
			return errno;
	}
	sha256_end(&state, digest);
	return 0;
}

enum db_err sha256_file(const char *path, char out[SHA256_HEX_SIZE], struct error *error)
{
	uint8_t digest[SHA256_BYTES];
	int problem = 0;
	void *part = malloc(FILE_PART_BYTES);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		problem = errno;
	else if (!part)
		problem = ENOMEM;
	else
		problem = hash_descriptor(fd, part, digest);
	if (fd >= 0)
		close(fd);
	free(part);
	if (problem)
		return error_set(error, DB_E_IO, "Cannot read %s: %s.", path, strerror(problem));
	hex_encode(digest, sizeof digest, out);
	return DB_OK;
}
