/* The coordinator's HTTP surface: the route table and what every request passes before its handler (http-api 1).
 * Thread: the loop's. */
#ifndef COORDINATOR_SERVER_H
#define COORDINATOR_SERVER_H

#include "coordinator/accounts/accounts.h"
#include "coordinator/config.h"
#include "coordinator/fleet/fleet.h"
#include "coordinator/gateway/gateway.h"
#include "coordinator/gateway/sealed.h"
#include "coordinator/money/ledger.h"
#include "coordinator/observe/metrics.h"
#include "coordinator/response_keeper.h"
#include "coordinator/route.h"
#include "coordinator/shed.h"
#include "coordinator/store/store.h"
#include "crypto/p256.h"

struct server;
struct reward_keeper;
struct models;
struct portal;
struct aliases;
struct account_shares;
struct record_log;
struct receipt_signer;

/* The rooms that handlers use; borrowed for the server's life. */
struct server_rooms {
	const struct coordinator_config *config;
	struct net_loop *loop;
	struct store *store;
	struct ledger *ledger;
	struct accounts *accounts;
	struct fleet *fleet;
	struct gateway *gateway;
	struct metrics *metrics;
	struct portal *portal;
	struct limits *limits;
	const struct shed *shed;
	const struct receipt_signer *receipts;
	const uint8_t *pseudonym_key;  /* KEY_FILE_BYTES */
	struct stripe *stripe;         /* NULL: no payments */
	struct payout_worker *payouts; /* NULL like stripe */
	struct reconciler *reconciler; /* NULL like stripe */
	struct reward_keeper *rewards; /* NULL: no base rewards */
	struct aliases *aliases;
	struct account_shares *shares;
	struct record_log *record_log;  /* NULL: records are in memory only */
	struct response_keeper *keeper; /* its vault is NULL where nothing is kept */
};

/* Binds and listens. */
struct server *server_new(const struct server_rooms *rooms, struct error *error);
/* Where the operator's commands reach a running coordinator: a Unix socket beside the database. False when it is too long. */
bool server_socket_path(const struct coordinator_config *config, char *out, size_t size);
uint16_t server_port(const struct server *server);
bool server_is_tls(const struct server *server);
/* Browsers reach it over TLS, here or at a proxy in front. */
bool server_is_secure(const struct server *server);
/* From now on inference requests are refused and /readyz says 503; everything else goes on. */
void server_drain(struct server *server);
/* The gate alone, which an operator may open again; it stays shut once server_drain was called. */
void server_set_gate(struct server *server, bool shut);
void server_refuse_unknown(struct exchange *exchange); /* as if there were no such route */
size_t server_inflight(const struct server *server);   /* inference requests from their head to the end of their answer */
void server_free(struct server *server);

/* --- handlers (one file for each subject); each ends the exchange --- */
const struct server_rooms *server_rooms(const struct server *server);
bool server_draining(const struct server *server);
const struct sealed *server_sealed(const struct server *server);
struct models *server_models(const struct server *server);
struct operate *server_operate(const struct server *server);
int64_t server_started_s(const struct server *server); /* Unix time */

struct models *server_builds(const struct server *server); /* the same without aliases */
struct models *model_routes_new_builds(struct server *server);
struct models *model_routes_new(struct server *server); /* the listings, as server_models keeps them */
void handle_capacity(struct server *server, struct exchange *exchange);
void handle_stats(struct server *server, struct exchange *exchange);
void handle_version(struct server *server, struct exchange *exchange);
void handle_drain(struct server *server, struct exchange *exchange);
void handle_openapi(struct server *server, struct exchange *exchange);
void handle_health(struct server *server, struct exchange *exchange);
void handle_readyz(struct server *server, struct exchange *exchange);
void handle_metrics(struct server *server, struct exchange *exchange);
void handle_encryption_key(struct server *server, struct exchange *exchange);
void handle_attestation(struct server *server, struct exchange *exchange);
void handle_models_openrouter(struct server *server, struct exchange *exchange);
void handle_models(struct server *server, struct exchange *exchange);
void handle_model(struct server *server, struct exchange *exchange);
/* kept answers: http-api 2.9 */
void handle_responses(struct server *server, struct exchange *exchange);
void handle_response(struct server *server, struct exchange *exchange);
void handle_response_items(struct server *server, struct exchange *exchange);
void handle_response_delete(struct server *server, struct exchange *exchange);

void handle_balance(struct server *server, struct exchange *exchange);

/* keys: http-api 4.1 */
void handle_keys(struct server *server, struct exchange *exchange);
void handle_key(struct server *server, struct exchange *exchange);
void handle_own_key(struct server *server, struct exchange *exchange);
void handle_key_create(struct server *server, struct exchange *exchange);
void handle_key_patch(struct server *server, struct exchange *exchange);
void handle_key_delete(struct server *server, struct exchange *exchange);
void handle_key_rotate(struct server *server, struct exchange *exchange);
void handle_legacy_key_create(struct server *server, struct exchange *exchange);
void handle_legacy_key_revoke(struct server *server, struct exchange *exchange);
/* the operator: http-api 4.6 */
void handle_admin_credit(struct server *server, struct exchange *exchange);
/* public names of models: registry 3 */
void handle_aliases(struct server *server, struct exchange *exchange);
void handle_alias_put(struct server *server, struct exchange *exchange);
void handle_alias_delete(struct server *server, struct exchange *exchange);
/* what accounts get of queues: routing 11.1 */
void handle_shares(struct server *server, struct exchange *exchange);
void handle_share_put(struct server *server, struct exchange *exchange);
void handle_share_delete(struct server *server, struct exchange *exchange);
/* records of decisions: routing 18 */
void handle_admin_routes(struct server *server, struct exchange *exchange);
void handle_admin_routes_summary(struct server *server, struct exchange *exchange);
void handle_admin_route(struct server *server, struct exchange *exchange);
void handle_admin_demand(struct server *server, struct exchange *exchange);
void handle_admin_builds(struct server *server, struct exchange *exchange);
void handle_admin_role(struct server *server, struct exchange *exchange);
void handle_admin_platform_fee(struct server *server, struct exchange *exchange);
void handle_admin_reward(struct server *server, struct exchange *exchange);

#endif
