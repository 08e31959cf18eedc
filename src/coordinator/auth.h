/* Who calls, and whether the route lets them (http-api 1.5). Thread: the loop's. */
#ifndef COORDINATOR_AUTH_H
#define COORDINATOR_AUTH_H

#include "coordinator/accounts/accounts.h"
#include "coordinator/gateway/exchange.h"
#include "coordinator/route.h"

/* The token of an Authorization header's value, `Bearer <token>`, borrowed; empty when there is none. Pure; thread: any. */
struct str auth_bearer(struct str header);

/* What the request brings along to show who it comes from, borrowed from it: `Authorization: Bearer`, else the header
 * of the route's dialect (x-api-key of Anthropic's), else the session's cookie. An empty token when there is none. */
struct credential auth_credential(const struct server *server, const struct exchange *exchange);

/* Is there any? */
bool auth_is_given(const struct server *server, const struct exchange *exchange);

/* Finds out who calls, then calls `then` with exchange->caller filled, at once or later; whoever may not use the route is
 * answered here. Owns exchange->owner and on_gone until then. */
void auth_begin(struct server *server, struct exchange *exchange, const struct route *route, struct accounts *accounts,
                void (*then)(struct server *server, struct exchange *exchange, const struct route *route));

/* Answers 401: the request has no credential. */
void auth_refuse_nobody(struct exchange *exchange);

#endif
