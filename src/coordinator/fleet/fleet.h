/* The connected providers: their WebSocket sessions, registration, heartbeats, challenges, and the requests they run.
 *
 * A job is one dispatch attempt: the sealed request on its way to one provider and the sealed answer on its way back. The
 * gateway starts jobs and hears about them through callbacks; retries, money and dialects are the gateway's business.
 * Thread: the loop's. */
#ifndef COORDINATOR_FLEET_H
#define COORDINATOR_FLEET_H

#include "api/chat_event.h"
#include "coordinator/accounts/accounts.h"
#include "coordinator/observe/metrics.h"
#include "coordinator/routing/alias.h"
#include "coordinator/routing/planner.h"
#include "coordinator/routing/queue.h"
#include "coordinator/routing/routing.h"
#include "core/buf.h"
#include "net/http_server.h"
#include "net/loop.h"

struct fleet;
struct fleet_job;

#define FLEET_TENANT_KEY_BYTES 32

struct fleet_provider_view;

struct fleet_options {
	enum route_trust min_trust;
	const char *const *backends; /* accepted `backend` values (protocol-and-trust 16) */
	size_t backend_count;
	struct str min_version;                               /* provider version floor, empty = none */
	uint32_t challenge_interval_ms, challenge_timeout_ms; /* 0 = 300,000 and 30,000 */
	uint32_t heartbeat_timeout_ms;                        /* 0 = 90,000 */
	uint32_t max_providers;                               /* 0 = 100,000 */
	/* Makes tenants' names for providers' caches; all 0: one for this process. Keep it, and caches survive a restart. */
	uint8_t tenant_key[FLEET_TENANT_KEY_BYTES];
	struct planner_options planner; /* the warm pool's (routing 12) */
	uint32_t warm_interval_ms;      /* 0 = 10,000 */
	const char *const *shares;      /* of accounts: routing/share.h; borrowed for good */
	size_t share_count;
	const char *const *dedicated; /* as in struct route_policy; borrowed for good */
	size_t dedicated_count;
	bool warm_off;                                        /* no model is loaded by command */
	void (*on_alias_moved)(struct str alias, void *user); /* a canary grew or was rolled back; may be NULL */
	void *alias_user;
	/* A machine of an account came, or is about to go: what is to be remembered of it. Borrowed; may be NULL. */
	void (*on_machine)(const struct fleet_provider_view *view, void *user);
	void *machine_user;
	uint32_t relay_buffer_bytes; /* unread answer kept for one request before an honest abort, 0 = 4 MiB */
};
struct fleet *fleet_new(struct net_loop *loop, struct accounts *accounts, struct metrics *metrics,
                        const struct fleet_options *options);
void fleet_free(struct fleet *fleet);
/* For what outlives the process (routing/memory.h). */
struct route_fleet *fleet_routes(const struct fleet *fleet);
/* For whoever remembers nodes of ended jobs, which none but their address tells apart: called just before one is freed, after
 * its jobs have failed. One at a time; NULL ends it. */
void fleet_on_node_gone(struct fleet *fleet, void (*fn)(const struct route_node *node, void *user), void *user);

/* Route handler of GET /ws/provider. */
void fleet_accept(struct fleet *fleet, struct http_request *request);

struct fleet_provider_view {
	struct str id, chip_name, chip_family, machine_model, serial, se_public_key, encryption_public_key, account, backend,
	    version, platform, key_protection;
	struct str region; /* as its owner said, "US-CA"; empty = not said */
	enum route_trust trust;
	const char *status; /* "online", "serving", "untrusted" */
	bool private_only, attested, encrypted, secure_enclave, sip, secure_boot, authenticated_root, mda_verified;
	double memory_gb, bandwidth_gbs, decode_tps; /* 0 = not registered */
	struct reputation reputation;                /* for people (routing 14) */
	struct str attestation;                      /* signed, as it came; kept of blind providers only */
	bool blind;                                  /* opens bodies that a consumer sealed to it */
	int64_t gpu_cores;
	struct str system_volume_hash, os_version, python_hash, runtime_hash;
	const struct str *models; /* from fleet_each; NULL from fleet_job_provider */
	size_t model_count;
	const struct fleet_live *live; /* opaque: for fleet_view_live and fleet_view_slot */
};

/* What changes while a provider is connected. */
struct fleet_live_view {
	int64_t heartbeat_us, challenge_us; /* wall clock; 0 = none yet */
	uint32_t failed_challenges, pending;
	bool runtime_verified, has_capacity;
	double memory_pressure, cpu_usage;                       /* 0..1 */
	int thermal;                                             /* 0 nominal .. 3 critical */
	double prefill_tps;                                      /* registered; 0 = not said */
	double gpu_active_gb, total_memory_gb, free_for_load_gb; /* with has_capacity; free below 0 = not said */
};

/* A body that a consumer sealed to one provider (docs/reference/blind-mode.md): base64 as it came. */
struct fleet_blind_request {
	struct str provider_id;
	struct str sender_key, ciphertext;
	int64_t max_prompt_tokens, max_tokens;
};

/* Names of a prompt and of what it begins with, the longest first (docs/reference/prefix-names.md). */
#define FLEET_PREFIXES 8
struct fleet_prefixes {
	struct route_prefix at[FLEET_PREFIXES];
	size_t count;
};
struct chat_request;
/* For route_request.prefixes. None for prompts that are no conversation, and for pictures. */
void fleet_name_prefixes(const struct fleet *fleet, const struct chat_request *request, struct str account,
                         struct fleet_prefixes *out);

struct fleet_job_request {
	struct route_request route;
	struct str request_id; /* client request, for logs */
	struct str job_id;     /* UUID for the wire, never used before; empty = a fresh one */
	struct str account;    /* who asks; providers learn a keyed hash of it, each another one. Empty: nothing */
	struct str body;       /* plain JSON to seal: chat_request_forward's output for the chosen provider */
	bool stream;
	bool notes; /* ask for notes of api/chat_resume.h before its frames, where the provider knows them */
	/* Asked, with the user of the callbacks, before the request is sent to the provider that was chosen; false: DB_E_AGAIN, and
	 * nothing happened. May be NULL. */
	bool (*approves)(const struct route_decision *decision, void *user);
	const struct fleet_blind_request
	    *blind; /* instead of `body`: chunks come to on_chunk as base64 that nobody here can open */
};

/* What befell a job, told after which the job must not be used (for complete and error). */
struct fleet_job_end {
	struct chat_usage usage;
	struct str se_signature, response_hash;
	struct str usage_signature, transcript; /* of a blind job: good, and over what on_chunk was given */
	struct str consumer_key;                /* the key that the blind job was sealed with, which is signed, too */
	uint64_t parked_chunks;                 /* that came, and were dropped, after fleet_job_park */
	int status;                             /* of an error: the provider's, or 502 socket lost, 504 timeout */
	struct str text, reason;
	bool provider_fault;        /* blames the provider (routing 11.2) */
	enum route_outcome outcome; /* of an error: what the provider's breakers were told */
	bool capacity;              /* busy or too big, not broken */
	bool deterministic;         /* no other provider could do better (context length) */
};

struct fleet_job_callbacks {
	/* loading: the model comes from disk first. queue_position: its place among those that wait for the provider's engine, 1 =
	 * the next; 0 = not said. Called again when its place has changed. */
	void (*on_accepted)(struct fleet_job *job, bool loading, uint32_t queue_position, void *user);
	/* An opened chunk, plain text, borrowed (and wiped) when it returns. */
	void (*on_chunk)(struct fleet_job *job, struct str chunk, void *user);
	void (*on_complete)(struct fleet_job *job, const struct fleet_job_end *end, void *user);
	void (*on_error)(struct fleet_job *job, const struct fleet_job_end *end, void *user);
};

/* Selects a provider, reserves on it, seals and sends. DB_OK and *job; otherwise what route_select said, with the decision, and
 * no callback is made. No callback is made before it returns. */
enum db_err fleet_job_start(struct fleet *fleet, const struct fleet_job_request *request,
                            const struct fleet_job_callbacks *callbacks, void *user, struct fleet_job **job,
                            struct route_decision *decision);
const char *fleet_job_id(const struct fleet_job *job); /* UUID, the request_id on the wire */
/* The provider that runs it; strings are borrowed while the job lives. */
void fleet_job_provider(const struct fleet_job *job, struct fleet_provider_view *out);
/* The same of one that was chosen (fleet_job_request.approves). */
void fleet_node_provider(const struct route_node *node, struct fleet_provider_view *out);
struct route_node *fleet_job_node(const struct fleet_job *job);
/* Microseconds that choosing the provider and sealing for it took (http-api 2.10 "X-Timing"). */
void fleet_job_timing(const struct fleet_job *job, uint64_t *route_us, uint64_t *encrypt_us);
/* Back-pressure. The consumer took `chunks` more: providers that understand credit are granted them (in batches). */
void fleet_job_consumed(struct fleet_job *job, uint32_t chunks);
bool fleet_job_has_credit(const struct fleet_job *job); /* false: the caller must bound what it buffers itself */
void fleet_job_first_content(struct fleet_job *job);    /* as route_first_content */
/* The loop's time when the job's provider last sent a chunk to anybody; 0 = never. */
uint64_t fleet_job_progress_us(const struct fleet_job *job);
/* It has begun other answers whose consumers wait for more. */
bool fleet_job_owes_others(const struct fleet_job *job);
/* For an attempt that the caller ends by fleet_job_cancel and blames: ROUTE_OUTCOME_TIMEOUT of one that accepted or began and
 * fell silent, ROUTE_OUTCOME_LATE of one that said nothing. What the provider itself says is told without this. */
void fleet_job_outcome(struct fleet_job *job, enum route_outcome outcome);
/* Tells the provider to stop and forgets the job; no callback follows. */
void fleet_job_cancel(struct fleet_job *job);
/* Tells the provider to stop but keeps listening: on_complete or on_error follows, at the latest after 30 s (499). Used when a
 * consumer left after content was sent (billing 4.5): chunks are dropped meanwhile. */
void fleet_job_park(struct fleet_job *job);

/* Waiting for a provider (routing 11.1, routing/queue.h): fair between accounts, woken when a provider has room that it can
 * use. Set priority and weight of `place` before fleet_wait; all 0 is usual. */
struct fleet_waiter {
	struct queue_waiter place;
	struct fleet *fleet;
	uint64_t turn;
	/* Try fleet_job_start again; to wait again, fleet_wait with keep_place. It is out of the queue meanwhile. */
	void (*wake)(struct fleet_waiter *waiter);
};
/* Strings of the request are borrowed while it waits. A blind request waits for the provider that it names. DB_E_LIMIT: too
 * many wait. */
enum db_err fleet_wait(struct fleet *fleet, const struct route_request *request, struct fleet_waiter *waiter, bool keep_place);
void fleet_wait_cancel(struct fleet_waiter *waiter);
size_t fleet_waiting(const struct fleet *fleet, struct str model);
uint32_t fleet_retry_after_s(const struct fleet *fleet, struct str model); /* as queue_retry_after_s */
/* The node of a provider that knows blind mode, for route_request.only; NULL when it is gone. */
struct route_node *fleet_blind_node(const struct fleet *fleet, struct str provider_id);

size_t fleet_owned(const struct fleet *fleet, struct str account, struct str model, size_t *serving); /* as route_owned */

/* What accounts get of a queue (routing/share.h): a share that is set takes the place of the configuration's; taken away, that
 * one counts again. Requests that wait already keep theirs. */
struct share;
struct shares;
const struct shares *fleet_shares(const struct fleet *fleet);
enum db_err fleet_share_put(struct fleet *fleet, const struct share *share);
void fleet_share_remove(struct fleet *fleet, struct str account);
/* All that are set, in place of those that were. DB_E_NOMEM: nothing changed. */
enum db_err fleet_shares_set(struct fleet *fleet, const struct share *set, size_t count);

/* --- the warm pool (routing 12) --- */

/* What the gateway saw that speaks for more warm providers of a model. */
void fleet_note_demand(struct fleet *fleet, struct str model, enum planner_event event);
enum db_err fleet_keep_warm(struct fleet *fleet, struct str model, uint32_t providers); /* as planner_keep_warm */
size_t fleet_demand(const struct fleet *fleet, struct planner_view *out, size_t max);   /* as planner_views */

/* --- public names of models (routing 13.2) --- */

struct alias_table *fleet_aliases(const struct fleet *fleet); /* for reading, and for alias_restore at start */
/* As alias_put and alias_remove; providers hear of it. */
enum db_err fleet_alias_put(struct fleet *fleet, const struct alias_change *change, struct error *error);
enum db_err fleet_alias_remove(struct fleet *fleet, struct str id);
enum alias_choice fleet_resolve(struct fleet *fleet, const struct route_request *request, struct str *build);
bool fleet_alias_note(struct fleet *fleet, const struct alias_outcome *outcome); /* as alias_note */
void fleet_alias_health(const struct fleet *fleet, struct str id, struct alias_health *desired, struct alias_health *previous);

/* --- builds that providers were told to have (registry 3) --- */

enum fleet_build_state {
	FLEET_BUILD_PENDING,
	FLEET_BUILD_DOWNLOADING,
	FLEET_BUILD_VERIFYING,
	FLEET_BUILD_LOADING,
	FLEET_BUILD_READY, /* advertised: it gets requests */
	FLEET_BUILD_FAILED,
	FLEET_BUILD_STATES
};
const char *fleet_build_state_name(enum fleet_build_state state); /* "pending", ... */
struct fleet_build_view {
	struct str provider_id, model;
	enum fleet_build_state state;
	double progress; /* of the download, 0..1 */
	struct str why;  /* of a failure, in the provider's words */
	double for_s;    /* in this state */
};
/* How many providers are in each state with a build. */
void fleet_build_counts(const struct fleet *fleet, struct str model, size_t out[FLEET_BUILD_STATES]);
/* What providers last said of desired builds; O(providers). */
void fleet_each_build(const struct fleet *fleet, void (*fn)(const struct fleet_build_view *view, void *user), void *user);

/* --- views --- */
/* O(providers): for a cache. */
size_t fleet_capacities(const struct fleet *fleet, struct route_capacity *out, size_t max);
uint64_t fleet_models_version(const struct fleet *fleet);                  /* of what route_models_version says */
bool fleet_model_dedicated(const struct fleet *fleet, struct str model);   /* as route_model_dedicated */
uint64_t fleet_model_context(const struct fleet *fleet, struct str model); /* as route_model_context */
/* Output tokens that a provider must have room for when `wanted` are allowed: it ends an answer where the model's context
 * ends. At least 1. */
uint64_t fleet_model_room(const struct fleet *fleet, struct str model, uint64_t prompt_tokens, uint64_t wanted);
size_t fleet_models(const struct fleet *fleet, struct route_model_view *out, size_t max);
/* Calls fn for each provider. */
void fleet_each(const struct fleet *fleet, void (*fn)(const struct fleet_provider_view *view, void *user), void *user);
/* The same in parts: at most `max` sessions, from the first or from where the last part ended. Whether more are left. Who comes
 * or goes meanwhile is seen or not; everybody else once. One walk at a time. */
bool fleet_walk(struct fleet *fleet, bool from_first, size_t max,
                void (*fn)(const struct fleet_provider_view *view, void *user), void *user);
/* Of a view that was just given out. */
void fleet_view_live(const struct fleet *fleet, const struct fleet_provider_view *view, struct fleet_live_view *out);
bool fleet_view_slot(const struct fleet_provider_view *view, size_t model, struct route_slot *out); /* as route_node_slot */
size_t fleet_count(const struct fleet *fleet);
/* GET /v1/providers/attestation (protocol-and-trust 8.3). */
enum db_err fleet_attestation_json(const struct fleet *fleet, struct buf *out);

/* --- blind mode --- */

/* The best providers for a request that they alone can open, best first, at most `max`; they are not reserved. When there is
 * none: what route_select said, with the decision. */
enum db_err fleet_blind_candidates(struct fleet *fleet, const struct route_request *wanted, size_t max,
                                   void (*fn)(const struct fleet_provider_view *view, double ttft_ms, void *user), void *user,
                                   struct route_decision *decision);
/* False when no such provider is connected, or it does not know blind mode. */
bool fleet_blind_provider(const struct fleet *fleet, struct str provider_id, struct fleet_provider_view *out);

/* Stops accepting registrations; sessions stay until their jobs are done. */
void fleet_drain(struct fleet *fleet);

#endif
