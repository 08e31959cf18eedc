#include "provider/node/sharing.h"

#include <stdio.h>

void sharing_find(struct str tenant, struct str key, const char *fixed, struct sharing *out)
{
	char key_hex[SHA256_HEX_SIZE] = "";
	*out = (struct sharing){.tenant = fixed ? str_of(fixed) : tenant.len ? tenant : key, .scope = str_of(fixed)};
	if (fixed || (!tenant.len && !key.len))
		return;
	if (key.len)
		sha256_hex(key.at, key.len, key_hex);
	int n = snprintf(out->text, sizeof out->text, "%s:%.*s:%s", tenant.len ? "account" : "key", STR_ARG(tenant), key_hex);
	out->scope = (struct str){out->text, n > 0 ? (size_t)n : 0};
}
