/* Any bytes as the value of an Authorization header, and what they bring as a token of another issuer: the token is a part of
 * the value, bare of white space around it, and what is read out of it says the same each time. */
#include <stdlib.h>

#include "coordinator/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int fact)
{
	if (!fact)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str header = {(const char *)data, size}, again;
	struct str token = auth_bearer(header);
	char *scheme = malloc(size + 8);
	if (!scheme)
		return 0;
	if (token.len > 0) {
		check(token.at > header.at && token.at + token.len <= header.at + header.len);
		check(str_eq(str_trim(token), token));
		check(str_eq_nocase(str_sub(str_trim(header), 0, 7), STR("bearer ")));
		memcpy(scheme, "bEARER  ", 8);
		memcpy(scheme + 8, token.at, token.len);
		again = auth_bearer((struct str){scheme, token.len + 8});
		check(str_eq(again, token));
	}
	free(scheme);
	return 0;
}
