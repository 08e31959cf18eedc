#include "provider/residency/residency.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"

struct residency_entry {
	struct residency *residency;
	struct residency_model model;
	enum residency_state state;
	struct engine *engine;
	struct list uses;        /* of a loaded model */
	struct list waiters;     /* before it is loaded */
	struct list_link wanted; /* in residency->wanted */
	struct list_link unused; /* in residency->unused: loaded, nobody uses it; the longest unused first */
	uint64_t unused_since_us;
	_Atomic float progress;
	char failure[160];
	bool ever_loaded;
	struct engine_info info;
	uint64_t held_bytes; /* by its engine; 0 while it has none */
};

enum job_kind { JOB_LOAD, JOB_UNLOAD };

/* What the one worker does. */
struct job {
	struct residency *residency;
	struct residency_entry *entry;
	enum job_kind kind;
	struct engine *engine;
	struct error error;
};

struct residency {
	struct net_loop *loop;
	struct residency_options options;
	struct residency_entry *entries[RESIDENCY_MAX_MODELS];
	size_t count;
	struct list wanted, unused;
	struct job job;
	bool busy, turning, freeing;
	uint64_t held_bytes, peak_bytes;
	struct net_timer poll;
	void (*changed)(void *user);
	void *changed_user;
};

const char *residency_state_name(enum residency_state state)
{
	static const char *const names[] = {"cold", "waiting", "loading", "loaded", "unloading"};
	return names[state];
}

static void tell_change(struct residency *residency)
{
	if (residency->changed)
		residency->changed(residency->changed_user);
}

static struct residency_entry *find(const struct residency *residency, struct str id)
{
	for (size_t i = 0; i < residency->count; i++)
		if (str_is(id, residency->entries[i]->model.id))
			return residency->entries[i];
	return NULL;
}

static bool in_memory(const struct residency_entry *entry)
{
	return entry->state == RESIDENCY_LOADING || entry->state == RESIDENCY_LOADED || entry->state == RESIDENCY_UNLOADING;
}

static size_t places_taken(const struct residency *residency)
{
	size_t taken = 0;
	for (size_t i = 0; i < residency->count; i++)
		taken += in_memory(residency->entries[i]);
	return taken;
}

/* --- room --- */

static double free_gb(const struct residency *residency)
{
	struct memory_now now;
	residency->options.memory(&now, residency->options.context);
	return memory_free_for_load_gb(&residency->options.policy, &now);
}

/* What unloading everything that may go would bring. */
static double evictable_gb(const struct residency *residency)
{
	double sum = 0;
	LIST_EACH (link, &residency->unused) {
		const struct residency_entry *entry = LIST_OF(link, struct residency_entry, unused);
		sum += entry->model.pinned ? 0 : memory_estimate_gb(entry->model.size_bytes);
	}
	return sum;
}

static struct residency_entry *longest_unused(const struct residency *residency)
{
	LIST_EACH (link, &residency->unused) {
		struct residency_entry *entry = LIST_OF(link, struct residency_entry, unused);
		if (!entry->model.pinned)
			return entry;
	}
	return NULL;
}

static bool has_place(const struct residency *residency)
{
	return places_taken(residency) < residency->options.max_loaded;
}

static void say_no_place(const struct residency *residency, struct error *error)
{
	error_set(error, DB_E_LIMIT, "all %u model slots are active", residency->options.max_loaded);
}

static void say_no_memory(double free, double need, struct error *error)
{
	error_set(error, DB_E_LIMIT, "insufficient memory to load the model (%.1f GB free, need %.1f GB)", free, need);
}

bool residency_has_room(const struct residency *residency, uint64_t size_bytes, struct error *why_not)
{
	double free = free_gb(residency), need = memory_need_gb(&residency->options.policy, size_bytes);
	if (!has_place(residency))
		say_no_place(residency, why_not);
	else if (need > free)
		say_no_memory(free, need, why_not);
	else
		return true;
	return false;
}

bool residency_could_ever(const struct residency *residency, uint64_t size_bytes, struct error *why_not)
{
	struct memory_now now;
	residency->options.memory(&now, residency->options.context);
	now.available_gb = now.physical_gb;
	now.device_free_gb = now.device_total_gb;
	now.kv_reserved_gb = 0;
	double most = memory_free_for_load_gb(&residency->options.policy, &now);
	double need = memory_need_gb(&residency->options.policy, size_bytes);
	if (need > most)
		error_set(why_not, DB_E_LIMIT, "the model needs %.1f GB of memory, and this machine can give %.1f GB", need, most);
	return need <= most;
}

/* Certain that it cannot be loaded, even when everything that may leave has left? */
static bool is_hopeless(const struct residency *residency, const struct residency_entry *entry, struct error *error)
{
	double free = free_gb(residency) + evictable_gb(residency);
	double need = memory_need_gb(&residency->options.policy, entry->model.size_bytes);
	if (!has_place(residency) && !longest_unused(residency) && !residency->busy)
		say_no_place(residency, error);
	else if (need > free && !residency->busy)
		say_no_memory(free, need, error);
	else
		return false;
	return true;
}

/* --- uses --- */

static void begin_use(struct residency_entry *entry, struct residency_use *use)
{
	use->entry = entry;
	use->waiting = false;
	list_push_back(&entry->uses, &use->link);
	list_remove(&entry->residency->unused, &entry->unused);
}

static void end_waiters(struct residency_entry *entry, int status, const char *why)
{
	for (struct list_link *link; (link = list_pop_front(&entry->waiters));) {
		struct residency_use *use = LIST_OF(link, struct residency_use, link);
		if (status) {
			use->entry = NULL;
			use->waiting = false;
		} else {
			begin_use(entry, use);
		}
		use->ready(use, status ? NULL : entry->engine, status, why);
	}
}

static void rest(struct residency_entry *entry)
{
	struct residency *residency = entry->residency;
	if (entry->state != RESIDENCY_LOADED || entry->uses.count)
		return;
	entry->unused_since_us = net_now_us(residency->loop);
	list_remove(&residency->unused, &entry->unused);
	list_push_back(&residency->unused, &entry->unused);
}

/* --- the worker --- */

static void turn(struct residency *residency);
static void destroy(struct residency *residency);

static void on_progress(float fraction, void *user)
{
	atomic_store_explicit(&((struct residency_entry *)user)->progress, fraction, memory_order_relaxed);
}

static void work(void *arg)
{
	struct job *job = arg;
	const struct residency_options *options = &job->residency->options;
	if (job->kind == JOB_LOAD) {
		job->engine = options->load(&job->entry->model, on_progress, job->entry, options->context, &job->error);
	} else {
		engine_free(job->engine);
		job->engine = NULL;
	}
}

/* Until the engine was freed. An engine that does not know holds its weights. */
static void hold_memory(struct residency_entry *entry)
{
	struct residency *residency = entry->residency;
	entry->held_bytes = entry->info.memory_bytes ? entry->info.memory_bytes : entry->model.size_bytes;
	residency->held_bytes += entry->held_bytes;
	if (residency->held_bytes > residency->peak_bytes)
		residency->peak_bytes = residency->held_bytes;
}

static void let_memory_go(struct residency_entry *entry)
{
	entry->residency->held_bytes -= entry->held_bytes;
	entry->held_bytes = 0;
}

static void take_engine(struct residency_entry *entry, struct engine *engine)
{
	struct engine_info *info = &entry->info;
	engine_info(engine, info);
	entry->engine = engine;
	hold_memory(entry);
	entry->state = RESIDENCY_LOADED;
	entry->failure[0] = '\0';
	entry->ever_loaded = true;
	if (info->quantization[0])
		str_copy(str_of(info->quantization), entry->model.quantization, sizeof entry->model.quantization);
	if (info->architecture[0])
		str_copy(str_of(info->architecture), entry->model.model_type, sizeof entry->model.model_type);
	if (info->template_fault && info->template_fault[0])
		log_warn("residency.template", "model=%s template_render_ok=false reason=%s", entry->model.id, info->template_fault);
	rest(entry);
}

static void loaded(struct residency_entry *entry, struct job *job)
{
	if (job->engine) {
		take_engine(entry, job->engine);
		log_info("residency.loaded", "model=%s", entry->model.id);
		end_waiters(entry, 0, NULL);
		rest(entry);
		return;
	}
	entry->state = RESIDENCY_COLD;
	snprintf(entry->failure, sizeof entry->failure, "%.150s", job->error.text);
	log_warn("residency.load_failed", "model=%s why=\"%s\"", entry->model.id, entry->failure);
	end_waiters(entry, job->error.code == DB_E_NOMEM ? 503 : 500, "model load failed");
}

static void work_done(void *arg)
{
	struct residency *residency = ((struct job *)arg)->residency;
	struct job job = residency->job;
	residency->busy = false;
	if (residency->freeing) {
		engine_free(job.engine);
		destroy(residency);
		return;
	}
	if (job.kind == JOB_UNLOAD) {
		job.entry->state = RESIDENCY_COLD;
		let_memory_go(job.entry);
		log_info("residency.unloaded", "model=%s", job.entry->model.id);
		if (job.entry->waiters.count) { /* asked for while it left */
			job.entry->state = RESIDENCY_WANTED;
			list_push_back(&residency->wanted, &job.entry->wanted);
		}
	} else {
		loaded(job.entry, &job);
	}
	tell_change(residency);
	turn(residency);
}

static void start_job(struct residency *residency, struct residency_entry *entry, enum job_kind kind)
{
	residency->busy = true;
	residency->job = (struct job){.residency = residency, .entry = entry, .kind = kind};
	entry->state = kind == JOB_LOAD ? RESIDENCY_LOADING : RESIDENCY_UNLOADING;
	atomic_store_explicit(&entry->progress, 0, memory_order_relaxed);
	if (kind == JOB_UNLOAD) {
		list_remove(&residency->unused, &entry->unused);
		residency->job.engine = entry->engine;
		entry->engine = NULL;
	}
	net_work(residency->loop, work, work_done, &residency->job);
	tell_change(residency);
}

/* Loads what is wanted, or makes room for it, or says that it cannot be. */
static void serve_wanted(struct residency *residency, struct residency_entry *entry)
{
	struct error why = {0};
	if (!entry->waiters.count) {
		list_remove(&residency->wanted, &entry->wanted);
		entry->state = RESIDENCY_COLD;
		return;
	}
	if (residency_has_room(residency, entry->model.size_bytes, &why)) {
		list_remove(&residency->wanted, &entry->wanted);
		start_job(residency, entry, JOB_LOAD);
		return;
	}
	struct residency_entry *leaving = longest_unused(residency);
	if (leaving && !is_hopeless(residency, entry, &why)) {
		start_job(residency, leaving, JOB_UNLOAD);
		return;
	}
	list_remove(&residency->wanted, &entry->wanted);
	entry->state = RESIDENCY_COLD;
	end_waiters(entry, 503, why.text);
}

static void turn(struct residency *residency)
{
	if (residency->turning)
		return; /* a waiter's callback came back here */
	residency->turning = true;
	while (!residency->busy && !residency->freeing && residency->wanted.count)
		serve_wanted(residency, LIST_OF(list_first(&residency->wanted), struct residency_entry, wanted));
	residency->turning = false;
}

/* --- asking --- */

int residency_acquire(struct residency *residency, struct str id, struct residency_use *use, struct engine **engine,
                      struct error *error)
{
	struct residency_entry *entry = find(residency, id);
	*engine = NULL;
	if (!entry) {
		error_set(error, DB_E_NOT_FOUND, "model not loaded on this provider");
		return 404;
	}
	if (entry->state == RESIDENCY_LOADED) {
		begin_use(entry, use);
		*engine = entry->engine;
		return 0;
	}
	if (entry->state == RESIDENCY_COLD && is_hopeless(residency, entry, error))
		return 503;
	use->entry = entry;
	use->waiting = true;
	list_push_back(&entry->waiters, &use->link);
	if (entry->state == RESIDENCY_COLD) {
		entry->state = RESIDENCY_WANTED;
		list_push_back(&residency->wanted, &entry->wanted);
		turn(residency);
	}
	return RESIDENCY_LATER;
}

void residency_release(struct residency_use *use)
{
	struct residency_entry *entry = use->entry;
	if (!entry)
		return;
	use->entry = NULL;
	list_remove(use->waiting ? &entry->waiters : &entry->uses, &use->link);
	if (!use->waiting)
		rest(entry);
	use->waiting = false;
}

/* --- idleness and pressure --- */

static void on_poll(struct net_timer *timer)
{
	struct residency *residency = LIST_OF(timer, struct residency, poll);
	struct residency_entry *entry = longest_unused(residency);
	if (residency->busy || !entry)
		return;
	struct memory_now now;
	residency->options.memory(&now, residency->options.context);
	uint64_t idle_us = net_now_us(residency->loop) - entry->unused_since_us;
	bool stale = residency->options.idle_unload_ms && idle_us >= residency->options.idle_unload_ms * 1000;
	bool pressed = memory_is_short(&residency->options.policy, &now);
	if (!stale && !pressed)
		return;
	log_info("residency.leaves", "model=%s why=%s", entry->model.id, stale ? "idle" : "memory");
	start_job(residency, entry, JOB_UNLOAD);
}

/* --- life --- */

struct residency *residency_new(struct net_loop *loop, const struct residency_options *options)
{
	struct residency *residency = calloc(1, sizeof *residency);
	if (!residency)
		return NULL;
	residency->loop = loop;
	residency->options = *options;
	if (!residency->options.max_loaded)
		residency->options.max_loaded = RESIDENCY_MAX_LOADED;
	list_init(&residency->wanted);
	list_init(&residency->unused);
	uint32_t poll_ms = options->poll_ms ? options->poll_ms : RESIDENCY_IDLE_POLL_MS;
	net_timer_start(loop, &residency->poll, poll_ms, poll_ms, on_poll);
	return residency;
}

enum db_err residency_add(struct residency *residency, const struct residency_model *model, struct engine *engine)
{
	if (residency->count == RESIDENCY_MAX_MODELS)
		return DB_E_LIMIT;
	if (find(residency, str_of(model->id)))
		return DB_E_EXISTS;
	struct residency_entry *entry = calloc(1, sizeof *entry);
	if (!entry)
		return DB_E_NOMEM;
	entry->residency = residency;
	entry->model = *model;
	list_init(&entry->uses);
	list_init(&entry->waiters);
	residency->entries[residency->count++] = entry;
	if (engine)
		take_engine(entry, engine);
	return DB_OK;
}

enum db_err residency_offer(struct residency *residency, struct str id)
{
	struct residency_entry *entry = find(residency, id);
	if (!entry)
		return DB_E_NOT_FOUND;
	entry->model.held = false;
	tell_change(residency);
	return DB_OK;
}

static void destroy(struct residency *residency)
{
	for (size_t i = 0; i < residency->count; i++) {
		if (residency->entries[i]->engine)
			engine_free(residency->entries[i]->engine);
		free(residency->entries[i]);
	}
	free(residency);
}

void residency_free(struct residency *residency)
{
	if (!residency)
		return;
	residency->freeing = true;
	residency->changed = NULL;
	net_timer_stop(&residency->poll);
	if (!residency->busy) /* else when the worker has come back */
		destroy(residency);
}

size_t residency_count(const struct residency *residency)
{
	return residency->count;
}

void residency_on_change(struct residency *residency, void (*changed)(void *user), void *user)
{
	residency->changed = changed;
	residency->changed_user = user;
}

/* --- views --- */

void residency_view(const struct residency *residency, size_t index, struct residency_view *out)
{
	const struct residency_entry *entry = residency->entries[index];
	*out = (struct residency_view){.model = &entry->model,
	                               .state = entry->state,
	                               .engine = entry->engine,
	                               .progress = atomic_load_explicit(&entry->progress, memory_order_relaxed),
	                               .uses = (uint32_t)entry->uses.count,
	                               .ever_loaded = entry->ever_loaded,
	                               .info = entry->info};
	str_copy(str_of(entry->failure), out->failure, sizeof out->failure);
}

const struct residency_model *residency_find(const struct residency *residency, struct str id)
{
	const struct residency_entry *entry = find(residency, id);
	return entry ? &entry->model : NULL;
}

double residency_free_for_load_gb(const struct residency *residency)
{
	if (!has_place(residency) && !longest_unused(residency))
		return 0;
	const struct memory_policy *policy = &residency->options.policy;
	double room = free_gb(residency) + evictable_gb(residency) - policy->activation_gb - policy->min_kv_gb;
	return room > 0 ? room : 0;
}

void residency_memory(const struct residency *residency, struct residency_memory *out)
{
	*out = (struct residency_memory){residency->held_bytes, residency->peak_bytes};
}
