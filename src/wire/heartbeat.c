#include "wire/heartbeat.h"
#include "wire/codec.h"

static const char *const activity_names[] = {
    [WIRE_ACTIVITY_UNKNOWN] = "",
    [WIRE_IDLE] = "idle",
    [WIRE_SERVING] = "serving",
};
static const char *const thermal_names[] = {
    [WIRE_THERMAL_UNKNOWN] = "",        [WIRE_THERMAL_NOMINAL] = "nominal",   [WIRE_THERMAL_FAIR] = "fair",
    [WIRE_THERMAL_SERIOUS] = "serious", [WIRE_THERMAL_CRITICAL] = "critical",
};
static const char *const slot_state_names[] = {
    [WIRE_SLOT_LEGACY] = "",
    [WIRE_SLOT_RUNNING] = "running",
    [WIRE_SLOT_IDLE] = "idle",
    [WIRE_SLOT_IDLE_SHUTDOWN] = "idle_shutdown",
    [WIRE_SLOT_RELOADING] = "reloading",
    [WIRE_SLOT_CRASHED] = "crashed",
    [WIRE_SLOT_UNKNOWN] = "unknown",
};

const char *wire_slot_state_name(enum wire_slot_state state)
{
	return slot_state_names[state];
}

const char *wire_thermal_name(enum wire_thermal thermal)
{
	return thermal_names[thermal];
}

static void read_stats(struct wire_reader *r, const json_val *stats, struct wire_stats *out)
{
	out->requests_served = wire_read_int(r, stats, "requests_served", INT64_MAX);
	out->tokens_generated = wire_read_int(r, stats, "tokens_generated", INT64_MAX);
	out->cancellations_received = wire_read_int(r, stats, "cancellations_received", INT64_MAX);
	out->cancellations_before_output = wire_read_int(r, stats, "cancellations_before_output", INT64_MAX);
	out->cancellations_partial_complete = wire_read_int(r, stats, "cancellations_partial_complete", INT64_MAX);
	out->generation_errors_after_output = wire_read_int(r, stats, "generation_errors_after_output", INT64_MAX);
	out->chunk_encryption_errors = wire_read_int(r, stats, "chunk_encryption_errors", INT64_MAX);
	out->stream_closed_without_terminal = wire_read_int(r, stats, "stream_closed_without_terminal", INT64_MAX);
	out->cancel_during_model_load = wire_read_int(r, stats, "cancel_during_model_load", INT64_MAX);
	out->usage_gaps = wire_read_int(r, stats, "usage_gaps", INT64_MAX);
}

static void write_stats(struct json_writer *w, const struct wire_stats *in)
{
	json_key(w, "stats");
	json_begin_object(w);
	json_put_i64(w, "requests_served", in->requests_served);
	json_put_i64(w, "tokens_generated", in->tokens_generated);
	wire_put_int(w, "cancellations_received", in->cancellations_received);
	wire_put_int(w, "cancellations_before_output", in->cancellations_before_output);
	wire_put_int(w, "cancellations_partial_complete", in->cancellations_partial_complete);
	wire_put_int(w, "generation_errors_after_output", in->generation_errors_after_output);
	wire_put_int(w, "chunk_encryption_errors", in->chunk_encryption_errors);
	wire_put_int(w, "stream_closed_without_terminal", in->stream_closed_without_terminal);
	wire_put_int(w, "cancel_during_model_load", in->cancel_during_model_load);
	wire_put_int(w, "usage_gaps", in->usage_gaps);
	json_end_object(w);
}

/* Above the credible range the speed counts as unreported, because clamping it up would make a broken machine look fast. */
static double read_prefill(struct wire_reader *r, const json_val *slot)
{
	double tps = wire_read_number(r, slot, "observed_prefill_tps", 5001);
	return tps > 5000 ? 0 : tps;
}

static void read_slot(struct wire_reader *r, const json_val *slot, struct wire_slot *out)
{
	const int64_t max_tokens = 1000000, max_budget = 10000000000;
	out->model = wire_read_str(r, slot, "model");
	out->state = (enum wire_slot_state)WIRE_WORD(wire_read_str(r, slot, "state"), slot_state_names, WIRE_SLOT_UNKNOWN);
	out->num_running = wire_read_int(r, slot, "num_running", max_tokens);
	out->num_waiting = wire_read_int(r, slot, "num_waiting", max_tokens);
	out->active_tokens = wire_read_int(r, slot, "active_tokens", max_tokens);
	out->max_tokens_potential = wire_read_int(r, slot, "max_tokens_potential", max_tokens);
	out->max_concurrency = wire_read_int(r, slot, "max_concurrency", 24);
	out->observed_decode_tps = wire_read_number(r, slot, "observed_decode_tps", 500);
	out->observed_prefill_tps = read_prefill(r, slot);
	out->active_token_budget_used = wire_read_int(r, slot, "active_token_budget_used", max_budget);
	out->active_token_budget_max = wire_read_int(r, slot, "active_token_budget_max", max_budget);
	out->queued_token_budget = wire_read_int(r, slot, "queued_token_budget", max_budget);
	out->kv_bytes_per_token = wire_read_int(r, slot, "kv_bytes_per_token", INT64_MAX);
	out->model_load_time_ms = wire_read_int(r, slot, "model_load_time_ms", 3600000);
	out->prefixes = wire_read_str(r, slot, "prefixes");
}

static void write_slot(struct json_writer *w, const struct wire_slot *in)
{
	json_begin_object(w);
	json_put_str(w, "model", in->model);
	json_put_cstr(w, "state", wire_slot_state_name(in->state));
	json_put_i64(w, "num_running", in->num_running);
	json_put_i64(w, "num_waiting", in->num_waiting);
	json_put_i64(w, "active_tokens", in->active_tokens);
	json_put_i64(w, "max_tokens_potential", in->max_tokens_potential);
	wire_put_int(w, "max_concurrency", in->max_concurrency);
	wire_put_number(w, "observed_decode_tps", in->observed_decode_tps);
	wire_put_number(w, "observed_prefill_tps", in->observed_prefill_tps);
	wire_put_int(w, "active_token_budget_used", in->active_token_budget_used);
	wire_put_int(w, "active_token_budget_max", in->active_token_budget_max);
	wire_put_int(w, "queued_token_budget", in->queued_token_budget);
	wire_put_int(w, "kv_bytes_per_token", in->kv_bytes_per_token);
	wire_put_int(w, "model_load_time_ms", in->model_load_time_ms);
	wire_put_str(w, "prefixes", in->prefixes);
	json_end_object(w);
}

/* An explicit 0 says "can load nothing"; whatever cannot be a free size says nothing. */
static void read_free_for_load(struct wire_reader *r, const json_val *capacity, struct wire_capacity *out)
{
	double free_gb;
	const json_val *val = json_get_some(capacity, "free_for_load_gb");
	if (!val)
		return;
	if (!json_as_double(val, &free_gb)) {
		wire_fault(r, DB_E_INVALID, "free_for_load_gb", "must be a number");
		return;
	}
	out->has_free_for_load = free_gb >= 0 && free_gb <= 1024;
	out->free_for_load_gb = out->has_free_for_load ? free_gb : 0;
}

static void read_capacity(struct wire_reader *r, const json_val *capacity, struct wire_capacity *out)
{
	void *items;
	struct json_iter it = wire_read_array(r, capacity, "slots", WIRE_MAX_SLOTS, sizeof(struct wire_slot), &items);
	out->slots = items;
	for (json_val *slot; (slot = json_next(&it, NULL));) {
		if (wire_is_object(r, slot, "slots"))
			read_slot(r, slot, &out->slots[out->slot_count++]);
	}
	out->gpu_memory_active_gb = wire_read_number(r, capacity, "gpu_memory_active_gb", 1024);
	out->gpu_memory_peak_gb = wire_read_number(r, capacity, "gpu_memory_peak_gb", 1024);
	out->gpu_memory_cache_gb = wire_read_number(r, capacity, "gpu_memory_cache_gb", 1024);
	out->total_memory_gb = wire_read_number(r, capacity, "total_memory_gb", 1024);
	read_free_for_load(r, capacity, out);
}

static void write_capacity(struct json_writer *w, const struct wire_capacity *in)
{
	json_key(w, "backend_capacity");
	json_begin_object(w);
	json_key(w, "slots");
	json_begin_array(w);
	for (size_t i = 0; i < in->slot_count; i++)
		write_slot(w, &in->slots[i]);
	json_end_array(w);
	json_put_double(w, "gpu_memory_active_gb", in->gpu_memory_active_gb);
	json_put_double(w, "gpu_memory_peak_gb", in->gpu_memory_peak_gb);
	json_put_double(w, "gpu_memory_cache_gb", in->gpu_memory_cache_gb);
	json_put_double(w, "total_memory_gb", in->total_memory_gb);
	if (in->has_free_for_load)
		json_put_double(w, "free_for_load_gb", in->free_for_load_gb);
	json_end_object(w);
}

static void read_metrics(struct wire_reader *r, const json_val *metrics, struct wire_heartbeat *out)
{
	out->memory_pressure = wire_read_number(r, metrics, "memory_pressure", 1);
	out->cpu_usage = wire_read_number(r, metrics, "cpu_usage", 1);
	out->thermal_state =
	    (enum wire_thermal)WIRE_WORD(wire_read_str(r, metrics, "thermal_state"), thermal_names, WIRE_THERMAL_UNKNOWN);
}

static void write_metrics(struct json_writer *w, const struct wire_heartbeat *in)
{
	json_key(w, "system_metrics");
	json_begin_object(w);
	json_put_double(w, "memory_pressure", in->memory_pressure);
	json_put_double(w, "cpu_usage", in->cpu_usage);
	json_put_cstr(w, "thermal_state", wire_thermal_name(in->thermal_state));
	json_end_object(w);
}

static void read_loads(struct wire_reader *r, const json_val *root, struct wire_loads *out)
{
	void *items;
	struct json_iter it = wire_read_array(r, root, "loading", WIRE_MAX_SLOTS, sizeof(struct wire_load), &items);
	out->at = items;
	for (json_val *load; (load = json_next(&it, NULL));) {
		if (wire_is_object(r, load, "loading"))
			out->at[out->count++] =
			    (struct wire_load){wire_read_str(r, load, "model"), wire_read_number(r, load, "progress", 1)};
	}
}

static void write_loads(struct json_writer *w, const struct wire_loads *in)
{
	if (!in->count)
		return;
	json_key(w, "loading");
	json_begin_array(w);
	for (size_t i = 0; i < in->count; i++) {
		json_begin_object(w);
		json_put_str(w, "model", in->at[i].model);
		json_put_double(w, "progress", in->at[i].progress);
		json_end_object(w);
	}
	json_end_array(w);
}

void wire_read_heartbeat(struct wire_reader *r, const json_val *root, struct wire_heartbeat *out)
{
	out->status = (enum wire_activity)WIRE_WORD(wire_read_str(r, root, "status"), activity_names, WIRE_ACTIVITY_UNKNOWN);
	out->active_model = wire_read_str(r, root, "active_model");
	read_stats(r, wire_read_object(r, root, "stats"), &out->stats);
	out->warm_models = wire_read_strings(r, root, "warm_models", WIRE_MAX_WARM_MODELS);
	read_metrics(r, wire_read_object(r, root, "system_metrics"), out);
	const json_val *capacity = wire_read_object(r, root, "backend_capacity");
	out->has_capacity = capacity != NULL;
	read_capacity(r, capacity, &out->capacity);
	out->apns_device_token = wire_read_str(r, root, "apns_device_token");
	out->apns_environment = wire_read_str(r, root, "apns_environment");
	out->draining = wire_read_bool(r, root, "draining");
	read_loads(r, root, &out->loads);
}

void wire_write_heartbeat(struct json_writer *w, const struct wire_heartbeat *in)
{
	json_put_cstr(w, "status", activity_names[in->status]);
	wire_put_str(w, "active_model", in->active_model);
	if (in->warm_models.count) {
		json_key(w, "warm_models");
		json_begin_array(w);
		for (size_t i = 0; i < in->warm_models.count; i++)
			json_str(w, in->warm_models.at[i]);
		json_end_array(w);
	}
	write_stats(w, &in->stats);
	write_metrics(w, in);
	if (in->has_capacity)
		write_capacity(w, &in->capacity);
	wire_put_str(w, "apns_device_token", in->apns_device_token);
	wire_put_str(w, "apns_environment", in->apns_environment);
	wire_put_true(w, "draining", in->draining);
	write_loads(w, &in->loads);
}
