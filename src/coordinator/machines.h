/* Machines as their account sees them, connected or remembered (http-api 4.3). Thread: the loop's. */
#ifndef COORDINATOR_MACHINES_H
#define COORDINATOR_MACHINES_H

#include "coordinator/fleet/fleet.h"
#include "coordinator/store/store_machines.h"
#include "core/json.h"

/* What one machine is remembered by: its serial, else its signing key. False when it has neither. */
bool machine_key(const struct fleet_provider_view *view, char out[STORE_MODEL_SIZE]);
/* A connected one; `known` is what is remembered of it, or NULL. */
void machine_put(struct json_writer *w, const struct fleet *fleet, const struct fleet_provider_view *view,
                 const struct store_machine *known);
/* One that is not connected. */
void machine_put_remembered(struct json_writer *w, const struct store_machine *machine);

/* fleet_options.on_machine; user: the store. Remembers machines that belong to an account. */
void machine_seen(const struct fleet_provider_view *view, void *store);

#endif
