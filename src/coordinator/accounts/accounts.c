#include "coordinator/accounts/accounts_internal.h"

#include <stdlib.h>

#include "core/clock.h"
#include "core/encode.h"
#include "crypto/secret.h"

#define CACHE_ENTRIES 100000
#define CACHE_KEEP_MS 60000
#define TELL_USES_MS  10000
#define TOKEN_MAX     512 /* longer ones are nobody's */

/* What is known of one API key, right or wrong, by the hash of the token. */
struct cached {
	uint8_t hash[SHA256_BYTES];
	struct caller caller; /* account NULL = there is no such key */
	char *models;         /* owned; caller.allowed_models */
	bool disabled;
	int64_t expires_us;
	uint64_t known_us; /* monotonic: when it was read */
	int64_t used_us;   /* wall */
	struct list_link age, used;
};

/* One question to the store; everybody who asks the same meanwhile waits for its answer. */
struct lookup {
	uint8_t hash[SHA256_BYTES];
	struct accounts *accounts;
	struct list waiting; /* of struct accounts_wait */
	uint64_t epoch;      /* of the cache when it was asked */
	enum lookup_kind kind;
	struct store_key key;
};

static struct str hash_str(const uint8_t hash[SHA256_BYTES])
{
	return (struct str){(const char *)hash, SHA256_BYTES};
}

struct accounts *accounts_new(struct store *store, struct ledger *ledger)
{
	struct accounts *accounts = calloc(1, sizeof *accounts);
	if (!accounts)
		return NULL;
	accounts->store = store;
	accounts->ledger = ledger;
	map_init(&accounts->cache);
	for (int kind = 0; kind < LOOKUP_KINDS; kind++)
		map_init(&accounts->lookups[kind]);
	map_init(&accounts->by_id);
	list_init(&accounts->by_age);
	list_init(&accounts->used);
	accounts->told_us = clock_mono_us();
	accounts->entries_max = CACHE_ENTRIES;
	accounts->keep_us = CACHE_KEEP_MS * UINT64_C(1000);
	return accounts;
}

/* --- when keys were used --- */

#define USES_AT_ONCE 256

void accounts_flush_uses(struct accounts *accounts)
{
	struct store_key_use uses[USES_AT_ONCE];
	struct list_link *link;
	size_t count = 0;
	accounts->told_us = clock_mono_us();
	while ((link = list_pop_front(&accounts->used))) {
		const struct cached *cached = LIST_OF(link, struct cached, used);
		memcpy(uses[count].key_id, cached->caller.key_id, sizeof uses[count].key_id);
		uses[count++].at_us = cached->used_us;
		if (count == USES_AT_ONCE || !list_first(&accounts->used)) {
			store_keys_touch(accounts->store, uses, count);
			count = 0;
		}
	}
}

static void note_use(struct accounts *accounts, struct cached *cached, int64_t now_us)
{
	cached->used_us = now_us;
	if (!list_linked(&cached->used))
		list_push_back(&accounts->used, &cached->used);
	if (clock_mono_us() - accounts->told_us >= TELL_USES_MS * UINT64_C(1000))
		accounts_flush_uses(accounts);
}

/* --- cache --- */

static void forget(struct accounts *accounts, struct cached *cached)
{
	map_remove(&accounts->cache, hash_str(cached->hash));
	if (map_get(&accounts->by_id, str_of(cached->caller.key_id)) == cached)
		map_remove(&accounts->by_id, str_of(cached->caller.key_id));
	list_remove(&accounts->by_age, &cached->age);
	if (list_linked(&cached->used))
		list_remove(&accounts->used, &cached->used);
	free(cached->models);
	free(cached);
}

static void forget_all(struct accounts *accounts)
{
	struct list_link *link;
	while ((link = list_first(&accounts->by_age)))
		forget(accounts, LIST_OF(link, struct cached, age));
	accounts->epoch++;
}

void accounts_forget_all(struct accounts *accounts)
{
	accounts_flush_uses(accounts);
	forget_all(accounts);
}

void accounts_forget_key(struct accounts *accounts, struct str key_id)
{
	struct cached *cached = map_get(&accounts->by_id, key_id);
	accounts_flush_uses(accounts);
	if (cached)
		forget(accounts, cached);
	accounts->epoch++;
}

void accounts_forget_hash(struct accounts *accounts, const char *hash_hex)
{
	uint8_t hash[SHA256_BYTES];
	if (hex_decode(str_of(hash_hex), hash, sizeof hash) != DB_OK)
		return;
	struct cached *cached = map_get(&accounts->cache, hash_str(hash));
	if (cached)
		forget(accounts, cached);
	accounts->epoch++;
}

void accounts_free(struct accounts *accounts)
{
	if (!accounts)
		return;
	forget_all(accounts);
	map_free(&accounts->cache);
	map_free(&accounts->by_id);
	for (int kind = 0; kind < LOOKUP_KINDS; kind++)
		map_free(&accounts->lookups[kind]);
	free(accounts);
}

void accounts_set_cache(struct accounts *accounts, size_t entries, uint32_t keep_ms)
{
	accounts_forget_all(accounts);
	accounts->entries_max = entries;
	accounts->keep_us = keep_ms * UINT64_C(1000);
}

/* Without memory nothing is remembered, which costs time only. */
static struct cached *remember(struct accounts *accounts, const struct lookup *lookup, const struct caller *caller)
{
	if (!accounts->entries_max)
		return NULL;
	struct cached *cached = map_get(&accounts->cache, hash_str(lookup->hash));
	if (cached)
		forget(accounts, cached);
	if (accounts->cache.count >= accounts->entries_max)
		forget(accounts, LIST_OF(list_first(&accounts->by_age), struct cached, age));
	cached = calloc(1, sizeof *cached);
	if (!cached)
		return NULL;
	memcpy(cached->hash, lookup->hash, sizeof cached->hash);
	cached->caller = *caller;
	cached->models = caller->allowed_models ? strdup(caller->allowed_models) : NULL;
	cached->caller.allowed_models = cached->models;
	bool copied = !caller->allowed_models || cached->models;
	if (!copied || map_put(&accounts->cache, hash_str(cached->hash), cached, NULL)) {
		free(cached->models);
		free(cached);
		return NULL;
	}
	cached->disabled = lookup->key.disabled;
	cached->expires_us = lookup->key.expires_us;
	cached->known_us = clock_mono_us();
	list_push_back(&accounts->by_age, &cached->age);
	/* A key that cannot be found by its id could not be forgotten when it changes. */
	if (caller->account && map_put(&accounts->by_id, str_of(cached->caller.key_id), cached, NULL)) {
		forget(accounts, cached);
		return NULL;
	}
	return cached;
}

static struct cached *recall(struct accounts *accounts, const uint8_t hash[SHA256_BYTES])
{
	struct cached *cached = map_get(&accounts->cache, hash_str(hash));
	if (!cached || !secret_equal(cached->hash, hash, SHA256_BYTES))
		return NULL;
	if (clock_mono_us() - cached->known_us < accounts->keep_us)
		return cached;
	if (list_linked(&cached->used))
		accounts_flush_uses(accounts);
	forget(accounts, cached);
	return NULL;
}

/* --- answers --- */

static bool usable(bool disabled, int64_t expires_us, int64_t now_us)
{
	return !disabled && (expires_us == 0 || expires_us > now_us);
}

/* Is the model one of the lines? */
bool accounts_allows_model(const struct caller *caller, struct str model)
{
	struct str rest = str_of(caller->allowed_models), line;
	if (!caller->allowed_models)
		return true;
	while (rest.len > 0) {
		rest = str_cut(rest, '\n', &line);
		if (str_eq(line, model))
			return true;
	}
	return false;
}

struct caller accounts_caller(enum caller_kind kind, struct ledger_account *account)
{
	bool is_person = kind == CALLER_SESSION || kind == CALLER_ADMIN;
	return (struct caller){.kind = kind,
	                       .scopes = is_person ? SCOPE_ALL : SCOPE_INFERENCE,
	                       .is_admin = kind == CALLER_ADMIN,
	                       .account = account,
	                       .fee_percent = ledger_account_fee_percent(account)};
}

/* group is what the key's spend counts for. */
static struct caller key_caller(const struct store_key *key, struct ledger_account *account, struct spend_group *group)
{
	struct caller caller = accounts_caller(CALLER_KEY, account);
	memcpy(caller.key_id, key->id, sizeof caller.key_id);
	caller.scopes = key->scopes & SCOPE_ALL;
	caller.group = group;
	caller.rpm = key->rpm;
	caller.itpm = key->itpm;
	caller.otpm = key->otpm;
	caller.allowed_models = key->allowed_models[0] ? key->allowed_models : NULL;
	caller.self_route_only = key->self_route_only;
	return caller;
}

static enum db_err answer_cached(struct accounts *accounts, struct cached *cached, struct accounts_wait *wait)
{
	int64_t now_us = clock_wall_us();
	if (!cached->caller.account || !usable(cached->disabled, cached->expires_us, now_us))
		return DB_E_DENIED;
	wait->caller = cached->caller;
	wait->caller.fee_percent = ledger_account_fee_percent(cached->caller.account);
	note_use(accounts, cached, now_us);
	return DB_OK;
}

/* What was found, as everybody who waits is told. */
static enum db_err judge_key(struct lookup *lookup, struct ledger_account *account, struct caller *caller)
{
	struct accounts *accounts = lookup->accounts;
	struct spend_group *group = account ? ledger_spend_group(accounts->ledger, &lookup->key) : NULL;
	int64_t now_us = clock_wall_us();
	if (account && !group)
		return DB_E_NOMEM; /* without its spend a key is not let pass */
	if (account)
		*caller = key_caller(&lookup->key, account, group);
	struct cached *cached = remember(accounts, lookup, caller);
	if (!account || !usable(lookup->key.disabled, lookup->key.expires_us, now_us))
		return DB_E_DENIED;
	if (cached) {
		note_use(accounts, cached, now_us);
	} else {
		struct store_key_use use = {.at_us = now_us};
		memcpy(use.key_id, lookup->key.id, sizeof use.key_id);
		store_keys_touch(accounts->store, &use, 1);
	}
	return DB_OK;
}

static enum db_err judge(struct lookup *lookup, struct ledger_account *account, const struct error *error,
                         struct caller *caller)
{
	*caller = (struct caller){0};
	if (error)
		return DB_E_IO;
	if (lookup->kind == LOOKUP_KEY)
		return judge_key(lookup, account, caller);
	if (!account)
		return DB_E_DENIED;
	*caller = accounts_caller(lookup->kind == LOOKUP_ADMIN ? CALLER_ADMIN : CALLER_PROVIDER, account);
	return DB_OK;
}

static void ask_store(struct lookup *lookup);

/* The look-up is over: everybody gets the result. One that a change of keys has overtaken is made anew. */
static void finish(struct lookup *lookup, struct ledger_account *account, const struct error *error)
{
	struct accounts *accounts = lookup->accounts;
	struct list_link *link;
	struct caller caller;
	if (lookup->kind == LOOKUP_KEY && lookup->epoch != accounts->epoch && !error) {
		lookup->epoch = accounts->epoch;
		ask_store(lookup);
		return;
	}
	struct map *lookups = &accounts->lookups[lookup->kind];
	if (map_get(lookups, hash_str(lookup->hash)) == lookup)
		map_remove(lookups, hash_str(lookup->hash));
	enum db_err result = judge(lookup, account, error, &caller);
	while ((link = list_pop_front(&lookup->waiting))) {
		struct accounts_wait *wait = LIST_OF(link, struct accounts_wait, link);
		wait->lookup = NULL;
		wait->cancel = NULL;
		wait->caller = caller;
		wait->done(wait, result);
	}
	free(lookup);
}

static void on_account(struct ledger_account *account, const struct error *error, void *user)
{
	finish(user, account, error);
}

static void on_key(const struct store_key *key, const struct store_account *account, const struct error *error, void *user)
{
	struct lookup *lookup = user;
	if (!key) {
		finish(lookup, NULL, error);
		return;
	}
	lookup->key = *key;
	ledger_account_load(lookup->accounts->ledger, str_of(account->id), on_account, lookup);
}

static void on_provider(const struct store_account *account, const struct error *error, void *user)
{
	struct lookup *lookup = user;
	if (account)
		ledger_account_load(lookup->accounts->ledger, str_of(account->id), on_account, lookup);
	else
		finish(lookup, NULL, error);
}

/* --- questions --- */

static struct lookup *begin(struct accounts *accounts, const uint8_t hash[SHA256_BYTES], enum lookup_kind kind)
{
	struct lookup *lookup = calloc(1, sizeof *lookup);
	if (!lookup)
		return NULL;
	lookup->accounts = accounts;
	lookup->epoch = accounts->epoch;
	lookup->kind = kind;
	list_init(&lookup->waiting);
	memcpy(lookup->hash, hash, sizeof lookup->hash);
	if (map_put(&accounts->lookups[kind], hash_str(lookup->hash), lookup, NULL)) {
		free(lookup);
		return NULL;
	}
	return lookup;
}

static void leave(struct accounts_wait *wait)
{
	struct lookup *lookup = wait->lookup;
	list_remove(&lookup->waiting, &wait->link);
	wait->lookup = NULL;
}

static void ask_store(struct lookup *lookup)
{
	struct accounts *accounts = lookup->accounts;
	char hex[SHA256_HEX_SIZE];
	hex_encode(lookup->hash, SHA256_BYTES, hex);
	if (lookup->kind == LOOKUP_PROVIDER)
		store_provider_token_find(accounts->store, str_of(hex), on_provider, lookup);
	else if (lookup->kind == LOOKUP_KEY)
		store_key_find(accounts->store, str_of(hex), on_key, lookup);
	else
		ledger_account_load(accounts->ledger, STR(STORE_ACCOUNT_ADMIN), on_account, lookup);
}

static enum db_err ask(struct accounts *accounts, const uint8_t hash[SHA256_BYTES], enum lookup_kind kind,
                       struct accounts_wait *wait)
{
	struct lookup *lookup = map_get(&accounts->lookups[kind], hash_str(hash));
	bool is_first = !lookup; /* one that a change has overtaken asks anew before it answers */
	if (is_first)
		lookup = begin(accounts, hash, kind);
	if (!lookup)
		return DB_E_IO;
	wait->lookup = lookup;
	wait->cancel = leave;
	wait->link = (struct list_link){0};
	list_push_back(&lookup->waiting, &wait->link);
	if (is_first)
		ask_store(lookup);
	return DB_E_AGAIN;
}

void accounts_set_admin_key(struct accounts *accounts, struct str key)
{
	accounts->has_admin_key = key.len > 0;
	sha256(key.at, key.len, accounts->admin_key);
}

bool accounts_is_admin_key(const struct accounts *accounts, struct str token)
{
	uint8_t hash[SHA256_BYTES];
	sha256(token.at, token.len, hash);
	return accounts->has_admin_key && secret_equal(hash, accounts->admin_key, sizeof hash);
}

void accounts_set_sessions(struct accounts *accounts, accounts_session_fn resolve, void *user)
{
	accounts->resolve_session = resolve;
	accounts->session_user = user;
}

static enum db_err resolve_admin(struct accounts *accounts, const uint8_t hash[SHA256_BYTES], struct accounts_wait *wait)
{
	struct ledger_account *account = ledger_account_find(accounts->ledger, STR(STORE_ACCOUNT_ADMIN));
	if (!account)
		return ask(accounts, hash, LOOKUP_ADMIN, wait);
	wait->caller = accounts_caller(CALLER_ADMIN, account);
	return DB_OK;
}

static bool is_session(const struct accounts *accounts, const struct credential *credential)
{
	return accounts->resolve_session && (credential->from_cookie || str_starts(credential->token, STR("eyJ")));
}

enum db_err accounts_resolve(struct accounts *accounts, struct credential credential, struct accounts_wait *wait)
{
	uint8_t hash[SHA256_BYTES];
	struct str token = credential.token;
	wait->lookup = NULL;
	wait->cancel = NULL;
	if (credential.is_operator && token.len == 0)
		return resolve_admin(accounts, accounts->admin_key, wait);
	if (is_session(accounts, &credential))
		return accounts->resolve_session(accounts->session_user, credential, wait);
	if (token.len == 0 || token.len > TOKEN_MAX || credential.from_cookie)
		return DB_E_DENIED;
	sha256(token.at, token.len, hash);
	if (accounts->has_admin_key && secret_equal(hash, accounts->admin_key, sizeof hash))
		return resolve_admin(accounts, hash, wait);
	if (str_starts(token, STR(ACCOUNTS_PROVIDER_PREFIX)))
		return ask(accounts, hash, LOOKUP_PROVIDER, wait);
	struct cached *cached = recall(accounts, hash);
	return cached ? answer_cached(accounts, cached, wait) : ask(accounts, hash, LOOKUP_KEY, wait);
}

enum db_err accounts_resolve_provider(struct accounts *accounts, struct str token, struct accounts_wait *wait)
{
	uint8_t hash[SHA256_BYTES];
	wait->lookup = NULL;
	wait->cancel = NULL;
	if (token.len == 0 || token.len > TOKEN_MAX)
		return DB_E_DENIED;
	sha256(token.at, token.len, hash);
	return ask(accounts, hash, LOOKUP_PROVIDER, wait);
}

void accounts_cancel(struct accounts_wait *wait)
{
	void (*cancel)(struct accounts_wait * wait) = wait->cancel;
	wait->cancel = NULL;
	if (cancel)
		cancel(wait);
}
