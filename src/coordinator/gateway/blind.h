/* Blind mode (docs/reference/blind-mode.md): the consumer seals the body to a provider's attested key, and everything here goes
 * by what it declares in the clear and by what the provider signs. No failover: another provider has another key, so the
 * consumer is told to seal again. Thread: the loop's. */
#ifndef COORDINATOR_GATEWAY_BLIND_H
#define COORDINATOR_GATEWAY_BLIND_H

#include "api/blind_request.h"
#include "coordinator/gateway/gateway.h"
#include "core/id.h"
#include "core/list.h"
#include "core/map.h"
#include "wire/region.h"

#define BLIND_OFFER_ID_SIZE 31 /* "blind_" and 24 hex digits */
#define BLIND_OFFER_MS      120000
#define BLIND_OFFERS_MAX    10000

struct blind_candidate {
	char provider_id[ID_UUID_SIZE];
	struct price price;
};

/* What a consumer was told, good for a while: prices do not change under it. */
struct blind_offer {
	struct list_link link; /* oldest first */
	char id[BLIND_OFFER_ID_SIZE];
	char model[ROUTE_MODEL_SIZE];
	const struct ledger_account *account;
	struct blind_ask ask;       /* its model is the one above */
	bool own_only, prefers_own; /* as the caller wished */
	enum route_trust min_trust;
	size_t region_count;
	char regions[CHAT_PLACES_REGIONS][REGION_SIZE];
	uint64_t expires_us;
	size_t count;
	struct blind_candidate candidates[BLIND_MAX_CANDIDATES];
};

struct blind_offers {
	struct map by_id;
	struct list order;
};
void blind_offers_init(struct blind_offers *offers);
void blind_offers_free(struct blind_offers *offers);
/* NULL when it is unknown, expired or another account's; borrowed until the loop's next turn. */
const struct blind_offer *blind_offer_find(struct gateway *gateway, struct str id, const struct ledger_account *account);

/* Ends every open call; their holds are released. */
void blind_stop(struct gateway *gateway);

#endif
