#include "provider/cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "crypto/secret.h"
#include "net/http_client.h"
#include "provider/cli/sse.h"
#include "provider/platform/platform.h"

#define CONVERSATION_MAX  (8u << 20)
#define INTERRUPT_POLL_MS 40

const struct cli_option chat_options[] = {
    {.name = "url", .letter = 'u', .value = "URL", .help = "the coordinator (or DARKBLOOM_URL; default http://127.0.0.1:8080)"},
    {.name = "model", .letter = 'm', .value = "ID", .help = "the model; default: the first that can answer"},
    {.name = "key-file", .value = "FILE", .help = "file that holds the API key (or DARKBLOOM_API_KEY)"},
    {.name = "system", .letter = 's', .value = "TEXT", .help = "a system prompt"},
    {.name = "max-tokens", .value = "N", .help = "longest answer, in tokens"},
    {.name = "temperature", .value = "T", .help = "0 for the likeliest words, up to 2"},
    {.name = "ca", .value = "FILE", .help = "trust this certificate authority"},
    {.name = "stats", .help = "show who answered, how fast and how much, after each answer"},
    {.name = "json-stats", .help = "the same as one JSON line on standard error"},
    {.name = NULL},
};

struct chat {
	struct net_loop *loop;
	struct http_client *client;
	const char *url, *ca_path, *temperature;
	int64_t max_tokens;
	bool stats, json_stats;
	char model[160];
	struct buf key;      /* "Bearer ..." */
	struct buf messages; /* JSON objects, separated by commas */

	/* the answer that is coming in */
	struct http_fetch *fetch;
	struct net_timer poll;
	struct sse_reader events;
	struct buf answer, failure;
	uint64_t asked_us, first_us, last_us;
	int64_t prompt_tokens, completion_tokens;
	char trust[16], chip[96], job[64];
	int status;
	bool interrupted, failed;
};

static volatile sig_atomic_t interrupt_seen; /* set by the signal handler only */

static void on_interrupt(int signal_number)
{
	(void)signal_number;
	interrupt_seen = 1;
}

/* --- talking to the coordinator --- */

static void add_message(struct chat *chat, const char *role, struct str content)
{
	struct json_writer w;
	if (chat->messages.len)
		buf_append_byte(&chat->messages, ',');
	json_writer_init(&w, &chat->messages);
	json_begin_object(&w);
	json_put_cstr(&w, "role", role);
	json_put_str(&w, "content", content);
	json_end_object(&w);
}

static void write_request(const struct chat *chat, struct buf *out)
{
	struct json_writer w;
	double temperature;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_cstr(&w, "model", chat->model);
	json_put_bool(&w, "stream", true);
	if (chat->max_tokens)
		json_put_i64(&w, "max_tokens", chat->max_tokens);
	if (chat->temperature && str_to_double(str_of(chat->temperature), &temperature))
		json_put_double(&w, "temperature", temperature);
	json_key(&w, "messages");
	json_begin_array(&w);
	json_raw(&w, buf_str(&chat->messages)); /* its elements, with the commas between them */
	json_end_array(&w);
	json_end_object(&w);
}

static void keep_failure(struct chat *chat, const json_val *error)
{
	struct str message;
	chat->failed = true;
	if (json_as_str(json_get(error, "message"), &message))
		buf_append_str(&chat->failure, message);
}

static void on_event(struct str data, void *user)
{
	struct chat *chat = user;
	if (str_is(data, "[DONE]"))
		return;
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
		fwrite(text.at, 1, text.len, stdout);
		fflush(stdout);
	}
	json_free(doc);
}

static void copy_header(const struct http_fetch *fetch, const char *name, char *out, size_t size)
{
	str_copy(str_sub(http_fetch_header(fetch, name), 0, size - 1), out, size);
}

static void on_headers(struct http_fetch *fetch, int status, void *user)
{
	struct chat *chat = user;
	chat->status = status;
	copy_header(fetch, "x-provider-trust-level", chat->trust, sizeof chat->trust);
	copy_header(fetch, "x-provider-chip", chat->chip, sizeof chat->chip);
	copy_header(fetch, "x-inference-job-id", chat->job, sizeof chat->job);
}

static bool on_data(struct http_fetch *fetch, struct str bytes, void *user)
{
	struct chat *chat = user;
	(void)fetch;
	if (chat->status == 200)
		return sse_reader_feed(&chat->events, bytes) == DB_OK;
	return buf_append_str(&chat->failure, bytes) == DB_OK;
}

static void on_done(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct chat *chat = user;
	(void)fetch;
	(void)body;
	chat->fetch = NULL;
	net_timer_stop(&chat->poll);
	if (!status) {
		chat->failed = true;
		buf_append_c(&chat->failure, error->text);
	} else if (status != 200) {
		struct json_doc *doc = json_parse(buf_str(&chat->failure), NULL, NULL);
		buf_clear(&chat->failure);
		chat->failed = true;
		keep_failure(chat, json_get(doc ? json_root(doc) : NULL, "error"));
		json_free(doc);
		if (!chat->failure.len)
			buf_printf(&chat->failure, "the coordinator answered with status %d", status);
	}
	net_loop_stop(chat->loop);
}

static void on_poll(struct net_timer *timer)
{
	struct chat *chat = (struct chat *)(void *)((char *)timer - offsetof(struct chat, poll));
	if (!interrupt_seen || !chat->fetch)
		return;
	interrupt_seen = 0;
	chat->interrupted = true;
	http_fetch_cancel(chat->fetch);
	chat->fetch = NULL;
	net_timer_stop(timer);
	net_loop_stop(chat->loop);
}

/* One call, run until it ended or was interrupted. */
static bool call(struct chat *chat, const char *method, const char *path, struct str body,
                 bool (*data)(struct http_fetch *fetch, struct str bytes, void *user))
{
	char url[1024];
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
	                                     .on_data = data,
	                                     .on_done = on_done};
	chat->status = 0;
	chat->interrupted = chat->failed = false;
	buf_clear(&chat->failure);
	chat->fetch = http_fetch(chat->client, &options, &error);
	if (!chat->fetch) {
		buf_append_c(&chat->failure, error.text);
		chat->failed = true;
		return false;
	}
	net_timer_start(chat->loop, &chat->poll, INTERRUPT_POLL_MS, INTERRUPT_POLL_MS, on_poll);
	net_loop_run(chat->loop);
	return !chat->failed && !chat->interrupted;
}

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

/* Asks with the conversation so far and prints the answer as it comes. An answer, also a cut one, joins the conversation. */
static bool ask(struct chat *chat, struct str question)
{
	struct buf body;
	size_t before = chat->messages.len;
	buf_init(&body, CONVERSATION_MAX);
	buf_clear(&chat->answer);
	sse_reader_init(&chat->events, on_event, chat);
	chat->first_us = chat->last_us = 0;
	chat->prompt_tokens = chat->completion_tokens = 0;
	add_message(chat, "user", question);
	write_request(chat, &body);
	chat->asked_us = clock_mono_us();
	bool ok = !body.failed && call(chat, "POST", "/v1/chat/completions", buf_str(&body), on_data);
	if (chat->answer.len)
		fputc('\n', stdout);
	fflush(stdout);
	if (chat->interrupted)
		fprintf(stderr, "(stopped)\n");
	else if (!ok)
		fprintf(stderr, "darkbloom chat: %.*s\n", STR_ARG(buf_str(&chat->failure)));
	else
		print_stats(chat);
	if (chat->answer.len) {
		add_message(chat, "assistant", buf_str(&chat->answer));
	} else {
		chat->messages.len = before; /* nothing was answered: the question does not count */
	}
	sse_reader_free(&chat->events);
	buf_free(&body);
	return ok;
}

static bool keep_models(struct http_fetch *fetch, struct str bytes, void *user)
{
	struct chat *chat = user;
	(void)fetch;
	return buf_append_str(chat->status == 200 ? &chat->answer : &chat->failure, bytes) == DB_OK;
}

/* The first model that can answer. */
static bool choose_model(struct chat *chat)
{
	buf_clear(&chat->answer);
	if (!call(chat, "GET", "/v1/models", STR_NONE, keep_models)) {
		fprintf(stderr, "darkbloom chat: %.*s\n", STR_ARG(buf_str(&chat->failure)));
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

/* --- the terminal --- */

static const char help_text[] = "  /new           forget the conversation\n"
                                "  /model ID      talk to another model\n"
                                "  /stats         show or hide the numbers after each answer\n"
                                "  /help          this list\n"
                                "  /quit, Ctrl-D  leave\n";

/* Returns false to leave. */
static bool command(struct chat *chat, struct str line)
{
	struct str word, rest = str_trim(str_cut(line, ' ', &word));
	if (str_is(word, "/quit") || str_is(word, "/exit"))
		return false;
	if (str_is(word, "/new"))
		buf_clear(&chat->messages);
	else if (str_is(word, "/stats"))
		chat->stats = !chat->stats;
	else if (str_is(word, "/model") && rest.len)
		str_copy(rest, chat->model, sizeof chat->model);
	else
		fputs(help_text, stderr);
	return true;
}

static void converse(struct chat *chat)
{
	char *line = NULL;
	size_t size = 0;
	fprintf(stderr, "%s at %s. Enter sends, Ctrl-C stops an answer, Ctrl-D leaves, /help lists the commands.\n", chat->model,
	        chat->url);
	for (;;) {
		fputs("\033[1m> \033[0m", stderr);
		interrupt_seen = 0;
		errno = 0;
		ssize_t n = getline(&line, &size, stdin);
		if (n < 0 && errno == EINTR) {
			clearerr(stdin);
			fputc('\n', stderr);
			continue;
		}
		if (n < 0)
			break;
		struct str text = str_trim((struct str){line, (size_t)n});
		if (!text.len)
			continue;
		if (text.at[0] == '/' ? !command(chat, text) : (ask(chat, text), false))
			break;
	}
	fputc('\n', stderr);
	if (line)
		secret_wipe(line, size);
	free(line);
}

static bool ask_stdin(struct chat *chat)
{
	struct buf question;
	buf_init(&question, CONVERSATION_MAX);
	for (size_t n = 1; n && !buf_reserve(&question, 4096);) {
		n = fread(question.at + question.len, 1, 4096, stdin);
		question.len += n;
	}
	struct str text = str_trim(buf_str(&question));
	bool ok = text.len && ask(chat, text);
	if (!text.len)
		fprintf(stderr, "darkbloom chat: there is nothing to ask: give a prompt\n");
	buf_free(&question);
	return ok;
}

static bool read_key(struct chat *chat, const char *path)
{
	struct error error;
	struct buf text;
	buf_init(&text, 64 << 10);
	const char *from_environment = getenv("DARKBLOOM_API_KEY");
	enum db_err err =
	    path ? platform_read_file(path, 4096, &text, &error) : buf_append_c(&text, from_environment ? from_environment : "");
	struct str key = str_trim(buf_str(&text));
	if (!err && key.len) {
		buf_append_c(&chat->key, "Bearer ");
		buf_append_str(&chat->key, key);
	} else {
		fprintf(stderr, "darkbloom chat: %s\n",
		        err ? error.text : "an API key is needed: give --key-file FILE or set DARKBLOOM_API_KEY");
	}
	buf_free(&text);
	return !err && chat->key.len > 0;
}

/* Of the last call, which failed. */
static int failure_status(const struct chat *chat)
{
	if (chat->failed && !chat->status)
		return CLI_NETWORK;
	return chat->status == 401 || chat->status == 403 ? CLI_AUTH : CLI_FAILED;
}

static int run(struct chat *chat, const struct cli_args *args)
{
	const char *system = cli_value(args, "system"), *prompt = cli_arg(args, 0);
	if (!chat->model[0] && !choose_model(chat))
		return failure_status(chat);
	if (system)
		add_message(chat, "system", str_of(system));
	if (prompt)
		return ask(chat, str_of(prompt)) ? CLI_OK : failure_status(chat);
	if (!isatty(STDIN_FILENO))
		return ask_stdin(chat) ? CLI_OK : failure_status(chat);
	converse(chat);
	return CLI_OK;
}

int run_chat(const struct cli_args *args)
{
	struct chat chat = {.ca_path = cli_value(args, "ca"),
	                    .temperature = cli_value(args, "temperature"),
	                    .stats = cli_flag(args, "stats"),
	                    .json_stats = cli_flag(args, "json-stats")};
	struct error error = {0};
	int exit_status = CLI_FAILED;
	buf_init(&chat.key, 8192);
	buf_init(&chat.messages, CONVERSATION_MAX);
	buf_init(&chat.answer, CONVERSATION_MAX);
	buf_init(&chat.failure, 1 << 20);
	chat.url = cli_value(args, "url") ? cli_value(args, "url") : getenv("DARKBLOOM_URL");
	if (!chat.url)
		chat.url = "http://127.0.0.1:8080";
	str_copy(str_of(cli_value(args, "model")), chat.model, sizeof chat.model);
	if (!cli_int(args, "max-tokens", 0, 0, 1 << 24, &chat.max_tokens))
		return CLI_USAGE;
	if (!read_key(&chat, cli_value(args, "key-file"))) {
		exit_status = CLI_AUTH;
		goto out;
	}
	chat.loop = net_loop_new(&error);
	chat.client = chat.loop ? http_client_new(chat.loop, &error) : NULL;
	if (!chat.client) {
		fprintf(stderr, "darkbloom chat: %s\n", error.text);
		goto out;
	}
	struct sigaction action = {.sa_handler = on_interrupt}; /* without SA_RESTART: reading a line is interrupted too */
	sigaction(SIGINT, &action, NULL);
	exit_status = run(&chat, args);
out:
	if (chat.client)
		http_client_free(chat.client);
	if (chat.loop)
		net_loop_free(chat.loop);
	buf_free(&chat.key);
	buf_free(&chat.messages);
	buf_free(&chat.answer);
	buf_free(&chat.failure);
	return exit_status;
}
