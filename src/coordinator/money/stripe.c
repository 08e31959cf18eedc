#include "coordinator/money/stripe.h"

#include "core/list.h"
#include "core/log.h"
#include "crypto/secret.h"
#include "net/form.h"

#include <stdio.h>
#include <stdlib.h>

#define CALL_WITHIN_MS 30000
#define KEY_MAX        256
#define PAGE           "100"
#define PAGES_MAX      100000
#define ID_SIZE        128

struct stripe {
	struct net_loop *loop;
	struct http_client *http;
	char *authorization; /* locked memory */
	char api_url[512];
	struct list calls;
};

struct pending {
	struct list_link link;
	struct stripe *stripe;
	struct stripe_call call;
	struct net_timer refusal; /* when it could not be begun */
};

struct stripe *stripe_new(const struct stripe_options *options, struct error *error)
{
	struct stripe *stripe = calloc(1, sizeof *stripe);
	if (!stripe) {
		error_set(error, DB_E_NOMEM, "There is not enough memory to start.");
		return NULL;
	}
	stripe->loop = options->loop;
	list_init(&stripe->calls);
	stripe->authorization = secret_alloc(KEY_MAX);
	stripe->http = http_client_new(options->loop, error);
	bool fits = stripe->authorization && str_copy(str_of(options->api_url), stripe->api_url, sizeof stripe->api_url) &&
	            (size_t)snprintf(stripe->authorization, KEY_MAX, "Bearer %s", options->secret_key) < KEY_MAX;
	if (stripe->http && fits)
		return stripe;
	if (stripe->http)
		error_set(error, DB_E_INVALID, "stripe.secret_key or stripe.api_url is longer than it can be.");
	stripe_free(stripe);
	return NULL;
}

static void finish(struct pending *pending, int status, const json_val *root)
{
	struct stripe_call call = pending->call;
	struct str code = STR_NONE;
	const json_val *error = json_get(root, "error");
	if (!json_as_str(json_get(error, "code"), &code))
		(void)json_as_str(json_get(error, "type"), &code);
	if (status != 200)
		log_warn("stripe.refused", "path=%s status=%d code=%.*s", call.path, status, STR_ARG(code));
	list_remove(&pending->stripe->calls, &pending->link);
	net_timer_stop(&pending->refusal);
	free(pending);
	call.done(status, root, code, call.user);
}

void stripe_free(struct stripe *stripe)
{
	if (!stripe)
		return;
	if (stripe->http)
		http_client_free(stripe->http);
	LIST_EACH_SAFE (link, next, &stripe->calls)
		finish(LIST_OF(link, struct pending, link), 0, NULL);
	secret_free(stripe->authorization);
	free(stripe);
}

static void on_refused(struct net_timer *timer)
{
	finish(LIST_OF(timer, struct pending, refusal), 0, NULL);
}

static void on_done(struct http_fetch *fetch, int status, struct str body, const struct error *error, void *user)
{
	struct json_doc *doc = status ? json_parse(body, NULL, NULL) : NULL;
	(void)fetch;
	if (error)
		log_warn("stripe.unreachable", "why=\"%s\"", error->text);
	finish(user, status, doc ? json_root(doc) : NULL);
	json_free(doc);
}

void stripe_call(struct stripe *stripe, const struct stripe_call *call)
{
	char url[2048];
	struct error error;
	struct pending *pending = calloc(1, sizeof *pending);
	if (!pending) {
		log_error("stripe.out_of_memory", "path=%s", call->path);
		abort(); /* whoever asked would wait for ever, with money on its way */
	}
	bool is_get = strcmp(call->method, "GET") == 0;
	struct http_header headers[5] = {{STR("authorization"), str_of(stripe->authorization)}};
	size_t count = 1;
	pending->stripe = stripe;
	pending->call = *call;
	list_push_back(&stripe->calls, &pending->link);
	int len = snprintf(url, sizeof url, "%s%s%s%.*s", stripe->api_url, call->path, is_get && call->form.len ? "?" : "",
	                   STR_ARG(is_get ? call->form : STR_NONE));
	if (!is_get)
		headers[count++] = (struct http_header){STR("content-type"), STR("application/x-www-form-urlencoded")};
	if (call->idempotency_key)
		headers[count++] = (struct http_header){STR("idempotency-key"), str_of(call->idempotency_key)};
	if (call->on_account)
		headers[count++] = (struct http_header){STR("stripe-account"), str_of(call->on_account)};
	struct http_fetch_options options = {.method = call->method,
	                                     .url = url,
	                                     .headers = headers,
	                                     .header_count = count,
	                                     .body = is_get ? STR_NONE : call->form,
	                                     .timeout_ms = CALL_WITHIN_MS,
	                                     .max_body_bytes = 1u << 20,
	                                     .user = pending,
	                                     .on_done = on_done};
	if (len < 0 || (size_t)len >= sizeof url || !http_fetch(stripe->http, &options, &error))
		net_timer_start(stripe->loop, &pending->refusal, 0, 0, on_refused);
}

/* --- lists --- */

struct walk {
	struct stripe *stripe;
	struct stripe_list list;
	char query[512], on_account[ID_SIZE];
	char last_id[ID_SIZE]; /* where the next page begins */
	int pages;
};

static void end_walk(struct walk *walk, bool whole)
{
	struct stripe_list list = walk->list;
	free(walk);
	list.done(whole, list.user);
}

static void ask_page(struct walk *walk);

/* False: the walk has ended, or the page is none. */
static bool take_page(struct walk *walk, const json_val *root, bool *is_broken)
{
	struct json_iter iter = json_iter(json_get(root, "data"));
	const json_val *object;
	while ((object = json_next(&iter, NULL))) {
		struct str id;
		*is_broken = !json_as_str(json_get(object, "id"), &id) || !str_copy(id, walk->last_id, sizeof walk->last_id);
		if (*is_broken || !walk->list.take(object, walk->list.user))
			return false;
	}
	return true;
}

static void on_page(int status, const json_val *root, struct str code, void *user)
{
	struct walk *walk = user;
	char before[ID_SIZE];
	bool more = false, is_broken = false;
	(void)code;
	memcpy(before, walk->last_id, sizeof before);
	if (status != 200 || !json_as_bool(json_get(root, "has_more"), &more) || ++walk->pages > PAGES_MAX)
		end_walk(walk, false);
	else if (!take_page(walk, root, &is_broken))
		is_broken ? end_walk(walk, false) : free(walk);
	else if (!more)
		end_walk(walk, true);
	else if (strcmp(before, walk->last_id) == 0) /* the next page would be the same again */
		end_walk(walk, false);
	else
		ask_page(walk);
}

static void ask_page(struct walk *walk)
{
	struct buf query;
	buf_init(&query, 2048);
	buf_append_c(&query, walk->query);
	form_put(&query, "limit", STR(PAGE));
	if (walk->last_id[0])
		form_put(&query, "starting_after", str_of(walk->last_id));
	struct stripe_call call = {.method = "GET",
	                           .path = walk->list.path,
	                           .form = buf_str(&query),
	                           .on_account = walk->on_account[0] ? walk->on_account : NULL,
	                           .user = walk,
	                           .done = on_page};
	stripe_call(walk->stripe, &call);
	buf_free(&query);
}

void stripe_list(struct stripe *stripe, const struct stripe_list *list)
{
	struct walk *walk = calloc(1, sizeof *walk);
	struct str account = list->on_account ? str_of(list->on_account) : STR_NONE;
	bool fits = walk && str_copy(list->query, walk->query, sizeof walk->query) &&
	            str_copy(account, walk->on_account, sizeof walk->on_account);
	if (!fits) {
		free(walk);
		list->done(false, list->user);
		return;
	}
	walk->stripe = stripe;
	walk->list = *list;
	ask_page(walk);
}
