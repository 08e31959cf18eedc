#include <math.h>

#include "coordinator/routing/memory_format.h"

#define HOUR_S         3600.0
#define MODEL_HALF_S   (24 * HOUR_S)     /* after which half as much is made of what was predicted and came */
#define ANSWERS_HALF_S (7 * 24 * HOUR_S) /* likewise of an account's own answers */
#define RING_WINDOW_US (120ull * 1000000)

struct reader {
	struct route_fleet *fleet;
	struct learn *learn;
	const char *at, *end;
	uint64_t now_us, age_us;
	bool bad;
};

/* --- numbers and texts: 0 and nothing once something was wrong --- */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are read as they lie");

static inline uint64_t take(struct reader *r, size_t bytes)
{
	uint64_t value = 0;
	if ((size_t)(r->end - r->at) < bytes)
		r->bad = true;
	if (r->bad)
		return 0;
	memcpy(&value, r->at, bytes);
	r->at += bytes;
	return value;
}

/* Between 0 and `most`. */
static float take_float(struct reader *r, float most)
{
	uint32_t bits = (uint32_t)take(r, 4);
	float value;
	memcpy(&value, &bits, sizeof value);
	if (!(value >= 0 && value <= most))
		r->bad = true;
	return r->bad ? 0 : value;
}

static inline uint64_t take_within(struct reader *r, size_t bytes, uint64_t most)
{
	uint64_t value = take(r, bytes);
	if (value > most)
		r->bad = true;
	return r->bad ? 0 : value;
}

static struct str take_text(struct reader *r, size_t most)
{
	size_t len = (size_t)take_within(r, 2, most);
	if ((size_t)(r->end - r->at) < len)
		r->bad = true;
	if (r->bad || !len)
		return STR_NONE;
	struct str text = {r->at, len};
	r->at += len;
	return text;
}

/* An instant to come, brought nearer by the snapshot's age; 0 = never, and one that is over is now. */
static uint64_t take_until(struct reader *r, uint64_t most_us)
{
	uint64_t left_us = take(r, 4) * 1000;
	if (!left_us)
		return 0;
	left_us = left_us < most_us ? left_us : most_us;
	return r->now_us + (left_us > r->age_us ? left_us - r->age_us : 0);
}

/* How long ago, with the snapshot's age; UINT64_MAX = never. */
static uint64_t take_ago(struct reader *r)
{
	uint64_t ms = take(r, 4);
	return ms ? ms * 1000 + r->age_us : UINT64_MAX;
}

/* 0 when it was never, or before this clock began. */
static uint64_t instant_ago(const struct reader *r, uint64_t ago_us)
{
	return ago_us < r->now_us ? r->now_us - ago_us : 0;
}

static double faded(const struct reader *r, double value, double half_s)
{
	return value * exp2(-(double)r->age_us / 1e6 / half_s);
}

/* --- models --- */

static void read_rates(struct reader *r, struct route_past_model *past)
{
	float samples[ROUTE_RATE_SAMPLES];
	struct str family = take_text(r, MEMORY_NAME_MAX);
	size_t count = (size_t)take_within(r, 1, ROUTE_RATE_SAMPLES);
	for (size_t i = 0; i < count; i++)
		samples[i] = take_float(r, 1e6f);
	if (r->bad || !past)
		return;
	/* A family that has no name any more stands for machines that did not say theirs. */
	(void)route_rates_put(past, route_name_get(&r->fleet->families, family, ROUTE_MAX_FAMILIES), samples, count);
}

static void read_model(struct reader *r)
{
	struct str id = take_text(r, ROUTE_MODEL_SIZE - 1);
	struct route_known read = {.typical_prompt = (double)take_float(r, 1e9f)};
	read.typical_output = (double)take_float(r, 1e9f);
	(void)take_float(r, 1e6f); /* the total: added up again */
	for (int i = 0; i < ROUTE_RATIO_BUCKETS; i++) {
		read.ratios.weight[i] = (float)faded(r, (double)take_float(r, 1e6f), MODEL_HALF_S);
		read.ratios.total += read.ratios.weight[i];
	}
	size_t families = (size_t)take_within(r, 2, ROUTE_MAX_FAMILIES + 1);
	struct route_past_model *past = r->bad || !id.len ? NULL : route_past_make(r->fleet, id);
	if (past)
		past->known = read;
	for (size_t i = 0; i < families && !r->bad; i++)
		read_rates(r, past);
}

/* --- lengths of answers --- */

static void read_output(struct reader *r, bool pair)
{
	struct learn_known known = {.name = take_text(r, MEMORY_NAME_MAX)};
	known.tokens = (double)take_float(r, 1e9f);
	known.answers = (uint32_t)faded(r, (double)take(r, 2), ANSWERS_HALF_S);
	if (!r->bad && known.name.len)
		learn_put(r->learn, pair, &known);
}

/* --- devices --- */

static void read_reputation(struct reader *r, struct reputation *out)
{
	struct reputation read = {.jobs_ok = (uint32_t)take(r, 4)};
	read.jobs_failed = (uint32_t)take(r, 4);
	read.challenges_passed = (uint32_t)take(r, 4);
	read.challenges_failed = (uint32_t)take(r, 4);
	uint64_t uptime_s = take_within(r, 4, 86400);
	read.latency_ms = take_float(r, 1e9f);
	uint64_t away_us = take_ago(r);
	uint64_t away_s = away_us == UINT64_MAX ? 0 : away_us / 1000000;
	read.uptime_s = (uint32_t)(uptime_s > away_s ? uptime_s - away_s : 0);
	if (!r->bad)
		*out = read;
}

static void read_health(struct reader *r, struct route_device *device)
{
	struct route_health read = {.device = device, .timer = {.of_device = true}};
	read.breaker.open_until_us = take_until(r, 300ull * 1000000);
	uint64_t fault_ago_us = take_ago(r);
	read.last_fault_us = instant_ago(r, fault_ago_us);
	read.faults = (uint32_t)take(r, 4);
	read.trips = (uint8_t)take_within(r, 1, 8);
	read.consecutive = (uint8_t)take(r, 1);
	read.outcomes = (uint8_t)take_within(r, 1, ROUTE_BREAKER_RING);
	uint64_t oldest_us = 0;
	for (unsigned i = 0; i < read.outcomes; i++) {
		uint64_t ago_us = take_ago(r);
		oldest_us = i ? oldest_us : ago_us;
		read.at_us[i] = instant_ago(r, ago_us);
	}
	read.next = (uint8_t)(read.outcomes % ROUTE_BREAKER_RING);
	if (oldest_us > RING_WINDOW_US) { /* nothing is decided by it, and the clock may not reach so far back */
		read.outcomes = read.next = 0;
		read.faults = 0;
	}
	struct route_health *health = r->bad || device->health ? NULL : route_health_get(device);
	if (!health)
		return;
	*health = read;
	route_health_rearm(r->fleet, health);
}

static bool is_held(const struct route_device *device, struct str model)
{
	const struct route_record *record = device->records;
	while (record && !str_eq((struct str){record->model, record->model_len}, model))
		record = record->next;
	return record != NULL;
}

static void read_record(struct reader *r, struct route_device *device)
{
	struct route_record read = {0};
	struct str model = take_text(r, ROUTE_MODEL_SIZE - 1);
	read.cool_until_us = take_until(r, 600ull * 1000000);
	for (int shape = 0; shape < ROUTE_SHAPES; shape++) {
		read.shapes[shape].breaker.open_until_us = take_until(r, 300ull * 1000000);
		read.shapes[shape].struck_us = instant_ago(r, take_ago(r));
		read.shapes[shape].strikes = (uint8_t)take(r, 1);
	}
	if (r->bad || !model.len || is_held(device, model))
		return;
	struct route_record *record = route_record_make(r->fleet, device, model);
	if (!record)
		return;
	record->cool_until_us = read.cool_until_us;
	memcpy(record->shapes, read.shapes, sizeof record->shapes);
	route_record_rearm(r->fleet, record);
}

static void read_learnt(struct reader *r, struct route_device *device)
{
	struct route_learnt_rate rates[ROUTE_MAX_LEARNT];
	size_t count = (size_t)take_within(r, 1, ROUTE_MAX_LEARNT);
	for (size_t i = 0; i < count; i++) {
		rates[i].model = take(r, 8);
		rates[i].solo_tps = take_float(r, 1e6f);
		rates[i].load_time_ms = (uint32_t)take(r, 4);
	}
	if (!r->bad)
		route_learnt_set(device, rates, count);
}

static void read_device(struct reader *r)
{
	struct str id = take_text(r, MEMORY_NAME_MAX);
	unsigned parts = (unsigned)take(r, 1);
	float network_ms = take_float(r, 1e6f);
	if (!id.len)
		r->bad = true;
	struct route_device *device = r->bad ? NULL : route_device_recall(r->fleet, id);
	if (!device) {
		r->at = r->bad ? r->at : r->end; /* there is no room, and no later one would find any */
		return;
	}
	device->network_ms = network_ms;
	read_reputation(r, &device->reputation);
	if (parts & MEMORY_HAS_HEALTH)
		read_health(r, device);
	unsigned records = (unsigned)take_within(r, 1, ROUTE_MAX_RECORDS);
	for (unsigned i = 0; i < records && !r->bad; i++)
		read_record(r, device);
	read_learnt(r, device);
}

/* --- the whole --- */

static enum db_err read_records(struct reader *r)
{
	while (!r->bad && r->at < r->end) {
		switch (take(r, 1)) {
		case MEMORY_MODEL:
			read_model(r);
			break;
		case MEMORY_OUTPUT:
			read_output(r, false);
			break;
		case MEMORY_PAIR:
			read_output(r, true);
			break;
		case MEMORY_DEVICE:
			read_device(r);
			break;
		case MEMORY_END:
			return r->at == r->end ? DB_OK : DB_E_INVALID;
		default:
			r->bad = true;
		}
	}
	return r->bad ? DB_E_INVALID : DB_OK;
}

enum db_err memory_restore(struct route_fleet *fleet, struct learn *learn, struct str bytes, uint64_t now_us, int64_t wall_s,
                           struct error *error)
{
	if (bytes.len < MEMORY_HEAD_LEN + 8 || memcmp(bytes.at, MEMORY_MAGIC, MEMORY_MAGIC_LEN - 1) != 0)
		return error_set(error, DB_E_INVALID, "It is no snapshot of routing's memory.");
	if (bytes.at[MEMORY_MAGIC_LEN - 1] != MEMORY_MAGIC[MEMORY_MAGIC_LEN - 1])
		return error_set(error, DB_E_UNSUPPORTED, "It was written by another version.");
	struct reader r = {.fleet = fleet,
	                   .learn = learn,
	                   .at = bytes.at + MEMORY_MAGIC_LEN,
	                   .end = bytes.at + bytes.len,
	                   .now_us = now_us ? now_us : 1};
	uint64_t sum = take(&r, MEMORY_SUM_LEN);
	if (sum != memory_sum((struct str){r.at, (size_t)(r.end - r.at)}))
		return error_set(error, DB_E_INVALID, "Its checksum is wrong.");
	uint64_t written_s = take(&r, 8), now_s = wall_s > 0 ? (uint64_t)wall_s : 0;
	uint64_t age_s = now_s > written_s ? now_s - written_s : 0; /* a clock that was set back ages nothing */
	if (age_s > MEMORY_MAX_AGE_S)
		return error_set(error, DB_E_TIMEOUT, "It is %llu days old.", (unsigned long long)(age_s / 86400));
	r.age_us = age_s * 1000000;
	route_advance(fleet, r.now_us);
	(void)map_reserve(&fleet->devices, (size_t)(r.end - r.at) / MEMORY_DEVICE_BYTES); /* else it grows as it is filled */
	if (read_records(&r))
		return error_set(error, DB_E_INVALID, "It is damaged at byte %llu.", (unsigned long long)(r.at - bytes.at));
	return DB_OK;
}
