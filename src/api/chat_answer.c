/* Answers of /v1/chat/completions as streams; chat_whole.c has the other form. */
#include "api/chat_answer.h"

#include "api/answer_steps.h"
#include "core/clock.h"

static void choice_init(struct chat_choice *choice)
{
	struct buf *const bufs[] = {&choice->held_finish, &choice->content, &choice->reasoning, &choice->refusal,
	                            &choice->logprobs};
	for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
		buf_init(bufs[i], CHAT_ANSWER_MAX_BYTES);
}

struct chat_answer *chat_answer_new(struct arena *arena, const struct chat_answer_options *options)
{
	struct chat_answer *answer = arena_alloc(arena, sizeof *answer);
	if (!answer)
		return NULL;
	answer->base.dialect = &dialect_chat;
	answer->arena = arena;
	answer->options = *options;
	answer->options.requested_model = arena_str(arena, options->requested_model);
	answer->fallback_id = str_of(arena_printf(arena, "chatcmpl-%s", options->job_id));
	answer->choice_count = options->request && options->request->n > 1 ? (uint32_t)options->request->n : 1;
	answer->choices = arena_alloc(arena, answer->choice_count * sizeof *answer->choices);
	if (!answer->options.requested_model.at || !answer->fallback_id.at || !answer->choices)
		return NULL;
	struct buf *const bufs[] = {&answer->held_usage, &answer->id, &answer->whole, &answer->fingerprint};
	for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
		buf_init(bufs[i], CHAT_ANSWER_MAX_BYTES);
	for (uint32_t i = 0; i < answer->choice_count; i++)
		choice_init(&answer->choices[i]);
	return answer;
}

void chat_answer_free(struct chat_answer *answer)
{
	if (!answer)
		return;
	buf_free(&answer->held_usage);
	buf_free(&answer->id);
	chat_whole_free(answer);
}

/* --- shared with whole answers --- */

struct str chat_answer_id(const struct chat_answer *answer)
{
	return answer->id.len > 0 ? buf_str(&answer->id) : answer->fallback_id;
}

struct str chat_answer_reason(const struct chat_answer *answer, const struct chat_choice *choice, struct str given,
                              const struct chat_answer_end *end)
{
	/* the count is of all choices together: it tells only of a single one whether the limit was reached */
	int64_t max = answer->choice_count == 1 ? answer->options.max_tokens : 0;
	return answer_finish_reason(given, choice->saw_tool_calls, max, end);
}

struct chat_choice *chat_answer_choice(const struct chat_answer *answer, const json_val *choice)
{
	int64_t index = 0;
	json_as_i64(json_get(choice, "index"), &index);
	return index >= 0 && index < (int64_t)answer->choice_count ? &answer->choices[index] : NULL;
}

void chat_answer_put_signature(struct json_writer *w, const struct chat_answer_end *end)
{
	if (end->se_signature.len > 0)
		json_put_str(w, "se_signature", end->se_signature);
	if (end->response_hash.len > 0)
		json_put_str(w, "response_hash", end->response_hash);
}

json_val *chat_answer_held(struct chat_answer *answer, const struct buf *held)
{
	return held->len > 0 ? json_root(json_parse(buf_str(held), answer->arena, NULL)) : NULL;
}

static enum db_err hold(struct buf *held, const json_val *root)
{
	struct json_writer w;
	buf_clear(held);
	json_writer_init(&w, held);
	json_value(&w, root);
	return held->failed ? DB_E_LIMIT : DB_OK;
}

static size_t text_len(const json_val *object, const char *name)
{
	struct str text;
	return json_as_str(json_get(object, name), &text) ? text.len : 0;
}

/* The texts that a delta or a message carries. */
static void count_text(struct chat_answer *answer, struct chat_choice *choice, const json_val *said)
{
	size_t reasoning = text_len(said, "reasoning_content"), other = text_len(said, "reasoning");
	if (other > reasoning)
		reasoning = other;
	size_t bytes = text_len(said, "content") + text_len(said, "refusal") + reasoning;
	const json_val *calls = json_get(said, "tool_calls");
	struct json_iter iter = json_iter(json_type(calls) == JSON_ARRAY ? calls : NULL);
	for (json_val *call; (call = json_next(&iter, NULL));) {
		const json_val *function = json_get(call, "function");
		choice->saw_tool_calls = true;
		bytes += text_len(function, "name") + text_len(function, "arguments");
	}
	answer->reasoning_bytes += reasoning;
	answer->base.text_bytes += bytes;
	answer->base.chunks += bytes > 0;
}

static void take_head(struct chat_answer *answer, const json_val *root)
{
	struct str id;
	if (answer->seen_frame)
		return;
	answer->seen_frame = true;
	if (json_as_str(json_get(root, "id"), &id) && id.len <= 256)
		buf_append_str(&answer->id, id);
	if (!json_as_i64(json_get(root, "created"), &answer->created_s) || answer->created_s <= 0)
		answer->created_s = clock_wall_us() / 1000000;
}

static void count_frame(struct chat_answer *answer, const struct chat_frame *frame)
{
	take_head(answer, frame->root);
	if (frame->has_usage) {
		answer->has_usage = true;
		answer->usage = frame->usage;
	}
	const json_val *choices = json_get(frame->root, "choices");
	struct json_iter iter = json_iter(json_type(choices) == JSON_ARRAY ? choices : NULL);
	for (json_val *said; (said = json_next(&iter, NULL));) {
		struct chat_choice *choice = chat_answer_choice(answer, said);
		if (choice)
			count_text(answer, choice, json_get(said, frame->kind == CHAT_FRAME_WHOLE ? "message" : "delta"));
	}
}

bool chat_answer_usage(const struct chat_answer *answer, struct chat_usage *usage)
{
	*usage = answer->usage;
	return answer->has_usage;
}

/* --- rewriting one chunk for the consumer --- */

/* Which half of a frame that both says something and finishes. */
enum half { HALF_ALL, HALF_SAYING, HALF_FINISHING };

struct rewrite {
	const struct chat_answer *answer;
	enum half half;
	struct str reason;              /* of HALF_FINISHING */
	const struct chat_choice *only; /* NULL: every choice that was asked for */
};

static bool is_text_field(struct str key)
{
	return str_is(key, "content") || str_is(key, "refusal");
}

static bool is_reasoning_field(struct str key)
{
	return str_is(key, "reasoning") || str_is(key, "reasoning_content");
}

/* Both spellings of reasoning stand beside each other, whichever the provider uses. */
static void put_reasoning(struct json_writer *w, const json_val *delta)
{
	struct str a = STR_NONE, b = STR_NONE;
	json_as_str(json_get(delta, "reasoning"), &a);
	json_as_str(json_get(delta, "reasoning_content"), &b);
	struct str text = a.len > 0 ? a : b;
	json_put_str(w, "reasoning", text);
	json_put_str(w, "reasoning_content", text);
}

static void put_delta(struct json_writer *w, const json_val *delta, enum half half)
{
	struct json_iter iter = json_iter(json_type(delta) == JSON_OBJECT && half != HALF_FINISHING ? delta : NULL);
	struct str key;
	bool reasoning_done = false;
	json_begin_object(w);
	for (json_val *value; (value = json_next(&iter, &key));) {
		bool is_null = json_type(value) == JSON_NULL;
		if (is_reasoning_field(key)) {
			if (!reasoning_done)
				put_reasoning(w, delta);
			reasoning_done = true;
			continue;
		}
		json_key_str(w, key);
		if (is_null && is_text_field(key)) {
			json_str(w, STR(""));
		} else if (is_null && str_is(key, "tool_calls")) {
			json_begin_array(w);
			json_end_array(w);
		} else {
			json_value(w, value);
		}
	}
	json_end_object(w);
}

static void put_choice(struct json_writer *w, const json_val *choice, const struct rewrite *how)
{
	struct json_iter iter = json_iter(choice);
	struct str key;
	bool has_delta = false;
	json_begin_object(w);
	for (json_val *value; (value = json_next(&iter, &key));) {
		if (str_is(key, "finish_reason"))
			continue;
		if (how->half == HALF_FINISHING && str_is(key, "logprobs"))
			continue;
		json_key_str(w, key);
		if (str_is(key, "delta")) {
			has_delta = true;
			put_delta(w, value, how->half);
		} else {
			json_value(w, value);
		}
	}
	if (!has_delta) {
		json_key(w, "delta");
		put_delta(w, NULL, how->half);
	}
	json_key(w, "finish_reason");
	if (how->half == HALF_FINISHING)
		json_str(w, how->reason);
	else
		json_null(w);
	json_end_object(w);
}

static void put_choices(struct json_writer *w, const json_val *choices, const struct rewrite *how)
{
	struct json_iter iter = json_iter(json_type(choices) == JSON_ARRAY ? choices : NULL);
	json_begin_array(w);
	for (json_val *choice; (choice = json_next(&iter, NULL));) {
		const struct chat_choice *about = chat_answer_choice(how->answer, choice);
		if (about && (!how->only || how->only == about) && json_type(choice) == JSON_OBJECT)
			put_choice(w, choice, how);
	}
	json_end_array(w);
}

/* Members of a frame that stand before `choices` in every frame, made up where the provider left them out. */
static void put_missing_head(struct json_writer *w, const struct chat_answer *answer, const json_val *root)
{
	if (!json_get(root, "id"))
		json_put_str(w, "id", chat_answer_id(answer));
	if (!json_get(root, "object"))
		json_put_str(w, "object", STR("chat.completion.chunk"));
	if (!json_get(root, "created"))
		json_put_i64(w, "created", answer->created_s);
	if (!json_get(root, "model"))
		json_put_str(w, "model", answer->options.requested_model);
}

/* Writes the members of a frame; usage stays out of it when `with_usage` is false. */
static void put_members(struct json_writer *w, const json_val *root, const struct rewrite *how, bool with_usage)
{
	struct json_iter iter = json_iter(root);
	struct str key;
	put_missing_head(w, how->answer, root);
	for (json_val *value; (value = json_next(&iter, &key));) {
		bool is_null = json_type(value) == JSON_NULL;
		if (str_is(key, "usage") && (is_null || !with_usage))
			continue;
		if (str_is(key, "system_fingerprint") && is_null)
			continue;
		json_key_str(w, key);
		if (str_is(key, "model"))
			json_str(w, how->answer->options.requested_model);
		else if (str_is(key, "id")) /* of the first frame: another provider may have gone on with the answer */
			json_str(w, chat_answer_id(how->answer));
		else if (str_is(key, "created"))
			json_i64(w, how->answer->created_s);
		else if (str_is(key, "choices"))
			put_choices(w, value, how);
		else
			json_value(w, value);
	}
}

static void put_chunk(const json_val *root, const struct rewrite *how, bool with_usage, struct buf *out)
{
	struct json_writer w;
	buf_append_str(out, STR("data: "));
	json_writer_init(&w, out);
	json_begin_object(&w);
	put_members(&w, root, how, with_usage);
	json_end_object(&w);
	buf_append_str(out, STR("\n\n"));
}

/* A frame that the API does not know goes on as it is, but for the model's name. */
static void put_other(const struct chat_answer *answer, const json_val *root, struct buf *out)
{
	struct json_writer w;
	struct json_iter iter = json_iter(root);
	struct str key;
	buf_append_str(out, STR("data: "));
	json_writer_init(&w, out);
	if (json_type(root) != JSON_OBJECT) {
		json_value(&w, root);
	} else {
		json_begin_object(&w);
		for (json_val *value; (value = json_next(&iter, &key));) {
			json_key_str(&w, key);
			if (str_is(key, "model"))
				json_str(&w, answer->options.requested_model);
			else
				json_value(&w, value);
		}
		json_end_object(&w);
	}
	buf_append_str(out, STR("\n\n"));
}

static bool is_empty(const json_val *value)
{
	struct str text;
	switch (json_type(value)) {
	case JSON_ABSENT:
	case JSON_NULL:
		return true;
	case JSON_STRING:
		return json_as_str(value, &text) && text.len == 0;
	case JSON_ARRAY:
	case JSON_OBJECT:
		return json_len(value) == 0;
	default:
		return false;
	}
}

static bool says_something(const json_val *root)
{
	struct json_iter iter = json_iter(json_get(root, "choices"));
	for (json_val *choice; (choice = json_next(&iter, NULL));) {
		struct json_iter members = json_iter(json_get(choice, "delta"));
		for (json_val *member; (member = json_next(&members, NULL));)
			if (!is_empty(member))
				return true;
		if (!is_empty(json_get(choice, "logprobs")))
			return true;
	}
	return false;
}

static bool was_asked_for(const struct chat_answer *answer, const json_val *root)
{
	struct json_iter iter = json_iter(json_get(root, "choices"));
	for (json_val *choice; (choice = json_next(&iter, NULL));)
		if (chat_answer_choice(answer, choice))
			return true;
	return false;
}

/* A message's tool calls as deltas: each says its index. */
static void put_calls_as_deltas(struct json_writer *w, const json_val *calls)
{
	struct json_iter iter = json_iter(json_type(calls) == JSON_ARRAY ? calls : NULL);
	int64_t index = 0;
	json_key(w, "tool_calls");
	json_begin_array(w);
	for (json_val *call; (call = json_next(&iter, NULL)); index++) {
		struct json_iter members = json_iter(json_type(call) == JSON_OBJECT ? call : NULL);
		struct str key;
		json_begin_object(w);
		json_put_i64(w, "index", index);
		for (json_val *member; (member = json_next(&members, &key));) {
			if (str_is(key, "index"))
				continue;
			json_key_str(w, key);
			json_value(w, member);
		}
		json_end_object(w);
	}
	json_end_array(w);
}

static void put_message_as_delta(struct json_writer *w, const json_val *message)
{
	struct str content = STR_NONE;
	json_begin_object(w);
	json_put_str(w, "role", STR("assistant"));
	json_as_str(json_get(message, "content"), &content);
	json_put_str(w, "content", content);
	if (!is_empty(json_get(message, "reasoning")) || !is_empty(json_get(message, "reasoning_content")))
		put_reasoning(w, message);
	if (!is_empty(json_get(message, "tool_calls")))
		put_calls_as_deltas(w, json_get(message, "tool_calls"));
	json_end_object(w);
}

static void put_choice_as_delta(struct json_writer *w, int64_t index, const json_val *choice)
{
	json_begin_object(w);
	json_put_i64(w, "index", index);
	json_key(w, "delta");
	put_message_as_delta(w, json_get(choice, "message"));
	if (!is_empty(json_get(choice, "logprobs"))) {
		json_key(w, "logprobs");
		json_value(w, json_get(choice, "logprobs"));
	}
	json_key(w, "finish_reason");
	json_null(w);
	json_end_object(w);
}

/* The end of a choice whose message came whole, as a frame like any other. */
static void hold_given_reason(struct chat_choice *choice, int64_t index, const json_val *given)
{
	struct json_writer w;
	buf_clear(&choice->held_finish);
	json_writer_init(&w, &choice->held_finish);
	json_begin_object(&w);
	json_key(&w, "choices");
	json_begin_array(&w);
	json_begin_object(&w);
	json_put_i64(&w, "index", index);
	json_key(&w, "finish_reason");
	json_value(&w, given);
	json_end_object(&w);
	json_end_array(&w);
	json_end_object(&w);
}

/* A whole completion where a stream was asked for: said in one chunk, its ends held like any other. */
static enum db_err take_whole_into_stream(struct chat_answer *answer, const struct chat_frame *frame, struct buf *out)
{
	struct json_writer w;
	struct json_iter iter = json_iter(json_get(frame->root, "choices"));
	enum db_err err = DB_OK;
	buf_append_str(out, STR("data: "));
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_str(&w, "id", chat_answer_id(answer));
	json_put_str(&w, "object", STR("chat.completion.chunk"));
	json_put_i64(&w, "created", answer->created_s);
	json_put_str(&w, "model", answer->options.requested_model);
	json_key(&w, "choices");
	json_begin_array(&w);
	for (json_val *given; (given = json_next(&iter, NULL));) {
		struct chat_choice *choice = chat_answer_choice(answer, given);
		if (!choice)
			continue;
		put_choice_as_delta(&w, choice - answer->choices, given);
		hold_given_reason(choice, choice - answer->choices, json_get(given, "finish_reason"));
		err = choice->held_finish.failed ? DB_E_LIMIT : err;
	}
	json_end_array(&w);
	json_end_object(&w);
	buf_append_str(out, STR("\n\n"));
	return out->failed ? DB_E_LIMIT : err;
}

/* Each choice that the frame ends keeps it to the end of the answer. */
static enum db_err hold_ends(const struct chat_answer *answer, const json_val *root)
{
	struct json_iter iter = json_iter(json_get(root, "choices"));
	enum db_err err = DB_OK;
	for (json_val *ended; !err && (ended = json_next(&iter, NULL));) {
		struct chat_choice *choice = chat_answer_choice(answer, ended);
		if (choice && !is_empty(json_get(ended, "finish_reason")))
			err = hold(&choice->held_finish, root);
	}
	return err;
}

static enum db_err take_into_stream(struct chat_answer *answer, const struct chat_frame *frame, struct buf *out)
{
	struct rewrite how = {.answer = answer};
	enum db_err err = DB_OK;
	switch (frame->kind) {
	case CHAT_FRAME_PREAMBLE:
	case CHAT_FRAME_CONTENT:
		if (was_asked_for(answer, frame->root))
			put_chunk(frame->root, &how, true, out);
		break;
	case CHAT_FRAME_FINISH:
		/* What it says goes out now; only the end is held, so that nothing said is late or lost. */
		how.half = HALF_SAYING;
		if (was_asked_for(answer, frame->root) && says_something(frame->root))
			put_chunk(frame->root, &how, false, out);
		err = hold_ends(answer, frame->root);
		break;
	case CHAT_FRAME_USAGE:
		err = hold(&answer->held_usage, frame->root);
		break;
	case CHAT_FRAME_WHOLE:
		err = take_whole_into_stream(answer, frame, out);
		break;
	case CHAT_FRAME_OTHER:
		put_other(answer, frame->root, out);
		break;
	case CHAT_FRAME_DONE:
	case CHAT_FRAME_EMPTY:
		break;
	}
	return err ? err : out->failed ? DB_E_LIMIT : DB_OK;
}

enum db_err chat_answer_frame(struct chat_answer *answer, const struct chat_frame *frame, struct buf *out)
{
	if (frame->kind == CHAT_FRAME_DONE || frame->kind == CHAT_FRAME_EMPTY)
		return DB_OK;
	count_frame(answer, frame);
	if (answer->options.stream)
		return take_into_stream(answer, frame, out);
	if (frame->kind == CHAT_FRAME_USAGE)
		return hold(&answer->held_usage, frame->root);
	return chat_whole_frame(answer, frame);
}

/* --- the end --- */

static struct str reason_in(const struct chat_answer *answer, const struct chat_choice *choice, const json_val *root)
{
	struct json_iter iter = json_iter(json_get(root, "choices"));
	struct str given = STR_NONE;
	for (json_val *said; (said = json_next(&iter, NULL));)
		if (chat_answer_choice(answer, said) == choice)
			json_as_str(json_get(said, "finish_reason"), &given);
	return given;
}

/* A choice whose provider sent no end gets one. */
static void put_finish(struct chat_answer *answer, struct chat_choice *choice, const struct chat_answer_end *end,
                       struct buf *out)
{
	if (!choice->held_finish.len)
		hold_given_reason(choice, choice - answer->choices, NULL);
	const json_val *root = chat_answer_held(answer, &choice->held_finish);
	struct str reason = chat_answer_reason(answer, choice, reason_in(answer, choice, root), end);
	struct rewrite how = {.answer = answer, .half = HALF_FINISHING, .reason = reason, .only = choice};
	put_chunk(root, &how, false, out);
}

static void put_usage(struct chat_answer *answer, const struct chat_answer_end *end, struct buf *out)
{
	bool has_usage = end->has_usage || answer->has_usage;
	if (!has_usage && end->se_signature.len == 0 && end->response_hash.len == 0)
		return;
	const json_val *held = chat_answer_held(answer, &answer->held_usage);
	struct rewrite how = {.answer = answer};
	struct json_writer w;
	buf_append_str(out, STR("data: "));
	json_writer_init(&w, out);
	json_begin_object(&w);
	put_members(&w, held, &how, false);
	if (!json_get(held, "choices")) {
		json_key(&w, "choices");
		put_choices(&w, NULL, &how);
	}
	if (has_usage) {
		json_key(&w, "usage");
		chat_usage_write(&w, end->has_usage ? &end->usage : &answer->usage, json_get(held, "usage"));
	}
	chat_answer_put_signature(&w, end);
	json_end_object(&w);
	buf_append_str(out, STR("\n\n"));
}

enum db_err chat_answer_finish(struct chat_answer *answer, const struct chat_answer_end *end, struct buf *out)
{
	take_head(answer, NULL);
	if (!answer->options.stream)
		return chat_whole_finish(answer, end, out);
	for (uint32_t i = 0; i < answer->choice_count; i++)
		put_finish(answer, &answer->choices[i], end, out);
	put_usage(answer, end, out);
	chat_frame_done(out);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

void chat_stream_fail(const struct api_error *error, bool after_content, struct buf *out)
{
	struct json_writer w;
	buf_append_str(out, STR("data: "));
	if (!after_content) {
		api_error_write(error, out); /* ends with a line feed */
		buf_append_str(out, STR("\n"));
		chat_frame_done(out);
		return;
	}
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_key(&w, "error");
	json_begin_object(&w);
	json_put_cstr(&w, "message", error->message);
	json_put_cstr(&w, "type", error->type);
	json_end_object(&w);
	json_end_object(&w);
	buf_append_str(out, STR("\n\n"));
}
