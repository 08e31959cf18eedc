/* Secrets of this device in files of mode 0600: what a machine without a sealing key store has. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "core/encode.h"
#include "core/id.h"
#include "crypto/secret.h"
#include "provider/platform/platform.h"

static enum db_err load(const char *path, uint8_t out[PLATFORM_SECRET_BYTES], struct error *error)
{
	struct buf text;
	buf_init(&text, 4096);
	enum db_err err = platform_read_file(path, 1024, &text, error);
	if (!err && hex_decode(str_trim(buf_str(&text)), out, PLATFORM_SECRET_BYTES))
		err = error_set(error, DB_E_INVALID, "%s does not hold a secret: move it away and start again to make a new one", path);
	buf_free(&text);
	return err;
}

/* A link appears whole or not at all, and never in place of one that is there. */
static enum db_err create(const char *path, struct error *error)
{
	uint8_t secret[PLATFORM_SECRET_BYTES];
	char hex[2 * PLATFORM_SECRET_BYTES + 1], suffix[17], temporary[4096];
	id_hex(suffix, 8);
	int n = snprintf(temporary, sizeof temporary, "%s.%s", path, suffix);
	if (n < 0 || (size_t)n >= sizeof temporary)
		return error_set(error, DB_E_LIMIT, "the state folder's path is too long");
	id_random(secret, sizeof secret);
	hex_encode(secret, sizeof secret, hex);
	enum db_err err = platform_write_private(temporary, (struct str){hex, sizeof hex - 1}, error);
	secret_wipe(secret, sizeof secret);
	secret_wipe(hex, sizeof hex);
	if (!err && link(temporary, path) != 0 && errno != EEXIST)
		err = error_set(error, DB_E_IO, "%s could not be made: %s", path, strerror(errno));
	unlink(temporary);
	return err;
}

enum db_err platform_secret_open(const char *state_dir, const char *name, uint8_t out[PLATFORM_SECRET_BYTES], bool *sealed,
                                 struct error *error)
{
	char path[4000];
	*sealed = false;
	int n = snprintf(path, sizeof path, "%s/%s", state_dir, name);
	if (n < 0 || (size_t)n >= sizeof path)
		return error_set(error, DB_E_LIMIT, "the state folder's path is too long");
	enum db_err err = load(path, out, error);
	if (err != DB_E_NOT_FOUND)
		return err;
	err = create(path, error);
	return err ? err : load(path, out, error);
}
