#ifdef __APPLE__
#define __STDC_WANT_LIB_EXT1__ 1 /* memset_s; must stand before any header */
#endif

#include "core/wipe.h"

#include <string.h>

void wipe(void *at, size_t len)
{
	if (len == 0)
		return;
#ifdef __APPLE__
	memset_s(at, len, 0, len);
#else
	explicit_bzero(at, len);
#endif
}
