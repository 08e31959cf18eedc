#include "net/http_fields.h"

#include <stdlib.h>

#include "net/http_header.h"

void http_fields_init(struct http_fields *fields, size_t max_bytes)
{
	*fields = (struct http_fields){0};
	buf_init(&fields->text, max_bytes);
}

void http_fields_clear(struct http_fields *fields)
{
	buf_clear(&fields->text);
	fields->count = 0;
}

void http_fields_free(struct http_fields *fields)
{
	size_t max = fields->text.max;
	buf_free(&fields->text);
	free(fields->at);
	http_fields_init(fields, max);
}

enum db_err http_fields_begin(struct http_fields *fields)
{
	if (fields->count >= HTTP_FIELDS_MAX)
		return DB_E_LIMIT;
	if (fields->count == fields->cap) {
		uint32_t cap = fields->cap ? fields->cap * 2 : 16;
		struct http_field *grown = realloc(fields->at, cap * sizeof *grown);
		if (!grown)
			return DB_E_NOMEM;
		fields->at = grown;
		fields->cap = cap;
	}
	fields->at[fields->count++] = (struct http_field){.name_at = (uint32_t)fields->text.len};
	return DB_OK;
}

enum db_err http_fields_name(struct http_fields *fields, const char *bytes, size_t len)
{
	enum db_err err = buf_append(&fields->text, bytes, len);
	if (err)
		return err;
	char *at = fields->text.at + fields->text.len - len;
	for (size_t i = 0; i < len; i++) {
		if (at[i] >= 'A' && at[i] <= 'Z')
			at[i] = (char)(at[i] | 0x20);
	}
	fields->at[fields->count - 1].name_len += (uint32_t)len;
	return DB_OK;
}

enum db_err http_fields_value_begin(struct http_fields *fields)
{
	enum db_err err = buf_append(&fields->text, ": ", 2);
	fields->at[fields->count - 1].value_at = (uint32_t)fields->text.len;
	return err;
}

enum db_err http_fields_value(struct http_fields *fields, const char *bytes, size_t len)
{
	enum db_err err = buf_append(&fields->text, bytes, len);
	if (!err)
		fields->at[fields->count - 1].value_len += (uint32_t)len;
	return err;
}

enum db_err http_fields_end(struct http_fields *fields)
{
	struct http_field *field = &fields->at[fields->count - 1];
	while (field->value_len > 0) {
		char last = fields->text.at[field->value_at + field->value_len - 1];
		if (last != ' ' && last != '\t')
			break;
		field->value_len--;
		fields->text.len--;
	}
	return buf_append(&fields->text, "\r\n", 2);
}

enum db_err http_fields_add(struct http_fields *fields, struct str name, struct str value)
{
	if (!http_header_is_safe(&(struct http_header){name, value}))
		return DB_E_INVALID;
	/* Either the whole field goes in or nothing of it. */
	enum db_err err = buf_reserve(&fields->text, name.len + value.len + 4);
	if (!err)
		err = http_fields_begin(fields);
	if (err)
		return err;
	(void)http_fields_name(fields, name.at, name.len);
	(void)http_fields_value_begin(fields);
	(void)http_fields_value(fields, value.at, value.len);
	return http_fields_end(fields);
}

struct str http_fields_name_at(const struct http_fields *fields, uint32_t i)
{
	return (struct str){fields->text.at + fields->at[i].name_at, fields->at[i].name_len};
}

struct str http_fields_value_at(const struct http_fields *fields, uint32_t i)
{
	return (struct str){fields->text.at + fields->at[i].value_at, fields->at[i].value_len};
}

struct str http_fields_find(const struct http_fields *fields, struct str lower_case_name)
{
	for (uint32_t i = 0; i < fields->count; i++) {
		if (str_eq(http_fields_name_at(fields, i), lower_case_name))
			return http_fields_value_at(fields, i);
	}
	return STR_NONE;
}

uint32_t http_fields_count_of(const struct http_fields *fields, struct str lower_case_name)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < fields->count; i++)
		count += str_eq(http_fields_name_at(fields, i), lower_case_name);
	return count;
}
