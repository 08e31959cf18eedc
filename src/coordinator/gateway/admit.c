/* Whether a request may go on before any money is held: what its key may use, and how much its account may use at a time. */
#include "coordinator/gateway/call.h"

bool admit_call(struct call *call, struct api_error *error)
{
	if (!accounts_allows_model(&call->caller, str_of(call->public_model)))
		return api_fail(error, 403, "model_not_allowed", NULL, "model",
		                "This API key may not use this model: GET /v1/key lists the models it may use.");
	return true;
}
