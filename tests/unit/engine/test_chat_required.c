/* tool_choice "required" or a named function, over every template of llama.cpp's source: whatever the family, an answer without
 * a call cannot come to its end. */
#include "shim_fixture.h"

#include "provider/engine/chat_conversation.h"

#include <dirent.h>

static const char two_tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"description\":\"Weather\",\"parameters\":"
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}},\"required\":[\"city\"]}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"get_time\",\"description\":\"Time\",\"parameters\":"
    "{\"type\":\"object\",\"properties\":{\"zone\":{\"type\":\"string\"}},\"required\":[\"zone\"]}}}]";
static const char named[] = "{\"type\":\"function\",\"function\":{\"name\":\"get_time\"}}";

static bool allows(struct chat_grammar *grammar, int32_t token)
{
	llama_token_data one = {token, 1.0f, 0.0f};
	llama_token_data_array alone = {&one, 1, -1, false};
	chat_grammar_apply(grammar, &alone);
	return one.logit > 0;
}

/* Feeds as much of the text as the grammar takes. */
static void say(struct chat_grammar *grammar, const char *text)
{
	int32_t tokens[64];
	int32_t count = chat_shim_tokenize(llama_model_get_vocab(model), text, strlen(text), tokens, 64, false, true);
	assert_true(count > 0);
	for (int32_t i = 0; i < count && allows(grammar, tokens[i]); i++)
		assert_true(chat_grammar_accept(grammar, tokens[i]));
}

static bool ends(struct chat_grammar *grammar)
{
	return allows(grammar, llama_vocab_eos(llama_model_get_vocab(model)));
}

static void render(const char *name, const struct chat_templates *templates, const char *choice, struct arena *arena,
                   struct chat_prompt *out)
{
	struct error error = {.text = ""};
	struct chat_conversation conversation = {.messages_json = hello,
	                                         .tools_json = two_tools,
	                                         .tool_choice_json = choice,
	                                         .schema_json = "",
	                                         .template_args_json = "",
	                                         .reasoning_effort = "",
	                                         .parallel_tool_calls = -1,
	                                         .reasoning_budget = -1,
	                                         .effort_budget = -1};
	int status = chat_conversation_render(templates, &conversation, arena, out, &error);
	if (status)
		fail_msg("%s: %d %s", name, status, error.text);
	if (!out->grammar)
		fail_msg("%s: nothing holds the answer to %s", name, choice);
}

static void must_call(const char *name, const struct chat_templates *templates, const char *choice)
{
	struct arena *arena = arena_new(0);
	struct chat_prompt prompt;
	render(name, templates, choice, arena, &prompt);
	if (ends(prompt.grammar))
		fail_msg("%s: nothing at all answers %s", name, choice);
	say(prompt.grammar, "Sure, here it is.");
	if (ends(prompt.grammar))
		fail_msg("%s: plain words answer %s", name, choice);
	chat_prompt_free(&prompt);
	arena_free(arena);
}

static void an_answer_without_the_required_call_cannot_end(void **state)
{
	(void)state;
	DIR *folder = opendir(TEMPLATES);
	size_t seen = 0;
	assert_non_null(folder);
	for (struct dirent *entry; (entry = readdir(folder));) {
		size_t len = strlen(entry->d_name);
		if (len < 6 || strcmp(entry->d_name + len - 6, ".jinja") != 0)
			continue;
		struct chat_templates *templates = template_of(entry->d_name);
		must_call(entry->d_name, templates, "\"required\"");
		must_call(entry->d_name, templates, named);
		chat_templates_free(templates);
		seen++;
	}
	closedir(folder);
	assert_true(seen >= 60);
}

/* One template has no place for tools; of the other the library knows how it is told of tools, not how it calls them. */
static void where_the_library_makes_no_grammar_one_of_our_own_holds_the_call(void **state)
{
	(void)state;
	static const char *const names[] = {"google-gemma-2-2b-it.jinja", "ibm-granite-granite-3.3-2B-Instruct.jinja"};
	static const char call[] = "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"zone\": \"UTC\"}}\n</tool_call>";
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct chat_templates *templates = template_of(names[i]);
		struct arena *arena = arena_new(0);
		struct chat_prompt prompt;
		struct chat_reader_delta delta;
		render(names[i], templates, named, arena, &prompt);
		say(prompt.grammar, call);
		assert_true(ends(prompt.grammar));
		assert_non_null(prompt.reader);
		assert_true(chat_reader_feed(prompt.reader, call, strlen(call), true, &delta));
		assert_true(chat_reader_has_tool_calls(prompt.reader));
		assert_non_null(memmem(delta.tool_calls, delta.tool_calls_len, "\"name\":\"get_time\"", 17));
		chat_prompt_free(&prompt);
		arena_free(arena);
		chat_templates_free(templates);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(where_the_library_makes_no_grammar_one_of_our_own_holds_the_call),
	    cmocka_unit_test(an_answer_without_the_required_call_cannot_end),
	};
	return cmocka_run_group_tests(tests, load_vocabulary, free_vocabulary);
}
