/* The text assembler: whatever the cuts, the result equals a byte-by-byte model, is UTF-8, and holds no stop string.
 * Input: one byte with the number of stop strings (0..3), then for each a length byte (1..8) and its bytes, then text whose
 * pieces are cut by a running hash of the bytes. */
#include <stdlib.h>

#include "core/utf8.h"
#include "provider/engine/engine_output.h"

#define MAX_STOPS 3
#define MAX_TEXT  ((size_t)4096)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

/* Where the first stop string that is complete begins, or the length of the text. */
static size_t cut_of(struct str text, const struct str *stops, size_t count, bool *stopped)
{
	*stopped = false;
	for (size_t end = 1; end <= text.len; end++) {
		size_t cut = SIZE_MAX;
		for (size_t i = 0; i < count; i++)
			if (stops[i].len <= end && memcmp(text.at + end - stops[i].len, stops[i].at, stops[i].len) == 0 &&
			    end - stops[i].len < cut)
				cut = end - stops[i].len;
		if (cut != SIZE_MAX) {
			*stopped = true;
			return cut;
		}
	}
	return text.len;
}

static void assemble(struct str text, const struct str *stops, size_t count, unsigned cut_mask, struct buf *out, bool *stopped)
{
	struct engine_output output;
	engine_output_init(&output, stops, count);
	size_t from = 0;
	unsigned hash = cut_mask;
	for (size_t i = 0; i < text.len; i++) {
		hash = hash * 31 + (unsigned char)text.at[i];
		if (i + 1 < text.len && (hash >> 8 & cut_mask))
			continue;
		must(engine_output_push(&output, str_sub(text, from, i + 1 - from)) == DB_OK);
		from = i + 1;
		struct str given = engine_output_take(&output, false);
		must(utf8_valid(given));
		buf_append_str(out, given);
	}
	struct str rest = engine_output_take(&output, true);
	must(utf8_valid(rest));
	buf_append_str(out, rest);
	*stopped = output.stopped;
	engine_output_free(&output);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str input = {(const char *)data, size}, stops[MAX_STOPS];
	if (!input.len)
		return 0;
	size_t wanted = (unsigned char)input.at[0] % (MAX_STOPS + 1), count = 0;
	input = str_sub(input, 1, input.len);
	while (count < wanted && input.len > 1) {
		size_t len = (unsigned char)input.at[0] % 8 + 1;
		struct str stop = str_sub(input, 1, len);
		if (utf8_valid(stop))
			stops[count++] = stop;
		else
			wanted--;
		input = str_sub(input, 1 + stop.len, input.len);
	}
	struct str text = str_sub(input, 0, MAX_TEXT);

	struct buf whole, pieces;
	bool whole_stopped, stopped, model_stopped;
	buf_init(&whole, 4 * MAX_TEXT);
	buf_init(&pieces, 4 * MAX_TEXT);
	assemble(text, stops, count, 0, &whole, &whole_stopped); /* byte by byte */
	static const unsigned masks[] = {1, 3, 0xff};
	for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
		buf_clear(&pieces);
		assemble(text, stops, count, masks[i], &pieces, &stopped);
		must(stopped == whole_stopped);
		must(str_eq(buf_str(&pieces), buf_str(&whole)));
	}
	size_t cut = cut_of(text, stops, count, &model_stopped);
	must(model_stopped == whole_stopped);
	struct str expected = str_sub(text, 0, cut);
	if (utf8_valid(expected))
		must(str_eq(buf_str(&whole), expected));
	buf_free(&whole);
	buf_free(&pieces);
	return 0;
}
