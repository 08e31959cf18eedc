/* State shared by the streamed and the whole form of an answer; not for anyone else. */
#ifndef API_CHAT_ANSWER_H
#define API_CHAT_ANSWER_H

#include "api/dialect.h"

#define CHAT_MAX_TOOL_CALLS 128

/* One call put together from its deltas. */
struct chat_tool_call {
	int64_t index;
	struct buf id, type, name, arguments;
};

/* One of the answers to a request. */
struct chat_choice {
	bool saw_tool_calls;    /* for the finish reason */
	struct buf held_finish; /* streaming: JSON of the last frame that ends it; whole: its reason */
	/* whole answers only */
	struct buf content, reasoning, refusal, logprobs;
	struct chat_tool_call *calls[CHAT_MAX_TOOL_CALLS];
	size_t call_count;
};

struct chat_answer {
	struct dialect_answer base;
	struct arena *arena;
	struct chat_answer_options options;
	struct str fallback_id; /* "chatcmpl-<job>" */

	bool seen_frame; /* something of the provider's was taken */
	size_t reasoning_bytes;
	bool has_usage;
	struct chat_usage usage;
	struct buf held_usage; /* JSON of the last usage frame */
	struct chat_choice *choices;
	uint32_t choice_count; /* as many as were asked for: what a provider says of others is dropped */

	/* head of the first frame, for frames we make ourselves */
	struct buf id;
	int64_t created_s;

	/* whole answers only */
	struct buf whole;       /* JSON of a chat.completion that came in one piece */
	struct buf fingerprint; /* JSON of the last system_fingerprint that was not null */
};

/* What the consumer is told (http-api 2.8). */
struct str chat_answer_reason(const struct chat_answer *answer, const struct chat_choice *choice, struct str given,
                              const struct chat_answer_end *end);
/* Which choice a member of "choices" is about; NULL for one that nobody asked for. */
struct chat_choice *chat_answer_choice(const struct chat_answer *answer, const json_val *choice);
/* se_signature and response_hash, those that are not empty. */
void chat_answer_put_signature(struct json_writer *w, const struct chat_answer_end *end);
/* The JSON texts of a held frame, parsed again in the answer's arena; NULL when none is held. */
json_val *chat_answer_held(struct chat_answer *answer, const struct buf *held);
struct str chat_answer_id(const struct chat_answer *answer);

enum db_err chat_whole_frame(struct chat_answer *answer, const struct chat_frame *frame);
enum db_err chat_whole_finish(struct chat_answer *answer, const struct chat_answer_end *end, struct buf *out);
void chat_whole_free(struct chat_answer *answer);

#endif
