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

void chat_verdict_init(struct chat_verdict *verdict, const char *schema_json, bool whole)
{
	*verdict = (struct chat_verdict){.schema = schema_json && *schema_json ? schema_json : NULL, .whole = whole};
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

const char *chat_verdict_refusal(const struct chat_verdict *verdict, enum chat_ending ending)
{
	bool cut = ending != CHAT_ENDED;
	if (!verdict->schema || verdict->text.failed || (cut && !verdict->whole) ||
	    chat_schema_holds_text(str_of(verdict->schema), buf_str(&verdict->text)))
		return NULL;
	switch (ending) {
	case CHAT_CUT_AT_LENGTH:
		return "the answer reached max_tokens before it was complete and does not satisfy response_format: allow more tokens, "
		       "or stream it";
	case CHAT_CUT_AT_STOP:
		return "a stop string cut the answer, and what is left does not satisfy response_format";
	case CHAT_ENDED:
		break;
	}
	return "the answer does not satisfy response_format";
}
