#include "provider/engine/engine_vocabulary.h"

#include <ggml.h>
#include <gguf.h>
#include <stdio.h>

#include "core/arena.h"
#include "core/map.h"

/* The library gives a token without a text one of its own. */
static struct str text_of(const struct gguf_context *file, int64_t key, size_t token, struct arena *arena)
{
	char made[32];
	struct str text = str_of(gguf_get_arr_str(file, key, token));
	if (text.len > 0)
		return text;
	int len = snprintf(made, sizeof made, "[EMPTY_%zu]", token);
	return arena_str(arena, (struct str){made, (size_t)len});
}

static enum db_err check(const struct gguf_context *file, int64_t key, const char *path, struct arena *arena, struct map *seen,
                         struct error *error)
{
	size_t count = gguf_get_arr_n(file, key);
	enum db_err err = map_reserve(seen, count);
	for (size_t token = 0; token < count && !err; token++) {
		void *before = NULL;
		struct str text = text_of(file, key, token, arena);
		err = text.at ? map_put(seen, text, (void *)(uintptr_t)(token + 1), &before) : DB_E_NOMEM;
		if (!err && before)
			return error_set(error, DB_E_INVALID, "model load failed: the vocabulary of %s names tokens %zu and %zu alike",
			                 path, (size_t)(uintptr_t)before - 1, token);
	}
	return err ? error_set(error, err, "model load failed: insufficient memory") : DB_OK;
}

enum db_err engine_vocabulary_check(const char *model_path, struct error *error)
{
	struct gguf_context *file = gguf_init_from_file(model_path, (struct gguf_init_params){.no_alloc = true});
	struct arena *arena = arena_new(0);
	struct map seen;
	map_init(&seen);
	int64_t key = file ? gguf_find_key(file, "tokenizer.ggml.tokens") : -1;
	bool texts = key >= 0 && gguf_get_kv_type(file, key) == GGUF_TYPE_ARRAY && gguf_get_arr_type(file, key) == GGUF_TYPE_STRING;
	enum db_err err = DB_OK;
	if (!arena)
		err = error_set(error, DB_E_NOMEM, "model load failed: insufficient memory");
	else if (texts)
		err = check(file, key, model_path, arena, &seen, error);
	map_free(&seen);
	arena_free(arena);
	if (file)
		gguf_free(file);
	return err;
}
