#include "provider/cli/cli.h"

#include <stdio.h>

#include "core/clock.h"
#include "crypto/secret.h"
#include "provider/cli/account.h"

const struct cli_option login_options[] = {
    {.name = "coordinator-url", .value = "URL", .help = "the coordinator (or DARKBLOOM_COORDINATOR_URL)"},
    {.name = "state-dir",
     .value = "DIR",
     .help = "where the token is kept (default ~/.darkbloom; or DARKBLOOM_AUTH_TOKEN_PATH)"},
    {.name = "ca", .value = "FILE", .help = "trust this certificate authority"},
    {.name = NULL},
};

/* What the coordinator answered to the wish to log in. */
struct login {
	struct account_client *client;
	const char *base_url, *token_path;
	struct str device_code, user_code, verification_uri;
	int64_t expires_in, interval;
};

static bool text_member(const json_val *from, const char *name, struct str *out)
{
	return json_as_str(json_get(from, name), out) && out->len > 0;
}

static bool read_codes(const struct account_answer *answer, struct login *login)
{
	const json_val *root = answer->json ? json_root(answer->json) : NULL;
	bool ok = answer->status == 200 && text_member(root, "device_code", &login->device_code) &&
	          text_member(root, "user_code", &login->user_code) &&
	          text_member(root, "verification_uri", &login->verification_uri);
	if (!json_as_i64(json_get(root, "expires_in"), &login->expires_in) || login->expires_in < 1 || login->expires_in > 86400)
		login->expires_in = 900;
	if (!json_as_i64(json_get(root, "interval"), &login->interval) || login->interval < 1 || login->interval > 3600)
		login->interval = 5;
	return ok;
}

/* Text from outside on a terminal: control characters could drive it. */
static void print_plain(const char *label, struct str text)
{
	fputs(label, stdout);
	for (size_t i = 0; i < text.len; i++)
		fputc((unsigned char)text.at[i] >= 0x20 && (unsigned char)text.at[i] < 0x7f ? text.at[i] : '?', stdout);
	fputc('\n', stdout);
}

static int save(const struct login *login, struct str token)
{
	struct error error;
	if (account_token_write(login->token_path, token, login->base_url, &error)) {
		fprintf(stderr, "darkbloom login: %s\n", error.text);
		return CLI_FAILED;
	}
	printf("You are logged in. A provider started on this machine earns for your account.\n");
	return CLI_OK;
}

enum poll { POLL_AGAIN, POLL_SAVED, POLL_FAILED };

static enum poll poll_once(struct login *login, struct str body, int *exit_status)
{
	struct account_answer answer;
	struct str status = STR_NONE, token;
	enum poll next = POLL_AGAIN; /* also when nothing was understood: the network may come back */
	account_call(login->client, "POST", "/v1/device/token", STR_NONE, body, &answer);
	const json_val *root = answer.json ? json_root(answer.json) : NULL;
	(void)json_as_str(json_get(root, "status"), &status);
	if (str_is(status, "slow_down")) {
		if (!json_as_i64(json_get(root, "interval"), &login->interval) || login->interval < 1 || login->interval > 3600)
			login->interval = 10;
	} else if (str_is(status, "authorized") && text_member(root, "token", &token)) {
		*exit_status = save(login, token);
		next = POLL_SAVED;
	} else if (answer.status >= 400 && answer.status < 500 && answer.status != 429 && json_get(root, "error")) {
		fprintf(stderr, "darkbloom login: %.*s\n", STR_ARG(account_answer_problem(&answer)));
		*exit_status = CLI_AUTH;
		next = POLL_FAILED;
	}
	account_answer_free(&answer);
	return next;
}

static int wait_for_approval(struct login *login)
{
	struct buf body;
	struct json_writer w;
	int exit_status = CLI_AUTH;
	uint64_t until_us = clock_mono_us() + (uint64_t)login->expires_in * 1000000;
	buf_init(&body, 4096);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_str(&w, "device_code", login->device_code);
	json_end_object(&w);
	enum poll next = POLL_AGAIN;
	while (next == POLL_AGAIN && clock_mono_us() < until_us) {
		account_pause(login->client, (unsigned)login->interval);
		next = poll_once(login, buf_str(&body), &exit_status);
	}
	if (next == POLL_AGAIN)
		fprintf(stderr, "darkbloom login: nobody confirmed the code in time: try again\n");
	buf_free(&body);
	return exit_status;
}

static int ask(struct login *login)
{
	struct account_answer answer;
	int exit_status;
	account_call(login->client, "POST", "/v1/device/code", STR_NONE, STR_NONE, &answer);
	if (read_codes(&answer, login)) {
		print_plain("Open this page:     ", login->verification_uri);
		print_plain("and type the code:  ", login->user_code);
		printf("Waiting for you to confirm it there...\n");
		fflush(stdout);
		exit_status = wait_for_approval(login);
	} else {
		fprintf(stderr, "darkbloom login: %.*s\n", STR_ARG(account_answer_problem(&answer)));
		exit_status = answer.status ? CLI_FAILED : CLI_NETWORK;
	}
	account_answer_free(&answer);
	return exit_status;
}

int run_login(const struct cli_args *args)
{
	char url[ACCOUNT_URL_SIZE], path[ACCOUNT_PATH_SIZE], *held;
	struct error error;
	struct login login = {.base_url = url, .token_path = path};
	account_token_path(args, path, sizeof path);
	if (!account_choose_url(args, "login", NULL, url))
		return CLI_USAGE;
	if (account_token_read(path, &held, NULL) == DB_OK) {
		secret_free(held);
		fprintf(stderr, "darkbloom login: you are logged in already (%s): use `darkbloom logout` first\n", path);
		return CLI_FAILED;
	}
	login.client = account_client_new(url, cli_value(args, "ca"), &error);
	if (!login.client) {
		fprintf(stderr, "darkbloom login: %s\n", error.text);
		return CLI_FAILED;
	}
	int exit_status = ask(&login);
	account_client_free(login.client);
	return exit_status;
}
