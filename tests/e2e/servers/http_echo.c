/* http_echo: an HTTP server for the tests and for load generators. Listens on a free port of 127.0.0.1 and prints it; SIGTERM
 * drains it and ends it with status 0.
 *
 *     http_echo [CERTIFICATE KEY]
 *
 *     /hello             six bytes
 *     /echo              the request's body, up to 64 MiB
 *     /events?COUNT      a stream of that many server-sent events, as fast as the client takes them
 *     /later?MS          answers after so many milliseconds
 *     /never             never answers
 *     /arrived           how many clients came for one of these three
 *     /departed          how many of them left while they waited */
#include <stdio.h>
#include <stdlib.h>

#include "net/http_server.h"

struct program {
	struct net_loop *loop;
	struct http_server *server;
	unsigned arrived, departed;
};

struct visit {
	struct program *program;
	struct http_request *request;
	struct net_timer timer;
	uint64_t left;
};

static void on_gone(struct http_request *request, void *user)
{
	(void)request;
	struct visit *visit = user;
	visit->program->departed++;
	net_timer_stop(&visit->timer);
}

static struct visit *visit_new(struct program *program, struct http_request *request)
{
	struct visit *visit = arena_alloc(http_arena(request), sizeof *visit);
	if (!visit)
		return NULL;
	visit->program = program;
	program->arrived++;
	visit->request = request;
	visit->left = 100;
	(void)str_to_u64(http_query(request), &visit->left);
	http_set_user(request, visit);
	http_set_on_gone(request, on_gone);
	return visit;
}

static void send_events(struct http_request *request, void *user)
{
	static const char event[] =
	    "data: {\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
	    "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"}}]}\n\n";
	struct visit *visit = user;
	while (visit->left > 0 && http_stream_room(request) > 0) {
		if (http_stream_write(request, STR(event)))
			return;
		visit->left--;
	}
	if (visit->left == 0)
		http_stream_end(request);
}

static void on_later(struct net_timer *timer)
{
	struct visit *visit = LIST_OF(timer, struct visit, timer);
	http_respond(visit->request, 200, "text/plain", STR("later\n"));
}

static int64_t on_head(struct http_request *request, void *context)
{
	(void)request;
	(void)context;
	return 64 << 20;
}

static void on_request(struct http_request *request, void *context)
{
	struct program *program = context;
	struct str path = http_path(request);
	if (str_is(path, "/echo")) {
		http_respond(request, 200, "application/octet-stream", http_body(request));
	} else if (str_is(path, "/arrived") || str_is(path, "/departed")) {
		unsigned count = str_is(path, "/arrived") ? program->arrived : program->departed;
		http_respond(request, 200, "text/plain", str_of(arena_printf(http_arena(request), "%u\n", count)));
	} else if (str_is(path, "/events") || str_is(path, "/later") || str_is(path, "/never")) {
		struct visit *visit = visit_new(program, request);
		if (!visit) {
			http_respond(request, 500, NULL, STR_NONE);
		} else if (str_is(path, "/events")) {
			http_stream_start(request, 200, "text/event-stream", send_events);
			send_events(request, visit);
		} else if (str_is(path, "/later")) {
			net_timer_start(program->loop, &visit->timer, visit->left, 0, on_later);
		}
	} else if (str_is(path, "/hello") || str_is(path, "/")) {
		http_respond(request, 200, "text/plain", STR("hello\n"));
	} else {
		http_respond(request, 404, "text/plain", STR("nothing here\n"));
	}
}

static void on_drained(void *arg)
{
	struct program *program = arg;
	net_loop_stop(program->loop);
}

static void on_terminate(int signal, void *arg)
{
	(void)signal;
	struct program *program = arg;
	http_server_drain(program->server, on_drained, program);
}

int main(int argc, char **argv)
{
	struct error error;
	struct program program = {.loop = net_loop_new(&error)};
	struct tls_context *tls = argc == 3 ? tls_server_new(argv[1], argv[2], &error) : NULL;
	if (!program.loop || (argc == 3 && !tls)) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	struct http_server_options options = {
	    .host = "127.0.0.1", .tls = tls, .context = &program, .on_head = on_head, .on_request = on_request};
	program.server = http_server_new(program.loop, &options, &error);
	if (!program.server) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	net_on_terminate(program.loop, on_terminate, &program);
	printf("%u\n", http_server_port(program.server));
	fflush(stdout);
	net_loop_run(program.loop);
	http_server_free(program.server);
	net_loop_free(program.loop);
	tls_free(tls);
	return 0;
}
