/* A list of header fields in one buffer, laid out as HTTP/1.1 writes them ("name: value\r\n", names in lower case), so that a
 * head is sent without another copy and HTTP/2 finds the slices. Internal to net/. Content may be secret: it is wiped. */
#ifndef NET_HTTP_FIELDS_H
#define NET_HTTP_FIELDS_H

#include "core/buf.h"

#define HTTP_FIELDS_MAX 512u /* fields of one head */

struct http_field {
	uint32_t name_at, name_len, value_at, value_len; /* in text */
};

struct http_fields {
	struct buf text;
	struct http_field *at;
	uint32_t count, cap;
};

void http_fields_init(struct http_fields *fields, size_t max_bytes);
void http_fields_clear(struct http_fields *fields); /* wipes, keeps the memory */
void http_fields_free(struct http_fields *fields);

/* Copies. DB_E_INVALID: see http_header_is_safe. DB_E_LIMIT: too many bytes or fields. */
enum db_err http_fields_add(struct http_fields *fields, struct str name, struct str value);

/* The same in pieces, as a parser finds them: begin, name..., value_begin, value..., end. The name is put in lower case. */
enum db_err http_fields_begin(struct http_fields *fields);
enum db_err http_fields_name(struct http_fields *fields, const char *bytes, size_t len);
enum db_err http_fields_value_begin(struct http_fields *fields);
enum db_err http_fields_value(struct http_fields *fields, const char *bytes, size_t len);
enum db_err http_fields_end(struct http_fields *fields); /* strips white space behind the value */

struct str http_fields_name_at(const struct http_fields *fields, uint32_t i);
struct str http_fields_value_at(const struct http_fields *fields, uint32_t i);
/* The first field of that name; at == NULL when there is none. */
struct str http_fields_find(const struct http_fields *fields, struct str lower_case_name);
uint32_t http_fields_count_of(const struct http_fields *fields, struct str lower_case_name);

#endif
