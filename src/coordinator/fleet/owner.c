/* Whose machine a provider is: its link token is looked up when it registers (protocol-and-trust 12). A database that does not
 * answer holds the registration up for a moment only; until the owner is known the provider gets no requests, since nobody
 * could be paid for them. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/log.h"
#include "crypto/secret.h"

#define PATIENCE_MS 8000 /* of a registration */
#define RETRY_MS    2000

/* A look-up in flight, or one that failed and is made anew. */
struct account_lookup {
	struct accounts_wait wait;
	struct net_timer timer;
	struct session *session;
	bool in_flight, is_late;
	size_t token_len;
	char token[];
};

static void ask(struct account_lookup *lookup);

static void lookup_free(struct account_lookup *lookup)
{
	lookup->session->lookup = NULL;
	net_timer_stop(&lookup->timer);
	accounts_cancel(&lookup->wait);
	secret_wipe(lookup->token, lookup->token_len);
	free(lookup);
}

/* The registration goes on without it. */
static void be_late(struct account_lookup *lookup)
{
	struct session *session = lookup->session;
	if (lookup->is_late)
		return;
	lookup->is_late = true;
	log_warn("provider.owner_unknown", "provider=%s why=\"the database does not answer\"", session->id);
	session_owner_looked_up(session);
}

static void on_timer(struct net_timer *timer)
{
	struct account_lookup *lookup = LIST_OF(timer, struct account_lookup, timer);
	if (lookup->in_flight)
		be_late(lookup);
	else
		ask(lookup);
}

static void end(struct account_lookup *lookup, enum db_err result)
{
	struct session *session = lookup->session;
	lookup->in_flight = false;
	if (result == DB_E_IO || result == DB_E_NOMEM) {
		net_timer_start(session->fleet->loop, &lookup->timer, RETRY_MS, 0, on_timer);
		be_late(lookup);
		return;
	}
	if (result)
		log_warn("provider.token_refused", "provider=%s error=%s", session->id, error_name(result));
	else
		session->account = lookup->wait.caller.account;
	if (session->account)
		ledger_account_note_machine(session->account);
	if (lookup->is_late)
		log_info("provider.owner_found", "provider=%s owned=%d", session->id, session->account != NULL);
	lookup_free(lookup);
	session_owner_looked_up(session);
}

static void on_account(struct accounts_wait *wait, enum db_err result)
{
	end(LIST_OF(wait, struct account_lookup, wait), result);
}

static void ask(struct account_lookup *lookup)
{
	struct fleet *fleet = lookup->session->fleet;
	lookup->in_flight = true;
	if (!lookup->is_late)
		net_timer_start(fleet->loop, &lookup->timer, PATIENCE_MS, 0, on_timer);
	enum db_err result =
	    accounts_resolve_provider(fleet->accounts, (struct str){lookup->token, lookup->token_len}, &lookup->wait);
	if (result != DB_E_AGAIN)
		end(lookup, result);
}

void owner_look_up(struct session *session, struct str token)
{
	struct account_lookup *lookup = token.len && session->fleet->accounts ? calloc(1, sizeof *lookup + token.len) : NULL;
	if (!lookup) {
		session_owner_looked_up(session);
		return;
	}
	lookup->session = session;
	lookup->wait.done = on_account;
	lookup->token_len = token.len;
	memcpy(lookup->token, token.at, token.len);
	session->lookup = lookup;
	ask(lookup);
}

bool owner_is_awaited(const struct session *session)
{
	return session->lookup && !session->lookup->is_late;
}

void owner_forget(struct session *session)
{
	if (session->lookup)
		lookup_free(session->lookup);
}
