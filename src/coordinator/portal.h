/* Everything about people who log in, for the handlers: local accounts, sessions, device codes, other issuers. Made at start;
 * answers accounts.h for cookies and foreign tokens. Thread: the loop's. */
#ifndef COORDINATOR_PORTAL_H
#define COORDINATOR_PORTAL_H

#include "coordinator/accounts/device.h"
#include "coordinator/accounts/foreign.h"
#include "coordinator/accounts/login.h"
#include "coordinator/accounts/oidc.h"
#include "coordinator/accounts/session.h"
#include "coordinator/config.h"

struct portal {
	const struct coordinator_config *config;
	struct login *login;
	struct sessions *sessions;
	struct devices *devices;
	struct throttle *guesses; /* of user codes */
	struct oidc *oidc;        /* NULL: none is set up */
	struct foreign *foreign;  /* NULL: no other issuer's tokens are accepted */
	char setup_path[4096];    /* where the setup code is; empty when there is none */
};

struct portal_options {
	const struct coordinator_config *config;
	struct net_loop *loop;
	struct store *store;
	struct ledger *ledger;
	struct accounts *accounts;
};
struct portal *portal_new(const struct portal_options *options, struct error *error);
void portal_stop(struct portal *portal); /* before store_close: from now on the store is asked nothing */
void portal_free(struct portal *portal); /* after store_close */

/* While the operator has no login: makes the code to sign up with, in a file next to the database that only its owner can read,
 * and says so. `done` follows once. */
void portal_offer_setup(struct portal *portal, struct store *store, void (*done)(const struct error *error, void *user),
                        void *user);
/* The operator has signed up: the file goes. */
void portal_close_setup(struct portal *portal);

#endif
