/* A node and a coordinator that a test plays, on one loop. Engines run on their own threads, as in a provider. */
#ifndef TESTS_NODE_FIXTURE_H
#define TESTS_NODE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/chat_event.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/log.h"
#include "crypto/secret.h"
#include "net/ws.h"
#include "provider/node/node.h"
#include "wire/attestation.h"
#include "wire/message.h"
#include "wire/payload.h"
#include "wire/response_hash.h"
#include "wire/status.h"

#define WAIT_TICKS   60000 /* of a millisecond */
#define MAX_REQUESTS 256
#define MODEL        "scripted"

/* What came back for one request. */
struct reply {
	char id[64];
	struct box_shared shared;
	int accepted, chunks, completes, errors;
	int64_t places[8]; /* in the engine's queue, as they were told */
	size_t place_count;
	int chunks_at_terminal; /* chunks that had come when the terminal message came */
	struct buf frames;      /* opened chunks, one after the other */
	struct buf content;     /* delta.content of them */
	int64_t status;
	char error[256];
	int64_t prompt_tokens, completion_tokens;
	char response_hash[SHA256_HEX_SIZE], signature[256];
};

struct world {
	struct net_loop *loop;
	struct http_server *http;
	uint16_t port;
	struct ws *ws; /* of the node that is connected, or NULL */
	int connections, closed, close_code;

	struct arena *arena; /* of register and of the last challenge reply */
	int registers, heartbeats, challenge_replies, load_replies, prefetch_refusals, others;
	struct wire_register registration;
	struct wire_attestation_response challenge_reply;
	char load_status[16], load_error[128];
	bool heartbeat_draining;
	struct wire_heartbeat heartbeat;

	struct box_keypair ephemeral;
	uint8_t node_key[BOX_KEY_BYTES];
	struct reply replies[MAX_REQUESTS];
	size_t reply_count;

	struct platform_signer *signer;
	char state_dir[64];
	struct engine *engine;
	struct residency *residency;
	struct node *node;
	uint32_t heartbeat_ms, ping_ms;
	const char *auth_token;
	bool private_only;
	bool queue_notes; /* requests ask for their places */
	int drained;
	atomic_bool load_held; /* loads wait, a quarter done */

	struct net_timer tick;
	int ticks;
	bool (*until)(struct world *world);
};

/* --- running the loop --- */

static void on_tick(struct net_timer *timer)
{
	struct world *world = LIST_OF(timer, struct world, tick);
	if (!world->until(world) && ++world->ticks < WAIT_TICKS)
		return;
	net_timer_stop(timer);
	net_loop_stop(world->loop);
}

static inline void run_until(struct world *world, bool (*until)(struct world *world))
{
	world->until = until;
	world->ticks = 0;
	net_timer_start(world->loop, &world->tick, 0, 1, on_tick);
	net_loop_run(world->loop);
	assert_true(until(world));
}

/* Lets the loop turn for a while; nothing may be concluded from how long it took. */
static bool after_a_while(struct world *world)
{
	return world->ticks >= 60;
}

/* --- the coordinator's side --- */

static struct reply *reply_of(struct world *world, struct str id)
{
	for (size_t i = 0; i < world->reply_count; i++)
		if (str_is(id, world->replies[i].id))
			return &world->replies[i];
	return NULL;
}

static void add_content(struct reply *reply, struct str frame)
{
	struct arena *arena = arena_new(0);
	struct chat_frame read;
	struct str rest, content;
	assert_int_equal(chat_frame_read(frame, arena, &read, &rest), DB_OK);
	struct json_iter choices = json_iter(json_get(read.root, "choices"));
	const json_val *choice = json_next(&choices, NULL);
	if (choice && json_as_str(json_get(json_get(choice, "delta"), "content"), &content))
		buf_append_str(&reply->content, content);
	arena_free(arena);
}

static void take_chunk(struct world *world, const struct wire_chunk *chunk)
{
	struct reply *reply = reply_of(world, chunk->request_id);
	assert_non_null(reply);
	assert_true(chunk->has_encrypted_data);
	assert_int_equal(chunk->data.len, 0);
	assert_true(str_eq(chunk->encrypted_data.sender_key, world->registration.public_key));
	size_t before = reply->frames.len;
	assert_int_equal(wire_payload_open(&reply->shared, chunk->encrypted_data.ciphertext, &reply->frames), DB_OK);
	reply->chunks++;
	add_content(reply, str_sub(buf_str(&reply->frames), before, reply->frames.len - before));
}

static void take_complete(struct world *world, const struct wire_complete *complete)
{
	struct reply *reply = reply_of(world, complete->request_id);
	assert_non_null(reply);
	reply->completes++;
	reply->chunks_at_terminal = reply->chunks;
	reply->prompt_tokens = complete->prompt_tokens;
	reply->completion_tokens = complete->completion_tokens;
	assert_true(str_copy(complete->response_hash, reply->response_hash, sizeof reply->response_hash));
	assert_true(str_copy(complete->se_signature, reply->signature, sizeof reply->signature));
}

static void take_error(struct world *world, const struct wire_error *error)
{
	struct reply *reply = reply_of(world, error->request_id);
	assert_non_null(reply);
	reply->errors++;
	reply->chunks_at_terminal = reply->chunks;
	reply->status = error->status_code;
	assert_true(str_copy(error->error, reply->error, sizeof reply->error));
}

static void take_accepted(struct world *world, const struct wire_accepted *accepted)
{
	struct reply *reply = reply_of(world, accepted->request_id);
	assert_non_null(reply);
	if (!accepted->queue_position) {
		reply->accepted++;
		return;
	}
	assert_int_equal(reply->accepted, 1);
	assert_true(reply->place_count < sizeof reply->places / sizeof *reply->places);
	reply->places[reply->place_count++] = accepted->queue_position;
}

static void server_message(struct ws *ws, enum ws_kind kind, char *data, size_t len, void *user)
{
	struct world *world = user;
	struct wire_message message;
	struct error error;
	(void)ws;
	assert_int_equal(kind, WS_TEXT);
	struct str text = arena_str(world->arena, (struct str){data, len});
	assert_int_equal(wire_decode(text, world->arena, &message, &error), DB_OK);
	switch (message.type) {
	case WIRE_REGISTER:
		world->registers++;
		world->registration = message.as.registration;
		assert_int_equal(wire_key_decode(world->registration.public_key, world->node_key), DB_OK);
		break;
	case WIRE_HEARTBEAT:
		assert_true(world->registers > 0);
		world->heartbeats++;
		world->heartbeat = message.as.heartbeat;
		world->heartbeat_draining = world->heartbeat_draining || message.as.heartbeat.draining;
		break;
	case WIRE_ACCEPTED:
		take_accepted(world, &message.as.accepted);
		break;
	case WIRE_CHUNK:
		take_chunk(world, &message.as.chunk);
		break;
	case WIRE_COMPLETE:
		take_complete(world, &message.as.complete);
		break;
	case WIRE_ERROR:
		take_error(world, &message.as.error);
		break;
	case WIRE_ATTESTATION_RESPONSE:
		world->challenge_replies++;
		world->challenge_reply = message.as.attestation_response;
		break;
	case WIRE_LOAD_MODEL_STATUS:
		world->load_replies++;
		snprintf(world->load_status, sizeof world->load_status, "%s",
		         message.as.load_model_status.status == WIRE_LOAD_SUCCEEDED ? "succeeded" : "failed");
		str_copy(message.as.load_model_status.error, world->load_error, sizeof world->load_error);
		break;
	case WIRE_PREFETCH_MODEL_STATUS:
		world->prefetch_refusals += message.as.prefetch_model_status.status == WIRE_PREFETCH_FAILED;
		break;
	default:
		world->others++;
	}
}

static void server_closed(struct ws *ws, int code, struct str reason, void *user)
{
	struct world *world = user;
	(void)reason;
	if (world->ws == ws)
		world->ws = NULL;
	world->closed++;
	world->close_code = code;
}

static const struct ws_handler server_handler = {.on_message = server_message, .on_close = server_closed};

static void on_request(struct http_request *request, void *context)
{
	struct world *world = context;
	assert_true(str_is(http_path(request), "/ws/provider"));
	struct ws_limits limits = {.max_message_bytes = WIRE_MAX_TO_COORDINATOR};
	world->ws = ws_accept(request, &server_handler, &limits, world);
	assert_non_null(world->ws);
	world->connections++;
}

static void listen_on(struct world *world, uint16_t port)
{
	struct error error;
	struct http_server_options options = {.host = "127.0.0.1", .port = port, .context = world, .on_request = on_request};
	world->http = http_server_new(world->loop, &options, &error);
	assert_non_null(world->http);
	world->port = http_server_port(world->http);
}

/* As a coordinator that is killed: the port closes and so does every session. */
static inline void stop_listening(struct world *world)
{
	http_server_free(world->http);
	world->http = NULL;
	if (world->ws)
		ws_abort(world->ws);
}

static inline void send_message(struct world *world, const struct wire_message *message)
{
	struct buf out;
	buf_init(&out, WIRE_MAX_TO_PROVIDER);
	assert_int_equal(wire_encode(message, &out), DB_OK);
	assert_int_equal(ws_send(world->ws, WS_TEXT, buf_str(&out)), DB_OK);
	buf_free(&out);
}

static inline void send_cancel(struct world *world, const char *id)
{
	struct wire_message message = {.type = WIRE_CANCEL, .as.cancel = {str_of(id)}};
	send_message(world, &message);
}

static inline void send_credit(struct world *world, const char *id, int64_t chunks)
{
	struct wire_message message = {.type = WIRE_CREDIT, .as.credit = {str_of(id), chunks}};
	send_message(world, &message);
}

/* --- sealed requests --- */

static inline struct reply *expect_reply(struct world *world, const char *id)
{
	assert_true(world->reply_count < MAX_REQUESTS);
	struct reply *reply = &world->replies[world->reply_count++];
	*reply = (struct reply){.status = -1};
	snprintf(reply->id, sizeof reply->id, "%s", id);
	buf_init(&reply->frames, 256u << 20);
	buf_init(&reply->content, 256u << 20);
	assert_int_equal(box_shared_derive(&reply->shared, world->node_key, world->ephemeral.secret_key), DB_OK);
	return reply;
}

/* Seals `body` and sends it; credit < 0 = none agreed. */
static inline void send_request(struct world *world, const char *id, const char *body, int64_t credit)
{
	char key[WIRE_KEY_B64_LEN + 1];
	struct reply *reply = reply_of(world, str_of(id));
	struct wire_request request = {.request_id = str_of(id),
	                               .has_credit = credit >= 0,
	                               .credit = credit < 0 ? 0 : credit,
	                               .queue_notes = world->queue_notes};
	struct buf out;
	buf_init(&out, WIRE_MAX_TO_PROVIDER);
	wire_key_encode(world->ephemeral.public_key, key);
	assert_int_equal(wire_seal_request(&reply->shared, &request, str_of(key), str_of(body), &out), DB_OK);
	assert_int_equal(ws_send(world->ws, WS_TEXT, buf_str(&out)), DB_OK);
	buf_free(&out);
}

#define BODY "{\"model\":\"" MODEL "\",\"messages\":[{\"role\":\"user\",\"content\":\"good morning there\"}],\"stream\":true}"

static inline struct reply *ask_with_credit(struct world *world, const char *id, int64_t credit)
{
	struct reply *reply = expect_reply(world, id);
	send_request(world, id, BODY, credit);
	return reply;
}

static inline struct reply *ask(struct world *world, const char *id)
{
	return ask_with_credit(world, id, -1);
}

/* --- life --- */

static bool is_registered(struct world *world)
{
	struct node_status status;
	node_status(world->node, &status);
	return world->ws && status.state == NODE_REGISTERED && world->registers == world->connections && world->heartbeats > 0;
}

static void start_node(struct world *world, const char *url)
{
	struct error error;
	struct node_options options = {.coordinator_url = url,
	                               .heartbeat_ms = world->heartbeat_ms,
	                               .ping_ms = world->ping_ms,
	                               .auth_token = world->auth_token,
	                               .private_only = world->private_only,
	                               .signer = world->signer,
	                               .residency = world->residency};
	world->node = node_new(world->loop, &options, &error);
	assert_non_null(world->node);
}

static void plenty_of_memory(struct memory_now *out, void *context)
{
	(void)context;
	*out = (struct memory_now){.physical_gb = 64, .available_gb = 60};
}

static struct engine *load_when_let(const struct residency_model *model, void (*progress)(float fraction, void *user),
                                    void *user, void *context, struct error *error)
{
	struct world *world = context;
	(void)model;
	progress(0.25f, user);
	while (atomic_load(&world->load_held))
		usleep(1000);
	return engine_scripted_new(&(struct engine_script){.text = "word"}, error);
}

static void world_prepare(struct world *world, const struct engine_script *script)
{
	struct error error;
	*world = (struct world){.arena = arena_new(0)};
	log_set_level(LOG_ERROR);
	assert_int_equal(crypto_init(), DB_OK);
	snprintf(world->state_dir, sizeof world->state_dir, "/tmp/node-test-XXXXXX");
	assert_non_null(mkdtemp(world->state_dir));
	world->signer = platform_signer_open(world->state_dir, &error);
	assert_non_null(world->signer);
	world->loop = net_loop_new(&error);
	assert_non_null(world->loop);
	world->engine = engine_scripted_new(script, &error);
	assert_non_null(world->engine);
	struct residency_model model = {.id = MODEL, .model_type = "scripted", .size_bytes = 123456};
	snprintf(model.weight_hash, sizeof model.weight_hash, "%064d", 7);
	struct residency_options plenty = {
	    .policy = memory_policy_of(64, 0), .memory = plenty_of_memory, .load = load_when_let, .context = world};
	world->residency = residency_new(world->loop, &plenty);
	assert_int_equal(residency_add(world->residency, &model, world->engine), DB_OK);
	box_keypair_new(&world->ephemeral);
	listen_on(world, 0);
}

/* A registered node on an engine that follows the script. */
static inline void world_open(struct world *world, const struct engine_script *script)
{
	char url[64];
	world_prepare(world, script);
	snprintf(url, sizeof url, "http://127.0.0.1:%u/", world->port);
	start_node(world, url);
	run_until(world, is_registered);
}

static inline void world_close(struct world *world)
{
	char path[96];
	node_free(world->node);
	if (world->http)
		stop_listening(world);
	residency_free(world->residency);
	net_loop_free(world->loop);
	platform_signer_free(world->signer);
	for (size_t i = 0; i < world->reply_count; i++) {
		buf_free(&world->replies[i].frames);
		buf_free(&world->replies[i].content);
	}
	arena_free(world->arena);
	snprintf(path, sizeof path, "%s/signing_key", world->state_dir);
	unlink(path);
	rmdir(world->state_dir);
}

static inline uint64_t tokens_done(struct world *world)
{
	struct engine_capacity capacity;
	engine_capacity(world->engine, &capacity);
	return capacity.tokens_done;
}

static inline struct node_status status_of(struct world *world)
{
	struct node_status status;
	node_status(world->node, &status);
	return status;
}

static inline bool nothing_runs(struct world *world)
{
	return status_of(world).requests_active == 0;
}

#endif
