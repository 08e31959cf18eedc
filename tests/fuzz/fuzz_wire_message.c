/* Messages of either direction. On any bytes:
 * - the fast path of chunks, where it takes them, finds what the general path finds;
 * - a message that decodes is encoded, decoded again and encoded again to the same bytes. */
#include <stdlib.h>

#include "wire/codec.h"
#include "wire/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void compare_paths(struct str text, struct arena *arena)
{
	struct wire_chunk fast;
	struct wire_message general;
	if (!wire_chunk_peek(text, &fast))
		return;
	check(wire_decode_general(text, arena, &general, NULL) == DB_OK);
	check(general.type == WIRE_CHUNK);
	const struct wire_chunk *slow = &general.as.chunk;
	check(str_eq(fast.request_id, slow->request_id));
	check(fast.data.len == 0 && slow->data.len == 0);
	check(fast.has_encrypted_data && slow->has_encrypted_data);
	check(str_eq(fast.encrypted_data.sender_key, slow->encrypted_data.sender_key));
	check(str_eq(fast.encrypted_data.ciphertext, slow->encrypted_data.ciphertext));
}

static void check_round_trip(const struct wire_message *message, struct arena *arena)
{
	struct wire_message again;
	struct buf first, second;
	buf_init(&first, 1u << 24);
	buf_init(&second, 1u << 24);
	check(wire_encode(message, &first) == DB_OK);
	check(wire_decode(buf_str(&first), arena, &again, NULL) == DB_OK);
	check(again.type == message->type);
	check(wire_encode(&again, &second) == DB_OK);
	check(str_eq(buf_str(&first), buf_str(&second)));
	buf_free(&first);
	buf_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = {(const char *)data, size};
	struct arena *arena = arena_new(0);
	struct wire_message message;
	struct error error;
	check(arena != NULL);
	compare_paths(text, arena);
	if (wire_decode(text, arena, &message, &error) == DB_OK)
		check_round_trip(&message, arena);
	else
		check(error.code != DB_OK && error.text[0] != '\0');
	arena_free(arena);
	return 0;
}
