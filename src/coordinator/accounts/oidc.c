#include "coordinator/accounts/oidc.h"

#include <stdlib.h>

#include "coordinator/accounts/oidc_text.h"
#include "core/clock.h"
#include "core/encode.h"
#include "core/id.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "crypto/jwt.h"
#include "crypto/secret.h"
#include "net/http_client.h"

#define ANSWER_MAX       (1u << 20)
#define TIMEOUT_MS       10000
#define METADATA_KEEP_US INT64_C(3600000000)
#define KEYS_KEEP_US     INT64_C(3600000000)
#define KEYS_AGAIN_US    1000000 /* unknown keys are asked about no more often: the token came from the issuer itself */
#define SKEW_S           60

/* Keys in use by a check on a worker outlive their replacement. Counted on the loop thread. */
struct key_set {
	struct jwt_keys *keys;
	unsigned uses;
};

struct oidc {
	struct oidc_options options;
	struct http_client *http;
	struct oidc_metadata metadata;
	uint64_t metadata_us; /* when it was read, 0 = never */
	struct key_set *keys; /* NULL = none yet */
	uint64_t keys_us;
	struct list jobs;
};

/* One login, at one of its two steps. */
struct job {
	struct oidc *oidc; /* NULL: it is gone, and a worker has still to come back */
	struct list_link link;
	oidc_url_fn url_done; /* the first step */
	oidc_person_fn person_done;
	void *user;
	struct oidc_state state;
	char redirect_uri[512], code[2048];
	struct arena *arena; /* wiped at the end */
	struct str id_token;
	bool keys_are_fresh; /* fetched for this job */

	struct key_set *checking; /* while a worker has it */
	struct jwt jwt;
	enum db_err verified;
	struct jwt_claims claims;
	struct error why;
};

/* --- life --- */

struct oidc *oidc_new(const struct oidc_options *options, struct error *error)
{
	struct oidc *oidc = calloc(1, sizeof *oidc);
	if (!oidc) {
		error_set(error, DB_E_NOMEM, "There is not enough memory to start.");
		return NULL;
	}
	oidc->options = *options;
	list_init(&oidc->jobs);
	oidc->http = http_client_new(options->loop, error);
	if (!oidc->http) {
		free(oidc);
		return NULL;
	}
	return oidc;
}

static void drop_keys(struct key_set *set)
{
	if (!set || --set->uses > 0)
		return;
	jwt_keys_free(set->keys);
	free(set);
}

static void free_job(struct job *job)
{
	if (job->oidc)
		list_remove(&job->oidc->jobs, &job->link);
	drop_keys(job->checking);
	arena_free(job->arena);
	secret_wipe(job, sizeof *job);
	free(job);
}

/* Tells the job's caller, and ends it. */
static void fail(struct job *job, const struct error *error)
{
	log_warn("oidc.failed", "code=%s reason=\"%s\"", error_name(error->code), error->text);
	if (job->url_done)
		job->url_done(NULL, error, job->user);
	else
		job->person_done(NULL, error, job->user);
	free_job(job);
}

static void fail_with(struct job *job, enum db_err code, const char *text)
{
	struct error error;
	error_set(&error, code, "%s", text);
	fail(job, &error);
}

void oidc_free(struct oidc *oidc)
{
	if (!oidc)
		return;
	http_client_free(oidc->http);
	LIST_EACH_SAFE (link, next, &oidc->jobs) {
		struct job *job = LIST_OF(link, struct job, link);
		if (job->checking) {
			list_remove(&oidc->jobs, link);
			job->oidc = NULL;
		} else {
			fail_with(job, DB_E_CLOSED, "The coordinator is shutting down.");
		}
	}
	drop_keys(oidc->keys);
	free(oidc);
}

/* --- secrets --- */

static void random_text(char out[OIDC_SECRET_SIZE])
{
	uint8_t bytes[32];
	id_random(bytes, sizeof bytes);
	out[base64url_encode(bytes, sizeof bytes, out)] = '\0';
	secret_wipe(bytes, sizeof bytes);
}

void oidc_state_new(struct oidc_state *state)
{
	random_text(state->state);
	random_text(state->nonce);
	random_text(state->verifier);
}

void oidc_challenge(const char *verifier, char out[OIDC_SECRET_SIZE])
{
	uint8_t hash[SHA256_BYTES];
	sha256(verifier, strlen(verifier), hash);
	out[base64url_encode(hash, sizeof hash, out)] = '\0';
}

/* --- asking the issuer --- */

typedef void (*answer_fn)(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user);

static void get(struct job *job, const char *url, answer_fn done)
{
	struct error error;
	struct http_header headers[] = {{STR("Accept"), STR("application/json")}};
	struct http_fetch_options options = {.url = url,
	                                     .headers = headers,
	                                     .header_count = 1,
	                                     .ca_path = job->oidc->options.ca_path,
	                                     .timeout_ms = TIMEOUT_MS,
	                                     .max_body_bytes = ANSWER_MAX,
	                                     .user = job,
	                                     .on_done = done};
	if (!http_fetch(job->oidc->http, &options, &error))
		fail(job, &error);
}

/* --- discovery --- */

static void with_metadata(struct job *job);

static void on_metadata(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct job *job = user;
	struct oidc *oidc = job->oidc;
	struct oidc_metadata metadata;
	struct error why;
	(void)fetch;
	if (status != 200) {
		fail_with(job, DB_E_IO, error && !status ? error->text : "The identity provider does not describe itself.");
	} else if (oidc_metadata_parse(body, str_of(oidc->options.issuer), &metadata, &why)) {
		fail(job, &why);
	} else {
		oidc->metadata = metadata;
		oidc->metadata_us = clock_mono_us();
		with_metadata(job);
	}
}

static void need_metadata(struct job *job)
{
	struct oidc *oidc = job->oidc;
	char url[OIDC_URL_SIZE];
	if (oidc->metadata_us && clock_mono_us() - oidc->metadata_us < METADATA_KEEP_US)
		with_metadata(job);
	else if (oidc_discovery_url(str_of(oidc->options.issuer), url))
		fail_with(job, DB_E_INVALID, "The issuer's address is too long.");
	else
		get(job, url, on_metadata);
}

/* --- the token --- */

static void need_keys(struct job *job);

static void on_token(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct job *job = user;
	struct error why;
	(void)fetch;
	if (!status)
		fail_with(job, DB_E_IO, error ? error->text : "The identity provider cannot be reached.");
	else if (oidc_token_parse(status, body, job->arena, &job->id_token, &why))
		fail(job, &why);
	else
		need_keys(job);
}

static void ask_for_token(struct job *job)
{
	const struct oidc_options *o = &job->oidc->options;
	struct error error;
	struct buf form, authorization;
	buf_init(&form, 16384);
	buf_init(&authorization, 4096);
	oidc_token_form(&form, str_of(job->code), str_of(job->redirect_uri), str_of(job->state.verifier));
	/* RFC 6749 2.3.1: in the header by default; in the form where the issuer takes nothing else. */
	bool in_form = !o->client_secret[0] || job->oidc->metadata.secret_in_form;
	if (in_form)
		oidc_client_in_form(&form, str_of(o->client_id), str_of(o->client_secret));
	else
		oidc_client_in_header(&authorization, str_of(o->client_id), str_of(o->client_secret));
	struct http_header headers[] = {{STR("Accept"), STR("application/json")},
	                                {STR("Content-Type"), STR("application/x-www-form-urlencoded")},
	                                {STR("Authorization"), buf_str(&authorization)}};
	struct http_fetch_options options = {.method = "POST",
	                                     .url = job->oidc->metadata.token_endpoint,
	                                     .headers = headers,
	                                     .header_count = in_form ? 2 : 3,
	                                     .body = buf_str(&form),
	                                     .ca_path = o->ca_path,
	                                     .timeout_ms = TIMEOUT_MS,
	                                     .max_body_bytes = ANSWER_MAX,
	                                     .user = job,
	                                     .on_done = on_token};
	bool fits = !form.failed && !authorization.failed;
	bool asked = fits && http_fetch(job->oidc->http, &options, &error);
	buf_free(&form);
	buf_free(&authorization);
	if (!fits)
		fail_with(job, DB_E_INVALID, "The identity provider's answer is too long.");
	else if (!asked)
		fail(job, &error);
}

/* --- the keys, and the check on a worker --- */

static void check_now(void *arg)
{
	struct job *job = arg;
	job->verified = jwt_verify_any(&job->jwt, job->checking->keys);
}

static void on_keys(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user);

static void say_who(struct job *job)
{
	const struct jwt_claims *claims = &job->claims;
	struct oidc_person person = {
	    .issuer = str_of(job->oidc->options.issuer), .subject = claims->subject, .email = claims->email, .name = claims->name};
	job->person_done(&person, NULL, job->user);
	free_job(job);
}

static void on_checked(void *arg)
{
	struct job *job = arg;
	struct oidc *oidc = job->oidc;
	drop_keys(job->checking);
	job->checking = NULL;
	if (!oidc) {
		fail_with(job, DB_E_CLOSED, "The coordinator is shutting down.");
		return;
	}
	struct jwt_rules rules = {.issuer = str_of(oidc->options.issuer),
	                          .audience = str_of(oidc->options.client_id),
	                          .now_s = clock_wall_us() / 1000000,
	                          .skew_s = SKEW_S,
	                          .nonce = str_of(job->state.nonce),
	                          .is_id_token = true};
	bool may_ask_again = !job->keys_are_fresh && clock_mono_us() - oidc->keys_us > KEYS_AGAIN_US;
	if (job->verified == DB_E_NOT_FOUND && may_ask_again)
		get(job, oidc->metadata.jwks_uri, on_keys); /* the issuer has new keys */
	else if (job->verified)
		fail_with(job, DB_E_DENIED, "The identity provider's token has no signature of its keys.");
	else if (jwt_check(&job->jwt, &rules, &job->claims, &job->why))
		fail(job, &job->why);
	else
		say_who(job);
}

static void check_token(struct job *job)
{
	struct oidc *oidc = job->oidc;
	if (jwt_parse(job->id_token, job->arena, &job->jwt, &job->why)) {
		job->why.code = DB_E_DENIED;
		fail(job, &job->why);
		return;
	}
	job->checking = oidc->keys;
	job->checking->uses++;
	net_work(oidc->options.loop, check_now, on_checked, job);
}

static void on_keys(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct job *job = user;
	struct oidc *oidc = job->oidc;
	struct error why;
	struct key_set *set = calloc(1, sizeof *set);
	(void)fetch;
	if (!set || status != 200) {
		free(set);
		fail_with(job, DB_E_IO, error && !status ? error->text : "The identity provider does not give its keys.");
	} else if (jwt_keys_parse(body, &set->keys, &why)) {
		free(set);
		fail(job, &why);
	} else {
		set->uses = 1;
		drop_keys(oidc->keys);
		oidc->keys = set;
		oidc->keys_us = clock_mono_us();
		job->keys_are_fresh = true;
		check_token(job);
	}
}

static void need_keys(struct job *job)
{
	struct oidc *oidc = job->oidc;
	if (oidc->keys && clock_mono_us() - oidc->keys_us < KEYS_KEEP_US)
		check_token(job);
	else
		get(job, oidc->metadata.jwks_uri, on_keys);
}

/* --- the two steps --- */

static void say_where(struct job *job)
{
	const struct oidc_options *o = &job->oidc->options;
	struct buf url;
	char challenge[OIDC_SECRET_SIZE];
	buf_init(&url, 8192);
	oidc_challenge(job->state.verifier, challenge);
	struct oidc_request request = {.client_id = str_of(o->client_id),
	                               .redirect_uri = str_of(job->redirect_uri),
	                               .scopes = str_of(o->scopes),
	                               .state = str_of(job->state.state),
	                               .nonce = str_of(job->state.nonce),
	                               .challenge = str_of(challenge)};
	oidc_authorization_url(&url, str_of(job->oidc->metadata.authorization_endpoint), &request);
	buf_append_byte(&url, '\0');
	if (url.failed) {
		fail_with(job, DB_E_LIMIT, "The identity provider's address is too long.");
	} else {
		job->url_done(url.at, NULL, job->user);
		free_job(job);
	}
	buf_free(&url);
}

static void with_metadata(struct job *job)
{
	if (job->url_done)
		say_where(job);
	else
		ask_for_token(job);
}

static struct job *new_job(struct oidc *oidc, const struct oidc_state *state, struct str redirect_uri, void *user)
{
	struct job *job = calloc(1, sizeof *job);
	if (!job)
		return NULL;
	job->oidc = oidc;
	job->user = user;
	job->state = *state;
	job->arena = arena_new(4u << 20);
	if (!job->arena || !str_copy(redirect_uri, job->redirect_uri, sizeof job->redirect_uri)) {
		arena_free(job->arena);
		free(job);
		return NULL;
	}
	list_push_back(&oidc->jobs, &job->link);
	return job;
}

void oidc_begin(struct oidc *oidc, const struct oidc_state *state, struct str redirect_uri, oidc_url_fn done, void *user)
{
	struct error error;
	struct job *job = new_job(oidc, state, redirect_uri, user);
	if (!job) {
		error_set(&error, DB_E_IO, "There is not enough memory at this moment.");
		done(NULL, &error, user);
		return;
	}
	job->url_done = done;
	need_metadata(job);
}

void oidc_finish(struct oidc *oidc, const struct oidc_state *state, struct str code, struct str redirect_uri,
                 oidc_person_fn done, void *user)
{
	struct error error;
	struct job *job = new_job(oidc, state, redirect_uri, user);
	if (!job) {
		error_set(&error, DB_E_IO, "There is not enough memory at this moment.");
		done(NULL, &error, user);
		return;
	}
	job->person_done = done;
	if (str_copy(code, job->code, sizeof job->code) && job->code[0])
		need_metadata(job);
	else
		fail_with(job, DB_E_DENIED, "The identity provider sent no code that can be used.");
}
