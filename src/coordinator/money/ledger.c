#include "coordinator/money/ledger_internal.h"

#include <stdlib.h>

#include "core/clock.h"

struct load_wait {
	struct list_link link;
	ledger_account_fn done;
	void *user;
};

struct ledger_hold {
	char request_id[STORE_ID_SIZE];
	char key_id[STORE_ID_SIZE];
	struct ledger_account *account;
	struct spend_group *group; /* may be NULL */
	int64_t amount;
	int64_t metered; /* of that, what the store has on hold for the group, since `epoch` */
	uint64_t epoch;
	struct ledger_hold *next_free;
};

struct price_row {
	struct price price;
	size_t key_len;
	char key[]; /* account, NUL, model */
};

struct ledger *ledger_new(struct store *store)
{
	struct ledger *ledger = calloc(1, sizeof *ledger);
	if (!ledger)
		return NULL;
	ledger->store = store;
	map_init(&ledger->accounts);
	map_init(&ledger->holds);
	map_init(&ledger->prices);
	map_init(&ledger->groups);
	ledger->fallback = (struct price){PRICE_FALLBACK_INPUT, PRICE_FALLBACK_OUTPUT, 0};
	ledger->fee_percent = LEDGER_FEE_PERCENT_DEFAULT;
	ledger->referral_percent = PRICE_REFERRAL_PERCENT;
	leases_begin(ledger);
	return ledger;
}

void ledger_set_defaults(struct ledger *ledger, struct price price, int fee_percent)
{
	ledger->fallback = price;
	ledger->fee_percent = fee_percent;
}

void ledger_set_referral_share(struct ledger *ledger, int percent)
{
	ledger->referral_percent = percent;
}

int ledger_referral_share(const struct ledger *ledger)
{
	return ledger->referral_percent;
}

static void free_values(struct map *map)
{
	size_t cursor = 0;
	void *value;
	while ((value = map_next(map, &cursor)))
		free(value);
	map_free(map);
}

void ledger_free(struct ledger *ledger)
{
	if (!ledger)
		return;
	leases_end(ledger);
	free_values(&ledger->accounts);
	free_values(&ledger->holds);
	free_values(&ledger->prices);
	free_values(&ledger->groups);
	while (ledger->free_holds) {
		struct ledger_hold *next = ledger->free_holds->next_free;
		free(ledger->free_holds);
		ledger->free_holds = next;
	}
	free(ledger);
}

/* --- accounts --- */

struct ledger_account *ledger_account_find(struct ledger *ledger, struct str account_id)
{
	struct ledger_account *account = map_get(&ledger->accounts, account_id);
	return account && account->ready ? account : NULL;
}

const char *ledger_account_id(const struct ledger_account *account)
{
	return account->id;
}

bool ledger_account_is_service(const struct ledger_account *account)
{
	return account->is_service;
}

bool ledger_account_has_machine(const struct ledger_account *account)
{
	return account->has_machine;
}

void ledger_account_note_machine(struct ledger_account *account)
{
	account->has_machine = true;
}

int ledger_account_fee_percent(const struct ledger_account *account)
{
	return account->fee_percent;
}

void ledger_account_terms(struct ledger *ledger, const struct store_account *terms)
{
	struct ledger_account *account = ledger_account_find(ledger, str_of(terms->id));
	if (!account)
		return;
	account->is_service = terms->role == STORE_ROLE_SERVICE;
	account->fee_percent = terms->fee_percent >= 0 ? terms->fee_percent : ledger->fee_percent;
}

void ledger_account_refer(struct ledger *ledger, struct str account_id, struct str referrer_id)
{
	struct ledger_account *account = ledger_account_find(ledger, account_id);
	if (account) /* otherwise a load sees it, also one that is on its way: it reads what was written before */
		(void)str_copy(referrer_id, account->referrer, sizeof account->referrer);
}

int64_t ledger_available(const struct ledger_account *account)
{
	return account->balance > account->held ? account->balance - account->held : 0;
}

int64_t ledger_balance(const struct ledger_account *account)
{
	return account->balance;
}

int64_t ledger_withdrawable(const struct ledger_account *account)
{
	return account->withdrawable;
}

/* Memory changes at once, before the store does. */
static void note_since(struct ledger_account *account, int64_t balance, int64_t withdrawable, int64_t leased)
{
	if (!account->asking)
		return;
	account->since_balance += balance;
	account->since_withdrawable += withdrawable;
	account->since_leased += leased;
}

static void credit(struct ledger_account *account, int64_t amount, bool withdrawable)
{
	account->balance += amount;
	if (withdrawable)
		account->withdrawable += amount;
}

static void debit(struct ledger_account *account, int64_t amount, bool withdrawable)
{
	account->balance -= amount;
	account->leased -= amount;
	if (withdrawable)
		account->withdrawable -= amount;
	if (account->ready && account->withdrawable > account->balance)
		account->withdrawable = account->balance;
}

/* Calls everybody who waits; the account is freed when there is none. */
static void end_load(struct ledger_account *account, const struct error *error)
{
	struct list waiting;
	struct list_link *link;
	list_init(&waiting);
	while ((link = list_pop_front(&account->waiting)))
		list_push_back(&waiting, link);
	bool ready = account->ready;
	if (!ready) {
		map_remove(&account->ledger->accounts, str_of(account->id));
		free(account);
	}
	while ((link = list_pop_front(&waiting))) {
		struct load_wait *wait = LIST_OF(link, struct load_wait, link);
		wait->done(ready ? account : NULL, error, wait->user);
		free(wait);
	}
}

void ledger_take(struct ledger_account *account, const struct store_account *row, int64_t leased, const struct error *error)
{
	bool is_first = !account->ready;
	account->asking = false;
	if (row) {
		account->ready = true;
		account->is_service = row->role == STORE_ROLE_SERVICE;
		account->fee_percent = row->fee_percent >= 0 ? row->fee_percent : account->ledger->fee_percent;
		account->has_machine |= row->has_machine;
		memcpy(account->referrer, row->referrer, sizeof account->referrer);
		account->balance = row->balance_uusd + account->since_balance;
		account->withdrawable = row->withdrawable_uusd + account->since_withdrawable;
		if (account->withdrawable > account->balance)
			account->withdrawable = account->balance;
		account->leased = leased + account->since_leased;
	}
	if (is_first)
		end_load(account, error);
}

static struct ledger_account *begin_load(struct ledger *ledger, struct str account_id)
{
	struct ledger_account *account = calloc(1, sizeof *account);
	if (!account)
		return NULL;
	account->ledger = ledger;
	list_init(&account->waiting);
	list_init(&account->rooms);
	if (!str_copy(account_id, account->id, sizeof account->id) ||
	    map_put(&ledger->accounts, str_of(account->id), account, NULL)) {
		free(account);
		return NULL;
	}
	return account;
}

void ledger_account_load(struct ledger *ledger, struct str account_id, ledger_account_fn done, void *user)
{
	struct ledger_account *account = map_get(&ledger->accounts, account_id);
	if (account && account->ready) {
		done(account, NULL, user);
		return;
	}
	struct load_wait *wait = malloc(sizeof *wait);
	bool is_first = !account;
	if (wait && is_first)
		account = begin_load(ledger, account_id);
	if (!wait || !account) {
		struct error error;
		error_set(&error, DB_E_NOMEM, "There is no memory for an account.");
		free(wait);
		done(NULL, &error, user);
		return;
	}
	*wait = (struct load_wait){.done = done, .user = user};
	list_push_back(&account->waiting, &wait->link);
	if (is_first)
		leases_load(account);
}

/* --- transfers --- */

struct transfer_wait {
	struct ledger_account *from, *to; /* NULL when not in memory at the time of asking: a later load sees the transfer */
	int64_t amount;
	bool withdrawable;
	store_transfer_fn done;
	void *user;
};

static void on_transfer(bool applied, const struct error *error, void *user)
{
	struct transfer_wait *wait = user;
	if (wait->from)
		wait->from->held -= wait->amount;
	if (applied && wait->from)
		debit(wait->from, wait->amount, wait->withdrawable);
	if (applied && wait->to)
		credit(wait->to, wait->amount, wait->withdrawable);
	if (wait->done)
		wait->done(applied, error, wait->user);
	free(wait);
}

enum db_err ledger_transfer(struct ledger *ledger, const struct store_transfer *transfer, store_transfer_fn done, void *user)
{
	struct ledger_account *from = map_get(&ledger->accounts, str_of(transfer->from));
	if (!store_healthy(ledger->store, NULL))
		return DB_E_IO;
	if (from && from->ready && leases_promisable(from) < transfer->amount_uusd)
		return leases_refuse(from, transfer->amount_uusd);
	struct transfer_wait *wait = malloc(sizeof *wait);
	if (!wait)
		return DB_E_NOMEM;
	*wait = (struct transfer_wait){.from = from,
	                               .to = map_get(&ledger->accounts, str_of(transfer->to)),
	                               .amount = transfer->amount_uusd,
	                               .withdrawable = transfer->withdrawable,
	                               .done = done,
	                               .user = user};
	if (from)
		from->held += transfer->amount_uusd; /* out of reach of requests until the store has decided */
	store_transfer(ledger->store, transfer, on_transfer, wait);
	return DB_OK;
}

/* --- movements of others --- */

enum db_err ledger_move_begin(struct ledger *ledger, struct str account_id, int64_t debit_uusd, struct ledger_move *move)
{
	struct ledger_account *account = map_get(&ledger->accounts, account_id);
	*move = (struct ledger_move){0};
	if (!store_healthy(ledger->store, NULL))
		return DB_E_IO;
	if (account && account->ready && leases_promisable(account) < debit_uusd)
		return leases_refuse(account, debit_uusd);
	*move = (struct ledger_move){account, debit_uusd};
	if (account)
		account->held += debit_uusd;
	return DB_OK;
}

void ledger_move_end(struct ledger_move *move, int64_t moved, bool withdrawable)
{
	if (!move->account)
		return;
	move->account->held -= move->held;
	if (moved > 0)
		credit(move->account, moved, withdrawable);
	else if (moved < 0)
		debit(move->account, -moved, withdrawable);
	move->account = NULL;
}

/* --- prices --- */

struct prices_wait {
	struct ledger *ledger;
	store_done_fn done;
	void *user;
};

#define PRICE_KEY_MAX (STORE_ID_SIZE + STORE_MODEL_SIZE)

/* Length of the key, 0 when account and model are longer than any in the store. */
static size_t price_key(struct str account, struct str model, char out[PRICE_KEY_MAX])
{
	if (account.len + 1 + model.len > PRICE_KEY_MAX)
		return 0;
	memcpy(out, account.at, account.len);
	out[account.len] = '\0';
	memcpy(out + account.len + 1, model.at, model.len);
	return account.len + 1 + model.len;
}

static enum db_err put_price(struct map *prices, const struct store_price *row)
{
	char key[PRICE_KEY_MAX];
	size_t len = price_key(str_of(row->account_id), str_of(row->model), key);
	struct price_row *price = malloc(sizeof *price + len);
	void *old = NULL;
	if (!price)
		return DB_E_NOMEM;
	price->price = (struct price){row->input, row->output, row->cached};
	price->key_len = len;
	memcpy(price->key, key, len);
	if (map_put(prices, (struct str){price->key, len}, price, &old)) {
		free(price);
		return DB_E_NOMEM;
	}
	free(old);
	return DB_OK;
}

static void on_prices(const struct store_price *rows, size_t count, const struct error *error, void *user)
{
	struct prices_wait *wait = user;
	struct error no_memory;
	struct map prices;
	enum db_err err = error ? error->code : DB_OK;

	map_init(&prices);
	for (size_t i = 0; i < count && !err; i++) {
		err = put_price(&prices, &rows[i]);
		if (err) {
			error_set(&no_memory, err, "There is no memory for the prices.");
			error = &no_memory;
		}
	}
	if (!err) {
		struct map old = wait->ledger->prices;
		wait->ledger->prices = prices;
		prices = old;
	}
	free_values(&prices);
	wait->done(error, wait->user);
	free(wait);
}

void ledger_prices_load(struct ledger *ledger, store_done_fn done, void *user)
{
	struct prices_wait *wait = malloc(sizeof *wait);
	if (!wait) {
		struct error error;
		error_set(&error, DB_E_NOMEM, "There is no memory for the prices.");
		done(&error, user);
		return;
	}
	*wait = (struct prices_wait){ledger, done, user};
	store_prices_list(ledger->store, on_prices, wait);
}

static const struct price_row *find_price(const struct ledger *ledger, struct str account, struct str model)
{
	char key[PRICE_KEY_MAX];
	size_t len = price_key(account, model, key);
	return len ? map_get(&ledger->prices, (struct str){key, len}) : NULL;
}

struct price ledger_fallback_price(const struct ledger *ledger)
{
	return ledger->fallback;
}

struct price ledger_price(const struct ledger *ledger, struct str provider_account_or_empty, struct str model, bool service)
{
	const struct price_row *row = NULL;
	if (!service && provider_account_or_empty.len)
		row = find_price(ledger, provider_account_or_empty, model);
	if (!row)
		row = find_price(ledger, STR(STORE_ACCOUNT_PLATFORM), model);
	return row ? row->price : ledger->fallback;
}

/* --- spend limits of keys --- */

struct spend_group *ledger_spend_find(struct ledger *ledger, struct str group_id)
{
	return map_get(&ledger->groups, group_id);
}

struct spend_group *ledger_spend_group(struct ledger *ledger, const struct store_key *read)
{
	struct spend_group *group = map_get(&ledger->groups, str_of(read->limit_group));
	if (!group) {
		group = calloc(1, sizeof *group);
		if (!group)
			return NULL;
		memcpy(group->id, read->limit_group, sizeof group->id);
		if (map_put(&ledger->groups, str_of(group->id), group, NULL)) {
			free(group);
			return NULL;
		}
		group->spent = read->spend;
	}
	group->limited = read->limited;
	group->limit_uusd = read->limit_uusd;
	group->window = read->limit_reset;
	return group;
}

static int64_t today(void)
{
	return clock_day(clock_wall_us());
}

static bool limit_leaves(struct spend_group *group, int64_t amount)
{
	return !group || amount == 0 || spend_room(group, today()) >= amount;
}

/* DB_E_AGAIN: what other coordinators have on hold counts, too, which the store knows. */
static enum db_err limit_refuses(const struct ledger *ledger, struct spend_group *group, int64_t amount)
{
	if (!limit_leaves(group, amount))
		return DB_E_LIMIT;
	return leases_meter(ledger, group) && group->spare < amount ? DB_E_AGAIN : DB_OK;
}

/* What the store has on hold for it is this hold's. */
static void meter(struct ledger_hold *hold, int64_t amount)
{
	struct ledger *ledger = hold->account->ledger;
	if (!leases_meter(ledger, hold->group))
		return;
	if (hold->epoch != ledger->epoch)
		hold->metered = 0; /* the store forgot it with all that it thought lost */
	hold->group->spare -= amount;
	hold->metered += amount;
	hold->epoch = ledger->epoch;
}

/* Behind whatever ended it. */
static void free_metered(struct ledger *ledger, const struct spend_group *group, int64_t amount, uint64_t epoch)
{
	if (amount > 0)
		store_key_free(ledger->store, str_of(group->id), amount, epoch);
}

static void change_held(struct ledger_hold *hold, int64_t by)
{
	hold->account->held += by;
	if (hold->group)
		hold->group->held += by;
}

/* --- holds --- */

static struct ledger_hold *take_hold(struct ledger *ledger)
{
	struct ledger_hold *hold = ledger->free_holds;
	if (!hold)
		return malloc(sizeof *hold);
	ledger->free_holds = hold->next_free;
	return hold;
}

static void give_hold(struct ledger *ledger, struct ledger_hold *hold)
{
	hold->next_free = ledger->free_holds;
	ledger->free_holds = hold;
}

/* Its money is available again. */
static void end_hold(struct ledger_hold *hold)
{
	struct ledger *ledger = hold->account->ledger;
	change_held(hold, -hold->amount);
	map_remove(&ledger->holds, str_of(hold->request_id));
	give_hold(ledger, hold);
}

enum db_err ledger_hold(struct ledger *ledger, struct ledger_account *account, const struct ledger_hold_options *options,
                        struct ledger_hold **out)
{
	if (options->amount_uusd < 0)
		return DB_E_RANGE;
	if (!store_healthy(ledger->store, NULL))
		return DB_E_IO;
	if (leases_promisable(account) < options->amount_uusd)
		return leases_refuse(account, options->amount_uusd);
	if (map_get(&ledger->holds, options->request_id))
		return DB_E_EXISTS;
	enum db_err err = limit_refuses(ledger, options->group, options->amount_uusd);
	if (err)
		return err;

	struct ledger_hold *hold = take_hold(ledger);
	if (!hold)
		return DB_E_NOMEM;
	if (!options->request_id.len || !str_copy(options->request_id, hold->request_id, sizeof hold->request_id) ||
	    !str_copy(options->key_id, hold->key_id, sizeof hold->key_id))
		err = DB_E_INVALID;
	if (!err)
		err = map_put(&ledger->holds, str_of(hold->request_id), hold, NULL);
	if (err) {
		give_hold(ledger, hold);
		return err;
	}
	hold->account = account;
	hold->group = options->group;
	hold->amount = options->amount_uusd;
	hold->metered = 0;
	change_held(hold, hold->amount);
	meter(hold, hold->amount);

	struct store_hold row = {.amount_uusd = hold->amount,
	                         .price_in = options->price.input,
	                         .price_out = options->price.output,
	                         .created_us = clock_wall_us()};
	memcpy(row.request_id, hold->request_id, sizeof row.request_id);
	memcpy(row.account_id, account->id, sizeof row.account_id);
	memcpy(row.key_id, hold->key_id, sizeof row.key_id);
	store_hold_create(ledger->store, &row);
	*out = hold;
	return DB_OK;
}

int64_t ledger_hold_amount(const struct ledger_hold *hold)
{
	return hold->amount;
}

enum db_err ledger_hold_raise(struct ledger_hold *hold, int64_t total_uusd)
{
	struct ledger_account *account = hold->account;
	if (total_uusd <= hold->amount)
		return DB_OK;
	if (!store_healthy(account->ledger->store, NULL))
		return DB_E_IO;
	if (leases_promisable(account) < total_uusd - hold->amount)
		return leases_refuse(account, total_uusd - hold->amount);
	enum db_err err = limit_refuses(account->ledger, hold->group, total_uusd - hold->amount);
	if (err)
		return err;
	change_held(hold, total_uusd - hold->amount);
	meter(hold, total_uusd - hold->amount);
	hold->amount = total_uusd;
	store_hold_raise(account->ledger->store, str_of(hold->request_id), total_uusd);
	return DB_OK;
}

/* Billing 4.4: what the client agreed to is the hold; a dearer request is charged up to twice that, as far as there is money
 * beyond what other requests hold. */
static int64_t chargeable(const struct ledger_hold *hold, int64_t cost)
{
	if (cost <= hold->amount)
		return cost;
	int64_t overage = cost - hold->amount;
	if (overage > hold->amount)
		overage = hold->amount;
	int64_t beyond = leases_promisable(hold->account);
	bool is_metered = leases_meter(hold->account->ledger, hold->group); /* what others hold is not known here */
	int64_t room = is_metered ? 0 : hold->group ? spend_room(hold->group, today()) : INT64_MAX;
	if (beyond > room)
		beyond = room;
	return hold->amount + (overage < beyond ? overage : beyond);
}

/* The receivers' balances in memory; accounts that were never loaded will read theirs with this in it. */
static void credit_in_memory(struct ledger *ledger, const struct store_settlement *s)
{
	int64_t payout = s->cost_uusd - s->fee_uusd, retained = s->fee_uusd - s->referral_uusd;
	if (!s->provider_account[0]) {
		retained += payout;
		payout = 0;
	}
	struct ledger_account *provider = payout ? map_get(&ledger->accounts, str_of(s->provider_account)) : NULL;
	if (provider) {
		credit(provider, payout, true);
		note_since(provider, payout, payout, 0);
	}
	struct ledger_account *referrer = s->referral_uusd ? map_get(&ledger->accounts, str_of(s->referrer)) : NULL;
	if (referrer) {
		credit(referrer, s->referral_uusd, true);
		note_since(referrer, s->referral_uusd, s->referral_uusd, 0);
	}
	struct ledger_account *platform = retained ? map_get(&ledger->accounts, STR(STORE_ACCOUNT_PLATFORM)) : NULL;
	if (platform) {
		credit(platform, retained, false);
		note_since(platform, retained, 0, 0);
	}
}

int64_t ledger_settle(struct ledger_hold *hold, const struct ledger_usage *usage)
{
	struct ledger_account *account = hold->account;
	struct ledger *ledger = account->ledger;
	struct price_tokens tokens = {usage->prompt_tokens, usage->completion_tokens, usage->cached_tokens};
	int64_t cost = price_cost(usage->price, tokens, account->is_service);
	struct store_settlement s;

	memset(&s, 0, sizeof s);
	memcpy(s.request_id, hold->request_id, sizeof s.request_id);
	memcpy(s.account_id, account->id, sizeof s.account_id);
	memcpy(s.key_id, hold->key_id, sizeof s.key_id);
	if (hold->group)
		memcpy(s.key_group, hold->group->id, sizeof s.key_group);
	str_copy(usage->provider_account, s.provider_account, sizeof s.provider_account);
	str_copy(usage->provider_id, s.provider_id, sizeof s.provider_id);
	str_copy(usage->provider_key, s.provider_key, sizeof s.provider_key);
	str_copy(usage->model, s.model, sizeof s.model);
	str_copy(usage->public_model, s.public_model, sizeof s.public_model);
	str_copy(str_of(usage->outcome), s.outcome, sizeof s.outcome);
	s.prompt_tokens = usage->prompt_tokens;
	s.completion_tokens = usage->completion_tokens;
	s.reasoning_tokens = usage->reasoning_tokens;
	s.cached_tokens = usage->cached_tokens;
	s.reported_tokens = usage->reported_tokens;
	s.reported_prompt_tokens = usage->reported_prompt_tokens;
	s.reported_reasoning_tokens = usage->reported_reasoning_tokens;
	str_copy(usage->consumer_key, s.consumer_key, sizeof s.consumer_key);
	str_copy(usage->job_id, s.job_id, sizeof s.job_id);
	str_copy(usage->response_hash, s.response_hash, sizeof s.response_hash);
	str_copy(usage->se_signature, s.se_signature, sizeof s.se_signature);
	str_copy(usage->se_public_key, s.se_public_key, sizeof s.se_public_key);
	s.service = account->is_service;
	s.price_in = usage->price.input;
	s.price_out = usage->price.output;
	s.price_cached = usage->price.cached;
	s.hold_uusd = hold->amount;
	s.created_us = clock_wall_us();
	s.cost_uusd = chargeable(hold, cost);
	s.fee_uusd = price_fee(s.cost_uusd, usage->fee_percent);
	if (account->referrer[0]) {
		s.referral_uusd = price_referral(s.fee_uusd, ledger->referral_percent);
		memcpy(s.referrer, account->referrer, sizeof s.referrer);
	}

	const struct spend_group *group = hold->group;
	int64_t metered = hold->metered;
	uint64_t epoch = hold->epoch;
	if (hold->group)
		spend_add(&hold->group->spent, clock_day(s.created_us), s.cost_uusd);
	end_hold(hold);
	debit(account, s.cost_uusd, false);
	note_since(account, -s.cost_uusd, 0, -s.cost_uusd);
	credit_in_memory(ledger, &s);
	store_settle(ledger->store, &s, NULL, NULL);
	free_metered(ledger, group, metered, epoch);
	return s.cost_uusd;
}

void ledger_release(struct ledger_hold *hold, const char *reason)
{
	struct ledger *ledger = hold->account->ledger;
	store_hold_release(ledger->store, str_of(hold->request_id), reason);
	free_metered(ledger, hold->group, hold->metered, hold->epoch);
	end_hold(hold);
}

size_t ledger_open_holds(const struct ledger *ledger)
{
	return ledger->holds.count;
}
