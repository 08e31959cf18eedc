/* Members of a JSON object by name, or the texts of an array, found without comparing with all of them: schemas have thousands.
 * Pure; thread: any. */
#ifndef PROVIDER_CHAT_NAMES_H
#define PROVIDER_CHAT_NAMES_H

#include "core/json.h"

struct chat_name;
struct chat_names {
	const json_val *of;
	struct chat_name *sorted; /* NULL: few, or no memory was left; they are gone through */
	size_t count;
};

/* Borrows `of`, which may be anything: what is neither an object nor an array has none. Free with chat_names_free. */
struct chat_names chat_names_of(const json_val *of);
void chat_names_free(struct chat_names *names);

/* The member of an object, of several of that name the last; of an array the text itself. NULL: there is none. */
json_val *chat_names_find(const struct chat_names *names, struct str name);

#endif
