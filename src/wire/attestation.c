#include "wire/attestation.h"

#include "core/clock.h"
#include "core/encode.h"
#include "wire/codec.h"

static const char *const platform_names[] = {
    [ATTESTATION_UNSAID_PLATFORM] = "",
    [ATTESTATION_MACOS] = "macos",
    [ATTESTATION_LINUX] = "linux",
    [ATTESTATION_OTHER_PLATFORM] = "other",
};
static const char *const protection_names[] = {
    [ATTESTATION_UNSAID_PROTECTION] = "",
    [ATTESTATION_SECURE_ENCLAVE] = "secure_enclave",
    [ATTESTATION_TPM] = "tpm",
    [ATTESTATION_SOFTWARE] = "software",
};

const char *attestation_platform_name(enum attestation_platform platform)
{
	return platform_names[platform];
}

const char *attestation_protection_name(enum attestation_protection protection)
{
	return protection_names[protection];
}

#define SIGNATURE_TEXT_MAX 128 /* more than any P-256 signature needs */

/* --- making --- */

enum db_err attestation_canonical(const struct attestation_blob *blob, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	w.escape_slash = true;
	json_begin_object(&w);
	json_put_bool(&w, "authenticatedRootEnabled", blob->authenticated_root_enabled);
	wire_put_str(&w, "binaryHash", blob->binary_hash);
	json_put_str(&w, "chipName", blob->chip_name);
	wire_put_str(&w, "encryptionPublicKey", blob->encryption_public_key);
	json_put_str(&w, "hardwareModel", blob->hardware_model);
	wire_put_true(&w, "hypervisorActive", blob->hypervisor_active);
	wire_put_str(&w, "keyProtection", str_of(protection_names[blob->key_protection]));
	json_put_str(&w, "osVersion", blob->os_version);
	wire_put_str(&w, "platform", str_of(platform_names[blob->platform]));
	json_put_str(&w, "publicKey", blob->public_key);
	json_put_bool(&w, "rdmaDisabled", blob->rdma_disabled);
	json_put_bool(&w, "secureBootEnabled", blob->secure_boot_enabled);
	json_put_bool(&w, "secureEnclaveAvailable", blob->secure_enclave_available);
	wire_put_str(&w, "serialNumber", blob->serial_number);
	json_put_bool(&w, "sipEnabled", blob->sip_enabled);
	wire_put_str(&w, "systemVolumeHash", blob->system_volume_hash);
	json_put_str(&w, "timestamp", blob->timestamp);
	json_end_object(&w);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

enum db_err attestation_sign(const struct attestation_blob *blob, const struct wire_signer *signer, struct buf *out)
{
	struct buf canonical, signature;
	struct json_writer w;
	buf_init(&canonical, WIRE_MAX_TO_COORDINATOR);
	buf_init(&signature, BASE64_ENCODED_LEN(P256_DER_MAX));
	enum db_err err = attestation_canonical(blob, &canonical);
	if (!err)
		err = signer->sign(signer->context, buf_str(&canonical), &signature);
	if (err)
		goto out;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_key(&w, "attestation");
	json_raw(&w, buf_str(&canonical));
	json_put_str(&w, "signature", buf_str(&signature));
	json_end_object(&w);
	err = out->failed ? DB_E_LIMIT : DB_OK;
out:
	buf_free(&canonical);
	buf_free(&signature);
	return err;
}

/* --- checking --- */

/* The outer object taken apart: the bytes that are signed, and what they say. */
struct signed_blob {
	struct str raw;
	struct str signature;
};

static void read_blob(struct wire_reader *r, const json_val *root, struct attestation_blob *out)
{
	out->authenticated_root_enabled = wire_read_bool(r, root, "authenticatedRootEnabled");
	out->hypervisor_active = wire_read_bool(r, root, "hypervisorActive");
	out->rdma_disabled = wire_read_bool(r, root, "rdmaDisabled");
	out->secure_boot_enabled = wire_read_bool(r, root, "secureBootEnabled");
	out->secure_enclave_available = wire_read_bool(r, root, "secureEnclaveAvailable");
	out->sip_enabled = wire_read_bool(r, root, "sipEnabled");
	out->binary_hash = wire_read_str(r, root, "binaryHash");
	out->chip_name = wire_read_str(r, root, "chipName");
	out->encryption_public_key = wire_read_str(r, root, "encryptionPublicKey");
	out->hardware_model = wire_read_str(r, root, "hardwareModel");
	out->os_version = wire_read_str(r, root, "osVersion");
	out->public_key = wire_read_str(r, root, "publicKey");
	out->serial_number = wire_read_str(r, root, "serialNumber");
	out->system_volume_hash = wire_read_str(r, root, "systemVolumeHash");
	out->timestamp = wire_read_str(r, root, "timestamp");
	out->platform =
	    (enum attestation_platform)WIRE_WORD(wire_read_str(r, root, "platform"), platform_names, ATTESTATION_OTHER_PLATFORM);
	/* A protection that is not known protects nothing. */
	out->key_protection =
	    (enum attestation_protection)WIRE_WORD(wire_read_str(r, root, "keyProtection"), protection_names, ATTESTATION_SOFTWARE);
}

static bool refuse(struct attestation_result *result, enum attestation_verdict verdict, const char *sentence)
{
	result->verdict = verdict;
	error_set(&result->why, DB_E_DENIED, "attestation: %s", sentence);
	return false;
}

static bool parse(struct str text, struct arena *arena, struct attestation_result *result, struct signed_blob *out)
{
	static const char *const path[] = {"attestation", NULL};
	struct wire_reader r = {.arena = arena, .error = &result->why, .what = "attestation"};
	const json_val *root = json_root(json_parse(text, arena, &result->why));
	const json_val *blob = wire_read_object(&r, root, "attestation");
	out->signature = wire_read_str(&r, root, "signature");
	if (!r.failed && blob)
		read_blob(&r, blob, &result->blob);
	if (r.failed) {
		result->verdict = ATTESTATION_UNPARSABLE;
		return false;
	}
	if (!blob)
		return refuse(result, ATTESTATION_UNPARSABLE, "is not a JSON object with an attestation in it");
	if (json_raw_member(text, path, &out->raw))
		return refuse(result, ATTESTATION_UNPARSABLE, "holds more than one attestation");
	return true;
}

static bool read_public_key(struct str text, uint8_t xy[P256_PUBLIC_BYTES])
{
	uint8_t point[BASE64_DECODED_MAX(BASE64_ENCODED_LEN(P256_PUBLIC_BYTES + 1))];
	size_t len;
	if (text.len > BASE64_ENCODED_LEN(P256_PUBLIC_BYTES + 1) || base64_decode(text, point, &len))
		return false;
	if (p256_check_public(point, len))
		return false;
	memcpy(xy, point + len - P256_PUBLIC_BYTES, P256_PUBLIC_BYTES);
	return true;
}

/* Length of the INTEGER at the front of `der`, with its header, or 0. Strictness is left to the verification. */
static size_t der_integer(const uint8_t *der, size_t len)
{
	if (len < 3 || der[0] != 0x02 || der[1] == 0 || der[1] > 33 || der[1] > len - 2)
		return 0;
	return 2u + der[1];
}

/* SEQUENCE { INTEGER, INTEGER } and nothing behind it. */
static bool is_der(const uint8_t *der, size_t len)
{
	if (len < 2 || der[0] != 0x30 || der[1] != len - 2)
		return false;
	size_t r = der_integer(der + 2, len - 2);
	return r != 0 && der_integer(der + 2 + r, len - 2 - r) == len - 2 - r && len > 2 + r;
}

static bool check_signature(struct attestation_result *result, const struct signed_blob *signed_blob)
{
	uint8_t der[BASE64_DECODED_MAX(SIGNATURE_TEXT_MAX)];
	size_t len;
	struct str signature = signed_blob->signature, raw = signed_blob->raw;
	if (signature.len > SIGNATURE_TEXT_MAX || base64_decode(signature, der, &len))
		return refuse(result, ATTESTATION_BAD_BASE64, "signature is not base64");
	if (!is_der(der, len))
		return refuse(result, ATTESTATION_BAD_DER, "signature is not DER");
	if (p256_verify(result->public_key, P256_PUBLIC_BYTES, raw.at, raw.len, der, len))
		return refuse(result, ATTESTATION_BAD_SIGNATURE, "signature does not match the attestation");
	return true;
}

/* Mandatory for every machine that does not say it is a Linux box. The last one that is missing is named (5.4). */
static bool check_posture(struct attestation_result *result)
{
	const struct attestation_blob *blob = &result->blob;
	bool good = true;
	if (result->is_linux)
		return true;
	if (!blob->secure_enclave_available)
		good = refuse(result, ATTESTATION_NO_ENCLAVE, "the machine has no Secure Enclave");
	if (!blob->sip_enabled)
		good = refuse(result, ATTESTATION_SIP_OFF, "System Integrity Protection is off");
	if (!blob->secure_boot_enabled)
		good = refuse(result, ATTESTATION_SECURE_BOOT_OFF, "Secure Boot is off");
	return good;
}

static bool check_encryption_key(struct attestation_result *result, struct str registered_key)
{
	if (registered_key.len == 0 || str_eq(result->blob.encryption_public_key, registered_key))
		return true;
	return refuse(result, ATTESTATION_KEY_MISMATCH, "encryptionPublicKey is not the registered public_key");
}

/* Only what an existing Mac says by saying nothing, or says outright, may lead to hardware trust later. */
static void judge_key(struct attestation_result *result)
{
	const struct attestation_blob *blob = &result->blob;
	bool mac = blob->platform == ATTESTATION_UNSAID_PLATFORM || blob->platform == ATTESTATION_MACOS;
	result->is_linux = blob->platform == ATTESTATION_LINUX;
	result->key_protection = blob->key_protection;
	if (blob->key_protection == ATTESTATION_UNSAID_PROTECTION)
		result->key_protection = mac ? ATTESTATION_SECURE_ENCLAVE : ATTESTATION_SOFTWARE;
	bool enclave = mac && result->key_protection == ATTESTATION_SECURE_ENCLAVE;
	result->max_trust = enclave ? WIRE_TRUST_HARDWARE : WIRE_TRUST_SELF_SIGNED;
}

static bool check(struct str text, struct str registered_key, struct arena *arena, struct attestation_result *result)
{
	struct signed_blob signed_blob;
	if (text.len == 0)
		return refuse(result, ATTESTATION_ABSENT, "none was sent");
	if (!parse(text, arena, result, &signed_blob))
		return false;
	judge_key(result);
	if (clock_parse_rfc3339(result->blob.timestamp, &result->timestamp_us))
		return refuse(result, ATTESTATION_BAD_TIMESTAMP, "timestamp is not RFC 3339");
	if (!read_public_key(result->blob.public_key, result->public_key))
		return refuse(result, ATTESTATION_BAD_PUBLIC_KEY, "publicKey is not a point on P-256");
	return check_signature(result, &signed_blob) && check_posture(result) && check_encryption_key(result, registered_key);
}

void attestation_verify(struct str signed_attestation, struct str registered_key, struct arena *arena,
                        struct attestation_result *result)
{
	*result = (struct attestation_result){.verdict = ATTESTATION_VALID};
	if (!check(signed_attestation, registered_key, arena, result))
		result->max_trust = WIRE_TRUST_NONE;
}
