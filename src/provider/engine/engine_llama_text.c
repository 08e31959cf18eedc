/* From sampled tokens to deltas: text of the token, stop strings and UTF-8, the family's reader, log probabilities. */
#include "provider/engine/engine_llama.h"

#include "core/clock.h"
#include "core/json.h"
#include "core/utf8.h"

#include <stdlib.h>

#define PIECE_MAX 256 /* bytes; no known vocabulary has longer tokens */

/* The log probabilities of one token, waiting until its text is given out. */
struct call_logprob {
	int32_t token;
	uint64_t start, end; /* the bytes of the answer that are its text */
	struct engine_logprobs values;
};

static struct str piece_of(const struct llama_engine *engine, int32_t token, bool visible, char out[PIECE_MAX])
{
	int32_t len = llama_token_to_piece(engine->vocab, token, out, PIECE_MAX, 0, visible);
	return (struct str){out, len > 0 ? (size_t)len : 0};
}

/* Control tokens have no text, but for those that the family's reader needs to see. */
static bool is_visible(const struct llama_call *call, int32_t token)
{
	for (size_t i = 0; i < call->prompt.visible_token_count; i++)
		if (call->prompt.visible_tokens[i] == token)
			return true;
	return false;
}

/* --- log probabilities --- */

static void write_token(const struct llama_engine *engine, struct json_writer *writer, int32_t token, double logprob)
{
	char bytes[PIECE_MAX];
	struct str piece = piece_of(engine, token, true, bytes);
	json_put_str(writer, "token", utf8_valid(piece) ? piece : STR("\xef\xbf\xbd"));
	json_put_double(writer, "logprob", logprob < -9999 ? -9999 : logprob);
	json_key(writer, "bytes");
	json_begin_array(writer);
	for (size_t i = 0; i < piece.len; i++)
		json_i64(writer, (unsigned char)piece.at[i]);
	json_end_array(writer);
}

static void write_logprob(const struct llama_engine *engine, struct json_writer *writer, const struct call_logprob *entry)
{
	json_begin_object(writer);
	write_token(engine, writer, entry->token, entry->values.chosen);
	json_key(writer, "top_logprobs");
	json_begin_array(writer);
	for (size_t i = 0; i < entry->values.top_count; i++) {
		json_begin_object(writer);
		write_token(engine, writer, entry->values.top[i].token, entry->values.top[i].logprob);
		json_end_object(writer);
	}
	json_end_array(writer);
	json_end_object(writer);
}

/* Writes what belongs to text that has been given out, and forgets it. */
static void write_logprobs(const struct llama_engine *engine, struct llama_call *call, bool final, struct buf *out)
{
	const struct call_logprob *entries = (const void *)call->logprobs.at;
	size_t count = call->logprobs.len / sizeof *entries, ready = 0;
	uint64_t given = call->output.given + call->output.taken;
	while (ready < count && (entries[ready].end <= given || (final && entries[ready].start < given)))
		ready++;
	if (!ready)
		return;
	struct json_writer writer;
	json_writer_init(&writer, out);
	json_begin_object(&writer);
	json_key(&writer, "content");
	json_begin_array(&writer);
	for (size_t i = 0; i < ready; i++)
		write_logprob(engine, &writer, &entries[i]);
	json_end_array(&writer);
	json_key(&writer, "refusal");
	json_null(&writer);
	json_end_object(&writer);
	buf_consume(&call->logprobs, ready * sizeof *entries);
}

static void remember_logprob(struct llama_call *call, int32_t token, size_t piece_len, const struct engine_logprobs *values)
{
	struct call_logprob entry = {token, call->text_bytes, call->text_bytes + piece_len, *values};
	buf_append(&call->logprobs, &entry, sizeof entry);
}

/* --- deltas --- */

/* Was it the request that asked to stop there, and not the model's family? */
static bool stopped_as_asked(const struct llama_call *call)
{
	for (size_t i = 0; call->output.stopped && i < call->root->sampling.stop_count; i++)
		if (str_eq(call->root->sampling.stops[i], call->output.stop))
			return true;
	return false;
}

static bool read_answer(struct llama_call *call, struct str text, bool final, struct engine_delta *delta)
{
	if (!call->prompt.reader) {
		delta->content = text;
		return true;
	}
	if (!text.len && !final)
		return true;
	struct chat_reader_delta read;
	if (!chat_reader_feed(call->prompt.reader, text.at ? text.at : "", text.len, final, &read))
		return false;
	delta->content = (struct str){read.content, read.content_len};
	delta->reasoning = (struct str){read.reasoning, read.reasoning_len};
	delta->tool_calls = (struct str){read.tool_calls, read.tool_calls_len};
	return true;
}

static bool give_out(struct llama_engine *engine, struct llama_call *call, bool final)
{
	struct engine_delta delta = {.choice = call->choice, .replayed = call->replaying};
	struct buf logprobs;
	buf_init(&logprobs, (size_t)16 << 20);
	struct str text = engine_output_take(&call->output, final);
	bool ok = read_answer(call, text, final, &delta);
	if (ok && call->logprobs.len && (text.len || final)) {
		write_logprobs(engine, call, final, &logprobs);
		delta.logprobs = buf_str(&logprobs);
	}
	if (ok && (delta.content.len || delta.reasoning.len || delta.tool_calls.len || delta.logprobs.len)) {
		call->said = true;
		chat_verdict_add(&call->verdict, delta.content);
		delta.sampled =
		    (struct chat_resume){call->print, (const int32_t *)(const void *)call->fresh.at, call->fresh.len / sizeof(int32_t)};
		call->callbacks.on_delta(&call->root->base, &delta, call->user);
		buf_clear(&call->fresh);
	}
	buf_free(&logprobs);
	return ok;
}

enum call_state llama_call_token(struct llama_engine *engine, struct llama_call *call, int32_t token,
                                 const struct engine_logprobs *logprobs)
{
	enum call_state state = CALL_GOES_ON;
	if (call->generated++ == 0)
		call->first_token_us = clock_mono_us();
	if (call->choices == 1 && buf_append(&call->fresh, &token, sizeof token))
		return CALL_FAILED;
	if (llama_vocab_is_eog(engine->vocab, token) || engine_sampler_stops_at(call->sampler, token)) {
		call->cut = !llama_vocab_is_eog(engine->vocab, token);
		state = CALL_STOPPED;
	} else {
		char bytes[PIECE_MAX];
		struct str piece = piece_of(engine, token, is_visible(call, token), bytes);
		if (buf_append(&call->tokens, &token, sizeof token) || engine_output_push(&call->output, piece))
			return CALL_FAILED;
		if (logprobs)
			remember_logprob(call, token, piece.len, logprobs);
		call->text_bytes += piece.len;
		call->cut = stopped_as_asked(call);
		if (call->output.stopped)
			state = CALL_STOPPED;
		else if (call->generated >= (uint64_t)call->max_tokens)
			state = CALL_AT_LENGTH;
	}
	return give_out(engine, call, state != CALL_GOES_ON) ? state : CALL_FAILED;
}
