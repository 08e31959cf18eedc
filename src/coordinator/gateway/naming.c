/* The build behind the name that a consumer used (routing 13.2), and what its answers say of a roll-out. */
#include "coordinator/gateway/call.h"

bool naming_resolve(struct call *call, const struct route_request *asked)
{
	struct str build;
	enum alias_choice choice = fleet_resolve(call->gateway->options.fleet, asked, &build);
	call->aliased = choice != ALIAS_NOT_ONE;
	if (choice != ALIAS_UNAVAILABLE)
		(void)str_copy(build, call->model, sizeof call->model);
	return choice != ALIAS_UNAVAILABLE;
}

static void note(const struct call *call, bool ok, double ttft_ms)
{
	struct alias_outcome outcome = {
	    .alias = str_of(call->public_model), .build = str_of(call->model), .ok = ok, .ttft_ms = ttft_ms};
	if (call->aliased)
		(void)fleet_alias_note(call->gateway->options.fleet, &outcome);
}

void naming_answered(const struct call *call)
{
	note(call, true, (double)call->provider_us / 1000);
}

void naming_failed(const struct call *call, const struct fleet_job_end *end)
{
	if (end->provider_fault && !end->capacity)
		note(call, false, -1);
}
