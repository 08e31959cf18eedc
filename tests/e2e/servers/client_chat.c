/* A program outside the tree, as far as it can tell: nothing but libdarkbloom-client's public header.
 * client_chat URL KEY clear|sealed|blind MODEL PROMPT [TRUSTED_KEY] prints the answer's events, and what came of it. */
#include "darkbloom_client.h"

#include <stdio.h>
#include <string.h>

static int print_event(const char *data, size_t data_len, void *user)
{
	int *left = user;
	printf("event %.*s\n", (int)data_len, data);
	return --*left == 0;
}

int main(int argc, char **argv)
{
	char error[400], body[4096];
	struct darkbloom_result result;
	if (argc < 6)
		return 2;
	const char *trusted[] = {argc > 6 ? argv[6] : NULL, NULL};
	struct darkbloom_client_options options = {
	    .url = argv[1],
	    .api_key = argv[2],
	    .mode = strcmp(argv[3], "blind") == 0    ? DARKBLOOM_BLIND
	            : strcmp(argv[3], "sealed") == 0 ? DARKBLOOM_SEALED
	                                             : DARKBLOOM_CLEAR,
	    .trusted_keys = trusted[0] ? trusted : NULL,
	};
	struct darkbloom_client *client = darkbloom_client_new(&options, error, sizeof error);
	if (!client) {
		printf("error %s\n", error);
		return 1;
	}
	int len =
	    snprintf(body, sizeof body, "{\"model\":\"%s\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}]}",
	             argv[4], argv[5]);
	int failed = 0;
	for (int round = 0; round < 2; round++) { /* a client is good for many */
		int stop_after = round == 0 ? -1 : 2;
		failed = darkbloom_client_chat(client, body, (size_t)len, print_event, &stop_after, &result);
		printf("result %d status %d tokens %llu+%llu error %s\n", failed, result.status,
		       (unsigned long long)result.prompt_tokens, (unsigned long long)result.completion_tokens, result.error);
	}
	darkbloom_client_free(client);
	return 0;
}
