/* ws_echo: a WebSocket echo server for the tests. Listens on a free port of 127.0.0.1 and prints it.
 *
 *     ws_echo [MAX_MESSAGE_BYTES]
 *
 * Every message comes back as it is, but for the texts "!close CODE REASON", "!abort" and "!stop" (end the program). For every
 * WebSocket that ends it prints "closed CODE REASON". */
#include <stdio.h>
#include <stdlib.h>

#include "net/http_server.h"
#include "net/ws.h"

struct program {
	struct net_loop *loop;
	struct ws_limits limits;
};

static void on_message(struct ws *ws, enum ws_kind kind, char *data, size_t len, void *user)
{
	struct program *program = user;
	struct str text = {data, len};
	if (kind == WS_TEXT && str_starts(text, STR("!close "))) {
		char code[8], reason[200];
		struct str first, rest = str_cut(str_sub(text, 7, len), ' ', &first);
		if (str_copy(first, code, sizeof code) && str_copy(rest, reason, sizeof reason))
			ws_close(ws, (int)strtol(code, NULL, 10), reason);
	} else if (kind == WS_TEXT && str_is(text, "!abort")) {
		ws_abort(ws);
	} else if (kind == WS_TEXT && str_is(text, "!stop")) {
		net_loop_stop(program->loop);
	} else if (ws_send(ws, kind, text) == DB_E_AGAIN) {
		ws_abort(ws);
	}
}

static void on_close(struct ws *ws, int code, struct str reason, void *user)
{
	(void)ws;
	(void)user;
	printf("closed %d %.*s\n", code, STR_ARG(reason));
	fflush(stdout);
}

static const struct ws_handler handler = {.on_message = on_message, .on_close = on_close};

static void on_request(struct http_request *request, void *context)
{
	struct program *program = context;
	ws_accept(request, &handler, &program->limits, program);
}

static void on_terminate(int signal, void *arg)
{
	(void)signal;
	net_loop_stop(arg);
}

int main(int argc, char **argv)
{
	struct error error;
	struct program program = {.loop = net_loop_new(&error)};
	if (!program.loop)
		return 1;
	program.limits.max_message_bytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
	program.limits.max_queued_bytes = 64u << 20;
	struct http_server_options options = {.host = "127.0.0.1", .context = &program, .on_request = on_request};
	struct http_server *server = http_server_new(program.loop, &options, &error);
	if (!server) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	printf("%u\n", http_server_port(server));
	fflush(stdout);
	net_on_terminate(program.loop, on_terminate, program.loop);
	net_loop_run(program.loop);
	_Exit(0); /* open WebSockets have no owner that could end them */
}
