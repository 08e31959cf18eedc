/* Whose machines a caller wants to be served by, and how far they must be trusted (routing 15, http-api 4.5). */
#include "coordinator/gateway/call.h"

#include "core/log.h"

#define OFFLINE_RETRY_S    30
#define NOT_LOADED_RETRY_S 15

static bool read_trust(struct str text, enum route_trust *out)
{
	for (int trust = ROUTE_TRUST_NONE; trust <= ROUTE_TRUST_HARDWARE; trust++)
		if (str_eq_nocase(text, str_of(route_trust_name((enum route_trust)trust)))) {
			*out = (enum route_trust)trust;
			return true;
		}
	return !text.len;
}

bool wishes_read(struct call *call, struct api_error *error)
{
	const struct http_request *http = call->exchange->http;
	struct str route = str_trim(http_header_get(http, "x-darkbloom-route"));
	call->own_only = call->caller.self_route_only || str_eq_nocase(route, STR("self"));
	call->prefers_own = !call->own_only && str_eq_nocase(route, STR("prefer"));
	if (call->own_only && !ledger_account_has_machine(call->caller.account))
		return api_fail(error, 409, "no_linked_machine", NULL, NULL,
		                "No machine was ever linked to this account: run `darkbloom login` on the one that is to answer.");
	if (read_trust(str_trim(http_header_get(http, "x-darkbloom-min-trust")), &call->min_trust))
		return true;
	return api_fail(error, 400, "invalid_request_error", NULL, "X-Darkbloom-Min-Trust",
	                "X-Darkbloom-Min-Trust must be none, self_signed or hardware.");
}

void wishes_ask(const struct call *call, struct route_request *request)
{
	request->own_only = call->own_only;
	request->prefer_own = call->prefers_own;
	request->min_trust = call->min_trust;
}

bool wishes_granted(const struct call *call, const struct fleet_provider_view *provider)
{
	return (call->own_only || call->prefers_own) && provider->account.len > 0 && str_eq(provider->account, call_account(call));
}

bool wishes_explain(const struct call *call, struct api_error *error)
{
	size_t serving = 0;
	if (!call->own_only)
		return false;
	if (fleet_owned(call->gateway->options.fleet, call_account(call), str_of(call->model), &serving) == 0) {
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
