/* Naming a referrer while something else is done: signing up, paying in (billing 8.1). Thread: the loop's. */
#ifndef COORDINATOR_REFERRAL_H
#define COORDINATOR_REFERRAL_H

#include "coordinator/store/store_referrals.h"

struct server;

/* A code as people type it, in the form that is stored: 3 to 20 letters, digits and inner hyphens. False for what is none. */
bool referral_read_code(struct str given, char out[STORE_REFERRAL_CODE_SIZE]);
/* Makes the code's owner the referrer of the account where that may be; nobody waits for it, and nothing fails when it may not.
 */
void referral_attribute(struct server *server, struct str account_id, struct str code, enum store_referral_source source);

#endif
