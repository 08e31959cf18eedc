/* When a second provider is asked for a request that the first has not begun to answer, and when not (routing 10, with the
 * corrections of routing 22: acceptance alone disarms nothing). Pure, for the gateway and for the simulator.
 *
 * The order of things, for one request:
 *   1. sent to the first:  after = hedge_due_ms(...); start a timer
 *   2. the timer fires and there is no content: route_select with the first excluded; hedge_begin decides whether it is worth
 * it and within the budget; if not, release the reservation and wait on
 *   3. first content wins; the other is cancelled and hedge_end told what it had done
 *   4. every request that was answered: hedge_answered, which earns the budget
 * Extra tokens are those of losers: the prompt that they read and the output that they made. Thread: one at a time. */
#ifndef COORDINATOR_HEDGE_H
#define COORDINATOR_HEDGE_H

#include <stdbool.h>
#include <stdint.h>

struct hedge_policy {
	double extra_share;  /* of the tokens of answered requests that losers may take: 0.03 */
	double burst_tokens; /* of unused budget that is kept, and what there is at the start: 32,768 */
	double floor_ms;     /* no second provider before: 400 */
	double tail_factor;  /* of the predicted time, while nothing was learnt about how wrong predictions are: 2.5 */
};
extern const struct hedge_policy hedge_default_policy;

struct hedge {
	struct hedge_policy policy;
	double budget;          /* tokens that may still be spent */
	double held;            /* of hedges that have not ended */
	uint64_t answered;      /* tokens of answered requests */
	uint64_t extra;         /* tokens of losers */
	uint64_t started, over; /* hedges begun; refused for want of budget */
};

/* policy NULL: the defaults. */
void hedge_init(struct hedge *hedge, const struct hedge_policy *policy);

/* How long after the send to wait for content before a second provider is asked. `predicted_ms`: of the decision (< 0 unknown);
 * `tail_ms`: by when nearly all requests so predicted had content (< 0: nothing learnt); `deadline_ms`: when the attempt is
 * given up. Never later than half the deadline, so that the second has as long as the first had; a load of the model that the
 * first was known to need is not a reason to hedge sooner. */
double hedge_due_ms(const struct hedge *hedge, double predicted_ms, double tail_ms, double deadline_ms);

/* When the time has come: how long to look away again, or 0 to ask a second now. A provider that gives others content is busy
 * and not sick: asking another one would only move its load there. It has until half the deadline, and longer as long as it
 * gets on with others at least every HEDGE_QUIET_MS. `since_progress_ms`: since any chunk for anybody came from it. */
#define HEDGE_QUIET_MS 500.0
double hedge_again_ms(double since_sent_ms, double since_progress_ms, double deadline_ms);

/* The same before the time has come. A provider that owes a word - that it accepted the request, which it says at once, or more
 * of an answer that it is giving to somebody - and has given nobody anything for HEDGE_QUIET_MS has stopped: nothing is
 * gained by waiting for as long as a healthy one would have taken. 0 to ask a second now, or how long until it is to be looked
 * at. */
struct hedge_silence {
	double since_sent_ms, since_progress_ms; /* progress: any chunk for anybody */
	bool accepted;                           /* it said so, or content has come */
	bool owes_others;                        /* the rest of answers that it began */
};
double hedge_look_ms(const struct hedge *hedge, double due_ms, const struct hedge_silence *silence, double deadline_ms);

struct hedge_backup { /* what route_select said about the second */
	double ttft_ms;   /* < 0 = unknown */
	bool cold;        /* it would have to load the model */
	uint64_t prompt_tokens;
};
/* True: send it, and call hedge_end later. `left_ms`: until the first is given up. */
bool hedge_begin(struct hedge *hedge, const struct hedge_backup *backup, double left_ms);
/* The race is over: `loser_prompt` tokens of the prompt and `loser_output` tokens were worked off for nothing (as far as one
 * knows: the whole prompt when in doubt). `backup` as given to hedge_begin. */
void hedge_end(struct hedge *hedge, const struct hedge_backup *backup, uint64_t loser_prompt, uint64_t loser_output);
/* At the deadline of an attempt without content: is it to be given up? Giving up on a provider that is only slow throws its
 * work away and asks another one for it, and under load that feeds itself until nothing is answered any more. So an attempt is
 * given up when the provider has said nothing at all since the request was sent (no content for anybody), and otherwise waited
 * for as long as HEDGE_PATIENCE deadlines. `since_progress_ms`: since any chunk for anybody came from it. */
#define HEDGE_PATIENCE 10.0
bool hedge_gives_up(double since_sent_ms, double since_progress_ms, double deadline_ms);
/* When one that is not given up is looked at again, in milliseconds: a deadline later; at the deadline itself when the look
 * came before it, as a timer does that goes by whole milliseconds of the loop's turn. */
double hedge_waits_ms(double since_sent_ms, double deadline_ms);

void hedge_answered(struct hedge *hedge, uint64_t prompt_tokens, uint64_t output_tokens);

#endif
