/* Any bytes as a path segment and as a query: what decodes fits, has no NUL, and encodes to what decodes alike. */
#include <stdlib.h>

#include "coordinator/route.h"
#include "core/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
	if (!good)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct route routes[] = {{.method = "GET", .path = "/v1/keys/*/rotate"}, {.method = "GET", .path = "/v1/*"}};
	struct str text = {(const char *)data, size};
	char decoded[256], again[256], encoded[3 * sizeof decoded + 4];
	enum db_err err = uri_decode(text, decoded, sizeof decoded);
	check(err == DB_OK || decoded[0] == '\0');
	if (err == DB_OK) {
		check(strlen(decoded) <= size);
		check(uri_encode(str_of(decoded), encoded, sizeof encoded));
		check(uri_decode(str_of(encoded), again, sizeof again) == DB_OK && strcmp(decoded, again) == 0);
	}
	if (uri_query(text, "a", decoded, sizeof decoded) == DB_OK)
		check(memchr(text.at, 'a', text.len) != NULL);
	bool known;
	const struct route *route = route_find(routes, 2, STR("GET"), text, &known);
	check((route != NULL) == known);
	if (route) {
		struct str part = route_part(route, text, 0);
		check(part.len > 0 && part.at >= text.at && part.at + part.len <= text.at + text.len);
		check(route != &routes[0] || !memchr(part.at, '/', part.len));
	}
	return 0;
}
