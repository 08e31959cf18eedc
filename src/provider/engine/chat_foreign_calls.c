#include "provider/engine/chat_foreign_calls.h"

#include "core/arena.h"
#include "provider/engine/chat_foreign_read.h"

#include <stdlib.h>

#define HELD_MAX ((size_t)64 << 10) /* a longer call is text */
#define MARKS    32

#define OPEN_TAG      "<tool_call>"
#define CLOSE_TAG     "</tool_call>"
#define PYTHON_TAG    "<|python_tag|>"
#define OPEN_FUNCTION "<start_function_call>"
#define END_FUNCTION  "<end_function_call>"

enum mode { MODE_TEXT, MODE_THOUGHT, MODE_TAG, MODE_CALL, MODE_OFF };
enum meaning { MEANS_TAG, MEANS_PYTHON, MEANS_FUNCTION, MEANS_THINK, MEANS_OWN };

struct mark {
	struct str word;
	enum meaning means;
};

struct chat_foreign {
	struct arena *arena;
	struct json_doc *tools;
	struct mark marks[MARKS];
	size_t mark_count;
	struct str thought;
	unsigned accepted;
	bool one;

	enum mode mode;
	enum chat_foreign_mark form; /* of MODE_CALL */
	struct buf held;             /* not yet decided; in MODE_TAG and MODE_CALL it begins with the opening */
	size_t opening;              /* bytes of it */
	size_t searched;             /* bytes of `held` in which there is no end of the call */
	bool called, begun;          /* a call was taken; something but white space was passed on */
};

static void add_mark(struct chat_foreign *foreign, const char *word, enum meaning means)
{
	struct str copy = arena_str(foreign->arena, str_of(word));
	for (size_t i = 0; i < foreign->mark_count; i++)
		if (str_eq(foreign->marks[i].word, copy))
			return;
	if (copy.len && foreign->mark_count < MARKS)
		foreign->marks[foreign->mark_count++] = (struct mark){copy, means};
}

struct chat_foreign *chat_foreign_new(const struct chat_foreign_options *options)
{
	struct chat_foreign *foreign = calloc(1, sizeof *foreign);
	if (!foreign)
		return NULL;
	buf_init(&foreign->held, 2 * HELD_MAX + ((size_t)1 << 20));
	foreign->arena = arena_new(0);
	foreign->tools = foreign->arena ? json_parse(str_of(options->tools_json), NULL, NULL) : NULL;
	if (!foreign->tools) {
		chat_foreign_free(foreign);
		return NULL;
	}
	foreign->accepted = options->marks;
	foreign->one = options->one;
	foreign->thought = arena_str(foreign->arena, str_of(options->thought));
	foreign->mode = options->thinks && foreign->thought.len ? MODE_THOUGHT : MODE_TEXT;
	if (options->marks & (CHAT_FOREIGN_JSON_IN_TAGS | CHAT_FOREIGN_XML_IN_TAGS))
		add_mark(foreign, OPEN_TAG, MEANS_TAG);
	if (options->marks & CHAT_FOREIGN_PYTHON_TAG)
		add_mark(foreign, PYTHON_TAG, MEANS_PYTHON);
	if (options->marks & CHAT_FOREIGN_FUNCTION_CALL)
		add_mark(foreign, OPEN_FUNCTION, MEANS_FUNCTION);
	if (foreign->thought.len)
		add_mark(foreign, options->think, MEANS_THINK);
	for (const char *const *own = options->own; *own; own++)
		add_mark(foreign, *own, MEANS_OWN);
	return foreign;
}

void chat_foreign_free(struct chat_foreign *foreign)
{
	if (!foreign)
		return;
	buf_free(&foreign->held);
	json_free(foreign->tools);
	arena_free(foreign->arena);
	free(foreign);
}

struct feeding {
	struct buf *rest;
	bool final;
	void (*on_call)(void *user, struct str name, struct str arguments);
	void *user;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static size_t blanks(struct str text)
{
	size_t count = 0;
	while (count < text.len && is_blank(text.at[count]))
		count++;
	return count;
}

static void pass(struct chat_foreign *foreign, size_t count, const struct feeding *feeding)
{
	struct str text = str_sub(buf_str(&foreign->held), 0, count);
	foreign->begun = foreign->begun || blanks(text) < text.len;
	buf_append_str(feeding->rest, text);
	buf_consume(&foreign->held, count);
}

/* What stays behind may be the beginning of `word`. */
static size_t begun_word(struct str text, struct str word)
{
	size_t len = word.len - 1 < text.len ? word.len - 1 : text.len;
	while (len && memcmp(text.at + text.len - len, word.at, len) != 0)
		len--;
	return len;
}

/* --- one step of each mode: true when there is more to do --- */

static bool step_thought(struct chat_foreign *foreign, const struct feeding *feeding)
{
	struct str held = buf_str(&foreign->held);
	const char *at = held.len ? memmem(held.at, held.len, foreign->thought.at, foreign->thought.len) : NULL;
	if (at) {
		pass(foreign, (size_t)(at - held.at) + foreign->thought.len, feeding);
		foreign->begun = false;
		foreign->mode = MODE_TEXT;
		return true;
	}
	pass(foreign, held.len - (feeding->final ? 0 : begun_word(held, foreign->thought)), feeding);
	return false;
}

static const struct mark *first_mark(const struct chat_foreign *foreign, struct str held, size_t *where)
{
	const struct mark *first = NULL;
	*where = held.len;
	for (size_t i = 0; held.len && i < foreign->mark_count; i++) {
		const struct mark *mark = &foreign->marks[i];
		const char *at = memmem(held.at, held.len, mark->word.at, mark->word.len);
		size_t place = at ? (size_t)(at - held.at) : SIZE_MAX;
		if (place < *where || (first && place == *where && mark->word.len > first->word.len)) {
			*where = place;
			first = mark;
		}
	}
	return first;
}

static void hold(struct chat_foreign *foreign, enum mode mode, enum chat_foreign_mark form, size_t opening)
{
	foreign->mode = mode;
	foreign->form = form;
	foreign->opening = opening;
	foreign->searched = opening;
}

static void meet(struct chat_foreign *foreign, const struct mark *mark, const struct feeding *feeding)
{
	size_t len = mark->word.len;
	switch (mark->means) {
	case MEANS_TAG:
		hold(foreign, MODE_TAG, CHAT_FOREIGN_JSON_IN_TAGS, len);
		break;
	case MEANS_PYTHON:
		hold(foreign, MODE_CALL, CHAT_FOREIGN_PYTHON_TAG, len);
		break;
	case MEANS_FUNCTION:
		hold(foreign, MODE_CALL, CHAT_FOREIGN_FUNCTION_CALL, len);
		break;
	case MEANS_THINK:
		pass(foreign, len, feeding);
		foreign->mode = MODE_THOUGHT;
		break;
	case MEANS_OWN:
		foreign->mode = MODE_OFF;
		break;
	}
}

/* An answer that is nothing but JSON may be the family's own call: what stands in its strings is no marker. */
static bool is_bare_json(const struct chat_foreign *foreign, struct str held)
{
	size_t skipped = blanks(held);
	return !foreign->begun && !foreign->called && skipped < held.len && (held.at[skipped] == '{' || held.at[skipped] == '[');
}

static bool step_text(struct chat_foreign *foreign, const struct feeding *feeding)
{
	struct str held = buf_str(&foreign->held);
	size_t where, kept = 0;
	if (is_bare_json(foreign, held)) {
		foreign->mode = MODE_OFF;
		return true;
	}
	if (foreign->called && !foreign->begun) { /* white space between calls belongs to nothing */
		buf_consume(&foreign->held, blanks(held));
		held = buf_str(&foreign->held);
		if (foreign->form == CHAT_FOREIGN_PYTHON_TAG && str_starts(held, STR(";"))) { /* the next goes on without a mark */
			hold(foreign, MODE_CALL, CHAT_FOREIGN_PYTHON_TAG, 1);
			return true;
		}
	}
	const struct mark *mark = first_mark(foreign, held, &where);
	if (mark) {
		pass(foreign, where, feeding);
		meet(foreign, mark, feeding);
		return true;
	}
	for (size_t i = 0; !feeding->final && i < foreign->mark_count; i++) {
		size_t begun = begun_word(held, foreign->marks[i].word);
		kept = begun > kept ? begun : kept;
	}
	pass(foreign, held.len - kept, feeding);
	return false;
}

/* Behind <tool_call> the first character tells which dialect it is. */
static bool step_tag(struct chat_foreign *foreign, const struct feeding *feeding)
{
	struct str inside = str_sub(buf_str(&foreign->held), foreign->opening, foreign->held.len);
	size_t skipped = blanks(inside);
	if (skipped == inside.len) {
		if (feeding->final)
			foreign->mode = MODE_OFF;
		return feeding->final;
	}
	enum chat_foreign_mark form = inside.at[skipped] == '{'   ? CHAT_FOREIGN_JSON_IN_TAGS
	                              : inside.at[skipped] == '<' ? CHAT_FOREIGN_XML_IN_TAGS
	                                                          : 0;
	if (form & foreign->accepted)
		hold(foreign, MODE_CALL, form, foreign->opening);
	else
		foreign->mode = MODE_OFF;
	return true;
}

/* Reads the call that the first `end` bytes behind the opening may be. */
static bool take(struct chat_foreign *foreign, size_t end, size_t closing, const struct feeding *feeding)
{
	struct str inside = str_trim(str_sub(buf_str(&foreign->held), foreign->opening, end - foreign->opening));
	struct str name;
	struct buf arguments;
	buf_init(&arguments, 4 * HELD_MAX);
	bool is = chat_foreign_read(foreign->form, inside, json_root(foreign->tools), &name, &arguments);
	if (is) {
		feeding->on_call(feeding->user, name, buf_str(&arguments));
		foreign->called = true;
		foreign->begun = false;
		buf_consume(&foreign->held, end + closing);
		foreign->mode = foreign->one ? MODE_OFF : MODE_TEXT;
	}
	buf_free(&arguments);
	return is;
}

static bool take_closed(struct chat_foreign *foreign, struct str closing, const struct feeding *feeding)
{
	for (;;) {
		struct str held = buf_str(&foreign->held);
		const char *at = memmem(held.at + foreign->searched, held.len - foreign->searched, closing.at, closing.len);
		if (!at) {
			size_t begun = begun_word(str_sub(held, foreign->searched, held.len), closing);
			foreign->searched = held.len - begun;
			return false;
		}
		size_t end = (size_t)(at - held.at);
		if (take(foreign, end, closing.len, feeding))
			return true;
		foreign->searched = end + closing.len;
	}
}

/* Calls behind <|python_tag|> have no end but their own. */
static bool take_json(struct chat_foreign *foreign, const struct feeding *feeding)
{
	struct str inside = str_sub(buf_str(&foreign->held), foreign->opening, foreign->held.len);
	size_t len = chat_foreign_object_len(inside);
	return len && take(foreign, foreign->opening + len, 0, feeding);
}

static bool step_call(struct chat_foreign *foreign, const struct feeding *feeding)
{
	bool gemma = foreign->form == CHAT_FOREIGN_FUNCTION_CALL;
	if (foreign->form == CHAT_FOREIGN_PYTHON_TAG) {
		if (take_json(foreign, feeding))
			return true;
	} else if (take_closed(foreign, gemma ? STR(END_FUNCTION) : STR(CLOSE_TAG), feeding)) {
		return true;
	}
	if (feeding->final && take(foreign, foreign->held.len, 0, feeding)) /* the closing mark may have ended the answer */
		return true;
	if (!feeding->final && foreign->held.len <= HELD_MAX)
		return false;
	foreign->mode = MODE_OFF;
	return true;
}

static bool step(struct chat_foreign *foreign, const struct feeding *feeding)
{
	switch (foreign->mode) {
	case MODE_THOUGHT:
		return step_thought(foreign, feeding);
	case MODE_TEXT:
		return step_text(foreign, feeding);
	case MODE_TAG:
		return step_tag(foreign, feeding);
	case MODE_CALL:
		return step_call(foreign, feeding);
	case MODE_OFF:
		break;
	}
	pass(foreign, foreign->held.len, feeding);
	return false;
}

enum db_err chat_foreign_feed(struct chat_foreign *foreign, struct str text, bool final, struct buf *rest,
                              void (*on_call)(void *user, struct str name, struct str arguments), void *user)
{
	struct feeding feeding = {rest, final, on_call, user};
	enum db_err err = buf_append_str(&foreign->held, text);
	if (err)
		return err;
	while (step(foreign, &feeding))
		;
	return rest->failed ? DB_E_NOMEM : DB_OK;
}
