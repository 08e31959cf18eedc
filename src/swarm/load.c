#include "swarm/load.h"

#include <stdlib.h>

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
	char tail[8]; /* the last bytes of the body: a stream must end with [DONE] */
	size_t tail_len;
};

struct swarm_load {
	struct net_loop *loop;
	struct swarm_load_options options;
	struct client *clients;
	struct buf *requests; /* one for each model */
	struct swarm_load_result result;
	uint64_t begun_us, sent, answered;
	struct net_timer clock;
	uint32_t ticks;
	bool stopped, freeing;
};

/* --- requests are made once --- */

static enum db_err write_request(const struct swarm_load_options *options, uint32_t model, struct buf *out)
{
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
	if (options->max_tokens)
		json_put_i64(&w, "max_tokens", options->max_tokens);
	json_key(&w, "messages");
	json_begin_array(&w);
	json_begin_object(&w);
	json_put_cstr(&w, "role", "user");
	json_put_str(&w, "content", buf_str(&text));
	json_end_object(&w);
	json_end_array(&w);
	json_end_object(&w);
	buf_printf(out,
	           "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
	           "Content-Length: %zu\r\n\r\n",
	           options->path, options->host, options->key, body.len);
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
	const struct buf *request = &load->requests[load->sent % (load->options.models > 1 ? load->options.models : 1)];
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
		bool whole = !load->options.stream || (client->tail_len == 8 && memcmp(client->tail, "[DONE]\n\n", 8) == 0);
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
	(void)why;
	client->stream = NULL;
	net_timer_stop(&client->stall);
	net_timer_stop(&client->think);
	if (client->busy)
		count_answer(client, 0);
	if (!client->load->stopped && !client->load->freeing)
		connect_client(client);
}

static void on_open(struct net_stream *stream, void *user)
{
	(void)stream;
	ask(user);
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
	uint32_t models = options->models > 1 ? options->models : 1;
	struct swarm_load *load = calloc(1, sizeof *load);
	if (load) {
		load->clients = calloc(options->clients, sizeof *load->clients);
		load->requests = calloc(models, sizeof *load->requests);
	}
	if (!load || !load->clients || !load->requests)
		goto nomem;
	load->loop = loop;
	load->options = *options;
	for (uint32_t i = 0; i < models; i++) {
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
