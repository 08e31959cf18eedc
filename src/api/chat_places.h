/* Where a request may run: machines by serial number, and regions (routing 15). Members of the body that are the coordinator's
 * alone: they are never forwarded. Texts live in the arena given. Pure; thread: any. */
#ifndef API_CHAT_PLACES_H
#define API_CHAT_PLACES_H

#include "api/error.h"
#include "core/arena.h"
#include "core/json.h"

#define CHAT_PLACES_SERIALS 256
#define CHAT_PLACES_REGIONS 32

struct chat_places {
	struct str *serials; /* provider_serial and provider_serials, trimmed, each once; NULL: any */
	size_t serial_count;
	struct str *regions; /* provider_region and provider_regions, in capitals, each once; NULL: anywhere */
	size_t region_count;
};

/* Both names of each list may be given, each as a text or a list of texts. A list that names nothing is refused. */
bool chat_places_parse(const json_val *root, struct arena *arena, struct chat_places *out, struct api_error *error);
bool chat_places_is_member(struct str quoted_key); /* as json_raw_key_is */

/* Regions of a header, with commas between. `param` names it in the refusal. */
bool chat_places_regions(struct str text, struct arena *arena, const char *param, struct chat_places *out,
                         struct api_error *error);
/* What both allow: of two regions of which one is part of the other, that part. False: nothing; *error says so. */
bool chat_places_narrow(struct chat_places *places, const struct chat_places *by, struct arena *arena, struct api_error *error);

#endif
