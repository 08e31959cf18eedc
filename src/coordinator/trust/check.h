/* Signatures of a session, verified on worker threads: its registration attestation and its challenge replies
 * (protocol-and-trust 5.4, 6.4). A check copies what it needs, so the message and the session may go meanwhile.
 * Thread: the loop's. */
#ifndef COORDINATOR_TRUST_CHECK_H
#define COORDINATOR_TRUST_CHECK_H

#include "coordinator/trust/standing.h"
#include "net/loop.h"
#include "wire/attestation.h"
#include "wire/status.h"

struct trust_check;

/* Called on the loop thread; the result is borrowed until it returns. */
typedef void (*trust_registration_fn)(const struct attestation_result *result, void *user);
typedef void (*trust_reply_fn)(enum trust_outcome outcome, const struct status_result *result, void *user);

/* `signed_attestation` is register.attestation as it came and `registered_key` is register.public_key. NULL when out of memory.
 */
struct trust_check *trust_check_registration(struct net_loop *loop, struct str signed_attestation, struct str registered_key,
                                             trust_registration_fn done, void *user);

struct trust_reply {
	struct str message; /* the whole attestation_response as it came */
	struct status_challenge challenge;
	struct str registered_key;
	struct str signing_key; /* attested, base64 as in the blob; empty without a valid attestation */
	bool is_linux;
	bool runtime_accepted, version_accepted;
};
struct trust_check *trust_check_reply(struct net_loop *loop, const struct trust_reply *reply, trust_reply_fn done, void *user);

/* `done` will not be called. Harmless with NULL. */
void trust_check_cancel(struct trust_check *check);

/* A reply that may hold the session's own nonce; others are ignored (6.1). */
bool trust_reply_is_for(const struct wire_attestation_response *reply, const struct status_challenge *challenge);

#endif
