/* The registration attestation (protocol-and-trust 5): a blob of facts signed by the provider's P-256 key.
 *
 * Two keys of ours extend the blob, in their sorted places: `keyProtection` (secure_enclave | tpm | software) and `platform`
 * (macos | linux). A blob without them is a Mac of the existing generations and is checked exactly as 5.4 says. On Linux the
 * three posture bools are reported as they are and need not be true; such a machine can never be more than self_signed, and
 * neither can any key that says it is not in a Secure Enclave. Thread: any; verification takes about 0.1 ms, so workers. */
#ifndef WIRE_ATTESTATION_H
#define WIRE_ATTESTATION_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "wire/signer.h"
#include "wire/types.h"

enum attestation_platform { ATTESTATION_UNSAID_PLATFORM, ATTESTATION_MACOS, ATTESTATION_LINUX, ATTESTATION_OTHER_PLATFORM };
enum attestation_protection {
	ATTESTATION_UNSAID_PROTECTION,
	ATTESTATION_SECURE_ENCLAVE,
	ATTESTATION_TPM,
	ATTESTATION_SOFTWARE
};

struct attestation_blob {
	bool authenticated_root_enabled;
	bool hypervisor_active;
	bool rdma_disabled;
	bool secure_boot_enabled;
	bool secure_enclave_available;
	bool sip_enabled;
	struct str binary_hash;                     /* hex, optional */
	struct str chip_name;                       /* "Apple M4 Max" */
	struct str encryption_public_key;           /* base64 K, optional */
	struct str hardware_model;                  /* "Mac16,6" */
	struct str os_version;                      /* "15.3.0" */
	struct str public_key;                      /* base64 of X | Y */
	struct str serial_number;                   /* optional */
	struct str system_volume_hash;              /* optional */
	struct str timestamp;                       /* RFC 3339 */
	enum attestation_platform platform;         /* unsaid is not written */
	enum attestation_protection key_protection; /* unsaid is not written */
};

const char *attestation_protection_name(enum attestation_protection protection);
const char *attestation_platform_name(enum attestation_platform platform);

/* The canonical bytes that are signed: sorted, compact, '/' escaped, empty optional texts and a false hypervisorActive left out
 * (5.1). */
enum db_err attestation_canonical(const struct attestation_blob *blob, struct buf *out);
/* {"attestation":{canonical},"signature":"…"}: what register.attestation carries, to be kept and sent as it is. */
enum db_err attestation_sign(const struct attestation_blob *blob, const struct wire_signer *signer, struct buf *out);

/* The steps of 5.4, in the order they are checked; the value of the failing one, or ATTESTATION_VALID. */
enum attestation_verdict {
	ATTESTATION_VALID,
	ATTESTATION_ABSENT,         /* 1 */
	ATTESTATION_UNPARSABLE,     /* 2 */
	ATTESTATION_BAD_TIMESTAMP,  /* 3 */
	ATTESTATION_BAD_PUBLIC_KEY, /* 4 */
	ATTESTATION_BAD_BASE64,     /* 5 */
	ATTESTATION_BAD_DER,        /* 6 */
	ATTESTATION_BAD_SIGNATURE,  /* 7 */
	ATTESTATION_NO_ENCLAVE,     /* posture; when several are missing the last one is named */
	ATTESTATION_SIP_OFF,
	ATTESTATION_SECURE_BOOT_OFF,
	ATTESTATION_KEY_MISMATCH, /* 8 */
};

struct attestation_result {
	enum attestation_verdict verdict;
	struct error why; /* a sentence, when not valid */
	/* What the blob claims; meaningful from ATTESTATION_BAD_TIMESTAMP on, proven only when valid. Texts live in the arena. */
	struct attestation_blob blob;
	uint8_t public_key[P256_PUBLIC_BYTES]; /* X | Y, from ATTESTATION_BAD_BASE64 on */
	int64_t timestamp_us;                  /* no freshness rule (5.4) */
	enum wire_trust max_trust; /* NONE unless valid; a software or TPM key and every Linux box stop at SELF_SIGNED */
	enum attestation_protection key_protection; /* unsaid in the blob of a Mac reads as SECURE_ENCLAVE */
	bool is_linux;
};

/* `signed_attestation` is register.attestation, raw; `registered_key` is register.public_key as it came (empty: step 8 is
 * skipped). Steps 1-8; the binary-hash policy (9) and everything after is the caller's. Never fails otherwise. */
void attestation_verify(struct str signed_attestation, struct str registered_key, struct arena *arena,
                        struct attestation_result *result);

#endif
