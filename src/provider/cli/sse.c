#include "provider/cli/sse.h"

void sse_reader_init(struct sse_reader *reader, void (*on_event)(struct str data, void *user), void *user)
{
	buf_init(&reader->line, SSE_EVENT_MAX);
	buf_init(&reader->data, SSE_EVENT_MAX);
	reader->on_event = on_event;
	reader->user = user;
}

void sse_reader_free(struct sse_reader *reader)
{
	buf_free(&reader->line);
	buf_free(&reader->data);
}

static void end_line(struct sse_reader *reader)
{
	struct str line = buf_str(&reader->line), field;
	if (line.len && line.at[line.len - 1] == '\r')
		line.len--;
	if (!line.len) {
		if (reader->data.len)
			reader->on_event(buf_str(&reader->data), reader->user);
		buf_clear(&reader->data);
	} else {
		struct str value = str_cut(line, ':', &field);
		if (str_is(field, "data")) {
			if (value.len && value.at[0] == ' ')
				value = str_sub(value, 1, value.len);
			if (reader->data.len)
				buf_append_byte(&reader->data, '\n');
			buf_append_str(&reader->data, value);
		}
	}
	buf_clear(&reader->line);
}

enum db_err sse_reader_feed(struct sse_reader *reader, struct str bytes)
{
	while (bytes.len) {
		struct str line, rest = str_cut(bytes, '\n', &line);
		buf_append_str(&reader->line, line);
		if (reader->line.failed || reader->data.failed)
			return DB_E_LIMIT;
		if (line.len == bytes.len)
			break; /* no line feed yet */
		end_line(reader);
		bytes = rest;
	}
	return reader->data.failed ? DB_E_LIMIT : DB_OK;
}
