/* Money of one call: a hold for what is expected, raised as the answer grows, and one end (billing 4).
 *
 * A provider's counts are a claim. It is bounded by what was asked for and by the text that really came, so that nobody pays
 * for tokens that no text can have had; a claim of nothing is raised to what was relayed. */
#include "coordinator/gateway/call.h"

#include "core/log.h"

#define PROMPT_SLACK_TOKENS 2048 /* what a chat template may add around the messages */
#define BYTES_PER_TOKEN     4    /* of text, as a rule */
#define OUTPUT_SLACK_TOKENS 64   /* tokens without text: markers of turns and tool calls */

static int64_t cost_of(const struct call *call, struct price price, int64_t output_tokens)
{
	return price_cost(price, (struct price_tokens){.prompt = call->prompt_bound, .completion = (uint64_t)output_tokens},
	                  call->service);
}

/* Counting tokens generates none, and a caller's own machines are the caller's: nobody pays. */
static bool is_free(const struct call *call)
{
	return call->dialect->task == CHAT_TASK_COUNT || call->wishes.own_only;
}

int64_t money_wanted(const struct call *call)
{
	return cost_of(call, call->held_price, call->held_tokens);
}

enum db_err money_hold(struct call *call, struct api_error *error)
{
	struct gateway *gateway = call->gateway;
	if (is_free(call))
		return DB_OK;
	int64_t expected = 2 * call->answers * (int64_t)learn_expect(&gateway->learn, str_of(call->model), call_account(call));
	if (expected < LEARN_DEFAULT_TOKENS)
		expected = LEARN_DEFAULT_TOKENS;
	call->held_tokens = expected < call->output_tokens ? expected : call->output_tokens;
	call->held_price = ledger_price(gateway->options.ledger, STR_NONE, str_of(call->model), call->service);
	struct ledger_hold_options options = {.request_id = str_of(call->id),
	                                      .key_id = str_of(call->caller.key_id),
	                                      .group = call->caller.group,
	                                      .amount_uusd = money_wanted(call),
	                                      .price = call->held_price};
	enum db_err err = ledger_hold(gateway->options.ledger, call->caller.account, &options, &call->hold);
	if (err)
		admit_fail_hold(error, err, options.amount_uusd, call->caller.account, "This request needs", "lower max_tokens");
	return err;
}

enum db_err money_cover(struct call *call, struct price price)
{
	int64_t needed = cost_of(call, price, call->held_tokens);
	if (is_free(call))
		return DB_OK;
	return ledger_hold_raise(call->hold, needed);
}

int64_t money_uncovered(const struct call *call, struct price price)
{
	return cost_of(call, price, call->held_tokens) - ledger_hold_amount(call->hold);
}

static int64_t next_tokens(const struct call *call)
{
	return call->held_tokens > call->output_tokens / 2 ? call->output_tokens : 2 * call->held_tokens;
}

static enum db_err raise_hold(struct call *call)
{
	int64_t next = next_tokens(call);
	enum db_err err = ledger_hold_raise(call->hold, cost_of(call, call->held_price, next));
	if (!err)
		call->held_tokens = next;
	return err;
}

static void on_more(struct ledger_room *room, enum db_err err)
{
	struct call *call = LIST_OF(room, struct call, more);
	call->grows_no_more = err || !call->hold || raise_hold(call) != DB_OK;
}

bool money_grow(struct call *call, uint64_t tokens)
{
	if (is_free(call) || call->held_tokens >= call->output_tokens || tokens < (uint64_t)call->held_tokens)
		return true;
	if (call->more.account)
		return true; /* the other coordinators are asked: for seconds at most */
	if (call->grows_no_more)
		return false;
	enum db_err err = raise_hold(call);
	if (err != DB_E_AGAIN)
		return err == DB_OK;
	int64_t missing = cost_of(call, call->held_price, next_tokens(call)) - ledger_hold_amount(call->hold);
	call->more.done = on_more;
	ledger_room_ask(call->caller.account, call->caller.group, missing, &call->more);
	return true;
}

static uint64_t at_most(uint64_t value, uint64_t bound)
{
	return value < bound ? value : bound;
}

uint64_t money_tokens(uint64_t chunks, size_t text_bytes)
{
	uint64_t by_text = text_bytes / BYTES_PER_TOKEN;
	return chunks > by_text ? chunks : by_text;
}

/* Of a stream that was cut short the provider counts what it made, also what it never sent; the consumer pays for what was
 * delivered of it. */
static uint64_t delivered(const struct call *call, const struct fleet_job_end *end)
{
	double made = (double)call->cut_from + (double)end->parked_chunks;
	uint64_t share = (uint64_t)((double)end->usage.completion_tokens * (double)call->chunks / made);
	return at_most(share, money_tokens(call->chunks, call->text_bytes));
}

static struct chat_usage bounded(const struct call *call, const struct fleet_job_end *end)
{
	struct chat_usage usage = end->usage;
	if (call->cut_from > 0)
		usage.completion_tokens = delivered(call, end);
	if (usage.completion_tokens == 0)
		usage.completion_tokens = call->chunks;
	usage.completion_tokens = at_most(usage.completion_tokens, (uint64_t)call->output_tokens);
	usage.completion_tokens = at_most(usage.completion_tokens, OUTPUT_SLACK_TOKENS + 2 * (uint64_t)call->text_bytes);
	usage.reasoning_tokens = at_most(usage.reasoning_tokens, usage.completion_tokens);
	usage.prompt_tokens = at_most(usage.prompt_tokens, call->prompt_bound + PROMPT_SLACK_TOKENS);
	usage.cached_tokens = at_most(usage.cached_tokens, usage.prompt_tokens);
	return usage;
}

/* A request for own machines alone was served by another's: routing must not do that. It is paid for if it can be. */
static bool hold_late(struct call *call)
{
	struct api_error error;
	log_error("self_route.not_owned", "id=%s", call->id);
	call->wishes.own_only = false;
	return money_hold(call, &error) == DB_OK;
}

void money_settle(struct call *call, const struct attempt *attempt, const struct fleet_job_end *end, const char *outcome,
                  struct chat_usage *billed)
{
	struct gateway *gateway = call->gateway;
	struct fleet_provider_view provider;
	fleet_job_provider(attempt->job, &provider);
	*billed = bounded(call, end);
	if (call->dialect->task == CHAT_TASK_COUNT)
		return;
	if (wishes_granted(&call->wishes, call_account(call),
	                   &provider)) { /* no usage row either: private traffic is nobody's statistics (billing 3.2) */
		money_release(call, "self_route");
		admit_note_output(&call->admission, &call->caller, billed->completion_tokens);
		return;
	}
	if (!call->hold && !hold_late(call))
		return;
	struct ledger_usage usage = {
	    .provider_account = provider.account,
	    .provider_id = provider.id,
	    .model = str_of(call->model),
	    .public_model = str_of(call->public_model),
	    .price = call->held_price,
	    .prompt_tokens = billed->prompt_tokens,
	    .completion_tokens = billed->completion_tokens,
	    .reasoning_tokens = billed->reasoning_tokens,
	    .cached_tokens = billed->cached_tokens,
	    .reported_tokens = end->usage.completion_tokens,
	    .job_id = str_of(fleet_job_id(attempt->job)),
	    .response_hash = end->response_hash,
	    .se_signature = end->se_signature,
	    .se_public_key = provider.se_public_key,
	    .fee_percent = call->caller.fee_percent,
	    .outcome = outcome,
	};
	int64_t charged = ledger_settle(call->hold, &usage);
	call->hold = NULL;
	if (call->dialect->task == CHAT_TASK_ANSWER)
		learn_output(&gateway->learn, str_of(call->model), call_account(call),
		             billed->completion_tokens / (uint64_t)call->answers);
	hedge_answered(hedges_of(&gateway->hedge_buckets, str_of(call->model)), billed->prompt_tokens, billed->completion_tokens);
	admit_note_output(&call->admission, &call->caller, billed->completion_tokens);
	gateway->settled++;
	metric_add(gateway->prompt_tokens, billed->prompt_tokens);
	metric_add(gateway->completion_tokens, billed->completion_tokens);
	metric_add(gateway->charged, charged > 0 ? (uint64_t)charged : 0);
}

void money_release(struct call *call, const char *reason)
{
	if (call->hold)
		ledger_release(call->hold, reason);
	call->hold = NULL;
}
