#include "provider/platform/software_key.h"

#include <stdio.h>

#include "core/encode.h"
#include "crypto/p256.h"
#include "crypto/secret.h"
#include "provider/platform/platform.h"

static enum db_err load(const char *path, struct p256_key **key, struct error *error)
{
	struct buf text;
	buf_init(&text, 4096);
	uint8_t scalar[P256_SCALAR_BYTES];
	enum db_err err = platform_read_file(path, 1024, &text, error);
	if (err)
		goto out;
	err = hex_decode(str_trim(buf_str(&text)), scalar, sizeof scalar);
	*key = err ? NULL : p256_from_scalar(scalar);
	if (!*key)
		err = error_set(error, DB_E_INVALID, "%s does not hold a signing key: move it away and start again to make a new one",
		                path);
out:
	secret_wipe(scalar, sizeof scalar);
	buf_free(&text);
	return err;
}

static enum db_err create(const char *path, struct p256_key **key, struct error *error)
{
	uint8_t scalar[P256_SCALAR_BYTES];
	char text[2 * P256_SCALAR_BYTES + 1];
	*key = p256_generate();
	if (!*key)
		return error_set(error, DB_E_CRYPTO, "a signing key could not be made");
	p256_scalar(*key, scalar);
	hex_encode(scalar, sizeof scalar, text);
	enum db_err err = platform_write_private(path, (struct str){text, sizeof text - 1}, error);
	secret_wipe(scalar, sizeof scalar);
	secret_wipe(text, sizeof text);
	if (err) {
		p256_free(*key);
		*key = NULL;
	}
	return err;
}

struct p256_key *software_key_open(const char *state_dir, struct error *error)
{
	char path[4096];
	int n = snprintf(path, sizeof path, "%s/signing_key", state_dir);
	if (n < 0 || (size_t)n >= sizeof path) {
		error_set(error, DB_E_LIMIT, "the state folder's path is too long");
		return NULL;
	}
	struct p256_key *key = NULL;
	enum db_err err = load(path, &key, error);
	if (err == DB_E_NOT_FOUND)
		create(path, &key, error);
	return key;
}
