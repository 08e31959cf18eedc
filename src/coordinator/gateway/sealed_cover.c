#include "coordinator/gateway/sealed_cover.h"

#include "core/json.h"
#include "wire/envelope.h"
#include "wire/payload.h"

#define EVENT_HEAD "data: "
#define EVENT_END  "\n\n"

/* In the request's arena, which wipes the key. */
struct cover {
	struct box_shared shared;
	char kid[BOX_KID_SIZE];
	struct buf rest; /* of a stream: bytes after the last blank line */
	struct buf out;
};

static void release(struct exchange *exchange)
{
	struct cover *cover = exchange->cover_state;
	buf_free(&cover->rest);
	buf_free(&cover->out);
}

static void respond(struct exchange *exchange, int status, const char *content_type, struct str body)
{
	struct cover *cover = exchange->cover_state;
	struct json_writer w;
	struct buf out;
	(void)content_type; /* what the body is, the consumer sees when it is open */
	buf_init(&out, 2 * body.len + 4096);
	json_writer_init(&w, &out);
	json_begin_object(&w);
	json_put_cstr(&w, "kid", cover->kid);
	json_key(&w, "ciphertext");
	json_raw(&w, STR("\""));
	(void)wire_append_sealed(&cover->shared, body, &out);
	buf_append_byte(&out, '"');
	json_end_object(&w);
	release(exchange);
	http_respond(exchange->http, out.failed ? 503 : status, ENVELOPE_CONTENT_TYPE, out.failed ? STR_NONE : buf_str(&out));
	buf_free(&out);
}

static void add_event(struct cover *cover, struct str piece)
{
	if (piece.len == 0)
		return;
	buf_append_str(&cover->out, STR(EVENT_HEAD));
	(void)wire_append_sealed(&cover->shared, piece, &cover->out);
	buf_append_str(&cover->out, STR(EVENT_END));
}

/* Adds the events that are complete; returns what is left. */
static struct str add_events(struct cover *cover, struct str bytes)
{
	const char *end;
	while (bytes.len && (end = memmem(bytes.at, bytes.len, EVENT_END, sizeof EVENT_END - 1))) {
		size_t len = (size_t)(end - bytes.at);
		add_event(cover, str_sub(bytes, 0, len));
		bytes = str_sub(bytes, len + sizeof EVENT_END - 1, SIZE_MAX);
	}
	return bytes;
}

static enum db_err send_out(struct exchange *exchange)
{
	struct cover *cover = exchange->cover_state;
	enum db_err err = cover->out.failed ? DB_E_LIMIT : http_stream_write(exchange->http, buf_str(&cover->out));
	buf_clear(&cover->out);
	return err;
}

static enum db_err write_stream(struct exchange *exchange, struct str bytes)
{
	struct cover *cover = exchange->cover_state;
	if (cover->rest.len == 0) {
		struct str left = add_events(cover, bytes);
		if (left.len && buf_append_str(&cover->rest, left))
			return DB_E_LIMIT;
	} else {
		if (buf_append_str(&cover->rest, bytes))
			return DB_E_LIMIT;
		struct str left = add_events(cover, buf_str(&cover->rest));
		buf_consume(&cover->rest, cover->rest.len - left.len);
	}
	return send_out(exchange);
}

static void end_stream(struct exchange *exchange)
{
	struct cover *cover = exchange->cover_state;
	add_event(cover, buf_str(&cover->rest));
	(void)send_out(exchange);
	release(exchange);
	http_stream_end(exchange->http);
}

static const struct exchange_cover covering = {.respond = respond, .write = write_stream, .end = end_stream, .gone = release};

enum db_err sealed_cover(struct exchange *exchange, const struct box_shared *shared, const char *kid)
{
	struct cover *cover = arena_alloc(http_arena(exchange->http), sizeof *cover);
	if (!cover)
		return DB_E_NOMEM;
	cover->shared = *shared;
	(void)str_copy(str_of(kid), cover->kid, sizeof cover->kid);
	buf_init(&cover->rest, 2 * (size_t)HTTP_STREAM_HARD_BYTES);
	buf_init(&cover->out, 4 * (size_t)HTTP_STREAM_HARD_BYTES);
	exchange->cover = &covering;
	exchange->cover_state = cover;
	exchange_header(exchange, "X-Eigen-Sealed", STR("true"));
	exchange_header(exchange, "X-Eigen-Sealed-Kid", str_of(cover->kid));
	return DB_OK;
}
