/* The structure of a TOML document: keys, tables, arrays. */
#include "core/toml_internal.h"

#include "core/utf8.h"

#include <stdarg.h>
#include <stdio.h>

/* How a table or array came to be decides what may still be added to it. */
enum origin {
	IMPLIED,      /* a parent named in a header: may get its own header once, and dotted keys */
	HEADER,       /* [table], the root, or an element of [[array]] */
	DOTTED,       /* parent in a dotted key: no header of its own */
	INLINE,       /* { } or [ ]: complete as written */
	HEADER_ARRAY, /* grows with each [[array]] */
};

/* Every value is allocated as one of these; `value` comes first so that the public type leads back to it. */
struct node {
	struct toml_value value;
	struct toml_value *last;
	enum origin origin;
};

static struct node *node_of(struct toml_value *value)
{
	return (struct node *)(void *)value;
}

bool toml_fail(struct toml_parser *p, enum db_err code, const char *format, ...)
{
	char sentence[240];
	va_list args;
	va_start(args, format);
	(void)vsnprintf(sentence, sizeof sentence, format, args);
	va_end(args);
	error_set(p->error, code, "line %d: %s", p->line, sentence);
	return false;
}

bool toml_accept_newline(struct toml_parser *p)
{
	if (toml_looking_at(p, STR("\r\n")))
		p->at++;
	if (!toml_accept(p, '\n'))
		return false;
	p->line++;
	return true;
}

static void skip_blanks(struct toml_parser *p)
{
	while (toml_peek(p) == ' ' || toml_peek(p) == '\t')
		p->at++;
}

static bool skip_comment(struct toml_parser *p)
{
	if (!toml_accept(p, '#'))
		return true;
	for (; !toml_at_end(p) && *p->at != '\n'; p->at++) {
		bool line_end = *p->at == '\r' && toml_looking_at(p, STR("\r\n"));
		if (!line_end && (((unsigned char)*p->at < 0x20 && *p->at != '\t') || *p->at == 0x7f))
			return toml_fail(p, DB_E_INVALID, "a comment holds a control character");
	}
	if (p->at[-1] == '\r')
		p->at--;
	return true;
}

/* Blanks, comments and line ends, inside arrays and between lines. */
static bool skip_lines(struct toml_parser *p)
{
	do {
		skip_blanks(p);
		if (!skip_comment(p))
			return false;
	} while (toml_accept_newline(p));
	return true;
}

static bool expect_line_end(struct toml_parser *p)
{
	skip_blanks(p);
	if (!skip_comment(p))
		return false;
	return toml_at_end(p) || toml_accept_newline(p) || toml_fail(p, DB_E_INVALID, "nothing may follow on this line");
}

/* --- the tree --- */

static struct node *append(struct toml_parser *p, struct node *parent, struct str key, enum toml_type type, enum origin origin)
{
	struct node *child = arena_alloc(p->arena, sizeof *child);
	if (!child) {
		toml_fail(p, DB_E_NOMEM, "there is not enough memory");
		return NULL;
	}
	child->value = (struct toml_value){.type = type, .line = p->line, .key = key};
	child->origin = origin;
	if (!parent)
		return child;
	if (parent->last)
		parent->last->next = &child->value;
	else
		parent->value.first = &child->value;
	parent->last = &child->value;
	return child;
}

struct toml_value *toml_get(const struct toml_value *table, struct str key)
{
	if (!table || table->type != TOML_TABLE)
		return NULL;
	for (struct toml_value *child = table->first; child; child = child->next)
		if (str_eq(child->key, key))
			return child;
	return NULL;
}

static struct node *find(struct node *table, struct str key)
{
	return node_of(toml_get(&table->value, key));
}

static bool refuse_duplicate(struct toml_parser *p, const struct node *there)
{
	return toml_fail(p, DB_E_INVALID, "`%.*s` is already defined in line %d", STR_ARG(str_sub(there->value.key, 0, 80)),
	                 there->value.line);
}

/* --- keys --- */

static bool is_bare_key_character(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
}

static bool read_simple_key(struct toml_parser *p, struct str *key)
{
	if (toml_peek(p) == '"' || toml_peek(p) == '\'')
		return toml_read_string(p, false, key);
	const char *start = p->at;
	while (is_bare_key_character(toml_peek(p)))
		p->at++;
	if (p->at == start)
		return toml_fail(p, DB_E_INVALID, "a key is missing or holds a character that needs quotes");
	*key = arena_str(p->arena, (struct str){start, (size_t)(p->at - start)});
	return key->at || toml_fail(p, DB_E_NOMEM, "there is not enough memory");
}

/* A step into a parent named in a header. */
static struct node *enter_header_parent(struct toml_parser *p, struct node *table, struct str key)
{
	struct node *there = find(table, key);
	if (!there)
		return append(p, table, key, TOML_TABLE, IMPLIED);
	if (there->origin == HEADER_ARRAY)
		return node_of(there->last);
	if (there->value.type == TOML_TABLE && there->origin != INLINE)
		return there;
	refuse_duplicate(p, there);
	return NULL;
}

/* A step into a parent named in a dotted key: never into what a header or braces defined. */
static struct node *enter_dotted_parent(struct toml_parser *p, struct node *table, struct str key)
{
	struct node *there = find(table, key);
	if (!there)
		return append(p, table, key, TOML_TABLE, DOTTED);
	if (there->value.type == TOML_TABLE && (there->origin == DOTTED || there->origin == IMPLIED)) {
		there->origin = DOTTED;
		return there;
	}
	refuse_duplicate(p, there);
	return NULL;
}

typedef struct node *enter_parent(struct toml_parser *p, struct node *table, struct str key);

/* Reads a dotted key, walking into its parents. Leaves the last part in *key and its table in *table. */
static bool read_key(struct toml_parser *p, enter_parent *enter, struct node **table, struct str *key)
{
	for (int parts = 0; parts < TOML_MAX_NESTING; parts++) {
		skip_blanks(p);
		if (!read_simple_key(p, key))
			return false;
		skip_blanks(p);
		if (!toml_accept(p, '.'))
			return true;
		*table = enter(p, *table, *key);
		if (!*table)
			return false;
	}
	return toml_fail(p, DB_E_LIMIT, "a key has more than %d parts", TOML_MAX_NESTING);
}

/* --- values --- */

static bool read_value(struct toml_parser *p, struct node *parent, struct str key);

static bool read_key_value(struct toml_parser *p, struct node *table)
{
	struct str key;
	if (!read_key(p, enter_dotted_parent, &table, &key))
		return false;
	if (!toml_accept(p, '='))
		return toml_fail(p, DB_E_INVALID, "`=` is missing after the key `%.*s`", STR_ARG(str_sub(key, 0, 80)));
	struct node *there = find(table, key);
	if (there)
		return refuse_duplicate(p, there);
	skip_blanks(p);
	return read_value(p, table, key);
}

static bool read_array(struct toml_parser *p, struct node *array)
{
	for (;;) {
		if (!skip_lines(p))
			return false;
		if (toml_accept(p, ']'))
			return true;
		if (!read_value(p, array, STR_NONE) || !skip_lines(p))
			return false;
		if (!toml_accept(p, ',') && toml_peek(p) != ']')
			return toml_fail(p, DB_E_INVALID, "`,` or `]` is missing in an array");
	}
}

static void close_for_good(struct toml_value *value)
{
	if (value->type == TOML_TABLE || value->type == TOML_ARRAY)
		node_of(value)->origin = INLINE;
	for (struct toml_value *child = value->first; child; child = child->next)
		close_for_good(child);
}

static bool read_inline_table(struct toml_parser *p, struct node *table)
{
	table->origin = DOTTED; /* while it is read, dotted keys inside may share parents */
	skip_blanks(p);
	bool empty = toml_accept(p, '}');
	while (!empty) {
		if (!read_key_value(p, table))
			return false;
		skip_blanks(p);
		if (toml_accept(p, '}'))
			break;
		if (!toml_accept(p, ','))
			return toml_fail(p, DB_E_INVALID, "`,` or `}` is missing in an inline table");
	}
	close_for_good(&table->value);
	return true;
}

static bool read_nested(struct toml_parser *p, struct node *node)
{
	if (++p->nesting > TOML_MAX_NESTING)
		return toml_fail(p, DB_E_LIMIT, "values are nested deeper than %d levels", TOML_MAX_NESTING);
	p->at++;
	bool ok = node->value.type == TOML_ARRAY ? read_array(p, node) : read_inline_table(p, node);
	p->nesting--;
	return ok;
}

static bool read_value(struct toml_parser *p, struct node *parent, struct str key)
{
	char c = toml_peek(p);
	enum toml_type type = c == '[' ? TOML_ARRAY : c == '{' ? TOML_TABLE : TOML_STRING;
	struct node *node = append(p, parent, key, type, INLINE);
	if (!node)
		return false;
	if (type != TOML_STRING)
		return read_nested(p, node);
	if (c == '"' || c == '\'')
		return toml_read_string(p, true, &node->value.as.string);
	return toml_read_scalar(p, &node->value);
}

/* --- headers --- */

static struct node *open_table(struct toml_parser *p, struct node *parent, struct str key)
{
	struct node *there = find(parent, key);
	if (!there)
		return append(p, parent, key, TOML_TABLE, HEADER);
	if (there->value.type == TOML_TABLE && there->origin == IMPLIED) {
		there->origin = HEADER;
		there->value.line = p->line;
		return there;
	}
	refuse_duplicate(p, there);
	return NULL;
}

static struct node *open_array_element(struct toml_parser *p, struct node *parent, struct str key)
{
	struct node *there = find(parent, key);
	if (!there)
		there = append(p, parent, key, TOML_ARRAY, HEADER_ARRAY);
	if (there && there->origin != HEADER_ARRAY) {
		refuse_duplicate(p, there);
		return NULL;
	}
	return there ? append(p, there, STR_NONE, TOML_TABLE, HEADER) : NULL;
}

static struct node *read_header(struct toml_parser *p, struct node *root)
{
	p->at++;
	bool array = toml_accept(p, '[');
	struct node *parent = root;
	struct str key;
	if (!read_key(p, enter_header_parent, &parent, &key))
		return NULL;
	if (!toml_accept(p, ']') || (array && !toml_accept(p, ']'))) {
		toml_fail(p, DB_E_INVALID, "`%s` is missing after a table's name", array ? "]]" : "]");
		return NULL;
	}
	return array ? open_array_element(p, parent, key) : open_table(p, parent, key);
}

static bool read_document(struct toml_parser *p, struct node *root)
{
	struct node *table = root;
	for (;;) {
		if (!skip_lines(p))
			return false;
		if (toml_at_end(p))
			return true;
		if (toml_peek(p) == '[') {
			table = read_header(p, root);
			if (!table)
				return false;
		} else if (!read_key_value(p, table)) {
			return false;
		}
		if (!expect_line_end(p))
			return false;
	}
}

static bool check_utf8(struct toml_parser *p, struct str text)
{
	if (utf8_valid(text))
		return true;
	for (size_t at = 0, len; (len = utf8_next(str_sub(text, at, text.len))) > 0; at += len)
		p->line += text.at[at] == '\n';
	return toml_fail(p, DB_E_INVALID, "the file is not UTF-8 text");
}

struct toml_value *toml_parse(struct str text, struct arena *arena, struct error *error)
{
	const char *start = text.at ? text.at : "";
	struct toml_parser p = {.at = start, .end = start + text.len, .line = 1, .arena = arena, .error = error};
	struct node *root = append(&p, NULL, STR_NONE, TOML_TABLE, HEADER);
	if (!root || !check_utf8(&p, text) || !read_document(&p, root))
		return NULL;
	return &root->value;
}
