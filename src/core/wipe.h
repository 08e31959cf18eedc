/* Erasing memory in a way that the compiler must keep. Thread: any. */
#ifndef CORE_WIPE_H
#define CORE_WIPE_H

#include <stddef.h>

void wipe(void *at, size_t len); /* `at` may be NULL when len is 0 */

#endif
