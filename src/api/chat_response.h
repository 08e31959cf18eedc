/* Answers of /v1/chat/completions, streamed and whole (http-api 2.7, 2.8), made from a provider's frames. One answer takes the
 * frames of one dispatch attempt; another attempt gets a new answer. Pure; thread: any. */
#ifndef API_CHAT_RESPONSE_H
#define API_CHAT_RESPONSE_H

#include "api/chat_event.h"
#include "api/error.h"

#define CHAT_ANSWER_MAX_BYTES (16u << 20) /* of a whole answer's text, and of a held frame */

struct chat_answer;
struct chat_request;

/* What every dialect's answer is made from (dialect.h). */
struct chat_answer_options {
	const char *job_id;         /* for the id when the provider gave none */
	struct str requested_model; /* what the consumer called it */
	bool stream;
	int64_t max_tokens; /* for stop -> length */
	/* What the answer echoes, and how many answers were asked for; outlives it. NULL in the chat dialect: one answer. */
	const struct chat_request *request;
};
/* The options' texts are copied into the arena; other memory is the answer's own: free it. NULL when out of memory. */
struct chat_answer *chat_answer_new(struct arena *arena, const struct chat_answer_options *options);
void chat_answer_free(struct chat_answer *answer); /* wipes; NULL is allowed; before the arena goes */

/* Takes a frame in. Streaming: appends the SSE bytes to forward now (maybe none: finish and usage are held). Whole: collects,
 * appends nothing. DB_E_LIMIT when a whole answer outgrows its bound. */
enum db_err chat_answer_frame(struct chat_answer *answer, const struct chat_frame *frame, struct buf *out);

struct chat_answer_end {
	struct chat_usage usage; /* as it is billed; replaces the counts of a usage frame */
	bool has_usage;
	struct str se_signature, response_hash; /* empty when absent */
};
/* Streaming: held finish chunk, usage chunk, [DONE]. Whole: the chat.completion object. */
enum db_err chat_answer_finish(struct chat_answer *answer, const struct chat_answer_end *end, struct buf *out);
/* One error event of a stream that was begun. Behind keepalives alone: the standard error object, then [DONE]. After content:
 * message and type only, and no [DONE] (http-api 2.7 "Prefill keepalive", "Post-commit failure"). */
void chat_stream_fail(const struct api_error *error, bool after_content, struct buf *out);
/* Usage of the frames so far, false when there was none. */
bool chat_answer_usage(const struct chat_answer *answer, struct chat_usage *usage);

#endif
