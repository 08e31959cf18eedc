/* What the route table says of one route, and how a request finds its own (http-api 1.6). Thread: any. */
#ifndef COORDINATOR_ROUTE_H
#define COORDINATOR_ROUTE_H

#include "core/str.h"

struct server;
struct exchange;
struct dialect;

/* Which credential a route asks for (http-api 1.5). What a credential may do besides is its scopes' business. */
enum auth {
	AUTH_NONE,
	AUTH_KEY,     /* any credential of an account: API key, session, provider token, the operator's key */
	AUTH_SESSION, /* a person who is logged in */
	AUTH_ADMIN,   /* the operator's key, or a session of an operator */
};

/* What a request passes besides, in this order. */
enum wrap {
	WRAP_NONE = 0,
	WRAP_DRAIN = 1 << 0,  /* refused while the coordinator shuts down or has too much to do */
	WRAP_RATE = 1 << 1,   /* counts against the caller's request rate */
	WRAP_MONEY = 1 << 2,  /* counts against the caller's rate of financial operations */
	WRAP_SEALED = 1 << 3, /* the body may be sealed (http-api 3) */
	WRAP_INFERENCE = WRAP_DRAIN | WRAP_RATE | WRAP_SEALED,
};

struct route {
	const char *method;
	const char *path; /* "*" stands for one segment; as the last one for everything below */
	enum auth auth;
	unsigned scope; /* of enum scope: what the caller needs */
	unsigned wrap;  /* of enum wrap */
	int64_t max_body;
	void (*handle)(struct server *server, struct exchange *exchange);
	const struct dialect *dialect; /* of errors, and of inference; NULL = chat's */
};

/* The route of a request, NULL when there is none; *path_known: some method has this path. HEAD finds what GET has. */
const struct route *route_find(const struct route *routes, size_t count, struct str method, struct str path, bool *path_known);

/* What stands for the n-th "*" of the route's path, 0 for the first. Empty when there are fewer. */
struct str route_part(const struct route *route, struct str path, unsigned n);

#endif
