/* POST /v1/messages/count_tokens: the provider renders the conversation and counts, nothing is generated. And the errors of
 * this API, which both routes share. */
#include "api/anthropic.h"

#include "api/answer_steps.h"

struct count_answer {
	struct dialect_answer base;
	struct arena *arena;
	struct answer_steps steps;
};

static struct dialect_answer *answer_new(struct arena *arena, const struct chat_answer_options *options)
{
	struct count_answer *answer = arena_alloc(arena, sizeof *answer);
	(void)options;
	if (!answer)
		return NULL;
	answer->base.dialect = &dialect_anthropic_count;
	answer->arena = arena;
	return &answer->base;
}

static void answer_free(struct dialect_answer *answer)
{
	(void)answer;
}

static enum db_err ignore(void *user, const struct answer_step *step)
{
	(void)user;
	(void)step;
	return DB_OK;
}

static enum db_err take_frame(struct dialect_answer *base, const struct chat_frame *frame, struct buf *out)
{
	struct count_answer *answer = (struct count_answer *)(void *)base;
	(void)out;
	return answer_steps_read(&answer->steps, answer->arena, frame, base, ignore, NULL);
}

static enum db_err finish(struct dialect_answer *base, const struct chat_answer_end *end, struct buf *out)
{
	const struct count_answer *answer = (const struct count_answer *)(const void *)base;
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_i64(&w, "input_tokens", (int64_t)answer_usage(&answer->steps, end).prompt_tokens);
	json_end_object(&w);
	buf_append_byte(out, '\n');
	return out->failed ? DB_E_LIMIT : DB_OK;
}

/* --- errors --- */

static const char *error_type(const struct api_error *error)
{
	switch (error->status) {
	case 401:
		return "authentication_error";
	case 402:
		return "billing_error";
	case 403:
		return "permission_error";
	case 404:
		return "not_found_error";
	case 409:
		return "conflict_error";
	case 413:
		return "request_too_large";
	case 429:
		return "rate_limit_error";
	case 503:
	case 529:
		return "overloaded_error";
	case 408:
	case 504:
		return "timeout_error";
	default:
		if (strcmp(error->type, "timeout") == 0)
			return "timeout_error";
		return error->status >= 400 && error->status < 500 ? "invalid_request_error" : "api_error";
	}
}

void anthropic_put_error(struct json_writer *w, const struct api_error *error)
{
	json_key(w, "error");
	json_begin_object(w);
	json_put_cstr(w, "type", error_type(error));
	json_put_cstr(w, "message", error->message);
	json_end_object(w);
	json_put_cstr(w, "request_id", error->request_id);
}

void anthropic_error_write(const struct api_error *error, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_str(&w, "type", STR("error"));
	anthropic_put_error(&w, error);
	json_end_object(&w);
	buf_append_byte(out, '\n');
}

static void fail(struct dialect_answer *answer, const struct api_error *error, bool after_content, struct buf *out)
{
	(void)answer;
	(void)after_content;
	anthropic_error_write(error, out);
}

const struct dialect dialect_anthropic_count = {
    .task = CHAT_TASK_COUNT,
    .name = "anthropic_count",
    .parse = anthropic_parse_count,
    .answer_new = answer_new,
    .answer_free = answer_free,
    .frame = take_frame,
    .finish = finish,
    .fail = fail,
    .error_write = anthropic_error_write,
    .key_header = "x-api-key",
    .request_id_header = "request-id",
    .keepalive = "",
};
