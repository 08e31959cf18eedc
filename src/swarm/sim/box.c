#include "swarm/sim/box.h"

#include <math.h>
#include <stdlib.h>

#define GIB              1073741824.0
#define SIZE_IN_MEMORY   1.1176 /* of a model, in GiB for each GB of its file (routing 8.2) */
#define USABLE_MEMORY    0.9
#define SPARE_GB         3.0
#define LEAST_KV_GB      1.0
#define SMOOTHING        0.2 /* weight of the newest sample in reported rates */
#define LIE_TOKENS       1000000000000u
#define MAX_REPORTED_TPS 500.0 /* what the coordinator clamps reports to (routing 1) */
#define DONE             1e-6  /* tokens: less than so much left is none */

enum { PURPOSE_BOX = 16 };

/* What an alias will stand for is downloaded while the scenario runs. */
static bool arrives_later(const struct sim_scenario *scenario, const struct sim_model *model)
{
	for (uint32_t i = 0; i < scenario->alias_count; i++)
		if (str_is(str_of(model->id), scenario->aliases[i].desired))
			return true;
	return false;
}

enum db_err sim_box_init(struct sim_box *box, uint32_t index, const struct sim_scenario *scenario,
                         const struct sim_group *group, uint32_t nth, const struct sim_box_host *host,
                         struct sim_measure *measure)
{
	uint16_t offered[SIM_MAX_BOX_MODELS];
	*box = (struct sim_box){.index = index,
	                        .scenario = scenario,
	                        .group = group,
	                        .host = host,
	                        .measure = measure,
	                        .random = sim_random_for(scenario->seed + index, PURPOSE_BOX),
	                        .factor = 1,
	                        .next_us = SIM_NEVER_US,
	                        .decoding_cap = 32};
	list_init(&box->prompts);
	box->decoding = calloc(box->decoding_cap, sizeof(struct sim_stream *));
	if (!box->decoding)
		return DB_E_NOMEM;
	box->load_failures_of = -1;
	box->speed = sim_random_lognormal(&box->random, 1, group->spread);
	box->slot_count = sim_offered(scenario, group, nth, offered);
	bool warm = fmod(nth * 0.6180339887498949 + 0.25, 1) < group->warm;
	for (uint32_t i = 0; i < box->slot_count; i++) {
		const struct sim_model *model = &scenario->models[offered[i]];
		struct sim_slot *slot = &box->slots[i];
		slot->model = offered[i];
		slot->absent = arrives_later(scenario, model);
		slot->faults = model->faults;
		slot->state = ROUTE_SLOT_COLD;
		slot->size_gb = model->size_gb;
		slot->kv_bytes = model->kv_bytes_per_token;
		slot->solo_tps = group->decode_tps * model->speed * box->speed;
		slot->prefill_tps = group->prefill_tps * model->speed * box->speed;
		list_init(&slot->waiting);
	}
	struct sim_slot *first = box->slots[0].absent && box->slot_count > 1 ? &box->slots[1] : &box->slots[0];
	first->state = warm && !first->absent ? ROUTE_SLOT_IDLE : ROUTE_SLOT_COLD;
	return DB_OK;
}

void sim_box_free(struct sim_box *box)
{
	free(box->decoding);
	box->decoding = NULL;
}

struct sim_slot *sim_box_slot(struct sim_box *box, uint16_t model)
{
	for (uint32_t i = 0; i < box->slot_count; i++)
		if (box->slots[i].model == model)
			return &box->slots[i];
	return NULL;
}

static bool resident(const struct sim_slot *slot)
{
	return slot->state == ROUTE_SLOT_IDLE || slot->state == ROUTE_SLOT_RUNNING;
}

static uint32_t working(const struct sim_slot *slot)
{
	return slot->reading + slot->decoding;
}

/* --- streams that decode: a heap by the end of their output --- */

static void heap_put(struct sim_box *box, uint32_t at, struct sim_stream *stream)
{
	box->decoding[at] = stream;
	stream->heap_at = at;
}

static void heap_up(struct sim_box *box, uint32_t at, struct sim_stream *stream)
{
	while (at && stream->ends_work < box->decoding[(at - 1) / 2]->ends_work) {
		heap_put(box, at, box->decoding[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_put(box, at, stream);
}

static void heap_down(struct sim_box *box, uint32_t at, struct sim_stream *stream)
{
	for (;;) {
		uint32_t child = at * 2 + 1;
		if (child >= box->decoding_count)
			break;
		if (child + 1 < box->decoding_count && box->decoding[child + 1]->ends_work < box->decoding[child]->ends_work)
			child++;
		if (box->decoding[child]->ends_work >= stream->ends_work)
			break;
		heap_put(box, at, box->decoding[child]);
		at = child;
	}
	heap_put(box, at, stream);
}

static bool heap_add(struct sim_box *box, struct sim_stream *stream)
{
	if (box->decoding_count == box->decoding_cap) {
		struct sim_stream **grown = realloc(box->decoding, 2 * box->decoding_cap * sizeof(struct sim_stream *));
		if (!grown)
			return false;
		box->decoding = grown;
		box->decoding_cap *= 2;
	}
	heap_up(box, box->decoding_count++, stream);
	return true;
}

static void heap_remove(struct sim_box *box, const struct sim_stream *stream)
{
	uint32_t at = stream->heap_at;
	struct sim_stream *last = box->decoding[--box->decoding_count];
	if (last == stream)
		return;
	heap_up(box, at, last);
	heap_down(box, last->heap_at, last);
}

/* --- rates --- */

static double prompt_share(const struct sim_box *box)
{
	return box->decoding_count ? box->scenario->prefill_share : 1;
}

/* Of the clock of decoding, for each second. */
static double work_rate(const struct sim_box *box)
{
	double batch = 1 + box->scenario->batch_slowdown * (box->decoding_count - 1.0);
	double share = box->prompts.count ? 1 - box->scenario->prefill_share : 1;
	return box->decoding_count ? box->factor * share / batch : 0;
}

static struct sim_stream *reading(struct sim_box *box)
{
	struct list_link *first = list_first(&box->prompts);
	return first ? LIST_OF(first, struct sim_stream, link) : NULL;
}

static void advance(struct sim_box *box, uint64_t now_us)
{
	double seconds = (double)(now_us - box->at_us) / 1e6;
	struct sim_stream *prompt = reading(box);
	if (now_us <= box->at_us)
		return;
	if (box->factor > 0 && (prompt || box->decoding_count))
		box->busy_us += now_us - box->at_us;
	double rate = work_rate(box), share = prompt_share(box);
	if (prompt) {
		double read = seconds * box->factor * share * prompt->slot->prefill_tps;
		read = read < prompt->prompt_left ? read : prompt->prompt_left;
		prompt->prompt_left -= read;
		prompt->prompt_read += read;
		box->measure->tokens_in += read;
	}
	box->work += seconds * rate;
	for (uint32_t i = 0; i < box->slot_count && rate > 0; i++) {
		const struct sim_slot *slot = &box->slots[i];
		double made = seconds * rate * slot->solo_tps * slot->decoding;
		box->measure->tokens_out += made;
		if (slot->decoding)
			sim_measure_gap(box->measure, made, rate * slot->solo_tps);
	}
	box->at_us = now_us;
}

static uint64_t after(const struct sim_box *box, double seconds)
{
	return seconds > 1e9 ? SIM_NEVER_US : box->at_us + (uint64_t)ceil(seconds * 1e6);
}

uint64_t sim_box_next(const struct sim_box *box)
{
	uint64_t next = box->loading && box->factor > 0 ? box->load_ends_us : SIM_NEVER_US;
	const struct list_link *first = box->prompts.count ? box->prompts.head.next : NULL;
	double rate = work_rate(box);
	if (first && box->factor > 0) {
		const struct sim_stream *prompt = LIST_OF(first, struct sim_stream, link);
		uint64_t read_us = after(box, prompt->prompt_left / (box->factor * prompt_share(box) * prompt->slot->prefill_tps));
		next = read_us < next ? read_us : next;
	}
	if (rate > 0) {
		uint64_t made_us = after(box, (box->decoding[0]->ends_work - box->work) / rate);
		next = made_us < next ? made_us : next;
	}
	return next;
}

/* --- the cache of prompts --- */

static struct sim_cached *find_cached(const struct sim_box *box, uint32_t conversation)
{
	for (uint32_t i = 0; i < box->scenario->cached_prompts; i++)
		if (box->cached[i].tokens && box->cached[i].conversation == conversation)
			return (struct sim_cached *)&box->cached[i];
	return NULL;
}

uint32_t sim_box_cached(const struct sim_box *box, uint32_t conversation, uint32_t shared)
{
	const struct sim_cached *cached = shared ? find_cached(box, conversation) : NULL;
	return !cached ? 0 : cached->tokens < shared ? cached->tokens : shared;
}

/* Prompts are kept, answers are not (decision 0005). */
static void keep(struct sim_box *box, const struct sim_stream *stream)
{
	uint32_t conversation = stream->conversation;
	struct sim_cached *at = find_cached(box, conversation);
	for (uint32_t i = 0; i < box->scenario->cached_prompts && !at; i++)
		at = box->cached[i].tokens ? NULL : &box->cached[i];
	for (uint32_t i = 0; i < box->scenario->cached_prompts && (!at || at->conversation != conversation); i++)
		if (!at || (at->tokens && box->cached[i].used_us < at->used_us))
			at = &box->cached[i];
	if (at)
		*at = (struct sim_cached){conversation, stream->turn, stream->prompt, stream->model, box->at_us};
}

/* --- admission --- */

static double resident_gb(const struct sim_box *box)
{
	double gb = 0;
	for (uint32_t i = 0; i < box->slot_count; i++)
		gb += resident(&box->slots[i]) || box->slots[i].loading ? box->slots[i].size_gb * SIZE_IN_MEMORY : 0;
	return gb;
}

static double kv_gb(const struct sim_box *box)
{
	double gb = 0;
	for (uint32_t i = 0; i < box->slot_count; i++)
		gb += (double)box->slots[i].reserved * box->slots[i].kv_bytes / GIB;
	return gb;
}

static double free_kv_gb(const struct sim_box *box)
{
	double gb = USABLE_MEMORY * box->group->memory_gb - SPARE_GB - resident_gb(box) - kv_gb(box);
	return gb < 0 ? 0 : gb;
}

static uint64_t free_tokens(const struct sim_box *box, const struct sim_slot *slot)
{
	return (uint64_t)(free_kv_gb(box) * GIB / slot->kv_bytes);
}

static void leave_slot(struct sim_slot *slot, struct sim_stream *stream, uint64_t now_us)
{
	slot->reserved -= stream->need;
	slot->used_us = now_us;
	if (!working(slot))
		slot->state = resident(slot) ? ROUTE_SLOT_IDLE : slot->state;
}

static void start(struct sim_box *box, struct sim_slot *slot, struct sim_stream *stream)
{
	uint32_t cached = sim_box_cached(box, stream->conversation, stream->shared);
	slot->reserved += stream->need;
	slot->state = ROUTE_SLOT_RUNNING;
	slot->reading++;
	stream->state = SIM_STREAM_PROMPT;
	stream->prompt_left = stream->prompt - (cached < stream->prompt ? cached : stream->prompt - 1);
	stream->prompt_us = 0;
	box->measure->cached_tokens += cached;
	list_push_back(&box->prompts, &stream->link);
}

static void admit(struct sim_box *box, struct sim_slot *slot)
{
	while (resident(slot) && slot->waiting.count && working(slot) < box->group->concurrency) {
		struct sim_stream *stream = LIST_OF(list_first(&slot->waiting), struct sim_stream, link);
		if (stream->need > free_tokens(box, slot) && working(slot))
			return;
		list_remove(&slot->waiting, &stream->link);
		start(box, slot, stream);
	}
}

static void admit_all(struct sim_box *box)
{
	for (uint32_t i = 0; i < box->slot_count; i++)
		admit(box, &box->slots[i]);
}

static void fail_waiting(struct sim_box *box, struct sim_slot *slot, enum sim_failure failure)
{
	for (struct list_link *link; (link = list_pop_front(&slot->waiting));) {
		struct sim_stream *stream = LIST_OF(link, struct sim_stream, link);
		stream->state = SIM_STREAM_OUT;
		box->host->failed(box->host->user, stream, failure);
	}
}

/* --- loads --- */

static struct sim_slot *idle_longest(struct sim_box *box, const struct sim_slot *but)
{
	struct sim_slot *oldest = NULL;
	for (uint32_t i = 0; i < box->slot_count; i++) {
		struct sim_slot *slot = &box->slots[i];
		bool idle = slot != but && resident(slot) && !working(slot) && !slot->waiting.count;
		if (idle && (!oldest || slot->used_us < oldest->used_us))
			oldest = slot;
	}
	return oldest;
}

static bool make_room(struct sim_box *box, const struct sim_slot *wanted)
{
	for (;;) {
		if (free_kv_gb(box) >= wanted->size_gb * SIZE_IN_MEMORY + LEAST_KV_GB)
			return true;
		struct sim_slot *oldest = idle_longest(box, wanted);
		if (!oldest)
			return false;
		oldest->state = ROUTE_SLOT_COLD;
		memset(box->cached, 0, sizeof box->cached);
		box->measure->evictions++;
	}
}

static void next_load(struct sim_box *box);

static void begin_load(struct sim_box *box, struct sim_slot *slot)
{
	slot->wanted = false;
	if (!make_room(box, slot)) {
		fail_waiting(box, slot, SIM_FAIL_MEMORY);
		box->host->loaded(box->host->user, box->index, slot->model, false);
		return;
	}
	double seconds = slot->size_gb / box->group->load_gbps;
	box->measure->loads++;
	slot->loading = true;
	slot->load_ms = (uint64_t)(seconds * 1000);
	box->loading = slot;
	box->load_ends_us = after(box, seconds);
}

static void next_load(struct sim_box *box)
{
	for (uint32_t i = 0; i < box->slot_count && !box->loading; i++)
		if (box->slots[i].wanted)
			begin_load(box, &box->slots[i]);
}

static void want(struct sim_box *box, struct sim_slot *slot)
{
	if (resident(slot) || slot->loading)
		return;
	slot->wanted = true;
	next_load(box);
}

static void end_load(struct sim_box *box)
{
	struct sim_slot *slot = box->loading;
	box->loading = NULL;
	slot->loading = false;
	slot->used_us = box->at_us;
	bool concerned = box->load_failures_of < 0 || box->load_failures_of == slot->model;
	bool ok = !concerned || sim_random_unit(&box->random) >= box->load_failures;
	box->measure->load_failures += !ok;
	slot->state = ok ? ROUTE_SLOT_IDLE : ROUTE_SLOT_COLD;
	if (ok)
		admit(box, slot);
	else
		fail_waiting(box, slot, SIM_FAIL_LOAD);
	box->host->loaded(box->host->user, box->index, slot->model, ok);
	next_load(box);
}

void sim_box_load(struct sim_box *box, uint16_t model, uint64_t now_us)
{
	struct sim_slot *slot = sim_box_slot(box, model);
	sim_box_run(box, now_us);
	if (slot && resident(slot))
		box->host->loaded(box->host->user, box->index, model, true);
	else if (slot)
		want(box, slot);
}

/* --- a stream's way --- */

static double smooth(double average, double sample)
{
	return average > 0 ? average + SMOOTHING * (sample - average) : sample;
}

static void prompt_done(struct sim_box *box, struct sim_stream *stream)
{
	struct sim_slot *slot = stream->slot;
	double seconds = (double)(box->at_us - stream->prompt_us) / 1e6;
	list_remove(&box->prompts, &stream->link);
	if (seconds > 0)
		slot->seen_prefill_tps = smooth(slot->seen_prefill_tps, stream->prompt_read / seconds);
	slot->reading--;
	slot->decoding++;
	stream->state = SIM_STREAM_OUTPUT;
	stream->output_us = box->at_us;
	stream->began_work = box->work;
	stream->ends_work = box->work + stream->output / slot->solo_tps;
	keep(box, stream);
	if (!heap_add(box, stream)) {
		slot->decoding--;
		stream->state = SIM_STREAM_OUT;
		leave_slot(slot, stream, box->at_us);
		box->host->failed(box->host->user, stream, SIM_FAIL_FAULT);
		return;
	}
	box->host->content(box->host->user, stream);
}

static void output_done(struct sim_box *box, struct sim_stream *stream)
{
	struct sim_slot *slot = stream->slot;
	double seconds = (double)(box->at_us - stream->output_us) / 1e6;
	heap_remove(box, stream);
	slot->decoding--;
	stream->state = SIM_STREAM_OUT;
	if (seconds > 0)
		slot->seen_decode_tps = smooth(slot->seen_decode_tps, stream->output / seconds);
	leave_slot(slot, stream, box->at_us);
	box->host->done(box->host->user, stream);
	admit_all(box);
}

static bool step(struct sim_box *box)
{
	struct sim_stream *prompt = reading(box);
	if (prompt && !prompt->prompt_us)
		prompt->prompt_us = box->at_us;
	if (!(box->factor > 0))
		return false;
	if (box->loading && box->load_ends_us <= box->at_us) {
		end_load(box);
		return true;
	}
	if (prompt && prompt->prompt_left <= DONE) {
		prompt_done(box, prompt);
		return true;
	}
	if (box->decoding_count && (box->decoding[0]->ends_work - box->work) * box->decoding[0]->slot->solo_tps <= DONE) {
		output_done(box, box->decoding[0]);
		return true;
	}
	return false;
}

void sim_box_run(struct sim_box *box, uint64_t now_us)
{
	for (;;) {
		while (step(box))
			;
		uint64_t next = sim_box_next(box);
		if (next > now_us || next <= box->at_us)
			break;
		advance(box, next);
	}
	advance(box, now_us);
	while (step(box))
		;
}

void sim_box_submit(struct sim_box *box, struct sim_stream *stream, uint64_t now_us)
{
	sim_box_run(box, now_us);
	struct sim_slot *slot = sim_box_slot(box, stream->model);
	stream->slot = slot;
	stream->state = SIM_STREAM_OUT;
	bool fails = !slot || slot->absent || box->erring || (box->erring_tools && stream->tools) ||
	             (slot->faults > 0 && sim_random_unit(&box->random) < slot->faults);
	if (fails || stream->bad) {
		box->host->failed(box->host->user, stream, fails ? SIM_FAIL_FAULT : SIM_FAIL_CLIENT);
		return;
	}
	if (box->squeezed) {
		box->host->failed(box->host->user, stream, SIM_FAIL_MEMORY);
		return;
	}
	stream->need = (uint64_t)stream->prompt + stream->max_tokens;
	stream->state = SIM_STREAM_WAITING;
	list_push_back(&slot->waiting, &stream->link);
	want(box, slot);
	admit(box, slot);
	while (step(box))
		;
}

double sim_box_made(const struct sim_box *box, const struct sim_stream *stream)
{
	if (stream->state != SIM_STREAM_OUTPUT)
		return 0;
	double made = (box->work - stream->began_work) * stream->slot->solo_tps;
	return made < stream->output ? made : stream->output;
}

void sim_box_cancel(struct sim_box *box, struct sim_stream *stream, uint64_t now_us, double *prompt_read, double *made)
{
	sim_box_run(box, now_us);
	*prompt_read = stream->prompt_read;
	*made = stream->state == SIM_STREAM_OUTPUT ? sim_box_made(box, stream) : 0;
	switch (stream->state) {
	case SIM_STREAM_WAITING:
		list_remove(&stream->slot->waiting, &stream->link);
		break;
	case SIM_STREAM_PROMPT:
		list_remove(&box->prompts, &stream->link);
		stream->slot->reading--;
		leave_slot(stream->slot, stream, now_us);
		break;
	case SIM_STREAM_OUTPUT:
		heap_remove(box, stream);
		stream->slot->decoding--;
		leave_slot(stream->slot, stream, now_us);
		break;
	default:
		return;
	}
	stream->state = SIM_STREAM_OUT;
	admit_all(box);
}

/* --- endings --- */

static void lose(struct sim_box *box, struct sim_stream *stream)
{
	struct sim_slot *slot = stream->slot;
	if (stream->state == SIM_STREAM_PROMPT)
		slot->reading--;
	if (stream->state == SIM_STREAM_OUTPUT)
		slot->decoding--;
	leave_slot(slot, stream, box->at_us);
	box->host->failed(box->host->user, stream, SIM_FAIL_LOST);
	stream->state = SIM_STREAM_OUT;
}

void sim_box_lose(struct sim_box *box, uint64_t now_us)
{
	sim_box_run(box, now_us);
	for (uint32_t i = 0; i < box->slot_count; i++)
		fail_waiting(box, &box->slots[i], SIM_FAIL_LOST);
	for (struct list_link *link; (link = list_pop_front(&box->prompts));)
		lose(box, LIST_OF(link, struct sim_stream, link));
	while (box->decoding_count)
		lose(box, box->decoding[--box->decoding_count]);
}

void sim_box_restart(struct sim_box *box, uint64_t now_us)
{
	sim_box_lose(box, now_us);
	box->loading = NULL;
	for (uint32_t i = 0; i < box->slot_count; i++) {
		box->slots[i].state = ROUTE_SLOT_COLD;
		box->slots[i].loading = box->slots[i].wanted = false;
	}
	memset(box->cached, 0, sizeof box->cached);
}

/* --- what it says and what is so --- */

static struct route_slot report(const struct sim_box *box, const struct sim_slot *slot)
{
	uint64_t queued = 0;
	LIST_EACH (link, &slot->waiting)
		queued += LIST_OF(link, struct sim_stream, link)->need;
	return (struct route_slot){
	    .state = slot->state,
	    .running = working(slot),
	    .waiting = (uint32_t)slot->waiting.count,
	    .max_concurrency = box->group->concurrency,
	    .active_tokens = slot->reserved,
	    .max_tokens_potential = slot->reserved,
	    .budget_used = slot->reserved,
	    .budget_queued = queued,
	    .budget_max = slot->reserved + free_tokens(box, slot),
	    .decode_tps = slot->seen_decode_tps > MAX_REPORTED_TPS ? MAX_REPORTED_TPS : slot->seen_decode_tps,
	    .prefill_tps = slot->seen_prefill_tps,
	    .kv_bytes_per_token = slot->kv_bytes,
	    .load_time_ms = slot->load_ms,
	};
}

static void lie(struct sim_beat *beat, const struct sim_box *box)
{
	for (uint32_t i = 0; i < box->slot_count; i++) {
		struct route_slot *slot = &beat->slots[i];
		beat->has[i] = true;
		*slot = (struct route_slot){
		    .state = ROUTE_SLOT_IDLE, .max_concurrency = 24, .budget_max = LIE_TOKENS, .decode_tps = MAX_REPORTED_TPS};
	}
	beat->memory_pressure = beat->cpu_usage = 0;
	beat->free_for_load_gb = 1024;
}

void sim_box_beat(const struct sim_box *box, struct sim_beat *beat)
{
	double idle_gb = 0;
	*beat = (struct sim_beat){.thermal = box->hot ? 2 : 0};
	for (uint32_t i = 0; i < box->slot_count; i++) {
		const struct sim_slot *slot = &box->slots[i];
		beat->has[i] = resident(slot);
		beat->slots[i] = report(box, slot);
		idle_gb += resident(slot) && !working(slot) && !slot->waiting.count ? slot->size_gb * SIZE_IN_MEMORY : 0;
	}
	beat->gpu_active_gb = resident_gb(box) + kv_gb(box);
	beat->memory_pressure = beat->gpu_active_gb / box->group->memory_gb;
	beat->cpu_usage = 0.1 + 0.02 * box->decoding_count;
	double room = free_kv_gb(box) + idle_gb - LEAST_KV_GB;
	beat->free_for_load_gb = box->loading || room < 0 ? 0 : room;
	if (box->lying)
		lie(beat, box);
}

double sim_box_prompt_ms(const struct sim_box *box)
{
	double ms = 0;
	if (!(box->factor > 0))
		return 1e9;
	for (const struct list_link *link = box->prompts.head.next; link != &box->prompts.head; link = link->next) {
		const struct sim_stream *stream = LIST_OF(link, struct sim_stream, link);
		ms += 1000 * stream->prompt_left / (stream->slot->prefill_tps * box->factor * prompt_share(box));
	}
	return ms;
}
