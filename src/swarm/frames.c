#include "swarm/frames.h"

#include "api/chat_event.h"

#define FRAME_MAX  4096
#define CREATED_S  1767225600
#define MARK_ID    "<id>"
#define MARK_MODEL "<model>"
#define MARK_TEXT  "<text>"

static const struct {
	enum swarm_piece kind;
	struct str text;
} marks[] = {{SWARM_PIECE_ID, {MARK_ID, sizeof MARK_ID - 1}},
             {SWARM_PIECE_MODEL, {MARK_MODEL, sizeof MARK_MODEL - 1}},
             {SWARM_PIECE_TEXT, {MARK_TEXT, sizeof MARK_TEXT - 1}}};

static void make(enum swarm_frame kind, const struct chat_usage *usage, struct buf *out)
{
	const struct chat_frame_head head = {MARK_ID, CREATED_S, MARK_MODEL};
	switch (kind) {
	case SWARM_FRAME_ROLE:
		chat_frame_role(&head, 0, out);
		break;
	case SWARM_FRAME_DELTA:
		chat_frame_delta(&head, 0, STR(MARK_TEXT), STR_NONE, STR_NONE, STR_NONE, out);
		break;
	case SWARM_FRAME_FINISH:
		chat_frame_finish(&head, 0, "stop", STR_NONE, out);
		break;
	case SWARM_FRAME_USAGE:
		chat_frame_usage(&head, usage, out);
		break;
	case SWARM_FRAME_DONE:
	case SWARM_FRAME_KINDS:
		chat_frame_done(out);
		break;
	}
}

/* The mark that stands at the beginning: its kind and length. */
static enum swarm_piece mark_at(struct str text, size_t *len)
{
	for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
		*len = marks[i].text.len;
		if (str_starts(text, marks[i].text))
			return marks[i].kind;
	}
	*len = 0;
	return SWARM_PIECE_FIXED;
}

static size_t to_next_mark(struct str text)
{
	size_t at = 0, len;
	while (at < text.len && mark_at(str_sub(text, at, text.len), &len) == SWARM_PIECE_FIXED)
		at++;
	return at;
}

static enum db_err cut(struct str text, struct swarm_frame_piece pieces[SWARM_FRAME_PIECES], size_t *count)
{
	for (*count = 0; text.len; ++*count) {
		if (*count == SWARM_FRAME_PIECES)
			return DB_E_LIMIT;
		size_t len;
		enum swarm_piece kind = mark_at(text, &len);
		if (kind == SWARM_PIECE_FIXED)
			len = to_next_mark(text);
		pieces[*count] = (struct swarm_frame_piece){kind, str_sub(text, 0, len)};
		text = str_sub(text, len, text.len);
	}
	return DB_OK;
}

enum db_err swarm_frames_init(struct swarm_frames *frames, uint64_t prompt_tokens, uint64_t completion_tokens,
                              bool old_generation)
{
	const struct chat_usage usage = {.prompt_tokens = prompt_tokens, .completion_tokens = completion_tokens};
	enum db_err err = DB_OK;
	for (size_t kind = 0; kind < SWARM_FRAME_KINDS; kind++)
		buf_init(&frames->texts[kind], FRAME_MAX);
	for (size_t kind = 0; kind < SWARM_FRAME_KINDS && !err; kind++) {
		make((enum swarm_frame)kind, &usage, &frames->texts[kind]);
		struct str text = buf_str(&frames->texts[kind]);
		while (old_generation && str_ends(text, STR("\n")))
			text.len--;
		err = frames->texts[kind].failed ? DB_E_NOMEM : cut(text, frames->pieces[kind], &frames->piece_count[kind]);
	}
	return err;
}

void swarm_frames_free(struct swarm_frames *frames)
{
	for (size_t kind = 0; kind < SWARM_FRAME_KINDS; kind++)
		buf_free(&frames->texts[kind]);
}

void swarm_frame_write(const struct swarm_frames *frames, enum swarm_frame kind, struct str id, struct str model,
                       struct str number, struct str text, struct buf *out)
{
	for (size_t i = 0; i < frames->piece_count[kind]; i++) {
		const struct swarm_frame_piece *piece = &frames->pieces[kind][i];
		switch (piece->kind) {
		case SWARM_PIECE_FIXED:
			buf_append_str(out, piece->fixed);
			break;
		case SWARM_PIECE_ID:
			buf_append_str(out, id);
			break;
		case SWARM_PIECE_MODEL:
			buf_append_str(out, model);
			break;
		case SWARM_PIECE_TEXT:
			buf_append_str(out, number);
			buf_append_str(out, text);
			break;
		}
	}
}
