/* The state file that `darkbloom status` reads: any bytes give a state or a refusal. */
#include <stdlib.h>

#include "provider/cli/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state state;
	struct arena *arena = arena_new(0);
	if (state_parse((struct str){(const char *)data, size}, arena, &state) == DB_OK) {
		size_t bytes = state.coordinator_url.len + state.trust_reason.len + state.last_error.len + state.connection.len;
		for (size_t i = 0; i < state.model_count; i++)
			bytes += state.models[i].id.len;
		if (state.schema != STATE_SCHEMA || bytes > size * 2)
			abort();
	}
	arena_free(arena);
	return 0;
}
