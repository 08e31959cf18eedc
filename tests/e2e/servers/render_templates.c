/* Renders conversations with chat templates as the engine does. Each line of the standard input is a JSON object with
 * "template" (its text) and "messages", and maybe "tools" and "arguments" of the template; each line of the output one with
 * "prompt", or with "error". The first argument is a GGUF file, for its vocabulary. */
#include "core/arena.h"
#include "core/json.h"
#include "provider/engine/chat_shim.h"

#include <llama.h>
#include <stdio.h>
#include <stdlib.h>

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
	(void)level;
	(void)text;
	(void)user;
}

static const char *member(struct arena *arena, const json_val *root, const char *name)
{
	const json_val *value = json_get_some(root, name);
	struct buf text;
	struct json_writer w;
	if (!value)
		return "";
	buf_init(&text, (size_t)16 << 20);
	json_writer_init(&w, &text);
	json_value(&w, value);
	const char *copy = arena_cstr(arena, buf_str(&text));
	buf_free(&text);
	return copy;
}

static void say(const char *name, struct str text)
{
	struct buf line;
	struct json_writer w;
	buf_init(&line, (size_t)16 << 20);
	json_writer_init(&w, &line);
	json_begin_object(&w);
	json_put_str(&w, name, text);
	json_end_object(&w);
	printf("%.*s\n", STR_ARG(buf_str(&line)));
	buf_free(&line);
}

/* The template of the line before is kept: to read one takes longer than to render with it. */
struct renderer {
	const struct llama_model *model;
	struct chat_templates *templates;
	struct buf source;
	char why_not[512];
};

static void read_template(struct renderer *renderer, struct arena *arena, const json_val *root)
{
	struct str source = STR_NONE;
	json_as_str(json_get(root, "template"), &source);
	if (renderer->source.len && str_eq(buf_str(&renderer->source), source))
		return;
	chat_templates_free(renderer->templates);
	buf_clear(&renderer->source);
	buf_append_str(&renderer->source, source);
	renderer->templates =
	    chat_templates_new(renderer->model, arena_cstr(arena, source), renderer->why_not, sizeof renderer->why_not);
}

static void render(struct renderer *renderer, struct arena *arena, const json_val *root)
{
	char error[512];
	struct chat_prompt prompt;
	read_template(renderer, arena, root);
	const struct chat_templates *templates = renderer->templates;
	snprintf(error, sizeof error, "%s", renderer->why_not);
	struct chat_conversation conversation = {.messages_json = member(arena, root, "messages"),
	                                         .tools_json = member(arena, root, "tools"),
	                                         .template_args_json = member(arena, root, "arguments"),
	                                         .parallel_tool_calls = -1,
	                                         .reasoning_budget = -1,
	                                         .effort_budget = -1};
	if (templates && chat_prompt_render(templates, &conversation, &prompt, error, sizeof error) == 0) {
		say("prompt", (struct str){prompt.text, prompt.text_len});
		chat_prompt_free(&prompt);
	} else {
		say("error", str_of(error));
	}
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t len;
	struct llama_model_params params = llama_model_default_params();
	struct arena *arena = arena_new(0);
	chat_shim_init();
	llama_log_set(quiet, NULL);
	params.vocab_only = true;
	struct llama_model *model = argc == 2 ? llama_model_load_from_file(argv[1], params) : NULL;
	if (!model || !arena) {
		fprintf(stderr, "usage: render_templates MODEL.gguf\n");
		return 2;
	}
	struct renderer renderer = {.model = model};
	buf_init(&renderer.source, (size_t)16 << 20);
	while ((len = getline(&line, &room, stdin)) > 0) {
		struct json_doc *doc = json_parse((struct str){line, (size_t)len}, arena, NULL);
		render(&renderer, arena, doc ? json_root(doc) : NULL);
		arena_reset(arena);
	}
	free(line);
	chat_templates_free(renderer.templates);
	buf_free(&renderer.source);
	llama_model_free(model);
	arena_free(arena);
	return 0;
}
