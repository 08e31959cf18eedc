/* The form of a snapshot (memory.h), shared by its writer and its reader. Numbers are little-endian. */
#ifndef COORDINATOR_ROUTING_MEMORY_FORMAT_H
#define COORDINATOR_ROUTING_MEMORY_FORMAT_H

#include "coordinator/routing/memory.h"
#include "coordinator/routing/routing_internal.h"

#define MEMORY_MAGIC        "DBROUTE1" /* the last character is the version */
#define MEMORY_MAGIC_LEN    8
#define MEMORY_SUM_LEN      8 /* SipHash-1-3 of what follows, with a key of zeros */
#define MEMORY_HEAD_LEN     (MEMORY_MAGIC_LEN + MEMORY_SUM_LEN)
#define MEMORY_NAME_MAX     512
#define MEMORY_MODEL        'M'
#define MEMORY_DEVICE       'D'
#define MEMORY_OUTPUT       'O' /* of a model */
#define MEMORY_PAIR         'P' /* of a model and an account */
#define MEMORY_END          'E'
#define MEMORY_DEVICE_BYTES 96 /* about as many as one takes */
#define MEMORY_HAS_HEALTH   1u /* bits of a device's parts */

uint64_t memory_sum(struct str body);

#endif
