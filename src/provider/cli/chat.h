/* What the files of `darkbloom chat` share: chat_call.c talks to the coordinator, chat.c to the person. */
#ifndef PROVIDER_CHAT_H
#define PROVIDER_CHAT_H

#include "client/client.h"
#include "core/buf.h"
#include "core/json.h"
#include "net/http_client.h"

#define CHAT_CONVERSATION_MAX (8u << 20)

struct chat {
	struct net_loop *loop;
	struct http_client *client;
	enum client_cover cover;
	struct client *consumer;
	struct str trusted_key; /* of the one provider to talk to in blind mode */
	char url[512];          /* the coordinator's, without a '/' at the end */
	const char *ca_path;
	int64_t max_tokens; /* 0 = not said */
	double temperature; /* below 0 = not said */
	bool stats, json_stats;
	char model[160];
	struct buf key;      /* "Bearer ..." */
	struct buf messages; /* JSON objects, separated by commas */

	/* the answer that is coming in */
	struct http_fetch *fetch;
	struct client_call *asking;
	struct net_timer poll;
	struct buf answer, failure;
	uint64_t asked_us, first_us, last_us;
	int64_t prompt_tokens, completion_tokens;
	char trust[16], chip[96], job[64];
	int status;       /* of the last call, 0 = no answer came */
	bool interrupted; /* by Ctrl-C */
	bool failed;
};

/* From here on Ctrl-C interrupts a running answer, and waiting for a line, but not the program. False when there are no
 * descriptors left. */
bool chat_catch_interrupts(void);
int chat_interrupt_fd(void); /* readable once Ctrl-C came, until it is forgotten */
void chat_forget_interrupt(void);

bool chat_add_message(struct chat *chat, const char *role, struct str content);
/* Asks with the conversation so far and prints the answer as it comes. An answer, also a cut one, joins the conversation.
 * False, with the reason printed, when it did not come whole. */
bool chat_ask(struct chat *chat, struct str question);
/* Takes the first model that can answer. */
bool chat_choose_model(struct chat *chat);
/* The exit status that tells how the last call ended (provider-node 2.1). */
int chat_exit_status(const struct chat *chat, bool ok);

#endif
