/* Answers of /v1/responses, streamed and whole (http-api 2.8, 2.9). Both are made from the same items; a stream says besides
 * how they grow. */
#include "api/responses_internal.h"

#include "core/clock.h"

#include <stdio.h>
#include <stdlib.h>

static struct responses_answer *of(struct dialect_answer *answer)
{
	return (struct responses_answer *)(void *)answer;
}

/* --- events --- */

static void begin_event(struct responses_answer *answer, struct json_writer *w, const char *type)
{
	buf_append_str(answer->out, STR("event: "));
	buf_append_c(answer->out, type);
	buf_append_str(answer->out, STR("\ndata: "));
	json_writer_init(w, answer->out);
	json_begin_object(w);
	json_put_cstr(w, "type", type);
	json_put_i64(w, "sequence_number", (int64_t)answer->sequence++);
}

static void end_event(struct responses_answer *answer, struct json_writer *w)
{
	json_end_object(w);
	buf_append_str(answer->out, STR("\n\n"));
}

static void say_object(struct responses_answer *answer, const char *type, const struct responses_outcome *outcome)
{
	struct json_writer w;
	begin_event(answer, &w, type);
	json_key(&w, "response");
	answer->object_from = answer->out->len;
	responses_put_object(&w, answer, outcome);
	end_event(answer, &w);
}

static void say_item(struct responses_answer *answer, const char *type, const struct responses_item *item)
{
	struct json_writer w;
	if (!answer->options.stream)
		return;
	begin_event(answer, &w, type);
	json_put_i64(&w, "output_index", item->index);
	json_key(&w, "item");
	responses_put_item(&w, answer, item);
	end_event(answer, &w);
}

/* The head of an event about what is inside an item. index_name may be NULL. */
static void begin_inner(struct responses_answer *answer, struct json_writer *w, const char *type,
                        const struct responses_item *item, const char *index_name, int64_t index)
{
	char id[RESPONSES_ID_SIZE];
	responses_item_id(answer, item, id);
	begin_event(answer, w, type);
	json_put_cstr(w, "item_id", id);
	json_put_i64(w, "output_index", item->index);
	if (index_name)
		json_put_i64(w, index_name, index);
}

static void put_summary_part(struct json_writer *w, struct str text)
{
	json_key(w, "part");
	json_begin_object(w);
	json_put_str(w, "type", STR("summary_text"));
	json_put_str(w, "text", text);
	json_end_object(w);
}

static void say_summary_part(struct responses_answer *answer, const char *type, const struct responses_item *item,
                             struct str text)
{
	struct json_writer w;
	if (!answer->options.stream)
		return;
	begin_inner(answer, &w, type, item, "summary_index", 0);
	put_summary_part(&w, text);
	end_event(answer, &w);
}

static int64_t part_index(const struct responses_item *item, bool refusal)
{
	return item->has_text && item->has_refusal && refusal != item->refusal_first ? 1 : 0;
}

static void say_part(struct responses_answer *answer, const char *type, const struct responses_item *item, bool refusal)
{
	struct json_writer w;
	if (!answer->options.stream)
		return;
	begin_inner(answer, &w, type, item, "content_index", part_index(item, refusal));
	json_key(&w, "part");
	responses_put_part(&w, item, refusal);
	end_event(answer, &w);
}

/* A delta or the whole of a text. */
static void say_text(struct responses_answer *answer, const char *type, const struct responses_item *item,
                     const char *index_name, int64_t index, const char *member, struct str text, const struct str *logprobs)
{
	struct json_writer w;
	if (!answer->options.stream)
		return;
	begin_inner(answer, &w, type, item, index_name, index);
	if (item->kind == RESPONSES_CALL && strcmp(member, "arguments") == 0)
		json_put_str(&w, "name", buf_str(&item->name));
	json_put_str(&w, member, text);
	if (logprobs) {
		json_key(&w, "logprobs");
		json_begin_array(&w);
		if (logprobs->len > 0)
			json_raw(&w, *logprobs);
		json_end_array(&w);
	}
	end_event(answer, &w);
}

/* --- items --- */

static void item_free(struct responses_item *item)
{
	struct buf *const bufs[] = {&item->text, &item->refusal, &item->logprobs, &item->name, &item->call_id};
	for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
		buf_free(bufs[i]);
	free(item);
}

static struct responses_item *item_new(struct responses_answer *answer, enum responses_item_kind kind)
{
	if (answer->item_count == RESPONSES_MAX_ITEMS)
		return NULL;
	if (answer->item_count == answer->item_room) {
		uint32_t room = answer->item_room ? 2 * answer->item_room : 4;
		struct responses_item **items = realloc(answer->items, room * sizeof(struct responses_item *));
		if (!items)
			return NULL;
		answer->items = items;
		answer->item_room = room;
	}
	struct responses_item *item = calloc(1, sizeof *item);
	if (!item)
		return NULL;
	struct buf *const bufs[] = {&item->text, &item->refusal, &item->logprobs, &item->name, &item->call_id};
	for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
		buf_init(bufs[i], CHAT_ANSWER_MAX_BYTES);
	item->kind = kind;
	item->index = answer->item_count;
	item->open = true;
	answer->items[answer->item_count++] = item;
	return item;
}

static void close_message(struct responses_answer *answer, struct responses_item *item)
{
	struct str logprobs = buf_str(&item->logprobs);
	if (item->has_text) {
		say_text(answer, "response.output_text.done", item, "content_index", part_index(item, false), "text",
		         buf_str(&item->text), &logprobs);
		say_part(answer, "response.content_part.done", item, false);
	}
	if (item->has_refusal) {
		say_text(answer, "response.refusal.done", item, "content_index", part_index(item, true), "refusal",
		         buf_str(&item->refusal), NULL);
		say_part(answer, "response.content_part.done", item, true);
	}
}

static void close_item(struct responses_answer *answer, struct responses_item *item)
{
	if (!item->open)
		return;
	item->open = false;
	switch (item->kind) {
	case RESPONSES_REASONING:
		say_text(answer, "response.reasoning_summary_text.done", item, "summary_index", 0, "text", buf_str(&item->text), NULL);
		say_summary_part(answer, "response.reasoning_summary_part.done", item, buf_str(&item->text));
		break;
	case RESPONSES_MESSAGE:
		close_message(answer, item);
		break;
	case RESPONSES_CALL:
		say_text(answer, "response.function_call_arguments.done", item, NULL, 0, "arguments", buf_str(&item->text), NULL);
		break;
	}
	say_item(answer, "response.output_item.done", item);
}

/* Several calls may be open together, nothing else. */
static void close_all(struct responses_answer *answer)
{
	for (uint32_t i = 0; i < answer->item_count; i++)
		close_item(answer, answer->items[i]);
}

static struct responses_item *last_open(const struct responses_answer *answer, enum responses_item_kind kind)
{
	struct responses_item *last = answer->item_count > 0 ? answer->items[answer->item_count - 1] : NULL;
	return last && last->open && last->kind == kind ? last : NULL;
}

static struct responses_item *open_item(struct responses_answer *answer, enum responses_item_kind kind)
{
	struct responses_item *item = last_open(answer, kind);
	if (item)
		return item;
	close_all(answer);
	item = item_new(answer, kind);
	if (!item)
		return NULL;
	say_item(answer, "response.output_item.added", item);
	if (kind == RESPONSES_REASONING)
		say_summary_part(answer, "response.reasoning_summary_part.added", item, STR(""));
	return item;
}

static void open_part(struct responses_answer *answer, struct responses_item *item, bool refusal)
{
	bool *has = refusal ? &item->has_refusal : &item->has_text;
	if (*has)
		return;
	item->refusal_first = refusal && !item->has_text;
	*has = true;
	say_part(answer, "response.content_part.added", item, refusal);
}

/* --- steps --- */

static enum db_err take_reasoning(struct responses_answer *answer, struct str text)
{
	struct responses_item *item = open_item(answer, RESPONSES_REASONING);
	if (!item)
		return DB_E_LIMIT;
	say_text(answer, "response.reasoning_summary_text.delta", item, "summary_index", 0, "delta", text, NULL);
	return buf_append_str(&item->text, text);
}

static enum db_err take_text(struct responses_answer *answer, struct str text)
{
	struct responses_item *item = open_item(answer, RESPONSES_MESSAGE);
	if (!item)
		return DB_E_LIMIT;
	open_part(answer, item, false);
	struct str logprobs = buf_str(&answer->logprobs);
	say_text(answer, "response.output_text.delta", item, "content_index", part_index(item, false), "delta", text, &logprobs);
	if (logprobs.len > 0) {
		if (item->logprobs.len > 0)
			buf_append_byte(&item->logprobs, ',');
		buf_append_str(&item->logprobs, logprobs);
		buf_clear(&answer->logprobs);
	}
	return item->logprobs.failed ? DB_E_LIMIT : buf_append_str(&item->text, text);
}

static enum db_err take_refusal(struct responses_answer *answer, struct str text)
{
	struct responses_item *item = open_item(answer, RESPONSES_MESSAGE);
	if (!item)
		return DB_E_LIMIT;
	open_part(answer, item, true);
	say_text(answer, "response.refusal.delta", item, "content_index", part_index(item, true), "delta", text, NULL);
	return buf_append_str(&item->refusal, text);
}

static struct responses_item *open_call(struct responses_answer *answer, const struct answer_step *step)
{
	for (uint32_t i = answer->item_count; i > 0; i--) {
		struct responses_item *item = answer->items[i - 1];
		if (item->kind == RESPONSES_CALL && item->open && item->tool == step->tool)
			return item;
	}
	if (!last_open(answer, RESPONSES_CALL))
		close_all(answer);
	struct responses_item *item = item_new(answer, RESPONSES_CALL);
	if (!item)
		return NULL;
	item->tool = step->tool;
	buf_append_str(&item->name, step->tool_name);
	if (step->tool_id.len > 0)
		buf_append_str(&item->call_id, step->tool_id);
	else
		buf_printf(&item->call_id, "call_%s_%u", answer->hex, item->index);
	say_item(answer, "response.output_item.added", item);
	return item;
}

static enum db_err take_call(struct responses_answer *answer, const struct answer_step *step)
{
	struct responses_item *item = open_call(answer, step);
	if (!item)
		return DB_E_LIMIT;
	if (item->name.len == 0)
		buf_append_str(&item->name, step->tool_name);
	if (step->text.len == 0)
		return DB_OK;
	say_text(answer, "response.function_call_arguments.delta", item, NULL, 0, "delta", step->text, NULL);
	return buf_append_str(&item->text, step->text);
}

/* Kept until the text comes that they are of. */
static enum db_err take_logprobs(struct responses_answer *answer, const json_val *logprobs)
{
	struct json_iter iter = json_iter(json_get(logprobs, "content"));
	for (json_val *item; (item = json_next(&iter, NULL));) {
		struct json_writer w;
		if (answer->logprobs.len > 0)
			buf_append_byte(&answer->logprobs, ',');
		json_writer_init(&w, &answer->logprobs);
		json_value(&w, item);
	}
	return answer->logprobs.failed ? DB_E_LIMIT : DB_OK;
}

static enum db_err take_step(void *user, const struct answer_step *step)
{
	struct responses_answer *answer = user;
	if (step->choice != 0)
		return DB_OK;
	switch (step->kind) {
	case ANSWER_REASONING:
		return take_reasoning(answer, step->text);
	case ANSWER_TEXT:
		return take_text(answer, step->text);
	case ANSWER_REFUSAL:
		return take_refusal(answer, step->text);
	case ANSWER_TOOL_CALL:
		return take_call(answer, step);
	case ANSWER_LOGPROBS:
		return take_logprobs(answer, step->logprobs);
	}
	return DB_OK;
}

/* --- the dialect --- */

static struct dialect_answer *answer_new(struct arena *arena, const struct chat_answer_options *options)
{
	struct responses_answer *answer = arena_alloc(arena, sizeof *answer);
	if (!answer)
		return NULL;
	answer->base.dialect = &dialect_responses;
	answer->arena = arena;
	answer->options = *options;
	answer->options.requested_model = arena_str(arena, options->requested_model);
	answer->request = options->request ? options->request->dialect_state : NULL;
	buf_init(&answer->logprobs, CHAT_ANSWER_MAX_BYTES);
	buf_init(&answer->echo, LOWER_MAX_BYTES);
	size_t used = 0;
	for (const char *at = options->job_id; *at && used < sizeof answer->hex - 1; at++)
		if (*at != '-')
			answer->hex[used++] = *at;
	return answer->options.requested_model.at ? &answer->base : NULL;
}

static void answer_free(struct dialect_answer *base)
{
	struct responses_answer *answer = of(base);
	for (uint32_t i = 0; i < answer->item_count; i++)
		item_free(answer->items[i]);
	free(answer->items);
	answer->items = NULL;
	answer->item_count = 0;
	buf_free(&answer->logprobs);
	buf_free(&answer->echo);
}

/* The object of the event before, in another event. */
static void repeat_object(struct responses_answer *answer, const char *type)
{
	struct str last = str_sub(buf_str(answer->out), answer->object_from, SIZE_MAX);
	struct json_writer w;
	size_t len = last.len > 3 ? last.len - 3 : 0; /* without the brace and the line feeds of its event */
	if (answer->out->failed || buf_reserve(answer->out, len + 256)) {
		answer->out->failed = true;
		return;
	}
	struct str object = {answer->out->at + answer->object_from, len}; /* which stays where it is: there is room */
	begin_event(answer, &w, type);
	json_key(&w, "response");
	json_raw(&w, object);
	end_event(answer, &w);
}

static void begin(struct responses_answer *answer)
{
	const struct responses_outcome outcome = {.status = RESPONSES_IN_PROGRESS};
	if (answer->begun || !answer->options.stream)
		return;
	answer->begun = true;
	say_object(answer, "response.created", &outcome);
	repeat_object(answer, "response.in_progress");
}

static enum db_err take_frame(struct dialect_answer *base, const struct chat_frame *frame, struct buf *out)
{
	struct responses_answer *answer = of(base);
	answer->out = out;
	if (frame->kind == CHAT_FRAME_DONE || frame->kind == CHAT_FRAME_EMPTY)
		return DB_OK;
	answer_steps_head(&answer->steps, frame);
	begin(answer);
	enum db_err err = answer_steps_read(&answer->steps, answer->arena, frame, &answer->base, take_step, answer);
	return err ? err : out->failed || answer->echo.failed ? DB_E_LIMIT : DB_OK;
}

void responses_outcome(const struct responses_answer *answer, const struct chat_answer_end *end, struct responses_outcome *out)
{
	const struct answer_choice *choice = answer_steps_choice(&answer->steps, 0);
	struct str reason =
	    answer_finish_reason(str_of(choice->finish_reason), choice->saw_tool_calls, answer->options.max_tokens, end);
	*out = (struct responses_outcome){.status = RESPONSES_COMPLETED, .end = end};
	if (str_is(reason, "length"))
		out->why = "max_output_tokens";
	else if (str_is(reason, "content_filter"))
		out->why = "content_filter";
	if (out->why)
		out->status = RESPONSES_INCOMPLETE;
}

static enum db_err finish(struct dialect_answer *base, const struct chat_answer_end *end, struct buf *out)
{
	struct responses_answer *answer = of(base);
	answer->out = out;
	enum db_err err = answer_steps_end(&answer->steps, take_step, answer);
	if (err)
		return err;
	struct responses_outcome outcome;
	responses_outcome(answer, end, &outcome);
	answer->completed_s = clock_wall_us() / 1000000;
	begin(answer);
	if (answer->item_count == 0) { /* an answer of nothing is an empty message */
		struct responses_item *item = open_item(answer, RESPONSES_MESSAGE);
		if (!item)
			return DB_E_NOMEM;
		open_part(answer, item, false);
	}
	if (outcome.status == RESPONSES_INCOMPLETE) /* what was being said is what was cut */
		answer->items[answer->item_count - 1]->incomplete = true;
	close_all(answer);
	if (answer->options.stream) {
		say_object(answer, outcome.status == RESPONSES_COMPLETED ? "response.completed" : "response.incomplete", &outcome);
	} else {
		struct json_writer w;
		json_writer_init(&w, out);
		responses_put_object(&w, answer, &outcome);
	}
	return out->failed || answer->echo.failed ? DB_E_LIMIT : DB_OK;
}

/* What went wrong stands both as the public API has it and as the chapter has it. */
static void put_error_event(uint64_t sequence, const struct api_error *error, struct buf *out)
{
	struct json_writer w;
	buf_append_str(out, STR("event: error\ndata: "));
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_str(&w, "type", STR("error"));
	json_put_i64(&w, "sequence_number", (int64_t)sequence);
	json_put_cstr(&w, "code", error->code ? error->code : error->type);
	json_put_cstr(&w, "message", error->message);
	json_put_cstr(&w, "param", error->param);
	api_error_put(&w, error);
	json_end_object(&w);
	buf_append_str(out, STR("\n\n"));
}

static void fail(struct dialect_answer *base, const struct api_error *error, bool after_content, struct buf *out)
{
	struct responses_answer *answer = base ? of(base) : NULL;
	if (answer && after_content && answer->begun) {
		const struct responses_outcome outcome = {.status = RESPONSES_FAILED, .error = error};
		answer->out = out;
		for (uint32_t i = 0; i < answer->item_count; i++) {
			answer->items[i]->incomplete |= answer->items[i]->open;
			answer->items[i]->open = false;
		}
		say_object(answer, "response.failed", &outcome);
	}
	put_error_event(answer ? answer->sequence : 0, error, out);
}

const struct dialect dialect_responses = {
    .name = "responses",
    .parse = responses_parse,
    .answer_new = answer_new,
    .answer_free = answer_free,
    .frame = take_frame,
    .finish = finish,
    .fail = fail,
    .record = responses_record,
    .error_write = api_error_write,
    .keepalive = ": keepalive\n\n",
};
