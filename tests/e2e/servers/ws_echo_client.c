/* ws_echo_client: the client's side of an echo, for tests with foreign servers.
 *
 *     ws_echo_client URL [TIMES]
 *
 * Connects TIMES times in a row (default 1). Every message is sent back as it came, but for the text "!close CODE REASON". For
 * every try it prints a line: "closed CODE REASON", or "failed SENTENCE". */
#include <stdio.h>
#include <stdlib.h>

#include "net/ws.h"

struct program {
	struct net_loop *loop;
	const char *url;
	long left;
};

static void connect_again(void *arg);

static void next(struct program *program)
{
	fflush(stdout);
	if (--program->left > 0)
		net_post(program->loop, connect_again, program);
	else
		net_loop_stop(program->loop);
}

static void on_message(struct ws *ws, enum ws_kind kind, char *data, size_t len, void *user)
{
	(void)user;
	struct str text = {data, len};
	if (kind == WS_TEXT && str_starts(text, STR("!close "))) {
		char code[8], reason[200];
		struct str first, rest = str_cut(str_sub(text, 7, len), ' ', &first);
		if (str_copy(first, code, sizeof code) && str_copy(rest, reason, sizeof reason))
			ws_close(ws, (int)strtol(code, NULL, 10), reason);
	} else {
		ws_send(ws, kind, text);
	}
}

static void on_close(struct ws *ws, int code, struct str reason, void *user)
{
	(void)ws;
	printf("closed %d %.*s\n", code, STR_ARG(reason));
	next(user);
}

static void opened(struct ws *ws, const struct error *error, void *user)
{
	if (ws)
		return;
	printf("failed %s\n", error->text);
	next(user);
}

static const struct ws_handler handler = {.on_message = on_message, .on_close = on_close};

static void connect_again(void *arg)
{
	struct program *program = arg;
	struct error error;
	const struct http_header header = {STR("X-Echo-Client"), STR("yes")};
	struct ws_connect_options options = {.url = program->url, .headers = &header, .header_count = 1, .timeout_ms = 60000};
	if (!ws_connect(program->loop, &options, &handler, opened, program, &error)) {
		printf("failed %s\n", error.text);
		next(program);
	}
}

int main(int argc, char **argv)
{
	struct error error;
	if (argc < 2)
		return 2;
	struct program program = {net_loop_new(&error), argv[1], argc > 2 ? strtol(argv[2], NULL, 10) : 1};
	if (!program.loop)
		return 1;
	net_post(program.loop, connect_again, &program);
	net_loop_run(program.loop);
	net_loop_free(program.loop);
	return 0;
}
