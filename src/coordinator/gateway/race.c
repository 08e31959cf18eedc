/* Two providers on one request: the second is asked when the first stays silent for longer than was to be expected, and whoever
 * has content first answers (routing 10). At most two race at a time; when both stay silent, a third takes the older one's
 * place. */
#include "coordinator/gateway/call.h"

#include "core/log.h"

static void on_race_due(struct net_timer *timer);

static uint64_t patience_ms(const struct call *call)
{
	return (uint64_t)call->gateway->options.first_content_ms + call->prompt_estimate;
}

static struct attempt *oldest(struct call *call)
{
	return LIST_OF(list_first(&call->attempts), struct attempt, link);
}

static struct attempt *newest(struct call *call)
{
	return LIST_OF(call->attempts.head.prev, struct attempt, link);
}

static void arm(struct call *call, double ms)
{
	net_timer_start(call->gateway->options.loop, &call->race_timer, ms < 1 ? 1 : (uint64_t)ms, 0, on_race_due);
}

/* The newest is looked at from the floor on. */
static void watch(struct call *call, struct attempt *attempt)
{
	double floor_ms = call->hedge->policy.floor_ms;
	double due_ms = hedge_due_ms(call->hedge, attempt->predicted_ms, attempt->tail_ms, (double)patience_ms(call));
	attempt->hedge_due_ms = due_ms;
	arm(call, due_ms < floor_ms ? due_ms : floor_ms);
}

void race_arm(struct call *call, struct attempt *first)
{
	struct gateway *gateway = call->gateway;
	if (call->resuming || gateway->options.hedge_percent == 0 || (first->owned && call->wishes.prefers_own))
		return;
	call->hedge = hedges_of(&gateway->hedge_buckets, str_of(call->model));
	watch(call, first);
}

void race_stop(struct call *call, uint64_t loser_prompt, uint64_t loser_output)
{
	net_timer_stop(&call->race_timer);
	if (!call->racing)
		return;
	call->racing = false;
	hedge_end(call->hedge, &call->backup, loser_prompt, loser_output);
	metric_add(call->gateway->hedge_tokens, loser_prompt + loser_output);
}

void race_won(struct attempt *winner)
{
	struct call *call = winner->call;
	struct gateway *gateway = call->gateway;
	uint64_t prompt = 0, output = 0;
	if (call->racing)
		metric_add(winner->is_backup ? gateway->hedges_won : gateway->hedges_lost, 1);
	if (call->racing && winner->is_backup)
		fleet_note_demand(gateway->options.fleet, str_of(call->model), PLANNER_HEDGE_WON);
	LIST_EACH_SAFE (link, next, &call->attempts) {
		struct attempt *other = LIST_OF(link, struct attempt, link);
		if (other == winner)
			continue;
		prompt += other->accepted ? call->prompt_estimate : 0;
		output += other->answer ? other->answer->chunks : 0;
		tries_end(other, RECORD_TRY_OVERTAKEN, 0, other->answer ? other->answer->chunks : 0);
		log_info("request.hedge_lost", "id=%s backup=%d", call->id, other->is_backup);
		dispatch_drop(other);
	}
	race_stop(call, prompt, output);
}

void race_one_left(struct call *call)
{
	race_stop(call, 0, 0);
	if (call->gateway->options.hedge_percent > 0)
		arm(call, (double)patience_ms(call) / 2);
}

bool race_approves(struct call *call, const struct route_decision *decision)
{
	const struct attempt *first = oldest(call);
	const struct gateway_options *options = &call->gateway->options;
	double passed_ms = (double)(net_now_us(options->loop) - first->started_us) / 1000;
	double most_ms = first->accepted ? options->accepted_ms : (double)patience_ms(call);
	struct hedge_backup backup = {.ttft_ms = decision->ttft_ms, .cold = decision->cold, .prompt_tokens = call->prompt_estimate};
	if (!hedge_begin(call->hedge, &backup, most_ms - passed_ms))
		return false;
	call->backup = backup;
	call->racing = true;
	fleet_note_demand(call->gateway->options.fleet, str_of(call->model), PLANNER_HEDGE_STARTED);
	return true;
}

/* The older of two that both stayed silent. */
static void give_up_oldest(struct call *call)
{
	if (silence_of(oldest(call)).since_sent_ms >= (double)patience_ms(call))
		dispatch_retire(oldest(call), 504, "no content came in time.");
	else
		dispatch_pass_over(oldest(call));
}

/* After so many milliseconds the newest is to be looked at again; 0: another one is to be asked. */
static double look_away_ms(struct call *call)
{
	const struct attempt *attempt = newest(call);
	double most_ms = (double)(attempt->accepted ? call->gateway->options.accepted_ms : patience_ms(call));
	struct hedge_silence silence = silence_of(attempt);
	return hedge_look_ms(call->hedge, attempt->hedge_due_ms, &silence, most_ms);
}

static void on_race_due(struct net_timer *timer)
{
	struct call *call = LIST_OF(timer, struct call, race_timer);
	call_enter(call);
	size_t live = call->attempts.count;
	bool waits = call->exchange && !call->winner && live > 0;
	LIST_EACH (link, &call->attempts)
		waits = waits && !LIST_OF(link, struct attempt, link)->loading;
	double again_ms = waits ? look_away_ms(call) : 0;
	if (again_ms > 0) {
		arm(call, again_ms);
	} else if (waits) {
		struct hedge_backup before = call->backup;
		bool raced = call->racing;
		call->racing = false;
		bool started = dispatch_backup(call);
		if (started && raced)
			hedge_end(call->hedge, &before, oldest(call)->accepted ? call->prompt_estimate : 0, 0);
		if (!started) {
			call->racing = raced;
			call->backup = before;
		}
		if (started && live > 1)
			give_up_oldest(call);
		if (!call->over && started)
			watch(call, newest(call));
		else if (!call->over)
			arm(call, (double)patience_ms(call) / 2);
	}
	call_leave(call);
}
