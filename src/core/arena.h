/* Request memory. Everything a request allocates comes from its arena; freeing the arena wipes every byte first. That is how
 * "a prompt is never retained" is kept. Thread: one at a time. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include "core/error.h"
#include "core/str.h"

struct arena;

/* A new arena that will hand out at most `limit_bytes` (0 = no limit). NULL when out of memory. */
struct arena *arena_new(size_t limit_bytes);
void arena_free(struct arena *arena);  /* wipes and releases; NULL is allowed */
void arena_reset(struct arena *arena); /* wipes, keeps the first block for reuse */

/* Zeroed memory aligned for any type, or NULL at the limit. */
void *arena_alloc(struct arena *arena, size_t bytes);
/* Copies. The results live as long as the arena; the str copy is also NUL-terminated. NULL / at == NULL at the limit. */
struct str arena_str(struct arena *arena, struct str text);
char *arena_cstr(struct arena *arena, struct str text);
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

size_t arena_used(const struct arena *arena); /* bytes handed out */

#endif
