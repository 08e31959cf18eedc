/* A consumer dialect: a pair of pure functions over one internal request and one stream of frames (design 5). In: the body of
 * one API becomes a struct chat_request. Out: a provider's frames become that API's answer, streamed or whole. The gateway
 * (admission, money, routing, failover, queue, headers, keepalive) knows a dialect only through this header.
 *
 * parse lowers its body to the body of /v1/chat/completions, writes that into the arena and gives it to chat_request_parse, so
 * that one set of checks holds for all and chat_request_forward works unchanged: out->body is the lowered text. What the answer
 * has to echo goes into out->dialect_state, in the same arena. `param` of an error is the name the member has in the dialect.
 *
 * An answer takes the frames of one attempt; another attempt gets a new answer. `frame` appends the SSE bytes to forward now
 * when the answer is streamed (maybe none: the end of an answer is held back for `finish`), and nothing when it is whole. Every
 * event ends with a blank line, as the relay cuts between events. Nothing of a frame may be kept by reference: its memory goes
 * right afterwards. The request, its dialect_state and the arena live as long as the answer.
 *
 * To add a dialect: one `const struct dialect`, one line in the route table. answer_steps.h reads frames for it. Pure; thread:
 * any. */
#ifndef API_DIALECT_H
#define API_DIALECT_H

#include "api/chat_request.h"
#include "api/chat_response.h"

struct dialect {
	enum chat_task task; /* of every request it parses */
	const char *name;    /* for logs and metrics, e.g. "chat" */
	/* False with *error (status 400 as a rule) when the body is refused. */
	bool (*parse)(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error);
	/* An answer begins with a struct dialect_answer. NULL when out of memory. Texts of the options are borrowed until it
	 * returns. */
	struct dialect_answer *(*answer_new)(struct arena *arena, const struct chat_answer_options *options);
	void (*answer_free)(struct dialect_answer *answer); /* wipes; before the arena goes */
	/* DB_E_LIMIT when the answer outgrows its bound. */
	enum db_err (*frame)(struct dialect_answer *answer, const struct chat_frame *frame, struct buf *out);
	/* Streaming: what was held and the closing events. Whole: the JSON object. */
	enum db_err (*finish)(struct dialect_answer *answer, const struct chat_answer_end *end, struct buf *out);
	/* A stream that was begun cannot go on. after_content: frames of `answer` went out before. Otherwise at most keepalives
	 * did, and `answer` is NULL. */
	void (*fail)(struct dialect_answer *answer, const struct api_error *error, bool after_content, struct buf *out);
	/* After finish: appends what the caller asked to be kept of this answer, nothing when it did not ask. NULL: never any. */
	enum db_err (*record)(struct dialect_answer *answer, const struct chat_answer_end *end, struct buf *out);
	/* The body of an answer with an error status. */
	void (*error_write)(const struct api_error *error, struct buf *out);
	const char *key_header;        /* in which a key may come instead of Authorization: Bearer; NULL = none */
	const char *request_id_header; /* in which answers name the request besides X-Request-ID; NULL = none */
	const char *keepalive;         /* one event or comment, blank line included, that may stand before everything else */
};

/* parse is given a chat_request whose dialect_input is set and everything else zero: what that points to is a matter between
 * the dialect and whoever calls its route (responses.h). */

/* What every answer begins with. */
struct dialect_answer {
	const struct dialect *dialect;
	/* Bytes of content, reasoning and tool calls so far, and frames that carried any: bounds for a provider's usage claim. The
	 * dialect counts them in `frame`; answer_steps_read does it. */
	size_t text_bytes;
	uint64_t chunks;
};

static inline void dialect_answer_free(struct dialect_answer *answer)
{
	if (answer)
		answer->dialect->answer_free(answer);
}

extern const struct dialect dialect_chat;            /* /v1/chat/completions */
extern const struct dialect dialect_responses;       /* /v1/responses */
extern const struct dialect dialect_completions;     /* /v1/completions */
extern const struct dialect dialect_anthropic;       /* /v1/messages */
extern const struct dialect dialect_anthropic_count; /* /v1/messages/count_tokens */
extern const struct dialect dialect_embeddings;      /* /v1/embeddings */

#endif
