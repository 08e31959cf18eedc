/* What is told about the whole: capacity, statistics, version, and the operator's drain gate (http-api 2.11, 5.1, 5.2, 6.2).
 * Both lists are made at most every 2 and 60 seconds, however many ask; capacity of a large fleet as much less often as it
 * takes longer to make. Thread: the loop's. */
#ifndef COORDINATOR_OPERATE_H
#define COORDINATOR_OPERATE_H

#include "coordinator/server.h"

struct operate;

struct operate *operate_new(struct server *server); /* NULL when out of memory */
void operate_free(struct operate *operate);         /* NULL is allowed */

#endif
