#include "provider/engine/chat_names.h"

#include <stdlib.h>

#define FEW 12

struct chat_name {
	struct str name;
	json_val *value;
	size_t place;
};

static int by_name(struct str a, struct str b)
{
	size_t len = a.len < b.len ? a.len : b.len;
	int order = len ? memcmp(a.at, b.at, len) : 0;
	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare(const void *left, const void *right)
{
	const struct chat_name *a = left, *b = right;
	int order = by_name(a->name, b->name);
	return order ? order : (a->place > b->place) - (a->place < b->place);
}

/* The next one; NULL at the end. */
static json_val *next_of(const json_val *of, struct json_iter *iter, struct str *name)
{
	json_val *value;
	if (json_type(of) == JSON_OBJECT)
		return json_next(iter, name);
	while ((value = json_next(iter, NULL)))
		if (json_as_str(value, name))
			return value;
	return NULL;
}

struct chat_names chat_names_of(const json_val *of)
{
	struct chat_names names = {.of = of};
	struct json_iter iter = json_iter(of);
	size_t most = json_len(of);
	names.sorted = most > FEW ? calloc(most, sizeof *names.sorted) : NULL;
	if (!names.sorted)
		return names;
	struct str name;
	for (json_val *value; names.count < most && (value = next_of(of, &iter, &name)); names.count++)
		names.sorted[names.count] = (struct chat_name){name, value, names.count};
	qsort(names.sorted, names.count, sizeof *names.sorted, compare);
	return names;
}

void chat_names_free(struct chat_names *names)
{
	free(names->sorted);
	*names = (struct chat_names){0};
}

static json_val *go_through(const json_val *of, struct str wanted)
{
	struct json_iter iter = json_iter(of);
	struct str name;
	json_val *found = NULL;
	for (json_val *value; (value = next_of(of, &iter, &name));)
		if (str_eq(name, wanted))
			found = value;
	return found;
}

json_val *chat_names_find(const struct chat_names *names, struct str name)
{
	if (!names->sorted)
		return go_through(names->of, name);
	size_t from = 0, to = names->count;
	while (from < to) { /* to the first behind it */
		size_t middle = from + (to - from) / 2;
		if (by_name(names->sorted[middle].name, name) <= 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from && str_eq(names->sorted[from - 1].name, name) ? names->sorted[from - 1].value : NULL;
}
