#include "provider/cli/chat.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "core/cli.h"
#include "core/clock.h"

#define INTERRUPT_POLL_MS 40

/* --- Ctrl-C --- */

/* Set by the signal handler only. The pipe wakes whoever waits for a line, also when the signal came just before the wait. */
static volatile sig_atomic_t interrupt_seen;
static int interrupt_pipe[2];

static void on_interrupt(int signal_number)
{
	int saved = errno;
	(void)signal_number;
	interrupt_seen = 1;
	ssize_t written = write(interrupt_pipe[1], "", 1); /* a full pipe wakes as well */
	(void)written;
	errno = saved;
}

bool chat_catch_interrupts(void)
{
	struct sigaction action = {.sa_handler = on_interrupt};
	if (pipe(interrupt_pipe) != 0)
		return false;
	for (int i = 0; i < 2; i++)
		fcntl(interrupt_pipe[i], F_SETFL, O_NONBLOCK);
	return sigaction(SIGINT, &action, NULL) == 0;
}

int chat_interrupt_fd(void)
{
	return interrupt_pipe[0];
}

void chat_forget_interrupt(void)
{
	char drained[16];
	while (read(interrupt_pipe[0], drained, sizeof drained) > 0)
		;
	interrupt_seen = 0;
}

/* --- what a stranger wrote, on a terminal --- */

/* Control characters, C1 ones (0xc2 0x80..0x9f in UTF-8) too, could drive the terminal: only line feeds and tabs pass. */
static void print_safely(struct str text, FILE *out)
{
	if (!isatty(fileno(out))) {
		fwrite(text.at, 1, text.len, out);
		return;
	}
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.at[i], next = i + 1 < text.len ? (unsigned char)text.at[i + 1] : 0;
		if (c == 0xc2 && next >= 0x80 && next <= 0x9f)
			i++;
		else if ((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t')
			fputc(c, out);
	}
}

static void print_failure(const struct chat *chat)
{
	fputs("darkbloom chat: ", stderr);
	print_safely(buf_str(&chat->failure), stderr);
	fputc('\n', stderr);
}

/* --- the request --- */

bool chat_add_message(struct chat *chat, const char *role, struct str content)
{
	struct json_writer w;
	size_t before = chat->messages.len;
	if (before)
		buf_append_byte(&chat->messages, ',');
	json_writer_init(&w, &chat->messages);
	json_begin_object(&w);
	json_put_cstr(&w, "role", role);
	json_put_str(&w, "content", content);
	json_end_object(&w);
	if (!chat->messages.failed)
		return true;
	chat->messages.len = before;
	chat->messages.failed = false;
	return false;
}

static void write_request(const struct chat *chat, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_cstr(&w, "model", chat->model);
	json_put_bool(&w, "stream", true);
	if (chat->max_tokens)
		json_put_i64(&w, "max_tokens", chat->max_tokens);
	if (chat->temperature >= 0)
		json_put_double(&w, "temperature", chat->temperature);
	json_key(&w, "messages");
	json_begin_array(&w);
	json_raw(&w, buf_str(&chat->messages)); /* its elements, with the commas between them */
	json_end_array(&w);
	json_end_object(&w);
}

/* --- the answer --- */

static void keep_failure(struct chat *chat, const json_val *error)
{
	struct str message;
	chat->failed = true;
	buf_clear(&chat->failure);
	if (json_as_str(json_get(error, "message"), &message))
		buf_append_str(&chat->failure, message);
}

static void on_event(struct str data, void *user)
{
	struct chat *chat = user;
	struct json_doc *doc = json_parse(data, NULL, NULL);
	if (!doc)
		return;
	const json_val *root = json_root(doc), *error = json_get_some(root, "error"), *usage = json_get_some(root, "usage");
	struct json_iter choices = json_iter(json_get(root, "choices"));
	const json_val *choice = json_next(&choices, NULL);
	struct str text;
	if (error)
		keep_failure(chat, error);
	if (usage) {
		json_as_i64(json_get(usage, "prompt_tokens"), &chat->prompt_tokens);
		json_as_i64(json_get(usage, "completion_tokens"), &chat->completion_tokens);
	}
	if (choice && json_as_str(json_get(json_get(choice, "delta"), "content"), &text) && text.len) {
		chat->last_us = clock_mono_us();
		if (!chat->first_us)
			chat->first_us = chat->last_us;
		buf_append_str(&chat->answer, text);
		print_safely(text, stdout);
		fflush(stdout);
	}
	json_free(doc);
}

static void on_answer(const struct client_answer *answer, void *user)
{
	struct chat *chat = user;
	str_copy(str_sub(answer->trust, 0, sizeof chat->trust - 1), chat->trust, sizeof chat->trust);
	str_copy(str_sub(answer->chip, 0, sizeof chat->chip - 1), chat->chip, sizeof chat->chip);
	str_copy(str_sub(answer->job, 0, sizeof chat->job - 1), chat->job, sizeof chat->job);
}

static void on_headers(struct http_fetch *fetch, int status, void *user)
{
	struct chat *chat = user;
	(void)fetch;
	chat->status = status;
}

/* The call is over, by whatever way. */
static void end_call(struct chat *chat)
{
	chat->fetch = NULL;
	chat->asking = NULL;
	net_timer_stop(&chat->poll);
	net_loop_stop(chat->loop);
}

/* A false from these is a cancel: on_done does not come, so the call ends here. */
static bool take_or_end(struct chat *chat, enum db_err err)
{
	if (!err)
		return true;
	chat->failed = true;
	buf_clear(&chat->failure);
	buf_append_c(&chat->failure, "the answer is too long for this program");
	end_call(chat);
	return false;
}

static bool on_whole(struct http_fetch *fetch, struct str bytes, void *user)
{
	struct chat *chat = user;
	(void)fetch;
	return take_or_end(chat, buf_append_str(chat->status == 200 ? &chat->answer : &chat->failure, bytes));
}

static void on_done(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct chat *chat = user;
	(void)fetch;
	(void)body;
	chat->status = status;
	if (!status) {
		chat->failed = true;
		buf_clear(&chat->failure);
		buf_append_c(&chat->failure, error->text);
		if (error->code == DB_E_CLOSED || error->code == DB_E_NOT_FOUND)
			buf_append_c(&chat->failure, " Is a coordinator running there? --url names another.");
	} else if (status != 200) {
		struct json_doc *doc = json_parse(buf_str(&chat->failure), NULL, NULL);
		keep_failure(chat, json_get(doc ? json_root(doc) : NULL, "error"));
		json_free(doc);
		if (!chat->failure.len)
			buf_printf(&chat->failure, "the coordinator answered with status %d", status);
	}
	end_call(chat);
}

static void on_poll(struct net_timer *timer)
{
	struct chat *chat = LIST_OF(timer, struct chat, poll);
	if (!interrupt_seen || (!chat->fetch && !chat->asking))
		return;
	interrupt_seen = 0;
	chat->interrupted = true;
	if (chat->fetch)
		http_fetch_cancel(chat->fetch);
	if (chat->asking)
		client_call_cancel(chat->asking);
	end_call(chat);
}

/* Runs what was begun until it ended or was interrupted. */
static bool run(struct chat *chat)
{
	net_timer_start(chat->loop, &chat->poll, INTERRUPT_POLL_MS, INTERRUPT_POLL_MS, on_poll);
	net_loop_run(chat->loop);
	return !chat->failed && !chat->interrupted;
}

static void begin_call(struct chat *chat)
{
	chat->status = 0;
	chat->interrupted = chat->failed = false;
	buf_clear(&chat->failure);
}

static bool call(struct chat *chat, const char *method, const char *path, struct str body,
                 bool (*on_data)(struct http_fetch *fetch, struct str bytes, void *user))
{
	char url[sizeof chat->url + 64];
	struct error error;
	struct http_header headers[] = {{STR("Authorization"), buf_str(&chat->key)},
	                                {STR("Content-Type"), STR("application/json")}};
	snprintf(url, sizeof url, "%s%s", chat->url, path);
	struct http_fetch_options options = {.method = method,
	                                     .url = url,
	                                     .headers = headers,
	                                     .header_count = 2,
	                                     .body = body,
	                                     .ca_path = chat->ca_path,
	                                     .user = chat,
	                                     .on_headers = on_headers,
	                                     .on_data = on_data,
	                                     .on_done = on_done};
	begin_call(chat);
	chat->fetch = http_fetch(chat->client, &options, &error);
	if (!chat->fetch) {
		buf_append_c(&chat->failure, error.text);
		chat->failed = true;
		return false;
	}
	return run(chat);
}

int chat_exit_status(const struct chat *chat, bool ok)
{
	if (ok)
		return CLI_OK;
	if (chat->interrupted)
		return CLI_FAILED;
	return chat->status == 401 || chat->status == 403 ? CLI_AUTH : chat->status == 0 ? CLI_NETWORK : CLI_FAILED;
}

/* --- asking --- */

static void print_stats(const struct chat *chat)
{
	double first_ms = chat->first_us ? (double)(chat->first_us - chat->asked_us) / 1000 : 0;
	double seconds = (double)(chat->last_us - chat->first_us) / 1e6;
	double rate = seconds > 0 && chat->completion_tokens > 1 ? (double)(chat->completion_tokens - 1) / seconds : 0;
	if (chat->stats)
		fprintf(stderr, "[%lld + %lld tokens, first after %.0f ms, %.1f tokens/s, answered by %s, trust %s]\n",
		        (long long)chat->prompt_tokens, (long long)chat->completion_tokens, first_ms, rate, chat->chip, chat->trust);
	if (!chat->json_stats)
		return;
	struct buf text;
	struct json_writer w;
	buf_init(&text, 4096);
	json_writer_init(&w, &text);
	json_begin_object(&w);
	json_put_i64(&w, "prompt_tokens", chat->prompt_tokens);
	json_put_i64(&w, "completion_tokens", chat->completion_tokens);
	json_put_double(&w, "first_token_ms", first_ms);
	json_put_double(&w, "tokens_per_s", rate);
	json_put_cstr(&w, "provider_chip", chat->chip);
	json_put_cstr(&w, "trust_level", chat->trust);
	json_put_cstr(&w, "job_id", chat->job);
	json_end_object(&w);
	fprintf(stderr, "%.*s\n", STR_ARG(buf_str(&text)));
	buf_free(&text);
}

static void on_asked(const struct client_end *end, void *user)
{
	struct chat *chat = user;
	chat->status = end->status;
	chat->failed = end->failure != NULL;
	if (chat->failed) {
		buf_clear(&chat->failure);
		buf_append_c(&chat->failure, end->failure);
	} else if (chat->cover == CLIENT_BLIND) { /* what the provider signed goes above what a frame says */
		chat->prompt_tokens = (int64_t)end->signed_usage.prompt_tokens;
		chat->completion_tokens = (int64_t)end->signed_usage.completion_tokens;
	}
	end_call(chat);
}

static bool stream_answer(struct chat *chat)
{
	struct buf body;
	struct error error;
	buf_init(&body, CHAT_CONVERSATION_MAX + 4096);
	buf_clear(&chat->answer);
	chat->first_us = chat->last_us = 0;
	chat->prompt_tokens = chat->completion_tokens = 0;
	write_request(chat, &body);
	chat->asked_us = clock_mono_us();
	begin_call(chat);
	struct client_call_options options = {
	    .body = buf_str(&body), .user = chat, .on_answer = on_answer, .on_event = on_event, .on_done = on_asked};
	chat->asking = client_chat(chat->consumer, &options, &error);
	if (!chat->asking) {
		buf_append_c(&chat->failure, error.text);
		chat->failed = true;
	}
	bool ok = chat->asking && run(chat);
	buf_free(&body);
	return ok;
}

bool chat_ask(struct chat *chat, struct str question)
{
	size_t before = chat->messages.len;
	if (!chat_add_message(chat, "user", question)) {
		fprintf(stderr, "darkbloom chat: the conversation is too long: begin a new one\n");
		return false;
	}
	bool ok = stream_answer(chat);
	if (chat->answer.len)
		fputc('\n', stdout);
	fflush(stdout);
	if (chat->interrupted)
		fprintf(stderr, "(stopped)\n");
	else if (!ok)
		print_failure(chat);
	else
		print_stats(chat);
	if (!chat->answer.len || !chat_add_message(chat, "assistant", buf_str(&chat->answer)))
		chat->messages.len = before; /* a question without an answer does not count */
	return ok;
}

bool chat_choose_model(struct chat *chat)
{
	buf_clear(&chat->answer);
	if (!call(chat, "GET", "/v1/models", STR_NONE, on_whole)) {
		if (!chat->interrupted)
			print_failure(chat);
		return false;
	}
	struct json_doc *doc = json_parse(buf_str(&chat->answer), NULL, NULL);
	struct json_iter each = json_iter(json_get(doc ? json_root(doc) : NULL, "data"));
	struct str id = STR_NONE;
	for (json_val *model; (model = json_next(&each, NULL));) {
		bool can_accept = false;
		json_as_bool(json_get(json_get(model, "metadata"), "can_accept"), &can_accept);
		if ((!id.len || can_accept) && json_as_str(json_get(model, "id"), &id) && can_accept)
			break;
	}
	bool found = id.len && str_copy(id, chat->model, sizeof chat->model);
	json_free(doc);
	if (!found)
		fprintf(stderr, "darkbloom chat: the coordinator offers no model right now: start a provider, or try again later\n");
	return found;
}
