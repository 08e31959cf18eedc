/* Shared by the files of the Anthropic Messages dialect (POST /v1/messages); not for anyone else. The API itself is documented
 * by its publisher; where this project's models differ from it, docs/consumer/anthropic.md says how. Pure; thread: any. */
#ifndef API_ANTHROPIC_H
#define API_ANTHROPIC_H

#include "api/chat_internal.h"
#include "api/dialect.h"
#include "core/buf.h"

/* What the answer has to know of the request: chat_request.dialect_state. */
struct anthropic_state {
	bool thinking_hidden; /* thinking.display is "omitted": blocks carry a signature and no text */
};

/* Where a lowered body is written to, and what went wrong. */
struct anthropic_lowering {
	struct json_writer w;
	struct buf body;
	struct arena *arena;
	struct api_error *error;
};

/* The dialect's parse: checks the body and gives its lowered form to chat_request_parse. */
bool anthropic_parse(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error);
bool anthropic_parse_count(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error);

/* Writes the value of `messages`: system first, then each message in the shape of the chat API. False with *error. */
bool anthropic_lower_messages(struct anthropic_lowering *to, const json_val *root);
/* Writes the members tools, tool_choice and parallel_tool_calls, those that the request gives. */
bool anthropic_lower_tools(struct anthropic_lowering *to, const json_val *root);

/* {"type":"error",...}, and its members behind `type` for events of a stream. */
void anthropic_error_write(const struct api_error *error, struct buf *out);
void anthropic_put_error(struct json_writer *w, const struct api_error *error);

#endif
