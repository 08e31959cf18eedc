/* POST /v1/embeddings: each input travels as a message of its own, each vector comes back as a frame of its own. */
#include "api/dialect.h"
#include "api/lower.h"
#include "core/buf.h"
#include "core/encode.h"

#include <math.h>
#include <stdio.h>

#define INPUTS_MAX    2048 /* as the public API allows */
#define TOKENS_MAX    (1u << 20)
#define BODY_MAX      (64u << 20)
#define VECTORS_MAX   (64u << 20) /* base64 of all vectors of an answer */
#define FLOAT_MAX_LEN 24

struct embeddings_state {
	bool base64; /* encoding_format */
	size_t inputs;
};

struct lowering {
	struct json_writer w;
	struct buf body;
	struct api_error *error;
	size_t inputs;
};

/* --- requests --- */

static void begin_message(struct lowering *to)
{
	json_begin_object(&to->w);
	json_put_str(&to->w, "role", STR("user"));
	json_key(&to->w, "content");
	to->inputs++;
}

static bool put_text(struct lowering *to, struct str text)
{
	if (text.len == 0)
		return chat_refuse(to->error, "input", "input must not have empty texts.");
	begin_message(to);
	json_str(&to->w, text);
	json_end_object(&to->w);
	return true;
}

static bool put_tokens(struct lowering *to, const json_val *tokens)
{
	struct json_iter iter = json_iter(tokens);
	int64_t token;
	size_t count = json_len(tokens);
	if (count == 0 || count > TOKENS_MAX)
		return chat_refuse(to->error, "input", "A list of tokens in input must have between 1 and %u of them.", TOKENS_MAX);
	begin_message(to);
	json_begin_array(&to->w);
	json_begin_object(&to->w);
	json_put_str(&to->w, "type", STR("tokens"));
	json_key(&to->w, "tokens");
	json_begin_array(&to->w);
	for (json_val *value; (value = json_next(&iter, NULL));) {
		if (!json_as_i64(value, &token) || token < 0 || token > INT32_MAX)
			return chat_refuse(to->error, "input", "Tokens in input must be integers of 0 and more.");
		json_i64(&to->w, token);
	}
	json_end_array(&to->w);
	json_end_object(&to->w);
	json_end_array(&to->w);
	json_end_object(&to->w);
	return true;
}

static bool put_list(struct lowering *to, const json_val *input)
{
	struct json_iter iter = json_iter(input);
	json_val *first = json_next(&iter, NULL);
	struct str text;
	if (json_type(first) == JSON_INT)
		return put_tokens(to, input);
	if (json_len(input) > INPUTS_MAX)
		return chat_refuse(to->error, "input", "At most %d inputs can be given at once.", INPUTS_MAX);
	iter = json_iter(input);
	for (json_val *value; (value = json_next(&iter, NULL));) {
		if (json_as_str(value, &text)) {
			if (!put_text(to, text))
				return false;
		} else if (json_type(value) != JSON_ARRAY) {
			return chat_refuse(to->error, "input", "input must be texts or lists of tokens.");
		} else if (!put_tokens(to, value)) {
			return false;
		}
	}
	return true;
}

static bool put_input(struct lowering *to, const json_val *root)
{
	const json_val *input = json_get_some(root, "input");
	struct str text;
	json_key(&to->w, "messages");
	json_begin_array(&to->w);
	if (json_as_str(input, &text)) {
		if (!put_text(to, text))
			return false;
	} else if (json_type(input) != JSON_ARRAY || json_len(input) == 0) {
		return chat_refuse(to->error, "input", "input is required: a text, a list of texts, or tokens.");
	} else if (!put_list(to, input)) {
		return false;
	}
	json_end_array(&to->w);
	return true;
}

static bool read_format(struct lowering *to, const json_val *root, struct embeddings_state *state)
{
	const json_val *format = json_get_some(root, "encoding_format");
	struct str name;
	if (!format)
		return true;
	if (!json_as_str(format, &name) || !(str_is(name, "float") || str_is(name, "base64")))
		return chat_refuse(to->error, "encoding_format", "encoding_format must be float or base64.");
	state->base64 = str_is(name, "base64");
	return true;
}

static bool refuse_unsupported(struct lowering *to, const json_val *root)
{
	bool stream = false;
	if (json_get_some(root, "dimensions"))
		return chat_refuse(to->error, "dimensions",
		                   "The vectors of the models here cannot be shortened: leave dimensions out.");
	if (!chat_get_bool(root, "stream", &stream, to->error))
		return false;
	return !stream || chat_refuse(to->error, "stream", "Embeddings are not streamed.");
}

static void copy_unknown(struct lowering *to, const json_val *root)
{
	static const char *const known[] = {"model",
	                                    "input",
	                                    "encoding_format",
	                                    "dimensions",
	                                    "stream",
	                                    "messages",
	                                    "max_tokens",
	                                    "max_output_tokens",
	                                    "max_completion_tokens",
	                                    "endpoint"};
	struct json_iter iter = json_iter(root);
	struct str key;
	for (json_val *value; (value = json_next(&iter, &key));) {
		bool is_known = false;
		for (size_t i = 0; i < sizeof known / sizeof *known; i++)
			is_known = is_known || str_is(key, known[i]);
		if (is_known)
			continue;
		json_key_str(&to->w, key);
		json_value(&to->w, value);
	}
}

static bool lower(struct lowering *to, const json_val *root, struct embeddings_state *state)
{
	struct str model;
	if (json_type(root) != JSON_OBJECT)
		return chat_refuse(to->error, NULL, "The request body must be a JSON object.");
	if (!json_as_str(json_get(root, "model"), &model) || model.len == 0)
		return chat_refuse(to->error, "model", "model is required: a non-empty string.");
	json_begin_object(&to->w);
	json_put_str(&to->w, "model", model);
	json_put_str(&to->w, "endpoint", STR(CHAT_ENDPOINT_EMBED));
	json_put_i64(&to->w, "max_tokens", 1);
	if (!put_input(to, root) || !read_format(to, root, state) || !refuse_unsupported(to, root))
		return false;
	copy_unknown(to, root);
	json_end_object(&to->w);
	state->inputs = to->inputs;
	return !to->body.failed || chat_refuse(to->error, "input", "The request body is too large.");
}

static bool parse(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error)
{
	struct lowering to = {.error = error};
	struct embeddings_state *state = arena_alloc(arena, sizeof *state);
	struct json_doc *doc = lower_read(body, error);
	*out = (struct chat_request){0};
	buf_init(&to.body, BODY_MAX);
	json_writer_init(&to.w, &to.body);
	bool ok = doc && (!state || lower(&to, json_root(doc), state)) && lower_finish(&to.body, arena, state, out, error);
	json_free(doc);
	buf_free(&to.body);
	return ok;
}

/* --- answers --- */

struct embeddings_answer {
	struct dialect_answer base;
	struct str model;
	const struct embeddings_state *state;
	struct buf data; /* JSON of the vectors so far */
	struct json_writer w;
	size_t count;
};

static struct embeddings_answer *of(struct dialect_answer *answer)
{
	return (struct embeddings_answer *)(void *)answer;
}

static struct dialect_answer *answer_new(struct arena *arena, const struct chat_answer_options *options)
{
	struct embeddings_answer *a = arena_alloc(arena, sizeof *a);
	if (!a || !options->request)
		return NULL;
	a->base.dialect = &dialect_embeddings;
	a->model = arena_str(arena, options->requested_model);
	a->state = options->request->dialect_state;
	if (!a->model.at || !a->state)
		return NULL;
	buf_init(&a->data, VECTORS_MAX);
	json_writer_init(&a->w, &a->data);
	json_begin_array(&a->w);
	return &a->base;
}

static void answer_free(struct dialect_answer *answer)
{
	buf_free(&of(answer)->data);
}

/* Nine digits are enough to read the same float back. */
static bool put_float(struct json_writer *w, float value)
{
	char text[FLOAT_MAX_LEN];
	int len = isfinite(value) ? snprintf(text, sizeof text, "%.9g", (double)value) : 0;
	if (len <= 0 || (size_t)len >= sizeof text)
		return false;
	json_raw(w, (struct str){text, (size_t)len});
	return true;
}

static bool put_floats(struct json_writer *w, struct str base64)
{
	struct buf bytes;
	size_t len = 0;
	bool ok = true;
	buf_init(&bytes, VECTORS_MAX);
	ok = buf_reserve(&bytes, BASE64_DECODED_MAX(base64.len) + 1) == DB_OK &&
	     base64_decode(base64, (uint8_t *)bytes.at, &len) == DB_OK && len > 0 && len % sizeof(float) == 0;
	bytes.len = ok ? len : 0;
	json_begin_array(w);
	for (size_t at = 0; ok && at < len; at += sizeof(float)) {
		float value;
		memcpy(&value, bytes.at + at, sizeof value);
		ok = put_float(w, value);
	}
	json_end_array(w);
	buf_free(&bytes);
	return ok;
}

static bool put_vector(struct embeddings_answer *a, const json_val *frame)
{
	struct str base64;
	int64_t index;
	if (!json_as_i64(json_get(frame, "index"), &index) || index != (int64_t)a->count || a->count == a->state->inputs ||
	    !json_as_str(json_get(frame, "embedding"), &base64) || base64.len == 0)
		return false;
	a->count++;
	json_begin_object(&a->w);
	json_put_str(&a->w, "object", STR("embedding"));
	json_put_i64(&a->w, "index", index);
	json_key(&a->w, "embedding");
	bool ok = true;
	if (a->state->base64)
		json_str(&a->w, base64);
	else
		ok = put_floats(&a->w, base64);
	json_end_object(&a->w);
	return ok && !a->data.failed;
}

static enum db_err take_frame(struct dialect_answer *answer, const struct chat_frame *frame, struct buf *out)
{
	struct str object;
	(void)out;
	if (frame->kind != CHAT_FRAME_OTHER || !json_as_str(json_get(frame->root, "object"), &object) ||
	    !str_is(object, "embedding"))
		return DB_OK;
	return put_vector(of(answer), frame->root) ? DB_OK : DB_E_INVALID;
}

static enum db_err finish(struct dialect_answer *answer, const struct chat_answer_end *end, struct buf *out)
{
	struct embeddings_answer *a = of(answer);
	struct json_writer w;
	if (a->count != a->state->inputs)
		return DB_E_INVALID;
	json_end_array(&a->w);
	if (a->data.failed)
		return DB_E_LIMIT;
	json_writer_init(&w, out);
	json_begin_object(&w);
	json_put_str(&w, "object", STR("list"));
	json_key(&w, "data");
	json_raw(&w, buf_str(&a->data));
	json_put_str(&w, "model", a->model);
	json_key(&w, "usage");
	json_begin_object(&w);
	json_put_i64(&w, "prompt_tokens", (int64_t)end->usage.prompt_tokens);
	json_put_i64(&w, "total_tokens", (int64_t)end->usage.prompt_tokens);
	json_end_object(&w);
	json_end_object(&w);
	buf_append_byte(out, '\n');
	return out->failed ? DB_E_LIMIT : DB_OK;
}

static void fail(struct dialect_answer *answer, const struct api_error *error, bool after_content, struct buf *out)
{
	(void)answer;
	(void)after_content;
	api_error_write(error, out);
}

const struct dialect dialect_embeddings = {
    .task = CHAT_TASK_EMBED,
    .name = "embeddings",
    .parse = parse,
    .answer_new = answer_new,
    .answer_free = answer_free,
    .frame = take_frame,
    .finish = finish,
    .fail = fail,
    .error_write = api_error_write,
    .keepalive = "",
};
