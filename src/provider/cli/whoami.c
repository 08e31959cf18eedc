#include "provider/cli/cli.h"

#include <stdio.h>

#include "crypto/secret.h"
#include "provider/cli/account.h"

const struct cli_option whoami_options[] = {
    {.name = "coordinator-url", .value = "URL", .help = "the coordinator (default: the one the token is from)"},
    {.name = "state-dir",
     .value = "DIR",
     .help = "where the token is kept (default ~/.darkbloom; or DARKBLOOM_AUTH_TOKEN_PATH)"},
    {.name = "ca", .value = "FILE", .help = "trust this certificate authority"},
    {.name = "json", .help = "print JSON"},
    {.name = NULL},
};

static void print_account(const struct cli_args *args, const char *url, const json_val *root)
{
	struct str account = STR_NONE, email = STR_NONE;
	(void)json_as_str(json_get(root, "account_id"), &account);
	(void)json_as_str(json_get(root, "email"), &email);
	if (cli_flag(args, "json")) {
		struct buf text;
		struct json_writer w;
		buf_init(&text, 65536);
		json_writer_init(&w, &text);
		json_begin_object(&w);
		json_put_str(&w, "account_id", account);
		json_put_str(&w, "email", email);
		json_put_cstr(&w, "coordinator", url);
		json_end_object(&w);
		printf("%.*s\n", STR_ARG(buf_str(&text)));
		buf_free(&text);
		return;
	}
	printf("account      %.*s\n", STR_ARG(account));
	if (email.len)
		printf("e-mail       %.*s\n", STR_ARG(email));
	printf("coordinator  %s\n", url);
}

static int ask(const struct cli_args *args, const char *url, const char *token)
{
	struct error error;
	struct account_answer answer;
	int exit_status = CLI_OK;
	struct account_client *client = account_client_new(url, cli_value(args, "ca"), &error);
	if (!client) {
		fprintf(stderr, "darkbloom whoami: %s\n", error.text);
		return CLI_FAILED;
	}
	account_call(client, "GET", "/v1/me", str_of(token), STR_NONE, &answer);
	if (answer.status == 200 && answer.json) {
		print_account(args, url, json_root(answer.json));
	} else {
		fprintf(stderr, "darkbloom whoami: %.*s\n", STR_ARG(account_answer_problem(&answer)));
		exit_status = answer.status == 401 ? CLI_AUTH : answer.status ? CLI_FAILED : CLI_NETWORK;
	}
	account_answer_free(&answer);
	account_client_free(client);
	return exit_status;
}

int run_whoami(const struct cli_args *args)
{
	char url[ACCOUNT_URL_SIZE], path[ACCOUNT_PATH_SIZE], *token;
	struct error error;
	account_token_path(args, path, sizeof path);
	enum db_err err = account_token_read(path, &token, &error);
	if (err) {
		fprintf(stderr, "darkbloom whoami: %s\n",
		        err == DB_E_NOT_FOUND ? "you are not logged in: use `darkbloom login`" : error.text);
		return CLI_AUTH;
	}
	int exit_status = account_choose_url(args, "whoami", path, url) ? ask(args, url, token) : CLI_USAGE;
	secret_free(token);
	return exit_status;
}
