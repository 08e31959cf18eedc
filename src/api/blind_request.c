#include "api/blind_request.h"

#include "core/encode.h"
#include "wire/payload.h"

#define CIPHERTEXT_MIN 56 /* base64 of a nonce and a tag */
#define ID_MAX         128

static bool refuse(struct api_error *error, const char *param, const char *what)
{
	return api_fail(error, 400, "invalid_request_error", NULL, param, "%s", what);
}

static bool get_text(const json_val *root, const char *name, struct str *out)
{
	return json_as_str(json_get(root, name), out) && out->len > 0;
}

static bool get_limit(const json_val *root, const char *name, int64_t max, int64_t *out)
{
	return json_as_i64(json_get(root, name), out) && *out >= 1 && *out <= max;
}

static bool parse_ask(const json_val *root, struct blind_ask *out, struct api_error *error)
{
	if (!get_text(root, "model", &out->model))
		return refuse(error, "model", "model is needed: the name of a model, in the clear.");
	if (!get_limit(root, "max_prompt_tokens", BLIND_MAX_PROMPT, &out->max_prompt_tokens))
		return refuse(error, "max_prompt_tokens",
		              "max_prompt_tokens is needed: how many tokens the sealed prompt has at most.");
	if (!get_limit(root, "max_tokens", BLIND_MAX_OUTPUT, &out->max_tokens))
		return refuse(error, "max_tokens", "max_tokens is needed: how many tokens the answer may have at most.");
	out->prompt_tokens = out->max_prompt_tokens;
	if (json_get_some(root, "prompt_tokens") && !get_limit(root, "prompt_tokens", out->max_prompt_tokens, &out->prompt_tokens))
		return refuse(error, "prompt_tokens", "prompt_tokens must be a whole number from 1 to max_prompt_tokens.");
	return true;
}

static const json_val *parse_object(struct str body, struct arena *arena, struct api_error *error)
{
	struct json_doc *doc = json_parse(body, arena, NULL);
	const json_val *root = doc ? json_root(doc) : NULL;
	if (json_type(root) == JSON_OBJECT)
		return root;
	refuse(error, NULL, "The body is not a JSON object.");
	return NULL;
}

bool blind_offer_parse(struct str body, struct arena *arena, struct blind_offer_request *out, struct api_error *error)
{
	int64_t count = 3;
	*out = (struct blind_offer_request){0};
	const json_val *root = parse_object(body, arena, error);
	if (!root || !parse_ask(root, &out->ask, error))
		return false;
	if (json_get_some(root, "candidates") && !get_limit(root, "candidates", BLIND_MAX_CANDIDATES, &count))
		return refuse(error, "candidates", "candidates must be a whole number from 1 to 8.");
	out->count = (unsigned)count;
	return chat_places_parse(root, arena, &out->places, error);
}

bool blind_completion_parse(struct str body, struct arena *arena, struct blind_completion_request *out, struct api_error *error)
{
	uint8_t key[BOX_KEY_BYTES];
	*out = (struct blind_completion_request){0};
	const json_val *root = parse_object(body, arena, error), *offer = json_get_some(root, "offer_id");
	const json_val *stream = json_get_some(root, "stream");
	if (!root)
		return false;
	if (offer && (!json_as_str(offer, &out->offer_id) || out->offer_id.len == 0 || out->offer_id.len > ID_MAX))
		return refuse(error, "offer_id", "offer_id must be one that POST /v1/blind/offer gave.");
	if (!get_text(root, "provider_id", &out->provider_id) || out->provider_id.len > ID_MAX)
		return refuse(error, "provider_id", "provider_id is needed: the provider that the body is sealed to.");
	if (!get_text(root, "ephemeral_public_key", &out->ephemeral_public_key) || wire_key_decode(out->ephemeral_public_key, key))
		return refuse(error, "ephemeral_public_key", "ephemeral_public_key is needed: base64 of 32 bytes.");
	if (!get_text(root, "ciphertext", &out->ciphertext) || out->ciphertext.len < CIPHERTEXT_MIN)
		return refuse(error, "ciphertext", "ciphertext is needed: base64 of a nonce and a box.");
	if (stream && !json_as_bool(stream, &out->stream))
		return refuse(error, "stream", "stream must be true or false.");
	return (offer || parse_ask(root, &out->ask, error)) && chat_places_parse(root, arena, &out->places, error);
}
