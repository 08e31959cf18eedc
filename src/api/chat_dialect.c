/* /v1/chat/completions as a dialect: the form the others are lowered to. */
#include "api/chat_answer.h"
#include "api/chat_internal.h"

/* The dialect follows the path, not the body (http-api 8.3). */
static bool parse(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error)
{
	if (!chat_request_parse(body, arena, out, error)) {
		bool other = error->param && strcmp(error->param, "messages") == 0 && json_get_some(out->root, "input") &&
		             !json_get_some(out->root, "messages");
		return other ? chat_refuse(error, "input",
		                           "/v1/chat/completions takes messages: a body with input belongs to /v1/responses.")
		             : false;
	}
	if (out->prompt)
		return chat_refuse(error, "prompt",
		                   "/v1/chat/completions takes messages: a body with prompt belongs to /v1/completions.");
	return true;
}

static struct chat_answer *of(struct dialect_answer *answer)
{
	return (struct chat_answer *)(void *)answer;
}

static struct dialect_answer *answer_new(struct arena *arena, const struct chat_answer_options *options)
{
	struct chat_answer *answer = chat_answer_new(arena, options);
	return answer ? &answer->base : NULL;
}

static void answer_free(struct dialect_answer *answer)
{
	chat_answer_free(of(answer));
}

static enum db_err take_frame(struct dialect_answer *answer, const struct chat_frame *frame, struct buf *out)
{
	return chat_answer_frame(of(answer), frame, out);
}

static enum db_err finish(struct dialect_answer *answer, const struct chat_answer_end *end, struct buf *out)
{
	return chat_answer_finish(of(answer), end, out);
}

static void fail(struct dialect_answer *answer, const struct api_error *error, bool after_content, struct buf *out)
{
	(void)answer;
	chat_stream_fail(error, after_content, out);
}

const struct dialect dialect_chat = {
    .name = "chat",
    .parse = parse,
    .answer_new = answer_new,
    .answer_free = answer_free,
    .frame = take_frame,
    .finish = finish,
    .fail = fail,
    .error_write = api_error_write,
    .keepalive = ": keepalive\n\n",
};
