#include "api/answer_steps.h"

#include "core/clock.h"

#define HELD_BLANKS 8 /* white space before a think block; behind more of it none is looked for */

/* What one reading needs. */
struct reading {
	struct answer_steps *steps;
	struct answer_choice *at;
	struct dialect_answer *counted;
	answer_step_fn *step;
	void *user;
	struct answer_step now; /* choice and frame are filled in */
};

static enum db_err give(struct reading *r, enum answer_step_kind kind, struct str text)
{
	r->now.kind = kind;
	r->now.text = text;
	return text.len > 0 ? r->step(r->user, &r->now) : DB_OK;
}

/* --- think blocks --- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static size_t blanks(struct str text)
{
	size_t count = 0;
	while (count < text.len && is_blank(text.at[count]))
		count++;
	return count;
}

/* How much of `tag` stands at the end of the text. */
static size_t partial_tag(struct str text, struct str tag)
{
	for (size_t len = text.len < tag.len - 1 ? text.len : tag.len - 1; len > 0; len--)
		if (str_eq_nocase(str_sub(text, text.len - len, len), str_sub(tag, 0, len)))
			return len;
	return 0;
}

static size_t find_tag(struct str text, struct str tag)
{
	for (size_t at = 0; at + tag.len <= text.len; at++)
		if (text.at[at] == '<' && str_eq_nocase(str_sub(text, at, tag.len), tag))
			return at;
	return SIZE_MAX;
}

static enum db_err take_text(struct reading *r, struct str text);

/* Nothing but white space came yet: text is what may still become the opening tag, what was held included. */
static enum db_err take_opening(struct reading *r, struct str text)
{
	const struct str tag = STR("<think>");
	struct answer_choice *c = r->at;
	size_t lead = blanks(text);
	struct str rest = str_sub(text, lead, text.len);
	if (lead <= HELD_BLANKS && rest.len < tag.len && str_eq_nocase(rest, str_sub(tag, 0, rest.len))) {
		memcpy(c->held, text.at, text.len);
		c->held_len = (uint8_t)text.len;
		return DB_OK;
	}
	c->held_len = 0;
	if (lead <= HELD_BLANKS && rest.len >= tag.len && str_eq_nocase(str_sub(rest, 0, tag.len), tag)) {
		c->thinking = ANSWER_THINK_INSIDE;
		return take_text(r, str_sub(rest, tag.len, rest.len));
	}
	c->thinking = ANSWER_THINK_NONE;
	return give(r, ANSWER_TEXT, text);
}

static enum db_err take_inside(struct reading *r, struct str text)
{
	const struct str tag = STR("</think>");
	struct answer_choice *c = r->at;
	size_t end = find_tag(text, tag);
	c->held_len = 0;
	if (end != SIZE_MAX) {
		enum db_err err = give(r, ANSWER_REASONING, str_sub(text, 0, end));
		c->thinking = ANSWER_THINK_AFTER;
		return err ? err : take_text(r, str_sub(text, end + tag.len, text.len));
	}
	size_t partial = partial_tag(text, tag);
	memcpy(c->held, text.at + text.len - partial, partial);
	c->held_len = (uint8_t)partial;
	return give(r, ANSWER_REASONING, str_sub(text, 0, text.len - partial));
}

static enum db_err take_text(struct reading *r, struct str text)
{
	if (text.len == 0)
		return DB_OK;
	if (r->steps->keep_think_tags)
		return give(r, ANSWER_TEXT, text);
	switch (r->at->thinking) {
	case ANSWER_THINK_UNKNOWN:
		return take_opening(r, text);
	case ANSWER_THINK_INSIDE:
		return take_inside(r, text);
	case ANSWER_THINK_AFTER: /* the blank lines behind a block belong to it */
		text = str_sub(text, blanks(text), text.len);
		if (text.len > 0)
			r->at->thinking = ANSWER_THINK_NONE;
		return give(r, ANSWER_TEXT, text);
	case ANSWER_THINK_NONE:
		break;
	}
	return give(r, ANSWER_TEXT, text);
}

/* New text behind what was held. */
static enum db_err add_text(struct reading *r, struct str text, struct arena *arena)
{
	struct answer_choice *c = r->at;
	if (c->held_len == 0 || text.len == 0)
		return take_text(r, text);
	char *joined = arena_alloc(arena, c->held_len + text.len);
	if (!joined)
		return DB_E_NOMEM;
	memcpy(joined, c->held, c->held_len);
	memcpy(joined + c->held_len, text.at, text.len);
	return take_text(r, (struct str){joined, c->held_len + text.len});
}

/* --- one choice of one frame --- */

static struct str text_of(const json_val *object, const char *name)
{
	struct str text = STR_NONE;
	json_as_str(json_get(object, name), &text);
	return text;
}

static enum db_err read_call(struct reading *r, const json_val *call, int64_t position, size_t *bytes)
{
	const json_val *function = json_get(call, "function");
	r->now.kind = ANSWER_TOOL_CALL;
	r->now.tool = position;
	json_as_i64(json_get(call, "index"), &r->now.tool);
	r->now.tool_id = text_of(call, "id");
	r->now.tool_name = text_of(function, "name");
	r->now.text = text_of(function, "arguments");
	r->at->saw_tool_calls = true;
	*bytes += r->now.tool_name.len + r->now.text.len;
	return r->step(r->user, &r->now);
}

static enum db_err read_calls(struct reading *r, const json_val *calls, size_t *bytes)
{
	struct json_iter iter = json_iter(json_type(calls) == JSON_ARRAY ? calls : NULL);
	enum db_err err = DB_OK;
	int64_t position = 0;
	for (json_val *call; !err && (call = json_next(&iter, NULL)); position++)
		err = read_call(r, call, position, bytes);
	return err;
}

static enum db_err read_said(struct reading *r, const json_val *said, const json_val *logprobs, struct arena *arena)
{
	struct str reasoning = text_of(said, "reasoning"), content = text_of(said, "content"), refusal = text_of(said, "refusal");
	if (reasoning.len == 0)
		reasoning = text_of(said, "reasoning_content");
	size_t bytes = reasoning.len + content.len + refusal.len;
	if (reasoning.len > 0 && r->at->thinking == ANSWER_THINK_UNKNOWN)
		r->at->thinking = ANSWER_THINK_NONE; /* the engine takes think blocks out itself */
	enum db_err err = give(r, ANSWER_REASONING, reasoning);
	if (!err && json_type(logprobs) == JSON_OBJECT) {
		r->now.kind = ANSWER_LOGPROBS;
		r->now.text = STR_NONE;
		r->now.logprobs = logprobs;
		err = r->step(r->user, &r->now);
	}
	if (!err)
		err = add_text(r, content, arena);
	if (!err)
		err = give(r, ANSWER_REFUSAL, refusal);
	if (!err)
		err = read_calls(r, json_get(said, "tool_calls"), &bytes);
	r->counted->text_bytes += bytes;
	r->counted->chunks += bytes > 0;
	return err;
}

static struct answer_choice *choice_at(struct answer_steps *steps, struct arena *arena, int64_t index)
{
	if (index == 0)
		return &steps->first;
	if (index < 0 || index >= ANSWER_MAX_CHOICES)
		return NULL;
	if (!steps->others)
		steps->others = arena_alloc(arena, (ANSWER_MAX_CHOICES - 1) * sizeof *steps->others);
	return steps->others ? &steps->others[index - 1] : NULL;
}

const struct answer_choice *answer_steps_choice(const struct answer_steps *steps, uint32_t choice)
{
	return choice > 0 && choice < ANSWER_MAX_CHOICES && steps->others ? &steps->others[choice - 1] : &steps->first;
}

/* --- frames --- */

void answer_steps_head(struct answer_steps *steps, const struct chat_frame *frame)
{
	if (frame->has_usage) {
		steps->has_usage = true;
		steps->usage = frame->usage;
	}
	if (steps->has_head)
		return;
	steps->has_head = true;
	(void)str_copy(text_of(frame->root, "id"), steps->id, sizeof steps->id);
	if (!json_as_i64(json_get(frame->root, "created"), &steps->created_s) || steps->created_s <= 0)
		steps->created_s = clock_wall_us() / 1000000;
}

enum db_err answer_steps_read(struct answer_steps *steps, struct arena *arena, const struct chat_frame *frame,
                              struct dialect_answer *counted, answer_step_fn *step, void *user)
{
	if (frame->kind == CHAT_FRAME_DONE || frame->kind == CHAT_FRAME_EMPTY)
		return DB_OK;
	answer_steps_head(steps, frame);
	const json_val *choices = json_get(frame->root, "choices");
	struct json_iter iter = json_iter(json_type(choices) == JSON_ARRAY ? choices : NULL);
	enum db_err err = DB_OK;
	for (json_val *choice; !err && (choice = json_next(&iter, NULL));) {
		int64_t index = 0;
		json_as_i64(json_get(choice, "index"), &index);
		struct reading r = {.steps = steps,
		                    .at = choice_at(steps, arena, index),
		                    .counted = counted,
		                    .step = step,
		                    .user = user,
		                    .now = {.choice = (uint32_t)index, .frame = frame->root}};
		if (!r.at)
			return DB_E_LIMIT;
		err = read_said(&r, json_get(choice, frame->kind == CHAT_FRAME_WHOLE ? "message" : "delta"),
		                json_get(choice, "logprobs"), arena);
		struct str reason = text_of(choice, "finish_reason");
		if (reason.len > 0)
			(void)str_copy(reason, r.at->finish_reason, sizeof r.at->finish_reason);
	}
	return err;
}

static enum db_err end_choice(struct answer_steps *steps, uint32_t index, answer_step_fn *step, void *user)
{
	struct answer_choice *choice = index == 0 ? &steps->first : &steps->others[index - 1];
	struct reading r = {.steps = steps, .at = choice, .step = step, .user = user, .now = {.choice = index}};
	struct str held = {choice->held, choice->held_len};
	enum db_err err = give(&r, choice->thinking == ANSWER_THINK_INSIDE ? ANSWER_REASONING : ANSWER_TEXT, held);
	choice->held_len = 0;
	return err;
}

enum db_err answer_steps_end(struct answer_steps *steps, answer_step_fn *step, void *user)
{
	if (!steps->has_head) {
		steps->has_head = true;
		steps->created_s = clock_wall_us() / 1000000;
	}
	enum db_err err = end_choice(steps, 0, step, user);
	for (uint32_t i = 1; !err && steps->others && i < ANSWER_MAX_CHOICES; i++)
		err = end_choice(steps, i, step, user);
	return err;
}

struct str answer_finish_reason(struct str given, bool saw_tool_calls, int64_t max_tokens, const struct chat_answer_end *end)
{
	if (given.len > 0 && !str_is(given, "stop"))
		return given;
	if (max_tokens > 0 && end->has_usage && end->usage.completion_tokens >= (uint64_t)max_tokens)
		return STR("length");
	return saw_tool_calls ? STR("tool_calls") : STR("stop");
}

struct chat_usage answer_usage(const struct answer_steps *steps, const struct chat_answer_end *end)
{
	return end->has_usage ? end->usage : steps->usage;
}
