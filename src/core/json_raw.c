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
	const char *start = ++c->at;
	while ((c->at = memchr(c->at, '"', (size_t)(c->end - c->at)))) {
		size_t backslashes = 0;
		while (c->at - backslashes > start && c->at[-1 - (ptrdiff_t)backslashes] == '\\')
			backslashes++;
		c->at++;
		if (backslashes % 2 == 0)
			return true;
	}
	c->at = c->end;
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

bool json_raw_key_is(struct str quoted, const char *name)
{
	struct str key = str_of(name);
	struct str inner = str_sub(quoted, 1, quoted.len - 2);
	if (!memchr(inner.at, '\\', inner.len))
		return str_eq(inner, key);
	struct json_doc *doc = json_parse(quoted, NULL, NULL);
	struct str unescaped = STR_NONE;
	bool same = json_as_str(json_root(doc), &unescaped) && str_eq(unescaped, key);
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

struct json_raw_iter json_raw_iter(struct str text)
{
	struct json_raw_iter iter = {.at = text.at, .end = text.at + text.len, .separator = '{'};
	return iter;
}

enum db_err json_raw_next(struct json_raw_iter *iter, struct str *quoted_key, struct str *value)
{
	struct cursor c = {iter->at, iter->end};
	if (!skip_space(&c))
		return DB_E_INVALID;
	char separator = *c.at++;
	bool first = iter->separator == '{';
	if (separator != iter->separator && (first || separator != '}'))
		return first ? DB_E_NOT_FOUND : DB_E_INVALID;
	if (!first && separator == '}')
		return DB_E_CLOSED;
	iter->separator = ',';
	if (first && skip_space(&c) && *c.at == '}')
		return DB_E_CLOSED;
	if (!take_member(&c, quoted_key, value))
		return DB_E_INVALID;
	iter->at = c.at;
	return DB_OK;
}

static enum db_err find_member(struct str object, const char *key, struct str *found)
{
	struct json_raw_iter iter = json_raw_iter(object);
	struct str quoted, value;
	enum db_err err;
	*found = STR_NONE;
	while ((err = json_raw_next(&iter, &quoted, &value)) == DB_OK) {
		if (!json_raw_key_is(quoted, key))
			continue;
		if (found->at)
			return DB_E_INVALID;
		*found = value;
	}
	if (err != DB_E_CLOSED)
		return err;
	return found->at ? DB_OK : DB_E_NOT_FOUND;
}

enum db_err json_raw_member(struct str text, const char *const path[], struct str *raw)
{
	struct str value = text;
	for (size_t i = 0; path[i]; i++) {
		enum db_err err = find_member(value, path[i], &value);
		if (err)
			return err;
	}
	*raw = value;
	return DB_OK;
}
