/* The provider protocol: every message of protocol-and-trust 2-3 as a struct, and our extensions to it
 * (docs/reference/protocol-extensions.md). One message is one JSON object, one WebSocket text message.
 *
 * Decoding (1.2): unknown fields are ignored, null counts as absent, a known field of the wrong JSON type (or a fraction where
 * an integer belongs) refuses the whole message, and so does an unknown `type`. A field that a provider must send but left out
 * reads as empty or 0; a field that the coordinator must send but left out refuses the message (3, 14.6). Numbers are clamped
 * here and nowhere else. Encoding omits what 3 marks omit-empty.
 * Thread: any; one message at a time per arena. */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "wire/challenge.h"
#include "wire/heartbeat.h"
#include "wire/inference.h"
#include "wire/lifecycle.h"
#include "wire/register.h"

#define WIRE_MAX_TO_COORDINATOR (10u * 1024 * 1024) /* 1.1 */
#define WIRE_MAX_TO_PROVIDER    (32u * 1024 * 1024)

enum wire_type {
	/* provider -> coordinator */
	WIRE_REGISTER,
	WIRE_HEARTBEAT,
	WIRE_ACCEPTED,
	WIRE_CHUNK,
	WIRE_COMPLETE,
	WIRE_ERROR,
	WIRE_ATTESTATION_RESPONSE,
	WIRE_CODE_ATTESTATION_RESPONSE,
	WIRE_LOAD_MODEL_STATUS,
	WIRE_PREFETCH_MODEL_STATUS,
	WIRE_MODELS_UPDATE,
	/* coordinator -> provider */
	WIRE_REQUEST,
	WIRE_CANCEL,
	WIRE_CREDIT,
	WIRE_CHALLENGE,
	WIRE_TRUST_STATUS,
	WIRE_RUNTIME_STATUS,
	WIRE_LOAD_MODEL,
	WIRE_PREFETCH_MODEL,
	WIRE_DESIRED_MODELS,
	WIRE_TYPE_COUNT,
};

struct wire_message {
	enum wire_type type;
	union {
		struct wire_register registration;
		struct wire_heartbeat heartbeat;
		struct wire_accepted accepted;
		struct wire_chunk chunk;
		struct wire_complete complete;
		struct wire_error error;
		struct wire_attestation_response attestation_response;
		struct wire_code_attestation_response code_attestation_response;
		struct wire_load_model_status load_model_status;
		struct wire_prefetch_model_status prefetch_model_status;
		struct wire_models_update models_update;
		struct wire_request request;
		struct wire_cancel cancel;
		struct wire_credit credit;
		struct wire_challenge challenge;
		struct wire_trust_status trust_status;
		struct wire_runtime_status runtime_status;
		struct wire_load_model load_model;
		struct wire_prefetch_model prefetch_model;
		struct wire_desired_models desired_models;
	} as;
};

const char *wire_type_name(enum wire_type type);    /* as on the wire: "inference_response_chunk" */
bool wire_type_to_coordinator(enum wire_type type); /* a message that a provider sends */

/* Decodes one message of either direction. Texts in *out are borrowed from `text` or live in `arena`: keep both until done.
 * Lists live in the arena. On failure *error says which field of which message and why: log it, drop the message, keep the
 * connection. DB_E_INVALID, DB_E_LIMIT (a list too long), DB_E_NOMEM.
 * A chunk in the usual compact form costs no allocation and no parse. */
enum db_err wire_decode(struct str text, struct arena *arena, struct wire_message *out, struct error *error);

/* Appends the message as compact JSON. DB_E_LIMIT or DB_E_NOMEM of the buffer. */
enum db_err wire_encode(const struct wire_message *message, struct buf *out);

/* The fast path of wire_decode by itself: true, with texts borrowed from `text`, when `text` is exactly
 * {"type":"inference_response_chunk","request_id":"…","encrypted_data":{"ephemeral_public_key":"…","ciphertext":"…"}}
 * in plain ASCII without escapes. False says nothing about the message: decode it the general way. */
bool wire_chunk_peek(struct str text, struct wire_chunk *out);

#endif
