/* What the files of the simulated fleet share. */
#ifndef SWARM_FLEET_INTERNAL_H
#define SWARM_FLEET_INTERNAL_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/list.h"
#include "crypto/box.h"
#include "crypto/p256.h"
#include "net/ws.h"
#include "swarm/fleet.h"
#include "swarm/frames.h"
#include "wire/message.h"
#include "wire/payload.h"

#define SWARM_MODEL_SIZE    160
#define SWARM_PROMPT_TOKENS 50 /* what every answer claims */

struct swarm_provider {
	struct swarm_fleet *fleet;
	uint32_t index;
	struct ws *ws;
	struct ws_connecting *connecting;
	struct box_keypair box;
	char box_b64[WIRE_KEY_B64_LEN + 1];
	struct p256_key *key;
	char model[SWARM_MODEL_SIZE]; /* the build it offers */
	struct net_timer heartbeat, reconnect;
	struct list answers; /* struct swarm_answer */
	bool challenged, blocked;
	uint32_t served;
};

struct swarm_fleet {
	struct net_loop *loop;
	struct swarm_fleet_options options;
	struct swarm_provider *providers;
	uint32_t started; /* providers that were told to connect */
	struct net_timer connect_timer, churn_timer;
	double churn_due; /* sessions that are still to be ended */
	struct swarm_fleet_counts counts;
	uint64_t last_turnaround_us, random;
	struct arena *arena; /* of the message that is being read */
	struct swarm_frames frames;
	struct buf scratch, frame, sealed; /* of the message that is being made */
	struct buf text;                   /* content of one chunk */
	bool told_ready, told_unreached, freeing;
};

/* session.c */
enum db_err swarm_send(struct swarm_provider *provider, struct str message);
enum db_err swarm_send_message(struct swarm_provider *provider, const struct wire_message *message);
struct str swarm_decimal(uint32_t number, char out[24]); /* "17 ", with a space behind it */
double swarm_random(struct swarm_fleet *fleet);          /* [0, 1), from the seed */

/* answer.c */
void swarm_answer_start(struct swarm_provider *provider, const struct wire_request *request);
void swarm_answer_cancel(struct swarm_provider *provider, struct str request_id);
void swarm_answer_credit(struct swarm_provider *provider, struct str request_id, int64_t chunks);
void swarm_answers_pump(struct swarm_provider *provider); /* the socket takes data again */
void swarm_answers_drop(struct swarm_provider *provider); /* the session ended */

#endif
