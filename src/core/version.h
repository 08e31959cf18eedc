#ifndef CORE_VERSION_H
#define CORE_VERSION_H

#define DARKBLOOM_VERSION "0.1.0"
/* What our provider says as `version` in the protocol: floors such as 0.6.3 (tools) are compared with it. */
#define DARKBLOOM_PROTOCOL_VERSION "0.7.0"

/* Protocol version comparison (protocol-and-trust 8.4): dotted leading decimals, missing or non-numeric parts are 0, an empty
 * text sorts below everything. Negative, 0 or positive like strcmp. */
#include "core/str.h"
int version_compare(struct str a, struct str b);

#endif
