#include "provider/cli/account.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "crypto/secret.h"
#include "net/http_client.h"
#include "provider/cli/cli.h"
#include "provider/node/node.h"
#include "provider/platform/platform.h"

#define TOKEN_MAX  512
#define TIMEOUT_MS 10000
#define ANSWER_MAX (1u << 20)

/* --- the token --- */

void account_token_path(const struct cli_args *args, char *out, size_t size)
{
	char dir[1024];
	const char *given = getenv("DARKBLOOM_AUTH_TOKEN_PATH");
	if (given && given[0]) {
		str_copy(str_of(given), out, size);
		return;
	}
	provider_state_dir(args, dir, sizeof dir);
	snprintf(out, size, "%s/auth_token", dir);
}

static void home_path(const char *path, char *out, size_t size)
{
	snprintf(out, size, "%s.coordinator", path);
}

enum db_err account_token_read(const char *path, char **token, struct error *error)
{
	struct buf text;
	buf_init(&text, 4096);
	*token = NULL;
	enum db_err err = platform_read_file(path, TOKEN_MAX, &text, error);
	struct str trimmed = str_trim(buf_str(&text));
	if (!err && (!trimmed.len || memchr(trimmed.at, '\0', trimmed.len)))
		err = error_set(error, DB_E_INVALID, "%s does not hold a token", path);
	if (!err && !(*token = secret_alloc(trimmed.len + 1)))
		err = error_set(error, DB_E_NOMEM, "out of memory");
	if (!err)
		str_copy(trimmed, *token, trimmed.len + 1);
	buf_free(&text);
	return err;
}

enum db_err account_token_write(const char *path, struct str token, const char *base_url, struct error *error)
{
	char home[ACCOUNT_PATH_SIZE + 16];
	home_path(path, home, sizeof home);
	enum db_err err = platform_write_private(home, str_of(base_url), error);
	return err ? err : platform_write_private(path, token, error);
}

void account_token_remove(const char *path)
{
	char home[ACCOUNT_PATH_SIZE + 16];
	home_path(path, home, sizeof home);
	(void)unlink(path);
	(void)unlink(home);
}

bool account_token_home(const char *path, char out[ACCOUNT_URL_SIZE])
{
	char home[ACCOUNT_PATH_SIZE + 16];
	struct buf text;
	buf_init(&text, 4096);
	home_path(path, home, sizeof home);
	bool known = platform_read_file(home, ACCOUNT_URL_SIZE - 1, &text, NULL) == DB_OK && text.len &&
	             str_copy(str_trim(buf_str(&text)), out, ACCOUNT_URL_SIZE);
	buf_free(&text);
	return known;
}

/* --- which coordinator --- */

enum db_err account_base_url(const char *coordinator_url, char out[ACCOUNT_URL_SIZE], struct error *error)
{
	char websocket[ACCOUNT_URL_SIZE];
	enum db_err err = node_websocket_url(coordinator_url, websocket, sizeof websocket, error);
	if (err)
		return err;
	struct str rest = str_of(websocket + 2), path = STR("/ws/provider"); /* "ws" or "wss" in front, the path behind */
	rest.len -= path.len;
	snprintf(out, ACCOUNT_URL_SIZE, "http%.*s", STR_ARG(rest));
	return DB_OK;
}

bool account_choose_url(const struct cli_args *args, const char *command, const char *token_path, char out[ACCOUNT_URL_SIZE])
{
	struct error error;
	const char *url = cli_value(args, "coordinator-url");
	if (!url)
		url = getenv("DARKBLOOM_COORDINATOR_URL");
	if ((!url || !url[0]) && token_path && account_token_home(token_path, out))
		return true;
	if (url && url[0] && account_base_url(url, out, &error) == DB_OK)
		return true;
	fprintf(stderr, "darkbloom %s: %s\n", command,
	        url && url[0] ? error.text : "which coordinator? give --coordinator-url URL, or set DARKBLOOM_COORDINATOR_URL");
	return false;
}

/* --- calls --- */

struct account_client {
	struct net_loop *loop;
	struct http_client *http;
	const char *base_url, *ca_path;
	struct account_answer *answer; /* of the call that runs */
};

struct account_client *account_client_new(const char *base_url, const char *ca_path, struct error *error)
{
	struct account_client *client = calloc(1, sizeof *client);
	if (!client) {
		error_set(error, DB_E_NOMEM, "out of memory");
		return NULL;
	}
	client->base_url = base_url;
	client->ca_path = ca_path;
	client->loop = net_loop_new(error);
	client->http = client->loop ? http_client_new(client->loop, error) : NULL;
	if (client->http)
		return client;
	account_client_free(client);
	return NULL;
}

void account_client_free(struct account_client *client)
{
	if (!client)
		return;
	if (client->http)
		http_client_free(client->http);
	if (client->loop)
		net_loop_free(client->loop);
	free(client);
}

static void on_done(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct account_client *client = user;
	(void)fetch;
	client->answer->status = status;
	if (error)
		client->answer->error = *error;
	if (status)
		client->answer->json = json_parse(body, NULL, NULL);
	net_loop_stop(client->loop);
}

void account_call(struct account_client *client, const char *method, const char *path, struct str token, struct str body,
                  struct account_answer *answer)
{
	char url[ACCOUNT_URL_SIZE + 128];
	struct buf authorization;
	*answer = (struct account_answer){0};
	buf_init(&authorization, TOKEN_MAX + 64);
	buf_printf(&authorization, "Bearer %.*s", STR_ARG(token));
	struct http_header headers[] = {{STR("Content-Type"), STR("application/json")},
	                                {STR("User-Agent"), STR("darkbloom")},
	                                {STR("Authorization"), buf_str(&authorization)}};
	snprintf(url, sizeof url, "%s%s", client->base_url, path);
	struct http_fetch_options options = {.method = method,
	                                     .url = url,
	                                     .headers = headers,
	                                     .header_count = token.len ? 3 : 2,
	                                     .body = body,
	                                     .ca_path = client->ca_path,
	                                     .timeout_ms = TIMEOUT_MS,
	                                     .max_body_bytes = ANSWER_MAX,
	                                     .user = client,
	                                     .on_done = on_done};
	client->answer = answer;
	if (http_fetch(client->http, &options, &answer->error))
		net_loop_run(client->loop);
	buf_free(&authorization);
}

void account_answer_free(struct account_answer *answer)
{
	json_free(answer->json);
	answer->json = NULL;
}

struct str account_answer_problem(const struct account_answer *answer)
{
	struct str message;
	if (!answer->status)
		return str_of(answer->error.text);
	if (answer->json && json_as_str(json_get(json_get(json_root(answer->json), "error"), "message"), &message))
		return message;
	return STR("the coordinator gave an answer that this program does not understand");
}

/* --- waiting --- */

struct pause {
	struct net_timer timer;
	struct net_loop *loop;
};

static void on_pause(struct net_timer *timer)
{
	net_loop_stop(LIST_OF(timer, struct pause, timer)->loop);
}

void account_pause(struct account_client *client, unsigned seconds)
{
	struct pause pause = {.loop = client->loop};
	net_timer_start(client->loop, &pause.timer, seconds * UINT64_C(1000), 0, on_pause);
	net_loop_run(client->loop);
}
