#include "client/sse.h"

void sse_reader_init(struct sse_reader *reader, void (*on_event)(struct str data, void *user), void *user)
{
	*reader = (struct sse_reader){.on_event = on_event, .user = user};
	buf_init(&reader->line, SSE_EVENT_MAX);
	buf_init(&reader->data, SSE_EVENT_MAX);
	buf_init(&reader->name, SSE_EVENT_MAX);
}

void sse_reader_free(struct sse_reader *reader)
{
	buf_free(&reader->line);
	buf_free(&reader->data);
	buf_free(&reader->name);
}

static void end_event(struct sse_reader *reader)
{
	if (reader->has_data)
		reader->on_event(buf_str(&reader->data), reader->user);
	buf_clear(&reader->data);
	buf_clear(&reader->name);
	reader->has_data = false;
}

static struct str unspaced(struct str value)
{
	return str_starts(value, STR(" ")) ? str_sub(value, 1, value.len) : value;
}

/* Fields other than event and data, and comments, say nothing to us. */
static void end_line(struct sse_reader *reader)
{
	struct str line = buf_str(&reader->line), field, value = str_cut(line, ':', &field);
	if (!line.len) {
		end_event(reader);
	} else if (str_is(field, "data")) {
		if (reader->has_data)
			buf_append_byte(&reader->data, '\n');
		buf_append_str(&reader->data, unspaced(value));
		reader->has_data = true;
	} else if (str_is(field, "event")) {
		buf_clear(&reader->name);
		buf_append_str(&reader->name, unspaced(value));
	}
	buf_clear(&reader->line);
}

static size_t to_line_end(struct str bytes)
{
	size_t n = 0;
	while (n < bytes.len && bytes.at[n] != '\n' && bytes.at[n] != '\r')
		n++;
	return n;
}

enum db_err sse_reader_feed(struct sse_reader *reader, struct str bytes)
{
	while (bytes.len && !reader->line.failed && !reader->data.failed) {
		if (reader->after_cr && bytes.at[0] == '\n')
			bytes = str_sub(bytes, 1, bytes.len);
		reader->after_cr = false;
		size_t n = to_line_end(bytes);
		buf_append_str(&reader->line, str_sub(bytes, 0, n));
		if (n == bytes.len || reader->line.failed)
			break;
		reader->after_cr = bytes.at[n] == '\r';
		bytes = str_sub(bytes, n + 1, bytes.len);
		end_line(reader);
	}
	return reader->line.failed || reader->data.failed ? DB_E_LIMIT : DB_OK;
}
