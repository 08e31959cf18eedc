/* The server as a whole: its address, its limits on connections, what an idle one costs, drain, and its end. */
#include <fcntl.h>
#include <sys/resource.h>

#include "http_fixture.h"
#include "net/http_internal.h"

static struct buf got;

static bool answers(int fd)
{
	buf_clear(&got);
	client_say(fd, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
	return client_read_until(fd, &got, "hello\n", 1);
}

static void on_drained(void *arg)
{
	(void)arg;
	site.drained++;
}

static void drain(void)
{
	http_server_drain(site.server, on_drained, NULL);
}

static void answer_held(void)
{
	struct job *job = http_user(site.held);
	http_respond(site.held, 200, NULL, STR("at last"));
	free(job);
}

static size_t connections;
static void count_connections(void)
{
	connections = http_server_connections(site.server);
}

static void assert_connections(size_t expected)
{
	on_loop(count_connections);
	assert_int_equal(connections, expected);
}

/* --- addresses --- */

static void test_port_in_use_is_explained(void **state)
{
	(void)state;
	struct error error;
	struct net_loop *loop = net_loop_new(&error);
	struct http_server_options options = {.host = "127.0.0.1", .port = site.port, .on_request = on_request};
	assert_null(http_server_new(loop, &options, &error));
	assert_int_equal(error.code, DB_E_EXISTS);
	char port[8];
	snprintf(port, sizeof port, "%u", site.port);
	assert_non_null(strstr(error.text, port));
	assert_non_null(strstr(error.text, "already in use"));
	options.host = "no-such-host.invalid";
	assert_null(http_server_new(loop, &options, &error));
	assert_int_equal(error.code, DB_E_INVALID);
	options.host = "192.0.2.1"; /* reserved for documentation: no address of this machine */
	assert_null(http_server_new(loop, &options, &error));
	assert_int_equal(error.code, DB_E_INVALID);
	net_loop_free(loop);
}

static void test_ipv6_any_serves_ipv4_too(void **state)
{
	(void)state;
	int fd = client_open(); /* to 127.0.0.1 */
	buf_clear(&got);
	client_say(fd, "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
	client_read_all(fd, &got);
	close(fd);
	assert_true(str_ends(buf_str(&got), STR("||127.0.0.1|"))); /* not ::ffff:127.0.0.1 */
}

/* --- how many --- */

static void test_connections_over_the_limit_wait_for_a_place(void **state)
{
	(void)state;
	int first = client_open(), second = client_open();
	assert_true(answers(first));
	assert_true(answers(second));
	int third = client_open(); /* the kernel accepts it, the server does not */
	client_say(third, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
	struct pollfd watch = {.fd = third, .events = POLLIN};
	assert_int_equal(poll(&watch, 1, 200), 0);
	close(first);
	buf_clear(&got);
	assert_true(client_read_until(third, &got, "hello\n", 1));
	assert_true(answers(second));
	close(second);
	close(third);
}

static int spare_fds[4096];
static size_t spare_count;

static void test_running_out_of_descriptors_is_survived(void **state)
{
	(void)state;
	int kept = client_open();
	assert_true(answers(kept));
	struct rlimit before, low;
	getrlimit(RLIMIT_NOFILE, &before);
	low = (struct rlimit){.rlim_cur = 256, .rlim_max = before.rlim_max};
	setrlimit(RLIMIT_NOFILE, &low);
	int waiting = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd;
	while (spare_count < 4096 && (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		spare_fds[spare_count++] = fd;
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons(site.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(connect(waiting, (struct sockaddr *)&address, sizeof address), 0);
	client_say(waiting, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
	struct pollfd watch = {.fd = waiting, .events = POLLIN};
	assert_int_equal(poll(&watch, 1, 300), 0);
	assert_true(answers(kept)); /* nor does the loop spin or stop */
	while (spare_count > 0)
		close(spare_fds[--spare_count]);
	setrlimit(RLIMIT_NOFILE, &before);
	buf_clear(&got);
	assert_true(client_read_until(waiting, &got, "hello\n", 1));
	close(waiting);
	close(kept);
}

static size_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long total = 0, resident = 0;
	assert_int_equal(fscanf(file, "%lu %lu", &total, &resident), 2);
	fclose(file);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

#define IDLE 1000

static void test_idle_connection_is_a_small_struct(void **state)
{
	(void)state;
	assert_true(sizeof(struct http_conn) <= 192);
	static int fds[IDLE];
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < 10; i++) { /* warms pools and buffers up */
		int fd = client_open();
		assert_true(answers(fd));
		close(fd);
	}
	size_t before = resident_bytes();
	for (int i = 0; i < IDLE; i++) {
		fds[i] = client_open();
		assert_true(answers(fds[i]));
	}
	assert_connections(IDLE);
	size_t each = (resident_bytes() - before) / IDLE;
	for (int i = 0; i < IDLE; i++)
		close(fds[i]);
	print_message("resident bytes per idle connection: %zu\n", each);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(each < 2048);
#endif
}

/* --- the end --- */

static void test_drain_closes_idle_and_finishes_busy_connections(void **state)
{
	(void)state;
	int idle = client_open(), busy = client_open();
	assert_true(answers(idle));
	client_say(busy, "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n");
	wait_for(&site.requests, 2);
	on_loop(drain);
	assert_true(client_closed(idle));
	int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons(site.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_not_equal(connect(late, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(site.drained, 0);
	on_loop(answer_held);
	buf_clear(&got);
	assert_true(client_read_all(busy, &got));
	assert_true(str_ends(buf_str(&got), STR("\r\n\r\nat last")));
	assert_non_null(memmem(got.at, got.len, "connection: close", 17));
	wait_for(&site.drained, 1);
	assert_int_equal(site.gone, 0);
	close(idle);
	close(busy);
	close(late);
}

static void test_drain_without_connections_is_told_too(void **state)
{
	(void)state;
	on_loop(drain);
	wait_for(&site.drained, 1);
}

static void test_freeing_tells_every_open_request(void **state)
{
	(void)state;
	int fds[20];
	for (int i = 0; i < 20; i++) {
		fds[i] = client_open();
		client_say(fds[i],
		           i % 2 ? "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n" : "GET /stream?50000000 HTTP/1.1\r\nHost: a\r\n\r\n");
	}
	wait_for(&site.requests, 20);
	net_post(site.loop, free_server, NULL);
	wait_for(&site.gone, 20);
	for (int i = 0; i < 20; i++) {
		buf_clear(&got);
		(void)client_read_all(fds[i], &got);
		close(fds[i]);
	}
}

/* --- upgrade --- */

static struct buf taken_bytes;
static atomic_int taken_closed;

static void taken_read(struct net_stream *stream, char *data, size_t len, void *user)
{
	(void)user;
	buf_append(&taken_bytes, data, len);
	net_stream_write(stream, data, len);
}

static void taken_gone(struct net_stream *stream, const struct error *why, void *user)
{
	(void)stream;
	(void)why;
	(void)user;
	taken_closed++;
}

static const struct net_stream_handler taken_handler = {.on_read = taken_read, .on_closed = taken_gone};

static void take(struct http_request *request, void *context)
{
	(void)context;
	struct buf leftover;
	struct net_stream *stream = http1_take_stream(request, &leftover);
	if (!stream) {
		http_respond(request, 426, NULL, STR("no"));
		return;
	}
	net_stream_set_handler(stream, &taken_handler, NULL);
	net_stream_write(stream, "taken ", 6);
	net_stream_write(stream, leftover.at, leftover.len);
	buf_free(&leftover);
}

static void take_every_stream(void)
{
	site.server->options.on_request = take;
}

static void test_stream_taken_for_an_upgrade_keeps_every_byte(void **state)
{
	(void)state;
	buf_init(&taken_bytes, 1 << 20);
	on_loop(take_every_stream);
	int fd = client_open();
	client_say(fd, "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\n\x81leftover");
	buf_clear(&got);
	assert_true(client_read_until(fd, &got, "taken \x81leftover", 1));
	client_say(fd, "echo");
	assert_true(client_read_until(fd, &got, "leftoverecho", 1));
	assert_connections(0); /* no longer HTTP's */
	close(fd);
	for (int i = 0; i < 1000 && !taken_closed; i++)
		usleep(1000);
	assert_int_equal(taken_closed, 1);
	buf_free(&taken_bytes);
}

static int open_site(struct http_server_options options)
{
	buf_init(&got, 64u << 20);
	site_open(options);
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	return open_site((struct http_server_options){.host = "127.0.0.1"});
}

static int set_up_any(void **state)
{
	(void)state;
	return open_site((struct http_server_options){.host = "::"});
}

static int set_up_two(void **state)
{
	(void)state;
	return open_site((struct http_server_options){.host = "127.0.0.1", .max_connections = 2});
}

static int tear_down(void **state)
{
	(void)state;
	site_close();
	buf_free(&got);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_port_in_use_is_explained),
	    cmocka_unit_test_setup_teardown(test_ipv6_any_serves_ipv4_too, set_up_any, tear_down),
	    cmocka_unit_test_setup_teardown(test_connections_over_the_limit_wait_for_a_place, set_up_two, tear_down),
	    TEST(test_running_out_of_descriptors_is_survived),
	    TEST(test_idle_connection_is_a_small_struct),
	    TEST(test_drain_closes_idle_and_finishes_busy_connections),
	    TEST(test_drain_without_connections_is_told_too),
	    TEST(test_freeing_tells_every_open_request),
	    TEST(test_stream_taken_for_an_upgrade_keeps_every_byte),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
