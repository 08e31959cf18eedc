#include "core/config.h"

#include "core/suggest.h"
#include "core/toml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CONFIG_FILE_MAX (1u << 20)
#define CONFIG_NAME_MAX 128

struct loader {
	const struct config_field *fields;
	size_t count;
	void *target;
	struct arena *arena;
	struct error *error;
};

/* Where a value stands, for the sentence about it: "conf.toml: line 3: " or "Environment variable X: ". */
typedef char origin[300];

static void put(const struct loader *loader, const struct config_field *field, const void *value, size_t size)
{
	memcpy((char *)loader->target + field->offset, value, size);
}

/* --- what a field accepts, in words --- */

static void describe(const struct config_field *field, struct buf *out)
{
	switch (field->type) {
	case CONFIG_STRING:
		buf_append_c(out, "a text");
		break;
	case CONFIG_INT:
		buf_printf(out, "a whole number from %lld to %lld", (long long)field->min, (long long)field->max);
		break;
	case CONFIG_BOOL:
		buf_append_c(out, "true or false");
		break;
	case CONFIG_ENUM:
		buf_append_c(out, "one of");
		for (size_t i = 0; field->choices[i]; i++)
			buf_printf(out, "%s \"%s\"", i ? "," : "", field->choices[i]);
		break;
	case CONFIG_STRINGS:
		buf_append_c(out, "a list of texts");
		break;
	}
}

static enum db_err refuse(const struct loader *loader, const struct config_field *field, const char *where)
{
	struct buf wanted;
	buf_init(&wanted, 512);
	describe(field, &wanted);
	enum db_err code = field->type == CONFIG_INT ? DB_E_RANGE : DB_E_INVALID;
	error_set(loader->error, code, "%s`%s` must be %.*s.", where, field->name, STR_ARG(buf_str(&wanted)));
	buf_free(&wanted);
	return code;
}

/* --- setting values --- */

static enum db_err set_string(const struct loader *loader, const struct config_field *field, struct str text, const char *where)
{
	if (text.len > 0 && memchr(text.at, '\0', text.len))
		return error_set(loader->error, DB_E_INVALID, "%s`%s` holds a NUL character.", where, field->name);
	const char *copy = arena_cstr(loader->arena, text);
	if (!copy)
		return error_set(loader->error, DB_E_NOMEM, "There is not enough memory for the configuration.");
	put(loader, field, &copy, sizeof copy);
	return DB_OK;
}

static enum db_err set_int(const struct loader *loader, const struct config_field *field, int64_t value, const char *where)
{
	if (value < field->min || value > field->max)
		return refuse(loader, field, where);
	put(loader, field, &value, sizeof value);
	return DB_OK;
}

static enum db_err set_enum(const struct loader *loader, const struct config_field *field, struct str text, const char *where)
{
	for (int i = 0; field->choices[i]; i++)
		if (str_is(text, field->choices[i])) {
			put(loader, field, &i, sizeof i);
			return DB_OK;
		}
	return refuse(loader, field, where);
}

static bool strings_alloc(const struct loader *loader, size_t count, struct config_strings *out)
{
	out->count = 0;
	out->at = arena_alloc(loader->arena, (count + 1) * sizeof *out->at);
	return out->at != NULL;
}

static bool strings_add(const struct loader *loader, struct config_strings *strings, struct str text)
{
	const char *copy = arena_cstr(loader->arena, text);
	if (copy)
		strings->at[strings->count++] = copy;
	return copy != NULL;
}

static enum db_err no_memory(const struct loader *loader)
{
	return error_set(loader->error, DB_E_NOMEM, "There is not enough memory for the configuration.");
}

static enum db_err set_strings_from_text(const struct loader *loader, const struct config_field *field, struct str text,
                                         const char *where)
{
	size_t commas = 0;
	for (size_t i = 0; i < text.len; i++)
		commas += text.at[i] == ',';
	struct config_strings strings;
	if (!strings_alloc(loader, commas + 1, &strings))
		return no_memory(loader);
	for (struct str rest = str_trim(text), item; rest.at && text.len > 0;) {
		rest = str_cut(rest, ',', &item);
		item = str_trim(item);
		if (item.len == 0)
			return error_set(loader->error, DB_E_INVALID, "%s`%s` has an empty item between commas.", where, field->name);
		if (!strings_add(loader, &strings, item))
			return no_memory(loader);
	}
	put(loader, field, &strings, sizeof strings);
	return DB_OK;
}

/* A value in the environment's form. */
static enum db_err set_from_text(const struct loader *loader, const struct config_field *field, const char *text,
                                 const char *where)
{
	struct str value = str_of(text);
	int64_t number;
	bool truth = str_is(value, "true") || str_is(value, "1");
	switch (field->type) {
	case CONFIG_STRING:
		return set_string(loader, field, value, where);
	case CONFIG_INT:
		return str_to_i64(value, &number) ? set_int(loader, field, number, where) : refuse(loader, field, where);
	case CONFIG_BOOL:
		if (!truth && !str_is(value, "false") && !str_is(value, "0"))
			return refuse(loader, field, where);
		put(loader, field, &truth, sizeof truth);
		return DB_OK;
	case CONFIG_ENUM:
		return set_enum(loader, field, value, where);
	case CONFIG_STRINGS:
		return set_strings_from_text(loader, field, value, where);
	}
	return DB_E_INTERNAL;
}

static enum db_err set_strings_from_array(const struct loader *loader, const struct config_field *field,
                                          const struct toml_value *array, const char *where)
{
	size_t count = 0;
	for (const struct toml_value *item = array->first; item; item = item->next) {
		if (item->type != TOML_STRING || (item->as.string.len > 0 && memchr(item->as.string.at, '\0', item->as.string.len)))
			return refuse(loader, field, where);
		count++;
	}
	struct config_strings strings;
	if (!strings_alloc(loader, count, &strings))
		return no_memory(loader);
	for (const struct toml_value *item = array->first; item; item = item->next)
		if (!strings_add(loader, &strings, item->as.string))
			return no_memory(loader);
	put(loader, field, &strings, sizeof strings);
	return DB_OK;
}

static enum db_err set_from_toml(const struct loader *loader, const struct config_field *field, const struct toml_value *value,
                                 const char *where)
{
	static const enum toml_type wanted[] = {
	    [CONFIG_STRING] = TOML_STRING, [CONFIG_INT] = TOML_INT,       [CONFIG_BOOL] = TOML_BOOL,
	    [CONFIG_ENUM] = TOML_STRING,   [CONFIG_STRINGS] = TOML_ARRAY,
	};
	if (value->type != wanted[field->type])
		return refuse(loader, field, where);
	switch (field->type) {
	case CONFIG_STRING:
		return set_string(loader, field, value->as.string, where);
	case CONFIG_INT:
		return set_int(loader, field, value->as.integer, where);
	case CONFIG_BOOL:
		put(loader, field, &value->as.boolean, sizeof value->as.boolean);
		return DB_OK;
	case CONFIG_ENUM:
		return set_enum(loader, field, value->as.string, where);
	case CONFIG_STRINGS:
		return set_strings_from_array(loader, field, value, where);
	}
	return DB_E_INTERNAL;
}

/* --- the file --- */

static const struct config_field *field_named(const struct loader *loader, struct str name)
{
	for (size_t i = 0; i < loader->count; i++)
		if (str_is(name, loader->fields[i].name))
			return &loader->fields[i];
	return NULL;
}

static struct str section_of(const struct config_field *field)
{
	const char *dot = strrchr(field->name, '.');
	return (struct str){field->name, dot ? (size_t)(dot - field->name) : 0};
}

static bool is_section(const struct loader *loader, struct str name)
{
	for (size_t i = 0; i < loader->count; i++) {
		struct str field = str_of(loader->fields[i].name);
		if (field.len > name.len && field.at[name.len] == '.' && str_starts(field, name))
			return true;
	}
	return false;
}

static enum db_err refuse_unknown(const struct loader *loader, struct str name, const char *where)
{
	struct suggest suggest;
	suggest_begin(&suggest, name);
	for (size_t i = 0; i < loader->count; i++) {
		suggest_offer(&suggest, str_of(loader->fields[i].name));
		suggest_offer(&suggest, section_of(&loader->fields[i]));
	}
	if (suggest.best.len == 0)
		return error_set(loader->error, DB_E_INVALID, "%s`%.*s` is not a known setting.", where, STR_ARG(name));
	return error_set(loader->error, DB_E_INVALID, "%s`%.*s` is not a known setting. Did you mean `%.*s`?", where, STR_ARG(name),
	                 STR_ARG(suggest.best));
}

static enum db_err load_table(const struct loader *loader, const struct toml_value *table, struct str prefix, const char *path)
{
	for (const struct toml_value *value = table->first; value; value = value->next) {
		origin where;
		struct buf full;
		buf_init(&full, CONFIG_NAME_MAX);
		if (prefix.len > 0)
			buf_printf(&full, "%.*s.", STR_ARG(prefix));
		buf_append_str(&full, str_sub(value->key, 0, CONFIG_NAME_MAX / 2));
		(void)snprintf(where, sizeof where, "%.240s: line %d: ", path, value->line);
		const struct config_field *field = field_named(loader, buf_str(&full));
		enum db_err err;
		if (field)
			err = set_from_toml(loader, field, value, where);
		else if (value->type == TOML_TABLE && is_section(loader, buf_str(&full)))
			err = load_table(loader, value, buf_str(&full), path);
		else
			err = refuse_unknown(loader, buf_str(&full), where);
		buf_free(&full);
		if (err)
			return err;
	}
	return DB_OK;
}

static enum db_err read_file(const char *path, struct buf *out, struct error *error)
{
	enum db_err err = DB_OK;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_set(error, errno == ENOENT ? DB_E_NOT_FOUND : DB_E_IO, "Cannot open the configuration file %s: %s.", path,
		                 strerror(errno));
	for (;;) {
		err = buf_reserve(out, 4096);
		if (err) {
			error_set(error, err, "The configuration file %s is larger than %u bytes.", path, CONFIG_FILE_MAX);
			break;
		}
		ssize_t got = read(fd, out->at + out->len, out->cap - out->len);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			err = error_set(error, DB_E_IO, "Cannot read the configuration file %s: %s.", path, strerror(errno));
		if (got <= 0)
			break;
		out->len += (size_t)got;
	}
	close(fd);
	return err;
}

static enum db_err load_file(const struct loader *loader, const char *path)
{
	struct error why = {0};
	struct buf text;
	buf_init(&text, CONFIG_FILE_MAX + 4096);
	enum db_err err = read_file(path, &text, loader->error);
	if (err)
		goto out;
	const struct toml_value *root = toml_parse(buf_str(&text), loader->arena, &why);
	if (root)
		err = load_table(loader, root, STR_NONE, path);
	else
		err = error_set(loader->error, why.code, "%s: %s.", path, why.text);
out:
	buf_free(&text);
	return err;
}

/* --- all sources --- */

enum db_err config_load(const struct config_field *fields, size_t count, void *target, const char *path, struct arena *arena,
                        struct error *error)
{
	struct loader loader = {fields, count, target, arena, error};
	origin where;
	enum db_err err = DB_OK;
	for (size_t i = 0; i < count && !err; i++)
		if (fields[i].fallback)
			err = set_from_text(&loader, &fields[i], fields[i].fallback, "Default value: ");
	if (!err && path)
		err = load_file(&loader, path);
	for (size_t i = 0; i < count && !err; i++) {
		const char *text = fields[i].env ? getenv(fields[i].env) : NULL;
		if (!text || text[0] == '\0')
			continue;
		(void)snprintf(where, sizeof where, "Environment variable %.200s: ", fields[i].env);
		err = set_from_text(&loader, &fields[i], text, where);
	}
	return err;
}

/* --- reference --- */

static void append_cell(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] == '|')
			buf_append_byte(out, '\\');
		buf_append_byte(out, text.at[i] == '\n' ? ' ' : text.at[i]);
	}
}

static void document_field(const struct config_field *field, struct buf *out)
{
	struct str section = section_of(field);
	struct buf kind;
	buf_init(&kind, 1024);
	describe(field, &kind);
	buf_printf(out, "| `%s` | ", field->name + section.len + (section.len > 0));
	append_cell(out, buf_str(&kind));
	if (field->secret)
		buf_append_c(out, ", secret");
	buf_append_c(out, " | ");
	if (field->fallback && field->fallback[0] && !field->secret)
		buf_printf(out, "`%s` ", field->fallback);
	buf_append_c(out, "| ");
	if (field->env)
		buf_printf(out, "`%s` ", field->env);
	buf_append_c(out, "| ");
	append_cell(out, str_of(field->help));
	buf_append_c(out, " |\n");
	buf_free(&kind);
}

void config_document(const struct config_field *fields, size_t count, struct buf *out)
{
	struct str section = STR_NONE;
	for (size_t i = 0; i < count; i++) {
		struct str here = section_of(&fields[i]);
		if (i == 0 || !str_eq(here, section)) {
			if (here.len > 0)
				buf_printf(out, "%s## [%.*s]\n\n", i ? "\n" : "", STR_ARG(here));
			buf_append_c(out, "| key | value | default | environment | meaning |\n|---|---|---|---|---|\n");
			section = here;
		}
		document_field(&fields[i], out);
	}
}
