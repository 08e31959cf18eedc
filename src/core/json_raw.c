/* Finding a member in JSON text without parsing it: signatures are checked over the bytes as they were sent. */
#include "core/json.h"

struct cursor {
	const char *at, *end;
};

static bool skip_space(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
		c->at++;
	return c->at < c->end;
}

/* Past the closing quote; c->at stands on the opening one. */
static bool skip_string(struct cursor *c)
{
	for (c->at++; c->at < c->end; c->at++) {
		if (*c->at == '\\') {
			if (++c->at == c->end)
				return false;
		} else if (*c->at == '"') {
			c->at++;
			return true;
		}
	}
	return false;
}

static bool skip_container(struct cursor *c)
{
	size_t depth = 0;
	while (c->at < c->end) {
		switch (*c->at) {
		case '"':
			if (!skip_string(c))
				return false;
			continue;
		case '{':
		case '[':
			depth++;
			break;
		case '}':
		case ']':
			if (--depth == 0) {
				c->at++;
				return true;
			}
			break;
		default:
			break;
		}
		c->at++;
	}
	return false;
}

static bool skip_value(struct cursor *c)
{
	if (!skip_space(c))
		return false;
	if (*c->at == '"')
		return skip_string(c);
	if (*c->at == '{' || *c->at == '[')
		return skip_container(c);
	const char *start = c->at;
	while (c->at < c->end && *c->at != ',' && *c->at != '}' && *c->at != ']' && *c->at != ' ' && *c->at != '\t' &&
	       *c->at != '\n' && *c->at != '\r')
		c->at++;
	return c->at > start;
}

/* Is the quoted JSON string `quoted` the text `key`? Escapes count as what they stand for. */
static bool key_is(struct str quoted, struct str key)
{
	struct str inner = str_sub(quoted, 1, quoted.len - 2);
	if (!memchr(inner.at, '\\', inner.len))
		return str_eq(inner, key);
	struct json_doc *doc = json_parse(quoted, NULL, NULL);
	struct str name = STR_NONE;
	bool same = json_as_str(json_root(doc), &name) && str_eq(name, key);
	json_free(doc);
	return same;
}

/* One member: its quoted key and the range of its value. */
static bool take_member(struct cursor *c, struct str *quoted, struct str *value)
{
	if (!skip_space(c) || *c->at != '"')
		return false;
	const char *start = c->at;
	if (!skip_string(c))
		return false;
	*quoted = (struct str){start, (size_t)(c->at - start)};
	if (!skip_space(c) || *c->at++ != ':' || !skip_space(c))
		return false;
	start = c->at;
	if (!skip_value(c))
		return false;
	*value = (struct str){start, (size_t)(c->at - start)};
	return true;
}

static enum db_err find_member(struct str object, struct str key, struct str *found)
{
	struct cursor c = {object.at, object.at + object.len};
	if (!skip_space(&c))
		return DB_E_INVALID;
	if (*c.at++ != '{')
		return DB_E_NOT_FOUND;
	if (!skip_space(&c))
		return DB_E_INVALID;
	if (*c.at == '}')
		return DB_E_NOT_FOUND;
	*found = STR_NONE;
	for (;;) {
		struct str quoted, value;
		if (!take_member(&c, &quoted, &value))
			return DB_E_INVALID;
		if (key_is(quoted, key)) {
			if (found->at)
				return DB_E_INVALID;
			*found = value;
		}
		if (!skip_space(&c))
			return DB_E_INVALID;
		char separator = *c.at++;
		if (separator == '}')
			return found->at ? DB_OK : DB_E_NOT_FOUND;
		if (separator != ',')
			return DB_E_INVALID;
	}
}

enum db_err json_raw_member(struct str text, const char *const path[], struct str *raw)
{
	struct str value = text;
	for (size_t i = 0; path[i]; i++) {
		enum db_err err = find_member(value, str_of(path[i]), &value);
		if (err)
			return err;
	}
	*raw = value;
	return DB_OK;
}
