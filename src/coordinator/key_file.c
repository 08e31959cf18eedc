#include "coordinator/key_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "coordinator/fleet/fleet.h"
#include "coordinator/serve.h"
#include "core/encode.h"
#include "core/id.h"
#include "core/log.h"
#include "crypto/secret.h"

_Static_assert(FLEET_TENANT_KEY_BYTES == KEY_FILE_BYTES, "a key file holds a tenant key");

#define PATH_SIZE 4096

static bool path_of(const char *dir, const char *name, char path[PATH_SIZE])
{
	int n = snprintf(path, PATH_SIZE, "%s/%s", dir, name);
	return n > 0 && n < PATH_SIZE;
}

enum db_err key_file_read(const char *dir, const char *name, uint8_t out[KEY_FILE_BYTES])
{
	char path[PATH_SIZE], hex[2 * KEY_FILE_BYTES];
	if (!path_of(dir, name, path))
		return DB_E_NOT_FOUND;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bool ok = fd >= 0 && read(fd, hex, sizeof hex) == (ssize_t)sizeof hex &&
	          !hex_decode((struct str){hex, sizeof hex}, out, KEY_FILE_BYTES);
	if (fd >= 0)
		close(fd);
	secret_wipe(hex, sizeof hex);
	return ok ? DB_OK : DB_E_NOT_FOUND;
}

enum db_err key_file_load(const char *dir, const char *name, uint8_t out[KEY_FILE_BYTES], struct error *error)
{
	char path[PATH_SIZE], hex[2 * KEY_FILE_BYTES + 1];
	enum db_err err = key_file_read(dir, name, out);
	if (!err)
		return DB_OK;
	id_random(out, KEY_FILE_BYTES);
	if (!path_of(dir, name, path))
		return error_set(error, DB_E_LIMIT, "The path of the data folder is too long.");
	hex_encode(out, KEY_FILE_BYTES, hex);
	err = serve_write_secret(path, (struct str){hex, sizeof hex - 1}, error);
	secret_wipe(hex, sizeof hex);
	return err;
}

void tenant_key_load(const char *dir, uint8_t out[KEY_FILE_BYTES])
{
	struct error error;
	if (key_file_load(dir, "tenant_key", out, &error))
		log_warn("server.tenant_key", "kept=false why=\"%s\"", error.text);
}
