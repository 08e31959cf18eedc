#include "client/darkbloom_client.h"

#include "client/client.h"
#include "crypto/secret.h"

#include <stdio.h>
#include <stdlib.h>

#define TRUSTED_MAX 256

struct darkbloom_client {
	struct net_loop *loop;
	struct http_client *http;
	struct client *client;
	struct buf texts; /* copies; the authorization is secret */
	char *url, *authorization, *ca_path;
	struct str trusted[TRUSTED_MAX];

	/* the call that runs */
	int (*on_event)(const char *data, size_t data_len, void *user);
	void *user;
	struct darkbloom_result *result;
	bool stopped, ended;
	struct net_timer stop;
};

static void on_stop(struct net_timer *timer)
{
	net_loop_stop(LIST_OF(timer, struct darkbloom_client, stop)->loop);
}

/* Not at once: a call cannot be cancelled from inside its own callback. */
static void stop_soon(struct darkbloom_client *client)
{
	net_timer_start(client->loop, &client->stop, 0, 0, on_stop);
}

static void on_event(struct str data, void *user)
{
	struct darkbloom_client *client = user;
	if (client->stopped || !client->on_event(data.at, data.len, client->user))
		return;
	client->stopped = true;
	stop_soon(client);
}

static void on_done(const struct client_end *end, void *user)
{
	struct darkbloom_client *client = user;
	struct darkbloom_result *result = client->result;
	client->ended = true;
	result->status = end->status;
	result->prompt_tokens = end->signed_usage.prompt_tokens;
	result->completion_tokens = end->signed_usage.completion_tokens;
	if (end->failure)
		(void)str_copy(str_sub(str_of(end->failure), 0, sizeof result->error - 1), result->error, sizeof result->error);
	stop_soon(client);
}

static char *keep(struct darkbloom_client *client, const char *before, const char *text)
{
	size_t at = client->texts.len;
	if (!text)
		return NULL;
	buf_append_c(&client->texts, before);
	buf_append_c(&client->texts, text);
	buf_append_byte(&client->texts, '\0');
	return client->texts.failed ? NULL : client->texts.at + at;
}

static size_t texts_len(const struct darkbloom_client_options *options, size_t *trusted)
{
	size_t len = strlen(options->url) + strlen(options->api_key) + (options->ca_path ? strlen(options->ca_path) : 0) + 64;
	*trusted = 0;
	for (const char *const *key = options->trusted_keys; key && *key; key++, (*trusted)++)
		len += strlen(*key) + 1;
	return len;
}

/* All in one block, which must not move: it is reserved whole. */
static enum db_err copy_texts(struct darkbloom_client *client, const struct darkbloom_client_options *options, size_t len)
{
	buf_init(&client->texts, len);
	if (buf_reserve(&client->texts, len))
		return DB_E_NOMEM;
	client->url = keep(client, "", options->url);
	client->authorization = keep(client, "Bearer ", options->api_key);
	client->ca_path = keep(client, "", options->ca_path);
	for (size_t i = 0; options->trusted_keys && options->trusted_keys[i]; i++)
		client->trusted[i] = str_of(keep(client, "", options->trusted_keys[i]));
	for (size_t end = strlen(client->url); end > 0 && client->url[end - 1] == '/'; end--)
		client->url[end - 1] = '\0';
	return DB_OK;
}

static enum db_err start(struct darkbloom_client *client, const struct darkbloom_client_options *options, struct error *error)
{
	size_t trusted, len = texts_len(options, &trusted);
	if (trusted > TRUSTED_MAX)
		return error_set(error, DB_E_LIMIT, "At most %d keys can be trusted.", TRUSTED_MAX);
	if (crypto_init() || copy_texts(client, options, len))
		return error_set(error, DB_E_NOMEM, "There is not enough memory for a client.");
	client->loop = net_loop_new(error);
	client->http = client->loop ? http_client_new(client->loop, error) : NULL;
	if (!client->http)
		return DB_E_IO;
	struct client_options inner = {.loop = client->loop,
	                               .http = client->http,
	                               .url = client->url,
	                               .authorization = client->authorization,
	                               .ca_path = client->ca_path,
	                               .cover = (enum client_cover)options->mode,
	                               .policy = {.secure_enclave_only = options->secure_enclave_only != 0,
	                                          .trusted_keys = options->trusted_keys ? client->trusted : NULL,
	                                          .trusted_count = trusted}};
	client->client = client_new(&inner);
	return client->client ? DB_OK : error_set(error, DB_E_NOMEM, "There is not enough memory for a client.");
}

struct darkbloom_client *darkbloom_client_new(const struct darkbloom_client_options *options, char *error, size_t error_size)
{
	struct error why = {0};
	struct darkbloom_client *client = NULL;
	bool mode_known = options->mode == DARKBLOOM_CLEAR || options->mode == DARKBLOOM_SEALED || options->mode == DARKBLOOM_BLIND;
	if (!options->url || !options->api_key || !mode_known)
		error_set(&why, DB_E_INVALID, "An address, an API key and a mode are needed.");
	else if (!(client = calloc(1, sizeof *client)))
		error_set(&why, DB_E_NOMEM, "There is not enough memory for a client.");
	else if (start(client, options, &why) == DB_OK)
		return client;
	darkbloom_client_free(client);
	if (error_size)
		snprintf(error, error_size, "%s", why.text);
	return NULL;
}

void darkbloom_client_free(struct darkbloom_client *client)
{
	if (!client)
		return;
	client_free(client->client);
	if (client->http)
		http_client_free(client->http);
	if (client->loop)
		net_loop_free(client->loop);
	buf_free(&client->texts);
	free(client);
}

int darkbloom_client_chat(struct darkbloom_client *client, const char *json, size_t json_len,
                          int (*each)(const char *data, size_t data_len, void *user), void *user,
                          struct darkbloom_result *result)
{
	struct error error = {0};
	struct client_call_options options = {.body = {json, json_len}, .user = client, .on_event = on_event, .on_done = on_done};
	*result = (struct darkbloom_result){0};
	client->on_event = each;
	client->user = user;
	client->result = result;
	client->stopped = client->ended = false;
	struct client_call *call = client_chat(client->client, &options, &error);
	if (!call) {
		snprintf(result->error, sizeof result->error, "%s", error.text);
		return -1;
	}
	net_loop_run(client->loop);
	net_timer_stop(&client->stop);
	if (!client->ended)
		client_call_cancel(call);
	if (client->stopped)
		snprintf(result->error, sizeof result->error, "stopped");
	return result->error[0] ? -1 : 0;
}
