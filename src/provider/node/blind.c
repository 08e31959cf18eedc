#include "provider/node/blind.h"

#include "core/clock.h"
#include "core/encode.h"
#include "wire/envelope.h"

#define HEAD_TEXT 56 /* base64 characters that hold nonce and tag */

static bool is_fresh(struct replay *seen, struct str ciphertext)
{
	uint8_t head[BASE64_DECODED_MAX(HEAD_TEXT)];
	int64_t made_ms, now_ms = clock_wall_us() / 1000, window_ms = (int64_t)NODE_BLIND_WINDOW_S * 1000;
	struct sealed_box box = {.at = head};
	if (ciphertext.len < HEAD_TEXT || base64_decode(str_sub(ciphertext, 0, HEAD_TEXT), head, &box.len) ||
	    !envelope_time_ms(&box, &made_ms))
		return false;
	return made_ms >= now_ms - window_ms && made_ms <= now_ms + window_ms &&
	       replay_note(seen, envelope_id(&box), clock_mono_us()) == DB_OK;
}

static int64_t limit_of(const json_val *limits, const char *name)
{
	int64_t value = 0;
	return json_as_i64(json_get(limits, name), &value) ? value : 0;
}

const char *node_blind_admit(struct replay *seen, const struct wire_request *message, struct chat_request *chat)
{
	const json_val *limits = json_get_some(chat->root, "blind");
	const struct wire_blind_limits *said = &message->blind;
	if (!limits && !message->has_blind)
		return NULL;
	if (!limits || !message->has_blind)
		return "only one of body and message says that the request is blind";
	if (!str_eq(said->model, chat->model) || said->max_prompt_tokens <= 0 || said->max_tokens <= 0 ||
	    limit_of(limits, "max_prompt_tokens") != said->max_prompt_tokens || limit_of(limits, "max_tokens") != said->max_tokens)
		return "the sealed body and the declared model and limits differ";
	if (chat->max_tokens > said->max_tokens || chat_request_answers(chat) > 1)
		return "the sealed body asks for more than was declared";
	if (!is_fresh(seen, message->encrypted_body.ciphertext))
		return "the sealed body is not fresh: seal again";
	if (chat->max_tokens <= 0)
		chat->max_tokens = said->max_tokens;
	return NULL;
}

void node_blind_begin(struct node_blind *blind, const struct wire_request *message)
{
	(void)str_copy(message->encrypted_body.sender_key, blind->consumer_key, sizeof blind->consumer_key);
	blind->max_prompt_tokens = message->blind.max_prompt_tokens;
	blind_transcript_begin(&blind->transcript);
}
