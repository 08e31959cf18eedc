#include "swarm/fleet_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/encode.h"
#include "core/id.h"
#include "core/log.h"
#include "wire/attestation.h"
#include "wire/status.h"

#define CONNECT_TICK_MS 10
#define CHURN_TICK_MS   100
#define RECONNECT_MS    1000
#define HEARTBEAT_MS    5000
#define QUEUE_BYTES     (4u << 20)
#define SOURCE_SIZE     32
#define SOURCE_LAST     250 /* of the addresses 127.0.n.1 and so on */

/* --- small things --- */

double swarm_random(struct swarm_fleet *fleet)
{
	/* xorshift64*: the same seed gives the same faults */
	fleet->random ^= fleet->random >> 12;
	fleet->random ^= fleet->random << 25;
	fleet->random ^= fleet->random >> 27;
	return (double)((fleet->random * 0x2545F4914F6CDD1Dull) >> 11) / 9007199254740992.0;
}

struct str swarm_decimal(uint32_t number, char out[24])
{
	char *at = out + 24;
	*--at = ' ';
	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	return (struct str){at, (size_t)(out + 24 - at)};
}

enum db_err swarm_send(struct swarm_provider *provider, struct str message)
{
	if (!provider->ws)
		return DB_E_CLOSED;
	enum db_err err = ws_send(provider->ws, WS_TEXT, message);
	if (err == DB_E_AGAIN)
		provider->blocked = true;
	return err;
}

enum db_err swarm_send_message(struct swarm_provider *provider, const struct wire_message *message)
{
	struct buf *out = &provider->fleet->scratch;
	buf_clear(out);
	enum db_err err = wire_encode(message, out);
	return err ? err : swarm_send(provider, buf_str(out));
}

/* --- registering as a Mac would --- */

static const char *const weight_hash = "abababababababababababababababababababababababababababababababab";

static enum db_err make_attestation(const struct swarm_provider *provider, struct buf *out)
{
	uint8_t xy[P256_PUBLIC_BYTES];
	char public_b64[BASE64_ENCODED_LEN(P256_PUBLIC_BYTES)], serial[32], timestamp[CLOCK_RFC3339_SIZE];
	p256_public(provider->key, xy);
	clock_format_rfc3339(clock_wall_us(), timestamp);
	snprintf(serial, sizeof serial, "SWARM%08u", provider->fleet->options.first_index + provider->index);
	struct attestation_blob blob = {.authenticated_root_enabled = true,
	                                .rdma_disabled = true,
	                                .secure_boot_enabled = true,
	                                .secure_enclave_available = true,
	                                .sip_enabled = true,
	                                .binary_hash = str_of(weight_hash),
	                                .chip_name = STR("Apple M4 Max"),
	                                .encryption_public_key = str_of(provider->box_b64),
	                                .hardware_model = STR("Mac16,6"),
	                                .os_version = STR("15.3.0"),
	                                .public_key = {public_b64, base64_encode(xy, sizeof xy, public_b64)},
	                                .serial_number = str_of(serial),
	                                .timestamp = str_of(timestamp),
	                                .platform = ATTESTATION_MACOS,
	                                .key_protection = ATTESTATION_SOFTWARE}; /* honest: a simulator has no enclave */
	struct wire_signer signer = wire_signer_of(provider->key);
	return attestation_sign(&blob, &signer, out);
}

static void send_register(struct swarm_provider *provider)
{
	struct swarm_fleet *fleet = provider->fleet;
	struct buf attestation;
	buf_init(&attestation, 16 << 10);
	struct wire_model model = {.id = str_of(provider->model),
	                           .size_bytes = 1 << 30,
	                           .model_type = STR("simulated"),
	                           .quantization = STR("4bit"),
	                           .template_render_ok = fleet->options.old_generation ? WIRE_UNKNOWN : WIRE_TRUE};
	struct wire_message message = {
	    .type = WIRE_REGISTER,
	    .as.registration = {.hardware = {.machine_model = STR("Mac16,6"),
	                                     .chip_name = STR("Apple M4 Max"),
	                                     .chip_family = STR("M4"),
	                                     .chip_tier = STR("Max"),
	                                     .memory_gb = 64,
	                                     .memory_available_gb = 41,
	                                     .cpu_total = 16,
	                                     .cpu_performance = 12,
	                                     .cpu_efficiency = 4,
	                                     .gpu_cores = 40,
	                                     .memory_bandwidth_gbs = 546},
	                        .models = {&model, 1},
	                        .backend = fleet->options.old_generation ? STR("inprocess-mlx") : STR("mlx-swift"),
	                        .version = fleet->options.old_generation ? STR("0.4.7") : STR("0.6.17"),
	                        .public_key = str_of(provider->box_b64),
	                        .encrypted_response_chunks = true,
	                        .has_privacy = true,
	                        .privacy = {.text_backend_inprocess = true,
	                                    .text_proxy_disabled = true,
	                                    .sip_enabled = true,
	                                    .anti_debug_enabled = true,
	                                    .core_dumps_disabled = true,
	                                    .env_scrubbed = true},
	                        .flow_credit = fleet->options.credit,
	                        .plain_prompts = !fleet->options.old_generation},
	};
	if (make_attestation(provider, &attestation) == DB_OK)
		message.as.registration.attestation = buf_str(&attestation);
	swarm_send_message(provider, &message);
	buf_free(&attestation);
}

static void send_heartbeat(struct swarm_provider *provider)
{
	struct swarm_fleet *fleet = provider->fleet;
	struct str warm = str_of(provider->model);
	struct wire_slot slot = {.model = warm,
	                         .state = provider->answers.count ? WIRE_SLOT_RUNNING : WIRE_SLOT_IDLE,
	                         .num_running = (int64_t)provider->answers.count,
	                         .max_concurrency = fleet->options.concurrency ? fleet->options.concurrency : 24,
	                         .observed_decode_tps = 60,
	                         .active_token_budget_max = 4000000};
	struct wire_message message = {
	    .type = WIRE_HEARTBEAT,
	    .as.heartbeat = {.status = provider->answers.count ? WIRE_SERVING : WIRE_IDLE,
	                     .active_model = warm,
	                     .stats = {.requests_served = provider->served},
	                     .warm_models = {&warm, 1},
	                     .memory_pressure = 0.3,
	                     .cpu_usage = 0.1,
	                     .thermal_state = WIRE_THERMAL_NOMINAL,
	                     .has_capacity = !fleet->options.old_generation,
	                     .capacity = {.slots = &slot,
	                                  .slot_count = 1,
	                                  .gpu_memory_active_gb = 2,
	                                  .total_memory_gb = 64,
	                                  .has_free_for_load = true,
	                                  .free_for_load_gb = 30}},
	};
	swarm_send_message(provider, &message);
}

static void on_heartbeat(struct net_timer *timer)
{
	send_heartbeat((struct swarm_provider *)(void *)((char *)timer - offsetof(struct swarm_provider, heartbeat)));
}

/* --- challenges --- */

static void answer_challenge(struct swarm_provider *provider, const struct wire_challenge *challenge, struct arena *arena)
{
	struct wire_message message = {.type = WIRE_ATTESTATION_RESPONSE,
	                               .as.attestation_response = {.public_key = str_of(provider->box_b64),
	                                                           .hypervisor_active = WIRE_FALSE,
	                                                           .rdma_disabled = WIRE_TRUE,
	                                                           .sip_enabled = WIRE_TRUE,
	                                                           .secure_boot_enabled = WIRE_TRUE,
	                                                           .binary_hash = str_of(weight_hash)}};
	struct wire_signer signer = wire_signer_of(provider->key);
	if (status_sign(&message.as.attestation_response, challenge, &signer, arena) || swarm_send_message(provider, &message))
		return;
	struct swarm_fleet *fleet = provider->fleet;
	if (!provider->challenged) {
		provider->challenged = true;
		fleet->counts.challenged++;
	}
	if (!fleet->told_ready && fleet->counts.challenged == fleet->options.count && fleet->options.ready) {
		fleet->told_ready = true;
		fleet->options.ready(fleet->options.user);
	}
}

/* --- the session --- */

static void on_message(struct ws *ws, enum ws_kind kind, char *data, size_t len, void *user)
{
	struct swarm_provider *provider = user;
	struct wire_message message;
	struct error why;
	(void)ws;
	(void)kind;
	struct arena *arena = provider->fleet->arena;
	arena_reset(arena);
	if (wire_decode((struct str){data, len}, arena, &message, &why)) {
		log_warn("swarm.bad_message", "bytes=%zu why=\"%s\"", len, why.text);
		return;
	}
	switch (message.type) {
	case WIRE_REQUEST:
		swarm_answer_start(provider, &message.as.request);
		break;
	case WIRE_CANCEL:
		swarm_answer_cancel(provider, message.as.cancel.request_id);
		break;
	case WIRE_CREDIT:
		swarm_answer_credit(provider, message.as.credit.request_id, message.as.credit.chunks);
		break;
	case WIRE_CHALLENGE:
		answer_challenge(provider, &message.as.challenge, arena);
		break;
	default:
		break;
	}
}

static void on_drain(struct ws *ws, void *user)
{
	struct swarm_provider *provider = user;
	(void)ws;
	provider->blocked = false;
	swarm_answers_pump(provider);
}

static void fleet_destroy(struct swarm_fleet *fleet)
{
	arena_free(fleet->arena);
	swarm_frames_free(&fleet->frames);
	buf_free(&fleet->scratch);
	buf_free(&fleet->frame);
	buf_free(&fleet->sealed);
	buf_free(&fleet->text);
	free(fleet->providers);
	free(fleet);
}

/* Once the last session has said that it is closed. */
static void free_when_closed(struct swarm_fleet *fleet)
{
	if (!fleet->freeing || fleet->counts.connected > 0)
		return;
	fleet_destroy(fleet);
}

static void connect_provider(struct swarm_provider *provider);
static void on_reconnect(struct net_timer *timer);

/* Thousands that were lost at once do not come back at once. */
static void connect_later(struct swarm_provider *provider)
{
	struct swarm_fleet *fleet = provider->fleet;
	uint32_t mean_ms = fleet->options.reconnect_ms ? fleet->options.reconnect_ms : RECONNECT_MS;
	net_timer_start(fleet->loop, &provider->reconnect, (uint64_t)(mean_ms * (0.5 + swarm_random(fleet))), 0, on_reconnect);
}

static void on_reconnect(struct net_timer *timer)
{
	connect_provider((struct swarm_provider *)(void *)((char *)timer - offsetof(struct swarm_provider, reconnect)));
}

static void on_close(struct ws *ws, int code, struct str reason, void *user)
{
	struct swarm_provider *provider = user;
	struct swarm_fleet *fleet = provider->fleet;
	(void)ws;
	log_debug("swarm.closed", "provider=%u code=%d reason=%.*s", provider->index, code, STR_ARG(reason));
	provider->ws = NULL;
	provider->blocked = false;
	fleet->counts.connected--;
	fleet->counts.sessions_lost++;
	net_timer_stop(&provider->heartbeat);
	swarm_answers_drop(provider);
	if (!fleet->freeing)
		connect_later(provider);
	free_when_closed(fleet);
}

static const struct ws_handler handler = {.on_message = on_message, .on_drain = on_drain, .on_close = on_close};

static void on_opened(struct ws *ws, const struct error *error, void *user)
{
	struct swarm_provider *provider = user;
	struct swarm_fleet *fleet = provider->fleet;
	provider->connecting = NULL;
	if (!ws) {
		if (!fleet->counts.connected && !fleet->told_unreached)
			log_error("swarm.unreached", "url=%s why=\"%s\" next=\"tried again until it answers\"", fleet->options.url,
			          error->text);
		else
			log_warn("swarm.connect_failed", "why=\"%s\"", error->text);
		fleet->told_unreached = true;
		connect_later(provider);
		return;
	}
	provider->ws = ws;
	fleet->counts.connected++;
	send_register(provider);
	send_heartbeat(provider);
	uint32_t every_ms = fleet->options.heartbeat_ms ? fleet->options.heartbeat_ms : HEARTBEAT_MS;
	/* spread over the interval, as real machines are */
	net_timer_start(fleet->loop, &provider->heartbeat, (uint64_t)(swarm_random(fleet) * every_ms) + 1, every_ms, on_heartbeat);
}

/* An address has ports for some 28,000 connections to one server: many sessions come from 127.0.0.1, 127.0.0.2 and so on. */
static const char *source_of(const struct swarm_provider *provider, char out[SOURCE_SIZE])
{
	const struct swarm_fleet_options *options = &provider->fleet->options;
	uint32_t enough = (options->count + SWARM_ADDRESS_SESSIONS - 1) / SWARM_ADDRESS_SESSIONS;
	uint32_t addresses = options->addresses ? options->addresses : enough, nth = provider->index % addresses;
	const char *host = strstr(options->url, "://");
	if (addresses < 2 || !host || strncmp(host, "://127.", 7) != 0)
		return NULL;
	snprintf(out, SOURCE_SIZE, "127.0.%u.%u", nth / SOURCE_LAST, 1 + nth % SOURCE_LAST);
	return out;
}

static void connect_provider(struct swarm_provider *provider)
{
	struct error error;
	char source[SOURCE_SIZE];
	struct ws_connect_options options = {
	    .url = provider->fleet->options.url,
	    .tls = provider->fleet->options.tls,
	    .source = source_of(provider, source),
	    .limits = {.max_message_bytes = WIRE_MAX_TO_PROVIDER, .max_queued_bytes = QUEUE_BYTES},
	};
	provider->connecting = ws_connect(provider->fleet->loop, &options, &handler, on_opened, provider, &error);
	if (!provider->connecting)
		log_error("swarm.bad_url", "why=\"%s\"", error.text);
}

/* --- the fleet --- */

static bool prepare(struct swarm_fleet *fleet, uint32_t index)
{
	struct swarm_provider *provider = &fleet->providers[index];
	provider->fleet = fleet;
	provider->index = index;
	list_init(&provider->answers);
	if (fleet->options.models > 1)
		snprintf(provider->model, sizeof provider->model, "%s-%u", fleet->options.model, index % fleet->options.models);
	else
		snprintf(provider->model, sizeof provider->model, "%s", fleet->options.model);
	box_keypair_new(&provider->box);
	wire_key_encode(provider->box.public_key, provider->box_b64);
	provider->key = p256_generate();
	return provider->key != NULL;
}

static void on_connect_tick(struct net_timer *timer)
{
	struct swarm_fleet *fleet = (struct swarm_fleet *)(void *)((char *)timer - offsetof(struct swarm_fleet, connect_timer));
	uint32_t rate = fleet->options.connect_rate ? fleet->options.connect_rate : 2000;
	uint32_t batch = rate * CONNECT_TICK_MS / 1000 ? rate * CONNECT_TICK_MS / 1000 : 1;
	for (; batch && fleet->started < fleet->options.count; batch--) {
		if (!prepare(fleet, fleet->started))
			log_error("swarm.out_of_memory", "provider=%u", fleet->started);
		else
			connect_provider(&fleet->providers[fleet->started]);
		fleet->started++;
	}
	if (fleet->started == fleet->options.count)
		net_timer_stop(timer);
}

static void on_churn(struct net_timer *timer)
{
	struct swarm_fleet *fleet = (struct swarm_fleet *)(void *)((char *)timer - offsetof(struct swarm_fleet, churn_timer));
	if (fleet->started < fleet->options.count)
		return;
	for (fleet->churn_due += fleet->options.churn * CHURN_TICK_MS / 1000.0; fleet->churn_due >= 1; fleet->churn_due -= 1) {
		struct swarm_provider *provider = &fleet->providers[(uint32_t)(swarm_random(fleet) * fleet->started)];
		if (provider->ws)
			ws_abort(provider->ws);
	}
}

struct swarm_fleet *swarm_fleet_new(struct net_loop *loop, const struct swarm_fleet_options *options, struct error *error)
{
	struct swarm_fleet *fleet = calloc(1, sizeof *fleet);
	if (!fleet) {
		error_set(error, DB_E_NOMEM, "out of memory");
		return NULL;
	}
	fleet->loop = loop;
	fleet->options = *options;
	fleet->random = options->seed ? options->seed : 0x9E3779B97F4A7C15ull;
	buf_init(&fleet->scratch, WIRE_MAX_TO_PROVIDER);
	buf_init(&fleet->frame, WIRE_MAX_TO_PROVIDER);
	buf_init(&fleet->sealed, WIRE_MAX_TO_PROVIDER);
	buf_init(&fleet->text, 16 << 20);
	for (uint32_t i = 0; i < options->chunk_bytes; i++)
		buf_append_byte(&fleet->text, i % 6 == 5 ? ' ' : (char)('a' + i % 23));
	fleet->arena = arena_new(0);
	fleet->providers = calloc(options->count ? options->count : 1, sizeof *fleet->providers);
	if (swarm_frames_init(&fleet->frames, SWARM_PROMPT_TOKENS, options->chunks, options->old_generation) || !fleet->arena ||
	    !fleet->providers) {
		fleet_destroy(fleet);
		error_set(error, DB_E_NOMEM, "out of memory for %u providers", options->count);
		return NULL;
	}
	net_timer_start(loop, &fleet->connect_timer, 0, CONNECT_TICK_MS, on_connect_tick);
	if (options->churn)
		net_timer_start(loop, &fleet->churn_timer, CHURN_TICK_MS, CHURN_TICK_MS, on_churn);
	return fleet;
}

void swarm_fleet_free(struct swarm_fleet *fleet)
{
	if (!fleet)
		return;
	net_timer_stop(&fleet->connect_timer);
	net_timer_stop(&fleet->churn_timer);
	for (uint32_t i = 0; i < fleet->started; i++) {
		struct swarm_provider *provider = &fleet->providers[i];
		net_timer_stop(&provider->heartbeat);
		net_timer_stop(&provider->reconnect);
		if (provider->connecting)
			ws_connect_cancel(provider->connecting);
		swarm_answers_drop(provider);
		p256_free(provider->key);
	}
	/* The sessions' on_close may come at once or later; the last one frees the fleet. */
	fleet->counts.connected++; /* held while they are told */
	fleet->freeing = true;
	for (uint32_t i = 0; i < fleet->started; i++)
		if (fleet->providers[i].ws)
			ws_abort(fleet->providers[i].ws);
	fleet->counts.connected--;
	free_when_closed(fleet);
}

void swarm_fleet_counts(const struct swarm_fleet *fleet, struct swarm_fleet_counts *out)
{
	*out = fleet->counts;
}

uint64_t swarm_fleet_last_turnaround_us(const struct swarm_fleet *fleet)
{
	return fleet->last_turnaround_us;
}
