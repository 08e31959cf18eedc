/* How a provider stands after its challenges (protocol-and-trust 6.5, 6.6, 7): what each outcome changes and whether the
 * provider must be told. Pure. Thread: any. */
#ifndef COORDINATOR_TRUST_STANDING_H
#define COORDINATOR_TRUST_STANDING_H

#include "wire/types.h"

#define TRUST_FAILURES_UNTRUST 3
#define TRUST_FAILURES_CLOSE   6

struct trust_standing {
	uint64_t last_pass_us; /* monotonic; 0 = not routable until the next pass */
	uint8_t level;         /* enum wire_trust */
	uint8_t failures;      /* consecutive, whatever their reason; no more than UINT8_MAX are told apart */
	bool posture_verified; /* the last challenge proved it */
	bool untrusted;
	bool hard; /* untrusted until it reconnects; no further challenges */
};

enum trust_outcome {
	TRUST_PASSED,
	TRUST_NO_REPLY,     /* transient: eligible until the third in a row */
	TRUST_FAILED,       /* a wrong reply */
	TRUST_FAILED_HARD,  /* one that proves the machine unfit */
	TRUST_INCONCLUSIVE, /* neither passed nor failed (6.4, steps 13 and 14) */
};

struct trust_effect {
	bool tell;  /* send trust_status */
	bool close; /* with code 1008: a fresh registration is wanted */
};

/* The attestation was good for `level`; a head start until the first challenge (5.4, step 10). */
void trust_registered(struct trust_standing *standing, enum wire_trust level, uint64_t now_us);
struct trust_effect trust_challenged(struct trust_standing *standing, enum trust_outcome outcome, uint64_t now_us);
/* A violation outside challenges (4.3). Nothing is sent. */
void trust_violated(struct trust_standing *standing);

#endif
