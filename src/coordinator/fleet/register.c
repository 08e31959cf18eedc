/* Registration (protocol-and-trust 3.1, 5.4, 11.1): the record is made at once, so that heartbeats find it, and becomes
 * routable when the attestation was verified on a worker and the owner's account was looked up. */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/log.h"
#include "core/version.h"
#include "wire/region.h"

static bool is_older_generation(struct str backend)
{
	return str_is(backend, "mlx-swift") || str_is(backend, "inprocess-mlx");
}

/* --- texts --- */

struct str session_text(const struct session *session, enum session_text which)
{
	size_t at = SESSION_TEXTS;
	if (!session->texts)
		return STR_NONE;
	for (size_t i = 0; i < (size_t)which; i++)
		at += session->texts[i];
	return (struct str){(const char *)session->texts + at, session->texts[which]};
}

/* Copies all of them into one block; on lack of memory there are none. */
static void keep_texts(struct session *session, const struct str texts[SESSION_TEXTS])
{
	struct str cut[SESSION_TEXTS];
	size_t bytes = SESSION_TEXTS;
	for (size_t i = 0; i < SESSION_TEXTS; i++) {
		cut[i] = str_sub(texts[i], 0, UINT8_MAX);
		bytes += cut[i].len;
	}
	uint8_t *kept = malloc(bytes), *at = kept ? kept + SESSION_TEXTS : NULL;
	for (size_t i = 0; kept && i < SESSION_TEXTS; i++) {
		kept[i] = (uint8_t)cut[i].len;
		if (cut[i].len)
			memcpy(at, cut[i].at, cut[i].len);
		at += cut[i].len;
	}
	free(session->texts);
	session->texts = kept;
}

#define ATTESTATION_KEPT 16384
#define TEXT_KEPT        128 /* bytes of a descriptive text from outside that are kept */

static struct str cut(struct str text)
{
	return str_sub(text, 0, TEXT_KEPT);
}

/* --- models --- */

/* Of a provider that does not say: an older one. */
#define UNSAID_CAPABILITIES ((uint32_t)(WIRE_CAN_CHAT | WIRE_CAN_TOOLS))

/* The operator said which files the build's name stands for (registry 3 "Coordinator merge"): routing does not offer others. */
static void log_other_files(const struct fleet *fleet, const struct wire_model *model)
{
	const char *pin = alias_pin(fleet->aliases, model->id);
	if (pin && !str_eq_nocase(model->weight_hash, str_of(pin)))
		log_warn("provider.build_refused", "model=%.*s why=weight_hash", STR_ARG(model->id));
}

static struct route_model_facts *model_facts(struct fleet *fleet, const struct wire_models *models, size_t *count)
{
	size_t most = models->count < ROUTE_MAX_NODE_MODELS ? models->count : ROUTE_MAX_NODE_MODELS;
	struct route_model_facts *facts = arena_alloc(fleet->arena, (most + 1) * sizeof *facts);
	*count = 0;
	for (size_t i = 0; facts && i < models->count && *count < most; i++) {
		const struct wire_model *model = &models->at[i];
		if (!model->id.len || model->id.len >= ROUTE_MODEL_SIZE)
			continue;
		log_other_files(fleet, model);
		if (model->template_render_ok == WIRE_FALSE)
			log_info("provider.template_broken", "model=%.*s reason=%.*s", STR_ARG(model->id),
			         STR_ARG(str_sub(model->template_fault, 0, 32)));
		facts[(*count)++] = (struct route_model_facts){
		    .id = model->id,
		    .size_bytes = model->size_bytes > 0 ? (uint64_t)model->size_bytes : 0,
		    .vision = model->is_vision,
		    .template_render_ok = model->template_render_ok == WIRE_UNKNOWN ? -1 : model->template_render_ok == WIRE_TRUE,
		    .can = model->capabilities ? model->capabilities : UNSAID_CAPABILITIES,
		    .quantization = cut(model->quantization),
		    .context_tokens = (uint64_t)model->context_length,
		    .weight_hash = model->weight_hash,
		};
	}
	return facts;
}

static void note_resumes(struct session *session, const struct route_model_facts *models, size_t count)
{
	for (size_t i = 0; models && i < count; i++)
		session->resumes |= (models[i].can & WIRE_CAN_RESUME) != 0;
}

void session_update_models(struct session *session, const struct wire_models_update *message)
{
	size_t count;
	struct route_model_facts *facts = model_facts(session->fleet, &message->models, &count);
	if (!facts)
		return;
	note_resumes(session, facts, count);
	enum db_err err = route_node_update_models(session->fleet->routes, session->node, facts, count);
	log_info("provider.models", "provider=%s changed=%zu result=%s", session->id, count, error_name(err));
	waiting_wake_node(session->fleet, session->node);
}

/* --- blind mode --- */

/* Consumers of blind mode check it themselves. */
static void keep_attestation(struct session *session, struct str attestation)
{
	struct kept_attestation *copy = attestation.len <= ATTESTATION_KEPT ? malloc(sizeof *copy + attestation.len) : NULL;
	session->blind = copy != NULL;
	if (!copy)
		return;
	memcpy(copy->text, attestation.at, attestation.len);
	copy->len = attestation.len;
	session->attestation = copy;
}

static void offer_blind(struct session *session)
{
	struct fleet *fleet = session->fleet;
	session->blind = session->blind && session->attested;
	if (session->blind && map_put(&fleet->blind, str_of(session->id), session, NULL))
		session->blind = false;
}

/* --- settling: attestation and account are known --- */

static void send_trust_status(struct session *session)
{
	struct wire_message message = {
	    .type = WIRE_TRUST_STATUS,
	    .as.trust_status = {.trust_level = (enum wire_trust)session->standing.level, .status = STR("online")},
	};
	(void)session_send(session, &message);
}

static void tell_machine(const struct session *session)
{
	const struct fleet_options *options = &session->fleet->options;
	struct str models[FLEET_VIEW_MODELS];
	struct fleet_provider_view view;
	if (!options->on_machine || !session->settled || !session->account)
		return;
	session_view(session, models, &view);
	options->on_machine(&view, options->machine_user);
}

static void tell_owner(struct session *session)
{
	struct str account = session->account ? str_of(ledger_account_id(session->account)) : STR_NONE;
	if (session->account && route_node_set_owner(session->fleet->routes, session->node, account))
		log_warn("provider.owner", "provider=%s error=nomem", session->id);
}

static void settle(struct session *session)
{
	if (session->check || owner_is_awaited(session))
		return;
	session->settled = true;
	tell_owner(session);
	offer_blind(session);
	session_update_facts(session);
	tell_machine(session);
	log_info("provider.registered", "provider=%s trust=%s backend=%.*s version=%.*s models=%zu chip=\"%.*s\"", session->id,
	         wire_trust_name((enum wire_trust)session->standing.level), STR_ARG(session_text(session, TEXT_BACKEND)),
	         STR_ARG(session_text(session, TEXT_VERSION)), route_node_models(session->node, NULL, 0),
	         STR_ARG(session_text(session, TEXT_CHIP_NAME)));
	if (session->attested)
		send_trust_status(session);
	session_send_desired(session);
	if (!session->closing)
		session_challenge(session);
}

/* --- attestation --- */

static void take_attested(struct session *session, const struct attestation_result *result)
{
	const struct attestation_blob *blob = &result->blob;
	struct str texts[SESSION_TEXTS];
	for (size_t i = 0; i < SESSION_TEXTS; i++)
		texts[i] = session_text(session, (enum session_text)i);
	texts[TEXT_SERIAL] = cut(blob->serial_number);
	texts[TEXT_SE_PUBLIC_KEY] = blob->public_key;
	texts[TEXT_SYSTEM_VOLUME_HASH] = cut(blob->system_volume_hash);
	texts[TEXT_OS_VERSION] = cut(blob->os_version);
	if (blob->chip_name.len)
		texts[TEXT_CHIP_NAME] = cut(blob->chip_name);
	if (blob->hardware_model.len)
		texts[TEXT_MACHINE_MODEL] = cut(blob->hardware_model);
	keep_texts(session, texts);
	session->attested = true;
	session->secure_enclave = blob->secure_enclave_available && result->key_protection == ATTESTATION_SECURE_ENCLAVE;
	session->sip = blob->sip_enabled;
	session->secure_boot = blob->secure_boot_enabled;
	session->authenticated_root = blob->authenticated_root_enabled;
	session->is_linux = result->is_linux;
	session->key_protection = result->key_protection & 3u;
	session->platform = (blob->platform == ATTESTATION_UNSAID_PLATFORM ? ATTESTATION_MACOS : blob->platform) & 3u;
	/* Hardware trust has proofs of its own (7); a good attestation is self-signed and no more. */
	enum wire_trust level = result->max_trust < WIRE_TRUST_SELF_SIGNED ? result->max_trust : WIRE_TRUST_SELF_SIGNED;
	trust_registered(&session->standing, level, net_now_us(session->fleet->loop));
}

static void on_attested(const struct attestation_result *result, void *user)
{
	struct session *session = user;
	session->check = NULL;
	if (result->verdict == ATTESTATION_VALID)
		take_attested(session, result);
	else
		log_warn("provider.attestation_refused", "provider=%s verdict=%d why=\"%s\"", session->id, (int)result->verdict,
		         result->why.text);
	settle(session);
}

/* --- account --- */

void session_owner_looked_up(struct session *session)
{
	if (!session->settled) {
		settle(session);
		return;
	}
	tell_owner(session);
	session_update_facts(session);
	tell_machine(session);
}

/* --- the record --- */

static bool backend_accepted(const struct fleet *fleet, struct str backend)
{
	for (size_t i = 0; i < fleet->options.backend_count; i++)
		if (str_is(backend, fleet->options.backends[i]))
			return true;
	return false;
}

/* What of protocol-and-trust 7 "private-text routing gate" is fixed at registration. */
static bool is_private_text(const struct session *session, const struct wire_register *message)
{
	const struct wire_privacy *privacy = &message->privacy;
	return session_text(session, TEXT_PUBLIC_KEY).len && backend_accepted(session->fleet, message->backend) &&
	       message->encrypted_response_chunks && message->has_privacy && privacy->text_backend_inprocess &&
	       privacy->text_proxy_disabled && privacy->anti_debug_enabled && privacy->core_dumps_disabled && privacy->env_scrubbed;
}

static void log_if_unroutable(const struct session *session, const struct wire_register *message)
{
	if (!backend_accepted(session->fleet, message->backend))
		log_warn("provider.backend_not_accepted", "provider=%s backend=%.*s", session->id, STR_ARG(cut(message->backend)));
	else if (!session->private_text)
		log_warn("provider.not_private", "provider=%s key=%d encrypted_chunks=%d privacy=%d", session->id,
		         session_text(session, TEXT_PUBLIC_KEY).len > 0, message->encrypted_response_chunks, message->has_privacy);
}

static void keep_registration(struct session *session, const struct wire_register *message)
{
	const struct wire_hardware *hardware = &message->hardware;
	struct str min_version = session->fleet->options.min_version;
	uint8_t key[BOX_KEY_BYTES];
	const struct str texts[SESSION_TEXTS] = {
	    [TEXT_PUBLIC_KEY] = wire_key_decode(message->public_key, key) ? STR_NONE : message->public_key,
	    [TEXT_VERSION] = cut(message->version),
	    [TEXT_BACKEND] = cut(message->backend),
	    [TEXT_CHIP_NAME] = cut(hardware->chip_name),
	    [TEXT_CHIP_FAMILY] = cut(hardware->chip_family),
	    [TEXT_MACHINE_MODEL] = cut(hardware->machine_model),
	    [TEXT_PYTHON_HASH] = cut(message->python_hash),
	    [TEXT_RUNTIME_HASH] = cut(message->runtime_hash),
	};
	keep_texts(session, texts);
	session->flow_credit = message->flow_credit;
	session->blind = message->blind && message->flow_credit && message->attestation.len > 0;
	session->private_only = message->private_only;
	session->gpu_cores = (uint16_t)(hardware->gpu_cores < UINT16_MAX ? hardware->gpu_cores : UINT16_MAX);
	session->private_text = is_private_text(session, message);
	session->version_ok = !message->version.len || !min_version.len || version_compare(message->version, min_version) >= 0;
	log_if_unroutable(session, message);
}

static bool add_node(struct session *session, const struct wire_register *message)
{
	struct fleet *fleet = session->fleet;
	const struct wire_hardware *hardware = &message->hardware;
	size_t count;
	char region[REGION_SIZE] = "";
	struct route_model_facts *models = model_facts(fleet, &message->models, &count);
	if (message->region.len && region_read(message->region, region))
		region[0] = '\0'; /* nowhere that anybody could ask for */
	note_resumes(session, models, count);
	session->node = route_node_add(fleet->routes, session);
	if (!models || !session->node || route_node_set_models(fleet->routes, session->node, models, count))
		return false;
	struct route_node_facts facts = {
	    .chip_family = session_text(session, TEXT_CHIP_FAMILY),
	    .region = str_of(region),
	    .plain_prompts_ok = message->plain_prompts,
	    .tools_ok = !is_older_generation(message->backend) || version_compare(message->version, STR(FLEET_TOOLS_AT)) >= 0,
	    .static_decode_tps = message->decode_tps,
	    .static_prefill_tps = message->prefill_tps,
	    .bandwidth_gbs = hardware->memory_bandwidth_gbs,
	    .memory_gb = (double)hardware->memory_gb,
	    .free_for_load_gb = -1,
	};
	route_node_set_facts(fleet->routes, session->node, &facts);
	return true;
}

void session_unregister(struct session *session)
{
	struct fleet *fleet = session->fleet;
	if (!session->registered)
		return;
	tell_machine(session);
	session->registered = false;
	session->settled = false;
	fleet->registered--;
	session_stop_challenges(session);
	owner_forget(session);
	session_update_facts(session); /* not offered to those whose jobs fail now */
	jobs_fail_all(session);
	waiting_forget(session);
	keys_free(session);
	prefixes_forget(session);
	session_builds_forget(session);
	if (map_get(&fleet->by_serial, session_text(session, TEXT_SERIAL)) == session)
		map_remove(&fleet->by_serial, session_text(session, TEXT_SERIAL));
	map_remove(&fleet->blind, str_of(session->id));
	if (session->node) {
		planner_node_gone(fleet->planner, session->node);
		if (fleet->on_node_gone)
			fleet->on_node_gone(session->node, fleet->node_user);
		route_node_remove(fleet->routes, session->node);
	}
	session->node = NULL;
	session->account = NULL;
	free(session->texts);
	session->texts = NULL;
	free(session->attestation);
	session->attestation = NULL;
	session->blind = false;
	session->standing = (struct trust_standing){0};
	session->attested = session->proven = session->draining = false;
}

void session_register(struct session *session, const struct wire_register *message)
{
	struct fleet *fleet = session->fleet;
	if (session->registered && !session->settled) {
		log_debug("provider.register_ignored", "provider=%s why=busy", session->id); /* one check on a worker at a time */
		return;
	}
	session_unregister(session); /* a second one replaces the first (3.1) */
	if (fleet->draining || fleet->registered >= fleet->options.max_providers) {
		log_warn("provider.refused", "provider=%s why=%s", session->id, fleet->draining ? "draining" : "full");
		session_close(session, 1013, "try again later");
		return;
	}
	session->registered = true;
	session->order = ++fleet->orders;
	fleet->registered++;
	metric_add(fleet->metrics.registered, 1);
	keep_registration(session, message);
	if (!add_node(session, message)) {
		log_error("provider.refused", "provider=%s why=nomem", session->id);
		session_close(session, 1013, "try again later");
		return;
	}
	if (session->blind)
		keep_attestation(session, message->attestation);
	if (message->attestation.len)
		session->check = trust_check_registration(fleet->loop, message->attestation, message->public_key, on_attested, session);
	owner_look_up(session, message->auth_token);
}
