#include <stdlib.h>
#include <string.h>
#ifdef __APPLE__
#include <malloc/malloc.h>
#define usable_size malloc_size
#else
#include <malloc.h>
#define usable_size malloc_usable_size
#endif

#include "crypto/secret.h"
#include "net/http2_internal.h"

static void *take(size_t size, void *user)
{
	(void)user;
	return malloc(size);
}

static void *take_zeroed(size_t count, size_t size, void *user)
{
	(void)user;
	return calloc(count, size);
}

static void wipe_and_free(void *at, void *user)
{
	(void)user;
	if (at)
		secret_wipe(at, usable_size(at));
	free(at);
}

static void *resize(void *at, size_t size, void *user)
{
	void *grown = malloc(size);
	if (!grown || !at)
		return grown;
	size_t held = usable_size(at);
	memcpy(grown, at, held < size ? held : size);
	wipe_and_free(at, user);
	return grown;
}

nghttp2_mem *http2_memory(void)
{
	static nghttp2_mem memory = {NULL, take, wipe_and_free, take_zeroed, resize};
	return &memory;
}
