/* What a model says, one step at a time, and the frames that carry it between provider and coordinator.
 *
 * A provider turns engine output into OpenAI chat.completion.chunk frames ("data: {...}\n\n"), seals each, and the coordinator
 * reads them back, from which every dialect is emitted. Both directions are here so that they cannot drift apart.
 * Pure; thread: any. */
#ifndef API_CHAT_EVENT_H
#define API_CHAT_EVENT_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "core/json.h"

struct chat_usage {
	uint64_t prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens;
};

/* --- provider side: writing frames --- */

struct chat_frame_head {
	const char *id;    /* "chatcmpl-..." */
	int64_t created_s; /* Unix seconds */
	const char *model; /* build id */
};
/* {"delta":{"role":"assistant","content":""}} */
void chat_frame_role(const struct chat_frame_head *head, uint32_t choice, struct buf *out);
/* Any of the parts may be empty. tool_calls is a JSON array text or empty; logprobs a JSON object text or empty. */
void chat_frame_delta(const struct chat_frame_head *head, uint32_t choice, struct str content, struct str reasoning,
                      struct str tool_calls, struct str logprobs, struct buf *out);
/* `stop` is the stop string that ended the answer, as the member stop_reason; empty when none did. */
void chat_frame_finish(const struct chat_frame_head *head, uint32_t choice, const char *finish_reason, struct str stop,
                       struct buf *out);
/* One vector of CHAT_TASK_EMBED: 32-bit little-endian floats in base64, the frame {"object":"embedding","index":...}. */
void chat_frame_embedding(const struct chat_frame_head *head, uint32_t index, struct str vector_base64, struct buf *out);
void chat_frame_usage(const struct chat_frame_head *head, const struct chat_usage *usage, struct buf *out);
void chat_frame_done(struct buf *out); /* data: [DONE] */

/* A usage object in the API's shape; `extra` (may be NULL) is another usage object, whose other members are kept. */
void chat_usage_write(struct json_writer *w, const struct chat_usage *usage, const json_val *extra);

/* --- coordinator side: reading frames --- */

enum chat_frame_kind {
	CHAT_FRAME_PREAMBLE, /* role only: does not commit (http-api 2.6) */
	CHAT_FRAME_CONTENT,  /* any other delta */
	CHAT_FRAME_FINISH,   /* carries a finish_reason (and maybe content) */
	CHAT_FRAME_USAGE,    /* usage without choices */
	CHAT_FRAME_WHOLE,    /* one chat.completion object (older providers, non-streamed) */
	CHAT_FRAME_DONE,
	CHAT_FRAME_EMPTY, /* a comment or keepalive */
	CHAT_FRAME_OTHER, /* JSON that is none of these: forwarded as it is */
};

struct chat_frame {
	enum chat_frame_kind kind;
	json_val *root; /* parsed object, NULL for DONE and EMPTY */
	bool has_usage;
	struct chat_usage usage;
	struct str finish_reason; /* of choice 0; empty when null */
};

/* Reads one opened chunk: "data: {json}" with or without the blank line (the older generation omits it). Several frames in one
 * chunk: call again with *rest until it is empty. Values live in the arena. DB_E_INVALID when it is not JSON. */
enum db_err chat_frame_read(struct str chunk, struct arena *arena, struct chat_frame *out, struct str *rest);

#endif
