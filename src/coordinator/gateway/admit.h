/* Whether a request may go on before any money is held: what its key may use, and how much its account may use. Every kind of
 * inference passes here. Thread: the loop's. */
#ifndef COORDINATOR_ADMIT_H
#define COORDINATOR_ADMIT_H

#include "coordinator/gateway/limit.h"

/* Part of whatever runs the request; zeroed = nothing was admitted. */
struct admission {
	struct limits *limits;
	bool entered; /* counts among the requests that its account runs */
	uint64_t charged_output;
};

struct admit_request {
	struct str model; /* as the consumer named it */
	uint64_t prompt_tokens, max_output;
	bool own_only; /* it goes to machines of the caller's account and nowhere else */
};

/* Who calls is the exchange's caller; adds the headers of the rate limits. False: refused, *error says why. */
bool admit(struct admission *admission, struct limits *limits, struct exchange *exchange, const struct admit_request *request,
           struct api_error *error);
/* The request is over, however. */
void admit_leave(struct admission *admission, const struct caller *caller);
void admit_note_output(const struct admission *admission, const struct caller *caller, uint64_t tokens);

/* The refusal of a key whose spend limit is reached (billing 3.1); returns false. */
bool admit_fail_spend(struct api_error *error);
/* Why a hold of so much was refused (ledger_hold); `what` needs it and `remedy` may make it smaller. Returns false. */
bool admit_fail_hold(struct api_error *error, enum db_err why, int64_t needed_uusd, const struct ledger_account *account,
                     const char *what, const char *remedy);

#endif
