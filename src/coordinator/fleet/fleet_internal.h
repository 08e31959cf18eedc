/* Shapes shared by the files of fleet/. A provider costs little while idle: what only busy or challenged ones need is allocated
 * when they are. */
#ifndef COORDINATOR_FLEET_INTERNAL_H
#define COORDINATOR_FLEET_INTERNAL_H

#include "coordinator/fleet/fleet.h"
#include "coordinator/trust/check.h"
#include "core/arena.h"
#include "core/id.h"
#include "core/map.h"
#include "crypto/box.h"
#include "net/ws.h"
#include "wire/message.h"
#include "wire/payload.h"
#include "wire/prefix.h"

#define FLEET_SWEEPS            3  /* sweeps for dead providers in one heartbeat time-out (protocol-and-trust 1.3) */
#define FLEET_CREDIT_FIRST      64 /* chunks that a provider may send before the consumer took any */
#define FLEET_CREDIT_BATCH      32
#define FLEET_PARK_MS           30000
#define FLEET_LOAD_COOL_US      (120ull * 1000000) /* routing 11.3 */
#define FLEET_BUILDS_MAX        64
#define FLEET_BUILD_WHY_SIZE    160
#define FLEET_VIEW_MODELS       ROUTE_MAX_NODE_MODELS
#define FLEET_SEAL_INLINE       (64u << 10)  /* larger bodies are sealed on a worker */
#define FLEET_SCRATCH_KEEP      (256u << 10) /* larger scratch buffers are given back after use */
#define FLEET_DESIRED_MODELS_AT "0.5.17"     /* first version that understands desired_models (protocol-and-trust 11.1) */
#define FLEET_TOOLS_AT          "0.6.3"      /* routing 4 */

/* A request key made ahead of its request: an ephemeral key pair's public half and the key shared with one provider. */
struct request_key {
	char public_b64[WIRE_KEY_B64_LEN + 1];
	struct box_shared shared;
};

struct key_pool;
struct name_cipher; /* prefixes.c */
struct session_build;
struct kept_attestation;

/* Texts of a registered provider. */
enum session_text {
	TEXT_PUBLIC_KEY, /* register */
	TEXT_VERSION,
	TEXT_BACKEND,
	TEXT_CHIP_NAME,
	TEXT_CHIP_FAMILY,
	TEXT_MACHINE_MODEL,
	TEXT_PYTHON_HASH,
	TEXT_RUNTIME_HASH,
	TEXT_SERIAL, /* attested */
	TEXT_SE_PUBLIC_KEY,
	TEXT_SYSTEM_VOLUME_HASH,
	TEXT_OS_VERSION,
	SESSION_TEXTS
};

struct session {
	struct fleet *fleet;
	struct ws *ws; /* NULL once it is closed */
	char id[ID_UUID_SIZE];
	bool registered : 1, settled : 1; /* settled: attestation and account are known */
	bool closing : 1;                 /* on_close is awaited and nothing else */
	bool resumes : 1;                 /* a model of it can go on with answers of others */
	bool flow_credit : 1, private_only : 1, draining : 1, blind : 1;
	bool attested : 1, secure_enclave : 1, sip : 1, secure_boot : 1, authenticated_root : 1, is_linux : 1; /* as attested */
	unsigned char key_protection : 2, platform : 2;    /* enums of wire/attestation.h */
	bool private_text : 1, version_ok : 1, proven : 1; /* proven: passed a challenge on this connection */
	bool awaits_pong : 1;
	bool late : 1;               /* in fleet->stale */
	uint32_t pinged;             /* distance.c; 0 = never */
	uint16_t gpu_cores;          /* or more */
	uint8_t complaints;          /* logged about this peer */
	uint8_t build_count;         /* of builds */
	struct list_link link, beat; /* in fleet->sessions; in fleet->live or fleet->stale */
	struct list_link woken;
	uint64_t last_beat_us, last_job_us, last_chunk_us;
	uint64_t order;                       /* of registration */
	uint8_t *texts;                       /* in one block: their lengths, then they; NULL = none */
	struct kept_attestation *attestation; /* of blind providers */
	struct route_node *node;
	struct ledger_account *account;
	struct account_lookup *lookup; /* owner.c; NULL once it is known */
	struct trust_check *check;     /* in flight */
	struct trust_standing standing;
	struct net_timer timer;             /* next challenge, or the end of the reply window */
	struct status_challenge *challenge; /* awaiting its reply */
	struct key_pool *keys;              /* NULL while there is no traffic */
	struct name_cipher *names;          /* NULL until it is told a name */
	struct list jobs;
	struct session_build *builds; /* builds.c: what it said of those that it was told to have */
};

/* An attestation as it came. */
struct kept_attestation {
	size_t len;
	char text[];
};

struct fleet_job {
	struct list_link link; /* in session->jobs */
	struct session *session;
	struct route_reservation *reservation;
	struct fleet_job_callbacks callbacks;
	void *user;
	struct box_shared shared;
	struct net_timer park_timer;
	uint32_t consumed; /* chunks taken and not yet granted anew */
	uint32_t untaken;  /* chunks that came and were not yet taken: its provider may wait for credit */
	bool began;        /* a chunk came */
	bool parked;
	struct blind_job *blind; /* NULL: the coordinator holds the key */
	uint64_t parked_chunks;
	uint64_t route_us, encrypt_us; /* what choosing and sealing took */
	char id[ID_UUID_SIZE];
	char request_id[ID_UUID_SIZE];
	char model[]; /* build id */
};

struct fleet_metrics {
	struct metric *registered, *rejected_messages, *chunks, *chunk_bytes, *jobs, *job_errors, *violations, *strays;
	struct metric *challenges_passed, *challenges_failed, *keys_inline, *keys_inline_us, *keys_ready;
	struct metric *providers, *waiting, *jobs_open, *prefixes, *prefix_hits;
	struct metric *loads_asked, *loads_done, *loads_failed;
};

struct stray;
struct wake_turn;

struct fleet {
	struct net_loop *loop;
	struct accounts *accounts;
	struct fleet_options options;
	char **backends; /* copies of options.backends */
	struct route_fleet *routes;
	struct list sessions;    /* open sockets */
	struct list_link *walk;  /* of fleet_walk: what comes next; NULL = the end */
	struct list live, stale; /* by last heartbeat, oldest first; stale: missed one sweep */
	size_t registered;
	uint64_t orders;
	void (*on_node_gone)(const struct route_node *node, void *user); /* NULL: nobody keeps nodes */
	void *node_user;
	bool draining;
	struct map by_serial; /* serial -> the proven session that holds it */
	struct map jobs;      /* id -> job */
	struct map blind;     /* id -> session that knows blind mode and is attested */
	struct net_timer sweep;
	struct arena *arena;   /* of the message being handled */
	struct buf out, plain; /* scratch: a message being made; a chunk that was opened */
	/* keys.c */
	struct list pools, hungry; /* by last use; those that want keys */
	struct key_batch *batch;   /* being made by a worker */
	struct list sealing;       /* seal.c: tasks on workers */
	/* strays.c */
	struct map strays;
	struct list stray_order;
	struct alias_table *aliases;
	struct map build_counts; /* builds.c: model -> struct build_count */
	/* warm.c */
	struct planner *planner;
	struct net_timer warm_timer, warm_soon;
	/* waiting.c */
	struct queues *queues;
	struct shares *shares; /* of accounts */
	struct list woken;     /* sessions whose room is to be offered */
	struct wake_turn *turn;
	uint64_t turns;
	struct session *offering; /* NULL again when it ends meanwhile */
	struct fleet_metrics metrics;
};

/* --- session.c --- */
extern const struct ws_handler fleet_ws_handler;
void session_take(struct session *session, struct str text); /* one message from the provider */
struct session *session_new(struct fleet *fleet);
void session_free(struct session *session);
/* Fails its jobs, leaves routing and drops the socket; freed when the socket says so. */
void session_drop(struct session *session);
void session_close(struct session *session, int code, const char *reason);
/* DB_E_AGAIN: the queue is full; DB_E_CLOSED. */
enum db_err session_send(struct session *session, const struct wire_message *message);
void session_update_facts(struct session *session);         /* tells routing what changed and wakes who may wait for it */
bool session_takes_requests(const struct session *session); /* as far as its connection goes */

/* --- register.c --- */
struct str session_text(const struct session *session, enum session_text which);
void session_register(struct session *session, const struct wire_register *message);
void session_unregister(struct session *session);
void session_update_models(struct session *session, const struct wire_models_update *message);
/* Its owner is known, or the registration is to go on without. */
void session_owner_looked_up(struct session *session);

/* --- owner.c --- */
/* session_owner_looked_up follows, at once or within seconds, and again when it was late. */
void owner_look_up(struct session *session, struct str token);
bool owner_is_awaited(const struct session *session); /* by the registration */
void owner_forget(struct session *session);

/* --- heartbeat.c --- */
void session_heartbeat(struct session *session, const struct wire_heartbeat *message);

/* --- challenge.c --- */
void session_challenge(struct session *session);
void session_challenge_reply(struct session *session, const struct wire_attestation_response *reply, struct str message);
void session_stop_challenges(struct session *session);
void session_violation(struct session *session, const char *what); /* hard untrust */

/* --- jobs.c --- */
void jobs_accepted(struct session *session, const struct wire_accepted *message);
void jobs_chunk(struct session *session, const struct wire_chunk *message);
void jobs_complete(struct session *session, const struct wire_complete *message);
void jobs_error(struct session *session, const struct wire_error *message);
void jobs_finish(struct fleet_job *job, const struct fleet_job_end *end); /* the good end */
void jobs_violated(struct fleet_job *job, const char *what);              /* the provider is not trusted any more */
/* The end of seal_on_worker: sends, or fails the job. */
void jobs_sealed(struct fleet *fleet, struct str job_id, enum db_err result, struct str frame);
void jobs_drained(struct session *session); /* its queue has room again */
void jobs_fail_all(struct session *session);

/* --- blind.c --- */
enum db_err blind_send(struct session *session, struct fleet_job *job, const struct fleet_job_request *request);
const char *blind_take_chunk(struct fleet_job *job, const struct wire_chunk *message); /* what is wrong, or NULL */
/* Ends in jobs_finish or jobs_violated, once the signature was looked at. */
void blind_complete(struct fleet_job *job, const struct wire_complete *message, const struct fleet_job_end *end);
bool blind_end_now(
    struct fleet_job *job); /* its session ends: true when a completion was being looked at, and the job is gone */
void blind_job_free(struct fleet_job *job);
struct session *blind_session(const struct fleet *fleet, struct str provider_id);

/* --- distance.c --- */
void distance_ask(struct session *session); /* at most once a minute */
void distance_answered(struct session *session);

/* --- prefixes.c --- */
#define FLEET_PREFIXES_TEXT (WIRE_REQUEST_PREFIXES * WIRE_PREFIX_HEX)
struct str prefixes_text(struct session *session, const struct route_request *route, char out[FLEET_PREFIXES_TEXT]);
void session_prefixes(struct session *session, const struct wire_slot *slot);
void prefixes_forget(struct session *session); /* it ends */

/* --- keys.c --- */
/* DB_E_CRYPTO when the provider's key is unusable. The caller wipes *out. */
enum db_err keys_take(struct session *session, struct request_key *out);
void keys_free(struct session *session);
void keys_sweep(struct fleet *fleet); /* gives back pools that nobody used lately */
void keys_stop(struct fleet *fleet);

/* --- seal.c --- */
/* Copies everything; ends in jobs_sealed. */
enum db_err seal_on_worker(struct fleet *fleet, const struct request_key *key, const struct wire_request *message,
                           struct str body);
void seal_stop(struct fleet *fleet);

/* --- strays.c --- */
/* True at most once in 10 s for an id: time to send cancel for a request that nobody knows. */
bool strays_note(struct fleet *fleet, struct str request_id, uint64_t now_us);
void strays_free(struct fleet *fleet);

/* --- waiting.c --- */
bool waiting_init(struct fleet *fleet);
void waiting_forget(struct session *session);
void waiting_free(struct fleet *fleet);
void waiting_wake_node(struct fleet *fleet, const struct route_node *node); /* soon, not now */

/* --- aliases.c --- */
void session_send_desired(struct session *session); /* which builds its aliases want; an empty list means none */

/* --- builds.c --- */
void session_build_status(struct session *session, const struct wire_prefetch_model_status *message);
void session_builds_told(struct session *session); /* aliases changed: forgets what is not wanted any more */
void session_builds_forget(struct session *session);
void builds_counts_free(struct fleet *fleet);

/* --- warm.c --- */
void warm_start(struct fleet *fleet);
void warm_stop(struct fleet *fleet);
void warm_wanted(struct fleet *fleet, struct str model); /* a request begins to wait */
void warm_sent(struct fleet *fleet, const struct route_request *request, const struct route_decision *decision);
void session_load_status(struct session *session, const struct wire_load_model_status *message);

/* --- views.c --- */
/* `models` (FLEET_VIEW_MODELS of them) may be NULL. */
void session_view(const struct session *session, struct str *models, struct fleet_provider_view *out);

#endif
