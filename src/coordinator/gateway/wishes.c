#include "coordinator/gateway/wishes.h"

#include "coordinator/money/ledger.h"

#define OFFLINE_RETRY_S    30
#define NOT_LOADED_RETRY_S 15

#define TRUST_HEADER  "X-Darkbloom-Min-Trust"
#define REGION_HEADER "X-Darkbloom-Regions"

static bool read_trust(struct str text, enum route_trust *out)
{
	for (int trust = ROUTE_TRUST_NONE; trust <= ROUTE_TRUST_HARDWARE; trust++)
		if (str_eq_nocase(text, str_of(route_trust_name((enum route_trust)trust)))) {
			*out = (enum route_trust)trust;
			return true;
		}
	return !text.len;
}

bool wishes_read(struct wishes *wishes, const struct exchange *exchange, const struct chat_places *of_body,
                 struct api_error *error)
{
	const struct http_request *http = exchange->http;
	struct arena *arena = http_arena(exchange->http);
	struct str route = str_trim(http_header_get(http, "x-darkbloom-route"));
	struct chat_places of_header;
	wishes->own_only = exchange->caller.self_route_only || str_eq_nocase(route, STR("self"));
	wishes->prefers_own = !wishes->own_only && str_eq_nocase(route, STR("prefer"));
	wishes->places = *of_body;
	if (wishes->own_only && !ledger_account_has_machine(exchange->caller.account))
		return api_fail(error, 409, "no_linked_machine", NULL, NULL,
		                "No machine was ever linked to this account: run `darkbloom login` on the one that is to answer.");
	if (!read_trust(str_trim(http_header_get(http, "x-darkbloom-min-trust")), &wishes->min_trust))
		return api_fail(error, 400, "invalid_request_error", NULL, TRUST_HEADER,
		                TRUST_HEADER " must be none, self_signed or hardware.");
	struct str regions = http_header_get(http, "x-darkbloom-regions");
	return chat_places_regions(regions, arena, REGION_HEADER, &of_header, error) &&
	       chat_places_narrow(&wishes->places, &of_header, arena, error);
}

void wishes_ask(const struct wishes *wishes, struct route_request *request)
{
	request->own_only = wishes->own_only;
	request->prefer_own = wishes->prefers_own;
	request->min_trust = wishes->min_trust;
	request->serials = wishes->places.serials;
	request->serial_count = wishes->places.serial_count;
	request->regions = wishes->places.regions;
	request->region_count = wishes->places.region_count;
}

bool wishes_granted(const struct wishes *wishes, struct str account, const struct fleet_provider_view *provider)
{
	return (wishes->own_only || wishes->prefers_own) && provider->account.len > 0 && str_eq(provider->account, account);
}

bool wishes_explain(const struct wishes *wishes, const struct fleet *fleet, struct str account, struct str model,
                    struct api_error *error)
{
	size_t serving = 0;
	if (!wishes->own_only)
		return false;
	if (fleet_owned(fleet, account, model, &serving) == 0) {
		api_fail(error, 503, "machine_offline", NULL, NULL,
		         "No machine of this account is connected: start one that is linked to it with `darkbloom login`.");
		error->retry_after_s = OFFLINE_RETRY_S;
	} else if (serving == 0) {
		api_fail(error, 503, "model_not_loaded", NULL, "model", "None of this account's machines offers the model.");
		error->retry_after_s = NOT_LOADED_RETRY_S;
	} else {
		api_fail(error, 503, "model_unavailable", NULL, "model", "None of this account's machines can take the request.");
		error->retry_after_s = NOT_LOADED_RETRY_S;
	}
	return true;
}

void wishes_note(const struct wishes *wishes, struct record *record)
{
	size_t len = 0;
	record->own_only = wishes->own_only;
	record->prefers_own = wishes->prefers_own;
	record->min_trust = wishes->min_trust;
	record->regions[0] = '\0';
	for (size_t i = 0; i < wishes->places.region_count; i++) {
		struct str region = wishes->places.regions[i];
		if (len + region.len + 2 > sizeof record->regions)
			return;
		if (len > 0)
			record->regions[len++] = ',';
		memcpy(record->regions + len, region.at, region.len);
		len += region.len;
		record->regions[len] = '\0';
	}
}
