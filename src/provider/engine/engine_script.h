/* The words of the scripted engine. Thread: one at a time. */
#ifndef PROVIDER_ENGINE_SCRIPT_H
#define PROVIDER_ENGINE_SCRIPT_H

#include "core/buf.h"
#include "core/json.h"

struct script_text {
	struct buf bytes;
	struct str *words; /* each with the white space behind it */
	size_t count;
};

enum db_err script_text_set(struct script_text *text, struct str from);
void script_text_free(struct script_text *text);
/* Piece `index` of `pieces`: a group of words when there are fewer pieces than words, else the words over and over. */
struct str script_text_piece(const struct script_text *text, uint64_t pieces, uint64_t index);

/* Words in the contents of a request's messages: what the scripted engine calls prompt tokens. *last is the last text. */
uint64_t script_prompt_words(const json_val *messages, struct str *last);
/* The same of a plain prompt, whose tokens count as they are. */
uint64_t script_plain_words(const json_val *prompt, struct str *last);
/* The answer of a script without text: "echo" and the beginning of the message's SHA-256, in four words. */
enum db_err script_text_digest(struct script_text *text, struct str message);

#endif
