/* A provider's side of the coordinator's protocol (protocol-and-trust 1, 3, 4, 6, 11; provider-node 12): keeps one session,
 * registers, reports, answers challenges, runs sealed requests on its engines, reconnects, drains.
 *
 * States: connecting -> registered -> (serving <-> idle) -> draining -> stopped. Thread: everything here on the loop's. */
#ifndef PROVIDER_NODE_H
#define PROVIDER_NODE_H

#include "net/loop.h"
#include "provider/node/builds.h"
#include "provider/platform/platform.h"
#include "provider/residency/residency.h"

#define NODE_BACKEND "llama.cpp" /* what our providers report as `backend` */
enum node_state { NODE_CONNECTING, NODE_REGISTERED, NODE_DRAINING, NODE_STOPPED };
const char *node_state_name(enum node_state state);

struct node_status {
	enum node_state state;
	char trust_level[16], trust_status[16], trust_reason[160]; /* as the coordinator last said; empty = not yet */
	char last_error[160];                                      /* why the last connection failed or ended; empty = none */
	int64_t registered_since_us;                               /* wall time, 0 = not registered */
	uint64_t requests_served, tokens_generated, requests_active;
	uint64_t sessions; /* registrations of this process; more than one: it has reconnected */
};

struct node_options {
	const char *coordinator_url; /* ws://, wss://, http:// or https://; the path /ws/provider is added when missing */
	const char *ca_path;         /* NULL = the system's trust store */
	const char *auth_token;      /* account link, or NULL */
	bool private_only;
	const char *region;      /* where the machine stands (wire/region.h), or NULL */
	const char *cache_scope; /* of the prefix cache for every request, instead of each tenant's own; or NULL */
	uint32_t heartbeat_ms;   /* 0 = 5,000 */
	uint32_t ping_ms;        /* 0 = 10,000; three of them without a pong end the session */
	const struct platform_signer *signer;
	struct residency *residency; /* the models; borrowed, must outlive the node's requests */
	/* How builds that the coordinator wants are had: source, folders, add. The node fills in the rest. NULL: only those that
	 * are served already. */
	const struct builds_options *builds;
	/* Something in the status changed (connected, trusted, lost ...); may be NULL. Must not call node_free. */
	void (*on_change)(const struct node_status *status, void *user);
	void *user;
};

struct node;

/* Makes the session keys and the attestation and starts to connect. The attestation is made once and sent on every connection
 * (protocol-and-trust 5.4). Blocks shortly for the posture probes. NULL and a sentence on failure. */
struct node *node_new(struct net_loop *loop, const struct node_options *options, struct error *error);
void node_status(const struct node *node, struct node_status *out);
/* The builds that the coordinator wants here, most urgent first, as builds_list. */
size_t node_builds(const struct node *node, struct build_view *out, size_t max);
/* A request that waits for its engine. Texts are borrowed until the loop turns. */
struct node_queued {
	const char *model, *request_id;
	uint32_t position; /* 1 = the next to run */
	uint64_t waited_ms;
};
#define NODE_QUEUE_MAX (RESIDENCY_MAX_LOADED * ENGINE_MAX_WAITING)
size_t node_queue(const struct node *node, struct node_queued *out, size_t max);
/* The models changed: tells the coordinator soon, not only with the next heartbeat. For residency_on_change. */
void node_models_changed(struct node *node);
/* Refuses new requests, finishes those that run (at most limit_ms, then cancels them), closes the session with 1001, then calls
 * drained once, perhaps before it returns; node_free is not for inside it. An engine that does not obey a cancel is waited for
 * NODE_DRAIN_GRACE_MS at most. A second call replaces the limit. */
#define NODE_DRAIN_GRACE_MS 2000
void node_drain(struct node *node, uint32_t limit_ms, void (*drained)(void *arg), void *arg);
/* Drops the session and cancels what runs; the engines are not touched after it returned. The memory (keys wiped) goes once the
 * loop has run what is still under way, net_loop_free at the latest, so the signer must live until then. */
void node_free(struct node *node);

/* "http://host:1/" or "wss://host/ws/provider/" -> the WebSocket URL, in `out`. DB_E_INVALID with a sentence otherwise. */
enum db_err node_websocket_url(const char *coordinator_url, char *out, size_t size, struct error *error);

#endif
