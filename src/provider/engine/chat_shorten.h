/* A conversation made shorter, for a context that it does not fit (`truncation: auto` of the public API).
 *
 * First the exchanges at the beginning go, each a user's message with all that followed it, so that roles still take turns and
 * no result stands there without its call. When only the last one is left, the oldest of its answers go, each with the results
 * of its tools. What always stays: system and developer messages, the last user's message, and what came last. Pure; thread:
 * any. */
#ifndef PROVIDER_CHAT_SHORTEN_H
#define PROVIDER_CHAT_SHORTEN_H

#include "core/arena.h"

#include <stddef.h>

struct chat_shorten; /* in the arena */

/* `messages_json` as chat_history_write makes it. NULL when it is no array of messages or memory ran out. */
struct chat_shorten *chat_shorten_new(const char *messages_json, struct arena *arena);
/* How many parts can go, one after the other. */
size_t chat_shorten_parts(const struct chat_shorten *shorten);
/* Bytes of the messages without the first `dropped` parts. */
size_t chat_shorten_bytes(const struct chat_shorten *shorten, size_t dropped);
/* The array without them, in an arena that need not be the same one. NULL when memory ran out. */
const char *chat_shorten_write(const struct chat_shorten *shorten, size_t dropped, struct arena *arena);

#endif
