/* A real fleet behind a real server on loopback, and providers that speak the real wire to it, all on one loop. */
#ifndef FLEET_FIXTURE_H
#define FLEET_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/fleet/fleet.h"
#include "core/clock.h"
#include "core/encode.h"
#include "core/log.h"
#include "crypto/secret.h"
#include "net/ws.h"
#include "wire/attestation.h"
#include "wire/message.h"
#include "wire/payload.h"
#include "wire/status.h"

#define MODEL "acme/tiny-4bit"

struct scene {
	struct net_loop *loop;
	struct http_server *server;
	struct metrics *metrics;
	struct fleet *fleet;
	struct fleet_options options;
	struct net_timer ticker;
	bool (*until)(void *arg);
	void *arg;
	int ticks_left;
};

/* --- the loop --- */

static inline void scene_tick(struct net_timer *timer)
{
	struct scene *s = LIST_OF(timer, struct scene, ticker);
	if (s->until(s->arg) || --s->ticks_left <= 0)
		net_loop_stop(s->loop);
}

/* Runs until the condition holds; false after 10 s without it. */
static inline bool run_until(struct scene *s, bool (*until)(void *arg), void *arg)
{
	s->until = until;
	s->arg = arg;
	s->ticks_left = 10000;
	net_timer_start(s->loop, &s->ticker, 1, 1, scene_tick);
	net_loop_run(s->loop);
	net_timer_stop(&s->ticker);
	return until(arg);
}

static inline bool never(void *arg)
{
	return --*(int *)arg < 0;
}

/* Lets things happen that must not be noticed. */
static inline void run_for_ms(struct scene *s, int ms)
{
	(void)run_until(s, never, &ms);
}

/* --- the coordinator --- */

static inline int64_t scene_head(struct http_request *request, void *context)
{
	(void)request;
	(void)context;
	return 0;
}

static inline void scene_request(struct http_request *request, void *context)
{
	fleet_accept(((struct scene *)context)->fleet, request);
}

static inline void scene_begin(struct scene *s, struct accounts *accounts)
{
	struct error error;
	s->metrics = metrics_new();
	struct http_server_options options = {
	    .host = "127.0.0.1", .context = s, .on_head = scene_head, .on_request = scene_request};
	if (!s->loop)
		s->loop = net_loop_new(&error);
	assert_non_null(s->loop);
	s->server = http_server_new(s->loop, &options, &error);
	assert_non_null(s->server);
	s->fleet = fleet_new(s->loop, accounts, s->metrics, &s->options);
	assert_non_null(s->fleet);
}

static inline void scene_end(struct scene *s)
{
	fleet_free(s->fleet);
	run_for_ms(s, 5);
	http_server_free(s->server);
	net_loop_free(s->loop);
	metrics_free(s->metrics);
}

/* --- a provider --- */

enum answer { ANSWER_WELL, ANSWER_SILENCE, ANSWER_FORGED, ANSWER_SIP_OFF };

struct peer {
	struct scene *scene;
	struct ws *ws;
	bool closed;
	int close_code;
	struct box_keypair key;
	char key_b64[WIRE_KEY_B64_LEN + 1];
	struct p256_key *signer;
	char signer_b64[BASE64_ENCODED_LEN(P256_PUBLIC_BYTES) + 1];
	enum answer answer;
	/* what it heard */
	int challenges, requests, cancels, credits, statuses, desired, loads;
	int64_t granted, credit;
	enum wire_trust trust;
	char status[32], order[64]; /* first letters of the types, in order */
	char request_id[64], cancelled_id[64], cache_tenant[80];
	char desired_build[64], desired_hash[80]; /* of the first entry of the last list */
	struct box_shared shared;                 /* of the last request */
	char body[512];                           /* empty when it is longer */
	size_t body_len;
};

struct peer_options {
	const char *backend, *version, *serial, *token;
	bool unattested, software_key, altered, no_privacy, no_encrypted_chunks, short_key, flow_credit;
	int missing_capability; /* 1..5 */
	int gpu_cores;
	const char *model;
};

static inline void peer_send(struct peer *p, const struct wire_message *message)
{
	struct buf out;
	buf_init(&out, 1 << 20);
	assert_int_equal(wire_encode(message, &out), DB_OK);
	assert_int_equal(ws_send(p->ws, WS_TEXT, buf_str(&out)), DB_OK);
	buf_free(&out);
}

static inline void peer_send_text(struct peer *p, const char *text)
{
	assert_int_equal(ws_send(p->ws, WS_TEXT, str_of(text)), DB_OK);
}

static inline void peer_answer(struct peer *p, const struct wire_challenge *challenge)
{
	struct arena *arena = arena_new(0);
	struct p256_key *other = p256_generate();
	struct wire_signer signer = wire_signer_of(p->answer == ANSWER_FORGED ? other : p->signer);
	struct wire_message message = {.type = WIRE_ATTESTATION_RESPONSE};
	struct wire_attestation_response *reply = &message.as.attestation_response;
	reply->public_key = str_of(p->key_b64);
	reply->sip_enabled = wire_tri_of(p->answer != ANSWER_SIP_OFF);
	reply->secure_boot_enabled = WIRE_TRUE;
	reply->rdma_disabled = WIRE_TRUE;
	assert_int_equal(status_sign(reply, challenge, &signer, arena), DB_OK);
	peer_send(p, &message);
	p256_free(other);
	arena_free(arena);
}

static inline void peer_take_request(struct peer *p, const struct wire_request *request)
{
	uint8_t sender[BOX_KEY_BYTES];
	struct buf plain;
	p->requests++;
	p->credit = request->has_credit ? request->credit : -1;
	assert_true(str_copy(request->request_id, p->request_id, sizeof p->request_id));
	assert_int_equal(wire_key_decode(request->encrypted_body.sender_key, sender), DB_OK);
	assert_int_equal(box_shared_derive(&p->shared, sender, p->key.secret_key), DB_OK);
	buf_init(&plain, 1 << 20);
	assert_int_equal(wire_payload_open(&p->shared, request->encrypted_body.ciphertext, &plain), DB_OK);
	(void)str_copy(buf_str(&plain), p->body, sizeof p->body);
	p->body_len = plain.len;
	buf_free(&plain);
}

static inline void peer_message(struct ws *ws, enum ws_kind kind, char *data, size_t len, void *user)
{
	struct peer *p = user;
	struct arena *arena = arena_new(0);
	struct wire_message message;
	struct error error;
	(void)ws;
	assert_int_equal(kind, WS_TEXT);
	assert_int_equal(wire_decode((struct str){data, len}, arena, &message, &error), DB_OK);
	size_t heard = strlen(p->order);
	if (heard + 1 < sizeof p->order)
		p->order[heard] = wire_type_name(message.type)[0];
	switch (message.type) {
	case WIRE_CHALLENGE:
		p->challenges++;
		if (p->answer != ANSWER_SILENCE)
			peer_answer(p, &message.as.challenge);
		break;
	case WIRE_TRUST_STATUS:
		p->statuses++;
		p->trust = message.as.trust_status.trust_level;
		(void)str_copy(message.as.trust_status.status, p->status, sizeof p->status);
		break;
	case WIRE_DESIRED_MODELS:
		p->desired++;
		p->desired_build[0] = p->desired_hash[0] = '\0';
		if (message.as.desired_models.count) {
			(void)str_copy(message.as.desired_models.models[0].desired_build, p->desired_build, sizeof p->desired_build);
			(void)str_copy(message.as.desired_models.models[0].weight_hash, p->desired_hash, sizeof p->desired_hash);
		}
		break;
	case WIRE_REQUEST:
		assert_true(str_copy(message.as.request.cache_tenant, p->cache_tenant, sizeof p->cache_tenant));
		peer_take_request(p, &message.as.request);
		break;
	case WIRE_CANCEL:
		p->cancels++;
		assert_true(str_copy(message.as.cancel.request_id, p->cancelled_id, sizeof p->cancelled_id));
		break;
	case WIRE_LOAD_MODEL:
		p->loads++;
		break;
	case WIRE_CREDIT:
		p->credits++;
		p->granted += message.as.credit.chunks;
		break;
	default:
		fail_msg("unexpected %s", wire_type_name(message.type));
	}
	arena_free(arena);
}

static inline void peer_closed(struct ws *ws, int code, struct str reason, void *user)
{
	struct peer *p = user;
	(void)ws;
	(void)reason;
	p->closed = true;
	p->close_code = code;
	p->ws = NULL;
}

static const struct ws_handler peer_handler = {.on_message = peer_message, .on_close = peer_closed};

static inline void peer_opened(struct ws *ws, const struct error *error, void *user)
{
	struct peer *p = user;
	if (!ws)
		fail_msg("%s", error->text);
	p->ws = ws;
}

static inline bool peer_is_open(void *arg)
{
	return ((struct peer *)arg)->ws != NULL;
}

static inline void peer_connect(struct peer *p, struct scene *s)
{
	char url[64];
	uint8_t xy[P256_PUBLIC_BYTES];
	struct error error;
	*p = (struct peer){.scene = s};
	box_keypair_new(&p->key);
	wire_key_encode(p->key.public_key, p->key_b64);
	p->signer = p256_generate();
	p256_public(p->signer, xy);
	base64_encode(xy, sizeof xy, p->signer_b64);
	snprintf(url, sizeof url, "ws://127.0.0.1:%u/ws/provider", http_server_port(s->server));
	struct ws_connect_options options = {.url = url};
	assert_non_null(ws_connect(s->loop, &options, &peer_handler, peer_opened, p, &error));
	assert_true(run_until(s, peer_is_open, p));
}

static inline void peer_register(struct peer *p, struct peer_options o)
{
	struct wire_signer signer = wire_signer_of(p->signer);
	struct buf attestation;
	const char *key = o.short_key ? "AAAA" : p->key_b64;
	struct attestation_blob blob = {
	    .authenticated_root_enabled = true,
	    .secure_boot_enabled = true,
	    .secure_enclave_available = true,
	    .sip_enabled = true,
	    .rdma_disabled = true,
	    .chip_name = STR("Apple M4 Max"),
	    .encryption_public_key = str_of(key),
	    .hardware_model = STR("Mac16,6"),
	    .os_version = STR("15.3.0"),
	    .public_key = str_of(p->signer_b64),
	    .serial_number = str_of(o.serial),
	    .timestamp = STR("2026-01-02T03:04:05Z"),
	    .key_protection = o.software_key ? ATTESTATION_SOFTWARE : ATTESTATION_UNSAID_PROTECTION,
	    .platform = o.software_key ? ATTESTATION_LINUX : ATTESTATION_UNSAID_PLATFORM,
	};
	buf_init(&attestation, 1 << 16);
	assert_int_equal(attestation_sign(&blob, &signer, &attestation), DB_OK);
	if (o.altered)
		((char *)memmem(attestation.at, attestation.len, "M4 Max", 6))[1] = '3';
	struct wire_model models[] = {
	    {.id = str_of(o.model ? o.model : MODEL), .size_bytes = 2000000000, .template_render_ok = WIRE_TRUE}};
	struct wire_message message = {
	    .type = WIRE_REGISTER,
	    .as.registration =
	        {
	            .hardware = {.machine_model = STR("Mac16,6"),
	                         .chip_name = STR("Apple M4 Max"),
	                         .chip_family = STR("M4"),
	                         .chip_tier = STR("Max"),
	                         .memory_gb = 64,
	                         .gpu_cores = o.gpu_cores ? o.gpu_cores : 40,
	                         .memory_bandwidth_gbs = 546},
	            .models = {models, 1},
	            .backend = str_of(o.backend ? o.backend : "mlx-swift"),
	            .version = str_of(o.version ? o.version : "0.6.17"),
	            .public_key = str_of(key),
	            .encrypted_response_chunks = !o.no_encrypted_chunks,
	            .attestation = o.unattested ? STR_NONE : buf_str(&attestation),
	            .auth_token = str_of(o.token),
	            .has_privacy = !o.no_privacy,
	            .privacy = {.text_backend_inprocess = o.missing_capability != 1,
	                        .text_proxy_disabled = o.missing_capability != 2,
	                        .anti_debug_enabled = o.missing_capability != 3,
	                        .core_dumps_disabled = o.missing_capability != 4,
	                        .env_scrubbed = o.missing_capability != 5},
	            .flow_credit = o.flow_credit,
	        },
	};
	peer_send(p, &message);
	buf_free(&attestation);
}

static inline void peer_beat(struct peer *p, int64_t running, int64_t max_concurrency)
{
	struct wire_slot slot = {
	    .model = STR(MODEL), .state = WIRE_SLOT_IDLE, .num_running = running, .max_concurrency = max_concurrency};
	struct wire_message message = {
	    .type = WIRE_HEARTBEAT,
	    .as.heartbeat = {.status = WIRE_IDLE,
	                     .thermal_state = WIRE_THERMAL_NOMINAL,
	                     .has_capacity = true,
	                     .capacity = {.slots = &slot, .slot_count = 1, .total_memory_gb = 64}},
	};
	peer_send(p, &message);
}

static inline void peer_end(struct peer *p)
{
	if (p->ws) {
		ws_set_user(p->ws, p);
		ws_abort(p->ws);
		run_for_ms(p->scene, 3);
	}
	p256_free(p->signer);
	secret_wipe(&p->key, sizeof p->key);
}

/* --- conditions --- */

static inline uint32_t routable(const struct scene *s)
{
	struct route_model_view view[4];
	return fleet_models(s->fleet, view, 4) ? view[0].routable : 0;
}

static inline bool one_routable(void *arg)
{
	return routable(arg) == 1;
}

static inline bool two_routable(void *arg)
{
	return routable(arg) == 2;
}

static inline bool is_closed(void *arg)
{
	return ((struct peer *)arg)->closed;
}

static inline bool has_request(void *arg)
{
	return ((struct peer *)arg)->requests > 0;
}

/* Connects and registers a provider and waits until it is routable. */
static inline void peer_join(struct peer *p, struct scene *s, struct peer_options o)
{
	uint32_t before = routable(s);
	peer_connect(p, s);
	peer_register(p, o);
	assert_true(run_until(s, before ? two_routable : one_routable, s));
}

/* --- a consumer --- */

struct consumer {
	struct fleet_job *job;
	int accepted, chunks, completed, failed;
	char text[512];
	struct fleet_job_end end; /* its texts are not kept */
	char error[128];
	struct route_node *node;
	struct route_decision decision;
	struct str body; /* empty = a short one */
	const char *account;
};

static inline void consumer_accepted(struct fleet_job *job, bool loading, uint32_t queue_position, void *user)
{
	(void)queue_position;
	(void)job;
	(void)loading;
	((struct consumer *)user)->accepted++;
}

static inline void consumer_chunk(struct fleet_job *job, struct str chunk, void *user)
{
	struct consumer *c = user;
	(void)job;
	c->chunks++;
	strncat(c->text, chunk.at, chunk.len < sizeof c->text - strlen(c->text) ? chunk.len : 0);
}

static inline void consumer_end(struct consumer *c, const struct fleet_job_end *end)
{
	c->end = *end;
	(void)str_copy(end->text, c->error, sizeof c->error);
	c->job = NULL;
}

static inline void consumer_complete(struct fleet_job *job, const struct fleet_job_end *end, void *user)
{
	(void)job;
	((struct consumer *)user)->completed++;
	consumer_end(user, end);
}

static inline void consumer_error(struct fleet_job *job, const struct fleet_job_end *end, void *user)
{
	(void)job;
	((struct consumer *)user)->failed++;
	consumer_end(user, end);
}

static inline enum db_err consumer_start(struct consumer *c, struct scene *s)
{
	static const struct fleet_job_callbacks callbacks = {consumer_accepted, consumer_chunk, consumer_complete, consumer_error};
	struct fleet_job_request request = {
	    .route = {.model = STR(MODEL), .prompt_tokens = 10, .max_tokens = 100, .expected_tokens = 50},
	    .request_id = STR("req-1"),
	    .account = str_of(c->account),
	    .body = c->body.len ? c->body : STR("{\"model\":\"" MODEL "\",\"messages\":[]}"),
	    .stream = true,
	};
	enum db_err err = fleet_job_start(s->fleet, &request, &callbacks, c, &c->job, &c->decision);
	if (!err)
		c->node = c->decision.node;
	return err;
}

/* The consumer's request reaches the peer. */
static inline void consumer_reach(struct consumer *c, struct peer *p)
{
	p->requests = 0;
	assert_int_equal(consumer_start(c, p->scene), DB_OK);
	assert_true(run_until(p->scene, has_request, p));
}

static inline bool has_ended(void *arg)
{
	const struct consumer *c = arg;
	return c->completed + c->failed > 0;
}

static inline bool has_chunk(void *arg)
{
	return ((struct consumer *)arg)->chunks > 0;
}

static inline void peer_chunk(struct peer *p, const char *request_id, const char *text)
{
	struct buf out;
	buf_init(&out, 1 << 16);
	assert_int_equal(wire_seal_chunk(&p->shared, str_of(request_id), str_of(p->key_b64), str_of(text), &out), DB_OK);
	assert_int_equal(ws_send(p->ws, WS_TEXT, buf_str(&out)), DB_OK);
	buf_free(&out);
}

static inline void peer_complete(struct peer *p, const char *request_id)
{
	struct wire_message message = {
	    .type = WIRE_COMPLETE,
	    .as.complete = {.request_id = str_of(request_id),
	                    .prompt_tokens = 7,
	                    .completion_tokens = 2,
	                    .se_signature = STR("c2ln"),
	                    .response_hash = STR("abcd")},
	};
	peer_send(p, &message);
}

static inline void peer_error(struct peer *p, const char *request_id, int status, const char *text)
{
	struct wire_message message = {
	    .type = WIRE_ERROR,
	    .as.error = {.request_id = str_of(request_id), .error = str_of(text), .status_code = status},
	};
	peer_send(p, &message);
}

#endif
