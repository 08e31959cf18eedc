#include "wire/register.h"
#include "wire/codec.h"

#define WIRE_MAX_CAPABILITIES 64 /* names in one list */

static void read_hardware(struct wire_reader *r, const json_val *hw, struct wire_hardware *out)
{
	out->machine_model = wire_read_str(r, hw, "machine_model");
	out->chip_name = wire_read_str(r, hw, "chip_name");
	out->chip_family = wire_read_str(r, hw, "chip_family");
	out->chip_tier = wire_read_str(r, hw, "chip_tier");
	out->memory_gb = wire_read_int(r, hw, "memory_gb", 1024);
	out->memory_available_gb = wire_read_number(r, hw, "memory_available_gb", 1024);
	const json_val *cores = wire_read_object(r, hw, "cpu_cores");
	out->cpu_total = wire_read_int(r, cores, "total", INT32_MAX);
	out->cpu_performance = wire_read_int(r, cores, "performance", INT32_MAX);
	out->cpu_efficiency = wire_read_int(r, cores, "efficiency", INT32_MAX);
	out->gpu_cores = wire_read_int(r, hw, "gpu_cores", INT32_MAX);
	out->memory_bandwidth_gbs = wire_read_number(r, hw, "memory_bandwidth_gbs", 2000);
}

static void write_hardware(struct json_writer *w, const struct wire_hardware *in)
{
	json_key(w, "hardware");
	json_begin_object(w);
	json_put_str(w, "machine_model", in->machine_model);
	json_put_str(w, "chip_name", in->chip_name);
	json_put_str(w, "chip_family", in->chip_family);
	json_put_str(w, "chip_tier", in->chip_tier);
	json_put_i64(w, "memory_gb", in->memory_gb);
	json_put_double(w, "memory_available_gb", in->memory_available_gb);
	json_key(w, "cpu_cores");
	json_begin_object(w);
	json_put_i64(w, "total", in->cpu_total);
	json_put_i64(w, "performance", in->cpu_performance);
	json_put_i64(w, "efficiency", in->cpu_efficiency);
	json_end_object(w);
	json_put_i64(w, "gpu_cores", in->gpu_cores);
	json_put_double(w, "memory_bandwidth_gbs", in->memory_bandwidth_gbs);
	json_end_object(w);
}

static const char *const capability_names[WIRE_CAPABILITIES] = {
    "chat",     "embeddings", "count_tokens", "tools", "reasoning", "json_mode", "structured_outputs",
    "logprobs", "choices",    "prompts",      "resume"};

const char *wire_capability_name(unsigned bit)
{
	return bit < WIRE_CAPABILITIES ? capability_names[bit] : NULL;
}

/* Those that are not known here are of no use here. */
static uint32_t read_capabilities(struct wire_reader *r, const json_val *model)
{
	struct wire_strings names = wire_read_strings(r, model, "capabilities", WIRE_MAX_CAPABILITIES);
	uint32_t bits = 0;
	for (size_t i = 0; i < names.count; i++)
		for (unsigned bit = 0; bit < WIRE_CAPABILITIES; bit++)
			if (str_is(names.at[i], capability_names[bit]))
				bits |= 1u << bit;
	return bits;
}

static void write_capabilities(struct json_writer *w, uint32_t bits)
{
	if (!bits)
		return;
	json_key(w, "capabilities");
	json_begin_array(w);
	for (unsigned bit = 0; bit < WIRE_CAPABILITIES; bit++)
		if (bits & 1u << bit)
			json_cstr(w, capability_names[bit]);
	json_end_array(w);
}

static void read_model(struct wire_reader *r, const json_val *model, struct wire_model *out)
{
	out->id = wire_read_str(r, model, "id");
	out->size_bytes = wire_read_int(r, model, "size_bytes", INT64_MAX);
	out->model_type = wire_read_str(r, model, "model_type");
	out->quantization = wire_read_str(r, model, "quantization");
	out->weight_hash = wire_read_str(r, model, "weight_hash");
	out->is_vision = wire_read_bool(r, model, "is_vision");
	out->template_render_ok = wire_read_tri(r, model, "template_render_ok");
	out->template_fault = wire_read_str(r, model, "template_fault");
	out->context_length = wire_read_int(r, model, "context_length", INT32_MAX);
	out->capabilities = read_capabilities(r, model);
}

static struct wire_models read_models(struct wire_reader *r, const json_val *root)
{
	struct wire_models models = {NULL, 0};
	void *items;
	struct json_iter it = wire_read_array(r, root, "models", WIRE_MAX_MODELS, sizeof(struct wire_model), &items);
	models.at = items;
	for (json_val *model; (model = json_next(&it, NULL));) {
		if (wire_is_object(r, model, "models"))
			read_model(r, model, &models.at[models.count++]);
	}
	return models;
}

static void write_models(struct json_writer *w, const struct wire_models *models)
{
	json_key(w, "models");
	json_begin_array(w);
	for (size_t i = 0; i < models->count; i++) {
		const struct wire_model *model = &models->at[i];
		json_begin_object(w);
		json_put_str(w, "id", model->id);
		json_put_i64(w, "size_bytes", model->size_bytes);
		wire_put_str(w, "model_type", model->model_type);
		wire_put_str(w, "quantization", model->quantization);
		wire_put_str(w, "weight_hash", model->weight_hash);
		wire_put_true(w, "is_vision", model->is_vision);
		wire_put_tri(w, "template_render_ok", model->template_render_ok);
		wire_put_str(w, "template_fault", model->template_fault);
		if (model->context_length > 0)
			json_put_i64(w, "context_length", model->context_length);
		write_capabilities(w, model->capabilities);
		json_end_object(w);
	}
	json_end_array(w);
}

static void read_privacy(struct wire_reader *r, const json_val *privacy, struct wire_privacy *out)
{
	out->text_backend_inprocess = wire_read_bool(r, privacy, "text_backend_inprocess");
	out->text_proxy_disabled = wire_read_bool(r, privacy, "text_proxy_disabled");
	out->python_runtime_locked = wire_read_bool(r, privacy, "python_runtime_locked");
	out->dangerous_modules_blocked = wire_read_bool(r, privacy, "dangerous_modules_blocked");
	out->sip_enabled = wire_read_bool(r, privacy, "sip_enabled");
	out->anti_debug_enabled = wire_read_bool(r, privacy, "anti_debug_enabled");
	out->core_dumps_disabled = wire_read_bool(r, privacy, "core_dumps_disabled");
	out->env_scrubbed = wire_read_bool(r, privacy, "env_scrubbed");
	out->hypervisor_active = wire_read_bool(r, privacy, "hypervisor_active");
}

static void write_privacy(struct json_writer *w, const struct wire_privacy *in)
{
	json_key(w, "privacy_capabilities");
	json_begin_object(w);
	json_put_bool(w, "text_backend_inprocess", in->text_backend_inprocess);
	json_put_bool(w, "text_proxy_disabled", in->text_proxy_disabled);
	json_put_bool(w, "python_runtime_locked", in->python_runtime_locked);
	json_put_bool(w, "dangerous_modules_blocked", in->dangerous_modules_blocked);
	json_put_bool(w, "sip_enabled", in->sip_enabled);
	json_put_bool(w, "anti_debug_enabled", in->anti_debug_enabled);
	json_put_bool(w, "core_dumps_disabled", in->core_dumps_disabled);
	json_put_bool(w, "env_scrubbed", in->env_scrubbed);
	json_put_bool(w, "hypervisor_active", in->hypervisor_active);
	json_end_object(w);
}

/* The bytes between which the signature holds must be those that came (5.2), so they are cut out of the text itself. */
static struct str read_attestation(struct wire_reader *r, const json_val *root, struct str text)
{
	static const char *const path[] = {"attestation", NULL};
	struct str raw = STR_NONE;
	if (json_get_some(root, "attestation") && json_raw_member(text, path, &raw))
		wire_fault(r, DB_E_INVALID, "attestation", "is given twice");
	return raw;
}

void wire_read_register(struct wire_reader *r, const json_val *root, struct str text, struct wire_register *out)
{
	read_hardware(r, wire_read_object(r, root, "hardware"), &out->hardware);
	out->models = read_models(r, root);
	out->backend = wire_read_str(r, root, "backend");
	out->version = wire_read_str(r, root, "version");
	out->public_key = wire_read_str(r, root, "public_key");
	out->encrypted_response_chunks = wire_read_bool(r, root, "encrypted_response_chunks");
	out->attestation = read_attestation(r, root, text);
	out->prefill_tps = wire_read_number(r, root, "prefill_tps", 5000);
	out->decode_tps = wire_read_number(r, root, "decode_tps", 500);
	out->auth_token = wire_read_str(r, root, "auth_token");
	out->private_only = wire_read_bool(r, root, "private_only");
	out->apns_device_token = wire_read_str(r, root, "apns_device_token");
	out->apns_environment = wire_read_str(r, root, "apns_environment");
	out->python_hash = wire_read_str(r, root, "python_hash");
	out->runtime_hash = wire_read_str(r, root, "runtime_hash");
	out->template_hashes = wire_read_pairs(r, root, "template_hashes");
	const json_val *privacy = wire_read_object(r, root, "privacy_capabilities");
	out->has_privacy = privacy != NULL;
	read_privacy(r, privacy, &out->privacy);
	out->flow_credit = wire_read_bool(r, root, "flow_credit");
	out->plain_prompts = wire_read_bool(r, root, "plain_prompts");
	out->blind = wire_read_bool(r, root, "blind");
	out->region = wire_read_str(r, root, "region");
}

void wire_write_register(struct json_writer *w, const struct wire_register *in)
{
	write_hardware(w, &in->hardware);
	write_models(w, &in->models);
	json_put_str(w, "backend", in->backend);
	wire_put_str(w, "version", in->version);
	wire_put_str(w, "public_key", in->public_key);
	wire_put_true(w, "encrypted_response_chunks", in->encrypted_response_chunks);
	if (in->attestation.len) {
		json_key(w, "attestation");
		json_raw(w, in->attestation);
	}
	wire_put_number(w, "prefill_tps", in->prefill_tps);
	wire_put_number(w, "decode_tps", in->decode_tps);
	wire_put_str(w, "auth_token", in->auth_token);
	wire_put_true(w, "private_only", in->private_only);
	wire_put_str(w, "apns_device_token", in->apns_device_token);
	wire_put_str(w, "apns_environment", in->apns_environment);
	wire_put_str(w, "python_hash", in->python_hash);
	wire_put_str(w, "runtime_hash", in->runtime_hash);
	wire_put_pairs(w, "template_hashes", &in->template_hashes);
	if (in->has_privacy)
		write_privacy(w, &in->privacy);
	wire_put_true(w, "flow_credit", in->flow_credit);
	wire_put_true(w, "plain_prompts", in->plain_prompts);
	wire_put_true(w, "blind", in->blind);
	wire_put_str(w, "region", in->region);
}

void wire_read_models_update(struct wire_reader *r, const json_val *root, struct wire_models_update *out)
{
	out->models = read_models(r, root);
}

void wire_write_models_update(struct json_writer *w, const struct wire_models_update *in)
{
	write_models(w, &in->models);
}
