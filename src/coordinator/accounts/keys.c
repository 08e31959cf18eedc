#include "coordinator/accounts/accounts_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/id.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

typedef void (*key_fn)(const char *key_or_null, const struct error *error, void *user);

/* A key on its way into the store. Its text exists here, until it was shown once. */
struct new_key {
	struct accounts *accounts;
	char text[ACCOUNTS_KEY_SIZE];
	struct store_key row;
	int64_t grant_uusd;
	key_fn done;
	void *user;
};

/* http-api 4.1: prefix and 32 random bytes; stored as a hash and a label. */
static struct new_key *make_key(struct accounts *accounts, struct str name, key_fn done, void *user)
{
	static const char prefix[] = "sk-db-";
	struct new_key *key = calloc(1, sizeof *key);
	if (!key)
		return NULL;
	key->accounts = accounts;
	key->done = done;
	key->user = user;
	memcpy(key->text, prefix, sizeof prefix);
	id_hex(key->text + sizeof prefix - 1, 32);

	size_t len = strlen(key->text);
	sha256_hex(key->text, len, key->row.hash_hex);
	snprintf(key->row.label, sizeof key->row.label, "%.10s...%s", key->text, key->text + len - 4);
	memcpy(key->row.id, "key_", sizeof "key_");
	id_hex(key->row.id + 4, 12);
	str_copy(str_sub(name, 0, sizeof key->row.name - 1), key->row.name, sizeof key->row.name);
	key->row.created_us = clock_wall_us();
	return key;
}

static void finish(struct new_key *key, const char *text, const struct error *error)
{
	key->done(text, error, key->user);
	secret_wipe(key, sizeof *key);
	free(key);
}

static void no_memory(key_fn done, void *user)
{
	struct error error;
	error_set(&error, DB_E_NOMEM, "There is no memory for a new key.");
	done(NULL, &error, user);
}

static void on_created(const struct error *error, void *user)
{
	struct new_key *key = user;
	accounts_forget_all(key->accounts); /* nobody may remember that this key is unknown */
	finish(key, error ? NULL : key->text, error);
}

void accounts_key_create(struct accounts *accounts, struct str account_id, struct str name, key_fn done, void *user)
{
	struct new_key *key = make_key(accounts, name, done, user);
	if (!key) {
		no_memory(done, user);
		return;
	}
	str_copy(account_id, key->row.account_id, sizeof key->row.account_id);
	store_key_create(accounts->store, &key->row, on_created, key);
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

void accounts_first_start(struct accounts *accounts, int64_t grant_uusd, key_fn done, void *user)
{
	struct new_key *key = make_key(accounts, STR("first key"), done, user);
	if (!key) {
		no_memory(done, user);
		return;
	}
	key->grant_uusd = grant_uusd;
	store_owner_get(accounts->store, on_owner, key);
}

/* Look-ups that were asked before see the key as it was; the cache's new epoch keeps their answers out of it. */
void accounts_key_disable(struct accounts *accounts, struct str key_id, store_done_fn done, void *user)
{
	accounts_forget_all(accounts);
	store_key_disable(accounts->store, key_id, done, user);
}
