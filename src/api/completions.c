/* /v1/completions: a plain prompt that no template touches, and text_completion objects. The provider gets the prompt as it is,
 * in a body with "endpoint":"/v1/completions" (chat_request.h). */
#include "api/answer_steps.h"
#include "api/lower.h"

#include <stdlib.h>

#define DEFAULT_MAX_TOKENS 16 /* of the public API */
#define MAX_LOGPROBS       5

/* --- the request --- */

struct completions_request {
	const json_val *echoed; /* the prompt or prompts, to stand before the answers to them; NULL = no echo */
	uint32_t each;          /* answers to one prompt */
	bool include_usage;
};

static bool is_empty_text(const json_val *value)
{
	struct str text;
	return json_as_str(value, &text) && text.len == 0;
}

static bool refuse_unsupported(const json_val *root, struct api_error *error)
{
	static const char *const of_chat[] = {"tools", "tool_choice", "response_format", "functions", "modalities", "audio"};
	const json_val *suffix = json_get_some(root, "suffix");
	int64_t best_of = 1, n = 1;
	bool given = false;
	if (suffix && !is_empty_text(suffix))
		return chat_refuse(error, "suffix", "suffix is not supported: no model here fills in the middle.");
	if (!chat_get_int(root, "best_of", 1, CHAT_MAX_CHOICES, &given, &best_of, error) ||
	    !chat_get_int(root, "n", 1, CHAT_MAX_CHOICES, &given, &n, error))
		return false;
	if (best_of > n)
		return chat_refuse(error, "best_of", "best_of is not supported: ask for n answers and choose yourself.");
	for (size_t i = 0; i < sizeof of_chat / sizeof *of_chat; i++)
		if (json_get_some(root, of_chat[i]))
			return chat_refuse(error, of_chat[i], "%s needs a conversation: use /v1/chat/completions.", of_chat[i]);
	return true;
}

/* A text or the ids of its tokens, or an array of prompts; an array of one is that one. */
static const json_val *the_prompt(const json_val *root, struct api_error *error)
{
	const json_val *prompt = json_get_some(root, "prompt"), *first = json_at(prompt, 0);
	if (!prompt && json_get_some(root, "messages"))
		chat_refuse(error, "messages", "/v1/completions takes a prompt: a body with messages belongs to /v1/chat/completions.");
	else if (!prompt)
		chat_refuse(error, "prompt", "prompt is required.");
	bool tokens = json_type(json_at(first, 0)) == JSON_INT;
	bool alone = json_len(prompt) == 1 && (json_type(first) == JSON_STRING || tokens);
	return alone ? first : prompt;
}

static bool parse_echo(const json_val *root, const json_val *prompt, struct completions_request *request,
                       struct api_error *error)
{
	struct json_iter iter = json_iter(json_type(prompt) == JSON_ARRAY ? prompt : NULL);
	bool echo = false, texts = json_type(prompt) == JSON_STRING || json_len(prompt) > 0;
	if (!chat_get_bool(root, "echo", &echo, error))
		return false;
	if (!echo)
		return true;
	if (json_get_some(root, "logprobs"))
		return chat_refuse(error, "echo", "echo together with logprobs is not supported: prompts are not scored.");
	for (json_val *one; (one = json_next(&iter, NULL));)
		texts &= json_type(one) == JSON_STRING;
	request->echoed = prompt;
	return texts || chat_refuse(error, "echo", "echo needs the prompt as text: tokens are not turned back.");
}

static bool put_logprobs(struct json_writer *w, const json_val *root, struct api_error *error)
{
	bool given = false;
	int64_t count = 0;
	if (!chat_get_int(root, "logprobs", 0, MAX_LOGPROBS, &given, &count, error))
		return false;
	if (!given)
		return true;
	json_put_bool(w, "logprobs", true);
	json_put_i64(w, "top_logprobs", count);
	return true;
}

static bool put_body(struct json_writer *w, struct str body, const json_val *root, struct completions_request *request,
                     struct api_error *error)
{
	static const char *const handled[] = {"prompt",   "suffix",   "best_of",      "echo", "logprobs",
	                                      "endpoint", "messages", "top_logprobs", NULL};
	if (!refuse_unsupported(root, error))
		return false;
	const json_val *prompt = the_prompt(root, error);
	if (!prompt || !parse_echo(root, prompt, request, error))
		return false;
	json_begin_object(w);
	json_put_str(w, "endpoint", STR("/v1/completions"));
	lower_copy_others(w, body, handled);
	json_key(w, "prompt");
	json_value(w, prompt);
	if (!put_logprobs(w, root, error))
		return false;
	if (!json_get_some(root, "max_tokens") && !json_get_some(root, "max_completion_tokens"))
		json_put_i64(w, "max_tokens", DEFAULT_MAX_TOKENS);
	json_end_object(w);
	return true;
}

static bool parse(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error)
{
	struct completions_request *request = arena_alloc(arena, sizeof *request);
	json_val *root = lower_body(body, arena, error);
	struct buf lowered;
	struct json_writer w;
	if (!root)
		return false;
	if (!request)
		return lower_no_memory(error);
	buf_init(&lowered, LOWER_MAX_BYTES);
	json_writer_init(&w, &lowered);
	if (!put_body(&w, body, root, request, error)) {
		buf_free(&lowered);
		return false;
	}
	bool ok = lower_parse(&lowered, arena, out, error);
	request->include_usage = out->include_usage;
	request->each = (uint32_t)out->n;
	out->dialect_state = request;
	return ok;
}

/* --- the answer --- */

struct choice {
	bool begun;      /* the echo was said */
	struct buf text; /* whole answers only */
	/* elements of the logprobs' arrays: of the whole answer, or of the text that is said next */
	struct buf tokens, token_logprobs, top_logprobs, offsets;
	uint64_t characters; /* said so far */
	uint64_t logprob_characters;
};

struct completions_answer {
	struct dialect_answer base;
	struct arena *arena;
	struct chat_answer_options options;
	const struct completions_request *request;
	struct answer_steps steps;
	struct str id;
	struct buf *out;
	struct choice choices[ANSWER_MAX_CHOICES];
	uint32_t choice_count; /* as many as were asked for, or more were seen */
};

static struct completions_answer *of(struct dialect_answer *answer)
{
	return (struct completions_answer *)(void *)answer;
}

static void choice_bufs(struct choice *choice, struct buf *bufs[5])
{
	struct buf *const all[5] = {&choice->text, &choice->tokens, &choice->token_logprobs, &choice->top_logprobs,
	                            &choice->offsets};
	memcpy(bufs, all, sizeof all);
}

static void init_choice(struct choice *choice)
{
	struct buf *bufs[5];
	choice_bufs(choice, bufs);
	for (size_t at = 0; at < 5; at++)
		buf_init(bufs[at], CHAT_ANSWER_MAX_BYTES);
}

static struct dialect_answer *answer_new(struct arena *arena, const struct chat_answer_options *options)
{
	struct completions_answer *answer = arena_alloc(arena, sizeof *answer);
	if (!answer)
		return NULL;
	answer->base.dialect = &dialect_completions;
	answer->arena = arena;
	answer->options = *options;
	answer->options.requested_model = arena_str(arena, options->requested_model);
	answer->request = options->request ? options->request->dialect_state : NULL;
	answer->steps.keep_think_tags = true;
	answer->id = str_of(arena_printf(arena, "cmpl-%s", options->job_id));
	answer->choice_count = options->request ? (uint32_t)chat_request_answers(options->request) : 1;
	for (uint32_t i = 0; i < answer->choice_count; i++)
		init_choice(&answer->choices[i]);
	return answer->options.requested_model.at && answer->id.at ? &answer->base : NULL;
}

static void answer_free(struct dialect_answer *base)
{
	struct completions_answer *answer = of(base);
	for (uint32_t i = 0; i < answer->choice_count; i++) {
		struct buf *bufs[5];
		choice_bufs(&answer->choices[i], bufs);
		for (size_t at = 0; at < 5; at++)
			buf_free(bufs[at]);
	}
}

/* --- log probabilities: the chat API's list of objects becomes this API's object of lists --- */

static uint64_t characters(struct str text)
{
	uint64_t count = 0;
	for (size_t i = 0; i < text.len; i++)
		count += ((unsigned char)text.at[i] & 0xc0) != 0x80;
	return count;
}

static void separate(struct buf *list)
{
	if (list->len > 0)
		buf_append_byte(list, ',');
}

static void put_top(struct buf *list, const json_val *item)
{
	struct json_writer w;
	struct json_iter iter = json_iter(json_get(item, "top_logprobs"));
	separate(list);
	json_writer_init(&w, list);
	json_begin_object(&w);
	for (json_val *top; (top = json_next(&iter, NULL));) {
		struct str token;
		double value = 0;
		if (!json_as_str(json_get(top, "token"), &token) || !json_as_double(json_get(top, "logprob"), &value))
			continue;
		json_key_str(&w, token);
		json_double(&w, value);
	}
	json_end_object(&w);
}

static void take_logprob(struct choice *choice, const json_val *item)
{
	struct json_writer w;
	struct str token = STR_NONE;
	double value = 0;
	json_as_str(json_get(item, "token"), &token);
	json_as_double(json_get(item, "logprob"), &value);
	separate(&choice->tokens);
	json_writer_init(&w, &choice->tokens);
	json_str(&w, token);
	separate(&choice->token_logprobs);
	json_writer_init(&w, &choice->token_logprobs);
	json_double(&w, value);
	put_top(&choice->top_logprobs, item);
	separate(&choice->offsets);
	json_writer_init(&w, &choice->offsets);
	json_u64(&w, choice->logprob_characters);
	choice->logprob_characters += characters(token);
}

static void put_logprobs_object(struct json_writer *w, const struct choice *choice)
{
	const struct {
		const char *name;
		const struct buf *list;
	} members[] = {{"tokens", &choice->tokens},
	               {"token_logprobs", &choice->token_logprobs},
	               {"top_logprobs", &choice->top_logprobs},
	               {"text_offset", &choice->offsets}};
	json_key(w, "logprobs");
	if (choice->tokens.len == 0) {
		json_null(w);
		return;
	}
	json_begin_object(w);
	for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
		json_key(w, members[i].name);
		json_begin_array(w);
		json_raw(w, buf_str(members[i].list));
		json_end_array(w);
	}
	json_end_object(w);
}

static void clear_logprobs(struct choice *choice)
{
	buf_clear(&choice->tokens);
	buf_clear(&choice->token_logprobs);
	buf_clear(&choice->top_logprobs);
	buf_clear(&choice->offsets);
}

/* --- writing --- */

static void put_head(struct json_writer *w, const struct completions_answer *answer)
{
	json_put_str(w, "id", answer->id);
	json_put_str(w, "object", STR("text_completion"));
	json_put_i64(w, "created", answer->steps.created_s);
	json_put_str(w, "model", answer->options.requested_model);
}

/* finish_reason: empty for null */
static void put_choice(struct json_writer *w, const struct choice *choice, uint32_t index, struct str text, struct str reason)
{
	json_begin_object(w);
	json_put_str(w, "text", text);
	json_put_i64(w, "index", index);
	put_logprobs_object(w, choice);
	json_key(w, "finish_reason");
	if (reason.len > 0)
		json_str(w, reason);
	else
		json_null(w);
	json_end_object(w);
}

static void put_usage(struct json_writer *w, const struct completions_answer *answer, const struct chat_answer_end *end)
{
	struct chat_usage usage = answer_usage(&answer->steps, end);
	json_key(w, "usage");
	chat_usage_write(w, &usage, NULL);
	if (end->se_signature.len > 0)
		json_put_str(w, "se_signature", end->se_signature);
	if (end->response_hash.len > 0)
		json_put_str(w, "response_hash", end->response_hash);
}

static bool usage_apart(const struct completions_answer *answer)
{
	return answer->request && answer->request->include_usage;
}

/* end: usage goes along; may be NULL. */
static void say(struct completions_answer *answer, uint32_t index, struct str text, struct str reason,
                const struct chat_answer_end *end)
{
	struct choice *choice = &answer->choices[index];
	struct json_writer w;
	buf_append_str(answer->out, STR("data: "));
	json_writer_init(&w, answer->out);
	json_begin_object(&w);
	put_head(&w, answer);
	json_key(&w, "choices");
	json_begin_array(&w);
	put_choice(&w, choice, index, text, reason);
	json_end_array(&w);
	if (end) {
		put_usage(&w, answer, end);
	} else if (usage_apart(answer)) {
		json_key(&w, "usage");
		json_null(&w);
	}
	json_end_object(&w);
	buf_append_str(answer->out, STR("\n\n"));
	clear_logprobs(choice);
}

static enum db_err add_text(struct completions_answer *answer, uint32_t index, struct str text)
{
	if (!answer->options.stream)
		return buf_append_str(&answer->choices[index].text, text);
	say(answer, index, text, STR_NONE, NULL);
	return DB_OK;
}

static struct str echo_of(const struct completions_answer *answer, uint32_t index)
{
	const struct completions_request *request = answer->request;
	struct str text = STR_NONE;
	if (request && request->echoed && !json_as_str(request->echoed, &text))
		json_as_str(json_at(request->echoed, index / request->each), &text);
	return text;
}

static enum db_err begin_choice(struct completions_answer *answer, uint32_t index)
{
	struct choice *choice = &answer->choices[index];
	while (index >= answer->choice_count)
		init_choice(&answer->choices[answer->choice_count++]);
	if (choice->begun)
		return DB_OK;
	choice->begun = true;
	struct str echo = echo_of(answer, index);
	choice->logprob_characters = characters(echo);
	return echo.len > 0 ? add_text(answer, index, echo) : DB_OK;
}

static enum db_err take_step(void *user, const struct answer_step *step)
{
	struct completions_answer *answer = user;
	enum db_err err = begin_choice(answer, step->choice);
	if (err)
		return err;
	switch (step->kind) {
	case ANSWER_REASONING: /* a plain prompt has one stream of text, whatever an engine makes of it */
	case ANSWER_TEXT:
	case ANSWER_REFUSAL:
		return add_text(answer, step->choice, step->text);
	case ANSWER_LOGPROBS: {
		struct json_iter iter = json_iter(json_get(step->logprobs, "content"));
		for (json_val *item; (item = json_next(&iter, NULL));)
			take_logprob(&answer->choices[step->choice], item);
		return answer->choices[step->choice].top_logprobs.failed ? DB_E_LIMIT : DB_OK;
	}
	case ANSWER_TOOL_CALL:
		break;
	}
	return DB_OK;
}

static enum db_err take_frame(struct dialect_answer *base, const struct chat_frame *frame, struct buf *out)
{
	struct completions_answer *answer = of(base);
	answer->out = out;
	enum db_err err = answer_steps_read(&answer->steps, answer->arena, frame, &answer->base, take_step, answer);
	return err ? err : out->failed ? DB_E_LIMIT : DB_OK;
}

static struct str reason_of(const struct completions_answer *answer, uint32_t index, const struct chat_answer_end *end)
{
	const struct answer_choice *choice = answer_steps_choice(&answer->steps, index);
	/* the count is of all choices together: it tells only of a single one whether the limit was reached */
	int64_t max = answer->choice_count == 1 ? answer->options.max_tokens : 0;
	return answer_finish_reason(str_of(choice->finish_reason), false, max, end);
}

static void finish_stream(struct completions_answer *answer, const struct chat_answer_end *end)
{
	for (uint32_t i = 0; i < answer->choice_count; i++) {
		bool last = i + 1 == answer->choice_count && !usage_apart(answer);
		say(answer, i, STR(""), reason_of(answer, i, end), last ? end : NULL);
	}
	if (usage_apart(answer)) {
		struct json_writer w;
		buf_append_str(answer->out, STR("data: "));
		json_writer_init(&w, answer->out);
		json_begin_object(&w);
		put_head(&w, answer);
		json_key(&w, "choices");
		json_raw(&w, STR("[]"));
		put_usage(&w, answer, end);
		json_end_object(&w);
		buf_append_str(answer->out, STR("\n\n"));
	}
	chat_frame_done(answer->out);
}

static void finish_whole(struct completions_answer *answer, const struct chat_answer_end *end)
{
	struct json_writer w;
	json_writer_init(&w, answer->out);
	json_begin_object(&w);
	put_head(&w, answer);
	json_key(&w, "choices");
	json_begin_array(&w);
	for (uint32_t i = 0; i < answer->choice_count; i++)
		put_choice(&w, &answer->choices[i], i, buf_str(&answer->choices[i].text), reason_of(answer, i, end));
	json_end_array(&w);
	put_usage(&w, answer, end);
	json_end_object(&w);
}

static enum db_err finish(struct dialect_answer *base, const struct chat_answer_end *end, struct buf *out)
{
	struct completions_answer *answer = of(base);
	answer->out = out;
	enum db_err err = answer_steps_end(&answer->steps, take_step, answer);
	for (uint32_t i = 0; !err && i < answer->choice_count; i++)
		err = begin_choice(answer, i);
	if (err)
		return err;
	if (answer->options.stream)
		finish_stream(answer, end);
	else
		finish_whole(answer, end);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

static void fail(struct dialect_answer *answer, const struct api_error *error, bool after_content, struct buf *out)
{
	(void)answer;
	chat_stream_fail(error, after_content, out);
}

const struct dialect dialect_completions = {
    .name = "completions",
    .parse = parse,
    .answer_new = answer_new,
    .answer_free = answer_free,
    .frame = take_frame,
    .finish = finish,
    .fail = fail,
    .error_write = api_error_write,
    .keepalive = ": keepalive\n\n",
};
