/* Whose machines a caller wants to be served by, where they stand, and how far they must be trusted (routing 15, http-api 4.5).
 * Thread: the loop's. */
#ifndef COORDINATOR_GATEWAY_WISHES_H
#define COORDINATOR_GATEWAY_WISHES_H

#include "api/chat_places.h"
#include "coordinator/fleet/fleet.h"
#include "coordinator/gateway/exchange.h"
#include "coordinator/gateway/record.h"

struct wishes {
	bool own_only, prefers_own; /* the caller's machines and no others; those first */
	enum route_trust min_trust;
	struct chat_places places; /* in the exchange's arena */
};

/* From the headers, the key, and what the body said of places. False: *error says why. */
bool wishes_read(struct wishes *wishes, const struct exchange *exchange, const struct chat_places *of_body,
                 struct api_error *error);
/* Adds them to what routing is asked; texts are borrowed from the wishes. */
void wishes_ask(const struct wishes *wishes, struct route_request *request);
/* The account is served by a machine of its own as it asked to be: that is free. */
bool wishes_granted(const struct wishes *wishes, struct str account, const struct fleet_provider_view *provider);
/* False when it did not ask for its own machines alone; otherwise *error says why none of them will do. */
bool wishes_explain(const struct wishes *wishes, const struct fleet *fleet, struct str account, struct str model,
                    struct api_error *error);
void wishes_note(const struct wishes *wishes, struct record *record);

#endif
