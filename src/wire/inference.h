/* Messages about one request, in both directions (protocol-and-trust 3.3, 4.2, 4.3), and our flow credit. */
#ifndef WIRE_INFERENCE_H
#define WIRE_INFERENCE_H

#include "wire/types.h"

#define WIRE_MAX_QUEUE_POSITION 1000000

/* What a consumer declared about a body that only the provider can open (docs/reference/blind-mode.md). */
struct wire_blind_limits {
	struct str model;
	int64_t max_prompt_tokens, max_tokens; /* > 0 */
};

/* C->P. */
struct wire_request {
	struct str request_id;
	bool has_encrypted_body; /* without it the provider answers 400 */
	struct wire_payload encrypted_body;
	bool has_plain_body;             /* a `body` was given: always refused; never encoded */
	bool has_credit;                 /* extension: chunks that may be sent before the provider must pause */
	int64_t credit;                  /* >= 0 */
	int64_t estimated_prompt_tokens; /* extension: 0 = not said */
	struct str cache_tenant;         /* extension: opaque, whose prompts this one may share cached prefixes with; or empty */
	struct str prefixes;             /* extension: names of its prompt and of what that begins with (wire/prefix.h), or empty */
	bool notes;                      /* extension: put a note of api/chat_resume.h before each frame */
	bool queue_notes;                /* extension: say where it stands while it waits for the engine */
	bool has_blind;                  /* extension: a consumer sealed encrypted_body, within these limits */
	struct wire_blind_limits blind;
};

/* C->P. Unknown and finished ids are ignored by the receiver. */
struct wire_cancel {
	struct str request_id;
};

/* C->P, extension: `chunks` more may be sent. Only to a provider that registered with flow_credit. */
struct wire_credit {
	struct str request_id;
	int64_t chunks; /* >= 0 */
};

/* P->C. Once, and then, where queue_notes was set, whenever its place among those that wait for the engine changes. */
struct wire_accepted {
	struct str request_id;
	bool loading;           /* extension: the model is loaded first */
	int64_t queue_position; /* extension: 1 = the next to run; 0 = not said */
};

/* P->C. A violation when `data` is not empty or the payload is missing (4.3). */
struct wire_chunk {
	struct str request_id;
	struct str data;
	bool has_encrypted_data;
	struct wire_payload encrypted_data;
};

/* P->C. The counts are the provider's claim. */
struct wire_complete {
	struct str request_id;
	int64_t prompt_tokens, completion_tokens, reasoning_tokens; /* >= 0 */
	struct str se_signature;                                    /* base64 DER, optional */
	struct str response_hash;                                   /* 64 hex, optional */
	struct str usage_signature; /* extension, of a blind request: base64 DER over the statement of wire/blind.h */
};

/* P->C. */
struct wire_error {
	struct str request_id;
	struct str error;        /* for people and for the substring rules of 11.2; never prompt text */
	int64_t status_code;     /* 0..65535 */
	struct str error_reason; /* jinja_channel_tags | jinja_null_bridge | jinja_template | model_load, optional */
};

#endif
