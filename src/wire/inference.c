#include "wire/inference.h"
#include "wire/codec.h"

#define MAX_CREDIT INT32_MAX

void wire_read_request(struct wire_reader *r, const json_val *root, struct wire_request *out)
{
	out->request_id = wire_require_str(r, root, "request_id");
	out->has_encrypted_body = wire_read_payload(r, root, "encrypted_body", &out->encrypted_body);
	out->has_plain_body = json_get_some(root, "body") != NULL;
	out->has_credit = json_get_some(root, "credit") != NULL;
	out->credit = wire_read_int(r, root, "credit", MAX_CREDIT);
	out->estimated_prompt_tokens = wire_read_int(r, root, "estimated_prompt_tokens", INT64_MAX);
	out->cache_tenant = wire_read_str(r, root, "cache_tenant");
	out->prefixes = wire_read_str(r, root, "prefixes");
	out->notes = wire_read_bool(r, root, "resume_notes");
	out->queue_notes = wire_read_bool(r, root, "queue_notes");
	const json_val *blind = wire_read_object(r, root, "blind");
	out->has_blind = blind != NULL;
	if (!blind)
		return;
	out->blind.model = wire_require_str(r, blind, "model");
	out->blind.max_prompt_tokens = wire_read_int(r, blind, "max_prompt_tokens", INT32_MAX);
	out->blind.max_tokens = wire_read_int(r, blind, "max_tokens", INT32_MAX);
}

void wire_write_request(struct json_writer *w, const struct wire_request *in)
{
	json_put_str(w, "request_id", in->request_id);
	if (in->has_credit)
		json_put_i64(w, "credit", in->credit);
	wire_put_int(w, "estimated_prompt_tokens", in->estimated_prompt_tokens);
	wire_put_str(w, "cache_tenant", in->cache_tenant);
	wire_put_str(w, "prefixes", in->prefixes);
	wire_put_true(w, "resume_notes", in->notes);
	wire_put_true(w, "queue_notes", in->queue_notes);
	if (in->has_blind) {
		json_key(w, "blind");
		json_begin_object(w);
		json_put_str(w, "model", in->blind.model);
		json_put_i64(w, "max_prompt_tokens", in->blind.max_prompt_tokens);
		json_put_i64(w, "max_tokens", in->blind.max_tokens);
		json_end_object(w);
	}
	if (in->has_encrypted_body)
		wire_put_payload(w, "encrypted_body", &in->encrypted_body);
}

void wire_read_credit(struct wire_reader *r, const json_val *root, struct wire_credit *out)
{
	out->request_id = wire_require_str(r, root, "request_id");
	wire_require(r, root, "chunks");
	out->chunks = wire_read_int(r, root, "chunks", MAX_CREDIT);
}

void wire_write_credit(struct json_writer *w, const struct wire_credit *in)
{
	json_put_str(w, "request_id", in->request_id);
	json_put_i64(w, "chunks", in->chunks);
}

void wire_read_chunk(struct wire_reader *r, const json_val *root, struct wire_chunk *out)
{
	out->request_id = wire_read_str(r, root, "request_id");
	out->data = wire_read_str(r, root, "data");
	out->has_encrypted_data = wire_read_payload(r, root, "encrypted_data", &out->encrypted_data);
}

void wire_write_chunk(struct json_writer *w, const struct wire_chunk *in)
{
	json_put_str(w, "request_id", in->request_id);
	wire_put_str(w, "data", in->data);
	if (in->has_encrypted_data)
		wire_put_payload(w, "encrypted_data", &in->encrypted_data);
}

void wire_read_complete(struct wire_reader *r, const json_val *root, struct wire_complete *out)
{
	out->request_id = wire_read_str(r, root, "request_id");
	const json_val *usage = wire_read_object(r, root, "usage");
	out->prompt_tokens = wire_read_int(r, usage, "prompt_tokens", INT64_MAX);
	out->completion_tokens = wire_read_int(r, usage, "completion_tokens", INT64_MAX);
	out->reasoning_tokens = wire_read_int(r, usage, "reasoning_tokens", INT64_MAX);
	out->se_signature = wire_read_str(r, root, "se_signature");
	out->response_hash = wire_read_str(r, root, "response_hash");
	out->usage_signature = wire_read_str(r, root, "usage_signature");
}

void wire_write_complete(struct json_writer *w, const struct wire_complete *in)
{
	json_put_str(w, "request_id", in->request_id);
	json_key(w, "usage");
	json_begin_object(w);
	json_put_i64(w, "prompt_tokens", in->prompt_tokens);
	json_put_i64(w, "completion_tokens", in->completion_tokens);
	json_put_i64(w, "reasoning_tokens", in->reasoning_tokens);
	json_end_object(w);
	wire_put_str(w, "se_signature", in->se_signature);
	wire_put_str(w, "response_hash", in->response_hash);
	wire_put_str(w, "usage_signature", in->usage_signature);
}

void wire_read_error(struct wire_reader *r, const json_val *root, struct wire_error *out)
{
	out->request_id = wire_read_str(r, root, "request_id");
	out->error = wire_read_str(r, root, "error");
	out->status_code = wire_read_int(r, root, "status_code", UINT16_MAX);
	out->error_reason = wire_read_str(r, root, "error_reason");
}

void wire_write_error(struct json_writer *w, const struct wire_error *in)
{
	json_put_str(w, "request_id", in->request_id);
	json_put_str(w, "error", in->error);
	json_put_i64(w, "status_code", in->status_code);
	wire_put_str(w, "error_reason", in->error_reason);
}
