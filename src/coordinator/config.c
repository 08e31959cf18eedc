#include "coordinator/config_internal.h"

#include <string.h>

#define FIELDS_MAX 256

static const struct config_part *const parts[] = {&coordinator_server_settings, &coordinator_fleet_settings,
                                                  &coordinator_request_settings, &coordinator_account_settings,
                                                  &coordinator_money_settings};
#define PART_COUNT (sizeof parts / sizeof *parts)

/* The whole table; returns its length, or 0 when it has outgrown the room for it. */
static size_t all_fields(struct config_field out[FIELDS_MAX])
{
	size_t count = 0;
	for (size_t i = 0; i < PART_COUNT; i++) {
		if (parts[i]->count > FIELDS_MAX - count)
			return 0;
		memcpy(out + count, parts[i]->fields, parts[i]->count * sizeof *out);
		count += parts[i]->count;
	}
	return count;
}

enum db_err coordinator_config_load(struct coordinator_config *config, const char *path, struct arena *arena,
                                    struct error *error)
{
	*config = (struct coordinator_config){0};
	struct config_field all[FIELDS_MAX];
	enum db_err err = config_load(all, all_fields(all), config, path, arena, error);
	for (size_t i = 0; !err && i < PART_COUNT; i++)
		err = parts[i]->check(config, arena, error);
	return err;
}

void coordinator_config_document(struct buf *out)
{
	struct config_field all[FIELDS_MAX];
	buf_append_c(out,
	             "# Configuration of the coordinator\n\n"
	             "No setting is needed to start. `darkbloom-coordinator --config FILE` reads a TOML file with the sections "
	             "below; unknown keys are refused with a hint. Environment variables override the file. "
	             "`darkbloom-coordinator --check-config` says what is wrong without starting, and `darkbloom-coordinator "
	             "config docs` prints this page.\n\n"
	             "The key of the sealed transport comes from a mnemonic of 12 or 24 words in `MNEMONIC` (or "
	             "`EIGENINFERENCE_MNEMONIC`, `EIGENINFERENCE_SOLANA_MNEMONIC`); without one `GET /v1/encryption-key` answers "
	             "503. To change it, put the new one there, the one before (or several, separated by commas) into "
	             "`MNEMONIC_PREVIOUS`, and into `sealed.previous_until` the time up to which that is still taken.\n\n");
	config_document(all, all_fields(all), out);
}
