#include "coordinator/record_keeper.h"

#include <stdio.h>
#include <string.h>

#include "crypto/hash.h"
#include "crypto/secret.h"

bool record_keeper_dir(const char *data_dir, char *out, size_t size)
{
	int len = snprintf(out, size, "%s/routes", data_dir);
	return len > 0 && (size_t)len < size;
}

struct record_log *record_keeper_open(const char *data_dir, const uint8_t tenant_key[FLEET_TENANT_KEY_BYTES],
                                      uint64_t max_bytes, struct gateway_options *gateway, struct error *error)
{
	static const char purpose[] = "darkbloom decision records 1";
	char dir[3072];
	uint8_t key[SHA256_BYTES];
	hmac_sha256(tenant_key, FLEET_TENANT_KEY_BYTES, purpose, sizeof purpose - 1, key);
	memcpy(gateway->record_key, key, sizeof gateway->record_key);
	secret_wipe(key, sizeof key);
	if (record_keeper_dir(data_dir, dir, sizeof dir))
		gateway->log = record_log_open(dir, max_bytes, error);
	else
		(void)error_set(error, DB_E_LIMIT, "The path of the data folder is too long for the records of requests.");
	return gateway->log;
}

static void restore_one(const struct record *record, void *user)
{
	gateway_restore_record(user, record);
}

void record_keeper_restore(const struct record_log *log, struct gateway *gateway)
{
	(void)record_log_newest(record_log_dir(log), RECORD_KEEPER_RESTORED, restore_one, gateway);
}
