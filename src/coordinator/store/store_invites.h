/* Invite codes: credit for whoever has one (billing 8.2). */
#ifndef COORDINATOR_STORE_INVITES_H
#define COORDINATOR_STORE_INVITES_H

#include "coordinator/store/store.h"

#define STORE_INVITE_SIZE 32

struct store_invite {
	char code[STORE_INVITE_SIZE]; /* upper case */
	int64_t amount_uusd, max_uses, used_count, expires_us, created_us;
	bool active;
};
/* DB_E_EXISTS when the code is taken. */
void store_invite_create(struct store *store, const struct store_invite *invite, store_done_fn done, void *user);
/* DB_E_NOT_FOUND without such a code. */
void store_invite_deactivate(struct store *store, struct str code, store_done_fn done, void *user);
typedef void (*store_invites_fn)(const struct store_invite *rows, size_t count, const struct error *error, void *user);
#define STORE_INVITES_MAX 1000
void store_invites_list(struct store *store, store_invites_fn done, void *user); /* newest first */
/* One transaction: the use is counted, noted and credited. DB_E_NOT_FOUND: no such code; DB_E_DENIED, with the sentence: it is
 * switched off, expired, used up, or was redeemed by this account. amount_uusd: what was credited. */
typedef void (*store_redeem_fn)(int64_t amount_uusd, const struct error *error, void *user);
void store_invite_redeem(struct store *store, struct str account_id, struct str code, store_redeem_fn done, void *user);

#endif
