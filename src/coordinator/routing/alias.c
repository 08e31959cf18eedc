#include "coordinator/routing/alias.h"

#include <math.h>
#include <stdlib.h>

#include "coordinator/routing/routing_internal.h"

#define HEALTH_SPAN_S   600.0
#define STAGE_US        (600ull * 1000000) /* each share is tried at least so long ... */
#define STAGE_REQUESTS  30.0               /* ... and with so many requests */
#define FAULTS_MIN      3.0                /* fewer prove nothing */
#define FAULT_MARGIN    0.02               /* of requests: what may be worse without being a reason */
#define CHANCE          3.0                /* standard deviations that chance explains */
#define SLOWER          2.0                /* first content that many times later is a regression */
#define SLOWER_REQUESTS 30.0
#define PRIOR_RATE      0.02 /* of faults, when the previous build has no record */

static const uint32_t stages[ALIAS_STAGES] = {5, 25, 50, ALIAS_WHOLE};

struct health {
	double requests, faults, timed, log_ttft; /* sums that forget */
	uint64_t at_us;
};

struct item {
	struct alias alias;
	struct health desired, previous;
	uint64_t stage_since_us;
};

/* A build that active aliases stand for, as desired or as previous one. */
struct cover {
	size_t aliases;
	char build[ROUTE_MODEL_SIZE]; /* the key */
};

struct alias_table {
	struct route_fleet *fleet;
	struct map by_id;
	struct map covers; /* build -> struct cover */
	struct item **sorted;
	struct item **pins; /* those that pin a build, by the build and then by id; room for all */
	size_t count, cap, pin_count;
	uint64_t seed[2];
};

const char *alias_state_name(enum alias_state state)
{
	static const char *const names[] = {"steady", "canary", "rolled_back"};
	return state <= ALIAS_ROLLED_BACK ? names[state] : "unknown";
}

struct alias_table *alias_table_new(struct route_fleet *fleet)
{
	struct alias_table *table = calloc(1, sizeof *table);
	if (!table)
		return NULL;
	table->fleet = fleet;
	table->seed[0] = fleet->policy.seed;
	table->seed[1] = ~fleet->policy.seed;
	map_init(&table->by_id);
	map_init(&table->covers);
	fleet->aliases = table;
	return table;
}

void alias_table_free(struct alias_table *table)
{
	size_t cursor = 0;
	if (!table)
		return;
	table->fleet->aliases = NULL;
	for (struct cover *cover; (cover = map_next(&table->covers, &cursor));)
		free(cover);
	map_free(&table->covers);
	for (size_t i = 0; i < table->count; i++)
		free(table->sorted[i]);
	free(table->sorted);
	free(table->pins);
	map_free(&table->by_id);
	free(table);
}

/* --- the table --- */

static struct item *item_find(const struct alias_table *table, struct str id)
{
	return map_get(&table->by_id, id);
}

static bool insert(struct alias_table *table, struct item *item)
{
	if (table->count == table->cap) {
		size_t cap = table->cap ? table->cap * 2 : 16;
		struct item **grown = realloc(table->sorted, cap * sizeof *grown);
		if (!grown)
			return false;
		table->sorted = grown;
		if (!(grown = realloc(table->pins, cap * sizeof *grown)))
			return false;
		table->pins = grown;
		table->cap = cap;
	}
	if (map_put(&table->by_id, str_of(item->alias.id), item, NULL))
		return false;
	size_t at = table->count++;
	for (; at > 0 && strcmp(table->sorted[at - 1]->alias.id, item->alias.id) > 0; at--)
		table->sorted[at] = table->sorted[at - 1];
	table->sorted[at] = item;
	return true;
}

static int pin_order(const struct alias *a, const struct alias *b)
{
	int order = strcmp(a->desired, b->desired);
	return order ? order : strcmp(a->id, b->id);
}

static void unpin(struct alias_table *table, const struct item *item)
{
	for (size_t at = 0; at < table->pin_count; at++) {
		if (table->pins[at] != item)
			continue;
		memmove(&table->pins[at], &table->pins[at + 1], (--table->pin_count - at) * sizeof *table->pins);
		return;
	}
}

/* Whatever it pinned before. */
static void pin(struct alias_table *table, struct item *item)
{
	unpin(table, item);
	if (!item->alias.active || !item->alias.weight_hash[0])
		return;
	size_t at = table->pin_count++;
	for (; at > 0 && pin_order(&table->pins[at - 1]->alias, &item->alias) > 0; at--)
		table->pins[at] = table->pins[at - 1];
	table->pins[at] = item;
}

/* --- builds that have another name --- */

static bool cover_one(struct alias_table *table, struct str build)
{
	struct cover *cover = map_get(&table->covers, build);
	if (!cover) {
		cover = calloc(1, sizeof *cover);
		if (!cover || !str_copy(build, cover->build, sizeof cover->build) ||
		    map_put(&table->covers, str_of(cover->build), cover, NULL)) {
			free(cover);
			return false;
		}
	}
	cover->aliases++;
	return true;
}

static void uncover_one(struct alias_table *table, struct str build)
{
	struct cover *cover = map_get(&table->covers, build);
	if (!cover || --cover->aliases)
		return;
	map_remove(&table->covers, build);
	free(cover);
}

/* An active alias stands for them. False: no memory, and nothing changed. */
static bool cover_builds(struct alias_table *table, struct str desired, struct str previous)
{
	if (!cover_one(table, desired))
		return false;
	if (!previous.len || cover_one(table, previous))
		return true;
	uncover_one(table, desired);
	return false;
}

static void uncover_builds(struct alias_table *table, struct str desired, struct str previous)
{
	uncover_one(table, desired);
	if (previous.len)
		uncover_one(table, previous);
}

static void uncover(struct alias_table *table, const struct alias *alias)
{
	if (alias->active)
		uncover_builds(table, str_of(alias->desired), str_of(alias->previous));
}

bool alias_covers(const struct alias_table *table, struct str build)
{
	return map_get(&table->covers, build) != NULL;
}

enum db_err alias_remove(struct alias_table *table, struct str id)
{
	struct item *item = map_remove(&table->by_id, id);
	if (!item)
		return DB_E_NOT_FOUND;
	size_t at = 0;
	while (table->sorted[at] != item)
		at++;
	memmove(&table->sorted[at], &table->sorted[at + 1], (--table->count - at) * sizeof *table->sorted);
	unpin(table, item);
	uncover(table, &item->alias);
	route_files_pin(table->fleet, str_of(item->alias.desired));
	free(item);
	table->fleet->views_version++;
	return DB_OK;
}

const struct alias *alias_find(const struct alias_table *table, struct str id)
{
	const struct item *item = item_find(table, id);
	return item ? &item->alias : NULL;
}

size_t alias_list(const struct alias_table *table, const struct alias **out, size_t max)
{
	for (size_t i = 0; i < table->count && i < max; i++)
		out[i] = &table->sorted[i]->alias;
	return table->count;
}

const char *alias_pin(const struct alias_table *table, struct str build)
{
	char name[ROUTE_MODEL_SIZE];
	size_t from = 0, to = table->pin_count;
	if (!str_copy(build, name, sizeof name))
		return NULL;
	while (from < to) {
		size_t middle = from + (to - from) / 2;
		if (strcmp(table->pins[middle]->alias.desired, name) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	bool found = from < table->pin_count && str_is(build, table->pins[from]->alias.desired);
	return found ? table->pins[from]->alias.weight_hash : NULL;
}

/* --- changing one --- */

static bool is_id(struct str id)
{
	for (size_t i = 0; i < id.len; i++) {
		char c = id.at[i], lower = (char)(c | 0x20);
		if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-')
			return false;
		if (c == '.' && i > 0 && id.at[i - 1] == '.')
			return false;
	}
	return id.len > 0 && id.len < ALIAS_ID_SIZE;
}

static bool is_build(struct str id)
{
	return id.len > 0 && id.len < ROUTE_MODEL_SIZE;
}

static bool is_hash(struct str hash)
{
	for (size_t i = 0; i < hash.len; i++)
		if (!(hash.at[i] >= '0' && hash.at[i] <= '9') && !(hash.at[i] >= 'a' && hash.at[i] <= 'f'))
			return false;
	return hash.len == 0 || hash.len == ALIAS_HASH_SIZE - 1;
}

static enum db_err check_names(const struct alias_table *table, const struct alias_change *c, struct error *error)
{
	bool named_as_build = route_model_find(table->fleet, c->id) != NULL;
	if (!is_id(c->id))
		return error_set(error, DB_E_INVALID, "alias_id must be 1 to 128 letters, digits, dots, dashes or underscores.");
	if (!is_build(c->desired))
		return error_set(error, DB_E_INVALID, "desired_build must name a model.");
	if (c->previous.len && !is_build(c->previous))
		return error_set(error, DB_E_INVALID, "previous_build must name a model, or be left out.");
	if (str_eq(c->desired, c->id))
		return error_set(error, DB_E_INVALID, "desired_build must differ from alias_id.");
	if (str_eq(c->desired, c->previous))
		return error_set(error, DB_E_INVALID, "previous_build must differ from desired_build.");
	if (!is_hash(c->weight_hash))
		return error_set(error, DB_E_INVALID, "desired_weight_hash must be 64 digits of lower-case hex, or be left out.");
	if (c->display_name.len >= ALIAS_NAME_SIZE)
		return error_set(error, DB_E_INVALID, "display_name must be shorter than %d bytes.", ALIAS_NAME_SIZE);
	if (c->takeover && !str_eq(c->previous, c->id))
		return error_set(error, DB_E_INVALID, "A takeover needs previous_build to be the alias's own name.");
	if (!c->takeover && named_as_build)
		return error_set(error, DB_E_EXISTS,
		                 "A model has this name: to replace it, ask for takeover with it as previous_build.");
	if (!c->takeover && str_eq(c->previous, c->id))
		return error_set(error, DB_E_INVALID, "previous_build may be the alias's own name in a takeover only.");
	return DB_OK;
}

static enum db_err check_share(const struct alias_change *c, struct error *error)
{
	if (c->share_percent > ALIAS_WHOLE)
		return error_set(error, DB_E_INVALID, "share_percent must be from 1 to 100.");
	if ((c->canary || c->share_percent) && !c->previous.len)
		return error_set(error, DB_E_INVALID, "A share of the traffic needs a previous_build for the rest.");
	if (c->canary && c->share_percent)
		return error_set(error, DB_E_INVALID, "Give either canary or share_percent: a canary chooses its shares itself.");
	return DB_OK;
}

static bool is_member(const struct alias *alias, const char *build)
{
	return strcmp(build, alias->desired) == 0 || strcmp(build, alias->previous) == 0;
}

/* What left the alias, oldest first, the oldest dropped when there are too many; each once. */
static void retire(struct alias *alias, const char *build)
{
	if (!build[0] || is_member(alias, build))
		return;
	for (size_t i = 0; i < alias->retired_count; i++)
		if (strcmp(alias->retired[i], build) == 0)
			return;
	if (alias->retired_count == ALIAS_RETIRED_MAX)
		memmove(alias->retired[0], alias->retired[1], --alias->retired_count * sizeof alias->retired[0]);
	memcpy(alias->retired[alias->retired_count++], build, ROUTE_MODEL_SIZE);
}

static void drop_members_from_retired(struct alias *alias)
{
	size_t kept = 0;
	for (size_t i = 0; i < alias->retired_count; i++)
		if (!is_member(alias, alias->retired[i]))
			memmove(alias->retired[kept++], alias->retired[i], sizeof alias->retired[0]);
	alias->retired_count = kept;
}

static void apply(struct item *item, const struct alias_change *c, uint64_t now_us)
{
	struct alias *alias = &item->alias, old = *alias;
	bool moved = !str_is(c->desired, old.desired) || !str_is(c->previous, old.previous);
	(void)str_copy(c->id, alias->id, sizeof alias->id);
	(void)str_copy(c->display_name, alias->display_name, sizeof alias->display_name);
	(void)str_copy(c->desired, alias->desired, sizeof alias->desired);
	(void)str_copy(c->previous, alias->previous, sizeof alias->previous);
	(void)str_copy(c->weight_hash, alias->weight_hash, sizeof alias->weight_hash);
	drop_members_from_retired(alias);
	retire(alias, old.desired);
	retire(alias, old.previous);
	alias->active = !c->inactive;
	alias->state = c->canary ? ALIAS_CANARY : ALIAS_STEADY;
	alias->share_percent = c->canary ? stages[0] : c->share_percent ? c->share_percent : ALIAS_WHOLE;
	alias->why[0] = '\0';
	item->stage_since_us = now_us;
	if (moved || c->canary)
		item->desired = item->previous = (struct health){0};
}

static struct item *item_new(struct alias_table *table, struct str id)
{
	struct item *item = calloc(1, sizeof *item);
	if (item)
		(void)str_copy(id, item->alias.id, sizeof item->alias.id);
	if (item && insert(table, item))
		return item;
	free(item);
	return NULL;
}

enum db_err alias_put(struct alias_table *table, const struct alias_change *change, uint64_t now_us, struct error *error)
{
	enum db_err err = check_names(table, change, error);
	if (!err)
		err = check_share(change, error);
	if (err)
		return err;
	struct item *item = item_find(table, change->id);
	if (!item && table->count == ALIAS_MAX)
		return error_set(error, DB_E_LIMIT, "There are %d aliases already: remove one first.", ALIAS_MAX);
	bool covered = change->inactive || cover_builds(table, change->desired, change->previous);
	if (covered && !item && !(item = item_new(table, change->id)) && !change->inactive)
		uncover_builds(table, change->desired, change->previous);
	if (!covered || !item)
		return error_set(error, DB_E_NOMEM, "There is not enough memory for another alias.");
	struct alias before = item->alias;
	uncover(table, &before);
	apply(item, change, now_us);
	pin(table, item);
	route_files_pin(table->fleet, str_of(before.desired));
	route_files_pin(table->fleet, change->desired);
	table->fleet->views_version++;
	return DB_OK;
}

enum db_err alias_restore(struct alias_table *table, const struct alias *alias)
{
	if (!is_id(str_of(alias->id)) || !is_build(str_of(alias->desired)) || alias->retired_count > ALIAS_RETIRED_MAX ||
	    alias->share_percent > ALIAS_WHOLE || alias->state > ALIAS_ROLLED_BACK || !is_hash(str_of(alias->weight_hash)))
		return DB_E_INVALID;
	if (table->count == ALIAS_MAX || item_find(table, str_of(alias->id)))
		return DB_E_LIMIT;
	struct item *item = calloc(1, sizeof *item);
	if (!item)
		return DB_E_NOMEM;
	item->alias = *alias;
	bool covered = !alias->active || cover_builds(table, str_of(alias->desired), str_of(alias->previous));
	if (!covered || !insert(table, item)) {
		if (covered)
			uncover(table, &item->alias);
		free(item);
		return DB_E_NOMEM;
	}
	pin(table, item);
	route_files_pin(table->fleet, str_of(alias->desired));
	table->fleet->views_version++;
	return DB_OK;
}

/* --- resolving --- */

/* Some node could serve the request with this build once it has a place for it (routing 13.2). */
static bool could_serve(struct alias_table *table, const struct route_request *request, const char *build, uint64_t now_us)
{
	struct route_request asked = *request;
	asked.model = str_of(build);
	return build[0] && route_could_serve(table->fleet, &asked, now_us);
}

/* An account stays with its build while the share does; one that is not known is drawn each time. */
static bool in_share(struct alias_table *table, const struct alias *alias, const struct route_request *request)
{
	if (!alias->previous[0] || alias->share_percent >= ALIAS_WHOLE)
		return true;
	uint64_t drawn = request->caller_account.len
	                     ? map_hash(table->seed, request->caller_account)
	                     : (table->seed[1] = table->seed[1] * 6364136223846793005u + 1442695040888963407u);
	drawn ^= map_hash(table->seed, str_of(alias->id));
	return (drawn >> 16) % ALIAS_WHOLE < alias->share_percent;
}

enum alias_choice alias_resolve(struct alias_table *table, const struct route_request *request, uint64_t now_us,
                                struct str *build)
{
	const struct item *item = item_find(table, request->model);
	*build = request->model;
	if (!item || !item->alias.active)
		return ALIAS_NOT_ONE;
	const struct alias *alias = &item->alias;
	bool desired = could_serve(table, request, alias->desired, now_us);
	bool previous = could_serve(table, request, alias->previous, now_us);
	bool named = request->own_only || request->serials;
	if (named && !desired && !previous)
		return ALIAS_UNAVAILABLE;
	bool take_previous = previous && (!desired || !in_share(table, alias, request));
	*build = str_of(take_previous ? alias->previous : alias->desired);
	return take_previous ? ALIAS_PREVIOUS : ALIAS_DESIRED;
}

/* --- health, stages, roll back --- */

static struct health health_now(const struct health *health, uint64_t now_us)
{
	double age_s = now_us > health->at_us ? (double)(now_us - health->at_us) / 1e6 : 0;
	double left = exp(-age_s / HEALTH_SPAN_S);
	return (struct health){health->requests * left, health->faults * left, health->timed * left, health->log_ttft * left,
	                       now_us};
}

static void health_add(struct health *health, const struct alias_outcome *outcome, uint64_t now_us)
{
	*health = health_now(health, now_us);
	health->requests++;
	health->faults += !outcome->ok;
	if (outcome->ok && outcome->ttft_ms > 0) {
		health->timed++;
		health->log_ttft += log(outcome->ttft_ms);
	}
}

static double ttft_of(const struct health *health)
{
	return health->timed > 0 ? exp(health->log_ttft / health->timed) : 0;
}

static void roll_back(struct item *item, uint64_t now_us)
{
	item->alias.state = ALIAS_ROLLED_BACK;
	item->alias.share_percent = 0;
	item->stage_since_us = now_us;
}

static bool fails_more(const struct health *desired, const struct health *previous)
{
	double usual = previous->requests >= 1 ? previous->faults / previous->requests : PRIOR_RATE;
	double spread = sqrt((usual + FAULT_MARGIN) * (1 - usual) / (desired->requests > 1 ? desired->requests : 1));
	return desired->faults >= FAULTS_MIN && desired->faults / desired->requests > usual + FAULT_MARGIN + CHANCE * spread;
}

static bool starts_later(const struct health *desired, const struct health *previous)
{
	return desired->timed >= SLOWER_REQUESTS && previous->timed >= SLOWER_REQUESTS &&
	       ttft_of(desired) > SLOWER * ttft_of(previous);
}

static void next_stage(struct item *item, uint64_t now_us)
{
	struct alias *alias = &item->alias;
	size_t stage = 0;
	while (stage < ALIAS_STAGES - 1 && stages[stage] <= alias->share_percent)
		stage++;
	alias->share_percent = stages[stage];
	if (alias->share_percent == ALIAS_WHOLE)
		alias->state = ALIAS_STEADY;
	item->stage_since_us = now_us;
}

static bool judge(struct item *item, uint64_t now_us)
{
	struct health desired = health_now(&item->desired, now_us), previous = health_now(&item->previous, now_us);
	struct error why;
	if (item->alias.state != ALIAS_CANARY)
		return false;
	if (fails_more(&desired, &previous)) {
		error_set(&why, DB_OK, "%.0f of the last %.0f requests to %s failed, %.0f of %.0f to %s.", desired.faults,
		          desired.requests, item->alias.desired, previous.faults, previous.requests, item->alias.previous);
	} else if (starts_later(&desired, &previous)) {
		error_set(&why, DB_OK, "The first content of %s came after %.0f ms, of %s after %.0f ms.", item->alias.desired,
		          ttft_of(&desired), item->alias.previous, ttft_of(&previous));
	} else {
		bool proven = item->stage_since_us + STAGE_US <= now_us && desired.requests >= STAGE_REQUESTS;
		if (proven)
			next_stage(item, now_us);
		return proven;
	}
	(void)str_copy(str_sub(str_of(why.text), 0, sizeof item->alias.why - 1), item->alias.why, sizeof item->alias.why);
	roll_back(item, now_us);
	return true;
}

bool alias_note(struct alias_table *table, const struct alias_outcome *outcome, uint64_t now_us)
{
	struct item *item = item_find(table, outcome->alias);
	if (!item)
		return false;
	if (str_is(outcome->build, item->alias.desired))
		health_add(&item->desired, outcome, now_us);
	else if (item->alias.previous[0] && str_is(outcome->build, item->alias.previous))
		health_add(&item->previous, outcome, now_us);
	else
		return false;
	return judge(item, now_us);
}

static struct alias_health shown(const struct health *health, uint64_t now_us)
{
	struct health now = health_now(health, now_us);
	return (struct alias_health){.requests = now.requests, .faults = now.faults, .ttft_ms = ttft_of(&now)};
}

void alias_health(const struct alias_table *table, struct str id, uint64_t now_us, struct alias_health *desired,
                  struct alias_health *previous)
{
	const struct item *item = item_find(table, id);
	*desired = *previous = (struct alias_health){0};
	if (!item)
		return;
	*desired = shown(&item->desired, now_us);
	*previous = shown(&item->previous, now_us);
}
