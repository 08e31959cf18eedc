/* What naming a prompt and what it begins with costs a request: a conversation of 20 messages, 100 KB in all. */
#include <stdio.h>
#include <stdlib.h>

#include "api/dialect.h"
#include "coordinator/fleet/fleet_internal.h"
#include "core/clock.h"

#define MESSAGES      20
#define MESSAGE_BYTES 5120
#define ROUNDS        2000

int main(void)
{
	static struct fleet fleet;
	static char text[MESSAGE_BYTES];
	struct arena *arena = arena_new(16u << 20);
	struct chat_request request = {0};
	struct api_error error;
	struct fleet_prefixes prefixes;
	struct buf body;
	buf_init(&body, 1u << 20);
	for (size_t i = 0; i < sizeof text; i++)
		text[i] = (char)('a' + i % 26);
	(void)buf_append_c(&body, "{\"model\":\"m\",\"messages\":[");
	for (int i = 0; i < MESSAGES; i++) {
		(void)buf_printf(&body, "%s{\"role\":\"%s\",\"content\":\"", i ? "," : "", i % 2 ? "assistant" : "user");
		(void)buf_append(&body, text, sizeof text);
		(void)buf_append_c(&body, "\"}");
	}
	(void)buf_append_c(&body, "]}");
	if (!arena || body.failed || !dialect_chat.parse(buf_str(&body), arena, &request, &error))
		return 1;
	uint64_t start_us = clock_thread_cpu_us();
	for (int i = 0; i < ROUNDS; i++)
		fleet_name_prefixes(&fleet, &request, STR("acct_1"), &prefixes);
	printf("bench prefix_names_us_100kb %.1f us\n", (double)(clock_thread_cpu_us() - start_us) / ROUNDS);
	if (prefixes.count != FLEET_PREFIXES)
		return 1;
	buf_free(&body);
	arena_free(arena);
	return 0;
}
