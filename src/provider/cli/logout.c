#include "provider/cli/cli.h"

#include <stdio.h>

#include "crypto/secret.h"
#include "provider/cli/account.h"

const struct cli_option logout_options[] = {
    {.name = "coordinator-url", .value = "URL", .help = "the coordinator (default: the one the token is from)"},
    {.name = "state-dir",
     .value = "DIR",
     .help = "where the token is kept (default ~/.darkbloom; or DARKBLOOM_AUTH_TOKEN_PATH)"},
    {.name = "ca", .value = "FILE", .help = "trust this certificate authority"},
    {.name = NULL},
};

/* True when the coordinator says that the token is worth nothing any more. */
static bool revoke(const char *url, const char *ca_path, const char *token)
{
	struct error error;
	struct account_answer answer;
	struct json_writer w;
	struct buf body;
	struct account_client *client = account_client_new(url, ca_path, &error);
	if (!client) {
		fprintf(stderr, "darkbloom logout: %s\n", error.text);
		return false;
	}
	buf_init(&body, 4096);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_cstr(&w, "token", token);
	json_end_object(&w);
	account_call(client, "POST", "/v1/device/revoke", STR_NONE, buf_str(&body), &answer);
	bool revoked = answer.status == 200;
	if (!revoked)
		fprintf(stderr, "darkbloom logout: %.*s\n", STR_ARG(account_answer_problem(&answer)));
	account_answer_free(&answer);
	buf_free(&body);
	account_client_free(client);
	return revoked;
}

int run_logout(const struct cli_args *args)
{
	char url[ACCOUNT_URL_SIZE], path[ACCOUNT_PATH_SIZE], *token;
	struct error error;
	account_token_path(args, path, sizeof path);
	enum db_err err = account_token_read(path, &token, &error);
	if (err) {
		fprintf(stderr, "darkbloom logout: %s\n", err == DB_E_NOT_FOUND ? "you are not logged in" : error.text);
		return CLI_FAILED;
	}
	bool revoked = account_choose_url(args, "logout", path, url) && revoke(url, cli_value(args, "ca"), token);
	secret_free(token);
	account_token_remove(path);
	if (revoked)
		printf("You are logged out.\n");
	else
		fprintf(stderr, "The token is gone from this machine, but the coordinator may still accept it: end it there.\n");
	return revoked ? CLI_OK : CLI_NETWORK;
}
