/* Secret memory: wiped when done, compared in constant time, kept out of swap and core dumps. Thread: any. */
#ifndef CRYPTO_SECRET_H
#define CRYPTO_SECRET_H

#include "core/error.h"
#include "core/str.h"

/* Once per process, before anything else in crypto/. */
enum db_err crypto_init(void);

void secret_wipe(void *at, size_t len);                      /* never optimised away */
bool secret_equal(const void *a, const void *b, size_t len); /* constant time in len */
bool secret_equal_str(struct str a, struct str b);           /* also constant time when lengths differ */
/* Page-guarded, locked, undumpable, zeroed memory for long-lived keys; NULL when out of memory. */
void *secret_alloc(size_t len);
void secret_free(void *at); /* wipes */

#endif
