/* An answer that goes on where another provider's ended (docs/reference/protocol-extensions.md "Continued answers").
 *
 * A provider that was asked to puts a note in front of each frame: the ids of the tokens that were sampled since the last one,
 * and a print of what they depend on (weights, program, prompt, limits). The coordinator keeps them, and when the provider is
 * lost adds them to the body that it seals for another. That one runs the prompt and those tokens, says nothing of them again,
 * and samples on. A note is a comment line, so that whoever does not know it reads the frame alone. Pure; thread: any. */
#ifndef API_CHAT_RESUME_H
#define API_CHAT_RESUME_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "core/json.h"

#define CHAT_RESUME_MEMBER "darkbloom_resume" /* of a sealed body; consumers may not write it */
#define CHAT_RESUME_TOKENS (1u << 17)         /* at most, of one answer */

struct chat_resume {
	uint64_t print;
	const int32_t *tokens; /* >= 0 */
	size_t count;
};

/* Appends the note and its line end. */
void chat_resume_note(const struct chat_resume *note, struct buf *out);
/* Reads the note at the beginning of an opened chunk and appends its ids to `tokens` as int32_t. DB_E_NOT_FOUND when there is
 * none; DB_E_INVALID when it is broken, DB_E_LIMIT when `tokens` is full: nothing is appended then. */
enum db_err chat_resume_read_note(struct str chunk, uint64_t *print, struct buf *tokens);

/* Adds the member to a body, the text of a JSON object. */
enum db_err chat_resume_add(struct buf *body, const struct chat_resume *resume);
/* What a body says; count 0 and no print when it says nothing. The ids live in the arena. DB_E_INVALID. */
enum db_err chat_resume_read(const json_val *body, struct arena *arena, struct chat_resume *out);

/* Adds `"name":number` to a body, the text of a JSON object. */
enum db_err chat_body_add_u64(struct buf *body, const char *name, uint64_t value);

#endif
