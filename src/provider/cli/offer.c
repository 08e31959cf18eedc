#include "provider/cli/offer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/buf.h"
#include "provider/cli/cli.h"
#include "provider/engine/engine_devices.h"
#include "provider/engine/engine_embed.h"
#include "provider/engine/engine_guard.h"
#include "provider/engine/kv_budget.h"
#include "provider/models/models.h"
#include "provider/platform/platform.h"

#define SCRIPT_MAX_BYTES (1u << 19)
#define BESIDE_MAX_BYTES (1u << 20)
#define GIB              (1024.0 * 1024.0 * 1024.0)
#define MAX_DEVICES      16

struct offer {
	const struct offer_options *options;
	double physical_gb; /* asked once: heartbeats want the memory too */
	struct memory_policy policy;
	struct memory_now at_start;
	struct kv_budget *budget;    /* one for all models */
	pthread_mutex_t lock;        /* over the next three */
	uint64_t loaded_bytes;       /* weights in memory, or about to be */
	struct model_entry *entries; /* on disk; none with a script */
	size_t entry_count;
	struct residency *residency;
	struct arena *arena; /* the script's texts */
	struct engine_script script;
};

static void say(const char *text)
{
	fprintf(stderr, "darkbloom start: %s\n", text);
}

/* --- the machine and the engines --- */

static void memory_now(struct memory_now *out, void *context)
{
	const struct offer *offer = context;
	struct platform_metrics metrics;
	platform_metrics(&metrics);
	*out = (struct memory_now){.physical_gb = offer->physical_gb, .available_gb = metrics.memory_available_gb};
	if (offer->options->script_path)
		return;
	struct engine_device found[MAX_DEVICES];
	struct memory_device devices[MAX_DEVICES];
	size_t count = engine_devices(found, MAX_DEVICES);
	count = count < MAX_DEVICES ? count : MAX_DEVICES;
	for (size_t i = 0; i < count; i++)
		devices[i] = (struct memory_device){.dedicated = found[i].dedicated,
		                                    .total_gb = (double)found[i].total_bytes / GIB,
		                                    .free_gb = (double)found[i].free_bytes / GIB};
	memory_on_devices(out, devices, count);
}

/* Weights came, or are gone: what they leave is what sequences may have. */
static void fit_budget(struct offer *offer, int64_t weight_bytes)
{
	pthread_mutex_lock(&offer->lock);
	offer->loaded_bytes += (uint64_t)weight_bytes;
	double kv_gb = offer->options->kv_gb;
	if (kv_gb <= 0)
		kv_gb = memory_kv_gb(&offer->policy, &offer->at_start, memory_estimate_gb(offer->loaded_bytes));
	kv_budget_set_limit(offer->budget, (uint64_t)(kv_gb * GIB));
	pthread_mutex_unlock(&offer->lock);
}

/* With the lock held, unless nothing runs yet. */
static const struct model_entry *entry_of(const struct offer *offer, const char *id)
{
	for (size_t i = 0; i < offer->entry_count; i++)
		if (strcmp(offer->entries[i].id, id) == 0)
			return &offer->entries[i];
	return NULL;
}

struct report {
	void (*progress)(float fraction, void *user);
	void *user;
};

static bool pass_progress(float fraction, void *user)
{
	const struct report *report = user;
	report->progress(fraction, report->user);
	return true;
}

/* What a model is loaded from, at first and when its engine hung. */
struct source {
	struct offer *offer;
	struct residency_model model;
	struct model_entry entry;                     /* a copy: more may come while a worker loads; empty with a script */
	void (*progress)(float fraction, void *user); /* of the first load; NULL afterwards */
	void *user;
	bool again; /* it was loaded before, and hung */
};

/* A text that the manifest may name; nothing when it does not. */
static bool read_beside(const char *path, struct buf *out, struct error *error)
{
	buf_init(out, BESIDE_MAX_BYTES + 4096);
	if (!path[0])
		return true;
	if (platform_read_file(path, BESIDE_MAX_BYTES, out, error) == DB_OK && !buf_append_byte(out, '\0'))
		return true;
	buf_free(out);
	return false;
}

static struct engine *load_source(void *user, struct error *error)
{
	struct source *source = user;
	const struct offer *offer = source->offer;
	if (offer->options->script_path) {
		struct engine_script script = offer->script;
		script.hang_at_token = source->again ? 0 : script.hang_at_token;
		source->again = true;
		return engine_scripted_new(&script, error);
	}
	struct report report = {source->progress, source->user};
	const struct model_entry *entry = &source->entry;
	struct buf template, prompts;
	if (!read_beside(entry->chat_template, &template, error))
		return NULL;
	if (!read_beside(entry->public_prompts, &prompts, error)) {
		buf_free(&template);
		return NULL;
	}
	struct engine_llama_options options = {.model_path = entry->weights,
	                                       .budget = offer->budget,
	                                       .chat_template = template.len ? template.at : NULL,
	                                       .draft_path = entry->draft[0] ? entry->draft : NULL,
	                                       .public_prompts = prompts.len ? prompts.at : NULL,
	                                       .cache = offer->options->cache,
	                                       .model_id = entry->id,
	                                       .weight_hash = entry->weight_hash,
	                                       .threads = offer->options->threads,
	                                       .max_sequences = offer->options->sequences,
	                                       .context_tokens = offer->options->context,
	                                       .embeddings = offer->options->embeddings,
	                                       .speculation = offer->options->no_speculation ? ENGINE_SPECULATE_NEVER
	                                                                                     : ENGINE_SPECULATE_WHERE_IT_PAYS,
	                                       .on_progress = source->progress ? pass_progress : NULL,
	                                       .user = &report};
	source->progress = NULL;
	struct engine *engine = source->model.only_embeds ? engine_embed_load(&options, error) : engine_llama_new(&options, error);
	buf_free(&template);
	buf_free(&prompts);
	return engine;
}

static void source_free(void *user)
{
	struct source *source = user;
	fit_budget(source->offer, -(int64_t)source->model.size_bytes);
	free(source);
}

static struct engine *load(const struct residency_model *model, void (*progress)(float fraction, void *user), void *user,
                           void *context, struct error *error)
{
	struct source *source = malloc(sizeof *source);
	if (!source) {
		error_set(error, DB_E_NOMEM, "model load failed: insufficient memory");
		return NULL;
	}
	*source = (struct source){.offer = context, .model = *model, .progress = progress, .user = user};
	pthread_mutex_lock(&source->offer->lock);
	const struct model_entry *entry = entry_of(source->offer, model->id);
	if (entry)
		source->entry = *entry;
	pthread_mutex_unlock(&source->offer->lock);
	fit_budget(source->offer, (int64_t)model->size_bytes);
	struct engine_guard_options options = {
	    .make = load_source, .free_user = source_free, .user = source, .wedged_ms = source->offer->options->hang_ms};
	return engine_guard_new(&options, error);
}

/* --- at start --- */

static void show_load(float fraction, void *user)
{
	progress_show(user, (double)fraction);
}

static struct engine *load_now(struct offer *offer, const struct residency_model *model)
{
	struct error error;
	char label[256];
	struct progress progress;
	snprintf(label, sizeof label, "loading %s", model->id);
	progress_begin(&progress, label);
	struct engine *engine = load(model, show_load, &progress, offer, &error);
	if (engine)
		progress_end(&progress);
	else
		progress_abandon(&progress);
	if (!engine)
		fprintf(stderr, "darkbloom start: %s could not be loaded: %s\n", model->id, error.text);
	return engine;
}

static bool is_pinned(const struct offer *offer, const char *id)
{
	for (size_t i = 0; i < offer->options->pin_count; i++)
		if (strcmp(offer->options->pins[i], id) == 0)
			return true;
	return false;
}

static bool add_model(struct offer *offer, struct residency_model *model)
{
	struct error why = {0};
	struct engine *engine = NULL;
	model->pinned = is_pinned(offer, model->id);
	bool now = model->pinned || !offer->options->on_demand;
	if (now && residency_has_room(offer->residency, model->size_bytes, &why)) {
		engine = load_now(offer, model);
		if (!engine)
			return false;
	} else if (now) {
		fprintf(stderr, "darkbloom: %s is not loaded yet: %s%s\n", model->id, why.text,
		        model->pinned ? "; raise --max-loaded or pin fewer models" : "; it will be when it is asked for");
		if (model->pinned)
			return false;
	}
	if (!residency_add(offer->residency, model, engine))
		return true;
	if (engine)
		engine_free(engine);
	say("there are too many models: choose some with --model");
	return false;
}

static struct residency_model describe(const struct offer *offer, const struct model_entry *entry)
{
	struct residency_model model = {.size_bytes = entry->size_bytes};
	model.only_embeds = !offer->options->script_path && engine_embed_only(entry->weights);
	model.embeds = model.only_embeds || offer->options->embeddings;
	str_copy(str_of(entry->id), model.id, sizeof model.id);
	str_copy(str_of(entry->weight_hash), model.weight_hash, sizeof model.weight_hash);
	str_copy(str_of(entry->quantization), model.quantization, sizeof model.quantization);
	return model;
}

static bool add_entry(struct offer *offer, const struct model_entry *entry)
{
	struct residency_model model = describe(offer, entry);
	return add_model(offer, &model);
}

/* Takes the place of an older one of the same name, which was never served. */
static bool remember(struct offer *offer, const struct model_entry *entry)
{
	pthread_mutex_lock(&offer->lock);
	size_t at = 0;
	while (at < offer->entry_count && strcmp(offer->entries[at].id, entry->id) != 0)
		at++;
	struct model_entry *entries =
	    at < offer->entry_count ? offer->entries : realloc(offer->entries, (at + 1) * sizeof *entries);
	if (entries) {
		offer->entries = entries;
		entries[at] = *entry;
		offer->entry_count += at == offer->entry_count;
	}
	pthread_mutex_unlock(&offer->lock);
	return entries != NULL;
}

enum db_err offer_add(const struct model_entry *entry, void *context, struct error *error)
{
	struct offer *offer = context;
	struct residency_model model = describe(offer, entry);
	model.held = true;
	if (!remember(offer, entry))
		return error_set(error, DB_E_NOMEM, "out of memory");
	enum db_err err = residency_add(offer->residency, &model, NULL);
	return err == DB_E_LIMIT ? error_set(error, err, "this provider serves %d models already", RESIDENCY_MAX_MODELS) : err;
}

/* --- what is offered --- */

static bool read_script(struct offer *offer)
{
	struct error error = {.text = "out of memory"};
	struct buf text;
	buf_init(&text, 2 * SCRIPT_MAX_BYTES);
	offer->arena = arena_new(0);
	bool ok = offer->arena && !platform_read_file(offer->options->script_path, SCRIPT_MAX_BYTES, &text, &error) &&
	          !engine_script_parse(buf_str(&text), offer->arena, &offer->script, &error);
	if (!ok)
		fprintf(stderr, "darkbloom start: the scripted engine could not be started: %s\n", error.text);
	buf_free(&text);
	return ok;
}

static bool offer_script(struct offer *offer)
{
	const struct offer_options *options = offer->options;
	if (!read_script(offer))
		return false;
	for (size_t i = 0; i < options->name_count || i == 0; i++) {
		struct residency_model model = {.model_type = "scripted"};
		str_copy(str_of(options->name_count ? options->names[i] : "scripted"), model.id, sizeof model.id);
		if (!add_model(offer, &model))
			return false;
	}
	return true;
}

static bool find_named(struct offer *offer)
{
	const struct offer_options *options = offer->options;
	offer->entries = calloc(options->name_count, sizeof *offer->entries);
	if (!offer->entries) {
		say("out of memory");
		return false;
	}
	for (size_t i = 0; i < options->name_count; i++) {
		struct error error;
		if (models_find(options->models_dir, str_of(options->names[i]), &offer->entries[i], &error)) {
			say(error.text);
			return false;
		}
		offer->entry_count++;
	}
	return true;
}

static bool find_all(struct offer *offer)
{
	struct error error;
	const char *dir = offer->options->models_dir;
	if (models_scan(dir, &offer->entries, &offer->entry_count, &error)) {
		say(error.text);
		return false;
	}
	if (!offer->entry_count)
		fprintf(stderr, "darkbloom start: there is no model in %s: get one with `darkbloom models pull`\n", dir);
	else if (offer->entry_count > RESIDENCY_MAX_MODELS)
		fprintf(stderr, "darkbloom start: there are %zu models in %s: choose up to %d with --model\n", offer->entry_count, dir,
		        RESIDENCY_MAX_MODELS);
	return offer->entry_count && offer->entry_count <= RESIDENCY_MAX_MODELS;
}

/* Pinned ones first: they must be loaded. */
static bool offer_disk(struct offer *offer)
{
	if (!(offer->options->name_count ? find_named(offer) : find_all(offer)))
		return false;
	for (size_t i = 0; i < offer->options->pin_count; i++)
		if (!entry_of(offer, offer->options->pins[i])) {
			fprintf(stderr, "darkbloom start: --pin %s names no model that is served\n", offer->options->pins[i]);
			return false;
		}
	for (int pinned = 1; pinned >= 0; pinned--)
		for (size_t i = 0; i < offer->entry_count; i++)
			if (is_pinned(offer, offer->entries[i].id) == (bool)pinned && !add_entry(offer, &offer->entries[i]))
				return false;
	return true;
}

struct offer *offer_open(struct net_loop *loop, const struct offer_options *options)
{
	struct platform_hardware hardware;
	struct offer *offer = calloc(1, sizeof *offer);
	platform_hardware(&hardware);
	struct residency_options how = {.max_loaded = options->max_loaded,
	                                .idle_unload_ms = options->idle_unload_ms,
	                                .policy = memory_policy_of((double)hardware.memory_gb, options->reserve_gb),
	                                .memory = memory_now,
	                                .load = load,
	                                .context = offer};
	if (!offer || !(offer->budget = kv_budget_new(0)) || !(offer->residency = residency_new(loop, &how))) {
		say("out of memory");
		if (offer)
			kv_budget_free(offer->budget);
		free(offer);
		return NULL;
	}
	offer->options = options;
	offer->physical_gb = (double)hardware.memory_gb;
	offer->policy = how.policy;
	memory_now(&offer->at_start, offer);
	pthread_mutex_init(&offer->lock, NULL);
	fit_budget(offer, 0);
	if (options->script_path ? offer_script(offer) : offer_disk(offer))
		return offer;
	offer_close(offer);
	offer_free(offer);
	return NULL;
}

struct residency *offer_residency(const struct offer *offer)
{
	return offer->residency;
}

struct kv_budget *offer_budget(const struct offer *offer)
{
	return offer->budget;
}

void offer_close(struct offer *offer)
{
	if (offer)
		residency_free(offer->residency);
}

void offer_free(struct offer *offer)
{
	if (!offer)
		return;
	kv_budget_free(offer->budget);
	pthread_mutex_destroy(&offer->lock);
	free(offer->entries);
	arena_free(offer->arena);
	free(offer);
}
