#include "coordinator/accounts/accounts_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/id.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

/* A key on its way into the store. Its text exists here, until it was shown once. */
struct new_key {
	struct accounts *accounts;
	char text[ACCOUNTS_KEY_SIZE];
	struct store_key row;
	int64_t grant_uusd;
	accounts_key_fn done;
	void (*first_done)(const char *key_or_null, const struct error *error, void *user); /* of the first start */
	void *user;
};

/* http-api 4.1: prefix and 32 random bytes; stored as a hash and a label. Id, hash, label and time of the row are made here. */
static struct new_key *make_key(struct accounts *accounts, const struct store_key *terms)
{
	static const char prefix[] = "sk-db-";
	struct new_key *key = calloc(1, sizeof *key);
	if (!key)
		return NULL;
	key->accounts = accounts;
	key->row = *terms;
	memcpy(key->text, prefix, sizeof prefix);
	id_hex(key->text + sizeof prefix - 1, 32);

	size_t len = strlen(key->text);
	sha256_hex(key->text, len, key->row.hash_hex);
	(void)snprintf(key->row.label, sizeof key->row.label, "%.10s...%s", key->text, key->text + len - 4);
	memcpy(key->row.id, "key_", sizeof "key_");
	id_hex(key->row.id + 4, 12);
	key->row.created_us = clock_wall_us();
	key->row.last_used_us = 0;
	return key;
}

static void finish(struct new_key *key, const char *text, const struct error *error)
{
	if (key->first_done)
		key->first_done(text, error, key->user);
	else
		key->done(text, &key->row, error, key->user);
	secret_wipe(key, sizeof *key);
	free(key);
}

static const struct error no_memory = {DB_E_NOMEM, "There is no memory for a new key."};

static void on_created(const struct error *error, void *user)
{
	struct new_key *key = user;
	accounts_forget_hash(key->accounts, key->row.hash_hex);
	finish(key, error ? NULL : key->text, error);
}

void accounts_key_create(struct accounts *accounts, const struct store_key *terms, accounts_key_fn done, void *user)
{
	struct new_key *key = make_key(accounts, terms);
	if (!key) {
		done(NULL, terms, &no_memory, user);
		return;
	}
	key->done = done;
	key->user = user;
	memcpy(key->row.limit_group, key->row.id, sizeof key->row.limit_group);
	key->row.spend = (struct store_spend){0};
	store_key_create(accounts->store, &key->row, on_created, key);
}

void accounts_key_rotate(struct accounts *accounts, const struct store_key *old, accounts_key_fn done, void *user)
{
	struct new_key *key = make_key(accounts, old);
	if (!key) {
		done(NULL, old, &no_memory, user);
		return;
	}
	key->done = done;
	key->user = user;
	accounts_forget_key(accounts, str_of(old->id));
	store_key_rotate(accounts->store, str_of(old->id), &key->row, on_created, key);
}

static void on_owner(const struct store_account *account, const struct error *error, void *user)
{
	struct new_key *key = user;
	if (account || error) {
		finish(key, NULL, error);
		return;
	}
	struct store_account owner = {.name = "owner", .fee_percent = -1};
	id_uuid4(owner.id);
	memcpy(key->row.account_id, owner.id, sizeof key->row.account_id);
	store_owner_create(key->accounts->store, &owner, &key->row, key->grant_uusd, on_created, key);
}

void accounts_first_start(struct accounts *accounts, int64_t grant_uusd,
                          void (*done)(const char *new_key_or_null, const struct error *error, void *user), void *user)
{
	struct new_key *key = make_key(accounts, &(struct store_key){.name = "first key", .scopes = SCOPE_INFERENCE});
	if (!key) {
		done(NULL, &no_memory, user);
		return;
	}
	key->first_done = done;
	key->user = user;
	key->grant_uusd = grant_uusd;
	store_owner_get(accounts->store, on_owner, key);
}

void accounts_key_disable(struct accounts *accounts, struct str key_id, store_done_fn done, void *user)
{
	accounts_forget_key(accounts, key_id);
	store_key_disable(accounts->store, key_id, done, user);
}

void accounts_key_delete(struct accounts *accounts, struct str key_id, store_done_fn done, void *user)
{
	accounts_forget_key(accounts, key_id);
	store_key_delete(accounts->store, key_id, done, user);
}

/* Running streams outgrow their holds under the new limit at once. */
static void apply_limit(struct accounts *accounts, const struct store_key *key, unsigned fields)
{
	struct spend_group *group = ledger_spend_find(accounts->ledger, str_of(key->limit_group));
	if (group && (fields & STORE_KEY_LIMIT)) {
		group->limited = key->limited;
		group->limit_uusd = key->limit_uusd;
	}
	if (group && (fields & STORE_KEY_RESET))
		group->window = key->limit_reset;
}

void accounts_key_update(struct accounts *accounts, const struct store_key *key, unsigned fields, store_done_fn done,
                         void *user)
{
	accounts_forget_key(accounts, str_of(key->id));
	apply_limit(accounts, key, fields);
	store_key_update(accounts->store, key, fields, done, user);
}
