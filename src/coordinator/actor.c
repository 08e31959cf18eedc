#include "coordinator/actor.h"

#include <stdio.h>

void actor_of(const struct exchange *exchange, char out[STORE_ACTOR_SIZE])
{
	const struct caller *caller = &exchange->caller;
	const char *account = caller->account ? ledger_account_id(caller->account) : "";
	if (caller->kind == CALLER_ADMIN)
		snprintf(out, STORE_ACTOR_SIZE, "operator");
	else if (caller->kind == CALLER_KEY && caller->key_id[0])
		snprintf(out, STORE_ACTOR_SIZE, "key:%s", caller->key_id);
	else
		snprintf(out, STORE_ACTOR_SIZE, "account:%s", account);
}
