/* The HTTP server on core 0 under plain sockets on core 1: whole answers over 64 connections, server-sent events over 512
 * streams with one small write per stream and loop turn, and what an idle connection holds. Lines `bench <name> <value>
 * <unit>`. */
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "net/http_server.h"

#define REQUESTS    200000u
#define CONNECTIONS 64u
#define STREAMS     512u
#define EVENTS      2000000u
#define IDLE        2000u

struct bench {
	struct net_loop *loop;
	struct http_server *server;
	struct http_request *streams[STREAMS];
	size_t stream_count, events_left;
	double events_cpu_s;
};

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "bench_http: %s failed\n", what);
	exit(1);
}

static double clock_s(clockid_t id)
{
	struct timespec now;
	clock_gettime(id, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void pin(unsigned core)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	(void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static void print(const char *name, double value, const char *unit)
{
	printf("bench %s %.6g %s\n", name, value, unit);
}

/* --- server --- */

static const char event[] = "data: {\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
                            "\"model\":\"smollm2\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"}}]}\n\n";

static void send_round(void *arg)
{
	struct bench *bench = arg;
	for (size_t i = 0; i < STREAMS && bench->events_left > 0; i++) {
		if (http_stream_room(bench->streams[i]) < sizeof event)
			continue;
		must(http_stream_write(bench->streams[i], STR(event)) == DB_OK, "a write");
		bench->events_left--;
	}
	if (bench->events_left > 0) {
		net_post(bench->loop, send_round, bench);
		return;
	}
	for (size_t i = 0; i < STREAMS; i++)
		http_stream_end(bench->streams[i]);
}

static void on_request(struct http_request *request, void *context)
{
	struct bench *bench = context;
	if (!str_is(http_path(request), "/events")) {
		http_respond(request, 200, "application/json", STR("{\"ok\":true}\n"));
		return;
	}
	http_stream_start(request, 200, "text/event-stream", NULL);
	bench->streams[bench->stream_count++] = request;
	if (bench->stream_count == STREAMS)
		net_post(bench->loop, send_round, bench);
}

static void stop(void *arg)
{
	net_loop_stop(arg);
}

/* --- client --- */

static int connect_http(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	must(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
	return fd;
}

static void say(int fd, struct str text)
{
	must(write(fd, text.at, text.len) == (ssize_t)text.len, "a request");
}

static const char post[] = "POST /v1/x HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: bench\r\nAccept: */*\r\n"
                           "Authorization: Bearer 0123456789abcdef0123456789abcdef\r\nContent-Type: application/json\r\n"
                           "Content-Length: 24\r\n\r\n{\"prompt\":\"hello world\"}";

struct span {
	double wall, all, own;
};

static struct span begin(void)
{
	return (struct span){clock_s(CLOCK_MONOTONIC), clock_s(CLOCK_PROCESS_CPUTIME_ID), clock_s(CLOCK_THREAD_CPUTIME_ID)};
}

/* Processor time of the rest of the process, which is the loop. */
static struct span since(struct span start)
{
	struct span now = begin();
	return (struct span){now.wall - start.wall, now.all - start.all - (now.own - start.own), now.own - start.own};
}

static void exchange_requests(uint16_t port)
{
	struct pollfd fds[CONNECTIONS];
	size_t sent = 0, answered = 0;
	for (size_t i = 0; i < CONNECTIONS; i++)
		fds[i] = (struct pollfd){.fd = connect_http(port), .events = POLLIN};
	struct span start = begin();
	for (size_t i = 0; i < CONNECTIONS; i++, sent++)
		say(fds[i].fd, STR(post));
	while (answered < REQUESTS) {
		must(poll(fds, CONNECTIONS, 10000) > 0, "an answer");
		for (size_t i = 0; i < CONNECTIONS; i++) {
			char answer[1024];
			if (!(fds[i].revents & POLLIN))
				continue;
			must(read(fds[i].fd, answer, sizeof answer) > 100, "a whole answer");
			answered++;
			if (sent < REQUESTS) {
				say(fds[i].fd, STR(post));
				sent++;
			}
		}
	}
	struct span took = since(start);
	for (size_t i = 0; i < CONNECTIONS; i++)
		close(fds[i].fd);
	print("http_requests_per_s", REQUESTS / took.wall, "requests/s");
	print("http_loop_us_per_request", took.all / REQUESTS * 1e6, "us");
}

static void drain_events(uint16_t port)
{
	static char bytes[1 << 20];
	struct pollfd fds[STREAMS];
	for (size_t i = 0; i < STREAMS; i++)
		fds[i] = (struct pollfd){.fd = connect_http(port), .events = POLLIN};
	struct span start = begin();
	for (size_t i = 0; i < STREAMS; i++)
		say(fds[i].fd, STR("GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
	for (size_t open = STREAMS; open > 0;) {
		must(poll(fds, STREAMS, 10000) > 0, "events");
		for (size_t i = 0; i < STREAMS; i++) {
			if (fds[i].fd < 0 || !fds[i].revents || read(fds[i].fd, bytes, sizeof bytes) > 0)
				continue;
			close(fds[i].fd);
			fds[i].fd = -1;
			open--;
		}
	}
	struct span took = since(start);
	print("http_sse_events_per_s", EVENTS / took.wall, "events/s");
	print("http_loop_us_per_sse_event", took.all / EVENTS * 1e6, "us");
}

static void hold_idle(uint16_t port)
{
	struct rlimit limit;
	must(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	static int fds[IDLE];
	size_t before = 0;
	for (size_t i = 0; i < IDLE; i++) {
		if (i == IDLE / 2) /* the first half pays for pools and tables */
			before = mallinfo2().uordblks;
		char answer[1024];
		fds[i] = connect_http(port);
		say(fds[i], STR(post));
		must(read(fds[i], answer, sizeof answer) > 100, "an answer");
	}
	print("http_idle_connection_bytes", (double)(mallinfo2().uordblks - before) / (IDLE - IDLE / 2), "bytes");
	for (size_t i = 0; i < IDLE; i++)
		close(fds[i]);
}

static void *client_main(void *arg)
{
	struct bench *bench = arg;
	pin(1);
	uint16_t port = http_server_port(bench->server);
	exchange_requests(port);
	drain_events(port);
	hold_idle(port);
	net_post(bench->loop, stop, bench->loop);
	return NULL;
}

int main(void)
{
	struct error error;
	struct bench bench = {.loop = net_loop_new(&error), .events_left = EVENTS};
	must(bench.loop != NULL, "the loop");
	struct http_server_options options = {.host = "127.0.0.1", .context = &bench, .on_request = on_request};
	bench.server = http_server_new(bench.loop, &options, &error);
	must(bench.server != NULL, "the server");
	pthread_t client;
	must(pthread_create(&client, NULL, client_main, &bench) == 0, "a thread");
	pin(0);
	net_loop_run(bench.loop);
	pthread_join(client, NULL);
	http_server_free(bench.server);
	net_loop_free(bench.loop);
	return 0;
}
