/* The bodies of POST /v1/blind/offer and POST /v1/blind/completions (docs/reference/blind-mode.md). What a consumer says in the
 * clear about a body that only a provider can open. Texts are borrowed from the arena. Pure; thread: any. */
#ifndef API_BLIND_REQUEST_H
#define API_BLIND_REQUEST_H

#include "api/chat_places.h"
#include "api/error.h"
#include "core/arena.h"
#include "core/json.h"

#define BLIND_MAX_CANDIDATES 8
#define BLIND_MAX_PROMPT     (16 << 20) /* tokens that may be declared */
#define BLIND_MAX_OUTPUT     (1 << 20)

/* What is asked for: routing and money go by it, and the provider holds the sealed body to it. */
struct blind_ask {
	struct str model;
	int64_t prompt_tokens;                 /* an estimate, for routing only */
	int64_t max_prompt_tokens, max_tokens; /* > 0 */
};

struct blind_offer_request {
	struct blind_ask ask;
	unsigned count; /* of candidates, 1..BLIND_MAX_CANDIDATES */
	struct chat_places places;
};
bool blind_offer_parse(struct str body, struct arena *arena, struct blind_offer_request *out, struct api_error *error);

struct blind_completion_request {
	struct str offer_id; /* empty: `ask` was given instead */
	struct str provider_id;
	struct str ephemeral_public_key, ciphertext; /* base64; the key is one, the ciphertext is not looked into */
	bool stream;
	struct blind_ask ask;
	struct chat_places places;
};
bool blind_completion_parse(struct str body, struct arena *arena, struct blind_completion_request *out,
                            struct api_error *error);

#endif
