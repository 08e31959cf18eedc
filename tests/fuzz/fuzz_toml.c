/* Any bytes as a TOML document: a tree that holds together, or an error with a line. */
#include <stdlib.h>

#include "core/toml.h"
#include "core/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

static void check_value(const struct toml_value *value, int lines)
{
	check(value->line >= 1 && value->line <= lines);
	check(utf8_valid(value->key));
	if (value->type == TOML_STRING || value->type == TOML_DATETIME)
		check(utf8_valid(value->as.string));
	for (const struct toml_value *child = value->first; child; child = child->next) {
		check(value->type == TOML_TABLE || value->type == TOML_ARRAY);
		if (value->type == TOML_TABLE)
			check(toml_get(value, child->key) == child); /* no key is there twice */
		check_value(child, lines);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int lines = 1;
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	struct arena *arena = arena_new(0);
	struct error error = {0};
	const struct toml_value *root = toml_parse((struct str){(const char *)data, size}, arena, &error);
	if (root)
		check_value(root, lines);
	else
		check(error.code != DB_OK && str_starts(str_of(error.text), STR("line ")));
	arena_free(arena);
	return 0;
}
