#include "coordinator/reward_keeper.h"

#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/map.h"

#define LOOK_MS   45000
#define LOOK_BACK INT64_C(86400000000)
#define JUMP_US   INT64_C(30000000) /* the wall clock moved by so much more or less than time did */
#define PUT_MAX   512
#define PART_MS   1

/* A machine that was fit at the last look. */
struct present {
	struct store_stretch stretch;
	uint64_t look;
};

struct reward_keeper {
	struct reward_keeper_options options;
	struct net_timer timer, next_part;
	struct map machines; /* device -> struct present */
	uint64_t looks;
	size_t seen;  /* machines, in this look */
	bool looking; /* parts of it are left */
	int64_t wall_us;
	uint64_t mono_us; /* of the last look */
	struct store_stretch put[PUT_MAX];
	size_t put_count;

	bool busy, stopped;
	int64_t done_until_us; /* periods before it were looked at by this process */
	struct reward_terms terms;
	struct store_reward *rows; /* of the period that is being settled, those with a known model first */
	size_t count, skipped, at;
	struct ledger_move moves[STORE_DRAWS_MAX];
	size_t asked;
};

static void settle_next(struct reward_keeper *keeper);

/* --- looking --- */

static void flush_stretches(struct reward_keeper *keeper)
{
	if (keeper->put_count > 0)
		store_stretches_put(keeper->options.store, keeper->put, keeper->put_count);
	keeper->put_count = 0;
}

static void put_stretch(struct reward_keeper *keeper, const struct store_stretch *stretch)
{
	keeper->put[keeper->put_count++] = *stretch;
	if (keeper->put_count == PUT_MAX)
		flush_stretches(keeper);
}

static bool is_same(const struct store_stretch *a, const struct store_stretch *b)
{
	return strcmp(a->provider_key, b->provider_key) == 0 && strcmp(a->account_id, b->account_id) == 0 &&
	       strcmp(a->model, b->model) == 0 && a->memory_gb == b->memory_gb;
}

static void end_stretch(struct reward_keeper *keeper, struct present *present)
{
	present->stretch.ended_us = keeper->wall_us;
	put_stretch(keeper, &present->stretch);
}

static void see(const struct store_stretch *machine, void *user)
{
	struct reward_keeper *keeper = user;
	struct present *present = map_get(&keeper->machines, str_of(machine->device));
	if (present && present->look == keeper->looks)
		return; /* two connections of one machine: it is there once */
	if (present && !is_same(&present->stretch, machine)) {
		end_stretch(keeper, present);
		map_remove(&keeper->machines, str_of(machine->device));
		free(present);
		present = NULL;
	}
	if (!present) {
		present = calloc(1, sizeof *present);
		if (!present)
			return;
		present->stretch = *machine;
		present->stretch.from_us = keeper->wall_us;
		if (map_put(&keeper->machines, str_of(present->stretch.device), present, NULL)) {
			free(present);
			return;
		}
	}
	present->look = keeper->looks;
	keeper->seen++;
	present->stretch.seen_us = keeper->wall_us;
	put_stretch(keeper, &present->stretch);
}

/* Those that were not seen: `ended` says when they went; without it nobody knows. */
static void forget_others(struct reward_keeper *keeper, bool ended)
{
	struct map left;
	struct present *present;
	size_t cursor = 0;
	if (keeper->seen == keeper->machines.count)
		return;
	map_init(&left);
	while ((present = map_next(&keeper->machines, &cursor))) {
		if (present->look == keeper->looks && map_put(&left, str_of(present->stretch.device), present, NULL) == DB_OK)
			continue;
		if (ended)
			end_stretch(keeper, present);
		free(present);
	}
	map_free(&keeper->machines);
	keeper->machines = left;
}

/* The wall clock was set, or nobody looked for longer than a machine is believed to be there: what was seen before says nothing
 * about the time since. */
static bool lost_track(const struct reward_keeper *keeper, int64_t wall_us, uint64_t mono_us)
{
	int64_t passed = (int64_t)(mono_us - keeper->mono_us), by_wall = wall_us - keeper->wall_us;
	return keeper->looks > 0 && (passed > REWARD_SLACK_US || by_wall > passed + JUMP_US || by_wall < passed - JUMP_US);
}

static void begin_look(struct reward_keeper *keeper)
{
	int64_t wall_us = keeper->options.clock();
	uint64_t mono_us = keeper->options.mono_clock();
	bool lost = lost_track(keeper, wall_us, mono_us);
	keeper->looks++;
	keeper->seen = 0;
	keeper->wall_us = wall_us;
	keeper->mono_us = mono_us;
	if (lost) {
		log_warn("rewards.clock", "machines=%zu", keeper->machines.count);
		forget_others(keeper, false);
	}
}

/* Whether parts of the look are left. */
static bool look_on(struct reward_keeper *keeper)
{
	bool from_first = !keeper->looking;
	if (from_first)
		begin_look(keeper);
	keeper->looking = keeper->options.look(keeper->options.source, from_first, see, keeper);
	if (!keeper->looking)
		forget_others(keeper, true);
	flush_stretches(keeper);
	return keeper->looking;
}

/* --- settling --- */

static void end_pass(struct reward_keeper *keeper)
{
	free(keeper->rows);
	keeper->rows = NULL;
	keeper->busy = false;
}

static int64_t account_limit(const struct reward_terms *terms)
{
	return terms->account_percent > 0 ? reward_account_limit(terms) : -1;
}

static void end_period(struct reward_keeper *keeper)
{
	if (keeper->count > 0)
		store_epoch_settled(keeper->options.store, keeper->terms.start_us, reward_pool(&keeper->terms), (int64_t)keeper->count,
		                    (int64_t)keeper->skipped);
	free(keeper->rows);
	keeper->rows = NULL;
	keeper->done_until_us = keeper->terms.start_us + keeper->terms.period_us;
	settle_next(keeper);
}

static void write_draws(struct reward_keeper *keeper);

static void on_drawn(const int64_t *given, size_t count, const struct error *error, void *user)
{
	struct reward_keeper *keeper = user;
	for (size_t i = 0; i < keeper->asked; i++)
		ledger_move_end(&keeper->moves[i], i < count ? given[i] : 0, true);
	if (error || count < keeper->asked || keeper->stopped) {
		if (error)
			log_warn("rewards.not_written", "why=\"%s\"", error->text);
		end_pass(keeper); /* the rest is tried again at the next look */
		return;
	}
	keeper->at += count;
	write_draws(keeper);
}

static void write_draws(struct reward_keeper *keeper)
{
	const struct reward_keeper_options *options = &keeper->options;
	struct store_draw_limits limits = {reward_pool(&keeper->terms), account_limit(&keeper->terms)};
	const struct store_reward *rows = keeper->rows + keeper->at;
	size_t known = keeper->count - keeper->skipped, count = known - keeper->at;
	if (count == 0) {
		end_period(keeper);
		return;
	}
	keeper->asked = count < STORE_DRAWS_MAX ? count : STORE_DRAWS_MAX;
	for (size_t i = 0; i < keeper->asked; i++)
		if (ledger_move_begin(options->ledger, str_of(rows[i].machine.account_id), 0, &keeper->moves[i])) {
			while (i > 0)
				ledger_move_end(&keeper->moves[--i], 0, true);
			end_pass(keeper);
			return;
		}
	store_draws_write(options->store, keeper->terms.start_us, &limits, rows, keeper->asked, on_drawn, keeper);
}

/* Rows of unknown models go behind the others. Returns how many are known. */
static size_t verify_memory(struct reward_keeper *keeper)
{
	size_t known = 0;
	for (size_t i = 0; i < keeper->count; i++) {
		struct store_reward row = keeper->rows[i];
		int64_t most = reward_model_memory(str_of(row.machine.model), keeper->options.models, keeper->options.model_count);
		if (!most)
			continue;
		row.memory_gb = row.machine.memory_gb < most ? row.machine.memory_gb : most;
		keeper->rows[i] = keeper->rows[known];
		keeper->rows[known++] = row;
	}
	return known;
}

/* Works out what each machine gets, and puts it into the rows. */
static bool allocate(struct reward_keeper *keeper, size_t known)
{
	struct reward_claim *claims = known ? calloc(known, sizeof *claims) : NULL;
	struct store_reward *ordered = known ? malloc(keeper->count * sizeof *ordered) : NULL;
	bool good = known == 0 || (claims && ordered);
	for (size_t i = 0; good && i < known; i++) {
		const struct store_reward *row = &keeper->rows[i];
		claims[i] = (struct reward_claim){.machine = row->machine.provider_key,
		                                  .payee = row->payee,
		                                  .row = i,
		                                  .memory_gb = row->memory_gb,
		                                  .uptime_us = row->uptime_us,
		                                  .earned_uusd = row->earned_uusd,
		                                  .payee_has_uusd = row->payee_has_uusd};
	}
	good = good && reward_allocate(claims, known, &keeper->terms);
	for (size_t i = 0; good && i < known; i++) {
		ordered[i] = keeper->rows[claims[i].row];
		ordered[i].floor_uusd = claims[i].floor_uusd;
		ordered[i].amount_uusd = claims[i].grant_uusd;
	}
	if (good && known)
		memcpy(keeper->rows, ordered, known * sizeof *ordered);
	free(claims);
	free(ordered);
	return good;
}

static void on_epoch(const struct store_epoch *epoch, const struct error *error, void *user)
{
	struct reward_keeper *keeper = user;
	size_t bytes = epoch ? epoch->count * sizeof *epoch->rows : 0;
	if (error || keeper->stopped || (bytes && !(keeper->rows = malloc(bytes)))) {
		if (error)
			log_warn("rewards.not_read", "why=\"%s\"", error->text);
		end_pass(keeper);
		return;
	}
	keeper->count = epoch->count;
	keeper->at = keeper->skipped = 0;
	if (bytes)
		memcpy(keeper->rows, epoch->rows, bytes);
	int64_t left = reward_pool(&keeper->terms) - epoch->used_uusd;
	keeper->terms.left_uusd = left > 0 ? left : 0;
	size_t known = verify_memory(keeper);
	keeper->skipped = keeper->count - known;
	if (allocate(keeper, known))
		write_draws(keeper);
	else
		end_pass(keeper);
}

/* The oldest closed period that this process has not looked at. */
static void settle_next(struct reward_keeper *keeper)
{
	int64_t now_us = reward_period_of(keeper->wall_us), oldest_us = now_us - LOOK_BACK;
	if (keeper->done_until_us > now_us) /* the clock went back */
		keeper->done_until_us = now_us;
	if (keeper->done_until_us < oldest_us)
		keeper->done_until_us = oldest_us;
	if (keeper->done_until_us >= now_us || keeper->stopped) {
		end_pass(keeper);
		return;
	}
	keeper->terms = keeper->options.terms;
	keeper->terms.start_us = keeper->done_until_us;
	store_epoch_read(keeper->options.store, keeper->terms.start_us, keeper->terms.period_us, REWARD_SLACK_US, on_epoch, keeper);
}

/* --- life --- */

static void settle(struct reward_keeper *keeper)
{
	if (keeper->busy || keeper->stopped)
		return;
	keeper->busy = true;
	settle_next(keeper);
}

void reward_keeper_step(struct reward_keeper *keeper)
{
	while (look_on(keeper)) {
	}
	settle(keeper);
}

static void on_next_part(struct net_timer *timer)
{
	struct reward_keeper *keeper = LIST_OF(timer, struct reward_keeper, next_part);
	if (look_on(keeper))
		return;
	net_timer_stop(&keeper->next_part);
	settle(keeper);
}

static void on_time(struct net_timer *timer)
{
	struct reward_keeper *keeper = LIST_OF(timer, struct reward_keeper, timer);
	if (keeper->looking) /* one takes longer than it is to the next */
		return;
	if (look_on(keeper))
		net_timer_start(keeper->options.loop, &keeper->next_part, PART_MS, PART_MS, on_next_part);
	else
		settle(keeper);
}

struct reward_keeper *reward_keeper_new(const struct reward_keeper_options *options)
{
	struct reward_keeper *keeper = calloc(1, sizeof *keeper);
	if (!keeper)
		return NULL;
	keeper->options = *options;
	keeper->options.terms.period_us = REWARD_PERIOD_US;
	keeper->terms = keeper->options.terms;
	if (!options->clock)
		keeper->options.clock = clock_wall_us;
	if (!options->mono_clock)
		keeper->options.mono_clock = clock_mono_us;
	map_init(&keeper->machines);
	uint32_t every_ms = options->look_ms ? options->look_ms : LOOK_MS;
	net_timer_start(options->loop, &keeper->timer, every_ms / 4, every_ms, on_time);
	return keeper;
}

bool reward_keeper_is_busy(const struct reward_keeper *keeper)
{
	return keeper->busy;
}

const struct reward_terms *reward_keeper_terms(const struct reward_keeper *keeper)
{
	return &keeper->options.terms;
}

void reward_keeper_stop(struct reward_keeper *keeper)
{
	if (!keeper)
		return;
	keeper->stopped = true;
	net_timer_stop(&keeper->timer);
	net_timer_stop(&keeper->next_part);
}

void reward_keeper_free(struct reward_keeper *keeper)
{
	size_t cursor = 0;
	struct present *present;
	if (!keeper)
		return;
	while ((present = map_next(&keeper->machines, &cursor)))
		free(present);
	map_free(&keeper->machines);
	free(keeper->rows);
	free(keeper);
}
