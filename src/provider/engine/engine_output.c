#include "provider/engine/engine_output.h"

#include "core/utf8.h"

#define OUTPUT_PENDING_MAX (1u << 20)

void engine_output_init(struct engine_output *output, const struct str *stops, size_t stop_count)
{
	*output = (struct engine_output){.stops = stops, .stop_count = stop_count};
	buf_init(&output->pending, OUTPUT_PENDING_MAX);
	buf_init(&output->clean, 3 * OUTPUT_PENDING_MAX);
}

void engine_output_free(struct engine_output *output)
{
	buf_free(&output->pending);
	buf_free(&output->clean);
}

static void drop_taken(struct engine_output *output)
{
	if (!output->taken)
		return;
	buf_consume(&output->pending, output->taken);
	output->received -= output->taken;
	output->given += output->taken;
	output->taken = 0;
}

/* Looks for the stop string that is complete first; among those that end together the longest. */
static void find_stop(struct engine_output *output)
{
	const char *text = output->pending.at;
	for (size_t end = output->received + 1; end <= output->pending.len; end++) {
		size_t cut = SIZE_MAX;
		for (size_t i = 0; i < output->stop_count; i++) {
			struct str stop = output->stops[i];
			if (stop.len > end || text[end - 1] != stop.at[stop.len - 1])
				continue;
			if (memcmp(text + end - stop.len, stop.at, stop.len) == 0 && end - stop.len < cut) {
				cut = end - stop.len;
				output->stop = stop;
			}
		}
		if (cut != SIZE_MAX) {
			output->pending.len = cut;
			output->stopped = true;
			break;
		}
	}
	output->received = output->pending.len;
}

enum db_err engine_output_push(struct engine_output *output, struct str piece)
{
	if (output->stopped)
		return DB_OK;
	drop_taken(output);
	enum db_err err = buf_append_str(&output->pending, piece);
	if (err)
		return err;
	if (output->stop_count)
		find_stop(output);
	else
		output->received = output->pending.len;
	return DB_OK;
}

/* Bytes at the end of pending that are the beginning of some stop string. */
static size_t begun_stop(const struct engine_output *output)
{
	size_t longest = 0;
	for (size_t i = 0; i < output->stop_count; i++) {
		struct str stop = output->stops[i];
		size_t most = stop.len - 1 < output->pending.len ? stop.len - 1 : output->pending.len;
		for (size_t len = most; len > longest; len--)
			if (memcmp(output->pending.at + output->pending.len - len, stop.at, len) == 0)
				longest = len;
	}
	return longest;
}

/* Replaces what is not UTF-8: one U+FFFD for each longest beginning of a character, or else for each byte. */
static struct str repaired(struct engine_output *output, struct str text)
{
	buf_clear(&output->clean);
	while (text.len) {
		size_t len = utf8_next(text);
		if (len) {
			buf_append(&output->clean, text.at, len);
		} else {
			len = 1;
			for (size_t begun = 2; begun <= 3 && begun <= text.len; begun++)
				if (utf8_incomplete_tail(str_sub(text, 0, begun)) == begun)
					len = begun;
			buf_append_c(&output->clean, "\xef\xbf\xbd");
		}
		text = str_sub(text, len, text.len);
	}
	return buf_str(&output->clean);
}

struct str engine_output_take(struct engine_output *output, bool final)
{
	drop_taken(output);
	struct str text = buf_str(&output->pending);
	if (!final && !output->stopped)
		text.len -= begun_stop(output);
	text.len -= utf8_incomplete_tail(text);
	output->taken = text.len;
	return text.len == 0 || utf8_valid(text) ? text : repaired(output, text);
}
