/* Text assembly: bytes of tokens in, whole UTF-8 characters out, cut before the first stop string.
 *
 * Stop strings are found across any borders of the pieces, and nothing of them is ever given out: a tail that could still
 * become one is held back. The first stop string that is complete wins, as if the text came byte by byte, so the result does
 * not depend on how the text was cut. Bytes that are not UTF-8 become U+FFFD. Memory is wiped. Thread: one at a time. */
#ifndef PROVIDER_ENGINE_OUTPUT_H
#define PROVIDER_ENGINE_OUTPUT_H

#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

struct engine_output {
	struct buf pending; /* received, not yet given out */
	struct buf clean;   /* what the last take points to when bytes had to be replaced */
	const struct str *stops;
	size_t stop_count;
	size_t taken;    /* bytes at the start of pending that the last take gave out */
	size_t received; /* bytes of pending that were searched */
	uint64_t given;  /* raw bytes given out in all */
	bool stopped;    /* a stop string was found: later pieces are ignored */
	struct str stop; /* which, borrowed from `stops` */
};

/* `stops` (none empty) are borrowed and must outlive the output. */
void engine_output_init(struct engine_output *output, const struct str *stops, size_t stop_count);
void engine_output_free(struct engine_output *output);

enum db_err engine_output_push(struct engine_output *output, struct str piece);
/* What may be given out now, borrowed until the next call. `final`: no more pieces will come, so a begun stop string is text
 * after all, and a character that was begun is dropped. */
struct str engine_output_take(struct engine_output *output, bool final);

#endif
