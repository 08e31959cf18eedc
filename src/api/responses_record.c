#include "api/responses_internal.h"

#include <stdio.h>

/* --- before a request is parsed --- */

void responses_previous(struct str body, struct arena *arena, struct str *id)
{
	struct json_raw_iter iter = json_raw_iter(body);
	struct str key, value, last = STR_NONE; /* the last of several wins, as when it is parsed */
	while (json_raw_next(&iter, &key, &value) == DB_OK)
		if (json_raw_key_is(key, "previous_response_id"))
			last = value;
	*id = last.len > 2 && last.at[0] == '"' ? arena_str(arena, str_sub(last, 1, last.len - 2)) : STR_NONE;
}

void responses_id(const char *job_id, char out[RESPONSES_ID_BYTES])
{
	size_t used = 5;
	memcpy(out, "resp_", used);
	for (const char *at = job_id; *at && used < RESPONSES_ID_BYTES - 1; at++)
		if (*at != '-')
			out[used++] = *at;
	out[used] = '\0';
}

/* --- writing --- */

static const char *prefix_of(struct str type)
{
	return str_is(type, "function_call")          ? "fc"
	       : str_is(type, "function_call_output") ? "fco"
	       : str_is(type, "reasoning")            ? "rs"
	                                              : "msg";
}

static void put_text_part(struct json_writer *w, struct str text, bool output)
{
	json_begin_object(w);
	json_put_cstr(w, "type", output ? "output_text" : "input_text");
	json_put_str(w, "text", text);
	if (output) {
		json_key(w, "annotations");
		json_raw(w, STR("[]"));
		json_key(w, "logprobs");
		json_raw(w, STR("[]"));
	}
	json_end_object(w);
}

/* Text alone stands for one part. */
static void put_content(struct json_writer *w, const json_val *content, bool output)
{
	struct str text;
	json_key(w, "content");
	json_begin_array(w);
	if (json_as_str(content, &text))
		put_text_part(w, text, output);
	struct json_iter iter = json_iter(json_type(content) == JSON_ARRAY ? content : NULL);
	for (json_val *part; (part = json_next(&iter, NULL));) {
		if (json_as_str(part, &text))
			put_text_part(w, text, output);
		else
			json_value(w, part);
	}
	json_end_array(w);
}

/* An input item with the members that the schema asks for. */
static void put_item(struct json_writer *w, const char *hex, const json_val *item, size_t index)
{
	struct str type = STR("message"), role = STR("user"), id, key;
	json_as_str(json_get_some(item, "type"), &type);
	json_as_str(json_get_some(item, "role"), &role);
	bool message = str_is(type, "message");
	json_begin_object(w);
	if (json_as_str(json_get_some(item, "id"), &id)) {
		json_put_str(w, "id", id);
	} else {
		char made[RESPONSES_ID_SIZE];
		(void)snprintf(made, sizeof made, "%s_%s_in%zu", prefix_of(type), hex, index);
		json_put_cstr(w, "id", made);
	}
	json_put_str(w, "type", type);
	if (message) {
		json_put_str(w, "role", role);
		put_content(w, json_get(item, "content"), str_is(role, "assistant"));
	}
	if (!json_get_some(item, "status"))
		json_put_str(w, "status", STR("completed"));
	struct json_iter iter = json_iter(item);
	for (json_val *value; (value = json_next(&iter, &key));) {
		bool written = str_is(key, "id") || str_is(key, "type") || (message && (str_is(key, "role") || str_is(key, "content")));
		if (written || (str_is(key, "status") && json_type(value) == JSON_NULL))
			continue;
		json_key_str(w, key);
		json_value(w, value);
	}
	json_end_object(w);
}

static void put_input(struct json_writer *w, const char *hex, const json_val *input)
{
	struct str text;
	json_begin_array(w);
	if (json_as_str(input, &text)) {
		json_begin_object(w);
		char id[RESPONSES_ID_SIZE];
		(void)snprintf(id, sizeof id, "msg_%s_in0", hex);
		json_put_cstr(w, "id", id);
		json_put_str(w, "type", STR("message"));
		json_put_str(w, "role", STR("user"));
		put_content(w, input, false);
		json_put_str(w, "status", STR("completed"));
		json_end_object(w);
	}
	struct json_iter iter = json_iter(json_type(input) == JSON_ARRAY ? input : NULL);
	size_t index = 0;
	for (json_val *item; (item = json_next(&iter, NULL)); index++)
		put_item(w, hex, item, index);
	json_end_array(w);
}

enum db_err responses_record(struct dialect_answer *base, const struct chat_answer_end *end, struct buf *out)
{
	struct responses_answer *answer = (struct responses_answer *)(void *)base;
	const struct responses_request *request = answer->request;
	struct responses_outcome outcome;
	struct json_writer w;
	if (!request || !request->store)
		return DB_OK;
	responses_outcome(answer, end, &outcome);
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_key(&w, "input");
	put_input(&w, answer->hex, json_get(request->root, "input"));
	json_key(&w, "response");
	responses_put_object(&w, answer, &outcome);
	json_end_object(&w);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

/* --- reading --- */

static enum db_err open_record(struct str text, struct json_doc **doc, const json_val **input, const json_val **response)
{
	struct error why;
	*doc = json_parse(text, NULL, &why);
	if (!*doc)
		return DB_E_INVALID;
	*input = json_get(json_root(*doc), "input");
	*response = json_get(json_root(*doc), "response");
	if (json_type(*input) == JSON_ARRAY && json_type(*response) == JSON_OBJECT)
		return DB_OK;
	json_free(*doc);
	return DB_E_INVALID;
}

static void put_elements(struct json_writer *w, const json_val *array)
{
	struct json_iter iter = json_iter(json_type(array) == JSON_ARRAY ? array : NULL);
	for (json_val *value; (value = json_next(&iter, NULL));)
		json_value(w, value);
}

enum db_err responses_history(const struct str *records, size_t count, struct buf *out)
{
	struct json_writer w;
	json_writer_init(&w, out);
	json_begin_array(&w);
	for (size_t i = 0; i < count; i++) {
		struct json_doc *doc;
		const json_val *input, *response;
		enum db_err err = open_record(records[i], &doc, &input, &response);
		if (err)
			return err;
		put_elements(&w, input);
		put_elements(&w, json_get(response, "output"));
		json_free(doc);
	}
	json_end_array(&w);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

enum db_err responses_record_object(struct str record, struct buf *out)
{
	struct json_doc *doc;
	struct json_writer w;
	const json_val *input, *response;
	enum db_err err = open_record(record, &doc, &input, &response);
	if (err)
		return err;
	json_writer_init(&w, out);
	json_value(&w, response);
	json_free(doc);
	return out->failed ? DB_E_LIMIT : DB_OK;
}

/* The place of the item with this id in the order asked for; SIZE_MAX when there is none. */
static size_t place_of(const json_val *input, struct str id, bool ascending)
{
	struct json_iter iter = json_iter(input);
	struct str own;
	size_t index = 0, count = json_len(input);
	for (json_val *item; (item = json_next(&iter, NULL)); index++)
		if (json_as_str(json_get(item, "id"), &own) && str_eq(own, id))
			return ascending ? index : count - 1 - index;
	return SIZE_MAX;
}

static void put_id(struct json_writer *w, const char *name, const json_val *item)
{
	struct str id;
	if (json_as_str(json_get(item, "id"), &id))
		json_put_str(w, name, id);
	else
		json_put_cstr(w, name, NULL);
}

static enum db_err put_page(struct json_writer *w, const json_val *input, const struct responses_page *page)
{
	size_t count = json_len(input), from = 0;
	const json_val *first = NULL, *last = NULL;
	if (page->after.len > 0) {
		size_t place = place_of(input, page->after, page->ascending);
		if (place == SIZE_MAX)
			return DB_E_NOT_FOUND;
		from = place + 1;
	}
	size_t to = count - from > page->limit ? from + page->limit : count;
	json_begin_object(w);
	json_put_str(w, "object", STR("list"));
	json_key(w, "data");
	json_begin_array(w);
	for (size_t i = from; i < to; i++) {
		last = json_at(input, page->ascending ? i : count - 1 - i);
		first = first ? first : last;
		json_value(w, last);
	}
	json_end_array(w);
	put_id(w, "first_id", first);
	put_id(w, "last_id", last);
	json_put_bool(w, "has_more", to < count);
	json_end_object(w);
	return DB_OK;
}

enum db_err responses_record_items(struct str record, const struct responses_page *page, struct buf *out)
{
	struct json_doc *doc;
	struct json_writer w;
	const json_val *input, *response;
	enum db_err err = open_record(record, &doc, &input, &response);
	if (err)
		return err;
	json_writer_init(&w, out);
	err = put_page(&w, input, page);
	json_free(doc);
	return err ? err : out->failed ? DB_E_LIMIT : DB_OK;
}
