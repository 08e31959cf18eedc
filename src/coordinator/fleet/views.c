/* What others may see of the fleet. */
#include "coordinator/fleet/fleet_internal.h"

#include "core/clock.h"

void session_view(const struct session *session, struct str *models, struct fleet_provider_view *out)
{
	struct route_node_facts facts;
	route_node_facts(session->fleet->routes, session->node, &facts);
	const char *status = session->jobs.count ? "serving" : "online";
	*out = (struct fleet_provider_view){
	    .id = str_of(session->id),
	    .chip_name = session_text(session, TEXT_CHIP_NAME),
	    .chip_family = session_text(session, TEXT_CHIP_FAMILY),
	    .machine_model = session_text(session, TEXT_MACHINE_MODEL),
	    .serial = session_text(session, TEXT_SERIAL),
	    .se_public_key = session_text(session, TEXT_SE_PUBLIC_KEY),
	    .encryption_public_key = session_text(session, TEXT_PUBLIC_KEY),
	    .account = session->account ? str_of(ledger_account_id(session->account)) : STR_NONE,
	    .backend = session_text(session, TEXT_BACKEND),
	    .version = session_text(session, TEXT_VERSION),
	    .platform =
	        session->attested ? str_of(attestation_platform_name((enum attestation_platform)session->platform)) : STR_NONE,
	    .key_protection = session->attested
	                          ? str_of(attestation_protection_name((enum attestation_protection)session->key_protection))
	                          : STR_NONE,
	    .trust = facts.trust,
	    .region = facts.region,
	    .status = session->standing.untrusted ? "untrusted" : status,
	    .private_only = session->private_only,
	    .attested = session->attested,
	    .encrypted = session_text(session, TEXT_PUBLIC_KEY).len > 0,
	    .secure_enclave = session->secure_enclave,
	    .sip = session->sip,
	    .secure_boot = session->secure_boot,
	    .authenticated_root = session->authenticated_root,
	    .memory_gb = facts.memory_gb,
	    .reputation = route_node_reputation(session->node),
	    .bandwidth_gbs = facts.bandwidth_gbs,
	    .decode_tps = facts.static_decode_tps,
	    .gpu_cores = session->gpu_cores,
	    .system_volume_hash = session_text(session, TEXT_SYSTEM_VOLUME_HASH),
	    .os_version = session_text(session, TEXT_OS_VERSION),
	    .python_hash = session_text(session, TEXT_PYTHON_HASH),
	    .runtime_hash = session_text(session, TEXT_RUNTIME_HASH),
	    .live = (const struct fleet_live *)(const void *)session,
	    .models = models,
	    .blind = session->blind,
	    .attestation = session->attestation ? (struct str){session->attestation->text, session->attestation->len} : STR_NONE,
	};
	if (models)
		out->model_count = route_node_models(session->node, models, FLEET_VIEW_MODELS);
}

static const struct session *session_of(const struct fleet_provider_view *view)
{
	return (const struct session *)(const void *)view->live;
}

static int64_t wall_us(const struct fleet *fleet, uint64_t mono_us)
{
	uint64_t now_us = net_now_us(fleet->loop);
	return mono_us ? clock_wall_us() - (int64_t)(now_us > mono_us ? now_us - mono_us : 0) : 0;
}

void fleet_view_live(const struct fleet *fleet, const struct fleet_provider_view *view, struct fleet_live_view *out)
{
	const struct session *session = session_of(view);
	struct route_node_facts facts;
	route_node_facts(fleet->routes, session->node, &facts);
	*out = (struct fleet_live_view){
	    .heartbeat_us = wall_us(fleet, session->last_beat_us),
	    .challenge_us = wall_us(fleet, session->standing.last_pass_us),
	    .failed_challenges = session->standing.failures,
	    .pending = route_node_pending(session->node),
	    .runtime_verified = facts.runtime_verified,
	    .has_capacity = facts.has_capacity,
	    .memory_pressure = facts.memory_pressure,
	    .cpu_usage = facts.cpu_usage,
	    .thermal = facts.thermal,
	    .prefill_tps = facts.static_prefill_tps,
	    .gpu_active_gb = facts.gpu_active_gb,
	    .total_memory_gb = facts.total_memory_gb,
	    .free_for_load_gb = facts.free_for_load_gb,
	};
}

bool fleet_view_slot(const struct fleet_provider_view *view, size_t model, struct route_slot *out)
{
	return route_node_slot(session_of(view)->node, model, out);
}

void fleet_each(const struct fleet *fleet, void (*fn)(const struct fleet_provider_view *view, void *user), void *user)
{
	struct str models[FLEET_VIEW_MODELS];
	LIST_EACH (link, &fleet->sessions) {
		const struct session *session = LIST_OF(link, struct session, link);
		struct fleet_provider_view view;
		if (!session->settled)
			continue;
		session_view(session, models, &view);
		fn(&view, user);
	}
}

bool fleet_walk(struct fleet *fleet, bool from_first, size_t max,
                void (*fn)(const struct fleet_provider_view *view, void *user), void *user)
{
	struct str models[FLEET_VIEW_MODELS];
	if (from_first)
		fleet->walk = list_first(&fleet->sessions);
	for (size_t i = 0; i < max && fleet->walk; i++) {
		const struct session *session = LIST_OF(fleet->walk, struct session, link);
		struct list_link *next = fleet->walk->next;
		struct fleet_provider_view view;
		fleet->walk = next == &fleet->sessions.head ? NULL : next;
		if (!session->settled)
			continue;
		session_view(session, models, &view);
		fn(&view, user);
	}
	return fleet->walk != NULL;
}

size_t fleet_models(const struct fleet *fleet, struct route_model_view *out, size_t max)
{
	return route_models(fleet->routes, net_now_us(fleet->loop), out, max);
}

size_t fleet_capacities(const struct fleet *fleet, struct route_capacity *out, size_t max)
{
	return route_capacities(fleet->routes, net_now_us(fleet->loop), out, max);
}

uint64_t fleet_models_version(const struct fleet *fleet)
{
	return route_models_version(fleet->routes, net_now_us(fleet->loop));
}

bool fleet_model_dedicated(const struct fleet *fleet, struct str model)
{
	return route_model_dedicated(fleet->routes, model);
}

uint64_t fleet_model_context(const struct fleet *fleet, struct str model)
{
	return route_model_context(fleet->routes, model);
}

uint64_t fleet_model_room(const struct fleet *fleet, struct str model, uint64_t prompt_tokens, uint64_t wanted)
{
	uint64_t context = fleet_model_context(fleet, model);
	if (context == 0 || prompt_tokens + wanted <= context)
		return wanted;
	return prompt_tokens < context ? context - prompt_tokens : 1;
}

size_t fleet_count(const struct fleet *fleet)
{
	return fleet->registered;
}

/* --- GET /v1/providers/attestation (protocol-and-trust 8.3) --- */

#define APPLE_ROOT_URL "https://www.apple.com/certificateauthority/"
#define APPLE_ROOT_CA  "Apple Enterprise Attestation Root CA"
#define HOW_TO_VERIFY                                                                                                          \
	"Each provider signs with the P-256 key se_public_key (base64 of X and Y). Check se_signature of an answer against the "   \
	"hexadecimal text of response_hash. key_protection says where the key lives: a software key proves continuity, not "       \
	"hardware. When mda_cert_chain_b64 is present, verify the chain to Apple's root and compare its freshness code with the "  \
	"SHA-256 of the text of se_public_key."

static void write_provider(const struct fleet_provider_view *view, void *user)
{
	struct json_writer *w = user;
	json_begin_object(w);
	json_put_str(w, "provider_id", view->id);
	json_put_str(w, "chip_name", view->chip_name);
	json_put_str(w, "hardware_model", view->machine_model);
	json_put_str(w, "serial_number", view->serial);
	json_put_cstr(w, "trust_level", route_trust_name(view->trust));
	json_put_cstr(w, "status", view->status);
	json_put_double(w, "memory_gb", view->memory_gb);
	json_put_i64(w, "gpu_cores", view->gpu_cores);
	json_key(w, "models");
	json_begin_array(w);
	for (size_t i = 0; i < view->model_count; i++)
		json_str(w, view->models[i]);
	json_end_array(w);
	json_put_bool(w, "secure_enclave", view->secure_enclave);
	json_put_bool(w, "sip_enabled", view->sip);
	json_put_bool(w, "secure_boot_enabled", view->secure_boot);
	json_put_bool(w, "authenticated_root_enabled", view->authenticated_root);
	if (view->system_volume_hash.len)
		json_put_str(w, "system_volume_hash", view->system_volume_hash);
	json_put_str(w, "se_public_key", view->se_public_key);
	json_put_bool(w, "mdm_verified", view->trust == ROUTE_TRUST_HARDWARE);
	json_put_bool(w, "acme_verified", false);
	json_put_bool(w, "mda_verified", view->mda_verified);
	json_put_str(w, "platform", view->platform);
	json_put_str(w, "key_protection", view->key_protection);
	json_put_str(w, "encryption_public_key", view->encryption_public_key);
	if (view->region.len)
		json_put_str(w, "region", view->region);
	json_put_bool(w, "blind", view->blind);
	if (view->blind)
		json_put_str(w, "attestation", view->attestation);
	json_end_object(w);
}

enum db_err fleet_attestation_json(const struct fleet *fleet, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_key(&w, "providers");
	json_begin_array(&w);
	fleet_each(fleet, write_provider, &w);
	json_end_array(&w);
	json_put_cstr(&w, "apple_root_ca_url", APPLE_ROOT_URL);
	json_put_cstr(&w, "apple_enterprise_root_ca", APPLE_ROOT_CA);
	json_put_cstr(&w, "verification_instructions", HOW_TO_VERIFY);
	json_end_object(&w);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

size_t fleet_owned(const struct fleet *fleet, struct str account, struct str model, size_t *serving)
{
	return route_owned(fleet->routes, account, model, serving);
}
