/* What the files of node/ share. */
#ifndef PROVIDER_NODE_INTERNAL_H
#define PROVIDER_NODE_INTERNAL_H

#include "core/list.h"
#include "core/map.h"
#include "crypto/box.h"
#include "net/ws.h"
#include "provider/node/blind.h"
#include "provider/node/node.h"
#include "provider/node/outbound.h"
#include "wire/message.h"
#include "wire/payload.h"
#include "wire/signer.h"

#define NODE_BACKOFF_MIN_MS 1000
#define NODE_BACKOFF_MAX_MS 30000
#define NODE_PING_MS        10000
#define NODE_SILENCE_PINGS  3 /* intervals without a pong that end the session */
#define NODE_MAX_WORKERS    8
#define NODE_TEXT_SIZE      320

enum told { TOLD_NOTHING, TOLD_COLD, TOLD_LOADED /* ... and what loading it has shown */ };

struct node {
	struct net_loop *loop;
	struct node_options options;
	char url[512];
	char *auth_token; /* wiped copy, or NULL */
	struct tls_context *tls;

	/* identity of this process */
	struct box_keypair *box; /* locked memory */
	char box_public_b64[WIRE_KEY_B64_LEN + 1];
	struct wire_signer signer;
	struct platform_hardware hardware;
	struct platform_posture posture;
	char binary_hash[65];
	struct buf attestation; /* signed, sent as it is on every connection */

	/* session */
	struct ws_connecting *connecting;
	struct ws *ws;
	uint64_t session;      /* counts connections: what a worker made for an older one is dropped */
	bool heard;            /* the coordinator said something on this connection */
	bool blocked;          /* the socket's queue is full: wait for on_drain */
	struct list unsent;    /* struct outbound that belong to no request */
	uint64_t last_pong_us; /* monotonic */
	int64_t last_tick_us;  /* wall time: it goes on while the machine sleeps */
	uint32_t ping_ms;
	uint32_t backoff_ms;
	struct net_timer reconnect_timer, heartbeat_timer, ping_timer, drain_timer, queue_timer;
	bool watches_queue; /* queue_timer runs */
	struct node_status status;
	struct wire_stats stats;
	uint8_t told[RESIDENCY_MAX_MODELS]; /* what the coordinator knows of a model: enum told */
	struct builds *builds;
	struct list loads; /* struct load_command: of load_model, not answered yet */

	/* requests */
	struct map requests;      /* by request id: those the coordinator may still speak of */
	struct replay blind_seen; /* bodies that consumers sealed */
	struct list all;          /* every request whose engine call has not ended */

	bool draining;
	bool gave_up; /* the drain's limit and its grace are over: do not wait for the requests */
	void (*drained)(void *arg);
	void *drained_arg;
	bool freed; /* node_free was called; the last worker or request frees the memory */
	uint32_t workers;
};

/* session.c */
void node_changed(struct node *node);
/* Sends now, or as soon as the socket takes it. DB_E_CLOSED without a session; nothing outlives its session. */
enum db_err node_send(struct node *node, const struct wire_message *message);
/* DB_E_AGAIN when the socket is full: nothing was sent, node_requests_flush follows. */
enum db_err node_send_text(struct node *node, struct str text);
void node_maybe_drained(struct node *node);
void node_release(struct node *node); /* frees the memory once node_free was called and nothing is under way */

/* reports.c */
enum db_err node_make_attestation(struct node *node, struct error *error);
enum db_err node_send_register(struct node *node);
void node_send_heartbeat(struct node *node);

/* lifecycle.c */
void node_load_model(struct node *node, const struct wire_load_model *message);
void node_prefetch_model(struct node *node, const struct wire_prefetch_model *message);
void node_desired_models(struct node *node, const struct wire_desired_models *message);
enum db_err node_builds_start(struct node *node, struct error *error);
void node_loads_forget(struct node *node); /* the session ended: nobody waits for an answer */

/* places.c */
/* The sentence as others may read it: without folders and addresses of this machine's owner. Returns `out`. */
const char *node_public_text(const struct node *node, const char *text, char out[NODE_TEXT_SIZE]);

/* challenge.c */
void node_answer_challenge(struct node *node, const struct wire_challenge *challenge);

/* requests.c */
void node_request_start(struct node *node, const struct wire_request *message);
void node_request_cancel(struct node *node, struct str request_id);
void node_request_credit(struct node *node, struct str request_id, int64_t chunks);
void node_requests_flush(struct node *node);  /* the socket took data again */
void node_requests_orphan(struct node *node); /* the session ended: cancel everything */
void node_requests_cancel_all(struct node *node);

#endif
