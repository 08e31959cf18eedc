/* What consumers say of blind requests, at the coordinator (an offer, a completion) and at the provider (the opened body).
 * First byte: which. What is accepted is within its bounds. */
#include <stdlib.h>

#include "api/blind_request.h"
#include "provider/node/blind.h"
#include "wire/payload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void check_ask(const struct blind_ask *ask)
{
	check(ask->model.len > 0);
	check(ask->max_prompt_tokens >= 1 && ask->max_prompt_tokens <= BLIND_MAX_PROMPT);
	check(ask->max_tokens >= 1 && ask->max_tokens <= BLIND_MAX_OUTPUT);
	check(ask->prompt_tokens >= 1 && ask->prompt_tokens <= ask->max_prompt_tokens);
}

static void offer(struct str text, struct arena *arena)
{
	struct blind_offer_request request;
	struct api_error error = {0};
	if (!blind_offer_parse(text, arena, &request, &error)) {
		check(error.status == 400 && error.message[0] != '\0');
		return;
	}
	check_ask(&request.ask);
	check(request.count >= 1 && request.count <= BLIND_MAX_CANDIDATES);
}

static void completion(struct str text, struct arena *arena)
{
	struct blind_completion_request request;
	struct api_error error = {0};
	uint8_t key[BOX_KEY_BYTES];
	if (!blind_completion_parse(text, arena, &request, &error)) {
		check(error.status == 400 && error.message[0] != '\0');
		return;
	}
	check(request.provider_id.len > 0 && request.ciphertext.len > 0);
	check(wire_key_decode(request.ephemeral_public_key, key) == DB_OK);
	if (request.offer_id.len == 0)
		check_ask(&request.ask);
}

static void opened(struct str text, struct arena *arena)
{
	struct replay seen;
	struct chat_request chat;
	struct api_error error;
	struct wire_request message = {.has_blind = true, .blind = {STR("m"), 100, 50}, .encrypted_body = {STR("k"), text}};
	if (!chat_request_parse(text, arena, &chat, &error))
		return;
	replay_init(&seen, 1000000, 10);
	check(node_blind_admit(&seen, &message, &chat) != NULL); /* its "ciphertext" carries no time */
	message.has_blind = false;
	bool says_blind = json_get_some(chat.root, "blind") != NULL;
	check((node_blind_admit(&seen, &message, &chat) != NULL) == says_blind);
	replay_free(&seen);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const parsers[])(struct str text, struct arena * arena) = {offer, completion, opened};
	struct arena *arena = arena_new(0);
	check(arena != NULL);
	if (size > 0)
		parsers[data[0] % 3]((struct str){(const char *)data + 1, size - 1}, arena);
	arena_free(arena);
	return 0;
}
