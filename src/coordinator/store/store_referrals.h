/* Who referred whom (billing 8.1). A share of the platform's fee of every request goes to the referrer, in the settlement's own
 * transaction (store_settle). */
#ifndef COORDINATOR_STORE_REFERRALS_H
#define COORDINATOR_STORE_REFERRALS_H

#include "coordinator/store/store.h"

#define STORE_REFERRAL_CODE_SIZE 24

/* Where an account named its referrer. */
enum store_referral_source { STORE_REFERRED_BY_APPLYING, STORE_REFERRED_AT_SIGNUP, STORE_REFERRED_AT_CHECKOUT };

struct store_referral {
	char code[STORE_REFERRAL_CODE_SIZE];        /* the account's own; empty = it refers nobody */
	char referred_by[STORE_REFERRAL_CODE_SIZE]; /* its referrer's code; empty = none */
	char referrer[STORE_ID_SIZE];               /* its referrer's account */
	int64_t referred;                           /* accounts that it referred */
	int64_t rewards_uusd;                       /* what they brought it so far */
};
typedef void (*store_referral_fn)(const struct store_referral *referral, const struct error *error, void *user);

/* Gives the account this code; the one that it has already stays. DB_E_EXISTS when another account has the code, DB_E_NOT_FOUND
 * without such an account. `code` of the answer is what holds. */
void store_referral_register(struct store *store, struct str account_id, struct str code, store_referral_fn done, void *user);
/* Makes the code's owner the referrer of the account. DB_E_NOT_FOUND: nobody has this code. DB_E_DENIED, with the sentence: it
 * is the account's own, the account has a referrer, is referred by what it referred itself (over any number of steps), or is
 * the same person as the referrer: the same e-mail address or the same bank account at Stripe. */
void store_referral_apply(struct store *store, struct str account_id, struct str code, enum store_referral_source source,
                          store_referral_fn done, void *user);
/* All that is known of the account's referrals; empty when it has none. */
void store_referral_get(struct store *store, struct str account_id, store_referral_fn done, void *user);
/* Whose code this is: `referrer` is set, or empty. */
void store_referral_find(struct store *store, struct str code, store_referral_fn done, void *user);

#endif
