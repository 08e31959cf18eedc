/* ws_echo: a WebSocket echo server for the tests. Listens on a free port of 127.0.0.1 and prints it.
 *
 *     ws_echo [MAX_MESSAGE_BYTES]
 *
 * Every message comes back as it is, but for the texts "!close CODE REASON" and "!abort". For every
 * WebSocket that ends it prints "closed CODE REASON". */
#include <stdio.h>
#include <stdlib.h>

#include "net/http_server.h"
#include "net/ws.h"

struct program {
	struct net_loop *loop;
	struct http_server *server;
	struct ws_limits limits;
	struct list connections;
	bool ending;
};

struct connection {
	struct list_link link;
	struct program *program;
	struct ws *ws;
};

static void on_message(struct ws *ws, enum ws_kind kind, char *data, size_t len, void *user)
{
	(void)user;
	struct str text = {data, len};
	if (kind == WS_TEXT && str_starts(text, STR("!close "))) {
		char code[8], reason[200];
		struct str first, rest = str_cut(str_sub(text, 7, len), ' ', &first);
		if (str_copy(first, code, sizeof code) && str_copy(rest, reason, sizeof reason))
			ws_close(ws, (int)strtol(code, NULL, 10), reason);
	} else if (kind == WS_TEXT && str_is(text, "!abort")) {
		ws_abort(ws);
	} else if (ws_send(ws, kind, text) == DB_E_AGAIN) {
		ws_abort(ws);
	}
}

static void stop_when_empty(struct program *program)
{
	if (program->ending && !program->connections.count)
		net_loop_stop(program->loop);
}

static void on_close(struct ws *ws, int code, struct str reason, void *user)
{
	(void)ws;
	struct connection *connection = user;
	struct program *program = connection->program;
	printf("closed %d %.*s\n", code, STR_ARG(reason));
	fflush(stdout);
	list_remove(&program->connections, &connection->link);
	free(connection);
	stop_when_empty(program);
}

static const struct ws_handler handler = {.on_message = on_message, .on_close = on_close};

static void on_request(struct http_request *request, void *context)
{
	struct program *program = context;
	struct connection *connection = calloc(1, sizeof *connection);
	if (!connection) {
		http_respond(request, 503, NULL, STR_NONE);
		return;
	}
	connection->program = program;
	connection->ws = ws_accept(request, &handler, &program->limits, connection);
	if (connection->ws)
		list_push_back(&program->connections, &connection->link);
	else
		free(connection);
}

static void on_terminate(int signal, void *arg)
{
	(void)signal;
	struct program *program = arg;
	program->ending = true;
	http_server_free(program->server);
	LIST_EACH (link, &program->connections)
		ws_abort(LIST_OF(link, struct connection, link)->ws);
	stop_when_empty(program);
}

int main(int argc, char **argv)
{
	struct error error;
	struct program program = {.loop = net_loop_new(&error)};
	if (!program.loop)
		return 1;
	list_init(&program.connections);
	program.limits.max_message_bytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
	program.limits.max_queued_bytes = 64u << 20;
	struct http_server_options options = {.host = "127.0.0.1", .context = &program, .on_request = on_request};
	program.server = http_server_new(program.loop, &options, &error);
	if (!program.server) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	printf("%u\n", http_server_port(program.server));
	fflush(stdout);
	net_on_terminate(program.loop, on_terminate, &program);
	net_loop_run(program.loop);
	net_loop_free(program.loop);
	return 0;
}
