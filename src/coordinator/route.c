#include "coordinator/route.h"

/* Walks pattern and path side by side; `part` gets what the n-th star stands for. */
static bool match(const char *pattern, struct str path, unsigned n, struct str *part)
{
	unsigned star = 0;
	size_t at = 0;
	for (; *pattern; pattern++) {
		if (*pattern != '*') {
			if (at == path.len || path.at[at++] != *pattern)
				return false;
			continue;
		}
		size_t from = at;
		bool is_last = pattern[1] == '\0';
		while (at < path.len && (is_last || path.at[at] != '/'))
			at++;
		if (at == from)
			return false;
		if (star++ == n)
			*part = str_sub(path, from, at - from);
	}
	return at == path.len;
}

const struct route *route_find(const struct route *routes, size_t count, struct str method, struct str path, bool *path_known)
{
	struct str wanted = str_is(method, "HEAD") ? STR("GET") : method, ignored;
	*path_known = false;
	for (size_t i = 0; i < count; i++) {
		if (!match(routes[i].path, path, 0, &ignored))
			continue;
		*path_known = true;
		if (str_is(wanted, routes[i].method))
			return &routes[i];
	}
	return NULL;
}

struct str route_part(const struct route *route, struct str path, unsigned n)
{
	struct str part = STR_NONE;
	return match(route->path, path, n, &part) ? part : STR_NONE;
}
