/* The response object and its items, with every member that the public schemas ask for (http-api 2.8, 2.9; OpenAI's reference
 * and Open Responses): what may be null stands there as null, what was asked for is echoed. */
#include "api/responses_internal.h"

#include <stdio.h>

void responses_item_id(const struct responses_answer *answer, const struct responses_item *item, char out[RESPONSES_ID_SIZE])
{
	static const char *const prefixes[] = {"rs", "msg", "fc"};
	(void)snprintf(out, RESPONSES_ID_SIZE, "%s_%s_%u", prefixes[item->kind], answer->hex, item->index);
}

/* --- items --- */

void responses_put_part(struct json_writer *w, const struct responses_item *item, bool refusal)
{
	json_begin_object(w);
	if (refusal) {
		json_put_str(w, "type", STR("refusal"));
		json_put_str(w, "refusal", buf_str(&item->refusal));
	} else {
		json_put_str(w, "type", STR("output_text"));
		json_put_str(w, "text", buf_str(&item->text));
		json_key(w, "annotations");
		json_raw(w, STR("[]"));
		json_key(w, "logprobs");
		json_begin_array(w);
		if (item->logprobs.len > 0)
			json_raw(w, buf_str(&item->logprobs));
		json_end_array(w);
	}
	json_end_object(w);
}

static void put_message_content(struct json_writer *w, const struct responses_item *item)
{
	json_key(w, "content");
	json_begin_array(w);
	if (item->has_refusal && item->refusal_first)
		responses_put_part(w, item, true);
	if (item->has_text)
		responses_put_part(w, item, false);
	if (item->has_refusal && !item->refusal_first)
		responses_put_part(w, item, true);
	json_end_array(w);
}

static void put_summary(struct json_writer *w, const struct responses_item *item)
{
	json_key(w, "summary");
	json_begin_array(w);
	if (item->text.len > 0) {
		json_begin_object(w);
		json_put_str(w, "type", STR("summary_text"));
		json_put_str(w, "text", buf_str(&item->text));
		json_end_object(w);
	}
	json_end_array(w);
}

void responses_put_item(struct json_writer *w, const struct responses_answer *answer, const struct responses_item *item)
{
	char id[RESPONSES_ID_SIZE];
	const char *status = item->open ? "in_progress" : item->incomplete ? "incomplete" : "completed";
	responses_item_id(answer, item, id);
	json_begin_object(w);
	json_put_cstr(w, "id", id);
	switch (item->kind) {
	case RESPONSES_REASONING:
		json_put_str(w, "type", STR("reasoning"));
		put_summary(w, item);
		break;
	case RESPONSES_MESSAGE:
		json_put_str(w, "type", STR("message"));
		json_put_str(w, "role", STR("assistant"));
		put_message_content(w, item);
		break;
	case RESPONSES_CALL:
		json_put_str(w, "type", STR("function_call"));
		json_put_str(w, "call_id", buf_str(&item->call_id));
		json_put_str(w, "name", buf_str(&item->name));
		json_put_str(w, "arguments", buf_str(&item->text));
		break;
	}
	json_put_cstr(w, "status", status);
	json_end_object(w);
}

/* --- what is echoed --- */

/* The member as it was given, else the given JSON. */
static void put_echo(struct json_writer *w, const json_val *root, const char *name, const char *otherwise)
{
	const json_val *value = json_get_some(root, name);
	json_key(w, name);
	if (value)
		json_value(w, value);
	else
		json_raw(w, str_of(otherwise));
}

static void put_tools(struct json_writer *w, const json_val *tools)
{
	static const char *const members[] = {"name", "description", "parameters", "strict"};
	struct json_iter iter = json_iter(tools);
	json_begin_array(w);
	for (json_val *tool; (tool = json_next(&iter, NULL));) {
		const json_val *nested = json_get(tool, "function"), *from = json_type(nested) == JSON_OBJECT ? nested : tool;
		json_begin_object(w);
		json_put_str(w, "type", STR("function"));
		for (size_t i = 0; i < sizeof members / sizeof *members; i++)
			put_echo(w, from, members[i], "null");
		json_end_object(w);
	}
	json_end_array(w);
}

static void put_reasoning(struct json_writer *w, const json_val *reasoning)
{
	json_begin_object(w);
	put_echo(w, reasoning, "effort", "null");
	put_echo(w, reasoning, "summary", "null");
	json_end_object(w);
}

/* A schema's format has all its members. */
static void put_format(struct json_writer *w, const json_val *format)
{
	static const char *const members[] = {"name", "description", "schema", "strict"};
	struct str type = STR("text");
	json_as_str(json_get(format, "type"), &type);
	json_key(w, "format");
	json_begin_object(w);
	json_put_str(w, "type", type);
	for (size_t i = 0; str_is(type, "json_schema") && i < sizeof members / sizeof *members; i++)
		put_echo(w, format, members[i], i == 3 ? "false" : "null");
	json_end_object(w);
}

static void put_text(struct json_writer *w, const json_val *text)
{
	json_begin_object(w);
	put_format(w, json_get_some(text, "format"));
	put_echo(w, text, "verbosity", "\"medium\"");
	json_end_object(w);
}

/* What is echoed of a request: how it stands there when it was not given, and how to write it when it was (NULL: as it is). */
struct echoed {
	struct str name, otherwise;
	void (*put)(struct json_writer *w, const json_val *value);
};

#define TEXT(literal)                                                                                                          \
	{                                                                                                                          \
		(literal), sizeof(literal) - 1                                                                                         \
	}
#define ECHOED(name, otherwise)                                                                                                \
	{                                                                                                                          \
		TEXT(name), TEXT("\"" name "\":" otherwise), NULL                                                                      \
	}

static const struct echoed echoed[] = {
    ECHOED("instructions", "null"),
    ECHOED("max_output_tokens", "null"),
    ECHOED("max_tool_calls", "null"),
    ECHOED("metadata", "{}"),
    ECHOED("parallel_tool_calls", "true"),
    ECHOED("previous_response_id", "null"),
    ECHOED("prompt_cache_key", "null"),
    ECHOED("safety_identifier", "null"),
    ECHOED("store", "false"),
    ECHOED("temperature", "1"),
    ECHOED("top_p", "1"),
    ECHOED("presence_penalty", "0"),
    ECHOED("frequency_penalty", "0"),
    ECHOED("top_logprobs", "0"),
    ECHOED("tool_choice", "\"auto\""),
    ECHOED("truncation", "\"disabled\""),
    ECHOED("user", "null"),
    {TEXT("reasoning"), TEXT("\"reasoning\":{\"effort\":null,\"summary\":null}"), put_reasoning},
    {TEXT("text"), TEXT("\"text\":{\"format\":{\"type\":\"text\"},\"verbosity\":\"medium\"}"), put_text},
    {TEXT("tools"), TEXT("\"tools\":[]"), put_tools},
};
#define ECHOED_COUNT (sizeof echoed / sizeof *echoed)

/* In one pass over the request: its members are fewer than those that are echoed. The last of two of a name wins. */
static void find_given(const json_val *root, const json_val *given[ECHOED_COUNT])
{
	struct json_iter iter = json_iter(root);
	struct str name;
	for (json_val *value; (value = json_next(&iter, &name));)
		for (size_t i = 0; i < ECHOED_COUNT; i++)
			if (str_eq(echoed[i].name, name))
				given[i] = json_type(value) == JSON_NULL ? NULL : value;
}

static void write_echo(struct json_writer *w, const struct responses_request *request)
{
	const json_val *given[ECHOED_COUNT] = {NULL};
	if (request)
		find_given(request->root, given);
	for (size_t i = 0; i < ECHOED_COUNT; i++) {
		if (!given[i]) {
			json_raw(w, echoed[i].otherwise);
			continue;
		}
		json_key_str(w, echoed[i].name);
		if (echoed[i].put)
			echoed[i].put(w, given[i]);
		else
			json_value(w, given[i]);
	}
	json_raw(w, STR("\"background\":false,\"service_tier\":\"default\""));
}

static void put_echo_members(struct json_writer *w, struct responses_answer *answer)
{
	struct json_writer own;
	if (answer->echo.len == 0) {
		json_writer_init(&own, &answer->echo);
		json_begin_object(&own);
		write_echo(&own, answer->request);
		json_end_object(&own);
	}
	json_raw(w, str_sub(buf_str(&answer->echo), 1, answer->echo.len - 2)); /* without its braces */
}

/* --- the object --- */

static void put_usage(struct json_writer *w, const struct responses_answer *answer, const struct chat_answer_end *end)
{
	json_key(w, "usage");
	if (!end) {
		json_null(w);
		return;
	}
	struct chat_usage usage = answer_usage(&answer->steps, end);
	json_begin_object(w);
	json_put_i64(w, "input_tokens", (int64_t)usage.prompt_tokens);
	json_key(w, "input_tokens_details");
	json_begin_object(w);
	json_put_i64(w, "cached_tokens", (int64_t)usage.cached_tokens);
	json_put_i64(w, "cache_write_tokens", 0);
	json_end_object(w);
	json_put_i64(w, "output_tokens", (int64_t)usage.completion_tokens);
	json_key(w, "output_tokens_details");
	json_begin_object(w);
	json_put_i64(w, "reasoning_tokens", (int64_t)usage.reasoning_tokens);
	json_end_object(w);
	json_put_i64(w, "total_tokens", (int64_t)(usage.prompt_tokens + usage.completion_tokens));
	json_end_object(w);
}

static void put_error(struct json_writer *w, const struct api_error *error)
{
	json_key(w, "error");
	if (!error) {
		json_null(w);
		return;
	}
	json_begin_object(w);
	json_put_cstr(w, "code", error->status == 429 ? "rate_limit_exceeded" : "server_error");
	json_put_cstr(w, "message", error->message);
	json_end_object(w);
}

static void put_details(struct json_writer *w, const struct responses_outcome *outcome)
{
	json_key(w, "incomplete_details");
	if (outcome->status != RESPONSES_INCOMPLETE) {
		json_null(w);
		return;
	}
	json_begin_object(w);
	json_put_cstr(w, "reason", outcome->why);
	json_end_object(w);
}

void responses_put_object(struct json_writer *w, struct responses_answer *answer, const struct responses_outcome *outcome)
{
	static const char *const statuses[] = {"in_progress", "completed", "incomplete", "failed"};
	char id[RESPONSES_ID_BYTES];
	responses_id(answer->hex, id);
	json_begin_object(w);
	json_put_cstr(w, "id", id);
	json_put_str(w, "object", STR("response"));
	json_put_i64(w, "created_at", answer->steps.created_s);
	json_key(w, "completed_at");
	if (outcome->status == RESPONSES_COMPLETED)
		json_i64(w, answer->completed_s);
	else
		json_null(w);
	json_put_cstr(w, "status", statuses[outcome->status]);
	put_error(w, outcome->error);
	put_details(w, outcome);
	json_put_str(w, "model", answer->options.requested_model);
	json_key(w, "output");
	json_begin_array(w);
	for (uint32_t i = 0; i < answer->item_count && outcome->status != RESPONSES_IN_PROGRESS; i++)
		responses_put_item(w, answer, answer->items[i]);
	json_end_array(w);
	put_echo_members(w, answer);
	put_usage(w, answer, outcome->end);
	if (outcome->end && outcome->end->se_signature.len > 0)
		json_put_str(w, "se_signature", outcome->end->se_signature);
	if (outcome->end && outcome->end->response_hash.len > 0)
		json_put_str(w, "response_hash", outcome->end->response_hash);
	json_end_object(w);
}
