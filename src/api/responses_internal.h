/* Shared by the files of /v1/responses; not for anyone else. */
#ifndef API_RESPONSES_INTERNAL_H
#define API_RESPONSES_INTERNAL_H

#include "api/answer_steps.h"
#include "api/lower.h"
#include "api/responses.h"

#define RESPONSES_MAX_ITEMS 512 /* of one answer */

/* What an answer echoes: chat_request.dialect_state. Values are borrowed from the arena of the request. */
struct responses_request {
	const json_val *root;
	bool store;
	bool logprobs_shown; /* include has message.output_text.logprobs */
};

bool responses_parse(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error);
/* The input, with what came earlier (an array of items, or NULL) and the instructions before it, as a chat `messages` array. */
bool responses_put_messages(struct json_writer *w, const json_val *root, const json_val *earlier, struct api_error *error);
/* tools and tool_choice as the chat API has them; nothing when there are none. */
bool responses_put_tools(struct json_writer *w, const json_val *root, struct api_error *error);

/* --- what an answer consists of --- */

enum responses_item_kind { RESPONSES_REASONING, RESPONSES_MESSAGE, RESPONSES_CALL };

struct responses_item {
	enum responses_item_kind kind;
	uint32_t index; /* output_index */
	bool open, incomplete;
	int64_t tool;                       /* the provider's index of a call */
	bool has_text, has_refusal;         /* parts of a message ... */
	bool refusal_first;                 /* ... and their order */
	struct buf text, refusal, logprobs; /* reasoning, text or arguments; logprobs: elements of the array */
	struct buf name, call_id;
};

struct responses_answer {
	struct dialect_answer base;
	struct arena *arena;
	struct chat_answer_options options;
	const struct responses_request *request;
	struct answer_steps steps;
	struct buf *out; /* where events go while a frame is taken */
	char hex[33];    /* of the job id */
	uint64_t sequence;
	bool begun;
	int64_t completed_s; /* when it ended; 0 = not yet */
	struct responses_item **items;
	uint32_t item_count, item_room;
	struct buf logprobs; /* of the text that comes next */
	size_t object_from;  /* where in `out` the last object began */
	struct buf echo;     /* the members that every snapshot repeats, made once */
};

enum responses_status { RESPONSES_IN_PROGRESS, RESPONSES_COMPLETED, RESPONSES_INCOMPLETE, RESPONSES_FAILED };

struct responses_outcome {
	enum responses_status status;
	const char *why;                   /* of INCOMPLETE */
	const struct api_error *error;     /* of FAILED */
	const struct chat_answer_end *end; /* NULL while in progress and when it failed */
};
/* How an answer ended. */
void responses_outcome(const struct responses_answer *answer, const struct chat_answer_end *end, struct responses_outcome *out);
/* The response object. */
void responses_put_object(struct json_writer *w, struct responses_answer *answer, const struct responses_outcome *outcome);
/* An output item; an open one that was just added has no content yet. */
void responses_put_item(struct json_writer *w, const struct responses_answer *answer, const struct responses_item *item);
/* dialect.record */
enum db_err responses_record(struct dialect_answer *answer, const struct chat_answer_end *end, struct buf *out);
/* A part of a message. */
void responses_put_part(struct json_writer *w, const struct responses_item *item, bool refusal);
/* "rs_<hex>_<index>" and so on, without allocation. */
#define RESPONSES_ID_SIZE 64
void responses_item_id(const struct responses_answer *answer, const struct responses_item *item, char out[RESPONSES_ID_SIZE]);

#endif
