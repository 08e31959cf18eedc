#include "client/client.h"

#include "client/sse.h"
#include "crypto/secret.h"

#include <stdio.h>
#include <stdlib.h>

#define ATTEMPTS_MAX 3 /* blind: providers that are tried; sealed: keys that are fetched */
#define ANSWER_MAX   (32u << 20)
#define URL_SIZE     768
#define REASON_SIZE  400
#define CHAT_PATH    "/v1/chat/completions"

struct client {
	struct client_options options;
	bool has_key;
	struct client_server_key key; /* of the sealed transport */
};

enum step { FETCHING_KEY, ASKING_OFFER, ANSWERING };

struct client_call {
	struct client *client;
	struct client_call_options options;
	struct arena *arena; /* of the request */
	struct chat_request chat;
	struct buf body;
	enum step step;
	unsigned attempts;
	struct http_fetch *fetch;

	struct client_secret secret;
	struct client_choice choice;
	struct blind_transcript transcript;

	/* the answer that is coming in */
	int status;
	bool covered;    /* it is sealed */
	bool spoke;      /* an event went out */
	bool done;       /* [DONE], or a receipt that is good */
	bool seal_again; /* another provider may do */
	struct sse_reader events, inner;
	struct buf plain, whole;
	struct chat_usage usage;
	char failure[REASON_SIZE];
};

struct client *client_new(const struct client_options *options)
{
	struct client *client = calloc(1, sizeof *client);
	if (client)
		client->options = *options;
	return client;
}

void client_free(struct client *client)
{
	free(client);
}

static void call_free(struct client_call *call)
{
	client_secret_end(&call->secret);
	sse_reader_free(&call->events);
	sse_reader_free(&call->inner);
	buf_free(&call->plain);
	buf_free(&call->whole);
	buf_free(&call->body);
	arena_free(call->arena);
	free(call);
}

static void finish(struct client_call *call)
{
	struct client_end end = {
	    .status = call->status, .failure = call->failure[0] ? call->failure : NULL, .signed_usage = call->usage};
	call->options.on_done(&end, call->options.user);
	call_free(call);
}

static void set_failure(struct client_call *call, struct str why)
{
	if (!call->failure[0])
		(void)str_copy(str_sub(why, 0, REASON_SIZE - 1), call->failure, REASON_SIZE);
}

/* --- what comes in --- */

static void on_inner_event(struct str data, void *user)
{
	struct client_call *call = user;
	call->spoke = true;
	if (str_is(data, "[DONE]") && call->client->options.cover != CLIENT_BLIND)
		call->done = true;
	call->options.on_event(data, call->options.user);
}

/* The message of an error object, wherever it stands. */
static void note_error(struct client_call *call, struct str json)
{
	struct str message = STR_NONE, code = STR_NONE;
	struct json_doc *doc = json_parse(json, NULL, NULL);
	const json_val *error = json_get(doc ? json_root(doc) : NULL, "error");
	if (json_as_str(json_get(error, "message"), &message) && message.len)
		set_failure(call, message);
	if (json_as_str(json_get(error, "code"), &code))
		call->seal_again = str_is(code, "seal_again") || str_is(code, "kid_mismatch");
	json_free(doc);
}

static void open_event(struct client_call *call, struct str data)
{
	buf_clear(&call->plain);
	if (client_open(&call->secret, data, &call->plain)) {
		set_failure(call, STR("A part of the answer does not open: somebody has changed it."));
		return;
	}
	if (call->client->options.cover == CLIENT_BLIND)
		blind_transcript_add(&call->transcript, data);
	buf_append_str(&call->plain, STR("\n\n")); /* one event, or one without its blank line */
	if (call->plain.failed || sse_reader_feed(&call->inner, buf_str(&call->plain)))
		set_failure(call, STR("A part of the answer is too long."));
}

static void on_outer_event(struct str data, void *user)
{
	struct client_call *call = user;
	struct str name = buf_str(&call->events.name);
	struct error error;
	if (call->failure[0])
		return;
	if (!call->covered)
		on_inner_event(data, call);
	else if (str_is(name, "error"))
		note_error(call, data);
	else if (!str_is(name, "receipt"))
		open_event(call, data);
	else if (client_receipt_check(data, &call->secret, &call->choice, &call->transcript, &call->usage, &error))
		set_failure(call, str_of(error.text));
	else
		call->done = true;
}

static bool begin_answer(struct client_call *call, const struct http_fetch *fetch, int status)
{
	enum client_cover cover = call->client->options.cover;
	bool stream = str_starts(http_fetch_header(fetch, "content-type"), STR("text/event-stream"));
	call->status = status;
	call->covered = cover == CLIENT_BLIND || (cover == CLIENT_SEALED && http_fetch_header(fetch, "x-eigen-sealed").len > 0);
	if (status == 200 && (!stream || (cover != CLIENT_CLEAR && !call->covered))) {
		set_failure(call, STR("The coordinator answered in the clear, or with something that is no stream."));
		return false;
	}
	return status == 200;
}

static void on_headers(struct http_fetch *fetch, int status, void *user)
{
	struct client_call *call = user;
	if (call->step != ANSWERING || !begin_answer(call, fetch, status) || !call->options.on_answer)
		return;
	enum client_cover cover = call->client->options.cover;
	/* Each is gone with the next look-up. */
	char trust[32], chip[128], job[80];
	(void)str_copy(str_sub(http_fetch_header(fetch, "x-provider-trust-level"), 0, sizeof trust - 1), trust, sizeof trust);
	(void)str_copy(str_sub(http_fetch_header(fetch, "x-provider-chip"), 0, sizeof chip - 1), chip, sizeof chip);
	(void)str_copy(str_sub(http_fetch_header(fetch, "x-inference-job-id"), 0, sizeof job - 1), job, sizeof job);
	struct client_answer answer = {.status = status,
	                               .trust = str_of(trust),
	                               .chip = cover == CLIENT_BLIND ? str_of(call->choice.chip) : str_of(chip),
	                               .job = str_of(job),
	                               .sealed = cover == CLIENT_SEALED,
	                               .blind = cover == CLIENT_BLIND};
	call->options.on_answer(&answer, call->options.user);
}

static void on_done(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user);

static bool on_data(struct http_fetch *fetch, struct str bytes, void *user)
{
	struct client_call *call = user;
	(void)fetch;
	enum db_err err = call->step == ANSWERING && call->status == 200 && !call->failure[0]
	                      ? sse_reader_feed(&call->events, bytes)
	                      : buf_append_str(&call->whole, bytes);
	if (err)
		set_failure(call, STR("The answer is too long for this program."));
	return true; /* the rest is read and dropped: on_done comes */
}

/* --- the steps --- */

static bool send_request(struct client_call *call, const char *method, const char *path, const char *content_type,
                         struct str body, struct error *error)
{
	char url[URL_SIZE];
	const struct client_options *o = &call->client->options;
	struct http_header headers[] = {{STR("Authorization"), str_of(o->authorization)},
	                                {STR("Content-Type"), str_of(content_type)},
	                                {STR("Accept"), STR("text/event-stream, application/json")}};
	int len = snprintf(url, sizeof url, "%s%s", o->url, path);
	if (len < 0 || (size_t)len >= sizeof url) {
		error_set(error, DB_E_LIMIT, "The coordinator's address is too long.");
		return false;
	}
	struct http_fetch_options options = {.method = method,
	                                     .url = url,
	                                     .headers = headers,
	                                     .header_count = sizeof headers / sizeof *headers,
	                                     .body = body,
	                                     .ca_path = o->ca_path,
	                                     .user = call,
	                                     .on_headers = on_headers,
	                                     .on_data = on_data,
	                                     .on_done = on_done};
	call->status = 0;
	buf_clear(&call->whole);
	call->fetch = http_fetch(o->http, &options, error);
	return call->fetch != NULL;
}

static bool begin_chat(struct client_call *call, struct error *error)
{
	struct buf out;
	enum client_cover cover = call->client->options.cover;
	const char *path = CHAT_PATH, *type = "application/json";
	struct str body = call->chat.body;
	enum db_err err = DB_OK;
	buf_init(&out, ENVELOPE_MAX_BYTES);
	if (cover == CLIENT_SEALED) {
		type = ENVELOPE_CONTENT_TYPE;
		err = client_secret_begin(&call->secret, call->client->key.key);
		if (!err)
			err = client_envelope_write(&call->secret, call->client->key.kid, body, &out);
		body = buf_str(&out);
	} else if (cover == CLIENT_BLIND) {
		path = "/v1/blind/completions";
		err = client_secret_begin(&call->secret, call->choice.key);
		if (!err)
			err = client_blind_write(&call->secret, &call->choice, &call->chat, &out);
		body = buf_str(&out);
		blind_transcript_begin(&call->transcript);
	}
	if (err)
		error_set(error, err, "The request is too long to be sealed, or the key is no good.");
	call->step = ANSWERING;
	bool begun = !err && send_request(call, "POST", path, type, body, error);
	buf_free(&out);
	return begun;
}

static bool begin(struct client_call *call, struct error *error)
{
	enum client_cover cover = call->client->options.cover;
	call->attempts++;
	if (cover == CLIENT_SEALED && !call->client->has_key) {
		call->step = FETCHING_KEY;
		return send_request(call, "GET", "/v1/encryption-key", "application/json", STR_NONE, error);
	}
	if (cover != CLIENT_BLIND)
		return begin_chat(call, error);
	struct buf ask;
	buf_init(&ask, 4096);
	call->step = ASKING_OFFER;
	bool begun = client_offer_ask(&call->chat, &ask) == DB_OK &&
	             send_request(call, "POST", "/v1/blind/offer", "application/json", buf_str(&ask), error);
	buf_free(&ask);
	return begun;
}

/* True when the next step was begun. */
static bool go_on(struct client_call *call, struct error *error)
{
	struct client *client = call->client;
	char before[CLIENT_PROVIDER_ID_SIZE];
	switch (call->step) {
	case FETCHING_KEY:
		if (client_server_key_read(buf_str(&call->whole), &client->key, error))
			return false;
		client->has_key = true;
		return begin_chat(call, error);
	case ASKING_OFFER:
		memcpy(before, call->choice.provider_id, sizeof before);
		if (client_offer_choose(buf_str(&call->whole), &call->chat, &client->options.policy, before[0] ? before : NULL,
		                        &call->choice, error))
			return false;
		return begin_chat(call, error);
	case ANSWERING:
		break;
	}
	return false;
}

static void explain(struct client_call *call)
{
	struct error error;
	if (call->covered && call->client->options.cover == CLIENT_SEALED) {
		buf_clear(&call->plain);
		if (client_answer_open(&call->secret, buf_str(&call->whole), &call->plain, &error))
			set_failure(call, str_of(error.text));
		else
			note_error(call, buf_str(&call->plain));
	} else {
		note_error(call, buf_str(&call->whole));
	}
	if (!call->failure[0])
		snprintf(call->failure, sizeof call->failure, "The coordinator answered with status %d.", call->status);
}

static void on_done(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct client_call *call = user;
	struct error why = {0};
	(void)fetch;
	(void)body;
	call->fetch = NULL;
	call->status = status;
	if (!status)
		set_failure(call, str_of(error->text));
	else if (status != 200)
		explain(call);
	else if (call->step == ANSWERING && !call->done && !call->failure[0])
		set_failure(call, STR("The answer ended before it was complete."));
	bool again = call->failure[0] && call->seal_again && !call->spoke && call->attempts < ATTEMPTS_MAX;
	if (again) {
		call->failure[0] = '\0';
		call->seal_again = false;
		call->client->has_key = false;
	}
	if (again ? begin(call, &why) : !call->failure[0] && go_on(call, &why))
		return;
	if (why.text[0])
		set_failure(call, str_of(why.text));
	finish(call);
}

struct client_call *client_chat(struct client *client, const struct client_call_options *options, struct error *error)
{
	struct api_error refused = {0};
	struct client_call *call = calloc(1, sizeof *call);
	if (!call) {
		error_set(error, DB_E_NOMEM, "There is not enough memory for the request.");
		return NULL;
	}
	call->client = client;
	call->options = *options;
	call->arena = arena_new(0);
	sse_reader_init(&call->events, on_outer_event, call);
	sse_reader_init(&call->inner, on_inner_event, call);
	buf_init(&call->plain, ANSWER_MAX);
	buf_init(&call->whole, ANSWER_MAX);
	buf_init(&call->body, ENVELOPE_MAX_BYTES);
	if (!call->arena || buf_append_str(&call->body, options->body)) {
		error_set(error, DB_E_LIMIT, "The request is too long.");
	} else if (!chat_request_parse(buf_str(&call->body), call->arena, &call->chat, &refused)) {
		error_set(error, DB_E_INVALID, "%s", refused.message);
	} else if (begin(call, error)) {
		return call;
	}
	call_free(call);
	return NULL;
}

void client_call_cancel(struct client_call *call)
{
	if (call->fetch)
		http_fetch_cancel(call->fetch);
	call_free(call);
}
