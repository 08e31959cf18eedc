/* A server's answer to the WebSocket handshake: any bytes are judged without harm, and only a head that carries the right
 * Sec-WebSocket-Accept is let through. */
#include <stdlib.h>

#include "net/ws_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
	char *head = malloc(size + 1); /* of its own, so that ASan sees every stray access */
	if (!head)
		return 0;
	memcpy(head, data, size);
	struct error error = {0};
	if (ws_check_answer((struct str){head, size}, accept, &error) == DB_OK) {
		if (!memmem(head, size, accept, sizeof accept - 1) || !memmem(head, size, "101", 3))
			abort();
	} else if (!error.code || !error.text[0]) {
		abort();
	}
	free(head);
	return 0;
}
