/* Names of prompts' prefixes (docs/reference/prefix-names.md): the coordinator gives them, keyed, with a request; a provider
 * that keeps the state of a prompt says them again. Nothing about a prompt can be learnt from one. On the wire: 16 lower-case
 * hex digits each, one after the other. Pure; thread: any. */
#ifndef WIRE_PREFIX_H
#define WIRE_PREFIX_H

#include "core/str.h"

#define WIRE_PREFIX_HEX       16
#define WIRE_REQUEST_PREFIXES 8  /* of one prompt */
#define WIRE_SLOT_PREFIXES    64 /* that a provider says of one model */

/* Returns how many were read; 0 for a text that is not such names, or more than `max` of them. */
size_t wire_prefixes_read(struct str text, uint64_t *out, size_t max);
/* `out` takes count * WIRE_PREFIX_HEX characters, no NUL. */
struct str wire_prefixes_write(const uint64_t *names, size_t count, char *out);

#endif
