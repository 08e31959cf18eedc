/* The sealed transport (http-api 3, docs/reference/sealed-transport.md): a consumer who does not trust what ends the TLS
 * between seals the body of an inference request to the coordinator's key and gets everything back sealed, errors and events
 * too. One layer for every dialect: handlers read exchange_body and answer as ever. Thread: the loop's; large bodies open on a
 * worker. */
#ifndef COORDINATOR_SEALED_H
#define COORDINATOR_SEALED_H

#include "coordinator/gateway/exchange.h"

#define SEALED_MAX_KEYS 4 /* the current one and those before it */

struct sealed;

struct sealed_options {
	struct net_loop *loop;
	struct metrics *metrics;
	const char *mnemonic;           /* NULL or empty: no key, every envelope is answered 503 */
	const char *previous_mnemonics; /* separated by commas; NULL or empty: none */
	int64_t previous_until_s;       /* Unix time up to which those are accepted; 0 = not given */
	uint32_t replay_window_s;       /* 0 = 300 */
	uint32_t max_remembered;        /* envelopes that are remembered for one window, 0 = 1,048,576 */
	bool require_time;              /* refuse envelopes that carry no time */
};
/* The mnemonics as the environment gives them (protocol-and-trust 4.6). */
void sealed_options_from_environment(struct sealed_options *options);
struct sealed *sealed_new(const struct sealed_options *options, struct error *error);
void sealed_free(struct sealed *sealed); /* wipes the keys; NULL allowed */

/* The body of GET /v1/encryption-key. DB_E_NOT_FOUND when there is no key. */
enum db_err sealed_write_keys(const struct sealed *sealed, struct buf *out);

/* Whether the request says that its body is an envelope. */
bool sealed_is_envelope(const struct http_request *http);
/* Opens the body, now or later, and calls `then`; answers itself, in the clear, when that fails. From then on everything that
 * goes out is sealed. `user` must live as long as the exchange; the exchange's owner and on_gone are taken meanwhile. */
void sealed_open(struct sealed *sealed, struct exchange *exchange, void (*then)(struct exchange *exchange, void *user),
                 void *user);

#endif
