/* What a model says, read from a provider's frames one step at a time: reasoning, text, refusal, tool calls, the end. Dialects
 * whose events are not chat chunks are emitted from these, so that none of them parses deltas by itself.
 *
 * Either provider generation, whole chat.completion objects in place of a stream, both spellings of reasoning, missing indexes
 * of tool calls, and <think> blocks that an engine left in its text (http-api 2.8, 8.31) all give the same steps. Text comes
 * in whole UTF-8 characters as the provider cut it. Pure; thread: any. */
#ifndef API_ANSWER_STEPS_H
#define API_ANSWER_STEPS_H

#include "api/dialect.h"

#define ANSWER_MAX_CHOICES 128

enum answer_step_kind {
	ANSWER_REASONING,
	ANSWER_TEXT,
	ANSWER_REFUSAL,
	ANSWER_TOOL_CALL, /* a piece of one call: id and name with the first, arguments in pieces */
	ANSWER_LOGPROBS,  /* of the text that follows */
};

/* Borrowed until the callback returns. */
struct answer_step {
	enum answer_step_kind kind;
	uint32_t choice;
	struct str text;          /* reasoning, text, refusal; of a tool call its piece of the arguments, maybe empty */
	int64_t tool;             /* which call of this choice: the provider's index */
	struct str tool_id;       /* empty when this piece does not say it */
	struct str tool_name;     /* likewise */
	const json_val *logprobs; /* ANSWER_LOGPROBS: the chat API's object {"content":[...]} */
	const json_val *frame;    /* the whole frame, for what the dialect wants besides */
};
/* DB_OK, or an error that ends the reading (DB_E_LIMIT). */
typedef enum db_err answer_step_fn(void *user, const struct answer_step *step);

/* Where choice's text stands towards a think block. */
enum answer_thinking { ANSWER_THINK_UNKNOWN, ANSWER_THINK_INSIDE, ANSWER_THINK_AFTER, ANSWER_THINK_NONE };

struct answer_choice {
	enum answer_thinking thinking;
	char held[16]; /* text that may be part of a tag */
	uint8_t held_len;
	bool saw_tool_calls;
	char finish_reason[32]; /* as the provider said it; "" when it did not */
};

/* Zeroed is ready. Owner: the dialect's answer; nothing to free but `choices`, which is the arena's. */
struct answer_steps {
	struct answer_choice first;   /* choice 0 */
	struct answer_choice *others; /* 1 to ANSWER_MAX_CHOICES - 1, in the arena; NULL until one spoke */
	bool keep_think_tags;         /* set before the first frame: text is text, also when it looks like a think block */
	bool has_head;
	char id[128];      /* of the first frame; "" when it has none */
	int64_t created_s; /* likewise; now when it has none */
	bool has_usage;
	struct chat_usage usage;
};

/* Takes id, time and usage alone, for a dialect that says them before the first step; reading does it too. */
void answer_steps_head(struct answer_steps *steps, const struct chat_frame *frame);
/* Calls `step` for everything the frame says; counts into *counted. The arena may be the answer's. */
enum db_err answer_steps_read(struct answer_steps *steps, struct arena *arena, const struct chat_frame *frame,
                              struct dialect_answer *counted, answer_step_fn *step, void *user);
/* The last frame was read: hands out what was held because it looked like the beginning of a tag. */
enum db_err answer_steps_end(struct answer_steps *steps, answer_step_fn *step, void *user);
const struct answer_choice *answer_steps_choice(const struct answer_steps *steps, uint32_t choice); /* never NULL */

/* What the consumer is told (http-api 2.8): the provider's reason unless it is empty or "stop"; then "length" when the limit
 * was reached, "tool_calls" when there were any, else "stop". */
struct str answer_finish_reason(struct str given, bool saw_tool_calls, int64_t max_tokens, const struct chat_answer_end *end);
/* Usage to show: as billed, else the provider's. */
struct chat_usage answer_usage(const struct answer_steps *steps, const struct chat_answer_end *end);

#endif
