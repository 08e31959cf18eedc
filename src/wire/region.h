/* Where a machine stands, as ISO 3166 names it: a country, "US", or a part of one, "US-CA". Pure; thread: any. */
#ifndef WIRE_REGION_H
#define WIRE_REGION_H

#include "core/error.h"
#include "core/str.h"

#define REGION_SIZE 7 /* "US-CAL" and a NUL */

/* In capitals. DB_E_INVALID for anything else: two letters, then perhaps a hyphen and one to three letters or digits. */
enum db_err region_read(struct str text, char out[REGION_SIZE]);

#endif
