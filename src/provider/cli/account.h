/* What login, logout, whoami and start share: where the account's token is, and short calls to a coordinator.
 * Thread: the main one. */
#ifndef PROVIDER_ACCOUNT_H
#define PROVIDER_ACCOUNT_H

#include "core/cli.h"
#include "core/json.h"

#define ACCOUNT_URL_SIZE  512
#define ACCOUNT_PATH_SIZE 1200

/* DARKBLOOM_AUTH_TOKEN_PATH, else auth_token in the state folder. */
void account_token_path(const struct cli_args *args, char *out, size_t size);
/* In secret memory, free with secret_free; NULL and DB_E_NOT_FOUND when there is none. */
enum db_err account_token_read(const char *path, char **token, struct error *error);
/* Mode 0600, with the coordinator it belongs to beside it. */
enum db_err account_token_write(const char *path, struct str token, const char *base_url, struct error *error);
void account_token_remove(const char *path);
/* The coordinator that gave the token at `path`; false when that is not known. */
bool account_token_home(const char *path, char out[ACCOUNT_URL_SIZE]);

/* "https://host:port" of any form in which a coordinator is named: http, https, ws, wss, with /ws/provider or slashes behind.
 */
enum db_err account_base_url(const char *coordinator_url, char out[ACCOUNT_URL_SIZE], struct error *error);
/* --coordinator-url, else DARKBLOOM_COORDINATOR_URL, else where the token is from. Says what is missing and returns false. */
bool account_choose_url(const struct cli_args *args, const char *command, const char *token_path, char out[ACCOUNT_URL_SIZE]);

struct account_client;
struct account_client *account_client_new(const char *base_url, const char *ca_path, struct error *error);
void account_client_free(struct account_client *client);

struct account_answer {
	int status;            /* 0: none came, and error says why */
	struct json_doc *json; /* NULL when it is none */
	struct error error;
};
/* One call, waited for. token and body may be empty. Free the answer with account_answer_free. */
void account_call(struct account_client *client, const char *method, const char *path, struct str token, struct str body,
                  struct account_answer *answer);
void account_answer_free(struct account_answer *answer);
/* The sentence for a person: the answer's error.message, or what went wrong on the way. Borrowed from the answer. */
struct str account_answer_problem(const struct account_answer *answer);
void account_pause(struct account_client *client, unsigned seconds);

#endif
