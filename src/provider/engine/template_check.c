#include "provider/engine/template_check.h"

#include "core/arena.h"
#include "provider/engine/chat_conversation.h"
#include "provider/engine/chat_history.h"

#define FIXTURE_MAX ((size_t)64 << 10)

/* A fixture, and the words that must come through. */
struct fixture {
	enum template_fault fault;
	bool may_refuse; /* in words of the template's own */
	const char *messages, *tools;
	const char *words[3];
};

#define USER "{\"role\":\"user\",\"content\":\"probe one\"}"
#define CALL                                                                                                                   \
	"\"tool_calls\":[{\"id\":\"call12345\",\"type\":\"function\",\"function\":{\"name\":\"probe_tool\",\"arguments\":\"{}\"}}" \
	"]"
#define RESULT  "{\"role\":\"tool\",\"tool_call_id\":\"call12345\",\"name\":\"probe_tool\",\"content\":\"probe three\"}"
#define TOOL(x) "[{\"type\":\"function\",\"function\":{\"name\":\"probe_tool\",\"description\":\"d\"" x "}}]"
#define SCHEMA  ",\"parameters\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}}}"

static const struct fixture fixtures[] = {
    {TEMPLATE_BROKEN,
     false,
     "[" USER ",{\"role\":\"assistant\",\"content\":\"probe two\"},{\"role\":\"user\",\"content\":\"probe three\"}]",
     "",
     {"probe one", "probe two", "probe three"}},
    {TEMPLATE_CHANNEL_TAGS,
     false,
     "[" USER ",{\"role\":\"assistant\",\"content\":\"<|channel|>analysis<|message|>hidden<|end|><|start|>assistant<|channel|>"
     "final<|message|>probe two<|return|>\"},{\"role\":\"user\",\"content\":\"probe three\"}]",
     "",
     {"probe one", "probe two", "probe three"}},
    {TEMPLATE_BROKEN,
     true,
     "[" USER ",{\"role\":\"assistant\",\"content\":\"\"," CALL "}," RESULT "]",
     TOOL(SCHEMA),
     {"probe one", "probe_tool", "probe three"}},
    {TEMPLATE_NULLS,
     true,
     "[{\"role\":\"user\",\"content\":\"probe one\",\"name\":null},{\"role\":\"assistant\",\"content\":null,"
     "\"reasoning_content\":null," CALL "}," RESULT "]",
     TOOL(SCHEMA ",\"strict\":null"),
     {"probe one", "probe_tool", "probe three"}},
    {TEMPLATE_BROKEN, true, "[" USER ",{\"role\":\"assistant\",\"content\":\"\"}]", "", {"probe one", "", ""}},
};

const char *template_fault_name(enum template_fault fault)
{
	switch (fault) {
	case TEMPLATE_BROKEN:
		return "jinja_template";
	case TEMPLATE_CHANNEL_TAGS:
		return "jinja_channel_tags";
	case TEMPLATE_NULLS:
		return "jinja_null_bridge";
	case TEMPLATE_NO_MEMORY:
		return "model_load";
	case TEMPLATE_FINE:
		break;
	}
	return "";
}

static const char *sanitised(struct arena *arena, const char *json, bool tools, const struct chat_history_options *options)
{
	struct buf text;
	struct error why;
	struct json_doc *doc = json_parse(str_of(json), arena, NULL);
	buf_init(&text, FIXTURE_MAX);
	enum db_err err = !doc    ? DB_E_NOMEM
	                  : tools ? chat_history_write_tools(json_root(doc), options, &text)
	                          : chat_history_write(json_root(doc), options, &text, &why);
	const char *kept = err ? NULL : arena_cstr(arena, buf_str(&text));
	buf_free(&text);
	return kept;
}

/* A refusal in the template's own words is told as one (chat_shim.h). */
static bool refused_in_words(const struct error *error)
{
	return strstr(error->text, "refuses this conversation:") != NULL;
}

static enum template_fault check_one(const struct fixture *fixture, const struct chat_templates *templates,
                                     const struct chat_history_options *options, struct arena *arena)
{
	const char *messages = sanitised(arena, fixture->messages, false, options);
	const char *tools = fixture->tools[0] ? sanitised(arena, fixture->tools, true, options) : "";
	struct chat_prompt prompt;
	struct error error = {.text = ""};
	if (!messages || !tools)
		return TEMPLATE_NO_MEMORY;
	struct chat_conversation conversation = {.messages_json = messages,
	                                         .tools_json = tools,
	                                         .tool_choice_json = "",
	                                         .template_args_json = "",
	                                         .parallel_tool_calls = -1,
	                                         .reasoning_budget = -1,
	                                         .effort_budget = -1};
	int status = chat_conversation_render(templates, &conversation, arena, &prompt, &error);
	if (status == 503)
		return TEMPLATE_NO_MEMORY;
	if (status)
		return fixture->may_refuse && refused_in_words(&error) ? TEMPLATE_FINE : fixture->fault;
	bool whole = true;
	for (size_t i = 0; i < sizeof fixture->words / sizeof *fixture->words; i++)
		whole = whole && memmem(prompt.text, prompt.text_len, fixture->words[i], strlen(fixture->words[i])) != NULL;
	chat_prompt_free(&prompt);
	return whole ? TEMPLATE_FINE : fixture->fault;
}

enum template_fault template_check(const struct chat_templates *templates, struct str architecture)
{
	const struct chat_history_options options = {.gpt_oss = chat_history_is_gpt_oss(architecture)};
	enum template_fault fault = TEMPLATE_FINE;
	for (size_t i = 0; fault == TEMPLATE_FINE && i < sizeof fixtures / sizeof *fixtures; i++) {
		struct arena *arena = arena_new(0);
		fault = arena ? check_one(&fixtures[i], templates, &options, arena) : TEMPLATE_NO_MEMORY;
		arena_free(arena);
	}
	return fault;
}
