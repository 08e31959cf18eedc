/* Liveness and code-identity challenges and what the coordinator tells the provider about its standing
 * (protocol-and-trust 3.4, 6, 7, 8.5). Making and checking them: wire/status.h. */
#ifndef WIRE_CHALLENGE_H
#define WIRE_CHALLENGE_H

#include "wire/types.h"

#define WIRE_MAX_MISMATCHES 4096

/* C->P. Both texts are signed as they stand. */
struct wire_challenge {
	struct str nonce;     /* base64 of 32 bytes */
	struct str timestamp; /* RFC 3339, whole seconds, Z */
};

/* P->C. */
struct wire_attestation_response {
	struct str nonce;
	struct str signature;
	struct str status_signature; /* optional */
	struct str public_key;       /* base64 of the X25519 K, not the signing key */
	enum wire_tri hypervisor_active, rdma_disabled, sip_enabled, secure_boot_enabled;
	struct str binary_hash, active_model_hash, python_hash, runtime_hash;
	struct wire_pairs template_hashes;
	struct wire_pairs model_hashes; /* model id -> weight hash, resident models only */
};

/* P->C. */
struct wire_code_attestation_response {
	struct str nonce;
	struct str signature;
};

/* C->P. */
struct wire_trust_status {
	enum wire_trust trust_level; /* an unrecognised word reads as none */
	struct str status;           /* online | serving | offline | untrusted */
	struct str reason;           /* free text, optional */
};

struct wire_mismatch {
	struct str component, expected, got;
};

/* C->P. */
struct wire_runtime_status {
	bool verified;
	struct wire_mismatch *mismatches;
	size_t mismatch_count;
};

#endif
