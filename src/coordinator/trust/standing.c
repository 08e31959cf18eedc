#include "coordinator/trust/standing.h"

void trust_registered(struct trust_standing *standing, enum wire_trust level, uint64_t now_us)
{
	*standing = (struct trust_standing){.level = (uint8_t)level, .last_pass_us = level > WIRE_TRUST_NONE ? now_us : 0};
}

static void lose_eligibility(struct trust_standing *standing)
{
	standing->last_pass_us = 0;
	standing->posture_verified = false;
}

void trust_violated(struct trust_standing *standing)
{
	lose_eligibility(standing);
	standing->untrusted = true;
	standing->hard = true;
}

static struct trust_effect passed(struct trust_standing *standing, uint64_t now_us)
{
	bool restored = standing->untrusted && !standing->hard;
	standing->failures = 0;
	if (standing->hard)
		return (struct trust_effect){0};
	standing->last_pass_us = now_us;
	standing->posture_verified = true;
	standing->untrusted = false;
	return (struct trust_effect){.tell = restored};
}

/* The last reason decides what the third failure means; hard never softens. */
static struct trust_effect failed(struct trust_standing *standing, enum trust_outcome outcome)
{
	bool transient = outcome == TRUST_NO_REPLY;
	if (standing->failures < UINT8_MAX)
		standing->failures++;
	bool many = standing->failures >= TRUST_FAILURES_UNTRUST;
	if (!transient || many)
		lose_eligibility(standing);
	if (many)
		standing->untrusted = true;
	if (outcome == TRUST_FAILED_HARD || (many && !transient))
		trust_violated(standing);
	return (struct trust_effect){.tell = many, .close = transient && standing->failures >= TRUST_FAILURES_CLOSE};
}

struct trust_effect trust_challenged(struct trust_standing *standing, enum trust_outcome outcome, uint64_t now_us)
{
	switch (outcome) {
	case TRUST_PASSED:
		return passed(standing, now_us);
	case TRUST_INCONCLUSIVE:
		return (struct trust_effect){0};
	default:
		return failed(standing, outcome);
	}
}
