/* Codes that people pass on: of invitations to spend, of referrers (billing 8.1, 8.2). Pure; thread: any. */
#ifndef COORDINATOR_CODE_H
#define COORDINATOR_CODE_H

#include "core/str.h"

/* Trimmed and in upper case; ASCII letters, digits and inner hyphens, 3 to size - 1 of them. False for anything else. */
bool code_read(struct str given, char *out, size_t size);

#endif
