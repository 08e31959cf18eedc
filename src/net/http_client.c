#include "net/http_client.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <curl/curl.h>

#include "core/buf.h"
#include "core/version.h"
#include "net/http_header.h"
#include "net/loop_internal.h"
#include "net/unix_name.h"

#define DEFAULT_CONNECT_MS 10000
#define DEFAULT_MAX_BODY   (16u << 20)
#define HEADER_MAX_BYTES   (64u << 10)
#define MAX_REDIRECTS      5L

struct http_client {
	struct net_loop *loop;
	CURLM *multi;
	struct net_timer timer;
	struct net_turn turn; /* for time-outs of 0: curl wants to be called at once, but not from inside itself */
	struct list running;
	struct list waiting; /* begun inside a callback of curl, where no handle may be added */
	bool in_curl, in_turn, cancelled_in_curl;
};

struct http_fetch {
	struct list_link link;
	struct http_client *client;
	CURL *easy;
	struct curl_slist *headers;
	struct http_fetch_options options; /* only the callbacks and `user` are used after the start */
	struct buf request_body;
	struct buf body;
	bool follows, told_headers, cancelled, waiting, ended;
	struct error error; /* why we broke off the call ourselves */
	struct net_unix_name unix_name;
	char curl_error[CURL_ERROR_SIZE];
};

/* A socket of curl's. libuv closes its handle later than curl forgets the socket. */
struct watched_socket {
	uv_poll_t poll;
	struct http_client *client;
	curl_socket_t fd;
};

/* --- the end of a call --- */

static void free_fetch(struct http_fetch *fetch)
{
	struct http_client *client = fetch->client;
	if (fetch->waiting) {
		list_remove(&client->waiting, &fetch->link);
	} else if (list_linked(&fetch->link)) {
		list_remove(&client->running, &fetch->link);
		curl_multi_remove_handle(client->multi, fetch->easy);
	}
	curl_easy_cleanup(fetch->easy);
	net_unix_name_done(&fetch->unix_name);
	curl_slist_free_all(fetch->headers);
	buf_free(&fetch->request_body);
	buf_free(&fetch->body);
	free(fetch);
}

static enum db_err error_of(CURLcode result)
{
	switch (result) {
	case CURLE_OPERATION_TIMEDOUT:
		return DB_E_TIMEOUT;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return DB_E_NOT_FOUND;
	case CURLE_PEER_FAILED_VERIFICATION:
		return DB_E_DENIED;
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
		return DB_E_INVALID;
	case CURLE_OUT_OF_MEMORY:
		return DB_E_NOMEM;
	case CURLE_COULDNT_CONNECT:
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_PARTIAL_FILE:
		return DB_E_CLOSED;
	default:
		return DB_E_IO;
	}
}

static int status_of(const struct http_fetch *fetch)
{
	long status = 0;
	curl_easy_getinfo(fetch->easy, CURLINFO_RESPONSE_CODE, &status);
	return (int)status;
}

static void finish(struct http_fetch *fetch, CURLcode result)
{
	fetch->ended = true;
	if (result != CURLE_OK && !fetch->error.code)
		error_set(&fetch->error, error_of(result), "The HTTP call failed: %s.",
		          fetch->curl_error[0] ? fetch->curl_error : curl_easy_strerror(result));
	bool failed = fetch->error.code != DB_OK;
	fetch->options.on_done(fetch, failed ? 0 : status_of(fetch), failed ? STR_NONE : buf_str(&fetch->body),
	                       failed ? &fetch->error : NULL, fetch->options.user);
	free_fetch(fetch);
}

/* --- driving curl --- */

static void start_waiting(struct http_client *client)
{
	struct list_link *link;
	while ((link = list_pop_front(&client->waiting))) {
		struct http_fetch *fetch = LIST_OF(link, struct http_fetch, link);
		fetch->waiting = false;
		list_push_back(&client->running, &fetch->link);
		curl_multi_add_handle(client->multi, fetch->easy);
	}
}

static void free_cancelled(struct http_client *client)
{
	if (!client->cancelled_in_curl)
		return;
	client->cancelled_in_curl = false;
	LIST_EACH_SAFE (link, next, &client->running) {
		struct http_fetch *fetch = LIST_OF(link, struct http_fetch, link);
		if (fetch->cancelled)
			free_fetch(fetch);
	}
}

static void drive(struct http_client *client, curl_socket_t fd, int events)
{
	int running, left;
	client->in_curl = true;
	curl_multi_socket_action(client->multi, fd, events, &running);
	client->in_curl = false;
	free_cancelled(client);
	start_waiting(client);
	for (CURLMsg *message; (message = curl_multi_info_read(client->multi, &left));) {
		struct http_fetch *fetch = NULL;
		if (message->msg != CURLMSG_DONE)
			continue;
		CURLcode result = message->data.result;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&fetch);
		finish(fetch, result);
	}
}

static void on_socket_event(uv_poll_t *poll, int status, int events)
{
	struct watched_socket *watched = poll->data;
	int flags = (events & UV_READABLE ? CURL_CSELECT_IN : 0) | (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
	drive(watched->client, watched->fd, status < 0 ? CURL_CSELECT_ERR : flags);
}

static void on_socket_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static struct watched_socket *watch_socket(struct http_client *client, curl_socket_t fd)
{
	struct watched_socket *watched = calloc(1, sizeof *watched);
	if (!watched)
		return NULL;
	watched->client = client;
	watched->fd = fd;
	watched->poll.data = watched;
	if (uv_poll_init_socket(net_loop_uv(client->loop), &watched->poll, fd)) {
		free(watched);
		return NULL;
	}
	curl_multi_assign(client->multi, fd, watched);
	return watched;
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *socket_user)
{
	(void)easy;
	struct watched_socket *watched = socket_user;
	if (what == CURL_POLL_REMOVE) {
		if (watched) {
			curl_multi_assign(watched->client->multi, fd, NULL);
			uv_poll_stop(&watched->poll);
			uv_close((uv_handle_t *)&watched->poll, on_socket_closed);
		}
		return 0;
	}
	if (!watched && !(watched = watch_socket(user, fd)))
		return -1;
	int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
	return uv_poll_start(&watched->poll, events, on_socket_event) ? -1 : 0;
}

static void on_timer(struct net_timer *timer)
{
	struct http_client *client = LIST_OF(timer, struct http_client, timer);
	drive(client, CURL_SOCKET_TIMEOUT, 0);
}

static void on_turn(struct net_turn *turn)
{
	struct http_client *client = LIST_OF(turn, struct http_client, turn);
	client->in_turn = true;
	drive(client, CURL_SOCKET_TIMEOUT, 0);
	client->in_turn = false;
}

static int on_curl_timeout(CURLM *multi, long timeout_ms, void *user)
{
	(void)multi;
	struct http_client *client = user;
	net_timer_stop(&client->timer);
	if (timeout_ms == 0 && !client->in_turn) /* asked for again in the turn's end: let sockets be polled in between */
		net_at_turn_end(client->loop, &client->turn);
	else if (timeout_ms >= 0)
		net_timer_start(client->loop, &client->timer, (uint64_t)timeout_ms, 0, on_timer);
	return 0;
}

/* --- the answer --- */

static struct str answer_header(const struct http_fetch *fetch, const char *name)
{
	struct curl_header *header;
	return curl_easy_header(fetch->easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? str_of(header->value) : STR_NONE;
}

struct str http_fetch_header(const struct http_fetch *fetch, const char *name)
{
	return answer_header(fetch, name);
}

static bool is_final_answer(const struct http_fetch *fetch, int status)
{
	bool redirects = fetch->follows && status >= 300 && status < 400 && answer_header(fetch, "Location").at;
	return status >= 200 && !redirects;
}

static size_t on_curl_header(char *line, size_t one, size_t len, void *user)
{
	(void)one;
	struct http_fetch *fetch = user;
	bool ends = len > 0 && (line[0] == '\r' || line[0] == '\n');
	int status = status_of(fetch);
	if (ends && !fetch->told_headers && !fetch->cancelled && is_final_answer(fetch, status)) {
		fetch->told_headers = true;
		if (fetch->options.on_headers)
			fetch->options.on_headers(fetch, status, fetch->options.user);
	}
	return fetch->cancelled ? 0 : len;
}

static size_t on_curl_data(char *data, size_t one, size_t len, void *user)
{
	(void)one;
	struct http_fetch *fetch = user;
	if (fetch->cancelled)
		return 0;
	if (fetch->options.on_data) {
		if (!fetch->options.on_data(fetch, (struct str){data, len}, fetch->options.user))
			http_fetch_cancel(fetch);
		return fetch->cancelled ? 0 : len;
	}
	enum db_err err = buf_append(&fetch->body, data, len);
	if (!err)
		return len;
	error_set(&fetch->error, err,
	          err == DB_E_LIMIT ? "The answer is larger than %zu bytes." : "No memory is left for an answer of %zu bytes.",
	          fetch->body.max);
	return 0;
}

/* --- the request --- */

static bool add_header(struct http_fetch *fetch, const char *line)
{
	struct curl_slist *grown = curl_slist_append(fetch->headers, line);
	if (grown)
		fetch->headers = grown;
	return grown != NULL;
}

static bool add_field(struct http_fetch *fetch, const struct http_header *header)
{
	struct buf line;
	buf_init(&line, HEADER_MAX_BYTES);
	buf_append_str(&line, header->name);
	if (header->value.len) {
		buf_append_c(&line, ": ");
		buf_append_str(&line, header->value);
	} else {
		buf_append_byte(&line, ';'); /* curl's way to send an empty one: "Name:" takes a header away */
	}
	buf_append_byte(&line, '\0');
	bool added = !line.failed && add_header(fetch, line.at);
	buf_free(&line);
	return added;
}

static enum db_err add_headers(struct http_fetch *fetch, const struct http_fetch_options *options, struct error *error)
{
	bool typed = false;
	bool added = add_header(fetch, "Expect:");
	for (size_t i = 0; i < options->header_count && added; i++) {
		const struct http_header *header = &options->headers[i];
		if (!http_header_is_safe(header))
			return error_set(error, DB_E_INVALID, "A header of the HTTP call holds characters that are not allowed there.");
		typed |= str_eq_nocase(header->name, STR("Content-Type"));
		added = add_field(fetch, header);
	}
	if (added && !typed)
		added = add_header(fetch, "Content-Type:");
	return added ? DB_OK : error_set(error, DB_E_LIMIT, "The headers of the HTTP call are too long.");
}

static void set_method(struct http_fetch *fetch, const struct http_fetch_options *options)
{
	CURL *easy = fetch->easy;
	struct str method = options->method ? str_of(options->method) : STR("GET");
	bool get = str_is(method, "GET"), head = str_is(method, "HEAD");
	bool has_body = options->body.len || str_is(method, "POST") || str_is(method, "PUT") || str_is(method, "PATCH");
	if (has_body) {
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)fetch->request_body.len);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, fetch->request_body.at ? fetch->request_body.at : "");
	}
	if (head)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	else if (!get || has_body)
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method.at);
	fetch->follows = (get || head) && !has_body;
}

static void set_options(struct http_fetch *fetch, const struct http_fetch_options *options)
{
	CURL *easy = fetch->easy;
	bool secure = str_starts(str_of(options->url), STR("https:"));
	curl_easy_setopt(easy, CURLOPT_PRIVATE, fetch);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, fetch->curl_error);
	curl_easy_setopt(easy, CURLOPT_URL, options->url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	if (options->unix_path) {
		curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, fetch->unix_name.address.sun_path);
		curl_easy_setopt(easy, CURLOPT_PROXY, "");
	}
	if (options->ca_path)
		curl_easy_setopt(easy, CURLOPT_CAINFO, options->ca_path);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
	                 (long)(options->connect_timeout_ms ? options->connect_timeout_ms : DEFAULT_CONNECT_MS));
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)options->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "darkbloom/" DARKBLOOM_VERSION);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fetch->headers);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, fetch->follows ? 1L : 0L);
	curl_easy_setopt(easy, CURLOPT_MAXREDIRS, MAX_REDIRECTS);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_curl_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, fetch);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_curl_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, fetch);
	if (options->resume_from) {
		char range[32];
		snprintf(range, sizeof range, "%llu-", (unsigned long long)options->resume_from);
		curl_easy_setopt(easy, CURLOPT_RANGE, range);
	}
}

static bool url_is_http(const char *url)
{
	struct str text = str_of(url);
	return str_starts(text, STR("http://")) || str_starts(text, STR("https://"));
}

struct http_fetch *http_fetch(struct http_client *client, const struct http_fetch_options *options, struct error *error)
{
	if (!url_is_http(options->url)) {
		error_set(error, DB_E_INVALID, "An address to call begins with http:// or https://.");
		return NULL;
	}
	struct http_fetch *fetch = calloc(1, sizeof *fetch);
	if (!fetch) {
		error_set(error, DB_E_NOMEM, "No memory is left for another HTTP call.");
		return NULL;
	}
	fetch->client = client;
	fetch->unix_name.folder_fd = -1;
	fetch->options = *options;
	buf_init(&fetch->request_body, options->body.len);
	buf_init(&fetch->body, options->max_body_bytes ? options->max_body_bytes : DEFAULT_MAX_BODY);
	fetch->easy = curl_easy_init();
	enum db_err err = fetch->easy ? buf_append_str(&fetch->request_body, options->body) : DB_E_NOMEM;
	if (err)
		error_set(error, DB_E_NOMEM, "No memory is left for another HTTP call.");
	else
		err = add_headers(fetch, options, error);
	if (!err && options->unix_path)
		err = net_unix_name(&fetch->unix_name, options->unix_path, error);
	if (err) {
		free_fetch(fetch);
		return NULL;
	}
	set_method(fetch, options);
	set_options(fetch, options);
	if (client->in_curl) {
		fetch->waiting = true;
		list_push_back(&client->waiting, &fetch->link);
		return fetch;
	}
	list_push_back(&client->running, &fetch->link);
	curl_multi_add_handle(client->multi, fetch->easy);
	return fetch;
}

void http_fetch_cancel(struct http_fetch *fetch)
{
	if (fetch->ended)
		return; /* inside on_done: it ends by itself */
	if (!fetch->client->in_curl || fetch->waiting) {
		free_fetch(fetch);
		return;
	}
	fetch->cancelled = true;
	fetch->client->cancelled_in_curl = true;
}

/* --- the client --- */

static void init_curl(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct http_client *http_client_new(struct net_loop *loop, struct error *error)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, init_curl);
	struct http_client *client = calloc(1, sizeof *client);
	CURLM *multi = client ? curl_multi_init() : NULL;
	if (!multi) {
		free(client);
		error_set(error, DB_E_NOMEM, "No memory is left for HTTP calls.");
		return NULL;
	}
	client->loop = loop;
	client->multi = multi;
	client->turn.fn = on_turn;
	list_init(&client->running);
	list_init(&client->waiting);
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, client);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_curl_timeout);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, client);
	return client;
}

void http_client_free(struct http_client *client)
{
	if (!client)
		return;
	struct list_link *link;
	while ((link = list_first(&client->running)) || (link = list_first(&client->waiting)))
		free_fetch(LIST_OF(link, struct http_fetch, link));
	curl_multi_cleanup(client->multi);
	net_timer_stop(&client->timer);
	net_turn_cancel(client->loop, &client->turn);
	free(client);
}
