#include "coordinator/routing/hedge.h"

const struct hedge_policy hedge_default_policy = {
    .extra_share = 0.03,
    .burst_tokens = 32768,
    .floor_ms = 400,
    .tail_factor = 2.5,
};

#define COLD_LOAD_MS 10000.0 /* a prediction above it contains a load: its error is not a matter of a factor */

void hedge_init(struct hedge *hedge, const struct hedge_policy *policy)
{
	*hedge = (struct hedge){.policy = policy ? *policy : hedge_default_policy};
	hedge->budget = hedge->policy.burst_tokens;
}

double hedge_due_ms(const struct hedge *hedge, double predicted_ms, double tail_ms, double deadline_ms)
{
	double latest = deadline_ms / 2;
	double due = tail_ms;
	if (due < 0 && predicted_ms >= 0)
		due = predicted_ms < COLD_LOAD_MS ? predicted_ms * hedge->policy.tail_factor : predicted_ms;
	if (due < 0 || due > latest)
		return latest;
	if (due < hedge->policy.floor_ms)
		due = hedge->policy.floor_ms;
	return due < latest ? due : latest;
}

double hedge_again_ms(double since_sent_ms, double since_progress_ms, double deadline_ms)
{
	if (since_progress_ms >= since_sent_ms || since_progress_ms >= HEDGE_QUIET_MS || since_sent_ms >= deadline_ms)
		return 0;
	double again = HEDGE_QUIET_MS - since_progress_ms, left = deadline_ms - since_sent_ms;
	again = again < left ? again : left;
	return again < 1 ? 1 : again;
}

static double most(double a, double b)
{
	return a > b ? a : b;
}

/* How long until its silence means that it has stopped. */
static double stops_in_ms(const struct hedge *hedge, const struct hedge_silence *silence)
{
	if (silence->owes_others)
		return most(HEDGE_QUIET_MS - silence->since_progress_ms, hedge->policy.floor_ms - silence->since_sent_ms);
	if (!silence->accepted)
		return HEDGE_QUIET_MS -
		       (silence->since_sent_ms < silence->since_progress_ms ? silence->since_sent_ms : silence->since_progress_ms);
	return HEDGE_QUIET_MS; /* it may begin to owe something */
}

double hedge_look_ms(const struct hedge *hedge, double due_ms, const struct hedge_silence *silence, double deadline_ms)
{
	double left_ms = due_ms - silence->since_sent_ms, stops_ms = stops_in_ms(hedge, silence);
	if (left_ms <= 0)
		return hedge_again_ms(silence->since_sent_ms, silence->since_progress_ms, deadline_ms);
	if (stops_ms <= 0)
		return 0;
	return most(left_ms < stops_ms ? left_ms : stops_ms, 1);
}

/* The loser is one of the two: it reads the prompt, and until it is cancelled it makes hardly any output. */
static double hold_of(const struct hedge_backup *backup)
{
	return (double)backup->prompt_tokens;
}

bool hedge_begin(struct hedge *hedge, const struct hedge_backup *backup, double left_ms)
{
	if (backup->cold || backup->ttft_ms > left_ms)
		return false;
	double hold = hold_of(backup);
	if (hold > hedge->budget) {
		hedge->over++;
		return false;
	}
	hedge->budget -= hold;
	hedge->held += hold;
	hedge->started++;
	return true;
}

static void add(struct hedge *hedge, double tokens)
{
	double most = hedge->policy.burst_tokens;
	hedge->budget += tokens;
	if (hedge->budget > most)
		hedge->budget = most;
}

void hedge_end(struct hedge *hedge, const struct hedge_backup *backup, uint64_t loser_prompt, uint64_t loser_output)
{
	double hold = hold_of(backup);
	hedge->held -= hold;
	hedge->extra += loser_prompt + loser_output;
	add(hedge, hold - (double)loser_prompt - (double)loser_output);
}

bool hedge_gives_up(double since_sent_ms, double since_progress_ms, double deadline_ms)
{
	if (since_sent_ms < deadline_ms)
		return false;
	return since_progress_ms >= since_sent_ms || since_progress_ms >= deadline_ms ||
	       since_sent_ms >= HEDGE_PATIENCE * deadline_ms;
}

double hedge_waits_ms(double since_sent_ms, double deadline_ms)
{
	return since_sent_ms < deadline_ms ? deadline_ms - since_sent_ms : deadline_ms;
}

void hedge_answered(struct hedge *hedge, uint64_t prompt_tokens, uint64_t output_tokens)
{
	hedge->answered += prompt_tokens + output_tokens;
	add(hedge, hedge->policy.extra_share * (double)(prompt_tokens + output_tokens));
}
