/* The parts of the coordinator's table of settings. Inside config*.c only. */
#ifndef COORDINATOR_CONFIG_INTERNAL_H
#define COORDINATOR_CONFIG_INTERNAL_H

#include "coordinator/config.h"

extern const char *const coordinator_trust_names[];
extern const struct config_field coordinator_money_fields[];
extern const size_t coordinator_money_field_count;

#endif
