#include "swarm/load.h"

#include <stdlib.h>

#include "api/chat_request.h"
#include "core/buf.h"
#include "core/clock.h"
#include "core/json.h"
#include "net/stream.h"
#include "swarm/reply.h"

struct client {
	struct swarm_load *load;
	struct net_stream *stream;
	struct reply reply;
	struct net_timer think, stall;
	uint32_t index;
	uint64_t asked_us, first_us;
	bool busy, stalled_once, saw_done;
	enum swarm_dialect dialect; /* of the request that runs */
	char tail[8];               /* the last bytes of the body: a stream must end with its closing event */
	size_t tail_len;
};

struct swarm_load {
	struct net_loop *loop;
	struct swarm_load_options options;
	struct client *clients;
	struct buf *requests; /* for each model one in each dialect that is asked in */
	uint32_t kinds;       /* how many requests there are */
	struct swarm_load_result result;
	bool reached; /* a connection opened */
	struct error unreached;
	uint64_t begun_us, sent, answered;
	struct net_timer clock;
	uint32_t ticks;
	bool stopped, freeing;
};

/* --- dialects --- */

static const struct {
	const char *name, *path;
} dialects[SWARM_DIALECTS] = {
    [SWARM_CHAT] = {"chat", "/v1/chat/completions"},
    [SWARM_RESPONSES] = {"responses", "/v1/responses"},
    [SWARM_COMPLETIONS] = {"completions", "/v1/completions"},
    [SWARM_MESSAGES] = {"messages", "/v1/messages"},
};

const char *swarm_dialect_path(enum swarm_dialect dialect)
{
	return dialects[dialect].path;
}

bool swarm_dialect_named(struct str name, enum swarm_dialect *out)
{
	for (int i = 0; i < SWARM_DIALECTS; i++) {
		if (!str_is(name, dialects[i].name))
			continue;
		*out = (enum swarm_dialect)i;
		return true;
	}
	*out = SWARM_MIXED;
	return str_is(name, "mixed");
}

static uint32_t dialects_of(const struct swarm_load_options *options)
{
	return options->dialect == SWARM_MIXED ? SWARM_DIALECTS : 1;
}

static enum swarm_dialect dialect_of(const struct swarm_load_options *options, uint32_t kind)
{
	return options->dialect == SWARM_MIXED ? (enum swarm_dialect)(kind % SWARM_DIALECTS) : options->dialect;
}

/* Did the stream end as a complete one does? The last event of a response has its usage or signature at its end. */
static bool is_whole(const struct client *client)
{
	struct str tail = {client->tail, client->tail_len};
	switch (client->dialect) {
	case SWARM_RESPONSES:
		return str_ends(tail, STR("\"}}\n\n")) || str_ends(tail, STR("}}}\n\n"));
	case SWARM_MESSAGES:
		return str_ends(tail, STR("stop\"}\n\n"));
	default:
		return str_ends(tail, STR("[DONE]\n\n"));
	}
}

/* --- requests are made once --- */

static void write_prompt(struct json_writer *w, enum swarm_dialect dialect, struct str text)
{
	if (dialect == SWARM_RESPONSES) {
		json_put_str(w, "input", text);
		return;
	}
	if (dialect == SWARM_COMPLETIONS) {
		json_put_str(w, "prompt", text);
		return;
	}
	json_key(w, "messages");
	json_begin_array(w);
	json_begin_object(w);
	json_put_cstr(w, "role", "user");
	json_put_str(w, "content", text);
	json_end_object(w);
	json_end_array(w);
}

/* Without a limit of its own each dialect has another one: they are measured under the same. */
static void write_limit(struct json_writer *w, const struct swarm_load_options *options, enum swarm_dialect dialect)
{
	uint32_t limit = options->max_tokens;
	if (limit == 0 && dialect != SWARM_CHAT)
		limit = CHAT_DEFAULT_MAX_TOKENS;
	if (limit)
		json_put_i64(w, dialect == SWARM_RESPONSES ? "max_output_tokens" : "max_tokens", limit);
}

static enum db_err write_request(const struct swarm_load_options *options, uint32_t kind, struct buf *out)
{
	enum swarm_dialect dialect = dialect_of(options, kind);
	uint32_t model = kind / dialects_of(options);
	struct buf body, text;
	struct json_writer w;
	buf_init(&body, 64 << 20);
	buf_init(&text, 32 << 20);
	for (uint32_t i = 0; i < options->prompt_bytes; i++)
		buf_append_byte(&text, i % 7 == 6 ? ' ' : (char)('a' + i % 19));
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "model");
	struct buf name;
	buf_init(&name, 1024);
	buf_append_c(&name, options->model);
	if (options->models > 1)
		buf_printf(&name, "-%u", model);
	json_str(&w, buf_str(&name));
	buf_free(&name);
	if (options->stream)
		json_put_bool(&w, "stream", true);
	write_limit(&w, options, dialect);
	write_prompt(&w, dialect, buf_str(&text));
	json_end_object(&w);
	buf_printf(out,
	           "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
	           "Content-Length: %zu\r\n\r\n",
	           swarm_dialect_path(dialect), options->host, options->key, body.len);
	buf_append_str(out, buf_str(&body));
	enum db_err err = body.failed || out->failed ? DB_E_NOMEM : DB_OK;
	buf_free(&body);
	buf_free(&text);
	return err;
}

/* --- one client --- */

static void connect_client(struct client *client);

static bool counting(const struct swarm_load *load)
{
	return clock_mono_us() - load->begun_us >= (uint64_t)load->options.warmup_seconds * 1000000;
}

static void finish(struct swarm_load *load)
{
	if (load->stopped)
		return;
	load->stopped = true;
	net_timer_stop(&load->clock);
	load->result.seconds = (double)(clock_mono_us() - load->begun_us) / 1e6 - (double)load->options.warmup_seconds;
	load->options.done(load->options.user);
}

static void ask(struct client *client)
{
	struct swarm_load *load = client->load;
	if (load->stopped || (load->options.requests && load->sent >= load->options.requests))
		return;
	uint32_t kind = (uint32_t)(load->sent % load->kinds);
	const struct buf *request = &load->requests[kind];
	client->dialect = dialect_of(&load->options, kind);
	load->sent++;
	reply_reset(&client->reply);
	client->busy = true;
	client->stalled_once = false;
	client->first_us = 0;
	client->tail_len = 0;
	client->asked_us = clock_mono_us();
	net_stream_write(client->stream, request->at, request->len);
}

static void on_think(struct net_timer *timer)
{
	ask((struct client *)(void *)((char *)timer - offsetof(struct client, think)));
}

static void count_answer(struct client *client, int status)
{
	struct swarm_load *load = client->load;
	uint64_t now = clock_mono_us(), latency = now - client->asked_us;
	client->busy = false;
	load->answered++;
	if (counting(load)) {
		bool whole = !load->options.stream || is_whole(client);
		load->result.by_status[status / 100 < 6 ? status / 100 : 0]++;
		if (status == 200 && whole) {
			uint64_t turnaround = load->options.turnaround_us ? load->options.turnaround_us(load->options.user) : 0;
			load->result.ok++;
			stats_add(&load->result.latency_us, latency > turnaround ? latency - turnaround : 0);
			if (client->first_us)
				stats_add(&load->result.first_us, client->first_us - client->asked_us);
		} else {
			load->result.failed++;
			load->result.incomplete += status == 200;
		}
	}
	if (load->options.requests && load->answered >= load->options.requests)
		finish(load);
}

static void next(struct client *client)
{
	struct swarm_load *load = client->load;
	if (load->options.think_us)
		net_timer_start(load->loop, &client->think, load->options.think_us / 1000, 0, on_think);
	else
		ask(client);
}

static void on_stall_over(struct net_timer *timer)
{
	struct client *client = (struct client *)(void *)((char *)timer - offsetof(struct client, stall));
	net_stream_resume(client->stream);
}

static void on_body(struct str bytes, void *user)
{
	struct client *client = user;
	struct swarm_load *load = client->load;
	if (!load->options.stream)
		return;
	if (!client->first_us)
		client->first_us = clock_mono_us();
	if (counting(load))
		for (const char *at = bytes.at, *end = bytes.at + bytes.len; (at = memchr(at, '\n', (size_t)(end - at))); at++)
			load->result.events += at > bytes.at && at[-1] == '\n';
	if (bytes.len >= sizeof client->tail) {
		memcpy(client->tail, bytes.at + bytes.len - sizeof client->tail, sizeof client->tail);
		client->tail_len = sizeof client->tail;
	} else {
		char joined[16];
		memcpy(joined, client->tail, client->tail_len);
		memcpy(joined + client->tail_len, bytes.at, bytes.len);
		size_t len = client->tail_len + bytes.len, keep = len < sizeof client->tail ? len : sizeof client->tail;
		memcpy(client->tail, joined + len - keep, keep);
		client->tail_len = keep;
	}
	if (load->options.stall_ms && !client->stalled_once) {
		client->stalled_once = true;
		net_stream_pause(client->stream);
		net_timer_start(load->loop, &client->stall, load->options.stall_ms, 0, on_stall_over);
	}
}

static void on_read(struct net_stream *stream, char *data, size_t len, void *user)
{
	struct client *client = user;
	reply_feed(&client->reply, (struct str){data, len});
	if (client->reply.state == REPLY_BAD) {
		net_stream_abort(stream);
	} else if (client->reply.state == REPLY_DONE && client->busy) {
		count_answer(client, client->reply.status);
		next(client);
	}
}

static void on_closed(struct net_stream *stream, const struct error *why, void *user)
{
	struct client *client = user;
	(void)stream;
	client->stream = NULL;
	net_timer_stop(&client->stall);
	net_timer_stop(&client->think);
	if (client->busy)
		count_answer(client, 0);
	if (client->load->stopped || client->load->freeing)
		return;
	if (!client->load->reached && why && why->code) {
		client->load->unreached = *why;
		finish(client->load);
		return;
	}
	connect_client(client);
}

static void on_open(struct net_stream *stream, void *user)
{
	struct client *client = user;
	(void)stream;
	client->load->reached = true;
	ask(client);
}

static const struct net_stream_handler handler = {.on_read = on_read, .on_closed = on_closed};

static void connect_client(struct client *client)
{
	client->stream = net_stream_connect(client->load->loop, client->load->options.host, client->load->options.port, NULL, NULL,
	                                    on_open, &handler, client);
}

/* --- the load --- */

static void on_clock(struct net_timer *timer)
{
	struct swarm_load *load = (struct swarm_load *)(void *)((char *)timer - offsetof(struct swarm_load, clock));
	finish(load);
}

struct swarm_load *swarm_load_new(struct net_loop *loop, const struct swarm_load_options *options, struct error *error)
{
	uint32_t kinds = (options->models > 1 ? options->models : 1) * dialects_of(options);
	struct swarm_load *load = calloc(1, sizeof *load);
	if (load) {
		load->clients = calloc(options->clients, sizeof *load->clients);
		load->requests = calloc(kinds, sizeof *load->requests);
	}
	if (!load || !load->clients || !load->requests)
		goto nomem;
	load->loop = loop;
	load->options = *options;
	load->kinds = kinds;
	for (uint32_t i = 0; i < kinds; i++) {
		buf_init(&load->requests[i], 64 << 20);
		if (write_request(options, i, &load->requests[i]))
			goto nomem;
	}
	load->begun_us = clock_mono_us();
	if (options->seconds)
		net_timer_start(loop, &load->clock, (uint64_t)(options->seconds + options->warmup_seconds) * 1000, 0, on_clock);
	for (uint32_t i = 0; i < options->clients; i++) {
		struct client *client = &load->clients[i];
		client->load = load;
		client->index = i;
		reply_init(&client->reply, on_body, client);
		connect_client(client);
	}
	return load;
nomem:
	error_set(error, DB_E_NOMEM, "out of memory for %u clients", options->clients);
	return NULL;
}

void swarm_load_free(struct swarm_load *load)
{
	if (!load)
		return;
	load->freeing = load->stopped = true;
	net_timer_stop(&load->clock);
	for (uint32_t i = 0; i < load->options.clients; i++) {
		net_timer_stop(&load->clients[i].think);
		net_timer_stop(&load->clients[i].stall);
		load->clients[i].busy = false;
		if (load->clients[i].stream)
			net_stream_abort(load->clients[i].stream);
	}
	/* The streams' on_closed still comes: what they touch lives until the process ends. */
}

const struct swarm_load_result *swarm_load_result(const struct swarm_load *load)
{
	return &load->result;
}

const struct error *swarm_load_unreached(const struct swarm_load *load)
{
	return load->unreached.code ? &load->unreached : NULL;
}
