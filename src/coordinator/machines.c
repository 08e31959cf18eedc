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
	json_put_str(w, "platform", view->platform);
	json_put_str(w, "key_protection", view->key_protection);
}

void machine_put(struct json_writer *w, const struct fleet_provider_view *view, const struct store_machine *known)
{
	int64_t now_us = clock_wall_us();
	json_begin_object(w);
	put_facts(w, view);
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
