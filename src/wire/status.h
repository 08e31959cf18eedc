/* The liveness challenge (protocol-and-trust 6): made by the coordinator, answered and signed by the provider, checked again
 * by the coordinator. Thread: any; checking takes two signature verifications, about 0.2 ms, so workers. */
#ifndef WIRE_STATUS_H
#define WIRE_STATUS_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/error.h"
#include "wire/challenge.h"
#include "wire/signer.h"

#define STATUS_NONCE_LEN 44

/* Owner's copy of a challenge in flight. */
struct status_challenge {
	char nonce[STATUS_NONCE_LEN + 1];
	char timestamp[CLOCK_RFC3339_SIZE];
};
void status_challenge_new(struct status_challenge *challenge, int64_t wall_us);           /* fresh random nonce */
struct wire_challenge status_challenge_message(const struct status_challenge *challenge); /* borrowed texts */

/* The canonical bytes of 6.3, rebuilt from the reply's fields and the challenge's own nonce and timestamp. */
enum db_err status_canonical(const struct wire_attestation_response *reply, struct str nonce, struct str timestamp,
                             struct buf *out);
/* Fills nonce, signature and status_signature of a reply whose other fields are set; signatures live in the arena.
 * DB_E_INVALID, and nothing is signed, unless the nonce is base64 of 32 bytes and the timestamp is RFC 3339. */
enum db_err status_sign(struct wire_attestation_response *reply, const struct wire_challenge *challenge,
                        const struct wire_signer *signer, struct arena *arena);
/* The answer to a code-identity challenge: base64 DER over the nonce text (10.3), in the arena. Same rule for the nonce. */
enum db_err status_sign_code(struct wire_code_attestation_response *reply, struct str nonce, const struct wire_signer *signer,
                             struct arena *arena);

enum status_verdict {
	STATUS_PASS,
	STATUS_FAIL,         /* counts as a non-transient failure (6.5) */
	STATUS_HARD_UNTRUST, /* and the connection can never serve again */
	STATUS_SILENT_STOP,  /* neither: success is not recorded (steps 13, 14) */
};

/* What the coordinator knows about the provider. Callbacks get `context`; a NULL callback skips its check. */
struct status_policy {
	struct str nonce, timestamp;  /* of the challenge that was sent */
	struct str registered_key;    /* register.public_key, empty = none */
	const uint8_t *signing_key;   /* attested X | Y, 64 bytes; NULL without a valid attestation */
	bool is_linux;                /* attested platform: steps 7 and 8 do not apply, step 6 does */
	bool enforce_binary;          /* step 10: enforcement is on and a policy exists */
	struct str attested_binary;   /* binaryHash of the blob */
	const struct str *advertised; /* ids of every advertised model, for step 12 */
	size_t advertised_count;
	bool runtime_accepted; /* step 13, decided by the caller from the same reply */
	bool version_accepted; /* step 14 */
	void *context;
	bool (*binary_known)(void *context, struct str hash);
	struct str (*catalogue_hash)(void *context, struct str model); /* empty when none is set */
	bool (*is_retired)(void *context, struct str model);           /* a previous or retired member of some alias */
};

struct status_result {
	enum status_verdict verdict;
	int step;           /* of 6.4, 1..15; 15 = success */
	bool status_signed; /* the status fields are covered by a good signature; otherwise they are only advisory */
	struct error why;   /* a sentence, unless passed */
};

void status_verify(const struct wire_attestation_response *reply, const struct status_policy *policy,
                   struct status_result *result);

#endif
