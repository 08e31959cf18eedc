/* Shared by the files behind core/json.h; not for anyone else. */
#ifndef CORE_JSON_INTERNAL_H
#define CORE_JSON_INTERNAL_H

#include "core/json.h"

#include <yyjson.h>

/* Text of a string, or of a number too large for 64 bits. */
struct str json_text_of(const json_val *val);

#endif
