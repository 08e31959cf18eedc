/* What a consumer seals and opens, without any network: for the sealed transport (docs/reference/sealed-transport.md) and blind
 * mode (docs/reference/blind-mode.md). Everything that comes from a coordinator is checked here. Pure; thread: any, but key
 * agreement and signatures take about 0.1 ms each. */
#ifndef CLIENT_SEAL_H
#define CLIENT_SEAL_H

#include "api/chat_event.h"
#include "api/chat_request.h"
#include "wire/blind.h"
#include "wire/envelope.h"
#include "wire/payload.h"
#include "wire/types.h"

#define CLIENT_PAD_BYTES 1024 /* a sealed body is padded with spaces to a multiple of this */

/* One request's side of a key agreement. Holds a secret: wipe it with client_secret_end. */
struct client_secret {
	char public_b64[WIRE_KEY_B64_LEN + 1];
	struct box_shared shared;
};
enum db_err client_secret_begin(struct client_secret *secret, const uint8_t peer[BOX_KEY_BYTES]);
void client_secret_end(struct client_secret *secret);
/* Base64 of nonce and box -> the text inside, appended. DB_E_INVALID, DB_E_CRYPTO, DB_E_LIMIT. */
enum db_err client_open(const struct client_secret *secret, struct str ciphertext, struct buf *out);

/* --- the sealed transport --- */

struct client_server_key {
	char kid[BOX_KID_SIZE];
	uint8_t key[BOX_KEY_BYTES];
};
/* The answer of GET /v1/encryption-key; the id must be the key's own. */
enum db_err client_server_key_read(struct str json, struct client_server_key *out, struct error *error);
/* Appends the envelope of a body, sealed now. */
enum db_err client_envelope_write(const struct client_secret *secret, const char *kid, struct str body, struct buf *out);
/* A whole sealed answer -> the body inside, appended. */
enum db_err client_answer_open(const struct client_secret *secret, struct str json, struct buf *out, struct error *error);

/* --- blind mode --- */

/* Whom a consumer takes for a provider. A coordinator that lies could name a machine of its own: what it cannot do is make a
 * key that the consumer knows, or one that Apple vouches for. */
struct client_policy {
	bool secure_enclave_only;       /* the signing key must say that it is in a Secure Enclave */
	const struct str *trusted_keys; /* se_public_key of providers, base64; NULL = any that is attested */
	size_t trusted_count;
};

#define CLIENT_PROVIDER_ID_SIZE 64
#define CLIENT_OFFER_ID_SIZE    64
#define CLIENT_SE_KEY_SIZE      128
#define CLIENT_MODEL_SIZE       160

/* A provider that passed the checks, with what the request to it needs. */
struct client_choice {
	char offer_id[CLIENT_OFFER_ID_SIZE], provider_id[CLIENT_PROVIDER_ID_SIZE], se_public_key[CLIENT_SE_KEY_SIZE];
	char model[CLIENT_MODEL_SIZE];
	char trust[16], chip[96]; /* trust as the coordinator says it, chip as the provider signed it */
	uint8_t key[BOX_KEY_BYTES];
	int64_t max_prompt_tokens, max_tokens;
};

/* The body of POST /v1/blind/offer for a chat request: its model, an estimate, and limits that it cannot exceed. */
enum db_err client_offer_ask(const struct chat_request *chat, struct buf *out);
/* The first candidate whose signed statement about itself is good, names the key, and satisfies the policy; providers in `not`
 * are passed over. `chat` is what the offer was asked for: its model and limits must be the same. DB_E_DENIED when none is
 * good, with the reason of the last. */
enum db_err client_offer_choose(struct str json, const struct chat_request *chat, const struct client_policy *policy,
                                const char *not_provider_id, struct client_choice *out, struct error *error);
/* The body of POST /v1/blind/completions: the chat request, its limits inside, sealed to the chosen provider. */
enum db_err client_blind_write(const struct client_secret *secret, const struct client_choice *choice,
                               const struct chat_request *chat, struct buf *out);
/* Whether the receipt at the end is the chosen provider's word about exactly the chunks that came. */
enum db_err client_receipt_check(struct str json, const struct client_secret *secret, const struct client_choice *choice,
                                 const struct blind_transcript *transcript, struct chat_usage *usage, struct error *error);

#endif
