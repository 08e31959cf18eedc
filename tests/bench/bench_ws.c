/* A WebSocket server of ours under a plain socket client on another core: messages of 1 KB in, short answers out; and what an
 * idle WebSocket holds. Lines `bench <name> <value> <unit>`. */
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "core/buf.h"
#include "net/ws.h"
#include "net/ws_codec.h"

#define MESSAGES     400000u
#define WINDOW       64u /* messages on their way */
#define MESSAGE_SIZE 1024u
#define IDLE         4000u

struct bench {
	struct net_loop *loop;
	struct http_server *server;
	pthread_t client;
	size_t open, messages;
	double wall_s, loop_cpu_s;
	size_t idle_bytes;
};

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "bench_ws: %s failed\n", what);
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

/* --- server --- */

static void on_message(struct ws *ws, enum ws_kind kind, char *data, size_t len, void *user)
{
	struct bench *bench = user;
	(void)data;
	must(kind == WS_TEXT && len == MESSAGE_SIZE, "a message");
	bench->messages++;
	must(ws_send(ws, WS_TEXT, STR("ok")) == DB_OK, "an answer");
}

static void on_close(struct ws *ws, int code, struct str reason, void *user)
{
	(void)ws;
	(void)code;
	(void)reason;
	((struct bench *)user)->open--;
}

static const struct ws_handler handler = {.on_message = on_message, .on_close = on_close};

static void on_request(struct http_request *request, void *context)
{
	struct bench *bench = context;
	must(ws_accept(request, &handler, NULL, bench) != NULL, "ws_accept");
	bench->open++;
}

static void stop(void *arg)
{
	net_loop_stop(arg);
}

/* --- client --- */

static int connect_ws(uint16_t port)
{
	static const char request[] = "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	                              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	must(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	must(write(fd, request, sizeof request - 1) == (ssize_t)(sizeof request - 1), "the handshake");
	char answer[512];
	size_t len = 0;
	while (len < 4 || memcmp(answer + len - 4, "\r\n\r\n", 4) != 0) {
		ssize_t got = read(fd, answer + len, sizeof answer - len);
		must(got > 0, "the answer to the handshake");
		len += (size_t)got;
	}
	must(memcmp(answer, "HTTP/1.1 101", 12) == 0, "the upgrade");
	return fd;
}

static size_t make_frame(char *out)
{
	static const uint8_t mask[4] = {0x12, 0x9a, 0xf3, 0x55};
	size_t header = ws_frame_header(WS_OP_TEXT, MESSAGE_SIZE, mask, (uint8_t *)out);
	memset(out + header, 'm', MESSAGE_SIZE);
	ws_mask(out + header, MESSAGE_SIZE, mask, 0);
	return header + MESSAGE_SIZE;
}

static void write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t sent = write(fd, bytes, len);
		must(sent > 0, "a write");
		bytes += sent;
		len -= (size_t)sent;
	}
}

/* An answer is a frame of four bytes. */
static void exchange(int fd)
{
	static char frames[WINDOW * (MESSAGE_SIZE + WS_HEADER_MAX)];
	size_t frame_len = make_frame(frames);
	for (size_t i = 1; i < WINDOW; i++)
		memcpy(frames + i * frame_len, frames, frame_len);
	size_t sent = 0, answered = 0;
	while (answered < (size_t)MESSAGES * 4) {
		size_t room = WINDOW - (sent - answered / 4);
		if (room > MESSAGES - sent)
			room = MESSAGES - sent;
		if (room >= WINDOW / 2 || (room && sent + room == MESSAGES)) {
			write_all(fd, frames, room * frame_len);
			sent += room;
		}
		char answers[4 * WINDOW];
		ssize_t got = read(fd, answers, sizeof answers);
		must(got > 0, "an answer");
		answered += (size_t)got;
	}
}

static void hold_idle(struct bench *bench, uint16_t port)
{
	struct rlimit limit;
	must(getrlimit(RLIMIT_NOFILE, &limit) == 0, "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	size_t count = limit.rlim_cur > 2 * IDLE + 100 ? IDLE : (size_t)limit.rlim_cur / 2 - 50;
	int *fds = calloc(count, sizeof *fds);
	must(fds != NULL, "memory");
	for (size_t i = 0; i < count / 2; i++)
		fds[i] = connect_ws(port); /* the first half pays for pools and tables */
	size_t before = mallinfo2().uordblks;
	for (size_t i = count / 2; i < count; i++)
		fds[i] = connect_ws(port);
	bench->idle_bytes = (mallinfo2().uordblks - before) / (count - count / 2);
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	free(fds);
}

static void *client_main(void *arg)
{
	struct bench *bench = arg;
	pin(1);
	uint16_t port = http_server_port(bench->server);
	int fd = connect_ws(port);
	double own_before = clock_s(CLOCK_THREAD_CPUTIME_ID), all_before = clock_s(CLOCK_PROCESS_CPUTIME_ID),
	       wall_before = clock_s(CLOCK_MONOTONIC);
	exchange(fd);
	bench->wall_s = clock_s(CLOCK_MONOTONIC) - wall_before;
	bench->loop_cpu_s = clock_s(CLOCK_PROCESS_CPUTIME_ID) - all_before - (clock_s(CLOCK_THREAD_CPUTIME_ID) - own_before);
	close(fd);
	hold_idle(bench, port);
	net_post(bench->loop, stop, bench->loop);
	return NULL;
}

int main(void)
{
	struct error error;
	struct bench bench = {.loop = net_loop_new(&error)};
	must(bench.loop != NULL, "the loop");
	struct http_server_options options = {.host = "127.0.0.1", .context = &bench, .on_request = on_request};
	bench.server = http_server_new(bench.loop, &options, &error);
	must(bench.server != NULL, "the server");
	must(pthread_create(&bench.client, NULL, client_main, &bench) == 0, "a thread");
	pin(0);
	net_loop_run(bench.loop);
	pthread_join(bench.client, NULL);
	printf("bench ws_in_1k_per_s %.0f msg/s\n", MESSAGES / bench.wall_s);
	printf("bench ws_in_1k_cpu_us %.2f us\n", bench.loop_cpu_s * 1e6 / MESSAGES);
	printf("bench ws_idle_heap_bytes %zu bytes\n", bench.idle_bytes);
	fflush(stdout);
	_Exit(0); /* WebSockets that are still closing have no owner that could wait for them */
}
