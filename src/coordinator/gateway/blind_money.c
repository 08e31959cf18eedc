/* Money of a sealed request: held for the declared limits, settled for what the provider signed. */
#include "coordinator/gateway/blind_call.h"

#define OUTPUT_SLACK_TOKENS 64
#define TOKENS_PER_BYTE     2

int64_t blind_wanted(const struct blind_call *call)
{
	const struct blind_ask *ask = &call->request.ask;
	struct price_tokens most = {(uint64_t)ask->max_prompt_tokens, (uint64_t)ask->max_tokens, 0};
	return price_cost(call->price, most, call->service);
}

enum db_err blind_hold(struct blind_call *call, struct api_error *error)
{
	struct ledger_hold_options options = {.request_id = str_of(call->id),
	                                      .key_id = str_of(call->caller.key_id),
	                                      .group = call->caller.group,
	                                      .amount_uusd = blind_wanted(call),
	                                      .price = call->price};
	if (call->free)
		return DB_OK;
	enum db_err err = ledger_hold(call->gateway->options.ledger, call->caller.account, &options, &call->hold);
	if (err && err != DB_E_AGAIN)
		admit_fail_hold(error, err, options.amount_uusd, call->caller.account, "The declared limits need",
		                "declare lower ones");
	return err;
}

static uint64_t at_most(uint64_t value, uint64_t bound)
{
	return value < bound ? value : bound;
}

/* What the provider signed, within what was declared and what the bytes that came can have held. */
static struct chat_usage bounded(const struct blind_call *call, const struct fleet_job_end *end)
{
	const struct blind_ask *ask = &call->request.ask;
	uint64_t bytes = call->bytes / 4 * 3;
	struct chat_usage usage = end->usage;
	if (call->exchange) /* of one who left, what came later was not counted here */
		usage.completion_tokens = at_most(usage.completion_tokens, OUTPUT_SLACK_TOKENS + TOKENS_PER_BYTE * bytes);
	usage.completion_tokens = at_most(usage.completion_tokens, (uint64_t)ask->max_tokens);
	usage.reasoning_tokens = at_most(usage.reasoning_tokens, usage.completion_tokens);
	usage.prompt_tokens = at_most(usage.prompt_tokens, (uint64_t)ask->max_prompt_tokens);
	usage.cached_tokens = at_most(usage.cached_tokens, usage.prompt_tokens);
	return usage;
}

int64_t blind_settle(struct blind_call *call, const struct fleet_provider_view *provider, const struct fleet_job_end *end)
{
	struct gateway *gateway = call->gateway;
	struct chat_usage billed = bounded(call, end);
	admit_note_output(&call->admission, &call->caller, billed.completion_tokens);
	call->record.completion_tokens = billed.completion_tokens;
	if (call->free) /* no usage row either: private traffic is nobody's statistics (billing 3.2) */
		return 0;
	struct ledger_usage usage = {
	    .provider_account = provider->account,
	    .provider_id = provider->id,
	    .model = str_of(call->model),
	    .public_model = str_of(call->model),
	    .price = call->price,
	    .prompt_tokens = billed.prompt_tokens,
	    .completion_tokens = billed.completion_tokens,
	    .reasoning_tokens = billed.reasoning_tokens,
	    .reported_tokens = end->usage.completion_tokens,
	    .reported_prompt_tokens = end->usage.prompt_tokens,
	    .reported_reasoning_tokens = end->usage.reasoning_tokens,
	    .job_id = str_of(fleet_job_id(call->job)),
	    .consumer_key = end->consumer_key,
	    .response_hash = end->transcript,
	    .se_signature = end->usage_signature,
	    .se_public_key = provider->se_public_key,
	    .fee_percent = call->caller.fee_percent,
	    .outcome = call->exchange ? "success" : "partial_success",
	};
	int64_t charged = ledger_settle(call->hold, &usage);
	call->hold = NULL;
	learn_output(&gateway->learn, str_of(call->model), str_of(ledger_account_id(call->caller.account)),
	             billed.completion_tokens);
	gateway->settled++;
	metric_add(gateway->prompt_tokens, billed.prompt_tokens);
	metric_add(gateway->completion_tokens, billed.completion_tokens);
	metric_add(gateway->charged, charged > 0 ? (uint64_t)charged : 0);
	return charged;
}

void blind_release(struct blind_call *call, const char *reason)
{
	if (call->hold)
		ledger_release(call->hold, reason);
	call->hold = NULL;
}
