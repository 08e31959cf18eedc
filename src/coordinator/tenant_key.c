#include "coordinator/tenant_key.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "coordinator/serve.h"
#include "core/encode.h"
#include "core/id.h"
#include "core/log.h"
#include "crypto/secret.h"

static bool read_key(const char *path, uint8_t out[FLEET_TENANT_KEY_BYTES])
{
	char hex[2 * FLEET_TENANT_KEY_BYTES];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bool ok = fd >= 0 && read(fd, hex, sizeof hex) == (ssize_t)sizeof hex &&
	          !hex_decode((struct str){hex, sizeof hex}, out, FLEET_TENANT_KEY_BYTES);
	if (fd >= 0)
		close(fd);
	secret_wipe(hex, sizeof hex);
	return ok;
}

void tenant_key_load(const char *dir, uint8_t out[FLEET_TENANT_KEY_BYTES])
{
	char path[4096], hex[2 * FLEET_TENANT_KEY_BYTES + 1];
	struct error error = {.text = "the path of the data folder is too long"};
	int n = snprintf(path, sizeof path, "%s/tenant_key", dir);
	bool fits = n > 0 && (size_t)n < sizeof path;
	if (fits && read_key(path, out))
		return;
	id_random(out, FLEET_TENANT_KEY_BYTES);
	hex_encode(out, FLEET_TENANT_KEY_BYTES, hex);
	if (!fits || serve_write_secret(path, (struct str){hex, sizeof hex - 1}, &error))
		log_warn("server.tenant_key", "kept=false why=\"%s\"", error.text);
	secret_wipe(hex, sizeof hex);
}
