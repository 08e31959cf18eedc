#include "provider/node/builds.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/list.h"
#include "core/log.h"

#define URL_SIZE    2048
#define STEP_MS     2000 /* a download is reported so often, ... */
#define STEPS       20   /* ... or in steps of 5 % */
#define FAILED_SIZE 200

static const uint32_t waits[] = {1, 2, 4, 10, 20}; /* times retry_ms: 30, 60, 120, 300, 600 s */
#define WAITS (sizeof waits / sizeof *waits)

struct build {
	struct list_link link; /* in builds->all, the most urgent first */
	struct builds *builds;
	char id[RESIDENCY_MODEL_SIZE], weight_hash[65]; /* hash empty: any */
	int64_t priority;
	bool disk_only, wanted;
	enum build_state state;
	char why[FAILED_SIZE];
	uint64_t done_bytes, total_bytes, told_at_us, told_step;
	size_t failures;
	struct net_timer retry;
	struct residency_use use; /* while it is loaded for the first time */
};

struct builds {
	struct net_loop *loop;
	struct builds_options options;
	struct http_client *client;
	struct list all;
	struct build *current; /* being downloaded or loaded */
	struct models_pull *pull;
	struct net_timer turn; /* the next one: not from inside a callback of the last */
	bool no_retry;         /* what refused the manifest will refuse it again */
};

const char *build_state_name(enum build_state state)
{
	static const char *const names[] = {"pending", "downloading", "verifying", "loading", "ready", "failed"};
	return names[state];
}

static void view_of(const struct build *build, struct build_view *out)
{
	*out = (struct build_view){.id = str_of(build->id),
	                           .state = build->state,
	                           .done_bytes = build->done_bytes,
	                           .total_bytes = build->total_bytes,
	                           .why = build->why};
}

static void report(struct build *build)
{
	struct build_view view;
	view_of(build, &view);
	build->told_at_us = net_now_us(build->builds->loop);
	build->builds->options.report(&view, build->builds->options.user);
}

static void enter(struct build *build, enum build_state state)
{
	if (build->state == state)
		return;
	build->state = state;
	if (state != BUILD_FAILED)
		build->why[0] = '\0';
	log_info("build.state", "model=%s state=%s why=\"%s\"", build->id, build_state_name(state), build->why);
	report(build);
}

/* --- turns --- */

static void on_turn(struct net_timer *timer);

static void turn_soon(struct builds *builds)
{
	net_timer_start(builds->loop, &builds->turn, 0, 0, on_turn);
}

static void leave(struct build *build)
{
	if (build->builds->current == build)
		build->builds->current = NULL;
	turn_soon(build->builds);
}

static void on_retry(struct net_timer *timer)
{
	struct build *build = LIST_OF(timer, struct build, retry);
	enter(build, BUILD_PENDING);
	turn_soon(build->builds);
}

/* `again`: it may go better later. */
static void fail(struct build *build, const char *why, bool again)
{
	struct builds *builds = build->builds;
	uint32_t retry_ms = builds->options.retry_ms ? builds->options.retry_ms : BUILDS_RETRY_MS;
	str_copy(str_sub(str_of(why), 0, sizeof build->why - 1), build->why, sizeof build->why);
	if (again && build->failures < WAITS)
		net_timer_start(builds->loop, &build->retry, (uint64_t)retry_ms * waits[build->failures++], 0, on_retry);
	enter(build, BUILD_FAILED);
	leave(build);
}

/* --- into memory, then on offer --- */

static void offer(struct build *build)
{
	struct builds *builds = build->builds;
	build->failures = 0;
	(void)residency_offer(builds->options.residency, str_of(build->id)); /* before it is said that it is ready */
	residency_release(&build->use);
	enter(build, BUILD_READY);
	leave(build);
}

static void on_loaded(struct residency_use *use, struct engine *engine, int status, const char *why)
{
	struct build *build = LIST_OF(use, struct build, use);
	(void)engine;
	if (status)
		fail(build, why, true);
	else
		offer(build);
}

static void load(struct build *build)
{
	struct engine *engine;
	struct error error = {.text = "model load failed"};
	struct builds *builds = build->builds;
	builds->current = build;
	build->use.ready = on_loaded;
	enter(build, BUILD_LOADING);
	int status = residency_acquire(builds->options.residency, str_of(build->id), &build->use, &engine, &error);
	if (status == 0)
		offer(build);
	else if (status != RESIDENCY_LATER)
		fail(build, error.text, true);
}

static void on_disk(struct build *build, const struct model_entry *entry)
{
	struct error error = {.text = "there are too many models"};
	const struct builds_options *options = &build->builds->options;
	if (build->disk_only) {
		enter(build, BUILD_READY);
		leave(build);
	} else if (!residency_could_ever(options->residency, entry->size_bytes, &error) ||
	           options->add(entry, options->context, &error)) {
		fail(build, error.text, false);
	} else {
		load(build);
	}
}

/* --- onto the disk --- */

static bool accepts(const struct models_offered *offered, void *user, struct error *error)
{
	struct build *build = user;
	struct builds *builds = build->builds;
	builds->no_retry = true;
	build->total_bytes = offered->total_bytes;
	if (!str_is(offered->id, build->id))
		error_set(error, DB_E_INVALID, "what is kept under its name is %.*s", STR_ARG(str_sub(offered->id, 0, 100)));
	else if (build->weight_hash[0] && strcmp(build->weight_hash, offered->weight_hash) != 0)
		error_set(error, DB_E_INVALID, "what is kept under its name is not the build that the operator pinned");
	else
		builds->no_retry = !build->disk_only && !residency_could_ever(builds->options.residency, offered->total_bytes, error);
	return !builds->no_retry;
}

static bool on_progress(uint64_t done_bytes, uint64_t total_bytes, void *user)
{
	struct build *build = user;
	uint64_t step = total_bytes ? done_bytes * STEPS / total_bytes : 0;
	build->done_bytes = done_bytes;
	build->total_bytes = total_bytes;
	if (build->state != BUILD_DOWNLOADING) {
		build->told_step = step;
		enter(build, BUILD_DOWNLOADING);
	} else if (step != build->told_step || net_now_us(build->builds->loop) - build->told_at_us >= STEP_MS * 1000) {
		build->told_step = step;
		report(build);
	}
	return true;
}

static void on_check(void *user)
{
	enter(user, BUILD_VERIFYING);
}

static void on_pulled(const struct model_entry *entry, const struct error *error, void *user)
{
	struct build *build = user;
	build->builds->pull = NULL;
	if (entry)
		on_disk(build, entry);
	else
		fail(build, error->text, !build->builds->no_retry);
}

static void pull(struct build *build)
{
	char url[URL_SIZE];
	struct error error = {.text = "out of memory"};
	struct builds *builds = build->builds;
	const struct builds_options *options = &builds->options;
	struct models_pull_options how = {.dir = options->models_dir,
	                                  .manifest_url = url,
	                                  .ca_path = options->ca_path,
	                                  .keep_free_bytes = options->keep_free_bytes,
	                                  .progress = on_progress,
	                                  .accepts = accepts,
	                                  .on_check = on_check,
	                                  .done = on_pulled,
	                                  .user = build};
	builds->no_retry = false;
	builds->current = build;
	if (models_manifest_url(options->source, str_of(build->id), url, sizeof url, &error)) {
		fail(build, error.text, false);
		return;
	}
	builds->pull = models_pull_start(builds->loop, builds->client, &how, &error);
	if (!builds->pull)
		fail(build, error.text, false);
}

static void start(struct build *build)
{
	struct error error;
	struct model_entry entry;
	const struct builds_options *options = &build->builds->options;
	const struct residency_model *served = residency_find(options->residency, str_of(build->id));
	bool other = served && build->weight_hash[0] && strcmp(build->weight_hash, served->weight_hash) != 0;
	if (other) {
		fail(build, "another build is served under this name here: its owner must remove it", false);
	} else if (served && (build->disk_only || !served->held)) {
		enter(build, BUILD_READY);
	} else if (served) {
		load(build);
	} else if (!options->source) {
		fail(build, "this provider's owner has not said where models may be downloaded from", false);
	} else if (models_find(options->models_dir, str_of(build->id), &entry, &error) == DB_OK &&
	           (!build->weight_hash[0] || strcmp(build->weight_hash, entry.weight_hash) == 0)) {
		build->builds->current = build;
		on_disk(build, &entry);
	} else {
		pull(build);
	}
}

static void on_turn(struct net_timer *timer)
{
	struct builds *builds = LIST_OF(timer, struct builds, turn);
	LIST_EACH_SAFE (link, next, &builds->all) {
		struct build *build = LIST_OF(link, struct build, link);
		if (builds->current)
			return;
		if (build->state == BUILD_PENDING)
			start(build);
	}
}

/* --- what is wanted --- */

static void stop(struct build *build)
{
	struct builds *builds = build->builds;
	net_timer_stop(&build->retry);
	residency_release(&build->use);
	if (builds->current != build)
		return;
	if (builds->pull)
		models_pull_cancel(builds->pull);
	builds->pull = NULL;
	builds->current = NULL;
}

static void forget(struct build *build)
{
	stop(build);
	list_remove(&build->builds->all, &build->link);
	free(build);
}

static struct build *find(const struct builds *builds, struct str id)
{
	LIST_EACH (link, &builds->all)
		if (str_is(id, LIST_OF(link, struct build, link)->id))
			return LIST_OF(link, struct build, link);
	return NULL;
}

static void insert(struct builds *builds, struct build *build)
{
	LIST_EACH (link, &builds->all)
		if (LIST_OF(link, struct build, link)->priority < build->priority) {
			list_insert_before(&builds->all, link, &build->link);
			return;
		}
	list_push_back(&builds->all, &build->link);
}

static struct build *add(struct builds *builds, struct str id, int64_t priority)
{
	struct build *build = builds->all.count < BUILDS_MAX ? calloc(1, sizeof *build) : NULL;
	if (!build || !str_copy(id, build->id, sizeof build->id)) {
		log_warn("build.ignored", "model=%.*s", STR_ARG(str_sub(id, 0, RESIDENCY_MODEL_SIZE)));
		free(build);
		return NULL;
	}
	build->builds = builds;
	build->priority = priority;
	insert(builds, build);
	return build;
}

/* It was asked for, perhaps not for the first time. */
static void ask(struct build *build)
{
	build->failures = 0;
	if (build->state == BUILD_FAILED) {
		net_timer_stop(&build->retry);
		build->state = BUILD_PENDING;
		build->why[0] = '\0';
	}
	report(build);
	turn_soon(build->builds);
}

static void want(struct builds *builds, const struct build_wanted *wanted)
{
	struct build *build = find(builds, wanted->id);
	if (build && (build->disk_only || !str_is(wanted->weight_hash, build->weight_hash))) {
		forget(build); /* another pin, or more is asked of it now: from the start, where most is done already */
		build = NULL;
	}
	if (!build)
		build = add(builds, wanted->id, BUILDS_DESIRED_FIRST);
	if (!build)
		return;
	(void)str_copy(wanted->weight_hash, build->weight_hash, sizeof build->weight_hash);
	build->wanted = true;
	ask(build);
}

void builds_want(struct builds *builds, const struct build_wanted *list, size_t count)
{
	LIST_EACH (link, &builds->all)
		LIST_OF(link, struct build, link)->wanted = false;
	for (size_t i = 0; i < count; i++)
		want(builds, &list[i]);
	LIST_EACH_SAFE (link, next, &builds->all) {
		struct build *build = LIST_OF(link, struct build, link);
		if (!build->wanted)
			forget(build);
	}
	turn_soon(builds);
}

void builds_prefetch(struct builds *builds, struct str id, int64_t priority)
{
	struct build *build = find(builds, id);
	if (!build && (build = add(builds, id, priority))) {
		build->disk_only = true;
	} else if (build && priority > build->priority) {
		build->priority = priority;
		list_remove(&builds->all, &build->link);
		insert(builds, build);
	}
	if (build)
		ask(build);
}

size_t builds_list(const struct builds *builds, struct build_view *out, size_t max)
{
	size_t count = 0;
	LIST_EACH (link, &builds->all)
		if (count < max)
			view_of(LIST_OF(link, struct build, link), &out[count++]);
	return count;
}

/* --- life --- */

struct builds *builds_new(struct net_loop *loop, const struct builds_options *options, struct error *error)
{
	struct builds *builds = calloc(1, sizeof *builds);
	if (!builds) {
		error_set(error, DB_E_NOMEM, "out of memory");
		return NULL;
	}
	builds->loop = loop;
	builds->options = *options;
	list_init(&builds->all);
	builds->client = options->source ? http_client_new(loop, error) : NULL;
	if (options->source && !builds->client) {
		free(builds);
		return NULL;
	}
	return builds;
}

void builds_free(struct builds *builds)
{
	if (!builds)
		return;
	LIST_EACH_SAFE (link, next, &builds->all)
		forget(LIST_OF(link, struct build, link));
	net_timer_stop(&builds->turn);
	if (builds->client)
		http_client_free(builds->client);
	free(builds);
}
