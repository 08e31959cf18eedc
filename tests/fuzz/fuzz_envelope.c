/* Sealed envelopes. First byte: 0 = the text as it comes; otherwise a good envelope with one byte changed. What opens is
 * exactly what was sealed, and nothing that was changed opens. */
#include <stdlib.h>

#include "core/json.h"
#include "crypto/secret.h"
#include "wire/envelope.h"
#include "wire/payload.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static const struct box_shared shared = {{1, 2, 3, 4, 5, 6, 7, 8}};

static bool opens(struct str ciphertext, struct arena *arena, struct str *plain)
{
	struct sealed_box box;
	int64_t made_ms = -1;
	if (envelope_decode(ciphertext, arena, &box) != DB_OK)
		return false;
	if (envelope_time_ms(&box, &made_ms))
		check(made_ms >= 0);
	check(envelope_id(&box).len <= ENVELOPE_ID_BYTES);
	return envelope_open(&box, &shared, plain) == DB_OK;
}

static void any_text(struct str text, struct arena *arena)
{
	struct envelope envelope;
	struct error error = {0};
	struct str plain;
	if (envelope_read(text, arena, &envelope, &error) != DB_OK) {
		check(error.text[0] != '\0');
		return;
	}
	check(envelope.ciphertext.len > 0 && envelope.sender_b64.len == WIRE_KEY_B64_LEN);
	(void)opens(envelope.ciphertext, arena, &plain);
}

static void sealed_and_changed(const uint8_t *data, size_t size, struct arena *arena)
{
	struct str text = {(const char *)data + 3, size - 3}, plain;
	struct buf out;
	buf_init(&out, 1u << 24);
	check(envelope_seal(&shared, (int64_t)data[0] << 32, text, &out) == DB_OK);
	check(opens(buf_str(&out), arena, &plain) && str_eq(plain, text));
	size_t at = ((size_t)data[1] << 8 | data[2]) % out.len;
	char before = out.at[at];
	out.at[at] = before == 'A' ? 'B' : 'A';
	if (before != '=')
		check(!opens(buf_str(&out), arena, &plain));
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);
	check(arena != NULL);
	if (size > 4 && data[0] != 0)
		sealed_and_changed(data + 1, size - 1, arena);
	else if (size > 0)
		any_text((struct str){(const char *)data + 1, size - 1}, arena);
	arena_free(arena);
	return 0;
}
