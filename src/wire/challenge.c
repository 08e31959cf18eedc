#include "wire/challenge.h"
#include "wire/codec.h"

void wire_read_challenge(struct wire_reader *r, const json_val *root, struct wire_challenge *out)
{
	out->nonce = wire_require_str(r, root, "nonce");
	out->timestamp = wire_require_str(r, root, "timestamp");
}

void wire_write_challenge(struct json_writer *w, const struct wire_challenge *in)
{
	json_put_str(w, "nonce", in->nonce);
	json_put_str(w, "timestamp", in->timestamp);
}

void wire_read_attestation_response(struct wire_reader *r, const json_val *root, struct wire_attestation_response *out)
{
	out->nonce = wire_read_str(r, root, "nonce");
	out->signature = wire_read_str(r, root, "signature");
	out->status_signature = wire_read_str(r, root, "status_signature");
	out->public_key = wire_read_str(r, root, "public_key");
	out->hypervisor_active = wire_read_tri(r, root, "hypervisor_active");
	out->rdma_disabled = wire_read_tri(r, root, "rdma_disabled");
	out->sip_enabled = wire_read_tri(r, root, "sip_enabled");
	out->secure_boot_enabled = wire_read_tri(r, root, "secure_boot_enabled");
	out->binary_hash = wire_read_str(r, root, "binary_hash");
	out->active_model_hash = wire_read_str(r, root, "active_model_hash");
	out->python_hash = wire_read_str(r, root, "python_hash");
	out->runtime_hash = wire_read_str(r, root, "runtime_hash");
	out->template_hashes = wire_read_pairs(r, root, "template_hashes");
	out->model_hashes = wire_read_pairs(r, root, "model_hashes");
}

void wire_write_attestation_response(struct json_writer *w, const struct wire_attestation_response *in)
{
	json_put_str(w, "nonce", in->nonce);
	json_put_str(w, "signature", in->signature);
	wire_put_str(w, "status_signature", in->status_signature);
	json_put_str(w, "public_key", in->public_key);
	wire_put_tri(w, "hypervisor_active", in->hypervisor_active);
	wire_put_tri(w, "rdma_disabled", in->rdma_disabled);
	wire_put_tri(w, "sip_enabled", in->sip_enabled);
	wire_put_tri(w, "secure_boot_enabled", in->secure_boot_enabled);
	wire_put_str(w, "binary_hash", in->binary_hash);
	wire_put_str(w, "active_model_hash", in->active_model_hash);
	wire_put_str(w, "python_hash", in->python_hash);
	wire_put_str(w, "runtime_hash", in->runtime_hash);
	wire_put_pairs(w, "template_hashes", &in->template_hashes);
	wire_put_pairs(w, "model_hashes", &in->model_hashes);
}

void wire_read_code_response(struct wire_reader *r, const json_val *root, struct wire_code_attestation_response *out)
{
	out->nonce = wire_read_str(r, root, "nonce");
	out->signature = wire_read_str(r, root, "signature");
}

void wire_write_code_response(struct json_writer *w, const struct wire_code_attestation_response *in)
{
	json_put_str(w, "nonce", in->nonce);
	json_put_str(w, "signature", in->signature);
}

void wire_read_trust_status(struct wire_reader *r, const json_val *root, struct wire_trust_status *out)
{
	out->trust_level = WIRE_TRUST_NONE;
	wire_trust_parse(wire_require_str(r, root, "trust_level"), &out->trust_level);
	out->status = wire_require_str(r, root, "status");
	out->reason = wire_read_str(r, root, "reason");
}

void wire_write_trust_status(struct json_writer *w, const struct wire_trust_status *in)
{
	json_put_cstr(w, "trust_level", wire_trust_name(in->trust_level));
	json_put_str(w, "status", in->status);
	wire_put_str(w, "reason", in->reason);
}

static void read_mismatch(struct wire_reader *r, const json_val *mismatch, struct wire_mismatch *out)
{
	out->component = wire_read_str(r, mismatch, "component");
	out->expected = wire_read_str(r, mismatch, "expected");
	out->got = wire_read_str(r, mismatch, "got");
}

void wire_read_runtime_status(struct wire_reader *r, const json_val *root, struct wire_runtime_status *out)
{
	wire_require(r, root, "verified");
	out->verified = wire_read_bool(r, root, "verified");
	void *items;
	struct json_iter it = wire_read_array(r, root, "mismatches", WIRE_MAX_MISMATCHES, sizeof(struct wire_mismatch), &items);
	out->mismatches = items;
	for (json_val *mismatch; (mismatch = json_next(&it, NULL));) {
		if (wire_is_object(r, mismatch, "mismatches"))
			read_mismatch(r, mismatch, &out->mismatches[out->mismatch_count++]);
	}
}

void wire_write_runtime_status(struct json_writer *w, const struct wire_runtime_status *in)
{
	json_put_bool(w, "verified", in->verified);
	json_key(w, "mismatches");
	json_begin_array(w);
	for (size_t i = 0; i < in->mismatch_count; i++) {
		json_begin_object(w);
		json_put_str(w, "component", in->mismatches[i].component);
		json_put_str(w, "expected", in->mismatches[i].expected);
		json_put_str(w, "got", in->mismatches[i].got);
		json_end_object(w);
	}
	json_end_array(w);
}
