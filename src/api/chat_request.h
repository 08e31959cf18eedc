/* A chat request in the one form every dialect is lowered to. Parsing checks everything the API promises to check; fields that
 * are not known here travel on untouched. Both programs use it: the coordinator to admit and forward, the provider to run.
 * Everything borrowed lives in the arena given. Pure; thread: any. */
#ifndef API_CHAT_REQUEST_H
#define API_CHAT_REQUEST_H

#include "api/chat_places.h"
#include "api/error.h"
#include "core/arena.h"
#include "core/json.h"

#define CHAT_MAX_STOPS          16
#define CHAT_MAX_STOP_TOKENS    32
#define CHAT_MAX_BIASES         1024
#define CHAT_MAX_CHOICES        8  /* answers to one prompt */
#define CHAT_MAX_ANSWERS        32 /* of a request: its prompts times the answers to each */
#define CHAT_ENDPOINT_EMBED     "/v1/embeddings"
#define CHAT_ENDPOINT_COUNT     "/v1/messages/count_tokens"
#define CHAT_DEFAULT_MAX_TOKENS 8192 /* http-api 2.1: when neither the request nor the model says */

struct chat_logit_bias {
	int32_t token;
	float bias; /* -100 to 100 */
};

/* Parsing refuses values out of range. A `has_` that is false means the engine's default. */
struct chat_sampling {
	bool has_temperature, has_top_p, has_top_k, has_min_p, has_typical_p, has_seed;
	bool has_frequency_penalty, has_presence_penalty, has_repetition_penalty;
	double temperature; /* 0..2 */
	double top_p;       /* 0..1 */
	int32_t top_k;      /* >= 0, 0 = off */
	double min_p;       /* 0..1 */
	double typical_p;   /* 0..1 */
	uint64_t seed;
	double frequency_penalty, presence_penalty; /* -2..2 */
	double repetition_penalty;                  /* > 0, up to 10 */
	struct str stops[CHAT_MAX_STOPS];
	size_t stop_count;
	int32_t stop_tokens[CHAT_MAX_STOP_TOKENS]; /* ids that end the answer; >= 0 */
	size_t stop_token_count;
	struct chat_logit_bias *biases;
	size_t bias_count;
	bool ignore_eos;
	int64_t min_tokens; /* 0 = none */
	bool logprobs;
	int32_t top_logprobs; /* 0..20 */
};

enum chat_format { CHAT_FORMAT_TEXT, CHAT_FORMAT_JSON_OBJECT, CHAT_FORMAT_JSON_SCHEMA };

/* What the engine is to do with it. Said by the member `endpoint` of the body that a coordinator sends: dialects write it, and
 * what consumers write there is refused. */
enum chat_task {
	CHAT_TASK_ANSWER,
	CHAT_TASK_EMBED, /* each message is an input: "/v1/embeddings" */
	CHAT_TASK_COUNT, /* only count the prompt's tokens: "/v1/messages/count_tokens" */
};

struct chat_edit; /* members of the body that forwarding replaces or drops */

struct chat_request {
	struct str body; /* as given; borrowed from the caller, who keeps it as long as the request */
	json_val *root;  /* the whole body; owned by the arena */
	struct str model;
	enum chat_task task;
	bool stream;        /* only a literal true */
	bool include_usage; /* stream_options.include_usage */
	int64_t max_tokens; /* first positive of max_tokens, max_completion_tokens, max_output_tokens; 0 = none given */
	int64_t n;          /* answers, 1..CHAT_MAX_CHOICES; max_tokens holds for each of them */
	struct chat_sampling sampling;
	enum chat_format format;
	const json_val *schema; /* of CHAT_FORMAT_JSON_SCHEMA */
	bool has_tools;
	const json_val *messages, *tools, *tool_choice; /* tool_choice NULL = absent */
	/* Of a body with "endpoint":"/v1/completions": the text as a string or an array of token ids, which no template touches.
	 * NULL: a conversation. Only for providers that registered with plain_prompts. */
	const json_val *prompt;
	/* Several prompts in one body: the array of them, and `prompt` is the first. Answers are numbered prompt by prompt. NULL
	 * when there is one. Only for providers with a model that can "prompts". */
	const json_val *prompts;
	bool shortens;          /* truncation auto: leave out what is oldest rather than refuse what does not fit the context */
	bool has_media;         /* an image, video or audio part (http-api 2.2 step 11) */
	struct str cache_scope; /* prompt_cache_key, else user, else empty */
	struct chat_places places;
	uint64_t prompt_estimate_tokens; /* http-api 2.2 "Token estimates": for routing, never for money */
	uint64_t prompt_bound_tokens;    /* billing 4.1: no tokeniser yields more; tools count too */
	const struct chat_edit *edits;
	size_t edit_count;
	const void *dialect_input; /* given to the dialect's parse; NULL when it has none */
	void *dialect_state;       /* what the dialect that parsed it wants to see again in its answer; in the arena */
};

/* How many answers a request asks for. */
static inline int64_t chat_request_answers(const struct chat_request *request)
{
	return request->prompts ? (int64_t)json_len(request->prompts) * request->n : request->n;
}

/* Parses and validates a /v1/chat/completions body, or one with a plain prompt. On failure fills *error (400, the right param;
 * messages never hold text of the request) and returns false. A max_tokens below 1 is refused rather than read as absent. */
bool chat_request_parse(struct str body, struct arena *arena, struct chat_request *out, struct api_error *error);

/* Appends the body to seal for a provider: the bytes of the body with `model` replaced by the concrete build id and
 * `max_tokens` set, tool schemas normalised (http-api 2.5) where they need it, coordinator-only fields (provider_serial,
 * provider_serials, provider_region, provider_regions) removed; everything else stands byte for byte and in order. */
enum db_err chat_request_forward(const struct chat_request *request, struct str build_id, int64_t max_tokens, struct buf *out);

#endif
