#include "provider/node/node_internal.h"

#include "core/clock.h"
#include "core/encode.h"
#include "core/log.h"
#include "core/version.h"
#include "wire/attestation.h"
#include "wire/prefix.h"

#define GIB (1024.0 * 1024.0 * 1024.0)

enum db_err node_make_attestation(struct node *node, struct error *error)
{
	uint8_t xy[P256_PUBLIC_BYTES];
	char public_b64[BASE64_ENCODED_LEN(P256_PUBLIC_BYTES)], timestamp[CLOCK_RFC3339_SIZE];
	enum db_err err = platform_self_hash(node->binary_hash, error);
	if (err)
		return err;
	platform_hardware(&node->hardware);
	platform_posture(&node->posture);
	platform_signer_public(node->options.signer, xy);
	clock_format_rfc3339(clock_wall_us(), timestamp);
	bool linux_machine = str_is(STR("linux"), node->posture.platform);
	struct attestation_blob blob = {
	    .authenticated_root_enabled = node->posture.authenticated_root_enabled,
	    .hypervisor_active = node->posture.hypervisor_active,
	    .rdma_disabled = node->posture.rdma_disabled,
	    .secure_boot_enabled = node->posture.secure_boot_enabled,
	    .secure_enclave_available = node->posture.secure_enclave_available,
	    .sip_enabled = node->posture.sip_enabled,
	    .binary_hash = str_of(node->binary_hash),
	    .chip_name = str_of(node->hardware.chip_name),
	    .encryption_public_key = str_of(node->box_public_b64),
	    .hardware_model = str_of(node->hardware.machine_model),
	    .os_version = str_of(node->hardware.os_version),
	    .public_key = {public_b64, base64_encode(xy, sizeof xy, public_b64)},
	    .serial_number = str_of(node->hardware.serial),
	    .system_volume_hash = str_of(node->posture.system_volume_hash),
	    .timestamp = str_of(timestamp),
	    .platform = linux_machine ? ATTESTATION_LINUX : ATTESTATION_MACOS,
	    .key_protection = platform_signer_is_hardware(node->options.signer) ? ATTESTATION_SECURE_ENCLAVE : ATTESTATION_SOFTWARE,
	};
	err = attestation_sign(&blob, &node->signer, &node->attestation);
	return err ? error_set(error, err, "the attestation could not be signed") : DB_OK;
}

static uint32_t capabilities_of(const struct engine_info *info)
{
	uint32_t bits = info->can_embed ? WIRE_CAN_EMBED : 0;
	if (info->only_embeds)
		return bits;
	bits |= WIRE_CAN_CHAT | WIRE_CAN_TOOLS | WIRE_CAN_COUNT | WIRE_CAN_PROMPTS | WIRE_CAN_RESUME;
	if (info->can_constrain)
		bits |= WIRE_CAN_JSON | WIRE_CAN_SCHEMA | WIRE_CAN_LOGPROBS;
	if (info->can_choose)
		bits |= WIRE_CAN_CHOOSE;
	if (info->can_reason)
		bits |= WIRE_CAN_REASON;
	return bits;
}

static void describe_model(const struct residency_view *view, struct wire_model *out)
{
	const struct residency_model *model = view->model;
	const struct engine_info cold = {.can_embed = model->embeds, .only_embeds = model->only_embeds};
	const struct engine_info known = view->ever_loaded ? view->info : cold;
	*out = (struct wire_model){
	    .id = str_of(model->id),
	    .size_bytes = (int64_t)model->size_bytes,
	    .model_type = str_of(model->model_type),
	    .quantization = str_of(model->quantization),
	    .weight_hash = str_of(model->weight_hash),
	    .template_render_ok = view->ever_loaded ? wire_tri_of(view->info.template_render_ok) : WIRE_UNKNOWN,
	    .template_fault = view->ever_loaded && view->info.template_fault ? str_of(view->info.template_fault) : STR_NONE,
	    .context_length = view->info.context_tokens,
	    .capabilities = capabilities_of(&known),
	};
}

/* Describes the models that are offered, all of them or those that the coordinator knows otherwise. Texts are the residency's.
 */
static struct wire_models describe_models(struct node *node, bool all, struct arena *arena)
{
	size_t count = residency_count(node->options.residency);
	struct wire_models models = {arena_alloc(arena, (count + 1) * sizeof *models.at), 0};
	for (size_t i = 0; models.at && i < count; i++) {
		struct residency_view view;
		residency_view(node->options.residency, i, &view);
		enum told now = view.model->held ? TOLD_NOTHING : view.ever_loaded ? TOLD_LOADED : TOLD_COLD;
		if (now != TOLD_NOTHING && (all || now != node->told[i]))
			describe_model(&view, &models.at[models.count++]);
		node->told[i] = (uint8_t)now;
	}
	return models;
}

enum db_err node_send_register(struct node *node)
{
	const struct platform_hardware *hardware = &node->hardware;
	const struct platform_posture *posture = &node->posture;
	enum db_err err = DB_E_NOMEM;
	struct arena *arena = arena_new(0);
	struct wire_models models = arena ? describe_models(node, true, arena) : (struct wire_models){0};
	if (!models.at)
		goto out;
	struct wire_message message = {
	    .type = WIRE_REGISTER,
	    .as.registration = {.hardware = {.machine_model = str_of(hardware->machine_model),
	                                     .chip_name = str_of(hardware->chip_name),
	                                     .chip_family = str_of(hardware->chip_family),
	                                     .chip_tier = str_of(hardware->chip_tier),
	                                     .memory_gb = hardware->memory_gb,
	                                     .memory_available_gb = hardware->memory_available_gb,
	                                     .cpu_total = hardware->cpu_total,
	                                     .cpu_performance = hardware->cpu_performance,
	                                     .cpu_efficiency = hardware->cpu_efficiency,
	                                     .gpu_cores = hardware->gpu_cores,
	                                     .memory_bandwidth_gbs = hardware->memory_bandwidth_gbs},
	                        .models = models,
	                        .backend = STR(NODE_BACKEND),
	                        .version = STR(DARKBLOOM_PROTOCOL_VERSION),
	                        .public_key = str_of(node->box_public_b64),
	                        .encrypted_response_chunks = true,
	                        .attestation = buf_str(&node->attestation),
	                        .auth_token = str_of(node->auth_token),
	                        .private_only = node->options.private_only,
	                        .has_privacy = true,
	                        .privacy = {.text_backend_inprocess = true,
	                                    .text_proxy_disabled = true,
	                                    .sip_enabled = posture->sip_enabled,
	                                    .anti_debug_enabled = posture->anti_debug_enabled,
	                                    .core_dumps_disabled = posture->core_dumps_disabled,
	                                    .env_scrubbed = posture->env_scrubbed,
	                                    .hypervisor_active = posture->hypervisor_active},
	                        .flow_credit = true,
	                        .plain_prompts = true,
	                        .region = node->options.region ? str_of(node->options.region) : STR_NONE,
	                        .blind = true},
	};
	err = node_send(node, &message);
out:
	arena_free(arena);
	if (err)
		log_error("node.register_failed", "error=%s", error_name(err));
	return err;
}

static void describe_slot(const struct residency_view *view, struct wire_slot *out)
{
	struct engine_capacity capacity;
	engine_capacity(view->engine, &capacity);
	*out = (struct wire_slot){
	    .model = str_of(view->model->id),
	    .state = capacity.reloading ? WIRE_SLOT_RELOADING
	             : capacity.crashed ? WIRE_SLOT_CRASHED
	             : capacity.running ? WIRE_SLOT_RUNNING
	                                : WIRE_SLOT_IDLE,
	    .num_running = capacity.running,
	    .num_waiting = capacity.waiting,
	    .active_tokens = (int64_t)capacity.active_tokens,
	    .max_tokens_potential = (int64_t)capacity.max_tokens_potential,
	    .max_concurrency = capacity.max_concurrency,
	    .observed_decode_tps = capacity.decode_tps,
	    .observed_prefill_tps = capacity.prefill_tps,
	    .active_token_budget_used = (int64_t)capacity.budget_used_tokens,
	    .active_token_budget_max = (int64_t)capacity.budget_max_tokens,
	    .queued_token_budget = (int64_t)capacity.budget_queued_tokens,
	    .kv_bytes_per_token = (int64_t)view->info.kv_bytes_per_token,
	    .model_load_time_ms = (int64_t)view->info.load_time_ms,
	};
}

/* So that the next turn of a conversation comes to where its beginning is kept. */
static struct str prefixes_of(struct engine *engine, struct arena *arena)
{
	uint64_t names[WIRE_SLOT_PREFIXES];
	size_t count = engine_prefixes(engine, names, WIRE_SLOT_PREFIXES);
	char *text = count ? arena_alloc(arena, count * WIRE_PREFIX_HEX) : NULL;
	return text ? wire_prefixes_write(names, count, text) : STR_NONE;
}

static enum wire_thermal thermal_of(const char *name)
{
	static const enum wire_thermal all[] = {WIRE_THERMAL_NOMINAL, WIRE_THERMAL_FAIR, WIRE_THERMAL_SERIOUS,
	                                        WIRE_THERMAL_CRITICAL};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (str_is(str_of(name), wire_thermal_name(all[i])))
			return all[i];
	return WIRE_THERMAL_UNKNOWN;
}

void node_send_heartbeat(struct node *node)
{
	if (!node->ws || node->blocked)
		return; /* a report that waits would be out of date */
	size_t count = residency_count(node->options.residency);
	struct arena *arena = arena_new(0);
	struct wire_slot *slots = arena ? arena_alloc(arena, (count + 1) * sizeof *slots) : NULL;
	struct str *warm = arena ? arena_alloc(arena, (count + 1) * sizeof *warm) : NULL;
	if (!slots || !warm)
		goto out;
	struct wire_load *loads = arena ? arena_alloc(arena, (count + 1) * sizeof *loads) : NULL;
	if (!loads)
		goto out;
	size_t warm_count = 0, slot_count = 0, load_count = 0;
	struct residency_memory memory;
	residency_memory(node->options.residency, &memory);
	struct str active = STR_NONE;
	for (size_t i = 0; i < count; i++) {
		struct residency_view view;
		residency_view(node->options.residency, i, &view);
		if (view.state == RESIDENCY_LOADING)
			loads[load_count++] = (struct wire_load){str_of(view.model->id), (double)view.progress};
		if (view.state != RESIDENCY_LOADED)
			continue; /* a model without a slot is cold */
		struct wire_slot *slot = &slots[slot_count++];
		describe_slot(&view, slot);
		slot->prefixes = prefixes_of(view.engine, arena);
		if (slot->state != WIRE_SLOT_CRASHED)
			warm[warm_count++] = slot->model;
		if (slot->num_running)
			active = slot->model;
	}
	struct platform_metrics metrics;
	platform_metrics(&metrics);
	struct wire_message message = {
	    .type = WIRE_HEARTBEAT,
	    .as.heartbeat = {.status = node->all.count ? WIRE_SERVING : WIRE_IDLE,
	                     .active_model = active,
	                     .stats = node->stats,
	                     .warm_models = {warm, warm_count},
	                     .memory_pressure = metrics.memory_pressure,
	                     .cpu_usage = metrics.cpu_usage,
	                     .thermal_state = thermal_of(metrics.thermal_state),
	                     .has_capacity = true,
	                     .capacity = {.slots = slots,
	                                  .slot_count = slot_count,
	                                  .gpu_memory_active_gb = (double)memory.held_bytes / GIB,
	                                  .gpu_memory_peak_gb = (double)memory.peak_bytes / GIB,
	                                  .total_memory_gb = (double)node->hardware.memory_gb,
	                                  .has_free_for_load = true,
	                                  .free_for_load_gb = residency_free_for_load_gb(node->options.residency)},
	                     .loads = {loads, load_count},
	                     .draining = node->draining},
	};
	node_send(node, &message);
out:
	arena_free(arena);
}

void node_models_changed(struct node *node)
{
	struct arena *arena = node->ws ? arena_new(0) : NULL;
	if (!arena)
		return;
	struct wire_models changed = describe_models(node, false, arena);
	struct wire_message message = {.type = WIRE_MODELS_UPDATE, .as.models_update = {changed}};
	if (changed.count)
		node_send(node, &message);
	arena_free(arena);
	node_send_heartbeat(node);
}
