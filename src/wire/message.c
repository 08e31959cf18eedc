#include "wire/message.h"
#include "wire/codec.h"

static const struct {
	const char *name;
	bool to_coordinator;
} types[WIRE_TYPE_COUNT] = {
    [WIRE_REGISTER] = {"register", true},
    [WIRE_HEARTBEAT] = {"heartbeat", true},
    [WIRE_ACCEPTED] = {"inference_accepted", true},
    [WIRE_CHUNK] = {"inference_response_chunk", true},
    [WIRE_COMPLETE] = {"inference_complete", true},
    [WIRE_ERROR] = {"inference_error", true},
    [WIRE_ATTESTATION_RESPONSE] = {"attestation_response", true},
    [WIRE_CODE_ATTESTATION_RESPONSE] = {"code_attestation_response", true},
    [WIRE_LOAD_MODEL_STATUS] = {"load_model_status", true},
    [WIRE_PREFETCH_MODEL_STATUS] = {"prefetch_model_status", true},
    [WIRE_MODELS_UPDATE] = {"models_update", true},
    [WIRE_REQUEST] = {"inference_request", false},
    [WIRE_CANCEL] = {"cancel", false},
    [WIRE_CREDIT] = {"credit", false},
    [WIRE_CHALLENGE] = {"attestation_challenge", false},
    [WIRE_TRUST_STATUS] = {"trust_status", false},
    [WIRE_RUNTIME_STATUS] = {"runtime_status", false},
    [WIRE_LOAD_MODEL] = {"load_model", false},
    [WIRE_PREFETCH_MODEL] = {"prefetch_model", false},
    [WIRE_DESIRED_MODELS] = {"desired_models", false},
};

const char *wire_type_name(enum wire_type type)
{
	return types[type].name;
}

bool wire_type_to_coordinator(enum wire_type type)
{
	return types[type].to_coordinator;
}

static bool type_of(struct str name, enum wire_type *out)
{
	for (unsigned i = 0; i < WIRE_TYPE_COUNT; i++) {
		if (str_is(name, types[i].name)) {
			*out = (enum wire_type)i;
			return true;
		}
	}
	return false;
}

static void read_members(struct wire_reader *r, const json_val *root, struct str text, struct wire_message *out)
{
	switch (out->type) {
	case WIRE_REGISTER:
		wire_read_register(r, root, text, &out->as.registration);
		break;
	case WIRE_HEARTBEAT:
		wire_read_heartbeat(r, root, &out->as.heartbeat);
		break;
	case WIRE_ACCEPTED:
		out->as.accepted.request_id = wire_read_str(r, root, "request_id");
		out->as.accepted.loading = wire_read_bool(r, root, "loading");
		out->as.accepted.queue_position = wire_read_int(r, root, "queue_position", WIRE_MAX_QUEUE_POSITION);
		break;
	case WIRE_CHUNK:
		wire_read_chunk(r, root, &out->as.chunk);
		break;
	case WIRE_COMPLETE:
		wire_read_complete(r, root, &out->as.complete);
		break;
	case WIRE_ERROR:
		wire_read_error(r, root, &out->as.error);
		break;
	case WIRE_ATTESTATION_RESPONSE:
		wire_read_attestation_response(r, root, &out->as.attestation_response);
		break;
	case WIRE_CODE_ATTESTATION_RESPONSE:
		wire_read_code_response(r, root, &out->as.code_attestation_response);
		break;
	case WIRE_LOAD_MODEL_STATUS:
		wire_read_load_status(r, root, &out->as.load_model_status);
		break;
	case WIRE_PREFETCH_MODEL_STATUS:
		wire_read_prefetch_status(r, root, &out->as.prefetch_model_status);
		break;
	case WIRE_MODELS_UPDATE:
		wire_read_models_update(r, root, &out->as.models_update);
		break;
	case WIRE_REQUEST:
		wire_read_request(r, root, &out->as.request);
		break;
	case WIRE_CANCEL:
		out->as.cancel.request_id = wire_require_str(r, root, "request_id");
		break;
	case WIRE_CREDIT:
		wire_read_credit(r, root, &out->as.credit);
		break;
	case WIRE_CHALLENGE:
		wire_read_challenge(r, root, &out->as.challenge);
		break;
	case WIRE_TRUST_STATUS:
		wire_read_trust_status(r, root, &out->as.trust_status);
		break;
	case WIRE_RUNTIME_STATUS:
		wire_read_runtime_status(r, root, &out->as.runtime_status);
		break;
	case WIRE_LOAD_MODEL:
		out->as.load_model.model_id = wire_require_str(r, root, "model_id");
		break;
	case WIRE_PREFETCH_MODEL:
		wire_read_prefetch_model(r, root, &out->as.prefetch_model);
		break;
	case WIRE_DESIRED_MODELS:
		wire_read_desired_models(r, root, &out->as.desired_models);
		break;
	case WIRE_TYPE_COUNT:
		break;
	}
}

enum db_err wire_decode_general(struct str text, struct arena *arena, struct wire_message *out, struct error *error)
{
	*out = (struct wire_message){.type = WIRE_TYPE_COUNT};
	struct error parse_error;
	struct json_doc *doc = json_parse(text, arena, &parse_error);
	if (!doc)
		return error_set(error, parse_error.code, "%s", parse_error.text);
	const json_val *root = json_root(doc);
	struct str name;
	if (json_type(root) != JSON_OBJECT)
		return error_set(error, DB_E_INVALID, "a message must be a JSON object");
	if (!json_as_str(json_get(root, "type"), &name))
		return error_set(error, DB_E_INVALID, "a message must have a type");
	if (!type_of(name, &out->type))
		return error_set(error, DB_E_INVALID, "unknown message type \"%.*s\"", STR_ARG(str_sub(name, 0, 40)));
	struct wire_reader reader = {.arena = arena, .error = error, .what = types[out->type].name};
	read_members(&reader, root, text, out);
	return reader.failed;
}

enum db_err wire_decode(struct str text, struct arena *arena, struct wire_message *out, struct error *error)
{
	if (!wire_chunk_peek(text, &out->as.chunk))
		return wire_decode_general(text, arena, out, error);
	out->type = WIRE_CHUNK;
	return DB_OK;
}

static void write_members(struct json_writer *w, const struct wire_message *in)
{
	switch (in->type) {
	case WIRE_REGISTER:
		wire_write_register(w, &in->as.registration);
		break;
	case WIRE_HEARTBEAT:
		wire_write_heartbeat(w, &in->as.heartbeat);
		break;
	case WIRE_ACCEPTED:
		json_put_str(w, "request_id", in->as.accepted.request_id);
		wire_put_true(w, "loading", in->as.accepted.loading);
		wire_put_int(w, "queue_position", in->as.accepted.queue_position);
		break;
	case WIRE_CHUNK:
		wire_write_chunk(w, &in->as.chunk);
		break;
	case WIRE_COMPLETE:
		wire_write_complete(w, &in->as.complete);
		break;
	case WIRE_ERROR:
		wire_write_error(w, &in->as.error);
		break;
	case WIRE_ATTESTATION_RESPONSE:
		wire_write_attestation_response(w, &in->as.attestation_response);
		break;
	case WIRE_CODE_ATTESTATION_RESPONSE:
		wire_write_code_response(w, &in->as.code_attestation_response);
		break;
	case WIRE_LOAD_MODEL_STATUS:
		wire_write_load_status(w, &in->as.load_model_status);
		break;
	case WIRE_PREFETCH_MODEL_STATUS:
		wire_write_prefetch_status(w, &in->as.prefetch_model_status);
		break;
	case WIRE_MODELS_UPDATE:
		wire_write_models_update(w, &in->as.models_update);
		break;
	case WIRE_REQUEST:
		wire_write_request(w, &in->as.request);
		break;
	case WIRE_CANCEL:
		json_put_str(w, "request_id", in->as.cancel.request_id);
		break;
	case WIRE_CREDIT:
		wire_write_credit(w, &in->as.credit);
		break;
	case WIRE_CHALLENGE:
		wire_write_challenge(w, &in->as.challenge);
		break;
	case WIRE_TRUST_STATUS:
		wire_write_trust_status(w, &in->as.trust_status);
		break;
	case WIRE_RUNTIME_STATUS:
		wire_write_runtime_status(w, &in->as.runtime_status);
		break;
	case WIRE_LOAD_MODEL:
		json_put_str(w, "model_id", in->as.load_model.model_id);
		break;
	case WIRE_PREFETCH_MODEL:
		wire_write_prefetch_model(w, &in->as.prefetch_model);
		break;
	case WIRE_DESIRED_MODELS:
		wire_write_desired_models(w, &in->as.desired_models);
		break;
	case WIRE_TYPE_COUNT:
		break;
	}
}

enum db_err wire_encode(const struct wire_message *message, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_cstr(&w, "type", types[message->type].name);
	write_members(&w, message);
	json_end_object(&w);
	return out->failed ? DB_E_LIMIT : DB_OK;
}
