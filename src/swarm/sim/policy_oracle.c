/* What could be done with perfect knowledge: the true state of every machine at this moment and the length of every answer.
 * No coordinator can have it; it is what the others are measured against. */
#include "swarm/sim/world.h"

#include <math.h>

#define FIRST_WEIGHT 8.0 /* of the time to the first content: what serves the goals best of the weights that were tried */
#define MISSED_MS    1e7 /* a machine that would not meet the goal comes after all that would */

struct outlook {
	double ttft_ms, rate_tps, harm_ms;
	bool cold;
};

/* Streams that run get less while the prompt is read, and from then on because there is one more. */
static double harm(const struct sim_box *box, const struct sim_slot *slot, double read_ms, double output)
{
	double slowdown = box->scenario->batch_slowdown, others = box->decoding_count;
	double output_ms = 1000 * output / slot->solo_tps * (1 + slowdown * others);
	return others * (read_ms * box->scenario->prefill_share + output_ms * slowdown / (1 + slowdown * others));
}

static bool look(struct sim_world *world, const struct sim_call *call, struct sim_seat *seat, struct outlook *out)
{
	struct sim_box *box = &seat->box;
	const struct sim_request *request = call->request;
	struct sim_slot *slot = sim_box_slot(box, request->model);
	bool dead = !sim_may_serve(world, call, seat) || seat->frozen || !(box->factor > 0) || box->erring ||
	            (box->erring_tools && request->tools);
	if (!slot || dead || sim_is_excluded(call, seat))
		return false;
	sim_box_run(box, world->now_us);
	out->cold = slot->state != ROUTE_SLOT_IDLE && slot->state != ROUTE_SLOT_RUNNING;
	uint32_t given = slot->reading + slot->decoding + (uint32_t)slot->waiting.count;
	if (given >= box->group->concurrency || seat->pending >= box->group->concurrency)
		return false;
	struct sim_beat now;
	if (out->cold) {
		sim_box_beat(box, &now);
		if (slot->size_gb * 1.1176 > now.free_for_load_gb && !slot->loading)
			return false;
	}
	double share = box->decoding_count ? box->scenario->prefill_share : 1, speed = slot->prefill_tps * box->factor * share;
	double cached = sim_box_cached(box, request->conversation, request->shared);
	double read_ms = 1000 * (request->prompt + call->made - cached) / speed;
	double load_ms = out->cold ? 1000 * slot->size_gb / box->group->load_gbps : 0;
	out->ttft_ms =
	    load_ms + sim_box_prompt_ms(box) + 1000 * seat->coming / speed + read_ms + 2 * (double)seat->network_us / 1000;
	double streams = box->decoding_count + (double)box->prompts.count + 1;
	out->rate_tps = slot->solo_tps * box->factor / (1 + box->scenario->batch_slowdown * (streams - 1));
	out->harm_ms = harm(box, slot, read_ms, request->output);
	return true;
}

static enum sim_answer pick(struct sim_world *world, struct sim_call *call, struct sim_pick *out)
{
	uint16_t model = call->model;
	double best = INFINITY, goal_ms = (double)sim_goal_us(world, call->request) / 1000;
	goal_ms -= (double)(world->now_us - call->request->at_us) / 1000;
	for (uint32_t i = 0; i < world->offer_count[model]; i++) {
		struct sim_seat *seat = &world->seats[world->offers[model][i]];
		struct outlook at;
		if (!look(world, call, seat, &at))
			continue;
		double value = FIRST_WEIGHT * at.ttft_ms + 1000 * call->request->output / at.rate_tps + at.harm_ms;
		value += at.ttft_ms > goal_ms || at.rate_tps < world->scenario->decode_tps ? MISSED_MS : 0;
		if (value < best) {
			best = value;
			*out = (struct sim_pick){.seat = seat, .cold = at.cold, .predicted_ms = at.ttft_ms, .tail_ms = -1};
		}
	}
	return best < INFINITY ? SIM_PICKED : SIM_LATER;
}

const struct sim_policy sim_policy_oracle = {.name = "oracle",
                                             .about = "perfect knowledge of machines and answers",
                                             .resumes = true,
                                             .queues_retries = true,
                                             .queue_limit = 100000,
                                             .pick = pick};
