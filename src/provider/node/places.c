/* Others are told of failures, but not where on this machine, or where else, its owner keeps what is read. */
#include "provider/node/node_internal.h"

#define SHORTEST 2 /* of a name that the text's end has cut */

struct place {
	const char *name, *instead;
};

/* A longer name goes on here. */
static bool goes_on(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* Bytes of `text` that name the place, which may be cut by the text's end; 0: none. */
static size_t named(struct str text, const char *name)
{
	struct str whole = str_of(name);
	while (str_ends(whole, STR("/")))
		whole.len--;
	if (whole.len < SHORTEST || !memchr(whole.at, '/', whole.len) || text.len < SHORTEST)
		return 0;
	size_t len = text.len < whole.len ? text.len : whole.len;
	if (text.len > len && goes_on(text.at[len]))
		return 0;
	return memcmp(text.at, whole.at, len) == 0 ? len : 0;
}

static size_t find(struct str text, const struct place *places, size_t count, const char **instead)
{
	for (size_t i = 0; i < count; i++) {
		size_t len = named(text, places[i].name);
		*instead = places[i].instead;
		if (len)
			return len;
	}
	return 0;
}

const char *node_public_text(const struct node *node, const char *text, char out[NODE_TEXT_SIZE])
{
	const struct builds_options *builds = node->options.builds;
	const struct place places[] = {{builds ? builds->models_dir : NULL, "the models folder"},
	                               {builds ? builds->source : NULL, "the owner's server"},
	                               {builds ? builds->ca_path : NULL, "the authorities' file"}};
	size_t len = 0;
	for (struct str rest = str_of(text); rest.len > 0;) {
		const char *instead;
		size_t skip = find(rest, places, sizeof places / sizeof *places, &instead);
		struct str more = skip ? str_of(instead) : str_sub(rest, 0, 1);
		if (more.len >= NODE_TEXT_SIZE - len)
			break;
		memcpy(out + len, more.at, more.len);
		len += more.len;
		rest = str_sub(rest, skip ? skip : 1, rest.len);
	}
	out[len] = '\0';
	return out;
}
