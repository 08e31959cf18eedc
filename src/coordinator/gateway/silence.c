/* How long a provider may be silent, before content and after it (routing 10). */
#include "coordinator/gateway/call.h"

static uint64_t patience_ms(const struct call *call)
{
	return (uint64_t)call->gateway->options.first_content_ms + call->prompt_estimate;
}

struct hedge_silence silence_of(const struct attempt *attempt)
{
	uint64_t now = net_now_us(attempt->call->gateway->options.loop);
	return (struct hedge_silence){.since_sent_ms = (double)(now - attempt->started_us) / 1000,
	                              .since_progress_ms = (double)(now - fleet_job_progress_us(attempt->job)) / 1000,
	                              .accepted = attempt->accepted || attempt->held_count > 0,
	                              .owes_others = fleet_job_owes_others(attempt->job)};
}

/* --- after content --- */

/* Until when it may be silent: a whole answer has its time in all, a stream has it again with every chunk. */
static uint64_t idle_end_us(const struct attempt *attempt)
{
	const struct call *call = attempt->call;
	uint64_t since = call->stream ? attempt->last_chunk_us : attempt->started_us;
	return since + (uint64_t)call->gateway->options.idle_ms * 1000;
}

/* Another provider could go on with the answer: then less patience is needed with one that gives nobody anything any more. */
static uint64_t stall_end_us(const struct attempt *attempt)
{
	const struct call *call = attempt->call;
	uint64_t stall_us = (uint64_t)call->gateway->options.stall_ms * 1000;
	return resume_possible(call) && call->unconsumed == 0 ? fleet_job_progress_us(attempt->job) + stall_us : UINT64_MAX;
}

static void on_deadline(struct net_timer *timer);

static void watch_until(struct attempt *attempt, uint64_t end_us, uint64_t now_us)
{
	uint64_t ms = end_us > now_us ? (end_us - now_us) / 1000 + 1 : 1;
	net_timer_start(attempt->call->gateway->options.loop, &attempt->deadline, ms, 0, on_deadline);
}

/* Started once an answer, and then when it ends: a timer for each chunk would cost more than looking now and then. */
void silence_after_content(struct attempt *attempt)
{
	const struct gateway_options *options = &attempt->call->gateway->options;
	uint64_t now = net_now_us(options->loop),
	         first = options->stall_ms < options->idle_ms ? options->stall_ms : options->idle_ms;
	attempt->last_chunk_us = now;
	watch_until(attempt, now + first * 1000, now);
}

static void on_idle(struct attempt *attempt)
{
	struct call *call = attempt->call;
	uint64_t now = net_now_us(call->gateway->options.loop);
	uint64_t idle_us = idle_end_us(attempt), stall_us = stall_end_us(attempt);
	if (now < idle_us && now < stall_us) {
		uint64_t look_us = now + (uint64_t)call->gateway->options.stall_ms * 1000; /* it may become possible to go on */
		uint64_t end_us = idle_us < stall_us ? idle_us : stall_us;
		watch_until(attempt, end_us < look_us ? end_us : look_us, now);
	} else if (call->unconsumed > 0) {
		relay_abort_slow(call);
	} else {
		dispatch_give_up(attempt, 504, "it fell silent.");
	}
}

/* --- before content --- */

/* It said nothing to this request; to others it does (hedge.h). */
static bool waits_on(const struct attempt *attempt, double *again_ms)
{
	double patience = (double)patience_ms(attempt->call);
	struct hedge_silence silence = silence_of(attempt);
	*again_ms = hedge_waits_ms(silence.since_sent_ms, patience);
	return !attempt->accepted && !hedge_gives_up(silence.since_sent_ms, silence.since_progress_ms, patience);
}

static void on_deadline(struct net_timer *timer)
{
	struct attempt *attempt = LIST_OF(timer, struct attempt, deadline);
	struct call *call = attempt->call;
	const struct gateway_options *options = &call->gateway->options;
	double again_ms;
	call_enter(call);
	if (call->winner == attempt) {
		on_idle(attempt);
	} else if (!attempt->accepted && attempt->held_count > 0 && !attempt->extended) {
		attempt->extended = true;
		net_timer_start(options->loop, &attempt->deadline, options->preamble_ms, 0, on_deadline);
	} else if (waits_on(attempt, &again_ms)) {
		net_timer_start(options->loop, &attempt->deadline, (uint64_t)again_ms + 1, 0, on_deadline);
	} else {
		fleet_note_demand(call->gateway->options.fleet, str_of(call->model), PLANNER_TTFT_MISS);
		dispatch_give_up(attempt, 504, "no answer came in time.");
	}
	call_leave(call);
}

void silence_sent(struct attempt *attempt)
{
	net_timer_start(attempt->call->gateway->options.loop, &attempt->deadline, patience_ms(attempt->call), 0, on_deadline);
}

void silence_accepted(struct attempt *attempt)
{
	const struct gateway_options *options = &attempt->call->gateway->options;
	net_timer_start(options->loop, &attempt->deadline, options->accepted_ms, 0, on_deadline);
}
