/* Answers of /v1/chat/completions, streamed and whole (http-api 2.7, 2.8), made from a provider's frames. Pure; thread: any. */
#ifndef API_CHAT_RESPONSE_H
#define API_CHAT_RESPONSE_H

#include "api/chat_event.h"
#include "api/error.h"

struct chat_answer; /* state of one answer; lives in the arena it was made in */

struct chat_answer_options {
	const char *job_id;         /* for the id when the provider gave none */
	struct str requested_model; /* what the consumer called it */
	bool stream;
	int64_t max_tokens; /* for stop -> length */
};
struct chat_answer *chat_answer_new(struct arena *arena, const struct chat_answer_options *options);

/* Takes a frame in. Streaming: appends the SSE bytes to forward now (maybe none: finish and usage are held). Whole: collects,
 * appends nothing. DB_E_LIMIT when a whole answer outgrows its bound. */
enum db_err chat_answer_frame(struct chat_answer *answer, const struct chat_frame *frame, struct buf *out);

struct chat_answer_end {
	struct chat_usage usage; /* as the provider's terminal message counts */
	bool has_usage;
	struct str se_signature, response_hash; /* empty when absent */
};
/* Streaming: held finish chunk, usage chunk, [DONE]. Whole: the chat.completion object. */
enum db_err chat_answer_finish(struct chat_answer *answer, const struct chat_answer_end *end, struct buf *out);
/* After the first byte: one error event, no [DONE] (http-api 2.7 "Post-commit failure"). */
void chat_answer_fail(struct chat_answer *answer, const struct api_error *error, struct buf *out);
/* Bytes of content and reasoning seen so far, and content frames: a floor for usage when the provider gives none. */
size_t chat_answer_text_bytes(const struct chat_answer *answer);
uint64_t chat_answer_chunks(const struct chat_answer *answer);

#endif
