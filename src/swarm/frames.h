/* The frames of made-up answers. Their JSON is made once; a chunk only fills in what differs, so that a load generator spends
 * its time on boxes and sockets. Thread: the loop's. */
#ifndef SWARM_FRAMES_H
#define SWARM_FRAMES_H

#include "core/buf.h"

enum swarm_frame {
	SWARM_FRAME_ROLE,
	SWARM_FRAME_DELTA,
	SWARM_FRAME_FINISH,
	SWARM_FRAME_USAGE,
	SWARM_FRAME_DONE,
	SWARM_FRAME_KINDS,
};

#define SWARM_FRAME_PIECES 8

enum swarm_piece { SWARM_PIECE_FIXED, SWARM_PIECE_ID, SWARM_PIECE_MODEL, SWARM_PIECE_TEXT };

/* A part of a frame that stays, or the place of one that differs. */
struct swarm_frame_piece {
	enum swarm_piece kind;
	struct str fixed;
};

struct swarm_frames {
	struct buf texts[SWARM_FRAME_KINDS]; /* what the fixed pieces lie in */
	struct swarm_frame_piece pieces[SWARM_FRAME_KINDS][SWARM_FRAME_PIECES];
	size_t piece_count[SWARM_FRAME_KINDS];
};

/* Every answer reports the same usage. The older generation leaves out the blank line (protocol-and-trust 16). */
enum db_err swarm_frames_init(struct swarm_frames *frames, uint64_t prompt_tokens, uint64_t completion_tokens,
                              bool old_generation);
void swarm_frames_free(struct swarm_frames *frames);
/* Appends one frame. Id, model and text must need no JSON escapes; the text is `number` and `text`, in the delta only. */
void swarm_frame_write(const struct swarm_frames *frames, enum swarm_frame kind, struct str id, struct str model,
                       struct str number, struct str text, struct buf *out);

#endif
