/* Calls to Stripe's API: form in, JSON out, every write with a key that makes it happen once (billing 9, 10). Thread: the
 * loop's. */
#ifndef COORDINATOR_STRIPE_H
#define COORDINATOR_STRIPE_H

#include "core/json.h"
#include "net/http_client.h"

struct stripe;

struct stripe_options {
	struct net_loop *loop;
	const char *api_url;    /* "https://api.stripe.com" */
	const char *secret_key; /* copied into locked memory */
};
struct stripe *stripe_new(const struct stripe_options *options, struct error *error);
/* Calls in flight end with status 0, from inside: while the store and the HTTP server are still there. */
void stripe_free(struct stripe *stripe);

struct stripe_call {
	const char *method, *path;   /* "POST", "/v1/transfers" */
	struct str form;             /* application/x-www-form-urlencoded; of a GET it is the query */
	const char *idempotency_key; /* NULL for reads */
	const char *on_account;      /* Stripe-Account; NULL = ours */
	void *user;
	/* status 0 when no answer came, which says nothing about whether it happened. error_code: Stripe's word, or empty.
	 * root NULL when the answer is no JSON. Borrowed. */
	void (*done)(int status, const json_val *root, struct str error_code, void *user);
};
/* done is called later, also when the call could not be begun (status 0). */
void stripe_call(struct stripe *stripe, const struct stripe_call *call);

/* A list of Stripe's, the newest first, page after page. */
struct stripe_list {
	const char *path;       /* static text: "/v1/transfers" */
	struct str query;       /* form; copied */
	const char *on_account; /* as in a call; copied */
	void *user;
	/* An object of it, borrowed. False: no more is wanted, and done is not called. */
	bool (*take)(const json_val *object, void *user);
	/* whole: there was nothing else. False: Stripe did not tell everything. */
	void (*done)(bool whole, void *user);
};
void stripe_list(struct stripe *stripe, const struct stripe_list *list);

/* Of a write: did it certainly not happen? Time-outs, 5xx, 409 and 429 say nothing: the same call is to be made again with the
 * same key. */
static inline bool stripe_is_definite_refusal(int status)
{
	return status >= 400 && status < 500 && status != 409 && status != 429 && status != 408;
}

#endif
