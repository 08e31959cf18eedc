/* Tool calls that a model writes in another family's form than the one its template teaches (inference 7): both dialects inside
 * <tool_call> by the first character, <|python_tag|>{...}, and the calls of older Gemma. They are taken out of the answer
 * before the family's own reader sees it. What looks like a call and is none stays text, to the letter: nothing is lost.
 * Markers inside of reasoning are no calls, nor those behind the family's own opening. Pure; thread: one at a time. */
#ifndef PROVIDER_CHAT_FOREIGN_CALLS_H
#define PROVIDER_CHAT_FOREIGN_CALLS_H

#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

#include <stdbool.h>

enum chat_foreign_mark {
	CHAT_FOREIGN_JSON_IN_TAGS = 1,  /* <tool_call>{"name":...,"arguments":{...}}</tool_call> */
	CHAT_FOREIGN_XML_IN_TAGS = 2,   /* <tool_call><function=f><parameter=k>v</parameter></function></tool_call> */
	CHAT_FOREIGN_PYTHON_TAG = 4,    /* <|python_tag|>{"name":...,"parameters":{...}}; {...} */
	CHAT_FOREIGN_FUNCTION_CALL = 8, /* <start_function_call>call:f{k:<escape>v<escape>,n:1}<end_function_call> */
};

struct chat_foreign_options {
	unsigned marks;              /* which of the forms are foreign to the family */
	const char *const *own;      /* openings of the family's own calls, NULL-terminated: from there on nothing is taken */
	const char *think, *thought; /* the marks around reasoning; "" = there is none */
	bool thinks;                 /* the prompt opened the block */
	bool one;                    /* at most one call may be made */
	const char *tools_json;      /* in OpenAI's form; calls of other names are text */
};

struct chat_foreign;
/* NULL: out of memory, or tools that are not JSON. The options are copied. */
struct chat_foreign *chat_foreign_new(const struct chat_foreign_options *options);
void chat_foreign_free(struct chat_foreign *foreign); /* wipes */

/* Takes text in and appends to `rest` what the family's reader is to see. Complete calls go to on_call: `arguments` is a JSON
 * object. `final`: no more text will come. DB_E_NOMEM otherwise. */
enum db_err chat_foreign_feed(struct chat_foreign *foreign, struct str text, bool final, struct buf *rest,
                              void (*on_call)(void *user, struct str name, struct str arguments), void *user);

#endif
