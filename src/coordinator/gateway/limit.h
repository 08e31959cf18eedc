/* Rate limits as HTTP says them: headers, and the refusal 429 (http-api 4.4). Thread: the loop's. */
#ifndef COORDINATOR_LIMIT_H
#define COORDINATOR_LIMIT_H

#include "coordinator/accounts/limits.h"
#include "coordinator/gateway/exchange.h"

/* Counts the request, or the financial operation, against its caller and adds the headers. False: refused and answered. Passes
 * everything when limits is NULL. */
bool limit_pass_request(struct limits *limits, struct exchange *exchange);
bool limit_pass_financial(struct limits *limits, struct exchange *exchange);

/* The headers of a decision about tokens; fills *error when it was refused. */
bool limit_tell_tokens(struct exchange *exchange, const struct limit_verdict *verdict, struct api_error *error);

int64_t limit_now_us(void); /* the clock of all decisions */

#endif
