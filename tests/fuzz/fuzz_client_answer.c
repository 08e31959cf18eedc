/* What a coordinator tells a client: its key, an offer, a sealed answer, a receipt. First byte: which. Nothing of it may harm,
 * and without a provider's signature nothing of it is believed. */
#include <stdlib.h>

#include "client/seal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void key(struct str text, struct arena *arena)
{
	struct client_server_key out;
	struct error error = {0};
	(void)arena;
	if (client_server_key_read(text, &out, &error) == DB_OK) {
		char kid[BOX_KID_SIZE];
		box_key_id(out.key, kid);
		check(str_is(str_of(kid), out.kid));
	} else {
		check(error.text[0] != '\0');
	}
}

static void offer(struct str text, struct arena *arena)
{
	struct chat_request chat;
	struct client_choice choice;
	struct client_policy policy = {0};
	struct api_error refused;
	struct error error = {0};
	check(chat_request_parse(STR("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":5}"),
	                         arena, &chat, &refused));
	if (client_offer_choose(text, &chat, &policy, "other", &choice, &error) == DB_OK)
		check(choice.provider_id[0] != '\0' && choice.se_public_key[0] != '\0' && choice.max_tokens == 5);
	else
		check(error.text[0] != '\0');
}

static void answer(struct str text, struct arena *arena)
{
	static const struct client_secret secret = {.shared = {{1, 2, 3}}};
	struct buf out;
	struct error error = {0};
	(void)arena;
	buf_init(&out, 1u << 24);
	if (client_answer_open(&secret, text, &out, &error) != DB_OK)
		check(error.text[0] != '\0' && out.len == 0);
	buf_free(&out);
}

static void receipt(struct str text, struct arena *arena)
{
	static const struct client_secret secret = {.public_b64 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="};
	static const struct client_choice choice = {.se_public_key = "AAAA", .model = "m", .max_prompt_tokens = 9, .max_tokens = 9};
	struct blind_transcript transcript;
	struct chat_usage usage;
	struct error error = {0};
	(void)arena;
	blind_transcript_begin(&transcript);
	check(client_receipt_check(text, &secret, &choice, &transcript, &usage, &error) != DB_OK);
	check(error.text[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const readers[])(struct str text, struct arena * arena) = {key, offer, answer, receipt};
	struct arena *arena = arena_new(0);
	check(arena != NULL);
	if (size > 0)
		readers[data[0] % 4]((struct str){(const char *)data + 1, size - 1}, arena);
	arena_free(arena);
	return 0;
}
