/* Scripts of the scripted engine: any bytes are accepted with values in range, or refused with a sentence; pieces of an
 * accepted text put together are the text. */
#include <stdlib.h>

#include "provider/engine/engine.h"
#include "provider/engine/engine_script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void check_pieces(const struct engine_script *script)
{
	struct script_text text;
	struct buf joined;
	buf_init(&joined, strlen(script->text) + 1);
	must(script_text_set(&text, str_of(script->text)) == DB_OK);
	uint64_t pieces = script->tokens && script->tokens < text.count ? script->tokens : text.count;
	for (uint64_t i = 0; i < pieces; i++)
		must(!buf_append_str(&joined, script_text_piece(&text, pieces, i)));
	must(str_eq(buf_str(&joined), str_of(script->text)));
	buf_free(&joined);
	script_text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);
	struct engine_script script;
	struct error error = {0};
	struct str json = {(const char *)data, size};
	if (engine_script_parse(json, arena, &script, &error)) {
		must(error.text[0] != '\0');
	} else {
		must(script.fail_status == 0 || (script.fail_status >= 400 && script.fail_status <= 599));
		if (script.text)
			check_pieces(&script);
	}
	arena_free(arena);
	return 0;
}
