#include "provider/cli/chat.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "provider/cli/cli.h"
#include "provider/platform/platform.h"

const struct cli_option chat_options[] = {
    {.name = "url", .letter = 'u', .value = "URL", .help = "the coordinator (or DARKBLOOM_URL; default http://127.0.0.1:8080)"},
    {.name = "model", .letter = 'm', .value = "ID", .help = "the model; default: the first that can answer"},
    {.name = "key-file", .value = "FILE", .help = "file that holds the API key (or DARKBLOOM_API_KEY)"},
    {.name = "system", .letter = 's', .value = "TEXT", .help = "a system prompt"},
    {.name = "max-tokens", .value = "N", .help = "longest answer, in tokens"},
    {.name = "temperature", .value = "T", .help = "0 for the likeliest words, up to 2"},
    {.name = "sealed", .help = "encrypt each request to the coordinator's own key"},
    {.name = "blind", .help = "encrypt each request to an attested provider: the coordinator cannot read it"},
    {.name = "provider-key", .value = "KEY", .help = "with --blind: only the provider with this signing key (base64)"},
    {.name = "ca", .value = "FILE", .help = "trust this certificate authority"},
    {.name = "stats", .help = "show who answered, how fast and how much, after each answer"},
    {.name = "json-stats", .help = "the same as one JSON line on standard error"},
    {.name = NULL},
};

static const char help_text[] = "  /new           forget the conversation\n"
                                "  /model ID      talk to another model\n"
                                "  /stats         show or hide the numbers after each answer\n"
                                "  /help          this list\n"
                                "  /quit, Ctrl-D  leave\n";

/* --- the conversation --- */

/* The system prompt stands first in every conversation. */
static bool begin_conversation(struct chat *chat, const char *system)
{
	buf_clear(&chat->messages);
	if (!system || chat_add_message(chat, "system", str_of(system)))
		return true;
	fprintf(stderr, "darkbloom chat: the system prompt is too long\n");
	return false;
}

/* Returns false to leave. */
static bool command(struct chat *chat, struct str line, const char *system)
{
	struct str word, rest = str_trim(str_cut(line, ' ', &word));
	if (str_is(word, "/quit") || str_is(word, "/exit"))
		return false;
	if (str_is(word, "/new"))
		return begin_conversation(chat, system);
	if (str_is(word, "/stats"))
		chat->stats = !chat->stats;
	else if (str_is(word, "/model") && rest.len && rest.len < sizeof chat->model)
		str_copy(rest, chat->model, sizeof chat->model);
	else
		fputs(help_text, stderr);
	return true;
}

/* False when Ctrl-C came first. A terminal gives one line at a time, so none waits inside stdio. */
static bool wait_for_line(void)
{
	struct pollfd either[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = chat_interrupt_fd(), .events = POLLIN}};
	while (poll(either, 2, -1) < 0 && errno == EINTR)
		;
	return !(either[1].revents & POLLIN);
}

static void converse(struct chat *chat, const char *system)
{
	char *line = NULL;
	size_t size = 0;
	fprintf(stderr, "%s at %s. Enter sends, Ctrl-C stops an answer, Ctrl-D leaves, /help lists the commands.\n", chat->model,
	        chat->url);
	for (bool go_on = true; go_on;) {
		chat_forget_interrupt();
		fputs(isatty(STDERR_FILENO) ? "\033[1m> \033[0m" : "> ", stderr);
		if (!wait_for_line()) {
			fputc('\n', stderr);
			continue;
		}
		ssize_t n = getline(&line, &size, stdin);
		if (n < 0)
			break;
		struct str text = str_trim((struct str){line, (size_t)n});
		if (text.len && text.at[0] == '/')
			go_on = command(chat, text, system);
		else if (text.len)
			chat_ask(chat, text);
	}
	fputc('\n', stderr);
	if (line)
		secret_wipe(line, size);
	free(line);
}

static bool read_stdin(struct buf *question)
{
	char piece[4096];
	for (size_t n; (n = fread(piece, 1, sizeof piece, stdin));)
		buf_append(question, piece, n);
	secret_wipe(piece, sizeof piece);
	if (question->failed)
		fprintf(stderr, "darkbloom chat: what came on standard input is too long\n");
	else if (!str_trim(buf_str(question)).len)
		fprintf(stderr, "darkbloom chat: there is nothing to ask: give a prompt\n");
	return !question->failed && str_trim(buf_str(question)).len;
}

static int ask_stdin(struct chat *chat)
{
	struct buf question;
	buf_init(&question, CHAT_CONVERSATION_MAX);
	int exit_status = CLI_USAGE;
	if (read_stdin(&question))
		exit_status = chat_exit_status(chat, chat_ask(chat, str_trim(buf_str(&question))));
	buf_free(&question);
	return exit_status;
}

static int talk(struct chat *chat, const struct cli_args *args)
{
	const char *system = cli_value(args, "system"), *prompt = cli_arg(args, 0);
	if (!chat->model[0] && !chat_choose_model(chat))
		return chat_exit_status(chat, false);
	if (!begin_conversation(chat, system))
		return CLI_USAGE;
	if (prompt)
		return chat_exit_status(chat, chat_ask(chat, str_of(prompt)));
	if (!isatty(STDIN_FILENO))
		return ask_stdin(chat);
	converse(chat, system);
	chat->interrupted = false;
	return CLI_OK;
}

/* --- start --- */

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

static bool read_url(struct chat *chat, const struct cli_args *args)
{
	const char *given = cli_value(args, "url") ? cli_value(args, "url") : getenv("DARKBLOOM_URL");
	struct str url = given && given[0] ? str_trim(str_of(given)) : STR("http://127.0.0.1:8080");
	while (str_ends(url, STR("/")))
		url.len--;
	if ((str_starts(url, STR("http://")) || str_starts(url, STR("https://"))) && str_copy(url, chat->url, sizeof chat->url))
		return true;
	fprintf(stderr, "darkbloom chat: \"%s\" is not a coordinator's address: give one like https://coordinator.example\n",
	        given);
	return false;
}

static bool read_options(struct chat *chat, const struct cli_args *args)
{
	const char *temperature = cli_value(args, "temperature"), *model = cli_value(args, "model");
	chat->ca_path = cli_value(args, "ca");
	chat->stats = cli_flag(args, "stats");
	chat->json_stats = cli_flag(args, "json-stats");
	chat->temperature = -1;
	chat->trusted_key = str_of(cli_value(args, "provider-key"));
	chat->cover = cli_flag(args, "blind") ? CLIENT_BLIND : cli_flag(args, "sealed") ? CLIENT_SEALED : CLIENT_CLEAR;
	if ((cli_flag(args, "sealed") && cli_flag(args, "blind")) || (chat->trusted_key.len && chat->cover != CLIENT_BLIND)) {
		fprintf(stderr, "darkbloom chat: --sealed and --blind exclude each other, and --provider-key needs --blind\n");
		return false;
	}
	if (model && (!model[0] || !str_copy(str_of(model), chat->model, sizeof chat->model))) {
		fprintf(stderr, "darkbloom chat: \"%s\" is not a model id\n", model);
		return false;
	}
	if (temperature &&
	    (!str_to_double(str_of(temperature), &chat->temperature) || chat->temperature < 0 || chat->temperature > 2)) {
		fprintf(stderr, "darkbloom chat: --temperature must be a number from 0 to 2, not \"%s\"\n", temperature);
		return false;
	}
	return cli_int(args, "max-tokens", 0, 1, 1 << 24, &chat->max_tokens) && read_url(chat, args);
}

int run_chat(const struct cli_args *args)
{
	struct chat chat = {0};
	struct error error = {0};
	int exit_status = CLI_FAILED;
	if (!read_options(&chat, args))
		return CLI_USAGE;
	buf_init(&chat.key, 8192);
	buf_init(&chat.messages, CHAT_CONVERSATION_MAX);
	buf_init(&chat.answer, CHAT_CONVERSATION_MAX);
	buf_init(&chat.failure, 1 << 20);
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
	struct client_options options = {.loop = chat.loop,
	                                 .http = chat.client,
	                                 .url = chat.url,
	                                 .ca_path = chat.ca_path,
	                                 .cover = chat.cover,
	                                 .policy = {.trusted_keys = chat.trusted_key.len ? &chat.trusted_key : NULL,
	                                            .trusted_count = chat.trusted_key.len ? 1 : 0}};
	buf_append_byte(&chat.key, '\0'); /* ends the text that the client borrows */
	chat.key.len--;
	options.authorization = chat.key.at;
	chat.consumer = client_new(&options);
	if (!chat.consumer) {
		fprintf(stderr, "darkbloom chat: there is not enough memory\n");
		goto out;
	}
	if (!chat_catch_interrupts()) {
		fprintf(stderr, "darkbloom chat: there are too many open files\n");
		goto out;
	}
	exit_status = talk(&chat, args);
out:
	client_free(chat.consumer);
	if (chat.client)
		http_client_free(chat.client);
	if (chat.loop)
		net_loop_free(chat.loop);
	buf_free(&chat.key);
	buf_free(&chat.messages);
	buf_free(&chat.answer);
	buf_free(&chat.failure);
	if (chat.interrupted) { /* end as an interrupted program does: a shell's loop around us ends too */
		signal(SIGINT, SIG_DFL);
		raise(SIGINT);
	}
	return exit_status;
}
