/* What the files of accounts/ share. Nothing outside includes this. */
#ifndef COORDINATOR_ACCOUNTS_INTERNAL_H
#define COORDINATOR_ACCOUNTS_INTERNAL_H

#include "coordinator/accounts/accounts.h"
#include "core/list.h"
#include "core/map.h"
#include "crypto/hash.h"

enum lookup_kind { LOOKUP_KEY, LOOKUP_PROVIDER, LOOKUP_ADMIN, LOOKUP_KINDS };

struct accounts {
	struct store *store;
	struct ledger *ledger;
	accounts_session_fn resolve_session;
	void *session_user;
	bool has_admin_key;
	uint8_t admin_key[SHA256_BYTES];
	struct map cache;                 /* hash of a token -> what is known of it */
	struct map by_id;                 /* of the same that are keys: id -> what is known */
	struct list by_age;               /* of the same, oldest first */
	struct list used;                 /* of the same: used since the store was told */
	uint64_t told_us;                 /* monotonic: when that was */
	struct map lookups[LOOKUP_KINDS]; /* hash -> the question on its way to the store */
	size_t entries_max;
	uint64_t keep_us;
	uint64_t epoch; /* raised when keys change: what was asked before is asked again */
};

void accounts_forget_all(struct accounts *accounts);
void accounts_forget_key(struct accounts *accounts, struct str key_id);
/* Nobody may remember that there is no key with this hash. */
void accounts_forget_hash(struct accounts *accounts, const char *hash_hex);

#endif
