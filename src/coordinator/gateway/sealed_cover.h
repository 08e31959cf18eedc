/* The way back of a sealed exchange: seals what handlers say. Thread: the loop's. */
#ifndef COORDINATOR_SEALED_COVER_H
#define COORDINATOR_SEALED_COVER_H

#include "coordinator/gateway/exchange.h"
#include "crypto/box.h"

/* From now on everything that goes out of the exchange is sealed with this key. DB_E_NOMEM. */
enum db_err sealed_cover(struct exchange *exchange, const struct box_shared *shared, const char *kid);

#endif
