/* Slows down guessing: after a few failures each further try has to wait, twice as long each time. One table for accounts and
 * addresses, with a bound; keys are remembered as hashes, never as they are. Pure: the time is an argument. Thread: one at a
 * time. */
#ifndef COORDINATOR_THROTTLE_H
#define COORDINATOR_THROTTLE_H

#include "core/str.h"

struct throttle;

struct throttle_rule {
	uint32_t free_tries;           /* failures that cost nothing */
	uint32_t first_ms, longest_ms; /* the wait after the next one, and the most it grows to */
	uint32_t forget_ms;            /* without a failure for so long, all is forgiven */
};

struct throttle *throttle_new(size_t entries_max); /* the oldest is forgotten when there are more */
void throttle_free(struct throttle *throttle);

/* Milliseconds until the next try; 0 = now. */
uint32_t throttle_wait_ms(const struct throttle *throttle, const struct throttle_rule *rule, const char *kind, struct str key,
                          uint64_t now_us);
/* A try that failed. Counted before the answer is known, it also bounds tries that run side by side: see throttle_forgive. */
void throttle_failed(struct throttle *throttle, const struct throttle_rule *rule, const char *kind, struct str key,
                     uint64_t now_us);
/* It went well after all. Forgets what was counted, or takes back the last one: who can log in as themselves must not wipe the
 * slate of an address they guess from. */
void throttle_forgive(struct throttle *throttle, const char *kind, struct str key);
void throttle_take_back(struct throttle *throttle, const char *kind, struct str key);
size_t throttle_count(const struct throttle *throttle);

/* What of an address counts as one caller: all of IPv4, the first 64 bits of IPv6. `out` needs 64 bytes. */
#define THROTTLE_NET_SIZE 64
struct str throttle_net(struct str address, char out[THROTTLE_NET_SIZE]);

#endif
