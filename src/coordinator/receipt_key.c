#include "coordinator/receipt_key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "coordinator/serve.h"
#include "core/encode.h"
#include "crypto/secret.h"

#define HEX_LEN (2 * P256_SCALAR_BYTES)

static struct p256_key *read_key(int fd)
{
	char hex[HEX_LEN];
	uint8_t scalar[P256_SCALAR_BYTES];
	struct p256_key *key = NULL;
	if (read(fd, hex, sizeof hex) == (ssize_t)sizeof hex && !hex_decode((struct str){hex, sizeof hex}, scalar, sizeof scalar))
		key = p256_from_scalar(scalar);
	secret_wipe(hex, sizeof hex);
	secret_wipe(scalar, sizeof scalar);
	return key;
}

static struct p256_key *make_key(const char *path, struct error *error)
{
	char hex[HEX_LEN + 1];
	uint8_t scalar[P256_SCALAR_BYTES];
	struct p256_key *key = p256_generate();
	if (!key) {
		error_set(error, DB_E_NOMEM, "There is no memory for the key of receipts.");
		return NULL;
	}
	p256_scalar(key, scalar);
	hex_encode(scalar, sizeof scalar, hex);
	if (serve_write_secret(path, (struct str){hex, HEX_LEN}, error)) {
		p256_free(key);
		key = NULL;
	}
	secret_wipe(hex, sizeof hex);
	secret_wipe(scalar, sizeof scalar);
	return key;
}

struct p256_key *receipt_key_load(const char *dir, struct error *error)
{
	char path[4096];
	int n = snprintf(path, sizeof path, "%s/receipt_key", dir);
	if (n < 0 || (size_t)n >= sizeof path) {
		error_set(error, DB_E_LIMIT, "The path of the data folder is too long.");
		return NULL;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return make_key(path, error);
	struct p256_key *key = fd < 0 ? NULL : read_key(fd);
	if (fd >= 0)
		close(fd);
	if (!key)
		error_set(error, DB_E_IO,
		          "The key of receipts, %s, cannot be read. Restore it from a backup; or move it away, and later receipts will "
		          "be signed with a new key.",
		          path);
	return key;
}
