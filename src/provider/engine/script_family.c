#include "provider/engine/script_family.h"

#include "core/buf.h"
#include "provider/engine/engine_vocabulary.h"

#include <llama.h>
#include <stdio.h>
#include <stdlib.h>

#define TEMPLATE_MAX ((size_t)1 << 20)

struct script_family {
	struct llama_model *model;
	struct chat_templates *templates;
};

static bool read_file(const char *path, struct buf *out)
{
	char block[4096];
	size_t got;
	FILE *file = fopen(path, "rb");
	if (!file)
		return false;
	while ((got = fread(block, 1, sizeof block, file)) > 0)
		buf_append(out, block, got);
	bool ok = !ferror(file) && buf_append_byte(out, '\0') == DB_OK;
	fclose(file);
	return ok;
}

static struct llama_model *load_vocabulary(const char *path)
{
	if (engine_vocabulary_check(path, NULL))
		return NULL;
	struct llama_model_params params = llama_model_default_params();
	params.vocab_only = true;
	return llama_model_load_from_file(path, params);
}

struct script_family *script_family_new(const char *vocabulary, const char *chat_template, struct error *error)
{
	struct script_family *family = calloc(1, sizeof *family);
	char why[sizeof error->text] = "";
	struct buf text;
	buf_init(&text, TEMPLATE_MAX);
	chat_shim_init();
	if (!family)
		error_set(error, DB_E_NOMEM, "insufficient memory for the scripted engine");
	else if (!(family->model = load_vocabulary(vocabulary)))
		error_set(error, DB_E_INVALID, "script: vocabulary cannot be loaded");
	else if (!read_file(chat_template, &text))
		error_set(error, DB_E_IO, "script: chat_template cannot be read");
	else if (!(family->templates = chat_templates_new(family->model, text.at, why, sizeof why)))
		error_set(error, DB_E_INVALID, "script: %s", why);
	buf_free(&text);
	if (family && family->templates)
		return family;
	script_family_free(family);
	return NULL;
}

void script_family_free(struct script_family *family)
{
	if (!family)
		return;
	chat_templates_free(family->templates);
	llama_model_free(family->model);
	free(family);
}

int script_family_render(const struct script_family *family, const struct chat_request *chat, struct arena *arena,
                         struct chat_prompt *out, struct error *error)
{
	struct chat_conversation conversation;
	int status = chat_conversation_copy(chat, STR("scripted"), arena, &conversation, error);
	return status ? status : chat_conversation_render(family->templates, &conversation, arena, out, error);
}
