#include "provider/engine/chat_shorten.h"

#include "core/buf.h"
#include "core/json.h"

#define TEXT_MAX ((size_t)64 << 20)

struct message {
	size_t from, bytes; /* in the text */
	size_t part;        /* 1 = goes first; 0 = stays */
};

struct chat_shorten {
	struct str text; /* of all messages, one after the other */
	struct message *messages;
	size_t count, parts;
};

static bool is_role(const json_val *message, const char *name)
{
	struct str role;
	return json_as_str(json_get(message, "role"), &role) && str_is(role, name);
}

static bool stays(const json_val *message)
{
	return is_role(message, "system") || is_role(message, "developer");
}

static size_t last_of_user(const json_val *messages)
{
	struct json_iter iter = json_iter(messages);
	size_t index = 0, last = SIZE_MAX;
	for (json_val *message; (message = json_next(&iter, NULL)); index++)
		if (is_role(message, "user"))
			last = index;
	return last;
}

/* A part begins with a user's message before the last one and with an answer after it. */
static void divide(struct chat_shorten *shorten, const json_val *messages)
{
	struct json_iter iter = json_iter(messages);
	size_t last = last_of_user(messages), begun = 0;
	bool in_last = last == SIZE_MAX;
	for (size_t i = 0; i < shorten->count; i++) {
		const json_val *message = json_next(&iter, NULL);
		if (i == last) {
			in_last = true;
			begun = 0;
			continue;
		}
		if (stays(message))
			continue;
		if (!begun || is_role(message, in_last ? "assistant" : "user"))
			begun = ++shorten->parts;
		shorten->messages[i].part = begun;
	}
	if (!in_last || !begun) /* the last user's message came last */
		return;
	for (size_t i = 0; i < shorten->count; i++)
		if (shorten->messages[i].part == begun)
			shorten->messages[i].part = 0;
	shorten->parts--;
}

static bool copy_text(struct chat_shorten *shorten, const json_val *messages, struct arena *arena)
{
	struct buf text;
	struct json_iter iter = json_iter(messages);
	buf_init(&text, TEXT_MAX);
	for (size_t i = 0; i < shorten->count; i++) {
		struct json_writer w;
		shorten->messages[i].from = text.len;
		json_writer_init(&w, &text);
		json_value(&w, json_next(&iter, NULL));
		shorten->messages[i].bytes = text.len - shorten->messages[i].from;
	}
	shorten->text = text.failed ? STR_NONE : arena_str(arena, buf_str(&text));
	buf_free(&text);
	return shorten->text.at != NULL;
}

struct chat_shorten *chat_shorten_new(const char *messages_json, struct arena *arena)
{
	struct json_doc *doc = json_parse(str_of(messages_json), NULL, NULL);
	const json_val *messages = doc ? json_root(doc) : NULL;
	struct chat_shorten *shorten = NULL;
	size_t count = json_type(messages) == JSON_ARRAY ? json_len(messages) : 0;
	if (count == 0 || !(shorten = arena_alloc(arena, sizeof *shorten)))
		goto out;
	*shorten = (struct chat_shorten){.count = count, .messages = arena_alloc(arena, count * sizeof *shorten->messages)};
	if (!shorten->messages || !copy_text(shorten, messages, arena)) {
		shorten = NULL;
		goto out;
	}
	divide(shorten, messages);

out:
	json_free(doc);
	return shorten;
}

size_t chat_shorten_parts(const struct chat_shorten *shorten)
{
	return shorten->parts;
}

static bool is_left(const struct message *message, size_t dropped)
{
	return message->part == 0 || message->part > dropped;
}

size_t chat_shorten_bytes(const struct chat_shorten *shorten, size_t dropped)
{
	size_t bytes = 0;
	for (size_t i = 0; i < shorten->count; i++)
		if (is_left(&shorten->messages[i], dropped))
			bytes += shorten->messages[i].bytes;
	return bytes;
}

const char *chat_shorten_write(const struct chat_shorten *shorten, size_t dropped, struct arena *arena)
{
	struct buf text;
	struct json_writer w;
	buf_init(&text, TEXT_MAX);
	json_writer_init(&w, &text);
	json_begin_array(&w);
	for (size_t i = 0; i < shorten->count; i++) {
		const struct message *message = &shorten->messages[i];
		if (is_left(message, dropped))
			json_raw(&w, str_sub(shorten->text, message->from, message->bytes));
	}
	json_end_array(&w);
	const char *copy = text.failed ? NULL : arena_cstr(arena, buf_str(&text));
	buf_free(&text);
	return copy;
}
