/* UTF-8 checks for text that is cut into pieces. Thread: any. */
#ifndef CORE_UTF8_H
#define CORE_UTF8_H

#include "core/str.h"

bool utf8_valid(struct str text); /* no overlongs, no surrogates, nothing above U+10FFFF */
/* Length in bytes of the first character, or 0 when the text is empty or does not begin with a well-formed one. */
size_t utf8_next(struct str text);
/* How many bytes at the end of `text` belong to a character that is not complete yet (0 to 3). */
size_t utf8_incomplete_tail(struct str text);

#endif
