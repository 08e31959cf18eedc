/* One request to a provider, shared by requests.c (it arrives, waits, is cancelled and goes) and answer.c (what its engine says
 * goes out); not for anyone else. Thread: the loop's, except where the engine's is named. */
#ifndef PROVIDER_NODE_REQUEST_H
#define PROVIDER_NODE_REQUEST_H

#include "provider/node/node_internal.h"
#include "provider/node/sharing.h"

#include "crypto/secret.h"
#include "wire/response_hash.h"

#define REQUEST_ID_MAX 128

struct step;

/* One request from its arrival to its terminal message. The engine tells its progress on its own thread; each step is posted to
 * the loop as a struct step. */
struct node_request {
	struct list_link link; /* in node->all until the engine call ended and everything was sent */
	struct node *node;
	char id[REQUEST_ID_MAX];
	bool orphaned;  /* the session that asked is gone: say nothing more, leave the engine alone */
	bool cancelled; /* no more chunks, but one terminal message */
	bool failed;    /* the terminal message was said although the engine still runs */
	bool mapped;    /* still in node->requests */

	struct box_shared shared;
	/* Until the engine has it: the opened body and what it says. The model may have to be loaded first. */
	struct arena *arena;
	struct buf body;
	struct chat_request chat;
	char cache_tenant[SHARING_TENANT_MAX + 1];
	struct engine_prefix_names names;
	struct residency_use use; /* of the model, to the end */
	struct engine_call *call;
	struct step *last;         /* made ahead: the end of a call must not get lost for want of memory */
	bool ended;                /* the engine call's last callback was handled, the terminal message made */
	bool paused;               /* the engine was asked to pause */
	atomic_uint behind;        /* deltas that were posted and not yet handled */
	uint32_t spoke, told;      /* bits of the choices whose role frame, and whose end, was made */
	bool notes;                /* the coordinator wants to be able to continue the answer elsewhere */
	bool queue_notes;          /* ... and to know where it stands while it waits */
	uint32_t place;            /* among those that wait for the engine, as it was last looked at; 0 = it does not wait */
	uint64_t submitted_us;     /* to the engine; the loop's time */
	struct chat_resume resume; /* in the arena, likewise; count 0 as a rule */
	uint32_t choices;          /* that were asked for, of each prompt */
	uint32_t prompt;           /* which of several prompts the engine answers */
	struct engine *engine;     /* ... and who does: with several it is asked once for each */
	enum chat_task task;

	bool paced; /* flow credit was agreed */
	int64_t credit;
	struct list unsent; /* struct outbound */

	char *stop; /* the stop string that ended the answer, or NULL; wiped with the request */
	char frame_id[64];
	struct chat_frame_head head;
	struct response_hash hash;
	struct node_blind *blind; /* NULL: an ordinary request */
	struct chat_usage usage;
	char hash_hex[SHA256_HEX_SIZE]; /* "" until signed */
	struct buf signature;
};

/* --- requests.c --- */
void request_forget_body(struct node_request *request); /* the engine has it */
/* Frees a request that has nothing left to hear from its engine or to say to the coordinator. */
void request_finish_if_done(struct node_request *request);
void request_stop_engine(struct node_request *request);
/* Gives the engine the request, or its next prompt. 0, or the status of a refusal with a sentence. */
int request_submit(struct node_request *request, struct engine *engine, struct error *error);

/* --- answer.c --- */
extern const struct engine_callbacks request_engine_callbacks;
struct step *request_last_step(struct node_request *request); /* NULL when out of memory */
/* Sends what credit and socket allow, and lets the engine pause while something is left behind. May free the request. */
void request_flush(struct node_request *request);
void request_queue_error(struct node_request *request, int status, enum engine_reason reason, const char *text);

/* --- queued.c --- */
void request_watch_place(struct node_request *request); /* it was submitted, and may have to wait */

#endif
