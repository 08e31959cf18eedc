#include "coordinator/machines.h"

#include "core/clock.h"

#define FACTS_MAX (64u << 10)

bool machine_key(const struct fleet_provider_view *view, char out[STORE_MODEL_SIZE])
{
	struct str key = view->serial.len > 0 ? view->serial : view->se_public_key;
	return key.len > 0 && str_copy(key, out, STORE_MODEL_SIZE);
}

static void put_time(struct json_writer *w, const char *name, int64_t at_us)
{
	char text[CLOCK_RFC3339_SIZE];
	clock_format_rfc3339(at_us, text);
	json_put_cstr(w, name, text);
}

static void put_reputation(struct json_writer *w, const struct reputation *r)
{
	json_key(w, "reputation");
	json_begin_object(w);
	json_put_double(w, "score", reputation_score(r));
	json_put_i64(w, "total_jobs", (int64_t)r->jobs_ok + r->jobs_failed);
	json_put_i64(w, "successful_jobs", r->jobs_ok);
	json_put_i64(w, "failed_jobs", r->jobs_failed);
	json_put_i64(w, "total_uptime_seconds", r->uptime_s);
	json_put_i64(w, "avg_response_time_ms", (int64_t)r->latency_ms);
	json_put_i64(w, "challenges_passed", r->challenges_passed);
	json_put_i64(w, "challenges_failed", r->challenges_failed);
	json_end_object(w);
}

/* What holds of it also when it is gone. */
static void put_facts(struct json_writer *w, const struct fleet_provider_view *view)
{
	json_put_str(w, "id", view->id);
	json_put_str(w, "account_id", view->account);
	json_key(w, "hardware");
	json_begin_object(w);
	json_put_str(w, "chip_name", view->chip_name);
	json_put_str(w, "machine_model", view->machine_model);
	json_put_double(w, "memory_gb", view->memory_gb);
	json_put_i64(w, "gpu_cores", view->gpu_cores);
	json_end_object(w);
	json_key(w, "models");
	json_begin_array(w);
	for (size_t i = 0; i < view->model_count; i++)
		json_str(w, view->models[i]);
	json_end_array(w);
	json_put_str(w, "backend", view->backend);
	json_put_str(w, "version", view->version);
	json_put_str(w, "serial_number", view->serial);
	json_put_cstr(w, "trust_level", route_trust_name(view->trust));
	put_reputation(w, &view->reputation);
	json_put_bool(w, "attested", view->attested);
	json_put_bool(w, "mda_verified", view->mda_verified);
	json_put_bool(w, "acme_verified", false);
	json_put_bool(w, "se_key_bound", view->secure_enclave);
	json_put_str(w, "se_public_key", view->se_public_key);
	json_put_str(w, "provider_key", view->encryption_public_key);
	json_put_bool(w, "secure_enclave", view->secure_enclave);
	json_put_bool(w, "sip_enabled", view->sip);
	json_put_bool(w, "secure_boot_enabled", view->secure_boot);
	json_put_bool(w, "authenticated_root_enabled", view->authenticated_root);
	json_put_str(w, "system_volume_hash", view->system_volume_hash);
	json_put_str(w, "os_version", view->os_version);
	if (view->python_hash.len > 0)
		json_put_str(w, "python_hash", view->python_hash);
	if (view->runtime_hash.len > 0)
		json_put_str(w, "runtime_hash", view->runtime_hash);
	json_put_double(w, "decode_tps", view->decode_tps);
	json_put_str(w, "platform", view->platform);
	json_put_str(w, "key_protection", view->key_protection);
}

/* --- what it does now --- */

static const char *slot_state(enum route_slot_state state)
{
	static const char *const names[] = {[ROUTE_SLOT_COLD] = "cold",           [ROUTE_SLOT_IDLE] = "idle",
	                                    [ROUTE_SLOT_RUNNING] = "running",     [ROUTE_SLOT_IDLE_SHUTDOWN] = "idle_shutdown",
	                                    [ROUTE_SLOT_RELOADING] = "reloading", [ROUTE_SLOT_CRASHED] = "crashed"};
	return names[state];
}

static bool is_warm(const struct route_slot *slot)
{
	return slot->state == ROUTE_SLOT_IDLE || slot->state == ROUTE_SLOT_RUNNING;
}

static void put_slot(struct json_writer *w, struct str model, const struct route_slot *slot)
{
	json_begin_object(w);
	json_put_str(w, "model", model);
	json_put_cstr(w, "state", slot_state(slot->state));
	json_put_i64(w, "num_running", slot->running);
	json_put_i64(w, "num_waiting", slot->waiting);
	json_put_i64(w, "active_tokens", (int64_t)slot->active_tokens);
	json_put_i64(w, "max_tokens_potential", (int64_t)slot->max_tokens_potential);
	json_put_i64(w, "max_concurrency", slot->max_concurrency);
	json_put_double(w, "observed_decode_tps", slot->decode_tps);
	json_put_double(w, "observed_prefill_tps", slot->prefill_tps);
	json_put_i64(w, "active_token_budget_used", (int64_t)slot->budget_used);
	json_put_i64(w, "active_token_budget_max", (int64_t)slot->budget_max);
	json_put_i64(w, "queued_token_budget", (int64_t)slot->budget_queued);
	json_end_object(w);
}

static void put_capacity(struct json_writer *w, const struct fleet_provider_view *view, const struct fleet_live_view *live)
{
	struct route_slot slot;
	json_key(w, "backend_capacity");
	json_begin_object(w);
	json_key(w, "slots");
	json_begin_array(w);
	for (size_t i = 0; i < view->model_count; i++)
		if (fleet_view_slot(view, i, &slot) && slot.state != ROUTE_SLOT_COLD)
			put_slot(w, view->models[i], &slot);
	json_end_array(w);
	json_put_double(w, "gpu_memory_active_gb", live->gpu_active_gb);
	json_put_double(w, "total_memory_gb", live->total_memory_gb);
	if (live->free_for_load_gb >= 0)
		json_put_double(w, "free_for_load_gb", live->free_for_load_gb);
	json_end_object(w);
}

static void put_warm_models(struct json_writer *w, const struct fleet_provider_view *view)
{
	struct route_slot slot;
	struct str current = STR_NONE;
	int64_t places = 0;
	json_key(w, "warm_models");
	json_begin_array(w);
	for (size_t i = 0; i < view->model_count; i++) {
		if (!fleet_view_slot(view, i, &slot))
			continue;
		if (is_warm(&slot))
			json_str(w, view->models[i]);
		if (slot.running > 0 && !current.len)
			current = view->models[i];
		places = slot.max_concurrency > places ? slot.max_concurrency : places;
	}
	json_end_array(w);
	if (current.len > 0)
		json_put_str(w, "current_model", current);
	json_put_i64(w, "max_concurrency", places);
}

static void put_live(struct json_writer *w, const struct fleet_provider_view *view, const struct fleet_live_view *live)
{
	static const char *const thermal[] = {"nominal", "fair", "serious", "critical"};
	if (live->heartbeat_us)
		put_time(w, "last_heartbeat", live->heartbeat_us);
	if (live->challenge_us)
		put_time(w, "last_challenge_verified", live->challenge_us);
	json_put_i64(w, "failed_challenges", live->failed_challenges);
	json_put_bool(w, "runtime_verified", live->runtime_verified);
	json_put_i64(w, "pending_requests", live->pending);
	json_put_double(w, "prefill_tps", live->prefill_tps);
	json_key(w, "system_metrics");
	json_begin_object(w);
	json_put_double(w, "memory_pressure", live->memory_pressure);
	json_put_double(w, "cpu_usage", live->cpu_usage);
	json_put_cstr(w, "thermal_state", thermal[live->thermal & 3]);
	json_end_object(w);
	if (live->has_capacity)
		put_capacity(w, view, live);
	put_warm_models(w, view);
}

void machine_put(struct json_writer *w, const struct fleet *fleet, const struct fleet_provider_view *view,
                 const struct store_machine *known)
{
	int64_t now_us = clock_wall_us();
	struct fleet_live_view live;
	fleet_view_live(fleet, view, &live);
	json_begin_object(w);
	put_facts(w, view);
	put_live(w, view, &live);
	json_put_cstr(w, "status", view->status);
	json_put_bool(w, "online", true);
	put_time(w, "registered_at", known ? known->registered_us : now_us);
	put_time(w, "last_seen", now_us);
	json_end_object(w);
}

void machine_put_remembered(struct json_writer *w, const struct store_machine *machine)
{
	struct json_doc *doc = json_parse(machine->facts, NULL, NULL);
	struct json_iter iter = json_iter(doc ? json_root(doc) : NULL);
	struct str name;
	json_begin_object(w);
	for (json_val *value; (value = json_next(&iter, &name));) {
		json_key_str(w, name);
		json_value(w, value);
	}
	json_put_cstr(w, "status", "offline");
	json_put_bool(w, "online", false);
	put_time(w, "registered_at", machine->registered_us);
	put_time(w, "last_seen", machine->seen_us);
	json_end_object(w);
	json_free(doc);
}

void machine_seen(const struct fleet_provider_view *view, void *store)
{
	struct store_machine machine = {.registered_us = clock_wall_us()};
	struct buf facts;
	struct json_writer w;
	machine.seen_us = machine.registered_us;
	if (!view->account.len || !machine_key(view, machine.key) ||
	    !str_copy(view->account, machine.account_id, sizeof machine.account_id) ||
	    !str_copy(view->id, machine.provider_id, sizeof machine.provider_id))
		return;
	buf_init(&facts, FACTS_MAX);
	json_writer_init(&w, &facts);
	json_begin_object(&w);
	put_facts(&w, view);
	json_end_object(&w);
	machine.facts = buf_str(&facts);
	if (!facts.failed)
		store_machine_put(store, &machine);
	buf_free(&facts);
}
