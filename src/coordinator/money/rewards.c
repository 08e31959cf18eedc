#include "coordinator/money/rewards.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/map.h"

__extension__ typedef __int128 wide;

#define DAY_US     INT64_C(86400000000)
#define CLASS_LOW  48 /* GB: machines that are wanted most (billing 8.3) */
#define CLASS_HIGH 96

int64_t reward_period_of(int64_t at_us)
{
	int64_t into = at_us % REWARD_PERIOD_US;
	return at_us - (into < 0 ? into + REWARD_PERIOD_US : into);
}

void reward_period_id(int64_t start_us, char out[REWARD_ID_SIZE])
{
	char text[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(start_us, text);
	snprintf(out, REWARD_ID_SIZE, "%.16sZ", text);
}

int64_t reward_tier(int64_t memory_gb)
{
	static const struct {
		int64_t memory_gb, dollars;
	} tiers[] = {{512, 40}, {192, 30}, {128, 26}, {96, 22}, {64, 18}, {48, 16}, {32, 12}, {24, 10}};
	for (size_t i = 0; i < sizeof tiers / sizeof *tiers; i++)
		if (memory_gb >= tiers[i].memory_gb)
			return tiers[i].dollars * 1000000;
	return 0;
}

/* --- memory that can be --- */

/* Identifiers that Apple published for Macs with its own chips, and the most memory each was sold with. Where one identifier
 * covers two chips the larger counts. */
static const struct {
	const char *models; /* between spaces */
	int64_t memory_gb;
} sold[] = {
    {"MacBookAir10,1 MacBookPro17,1 Macmini9,1 iMac21,1 iMac21,2", 16},
    {"MacBookPro18,1 MacBookPro18,3", 32},
    {"MacBookPro18,2 MacBookPro18,4 Mac13,1", 64},
    {"Mac13,2", 128},
    {"Mac14,2 Mac14,3 Mac14,7 Mac14,15", 24},
    {"Mac14,9 Mac14,10 Mac14,12", 32},
    {"Mac14,5 Mac14,6 Mac14,13", 96},
    {"Mac14,8 Mac14,14", 192},
    {"Mac15,3 Mac15,4 Mac15,5 Mac15,12 Mac15,13", 24},
    {"Mac15,6 Mac15,7", 36},
    {"Mac15,8 Mac15,9 Mac15,10 Mac15,11", 128},
    {"Mac15,14", 512},
    {"Mac16,1 Mac16,2 Mac16,3 Mac16,10 Mac16,12 Mac16,13", 32},
    {"Mac16,7 Mac16,8 Mac16,11", 64},
    {"Mac16,5 Mac16,6 Mac16,9", 128},
    {"Mac17,2", 32},
};

bool reward_read_model(struct str row, struct str *model, int64_t *memory_gb)
{
	uint64_t gb;
	struct str number = str_cut(row, '=', model);
	*model = str_trim(*model);
	if (!model->len || !str_to_u64(str_trim(number), &gb) || gb == 0 || gb > 4096)
		return false;
	*memory_gb = (int64_t)gb;
	return true;
}

int64_t reward_model_memory(struct str model, const char *const *more, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct str name;
		int64_t memory_gb;
		if (reward_read_model(str_of(more[i]), &name, &memory_gb) && str_eq(name, model))
			return memory_gb;
	}
	for (size_t i = 0; i < sizeof sold / sizeof *sold && model.len > 0; i++) {
		struct str rest = str_of(sold[i].models), name;
		while (rest.len > 0) {
			rest = str_cut(rest, ' ', &name);
			if (str_eq(name, model))
				return sold[i].memory_gb;
		}
	}
	return 0;
}

/* --- one machine --- */

static int64_t month_us(int64_t at_us)
{
	int64_t first = clock_month_start(clock_day(at_us));
	return (clock_month_start(first + 31) - first) * DAY_US; /* 31 days after a first of a month lie in the next one */
}

static int64_t share_of_month(int64_t month_uusd, wide part, wide whole)
{
	return whole > 0 ? (int64_t)(((wide)month_uusd * part + whole / 2) / whole) : 0;
}

int64_t reward_pool(const struct reward_terms *terms)
{
	return share_of_month(terms->pool_month_uusd, terms->period_us, month_us(terms->start_us));
}

int64_t reward_account_limit(const struct reward_terms *terms)
{
	return (int64_t)((wide)reward_pool(terms) * terms->account_percent / 100);
}

void reward_claim_want(struct reward_claim *claim, const struct reward_terms *terms)
{
	wide period = terms->period_us, up = claim->uptime_us > terms->period_us ? terms->period_us : claim->uptime_us;
	wide above = up * 10 - period * 9; /* availability = (uptime - 0.90) / 0.10 */
	claim->floor_uusd = claim->want_uusd = claim->grant_uusd = 0;
	if (above <= 0 || up * 100 < period * terms->min_uptime_percent)
		return;
	claim->floor_uusd = share_of_month(reward_tier(claim->memory_gb), above, (wide)month_us(terms->start_us));
	wide off = (wide)claim->earned_uusd * terms->reduction_percent / 100;
	claim->want_uusd = off >= claim->floor_uusd ? 0 : claim->floor_uusd - (int64_t)off;
}

/* --- all of them --- */

static bool in_class(const struct reward_claim *claim)
{
	return claim->memory_gb >= CLASS_LOW && claim->memory_gb <= CLASS_HIGH;
}

/* score = 1 - min(earned / floor, 1), and 1 more in the class: as a fraction over floor. */
static wide score(const struct reward_claim *claim)
{
	int64_t earned = claim->earned_uusd < claim->floor_uusd ? claim->earned_uusd : claim->floor_uusd;
	return (wide)claim->floor_uusd * (in_class(claim) ? 2 : 1) - earned;
}

static int by_score(const void *one, const void *other)
{
	const struct reward_claim *a = one, *b = other;
	wide left = score(a) * (b->floor_uusd ? b->floor_uusd : 1), right = score(b) * (a->floor_uusd ? a->floor_uusd : 1);
	return left != right ? (left > right ? -1 : 1) : strcmp(a->machine, b->machine);
}

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* What each payee was given, with what it had: only where there is a limit on it. */
struct purse {
	struct map payees; /* id -> int64_t of `given` */
	int64_t *given;
	size_t count;
	int64_t cap; /* -1 = no limit */
};

static bool purse_open(struct purse *purse, const struct reward_claim *claims, size_t count, int64_t cap)
{
	*purse = (struct purse){.cap = cap};
	map_init(&purse->payees);
	if (cap < 0 || count == 0)
		return true;
	purse->given = calloc(count, sizeof *purse->given);
	for (size_t i = 0; purse->given && i < count; i++) {
		struct str payee = str_of(claims[i].payee);
		if (map_get(&purse->payees, payee))
			continue;
		int64_t *given = &purse->given[purse->count++];
		*given = claims[i].payee_has_uusd;
		if (map_put(&purse->payees, payee, given, NULL))
			return false;
	}
	return purse->given != NULL;
}

static void purse_close(struct purse *purse)
{
	map_free(&purse->payees);
	free(purse->given);
}

static int64_t give(struct purse *purse, struct reward_claim *claim, int64_t left)
{
	int64_t more = least(claim->want_uusd - claim->grant_uusd, left);
	int64_t *given = purse->cap < 0 ? NULL : map_get(&purse->payees, str_of(claim->payee));
	if (given) {
		more = least(more, *given < purse->cap ? purse->cap - *given : 0);
		*given += more;
	}
	claim->grant_uusd += more;
	return more;
}

bool reward_allocate(struct reward_claim *claims, size_t count, const struct reward_terms *terms)
{
	int64_t pool = reward_pool(terms), left = terms->left_uusd < 0 ? pool : least(terms->left_uusd, pool);
	int64_t cap = terms->account_percent > 0 ? reward_account_limit(terms) : -1;
	struct purse purse;
	wide demand = 0;
	bool good = purse_open(&purse, claims, count, cap);
	for (size_t i = 0; i < count; i++) {
		reward_claim_want(&claims[i], terms);
		demand += claims[i].want_uusd;
	}
	if (count > 1)
		qsort(claims, count, sizeof *claims, by_score);
	int64_t first = demand > left ? left / 2 : 0;
	for (size_t i = 0; good && i < count && first > 0; i++) {
		int64_t given = in_class(&claims[i]) ? give(&purse, &claims[i], first) : 0;
		first -= given;
		left -= given;
	}
	for (size_t i = 0; good && i < count && left > 0; i++)
		left -= give(&purse, &claims[i], left);
	purse_close(&purse);
	return good;
}
