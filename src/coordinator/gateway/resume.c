/* Answers whose provider was lost after content was sent go on at another one from the tokens so far (api/chat_resume.h;
 * decision 0016). Only where that is exact: with several answers, log probabilities or a tool call begun the consumer is told
 * instead. */
#include "coordinator/gateway/call.h"

#include "core/log.h"

#define SEED_MAX     ((UINT64_C(1) << 53) - 1) /* what every JSON reader keeps exactly */
#define MOST_RESUMES 8
#define OPT_OUT      "x-darkbloom-resume"

static bool is_opted_out(const struct call *call)
{
	return str_is(str_trim(http_header_get(call->exchange->http, OPT_OUT)), "off");
}

void resume_begin(struct call *call)
{
	const struct chat_request *request = call->request;
	struct resume *resume = &call->resume;
	buf_init(&resume->tokens, CHAT_RESUME_TOKENS * sizeof(int32_t));
	resume->wanted = request->task == CHAT_TASK_ANSWER && call->answers == 1 && !call->prompts && !request->sampling.logprobs &&
	                 !is_opted_out(call);
	if (!resume->wanted || request->sampling.has_seed)
		return;
	if (json_get(request->root, "seed")) { /* null: a second member of the name would not be read */
		resume->wanted = false;
		return;
	}
	resume->adds_seed = true;
	id_random(&resume->seed, sizeof resume->seed);
	resume->seed &= SEED_MAX;
}

void resume_took(struct call *call, struct str chunk, const struct resume_seen *seen)
{
	struct resume *resume = &call->resume;
	if (!resume->wanted)
		return;
	uint64_t print = 0;
	enum db_err err = chat_resume_read_note(chunk, &print, &resume->tokens);
	bool same = resume->print == 0 || resume->print == print;
	if (!err)
		resume->print = print;
	if (seen->tool_calls || (err ? seen->content || err != DB_E_NOT_FOUND : !same))
		resume_stop(call);
}

void resume_stop(struct call *call)
{
	call->resume.wanted = false;
	buf_free(&call->resume.tokens);
}

bool resume_possible(const struct call *call)
{
	return call->resume.wanted && call->resume.tokens.len > 0 && call->resume.times < MOST_RESUMES;
}

enum db_err resume_write(const struct call *call, struct buf *body)
{
	const struct resume *resume = &call->resume;
	enum db_err err = resume->adds_seed ? chat_body_add_u64(body, "seed", resume->seed) : DB_OK;
	if (err || !call->resuming)
		return err;
	struct chat_resume from = {resume->print, (const int32_t *)(const void *)resume->tokens.at,
	                           resume->tokens.len / sizeof(int32_t)};
	return chat_resume_add(body, &from);
}
