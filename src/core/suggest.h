/* "Did you mean ...?" for mistyped names. Thread: any. */
#ifndef CORE_SUGGEST_H
#define CORE_SUGGEST_H

#include "core/str.h"

struct suggest {
	struct str word; /* what was typed */
	struct str best; /* the closest candidate so far that is close enough, or empty; borrowed from suggest_offer */
	size_t distance;
};

void suggest_begin(struct suggest *suggest, struct str word);
void suggest_offer(struct suggest *suggest, struct str candidate);

#endif
