/* A whole coordinator in this process (store on disk, ledger, fleet, gateway, HTTP) with simulated providers on the same loop,
 * and blocking consumers on the test's thread. */
#ifndef TESTS_GATEWAY_HOUSE_H
#define TESTS_GATEWAY_HOUSE_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "coordinator/server.h"
#include "core/clock.h"
#include "core/id.h"
#include "core/json.h"
#include "core/log.h"
#include "crypto/secret.h"
#include "swarm/fleet.h"
#include "swarm/reply.h"

#define HOUSE_FLEETS 4

struct house {
	char dir[64], database[96], key[ACCOUNTS_KEY_SIZE], url[64];
	struct arena *arena;
	struct coordinator_config config;
	struct gateway_options timing; /* what a test wants shorter; the rest is filled in */
	struct net_loop *loop;
	struct store *store;
	struct metrics *metrics;
	struct ledger *ledger;
	struct accounts *accounts;
	struct fleet *fleet;
	struct gateway *gateway;
	struct server *server;
	struct swarm_fleet *fleets[HOUSE_FLEETS];
	size_t fleet_count;
	pthread_t thread;
	atomic_bool up;
	uint32_t providers;
	uint16_t port;
};

/* --- on the loop's thread --- */

static inline void house_stop_loop(void *arg)
{
	net_loop_stop(arg);
}

static inline void house_on_key(const char *key, const struct error *error, void *user)
{
	struct house *house = user;
	struct error why;
	assert_null(error);
	memcpy(house->key, key, strlen(key) + 1);
	struct server_rooms rooms = {.config = &house->config,
	                             .loop = house->loop,
	                             .store = house->store,
	                             .ledger = house->ledger,
	                             .accounts = house->accounts,
	                             .fleet = house->fleet,
	                             .gateway = house->gateway,
	                             .metrics = house->metrics};
	house->server = server_new(&rooms, &why);
	assert_non_null(house->server);
	house->port = server_port(house->server);
	house->up = true;
}

static inline void *house_main(void *arg)
{
	struct house *house = arg;
	accounts_first_start(house->accounts, house->config.first_grant_uusd, house_on_key, house);
	net_loop_run(house->loop);
	return NULL;
}

/* --- from the test's thread --- */

static inline void house_wait(atomic_bool *flag)
{
	while (!*flag)
		usleep(500);
}

struct house_call {
	struct house *house;
	void (*fn)(struct house *house, void *arg);
	void *arg;
	atomic_bool done;
};

static inline void house_call_now(void *arg)
{
	struct house_call *call = arg;
	call->fn(call->house, call->arg);
	call->done = true;
}

/* Runs fn on the loop's thread and waits for it. */
static inline void house_call(struct house *house, void (*fn)(struct house *house, void *arg), void *arg)
{
	struct house_call call = {.house = house, .fn = fn, .arg = arg};
	net_post(house->loop, house_call_now, &call);
	house_wait(&call.done);
}

static inline struct house *house_new(const char *grant_usd, const struct gateway_options *timing)
{
	static bool crypto_ready;
	struct error error;
	struct house *house = calloc(1, sizeof *house);
	if (!crypto_ready)
		assert_int_equal(crypto_init(), DB_OK);
	crypto_ready = true;
	snprintf(house->dir, sizeof house->dir, "%s/darkbloom-house.XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(house->dir));
	snprintf(house->database, sizeof house->database, "%s/coordinator.db", house->dir);
	setenv("DARKBLOOM_DATA_DIR", house->dir, 1);
	setenv("DARKBLOOM_FIRST_GRANT_USD", grant_usd, 1);
	setenv("DARKBLOOM_PORT", "0", 1);
	log_set_level(LOG_OFF);
	house->arena = arena_new(0);
	assert_int_equal(coordinator_config_load(&house->config, NULL, house->arena, &error), DB_OK);
	house->loop = net_loop_new(&error);
	struct store_options store = {.path = house->database};
	house->store = store_open(&store, house->loop, &error);
	assert_non_null(house->store);
	house->metrics = metrics_new();
	house->ledger = ledger_new(house->store);
	house->accounts = accounts_new(house->store, house->ledger);
	struct fleet_options fleet = {.min_trust = ROUTE_TRUST_SELF_SIGNED,
	                              .backends = house->config.backends.at,
	                              .backend_count = house->config.backends.count};
	house->fleet = fleet_new(house->loop, house->accounts, house->metrics, &fleet);
	struct gateway_options options = timing ? *timing : (struct gateway_options){0};
	options.loop = house->loop;
	options.fleet = house->fleet;
	options.ledger = house->ledger;
	options.metrics = house->metrics;
	house->gateway = gateway_new(&options);
	assert_non_null(house->gateway);
	assert_int_equal(pthread_create(&house->thread, NULL, house_main, house), 0);
	house_wait(&house->up);
	return house;
}

static inline void house_free_fleets(struct house *house, void *arg)
{
	(void)arg;
	for (size_t i = 0; i < house->fleet_count; i++)
		swarm_fleet_free(house->fleets[i]);
}

static inline void house_free(struct house *house)
{
	struct store_audit audit;
	struct error error;
	house_call(house, house_free_fleets, NULL);
	net_post(house->loop, house_stop_loop, house->loop);
	pthread_join(house->thread, NULL);
	server_free(house->server);
	gateway_free(house->gateway);
	fleet_free(house->fleet);
	assert_int_equal(ledger_open_holds(house->ledger), 0);
	store_close(house->store);
	accounts_free(house->accounts);
	ledger_free(house->ledger);
	metrics_free(house->metrics);
	net_loop_free(house->loop);
	assert_int_equal(store_audit(house->database, &audit, &error), DB_OK);
	assert_true(store_audit_clean(&audit));
	assert_int_equal(audit.open_holds, 0);
	static const char *const endings[] = {"", "-wal", "-shm", ".lock"};
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
		char path[128];
		snprintf(path, sizeof path, "%s%s", house->database, endings[i]);
		unlink(path);
	}
	rmdir(house->dir);
	arena_free(house->arena);
	free(house);
}

/* --- providers --- */

static inline void house_add_now(struct house *house, void *arg)
{
	struct error error;
	struct swarm_fleet_options *options = arg;
	house->fleets[house->fleet_count] = swarm_fleet_new(house->loop, options, &error);
	assert_non_null(house->fleets[house->fleet_count]);
	house->fleet_count++;
}

static inline void house_count_routable(struct house *house, void *arg)
{
	struct route_model_view model;
	*(uint32_t *)arg = fleet_models(house->fleet, &model, 1) == 1 ? model.routable : 0;
}

/* Providers of model "m", with what is not given here filled in; returns once requests can go to them. */
static inline void house_add(struct house *house, struct swarm_fleet_options options)
{
	snprintf(house->url, sizeof house->url, "ws://127.0.0.1:%u/ws/provider", (unsigned)house->port);
	options.url = house->url;
	options.model = "m";
	options.count = options.count ? options.count : 1;
	options.chunks = options.chunks ? options.chunks : 3;
	options.chunk_bytes = options.chunk_bytes ? options.chunk_bytes : 5;
	options.first_index = (uint32_t)house->fleet_count * 100;
	options.seed = options.seed ? options.seed : 1;
	house_call(house, house_add_now, &options);
	house->providers += options.count;
	uint32_t routable = 0;
	while (routable != house->providers) {
		house_call(house, house_count_routable, &routable);
		usleep(500);
	}
}

/* --- consumers --- */

struct said {
	int status;
	struct buf head, body; /* terminated by a NUL that is not counted */
	struct json_doc *doc;  /* of a JSON body */
};

static inline void said_free(struct said *said)
{
	buf_free(&said->head);
	buf_free(&said->body);
	json_free(said->doc);
}

static inline int house_connect(const struct house *house)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(house->port)};
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	return fd;
}

/* Sends a request as the owner (token NULL), somebody else, or nobody (""). */
static inline int house_send(const struct house *house, const char *method, const char *path, const char *token,
                             const char *body)
{
	struct buf out;
	buf_init(&out, 64 << 20);
	int fd = house_connect(house);
	buf_printf(&out, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", method, path);
	if (!token || *token)
		buf_printf(&out, "Authorization: Bearer %s\r\n", token ? token : house->key);
	if (body)
		buf_printf(&out, "Content-Length: %zu\r\n", strlen(body));
	buf_append_str(&out, STR("\r\n"));
	if (body)
		buf_append_c(&out, body);
	for (size_t sent = 0; sent < out.len;) {
		ssize_t n = send(fd, out.at + sent, out.len - sent, MSG_NOSIGNAL);
		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	buf_free(&out);
	return fd;
}

static inline void house_take_body(struct str bytes, void *user)
{
	buf_append_str(user, bytes);
}

/* Reads the whole answer and closes. */
static inline struct said house_read(int fd, bool to_head)
{
	struct said said = {0};
	struct reply reply;
	char chunk[16384];
	ssize_t got;
	buf_init(&said.head, 1 << 20);
	buf_init(&said.body, 256 << 20);
	reply_init(&reply, house_take_body, &said.body);
	bool head_done = false;
	while ((got = recv(fd, chunk, sizeof chunk, 0)) > 0) {
		if (!head_done) {
			buf_append(&said.head, chunk, (size_t)got);
			const char *end = memmem(said.head.at, said.head.len, "\r\n\r\n", 4);
			head_done = end != NULL;
			if (head_done)
				said.head.len = (size_t)(end - said.head.at) + 4;
		}
		if (to_head && head_done)
			break;
		reply_feed(&reply, (struct str){chunk, (size_t)got});
	}
	if (said.head.len > 12)
		said.status = (int)strtol(said.head.at + 9, NULL, 10);
	assert_int_equal(close(fd), 0);
	reply_free(&reply);
	buf_append_byte(&said.head, '\0');
	said.head.len--;
	buf_append_byte(&said.body, '\0');
	said.body.len--;
	said.doc = json_parse(buf_str(&said.body), NULL, NULL);
	return said;
}

static inline struct said house_ask(const struct house *house, const char *method, const char *path, const char *token,
                                    const char *body)
{
	return house_read(house_send(house, method, path, token, body), strcmp(method, "HEAD") == 0);
}

#define CHAT(members) "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello there\"}]" members "}"

static inline struct said house_chat(const struct house *house, const char *body)
{
	return house_ask(house, "POST", "/v1/chat/completions", NULL, body);
}

/* Member at a path of keys; array elements by number. */
static inline json_val *said_at(const struct said *said, const char *path)
{
	json_val *at = json_root(said->doc);
	struct str rest = str_of(path), key;
	while (at && rest.len > 0) {
		char name[64];
		uint64_t index;
		rest = str_cut(rest, '.', &key);
		str_copy(key, name, sizeof name);
		if (json_type(at) == JSON_ARRAY && str_to_u64(key, &index)) {
			struct json_iter iter = json_iter(at);
			for (uint64_t i = 0; i <= index; i++)
				at = json_next(&iter, NULL);
		} else {
			at = json_get(at, name);
		}
	}
	return at;
}

static inline int64_t said_int(const struct said *said, const char *path)
{
	int64_t value = -1;
	json_as_i64(said_at(said, path), &value);
	return value;
}

static inline bool said_is(const struct said *said, const char *path, const char *wanted)
{
	struct str text;
	return json_as_str(said_at(said, path), &text) && str_is(text, wanted);
}

static inline size_t said_times(const struct said *said, const char *needle)
{
	size_t times = 0;
	for (const char *at = said->body.at; (at = strstr(at, needle)); at += strlen(needle))
		times++;
	return times;
}

/* Chunks of a stream that say something: the first may only say who speaks. */
static inline size_t said_contents(const struct said *said)
{
	return said_times(said, "\"content\":\"") - said_times(said, "\"content\":\"\"");
}

static inline int64_t house_balance(const struct house *house)
{
	struct said said = house_ask(house, "GET", "/v1/payments/balance", NULL, NULL);
	int64_t balance = said_int(&said, "balance_micro_usd");
	assert_int_equal(said.status, 200);
	said_free(&said);
	return balance;
}

static inline void house_count_holds(struct house *house, void *arg)
{
	*(size_t *)arg = ledger_open_holds(house->ledger);
}

/* Until every hold has ended; false after a minute at least. */
static inline bool house_settles(struct house *house)
{
	for (int i = 0; i < 12000; i++) {
		size_t holds = 0;
		house_call(house, house_count_holds, &holds);
		if (holds == 0)
			return true;
		usleep(5000);
	}
	return false;
}

static inline uint64_t house_metric(const struct house *house, const char *name)
{
	struct said said = house_ask(house, "GET", "/metrics", "", NULL);
	char line[128];
	snprintf(line, sizeof line, "\n%s ", name);
	const char *at = strstr(said.body.at, line);
	uint64_t value = at ? strtoull(at + strlen(line), NULL, 10) : 0;
	said_free(&said);
	return value;
}

#endif
