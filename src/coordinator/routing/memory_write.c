#include "coordinator/routing/memory_format.h"

#define LIKELY_MIN   (4u << 20)
#define LIKELY_MODEL 2048

enum part { PART_LIVE_MODELS, PART_PAST_MODELS, PART_OUTPUTS, PART_PAIRS, PART_DEVICES, PART_END, PART_DONE };

static void put(struct buf *out, uint64_t value, int bytes)
{
	char at[8];
	for (int i = 0; i < bytes; i++)
		at[i] = (char)(value >> (8 * i) & 0xff);
	(void)buf_append(out, at, (size_t)bytes);
}

static void put_float(struct buf *out, float value)
{
	uint32_t bits;
	memcpy(&bits, &value, sizeof bits);
	put(out, bits, 4);
}

static void put_text(struct buf *out, struct str text)
{
	put(out, text.len, 2);
	(void)buf_append_str(out, text);
}

/* How long until, or since; 0 is never, and what is over has one millisecond left. */
static void put_left(struct buf *out, uint64_t at_us, uint64_t now_us)
{
	uint64_t ms = at_us > now_us ? (at_us - now_us) / 1000 : 0;
	put(out, !at_us ? 0 : ms < 1 ? 1 : ms < UINT32_MAX ? ms : UINT32_MAX, 4);
}

static void put_since(struct buf *out, uint64_t at_us, uint64_t now_us)
{
	uint64_t ms = now_us > at_us ? (now_us - at_us) / 1000 : 0;
	put(out, !at_us ? 0 : ms < 1 ? 1 : ms < UINT32_MAX ? ms : UINT32_MAX, 4);
}

/* --- models --- */

static void put_model(struct buf *out, const struct route_fleet *fleet, const struct route_known *known, struct str id)
{
	put(out, MEMORY_MODEL, 1);
	put_text(out, id);
	put_float(out, (float)known->typical_prompt);
	put_float(out, (float)known->typical_output);
	put_float(out, known->ratios.total);
	for (int i = 0; i < ROUTE_RATIO_BUCKETS; i++)
		put_float(out, known->ratios.weight[i]);
	put(out, known->rate_count, 2);
	for (uint32_t i = 0; i < known->rate_count; i++) {
		const struct route_rates *rates = known->rates[i];
		put_text(out, route_name_at(&fleet->families, rates->family));
		put(out, rates->count, 1);
		uint8_t oldest = rates->count == ROUTE_RATE_SAMPLES ? rates->next : 0;
		for (uint8_t j = 0; j < rates->count; j++)
			put_float(out, rates->ring[(oldest + j) % ROUTE_RATE_SAMPLES]);
	}
}

/* A table that grew has another order: its part begins again, and the reader passes over what it knows. */
static size_t *cursor_in(struct memory_snapshot *s, const struct map *map)
{
	if (s->cap != map->cap)
		s->cursor = 0;
	s->cap = map->cap;
	return &s->cursor;
}

static void *next_of(struct memory_snapshot *s, const struct map *map)
{
	return map_next(map, cursor_in(s, map));
}

static bool put_next_live_model(struct memory_snapshot *s, const struct route_fleet *fleet)
{
	const struct route_model *model = next_of(s, &fleet->models);
	if (!model)
		return false;
	put_model(&s->bytes, fleet, &model->known, (struct str){model->id, model->id_len});
	return true;
}

static bool put_next_past_model(struct memory_snapshot *s, const struct route_fleet *fleet)
{
	const struct route_past_model *past = next_of(s, &fleet->past_models);
	if (past)
		put_model(&s->bytes, fleet, &past->known, (struct str){past->id, past->id_len});
	return past != NULL;
}

/* --- lengths of answers --- */

static bool put_next_output(struct memory_snapshot *s, const struct learn *learn, bool pairs)
{
	struct learn_known known;
	if (!learn_next(learn, pairs, cursor_in(s, pairs ? &learn->pairs : &learn->models), &known))
		return false;
	put(&s->bytes, pairs ? MEMORY_PAIR : MEMORY_OUTPUT, 1);
	put_text(&s->bytes, known.name);
	put_float(&s->bytes, (float)known.tokens);
	put(&s->bytes, known.answers, 2);
	return true;
}

/* --- devices --- */

static void put_reputation(struct buf *out, const struct reputation *r, uint64_t now_us)
{
	put(out, r->jobs_ok, 4);
	put(out, r->jobs_failed, 4);
	put(out, r->challenges_passed, 4);
	put(out, r->challenges_failed, 4);
	put(out, r->uptime_s, 4);
	put_float(out, r->latency_ms);
	put_since(out, r->seen_us, now_us);
}

static void put_health(struct buf *out, const struct route_health *health, uint64_t now_us)
{
	put_left(out, health->breaker.open_until_us, now_us);
	put_since(out, health->last_fault_us, now_us);
	put(out, health->faults, 4);
	put(out, health->trips, 1);
	put(out, health->consecutive, 1);
	put(out, health->outcomes, 1);
	/* The oldest first: places before `next` when the ring is full, else from 0. */
	unsigned oldest = health->outcomes == ROUTE_BREAKER_RING ? health->next : 0;
	for (unsigned i = 0; i < health->outcomes; i++)
		put_since(out, health->at_us[(oldest + i) % ROUTE_BREAKER_RING], now_us);
}

static void put_record(struct buf *out, const struct route_record *record, uint64_t now_us)
{
	put_text(out, (struct str){record->model, record->model_len});
	put_left(out, record->cool_until_us, now_us);
	for (int shape = 0; shape < ROUTE_SHAPES; shape++) {
		put_left(out, record->shapes[shape].breaker.open_until_us, now_us);
		put_since(out, record->shapes[shape].struck_us, now_us);
		put(out, record->shapes[shape].strikes, 1);
	}
}

static void put_device(struct buf *out, const struct route_device *device, uint64_t now_us)
{
	struct route_learnt_rate rates[ROUTE_MAX_LEARNT];
	size_t rate_count = route_learnt_of(device, rates), record_count = 0;
	for (const struct route_record *record = device->records; record; record = record->next)
		record_count++;
	float network_ms = device->nodes ? device->nodes->facts.network_ms : device->network_ms;
	put(out, MEMORY_DEVICE, 1);
	put_text(out, (struct str){device->id, device->id_len});
	put(out, device->health ? MEMORY_HAS_HEALTH : 0, 1);
	put_float(out, network_ms > 0 ? network_ms : 0);
	put_reputation(out, &device->reputation, now_us);
	if (device->health)
		put_health(out, device->health, now_us);
	put(out, record_count, 1);
	for (const struct route_record *record = device->records; record; record = record->next)
		put_record(out, record, now_us);
	put(out, rate_count, 1);
	for (size_t i = 0; i < rate_count; i++) {
		put(out, rates[i].model, 8);
		put_float(out, rates[i].solo_tps);
		put(out, rates[i].load_time_ms, 4);
	}
}

static bool put_next_device(struct memory_snapshot *s, const struct route_fleet *fleet, uint64_t now_us)
{
	const struct route_device *device = next_of(s, &fleet->devices);
	if (device)
		put_device(&s->bytes, device, now_us);
	return device != NULL;
}

/* --- the whole --- */

/* Room for nearly all of it at once: a buffer that grows is moved, and that takes longer than many steps. */
static size_t likely_bytes(const struct route_fleet *fleet)
{
	size_t bytes = LIKELY_MIN + fleet->devices.count * 2 * MEMORY_DEVICE_BYTES +
	               (fleet->models.count + fleet->past_models.count) * LIKELY_MODEL;
	return bytes < MEMORY_MAX_BYTES / 2 ? bytes : MEMORY_MAX_BYTES / 2;
}

void memory_begin(struct memory_snapshot *snapshot, const struct route_fleet *fleet, int64_t wall_s)
{
	*snapshot = (struct memory_snapshot){.part = PART_LIVE_MODELS};
	buf_init(&snapshot->bytes, MEMORY_MAX_BYTES);
	(void)buf_reserve(&snapshot->bytes, likely_bytes(fleet));
	(void)buf_append(&snapshot->bytes, MEMORY_MAGIC, MEMORY_MAGIC_LEN);
	put(&snapshot->bytes, 0, MEMORY_SUM_LEN);
	put(&snapshot->bytes, (uint64_t)wall_s, 8);
}

static bool put_next(struct memory_snapshot *s, struct route_fleet *fleet, const struct learn *learn, uint64_t now_us)
{
	switch ((enum part)s->part) {
	case PART_LIVE_MODELS:
		return put_next_live_model(s, fleet);
	case PART_PAST_MODELS:
		return put_next_past_model(s, fleet);
	case PART_OUTPUTS:
		return put_next_output(s, learn, false);
	case PART_PAIRS:
		return put_next_output(s, learn, true);
	case PART_DEVICES:
		return put_next_device(s, fleet, now_us);
	case PART_END:
		put(&s->bytes, MEMORY_END, 1);
		return false;
	case PART_DONE:
		break;
	}
	return false;
}

bool memory_step(struct memory_snapshot *snapshot, struct route_fleet *fleet, const struct learn *learn, uint64_t now_us,
                 size_t most)
{
	while (most && snapshot->part != PART_DONE && !snapshot->bytes.failed) {
		if (put_next(snapshot, fleet, learn, now_us)) {
			most--;
			continue;
		}
		snapshot->part++;
		snapshot->cursor = snapshot->cap = 0;
	}
	return snapshot->part == PART_DONE && !snapshot->bytes.failed;
}

uint64_t memory_sum(struct str body)
{
	static const uint64_t seed[2];
	return map_hash(seed, body);
}

void memory_seal(struct buf *bytes)
{
	uint64_t sum = memory_sum((struct str){bytes->at + MEMORY_HEAD_LEN, bytes->len - MEMORY_HEAD_LEN});
	for (int i = 0; i < MEMORY_SUM_LEN; i++)
		bytes->at[MEMORY_MAGIC_LEN + i] = (char)(sum >> (8 * i) & 0xff);
}

void memory_end(struct memory_snapshot *snapshot)
{
	buf_free(&snapshot->bytes);
}
