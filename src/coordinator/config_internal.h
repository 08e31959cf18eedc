/* The coordinator's table of settings, in parts by subject. Inside config*.c only. */
#ifndef COORDINATOR_CONFIG_INTERNAL_H
#define COORDINATOR_CONFIG_INTERNAL_H

#include "coordinator/config.h"

struct config_part {
	const struct config_field *fields;
	size_t count;
	/* What no field says of itself alone: values that belong together, texts with a form, and defaults that depend on the
	 * machine. Called once all values are loaded; what it makes lives in the arena. */
	enum db_err (*check)(struct coordinator_config *config, struct arena *arena, struct error *error);
};

extern const struct config_part coordinator_server_settings, coordinator_fleet_settings, coordinator_request_settings,
    coordinator_account_settings, coordinator_money_settings;
extern const char *const coordinator_trust_names[]; /* in the order of enum route_trust */

#endif
