/* Request bodies of /v1/messages from anybody: what is taken is lowered to a body that the chat API takes as well. */
#include "api/dialect.h"
#include "core/arena.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(64u << 20);
	struct chat_request request, again;
	struct api_error error = {0};
	if (dialect_anthropic.parse((struct str){(const char *)data, size}, arena, &request, &error)) {
		if (!request.dialect_state || !chat_request_parse(request.body, arena, &again, &error))
			abort();
	} else if (error.status != 400 && error.status != 503) {
		abort();
	}
	arena_free(arena);
	return 0;
}
