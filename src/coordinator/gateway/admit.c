#include "coordinator/gateway/admit.h"

static bool enter(struct admission *admission, struct exchange *exchange, struct api_error *error)
{
	const struct caller *caller = &exchange->caller;
	admission->entered = limits_enter(admission->limits, caller, limit_now_us());
	if (admission->entered)
		return true;
	exchange->refused_by = "concurrent_requests";
	api_fail(error, 429, "rate_limit_exceeded", NULL, NULL,
	         "This account runs as many requests at a time as it may: try again when one has ended.");
	error->retry_after_s = 1;
	return false;
}

static bool take_tokens(struct admission *admission, struct exchange *exchange, const struct admit_request *request,
                        struct api_error *error)
{
	struct limit_verdict verdict;
	limits_tokens(admission->limits, &exchange->caller, request->prompt_tokens, request->max_output, limit_now_us(), &verdict,
	              &admission->charged_output);
	return limit_tell_tokens(exchange, &verdict, error);
}

bool admit(struct admission *admission, struct limits *limits, struct exchange *exchange, const struct admit_request *request,
           struct api_error *error)
{
	const struct caller *caller = &exchange->caller;
	admission->limits = limits;
	if (!accounts_allows_model(caller, request->model))
		return api_fail(error, 403, "model_not_allowed", NULL, "model",
		                "This API key may not use this model: GET /v1/key lists the models it may use.");
	if (caller->self_route_only && !request->own_only) /* never the public fleet, for money (billing 3.2) */
		return api_fail(error, 409, "no_linked_machine", NULL, NULL,
		                "This API key may use nothing but machines of its own account, and none can be reached this way.");
	if (!limits || (enter(admission, exchange, error) && take_tokens(admission, exchange, request, error)))
		return true;
	limits_request_back(limits, caller, limit_now_us()); /* who is refused by one limit has lost nothing of another */
	return false;
}

void admit_leave(struct admission *admission, const struct caller *caller)
{
	if (admission->entered)
		limits_leave(admission->limits, caller);
	admission->entered = false;
}

void admit_note_output(const struct admission *admission, const struct caller *caller, uint64_t tokens)
{
	if (admission->limits)
		limits_output_taken(admission->limits, caller, admission->charged_output, tokens, limit_now_us());
}

bool admit_fail_spend(struct api_error *error)
{
	return api_fail(error, 402, "insufficient_quota", NULL, NULL,
	                "The spend limit of this API key leaves less than the request may cost: raise the limit, wait for its next "
	                "window, or lower max_tokens.");
}

bool admit_fail_hold(struct api_error *error, enum db_err why, int64_t needed_uusd, const struct ledger_account *account,
                     const char *what, const char *remedy)
{
	char needed[PRICE_USD_SIZE], available[PRICE_USD_SIZE];
	if (why == DB_E_LIMIT)
		return admit_fail_spend(error);
	if (why == DB_E_FUNDS) {
		price_format_usd(needed_uusd, needed);
		price_format_usd(ledger_available(account), available);
		return api_fail(error, 402, "insufficient_funds", "insufficient_quota", NULL,
		                "%s $%s on hold and $%s is available: add credit, or %s.", what, needed, available, remedy);
	}
	api_fail(error, 503, "service_unavailable", NULL, NULL, "The ledger is not available: try again in a moment.");
	error->retry_after_s = 2;
	return false;
}
