/* A request's way through the coordinator: placed, queued, tried again, hedged, continued elsewhere, settled. */
#include <stdlib.h>

#include "swarm/sim/diary.h"
#include "swarm/sim/world_internal.h"

#define ACCEPTED_US    (600ull * 1000000) /* the chapter's patience once a machine accepted */
#define IDLE_US        (20ull * 1000000)  /* between looks whether a stream gets on */
#define COOL_US        (120ull * 1000000)
#define LEAVE_AFTER_US 2000000

static void try_route(struct sim_world *world, struct sim_call *call);

/* --- memory: events hold what they are about --- */

static void call_unref(struct sim_world *world, struct sim_call *call)
{
	if (--call->refs)
		return;
	list_remove(&world->calls, &call->all);
	free(call);
}

static void attempt_unref(struct sim_world *world, struct sim_attempt *attempt)
{
	if (--attempt->refs)
		return;
	call_unref(world, attempt->call);
	free(attempt);
}

void sim_attempt_event(struct sim_world *world, struct sim_attempt *attempt, uint64_t at_us, uint32_t kind, uint32_t number)
{
	attempt->refs++;
	sim_events_add(&world->events, at_us, kind, attempt, number);
}

static void call_event(struct sim_world *world, struct sim_call *call, uint64_t at_us, uint32_t kind)
{
	call->refs++;
	sim_events_add(&world->events, at_us, kind, call, 0);
}

void sim_wait_event(struct sim_world *world, struct sim_call *call)
{
	call_event(world, call, call->leaves_queue_us, SIM_EVENT_QUEUE);
}

void sim_drop_event(struct sim_world *world, const struct sim_event *event)
{
	if (event->kind >= SIM_EVENT_QUEUE)
		call_unref(world, event->subject);
	else if (event->kind >= SIM_EVENT_REACH)
		attempt_unref(world, event->subject);
}

/* --- the end of a call --- */

static void call_end(struct sim_world *world, struct sim_call *call, enum sim_outcome outcome)
{
	struct sim_result *result = call->result;
	if (call->ended)
		return;
	sim_wait_end(world, call);
	call->ended = true;
	result->outcome = (uint8_t)outcome;
	result->made = call->made;
	result->done_ms = (float)(world->now_us - call->request->at_us) / 1000;
	double first_word_s = (double)(call->content ? result->ttft_ms : result->done_ms) / 1000;
	result->late = first_word_s > world->scenario->deadline_s;
	double output_s = ((double)result->done_ms - (double)result->ttft_ms) / 1000;
	if (outcome == SIM_OK) {
		result->rate_tps = (float)(output_s > 0 ? call->request->output / output_s : 1e6);
		hedge_answered(&world->hedge, call->request->prompt, call->request->output);
	}
	world->open--;
	if (world->draining && !world->open && !world->measure->drained_us)
		world->measure->drained_us = world->now_us;
	call_unref(world, call);
}

void sim_refuse(struct sim_world *world, struct sim_call *call)
{
	call_end(world, call, call->content ? SIM_PARTIAL : SIM_REFUSED);
}

/* --- attempts --- */

/* The coordinator's side of the end of an attempt: its place is free for others. */
static void release(struct sim_world *world, struct sim_attempt *attempt, enum sim_end end)
{
	struct sim_seat *seat = attempt->seat;
	attempt->over = true;
	if (!attempt->reached)
		seat->coming -= attempt->stream.prompt;
	seat->pending--;
	seat->slot_pending[attempt->slot]--;
	seat->slot_tokens[attempt->slot] -= (uint64_t)attempt->stream.prompt + attempt->stream.max_tokens;
	if (world->policy->release)
		world->policy->release(world, attempt, end);
	list_remove(&attempt->call->attempts, &attempt->link);
	list_remove(&seat->attempts, &attempt->of_seat);
	sim_mark(world, seat);
	attempt_unref(world, attempt);
}

/* What a machine did for an attempt, once for each: tokens that reached the client, and those that were worked off for nothing.
 */
static void settle(struct sim_world *world, const struct sim_attempt *attempt, double made)
{
	struct sim_measure *measure = world->measure;
	double prompt_read = attempt->stream.prompt_read;
	measure->used_prompt += attempt->content ? prompt_read : 0;
	measure->wasted_prompt += attempt->content ? 0 : prompt_read;
	measure->used_output += attempt->given;
	measure->wasted_output += made - attempt->given;
}

static void give(struct sim_attempt *attempt, uint32_t tokens)
{
	attempt->given += tokens;
	attempt->call->made += tokens;
}

/* One of two is out of the race: its tokens are the price of the hedge. */
static void race_over(struct sim_world *world, struct sim_call *call, double prompt_read, double made)
{
	struct hedge_backup backup = {.prompt_tokens = call->request->prompt};
	if (!call->racing)
		return;
	call->racing--;
	hedge_end(&world->hedge, &backup, (uint64_t)prompt_read, (uint64_t)made);
}

/* Tells the machine to stop; what it does until the word reaches it is lost too. */
static void cancel(struct sim_world *world, struct sim_attempt *attempt, enum sim_end end)
{
	sim_attempt_event(world, attempt, world->now_us + attempt->seat->network_us, SIM_EVENT_CANCEL, 0);
	world->cancelling++;
	release(world, attempt, end);
}

static struct sim_attempt *attempt_new(struct sim_world *world, struct sim_call *call, const struct sim_pick *pick)
{
	struct sim_attempt *attempt = calloc(1, sizeof *attempt);
	const struct sim_request *request = call->request;
	if (!attempt) {
		world->out_of_memory = true;
		return NULL;
	}
	attempt->stream = (struct sim_stream){.prompt = request->prompt + call->made,
	                                      .shared = request->shared,
	                                      .output = request->output - call->made,
	                                      .max_tokens = request->max_tokens,
	                                      .conversation = request->conversation,
	                                      .turn = request->turn,
	                                      .model = call->model,
	                                      .tools = request->tools,
	                                      .bad = request->bad};
	attempt->call = call;
	attempt->seat = pick->seat;
	attempt->mine = pick->mine;
	attempt->sent_us = world->now_us;
	attempt->predicted_ms = pick->predicted_ms;
	attempt->cold = pick->cold;
	attempt->slot = sim_slot_of(pick->seat, call->model);
	attempt->refs = 1;
	call->refs++;
	list_push_back(&call->attempts, &attempt->link);
	list_push_back(&pick->seat->attempts, &attempt->of_seat);
	return attempt;
}

/* How long without content a request has, as far as it is known that the model must be loaded. */
static uint64_t patience_us(const struct sim_world *world, const struct sim_attempt *attempt)
{
	uint64_t patience = sim_goal_us(world, attempt->call->request);
	if (world->policy->accept_disarms)
		return ACCEPTED_US;
	if (attempt->cold && attempt->predicted_ms > 0)
		patience += (uint64_t)(attempt->predicted_ms * 1000);
	return patience;
}

/* ... before it is asked whether to give up. A machine that was known to read slowly has twice what was predicted: one that is
 * as slow as that is not sick. */
static uint64_t give_up_us(const struct sim_world *world, const struct sim_attempt *attempt)
{
	uint64_t patience = patience_us(world, attempt);
	uint64_t predicted_us = attempt->predicted_ms > 0 && !attempt->cold ? (uint64_t)(attempt->predicted_ms * 1000) : 0;
	return patience > 2 * predicted_us ? patience : 2 * predicted_us;
}

static struct sim_attempt *send_to(struct sim_world *world, struct sim_call *call, const struct sim_pick *pick)
{
	struct sim_attempt *attempt = attempt_new(world, call, pick);
	if (!attempt)
		return NULL;
	struct sim_seat *seat = pick->seat;
	seat->pending++;
	seat->slot_pending[attempt->slot]++;
	seat->slot_tokens[attempt->slot] += (uint64_t)attempt->stream.prompt + attempt->stream.max_tokens;
	seat->coming += attempt->stream.prompt;
	world->measure->attempts++;
	world->measure->to_model[call->model]++;
	world->measure->barred += !sim_may_serve(world, call, seat);
	world->measure->to_liars += seat->box.lying;
	seat->attempted++;
	call->tries++;
	call->result->tries++;
	call->result->cold |= pick->cold;
	sim_attempt_event(world, attempt, world->now_us + seat->network_us, SIM_EVENT_REACH, 0);
	sim_attempt_event(world, attempt, world->now_us + give_up_us(world, attempt), SIM_EVENT_DEADLINE, 0);
	return attempt;
}

static void look_again(struct sim_world *world, struct sim_attempt *attempt, double ms)
{
	sim_attempt_event(world, attempt, world->now_us + (uint64_t)(ms * 1000), SIM_EVENT_HEDGE, 0);
}

static void watch_for_hedge(struct sim_world *world, struct sim_attempt *attempt, double tail_ms)
{
	const struct sim_call *call = attempt->call;
	double goal_ms = (double)sim_goal_us(world, call->request) / 1000;
	if (!world->policy->hedges || !world->scenario->hedge || call->content)
		return;
	if (attempt->cold && attempt->predicted_ms > 0)
		goal_ms += attempt->predicted_ms;
	double due_ms = hedge_due_ms(&world->hedge, attempt->predicted_ms, tail_ms, goal_ms);
	attempt->due_ms = due_ms;
	look_again(world, attempt, due_ms < world->hedge.policy.floor_ms ? due_ms : world->hedge.policy.floor_ms);
	struct sim_page *page = sim_diary_page(world, call);
	if (page && call->tries == 1) {
		page->first = attempt->seat->box.index;
		page->first_ill = sim_ill(attempt->seat);
		page->predicted_ms = (float)attempt->predicted_ms;
		page->tail_ms = (float)tail_ms;
		page->due_ms = (float)due_ms;
	}
}

/* Since the machine gave anything to anybody. Its running streams would bring a chunk each few dozen milliseconds. */
static double quiet_ms(struct sim_world *world, struct sim_seat *seat)
{
	sim_box_run(&seat->box, world->now_us);
	sim_schedule(world, &seat->box);
	if (seat->box.decoding_count && seat->box.factor > 0 && seat->connected)
		seat->progress_us = world->now_us;
	return (double)(world->now_us - seat->progress_us) / 1000;
}

/* The rest of an answer that it has begun, to anybody. */
static bool owes_others(const struct sim_seat *seat)
{
	LIST_EACH (link, &seat->attempts)
		if (LIST_OF(link, struct sim_attempt, of_seat)->content)
			return true;
	return false;
}

static void note_second(const struct sim_world *world, const struct sim_attempt *second)
{
	struct sim_page *page = sim_diary_page(world, second->call);
	if (!page)
		return;
	page->second = second->seat->box.index;
	page->second_ill = sim_ill(second->seat);
	page->asked_ms = (float)(world->now_us - second->call->request->at_us) / 1000;
}

static struct sim_attempt *oldest(const struct sim_call *call)
{
	return LIST_OF(call->attempts.head.next, struct sim_attempt, link);
}

static struct sim_attempt *newest(const struct sim_call *call)
{
	return LIST_OF(call->attempts.head.prev, struct sim_attempt, link);
}

static void drop_oldest(struct sim_world *world, struct sim_call *call)
{
	struct sim_attempt *attempt = oldest(call);
	if (call->excluded_count < SIM_MAX_TRIES)
		call->excluded[call->excluded_count++] = attempt->seat;
	cancel(world, attempt, SIM_END_CANCELLED);
}

static void on_hedge(struct sim_world *world, struct sim_attempt *attempt)
{
	struct sim_call *call = attempt->call;
	struct sim_pick pick = {.predicted_ms = -1, .tail_ms = -1};
	if (call->request->prefer_own && sim_is_own(call, attempt->seat)) {
		sim_diary_hedging(world, call, attempt->seat, SIM_HEDGE_OWN);
		return; /* it costs nothing there: no second one is worth it (routing 10) */
	}
	if (attempt->over || call->content || attempt != newest(call) || call->excluded_count >= SIM_MAX_TRIES)
		return;
	double deadline_ms = (double)patience_us(world, attempt) / 1000;
	double since_sent_ms = (double)(world->now_us - attempt->sent_us) / 1000;
	double since_progress_ms = quiet_ms(world, attempt->seat);
	struct hedge_silence silence = {since_sent_ms, since_progress_ms, attempt->accepted, owes_others(attempt->seat)};
	double again_ms = hedge_look_ms(&world->hedge, attempt->due_ms, &silence, deadline_ms);
	if (again_ms > 0) {
		if (since_sent_ms >= attempt->due_ms)
			sim_diary_hedging(world, call, attempt->seat, SIM_HEDGE_WORKING);
		look_again(world, attempt, again_ms);
		return;
	}
	uint32_t excluded = call->excluded_count;
	LIST_EACH (link, &call->attempts)
		call->excluded[call->excluded_count++] = LIST_OF(link, struct sim_attempt, link)->seat;
	enum sim_answer answer = world->policy->pick(world, call, &pick);
	call->excluded_count = excluded;
	sim_diary_hedging(world, call, attempt->seat, answer == SIM_PICKED ? SIM_HEDGE_ASKED : SIM_HEDGE_NOBODY);
	if (answer != SIM_PICKED)
		return;
	struct hedge_backup backup = {
	    .ttft_ms = pick.predicted_ms, .cold = pick.cold, .prompt_tokens = (uint64_t)call->request->prompt};
	uint64_t goal_us = patience_us(world, attempt);
	uint64_t gone_us = world->now_us - attempt->sent_us;
	struct sim_attempt *second = send_to(world, call, &pick);
	if (!second)
		return;
	uint64_t over = world->hedge.over;
	double left_ms = (double)(goal_us > gone_us ? goal_us - gone_us : 0) / 1000;
	if (!hedge_begin(&world->hedge, &backup, left_ms)) { /* it was only asked whether there is a place */
		sim_diary_hedging(world, call, attempt->seat, world->hedge.over > over ? SIM_HEDGE_BUDGET : SIM_HEDGE_NOT_WORTH);
		call->tries--;
		call->result->tries--;
		world->measure->attempts--;
		world->measure->to_model[call->model]--;
		second->seat->attempted--;
		release(world, second, SIM_END_CANCELLED);
		return;
	}
	second->second = call->result->hedged = true;
	call->racing++;
	if (call->attempts.count > 2) /* at most two race: the third takes the oldest one's place */
		drop_oldest(world, call);
	watch_for_hedge(world, second, pick.tail_ms);
	world->measure->hedges++;
	note_second(world, second);
}

/* --- failures --- */

static void next_try(struct sim_world *world, struct sim_call *call)
{
	if (call->ended || call->attempts.count)
		return;
	bool room_nowhere = world->policy->capacity_tries && call->want_of_room >= world->policy->capacity_tries;
	if (call->tries >= SIM_MAX_TRIES || room_nowhere)
		sim_refuse(world, call);
	else
		try_route(world, call);
}

/* An attempt came to nothing; whoever else races goes on. */
static void attempt_failed(struct sim_world *world, struct sim_attempt *attempt, enum sim_end end)
{
	struct sim_call *call = attempt->call;
	bool was_winner = call->winner == attempt;
	if (call->excluded_count < SIM_MAX_TRIES)
		call->excluded[call->excluded_count++] = attempt->seat;
	if (was_winner)
		call->winner = NULL;
	attempt->refs++;
	if (end == SIM_END_TIMEOUT)
		cancel(world, attempt, end);
	else
		release(world, attempt, end);
	attempt_unref(world, attempt);
	if (end == SIM_END_CLIENT && !world->policy->blames_for_clients) {
		while (call->attempts.count)
			cancel(world, LIST_OF(list_first(&call->attempts), struct sim_attempt, link), SIM_END_CANCELLED);
		sim_refuse(world, call);
		return;
	}
	if (was_winner && attempt->content && call->made >= call->request->output) {
		call_end(world, call, SIM_OK); /* only its last message was lost */
		return;
	}
	if (was_winner && !world->policy->resumes) {
		call_end(world, call, SIM_PARTIAL);
		return;
	}
	if (was_winner) {
		call->result->resumed = true;
		world->measure->resumed++;
	}
	next_try(world, call);
}

static void on_failed(struct sim_world *world, struct sim_attempt *attempt, enum sim_failure failure)
{
	static const enum sim_end ends[] = {[SIM_FAIL_FAULT] = SIM_END_FAULT,
	                                    [SIM_FAIL_MEMORY] = SIM_END_CAPACITY,
	                                    [SIM_FAIL_LOAD] = SIM_END_CAPACITY,
	                                    [SIM_FAIL_LOST] = SIM_END_LOST,
	                                    [SIM_FAIL_CLIENT] = SIM_END_CLIENT};
	if (attempt->over)
		return;
	if (attempt->content) /* what the client has is what was made */
		give(attempt, (uint32_t)attempt->made);
	else
		race_over(world, attempt->call, attempt->stream.prompt_read, attempt->made);
	settle(world, attempt, attempt->made);
	world->measure->faults += failure != SIM_FAIL_CLIENT;
	attempt->call->want_of_room += failure == SIM_FAIL_MEMORY;
	if (failure == SIM_FAIL_MEMORY || failure == SIM_FAIL_LOAD)
		attempt->seat->cool_us[attempt->slot] = world->now_us + COOL_US;
	attempt_failed(world, attempt, ends[failure]);
}

/* Without content at the deadline: a machine that works for others is only slow. */
static bool waits_on(struct sim_world *world, struct sim_attempt *attempt)
{
	uint64_t patience = give_up_us(world, attempt);
	double since_sent_ms = (double)(world->now_us - attempt->sent_us) / 1000;
	double since_progress_ms = quiet_ms(world, attempt->seat);
	if (world->policy->accept_disarms || hedge_gives_up(since_sent_ms, since_progress_ms, (double)patience / 1000))
		return false;
	sim_attempt_event(world, attempt, world->now_us + patience, SIM_EVENT_DEADLINE, 0);
	return true;
}

static void on_deadline(struct sim_world *world, struct sim_attempt *attempt)
{
	if (attempt->over)
		return;
	if (attempt->content) { /* does it get on? */
		sim_box_run(&attempt->seat->box, world->now_us);
		sim_schedule(world, &attempt->seat->box);
		double made = sim_box_made(&attempt->seat->box, &attempt->stream);
		bool at_end = attempt->stream.state == SIM_STREAM_OUT;
		if (at_end || made > attempt->seen) {
			attempt->seen = made;
			sim_attempt_event(world, attempt, world->now_us + IDLE_US, SIM_EVENT_DEADLINE, 0);
			return;
		}
		give(attempt, (uint32_t)made);
	} else if (waits_on(world, attempt)) {
		return;
	}
	world->measure->timeouts++;
	attempt_failed(world, attempt, SIM_END_TIMEOUT);
}

/* --- content --- */

static void on_content(struct sim_world *world, struct sim_attempt *attempt)
{
	struct sim_call *call = attempt->call;
	if (attempt->over || call->ended)
		return;
	attempt->content = true;
	attempt->seat->progress_us = world->now_us;
	call->winner = attempt;
	if (world->policy->content)
		world->policy->content(world, attempt);
	LIST_EACH_SAFE (link, next, &call->attempts) {
		struct sim_attempt *other = LIST_OF(link, struct sim_attempt, link);
		if (other != attempt)
			cancel(world, other, SIM_END_CANCELLED);
	}
	struct sim_page *page = sim_diary_page(world, call);
	if (page)
		page->won = attempt->second;
	if (attempt->second)
		world->measure->hedges_won++;
	sim_attempt_event(world, attempt, world->now_us + IDLE_US, SIM_EVENT_DEADLINE, 0);
	if (call->content)
		return;
	call->content = call->result->content = true;
	call->result->ttft_ms = (float)(world->now_us - call->request->at_us) / 1000;
	if (call->request->leaves)
		call_event(world, call, world->now_us + LEAVE_AFTER_US, SIM_EVENT_LEAVE);
}

static void on_done(struct sim_world *world, struct sim_attempt *attempt)
{
	struct sim_call *call = attempt->call;
	if (attempt->over)
		return;
	give(attempt, attempt->stream.output);
	settle(world, attempt, attempt->made);
	attempt->seat->progress_us = world->now_us;
	release(world, attempt, SIM_END_OK);
	call->winner = NULL;
	call_end(world, call, SIM_OK);
}

/* The word to stop has reached the machine: now it is known what a loser did. */
static void on_cancelled(struct sim_world *world, struct sim_attempt *attempt)
{
	double prompt_read = attempt->stream.prompt_read, made = attempt->made;
	world->cancelling--;
	if (attempt->reached && attempt->stream.state != SIM_STREAM_OUT) {
		sim_box_cancel(&attempt->seat->box, &attempt->stream, world->now_us, &prompt_read, &made);
		sim_schedule(world, &attempt->seat->box);
	}
	settle(world, attempt, made);
	if (!attempt->content)
		race_over(world, attempt->call, prompt_read, made);
}

static void on_reach(struct sim_world *world, struct sim_attempt *attempt)
{
	if (attempt->over)
		return;
	attempt->reached = true;
	attempt->accepted = !attempt->seat->frozen;
	attempt->seat->coming -= attempt->stream.prompt;
	sim_box_submit(&attempt->seat->box, &attempt->stream, world->now_us);
	sim_schedule(world, &attempt->seat->box);
}

static void on_leave(struct sim_world *world, struct sim_call *call)
{
	if (call->ended)
		return;
	while (call->attempts.count) {
		struct sim_attempt *attempt = LIST_OF(list_first(&call->attempts), struct sim_attempt, link);
		sim_box_run(&attempt->seat->box, world->now_us);
		sim_schedule(world, &attempt->seat->box);
		if (attempt == call->winner)
			give(attempt, (uint32_t)sim_box_made(&attempt->seat->box, &attempt->stream));
		cancel(world, attempt, SIM_END_CANCELLED);
	}
	call_end(world, call, SIM_LEFT);
}

/* --- placing --- */

enum sim_answer sim_place(struct sim_world *world, struct sim_call *call)
{
	struct sim_pick pick = {.predicted_ms = -1, .tail_ms = -1};
	world->measure->decisions++;
	enum sim_answer answer = world->policy->pick(world, call, &pick);
	if (answer != SIM_PICKED)
		return answer;
	sim_wait_end(world, call);
	struct sim_attempt *attempt = send_to(world, call, &pick);
	if (attempt)
		watch_for_hedge(world, attempt, pick.tail_ms);
	return SIM_PICKED;
}

static void try_route(struct sim_world *world, struct sim_call *call)
{
	enum sim_answer answer = sim_place(world, call);
	if (answer == SIM_PICKED)
		return;
	bool may_wait = call->tries == 0 || world->policy->queues_retries;
	if (answer == SIM_LATER && may_wait && sim_wait(world, call))
		return;
	world->measure->refused_later += answer == SIM_LATER;
	sim_refuse(world, call);
}

void sim_arrive(struct sim_world *world, size_t index)
{
	struct sim_call *call = calloc(1, sizeof *call);
	if (!call) {
		world->out_of_memory = true;
		return;
	}
	call->request = &world->trace->requests[index];
	call->model = call->request->model;
	call->result = &world->results[index];
	call->refs = 1;
	(void)sim_account(call->request->tenant, call->account);
	list_init(&call->attempts);
	list_push_back(&world->calls, &call->all);
	world->open++;
	if (world->draining) {
		world->measure->refused_draining++;
		sim_refuse(world, call);
		return;
	}
	const struct sim_alias *alias = sim_alias_of(world->scenario, call->model);
	if (alias)
		call->model =
		    world->policy->resolve ? world->policy->resolve(world, call, alias) : sim_resolve_plainly(world, call, alias);
	try_route(world, call);
}

void sim_call_event(struct sim_world *world, const struct sim_event *event)
{
	struct sim_attempt *attempt = event->subject;
	struct sim_call *call = event->subject;
	switch ((enum sim_event_kind)event->kind) {
	case SIM_EVENT_REACH:
		on_reach(world, attempt);
		break;
	case SIM_EVENT_CONTENT:
		on_content(world, attempt);
		break;
	case SIM_EVENT_DONE:
		on_done(world, attempt);
		break;
	case SIM_EVENT_FAILED:
		on_failed(world, attempt, (enum sim_failure)event->number);
		break;
	case SIM_EVENT_DEADLINE:
		on_deadline(world, attempt);
		break;
	case SIM_EVENT_HEDGE:
		on_hedge(world, attempt);
		break;
	case SIM_EVENT_CANCEL:
		on_cancelled(world, attempt);
		break;
	case SIM_EVENT_QUEUE:
		for (struct sim_call *late; (late = sim_wait_expired(world, call));)
			sim_refuse(world, late);
		break;
	case SIM_EVENT_LEAVE:
		on_leave(world, call);
		break;
	default:
		break;
	}
	sim_drop_event(world, event);
}

void sim_abandon(struct sim_world *world)
{
	LIST_EACH_SAFE (link, next, &world->calls) {
		struct sim_call *call = LIST_OF(link, struct sim_call, all);
		call->refs++;
		while (call->attempts.count)
			release(world, LIST_OF(list_first(&call->attempts), struct sim_attempt, link), SIM_END_CANCELLED);
		call_end(world, call, SIM_OPEN);
		call_unref(world, call);
	}
}
