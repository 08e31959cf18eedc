/* A consumer of a coordinator: streamed chat requests in the clear, over the sealed transport, or in blind mode, with every
 * check that these promise. The same events come out of all three. Thread: the loop's. A program of its own that has no loop
 * uses darkbloom_client.h. */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "client/seal.h"
#include "net/http_client.h"
#include "net/loop.h"

enum client_cover { CLIENT_CLEAR, CLIENT_SEALED, CLIENT_BLIND };

struct client_options {
	struct net_loop *loop;
	struct http_client *http;
	const char *url;           /* "https://host", without a path; borrowed, as all texts here */
	const char *authorization; /* "Bearer sk-db-..." */
	const char *ca_path;       /* NULL = the system's trust store */
	enum client_cover cover;
	struct client_policy policy; /* blind mode: whom to take for a provider */
};

struct client;
struct client_call;

struct client *client_new(const struct client_options *options);
void client_free(struct client *client); /* no call may be open */

/* Who answers, once it is known; texts are borrowed until the callback returns. */
struct client_answer {
	int status;
	struct str trust, chip, job;
	bool sealed, blind; /* what really was done */
};

struct client_end {
	int status; /* HTTP's, 0 when no answer came */
	/* NULL: the stream came whole, and in blind mode its provider has signed for it. Otherwise why not. */
	const char *failure;
	struct chat_usage signed_usage; /* blind mode */
};

struct client_call_options {
	struct str body; /* a chat request with "stream": true; copied */
	void *user;
	void (*on_answer)(const struct client_answer *answer, void *user); /* may be NULL */
	void (*on_event)(struct str data, void *user);                     /* the data of one event, "[DONE]" too */
	void (*on_done)(const struct client_end *end, void *user);         /* the call is freed when it returns */
};
/* NULL with a sentence when it cannot be begun; no callback is made from inside. */
struct client_call *client_chat(struct client *client, const struct client_call_options *options, struct error *error);
void client_call_cancel(struct client_call *call); /* on_done is not called; not from inside a callback */

#endif
