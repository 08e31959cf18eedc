/* Who asks, as the audit trail names them (store_trail.h). Thread: the loop's. */
#ifndef COORDINATOR_ACTOR_H
#define COORDINATOR_ACTOR_H

#include "coordinator/gateway/exchange.h"
#include "coordinator/store/store_trail.h"

/* "operator" for the operator's key and socket, "key:<id>" for an API key, "account:<id>" for everybody else. */
void actor_of(const struct exchange *exchange, char out[STORE_ACTOR_SIZE]);

#endif
