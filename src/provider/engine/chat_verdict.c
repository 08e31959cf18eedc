#include "provider/engine/chat_verdict.h"

#include "provider/engine/chat_schema.h"

#define VERDICT_MAX_BYTES ((size_t)16 << 20) /* a longer answer is not judged: the grammar has held it */

const char *chat_verdict_schema(const struct chat_request *chat, struct arena *arena)
{
	struct buf text;
	struct json_writer writer;
	if (chat->format != CHAT_FORMAT_JSON_SCHEMA || json_type(chat->schema) == JSON_ABSENT ||
	    json_type(chat->schema) == JSON_NULL)
		return chat->format == CHAT_FORMAT_JSON_OBJECT ? "{}" : "";
	buf_init(&text, VERDICT_MAX_BYTES);
	json_writer_init(&writer, &text);
	json_value(&writer, chat->schema);
	const char *copy = text.failed ? NULL : arena_cstr(arena, buf_str(&text));
	buf_free(&text);
	return copy;
}

void chat_verdict_init(struct chat_verdict *verdict, const char *schema_json)
{
	*verdict = (struct chat_verdict){.schema = schema_json && *schema_json ? schema_json : NULL};
	buf_init(&verdict->text, VERDICT_MAX_BYTES);
}

void chat_verdict_free(struct chat_verdict *verdict)
{
	buf_free(&verdict->text);
	verdict->schema = NULL;
}

void chat_verdict_add(struct chat_verdict *verdict, struct str content)
{
	if (verdict->schema)
		buf_append_str(&verdict->text, content);
}

const char *chat_verdict_refusal(const struct chat_verdict *verdict)
{
	if (!verdict->schema || verdict->text.failed || chat_schema_holds_text(str_of(verdict->schema), buf_str(&verdict->text)))
		return NULL;
	return "the answer does not satisfy response_format";
}
