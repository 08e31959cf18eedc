/* Who may share cached prefixes (inference 10.4): those of one account, as the coordinator names it, with the same
 * prompt_cache_key or user. Without that name the key alone has to do, and without either nothing is kept. */
#ifndef PROVIDER_NODE_SHARING_H
#define PROVIDER_NODE_SHARING_H

#include "crypto/hash.h"

#define SHARING_TENANT_MAX 128

struct sharing {
	struct str tenant, scope; /* scope empty: nothing is kept */
	char text[SHARING_TENANT_MAX + SHA256_HEX_SIZE + 16];
};

/* `fixed`: for everybody, or NULL. Texts are borrowed. */
void sharing_find(struct str tenant, struct str key, const char *fixed, struct sharing *out);

#endif
