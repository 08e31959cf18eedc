/* A consumer's body: parsing never crashes, and what is accepted is forwarded as a body that is accepted again. */
#include "api/chat_request.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(16 << 20);
	struct chat_request request, again;
	struct api_error error;
	struct buf out;
	if (!arena)
		return 0;
	buf_init(&out, 16 << 20);
	if (chat_request_parse((struct str){(const char *)data, size}, arena, &request, &error)) {
		if (chat_request_forward(&request, STR("build"), 7, &out) != DB_OK ||
		    !chat_request_parse(buf_str(&out), arena, &again, &error) || !str_is(again.model, "build") ||
		    again.max_tokens != 7 || again.places.serial_count != 0 || again.places.region_count != 0)
			if (request.sampling.min_tokens <= 7) /* 7 may be below min_tokens */
				abort();
	} else if (error.status < 400 || error.message[0] == '\0') {
		abort();
	}
	buf_free(&out);
	arena_free(arena);
	return 0;
}
