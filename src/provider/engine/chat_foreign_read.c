#include "provider/engine/chat_foreign_read.h"

#define MAX_DEPTH 32

static const json_val *tool_named(const json_val *tools, struct str wanted, struct str *name)
{
	struct json_iter iter = json_iter(tools);
	for (json_val *tool; (tool = json_next(&iter, NULL));) {
		const json_val *function = json_get(tool, "function");
		if (json_as_str(json_get(function, "name"), name) && str_eq(*name, wanted))
			return function;
	}
	return NULL;
}

/* A value as it stands where it is JSON, else as text. */
static void write_bare(struct json_writer *w, struct str text)
{
	struct json_doc *doc = json_parse(text, NULL, NULL);
	if (doc)
		json_value(w, json_root(doc));
	else
		json_str(w, text);
	json_free(doc);
}

/* --- JSON --- */

size_t chat_foreign_object_len(struct str text)
{
	size_t depth = 0;
	bool quoted = false;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.at[i];
		if (quoted) {
			if (c == '\\')
				i++;
			else
				quoted = c != '"';
			continue;
		}
		if (c == '"')
			quoted = true;
		else if (c == '{' || c == '[')
			depth++;
		else if ((c == '}' || c == ']') && (depth == 0 || --depth == 0))
			return i + 1;
		else if (depth == 0 && c != ' ' && c != '\n' && c != '\t' && c != '\r')
			return 0;
	}
	return 0;
}

static bool read_json(struct str text, const json_val *tools, struct str *name, struct buf *arguments)
{
	struct json_doc *doc = json_parse(text, NULL, NULL), *inner = NULL;
	const json_val *root = json_root(doc);
	const json_val *given = json_get_some(root, "arguments");
	struct str said;
	struct json_writer w;
	given = given ? given : json_get_some(root, "parameters");
	if (json_as_str(given, &said)) { /* arguments that were made a text once more */
		inner = json_parse(said, NULL, NULL);
		given = inner ? json_root(inner) : given;
	}
	bool is = json_as_str(json_get(root, "name"), &said) && tool_named(tools, said, name) &&
	          (!given || json_type(given) == JSON_OBJECT);
	json_writer_init(&w, arguments);
	if (is && given)
		json_value(&w, given);
	else if (is)
		json_raw(&w, STR("{}"));
	json_free(inner);
	json_free(doc);
	return is;
}

/* --- XML --- */

static bool starts(struct str *text, struct str word)
{
	if (!str_starts(*text, word))
		return false;
	*text = str_sub(*text, word.len, text->len);
	return true;
}

/* What stands before `word`, which is dropped too. */
static bool up_to(struct str *text, struct str word, struct str *out)
{
	const char *at = text->len ? memmem(text->at, text->len, word.at, word.len) : NULL;
	if (!at)
		return false;
	size_t len = (size_t)(at - text->at);
	*out = str_sub(*text, 0, len);
	*text = str_sub(*text, len + word.len, text->len);
	return true;
}

static struct str without_line_ends(struct str text)
{
	if (text.len && text.at[0] == '\n')
		text = str_sub(text, 1, text.len);
	if (text.len && text.at[text.len - 1] == '\n')
		text.len--;
	return text;
}

static bool is_text(const json_val *schema)
{
	struct str type;
	return json_as_str(json_get(schema, "type"), &type) && str_is(type, "string");
}

static const json_val *property_named(const json_val *function, struct str wanted)
{
	struct json_iter iter = json_iter(json_get(json_get(function, "parameters"), "properties"));
	struct str key;
	for (json_val *value; (value = json_next(&iter, &key));)
		if (str_eq(key, wanted))
			return value;
	return NULL;
}

static bool read_xml(struct str text, const json_val *tools, struct str *name, struct buf *arguments)
{
	struct str word, key, value;
	struct json_writer w;
	if (!starts(&text, STR("<function=")) || !up_to(&text, STR(">"), &word))
		return false;
	const json_val *function = tool_named(tools, str_trim(word), name);
	if (!function)
		return false;
	json_writer_init(&w, arguments);
	json_begin_object(&w);
	for (text = str_trim(text); starts(&text, STR("<parameter=")); text = str_trim(text)) {
		if (!up_to(&text, STR(">"), &key) || !up_to(&text, STR("</parameter>"), &value))
			return false;
		value = without_line_ends(value);
		json_key_str(&w, str_trim(key));
		if (is_text(property_named(function, str_trim(key))))
			json_str(&w, value);
		else
			write_bare(&w, value);
	}
	json_end_object(&w);
	return starts(&text, STR("</function>")) && !str_trim(text).len;
}

/* --- older Gemma: call:name{key:<escape>text<escape>,other:1} --- */

static struct str bare_word(struct str *text, const char *ends)
{
	size_t len = 0;
	while (len < text->len && !strchr(ends, text->at[len]))
		len++;
	struct str word = str_trim(str_sub(*text, 0, len));
	*text = str_sub(*text, len, text->len);
	return word;
}

static bool read_value(struct str *text, struct json_writer *w, unsigned depth);

/* The members up to `close`, which is taken too. */
static bool read_members(struct str *text, struct json_writer *w, char close, unsigned depth)
{
	for (bool first = true;; first = false) {
		*text = str_trim(*text);
		if (!text->len || depth > MAX_DEPTH)
			return false;
		if (text->at[0] == close) {
			*text = str_sub(*text, 1, text->len);
			return true;
		}
		if (!first && !starts(text, STR(",")))
			return false;
		*text = str_trim(*text);
		if (close == '}') {
			struct str key;
			bool quoted = starts(text, STR("<escape>"));
			if (quoted ? !up_to(text, STR("<escape>"), &key) : !(key = bare_word(text, ":,{}[]")).len)
				return false;
			*text = str_trim(*text);
			if (!starts(text, STR(":")))
				return false;
			json_key_str(w, key);
		}
		if (!read_value(text, w, depth + 1))
			return false;
	}
}

static bool read_value(struct str *text, struct json_writer *w, unsigned depth)
{
	struct str word;
	*text = str_trim(*text);
	if (starts(text, STR("<escape>"))) {
		if (!up_to(text, STR("<escape>"), &word))
			return false;
		json_str(w, word);
		return true;
	}
	if (starts(text, STR("{"))) {
		json_begin_object(w);
		bool whole = read_members(text, w, '}', depth);
		json_end_object(w);
		return whole;
	}
	if (starts(text, STR("["))) {
		json_begin_array(w);
		bool whole = read_members(text, w, ']', depth);
		json_end_array(w);
		return whole;
	}
	word = bare_word(text, ",}]");
	if (word.len)
		write_bare(w, word);
	return word.len > 0;
}

static bool read_function(struct str text, const json_val *tools, struct str *name, struct buf *arguments)
{
	struct str word;
	struct json_writer w;
	if (!starts(&text, STR("call:")) || !up_to(&text, STR("{"), &word) || !tool_named(tools, str_trim(word), name))
		return false;
	json_writer_init(&w, arguments);
	json_begin_object(&w);
	bool whole = read_members(&text, &w, '}', 0);
	json_end_object(&w);
	return whole && !str_trim(text).len;
}

bool chat_foreign_read(enum chat_foreign_mark form, struct str text, const json_val *tools, struct str *name,
                       struct buf *arguments)
{
	bool is = false;
	switch (form) {
	case CHAT_FOREIGN_JSON_IN_TAGS:
	case CHAT_FOREIGN_PYTHON_TAG:
		is = read_json(text, tools, name, arguments);
		break;
	case CHAT_FOREIGN_XML_IN_TAGS:
		is = read_xml(text, tools, name, arguments);
		break;
	case CHAT_FOREIGN_FUNCTION_CALL:
		is = read_function(text, tools, name, arguments);
		break;
	}
	return is && !arguments->failed;
}
