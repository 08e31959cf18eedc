#include "provider/engine/chat_conversation.h"

#include "provider/engine/chat_history.h"
#include "provider/engine/chat_plain_tools.h"
#include "provider/engine/chat_schema.h"
#include "provider/engine/chat_schema_merge.h"
#include "provider/engine/chat_schema_unfold.h"
#include "provider/engine/chat_verdict.h"

#define TEXT_MAX   ((size_t)64 << 20)
#define SCHEMA_MAX ((size_t)16 << 20)

static int out_of_memory(struct error *error)
{
	error_set(error, DB_E_NOMEM, "insufficient memory for the request");
	return 503;
}

/* What the buffer holds, in the arena; the buffer is freed. */
static const char *kept(struct arena *arena, struct buf *text)
{
	const char *copy = text->failed ? NULL : arena_cstr(arena, buf_str(text));
	buf_free(text);
	return copy;
}

static const char *copy_json(struct arena *arena, const json_val *value)
{
	struct buf text;
	struct json_writer writer;
	if (json_type(value) == JSON_ABSENT || json_type(value) == JSON_NULL)
		return "";
	buf_init(&text, TEXT_MAX);
	json_writer_init(&writer, &text);
	json_value(&writer, value);
	return kept(arena, &text);
}

static int copy_messages(const struct chat_request *chat, const struct chat_history_options *options, struct arena *arena,
                         struct chat_conversation *out, struct error *error)
{
	struct buf text;
	buf_init(&text, TEXT_MAX);
	enum db_err err = chat_history_write(chat->messages, options, &text, error);
	out->messages_json = kept(arena, &text);
	if (err == DB_E_INVALID)
		return 400;
	return err || !out->messages_json ? out_of_memory(error) : 0;
}

/* The arguments of a strict function keep to its schema, or it is refused. */
static enum db_err check_tools(const json_val *tools, struct error *error)
{
	struct json_iter iter = json_iter(tools);
	enum db_err err = DB_OK;
	for (json_val *tool; !err && (tool = json_next(&iter, NULL));) {
		const json_val *function = json_get(tool, "function"), *parameters = json_get(function, "parameters");
		bool strict = false;
		err = chat_schema_unfolds("parameters of a function", parameters, true, error);
		if (!err && json_as_bool(json_get(function, "strict"), &strict) && strict)
			err = chat_schema_check("parameters of a strict function", parameters, false, error);
	}
	return err;
}

static int copy_tools(const struct chat_request *chat, const struct chat_history_options *options, struct arena *arena,
                      struct chat_conversation *out, struct error *error)
{
	struct buf text;
	out->tools_json = "";
	if (!chat->has_tools)
		return 0;
	if (check_tools(chat->tools, error))
		return 400;
	buf_init(&text, TEXT_MAX);
	enum db_err err = chat_history_write_tools(chat->tools, options, &text);
	out->tools_json = kept(arena, &text);
	return err || !out->tools_json ? out_of_memory(error) : 0;
}

/* As a grammar can hold it, where it can. */
static int merge_schema(const json_val *schema, struct arena *arena, struct chat_conversation *out, struct error *error)
{
	struct buf text;
	if (chat_schema_unfolds("response_format", schema, false, error))
		return 400;
	buf_init(&text, SCHEMA_MAX);
	enum db_err err = chat_schema_merge("response_format", schema, &text, error);
	out->schema_json = kept(arena, &text);
	if (err == DB_E_UNSUPPORTED)
		return 400;
	struct json_doc *merged = out->schema_json ? json_parse(str_of(out->schema_json), arena, NULL) : NULL;
	if (err || !merged)
		return out_of_memory(error);
	return chat_schema_check("response_format", json_root(merged), true, error) ? 400 : 0;
}

static int copy_schema(const struct chat_request *chat, struct arena *arena, struct chat_conversation *out, struct error *error)
{
	out->schema_json = chat_verdict_schema(chat, arena);
	if (!out->schema_json)
		return out_of_memory(error);
	bool has_one = chat->format == CHAT_FORMAT_JSON_SCHEMA && out->schema_json[0];
	return has_one ? merge_schema(chat->schema, arena, out, error) : 0;
}

/* --- how much the model may think --- */

static bool budget_at(const json_val *object, const char *name, int64_t *out)
{
	int64_t value;
	if (!json_as_i64(json_get(object, name), &value) || value < 0)
		return false;
	*out = value;
	return true;
}

/* Part of the answer's tokens that an effort stands for. */
static int64_t budget_of_effort(struct str effort, int64_t max_tokens)
{
	static const struct {
		const char *name;
		int percent;
	} efforts[] = {{"none", 0}, {"minimal", 10}, {"low", 20}, {"medium", 50}, {"high", 80}};
	int64_t most = max_tokens > 0 ? max_tokens : CHAT_DEFAULT_MAX_TOKENS;
	for (size_t i = 0; i < sizeof efforts / sizeof *efforts; i++)
		if (str_is(effort, efforts[i].name))
			return most / 100 * efforts[i].percent + most % 100 * efforts[i].percent / 100;
	return -1;
}

static bool copy_reasoning(const struct chat_request *chat, struct arena *arena, struct chat_conversation *out)
{
	const json_val *reasoning = json_get(chat->root, "reasoning");
	struct str effort = STR_NONE;
	if (!json_as_str(json_get(chat->root, "reasoning_effort"), &effort))
		json_as_str(json_get(reasoning, "effort"), &effort);
	out->reasoning_budget = -1;
	if (!budget_at(chat->root, "max_reasoning_tokens", &out->reasoning_budget) &&
	    !budget_at(reasoning, "max_tokens", &out->reasoning_budget))
		budget_at(json_get(chat->root, "thinking"), "budget_tokens", &out->reasoning_budget);
	out->effort_budget = budget_of_effort(effort, chat->max_tokens);
	out->reasoning_effort = arena_cstr(arena, effort);
	return out->reasoning_effort != NULL;
}

int chat_conversation_copy(const struct chat_request *chat, struct str architecture, struct arena *arena,
                           struct chat_conversation *out, struct error *error)
{
	struct chat_history_options options = {.gpt_oss = chat_history_is_gpt_oss(architecture)};
	bool parallel;
	*out = (struct chat_conversation){.parallel_tool_calls = -1, .reasoning_budget = -1, .effort_budget = -1};
	if (chat->prompt) /* text to go on with: nothing is rendered */
		return 0;
	if (json_as_bool(json_get(chat->root, "parallel_tool_calls"), &parallel))
		out->parallel_tool_calls = parallel;
	int status = copy_messages(chat, &options, arena, out, error);
	if (!status)
		status = copy_tools(chat, &options, arena, out, error);
	if (!status)
		status = copy_schema(chat, arena, out, error);
	if (status)
		return status;
	out->tool_choice_json = copy_json(arena, chat->tool_choice);
	out->template_args_json = copy_json(arena, json_get(chat->root, "chat_template_kwargs"));
	if (!copy_reasoning(chat, arena, out) || !out->tool_choice_json || !out->template_args_json)
		return out_of_memory(error);
	return 0;
}

/* --- rendering --- */

static int rewrite_plainly(struct chat_conversation *conversation, bool show_tools, struct arena *arena, struct error *error)
{
	struct buf text;
	buf_init(&text, TEXT_MAX);
	enum db_err err =
	    chat_plain_tools_write(str_of(conversation->messages_json), str_of(show_tools ? conversation->tools_json : ""),
	                           str_of(conversation->tool_choice_json), &text);
	conversation->messages_json = kept(arena, &text);
	return err || !conversation->messages_json ? out_of_memory(error) : 0;
}

int chat_conversation_render(const struct chat_templates *templates, struct chat_conversation *conversation,
                             struct arena *arena, struct chat_prompt *out, struct error *error)
{
	struct chat_caps caps;
	int status = 0;
	chat_templates_caps(templates, &caps);
	bool tools = conversation->tools_json[0] != '\0';
	conversation->plain_tools = tools && !caps.tools && !caps.tool_calls;
	if (conversation->plain_tools || (!caps.tool_calls && chat_plain_tools_in(str_of(conversation->messages_json))))
		status = rewrite_plainly(conversation, conversation->plain_tools, arena, error);
	if (status)
		return status;
	char text[sizeof error->text];
	status = chat_prompt_render(templates, conversation, out, text, sizeof text);
	if (status)
		error_set(error, DB_E_INVALID, "%s", text);
	return status;
}
