/* One loaded model that answers requests: the narrow door between the provider and whatever runs the weights.
 *
 * Threads: an engine owns its threads; engine_submit, engine_cancel, engine_pause, engine_resume, engine_call_release and
 * engine_capacity may be called from any thread and never block on inference. Callbacks run on the engine's thread, one at a
 * time, and must return quickly (post to a loop); they may call any of these functions but engine_free. Implementations: llama
 * (llama.cpp, several sequences in one batch) and scripted (deterministic text, set latency and faults, for tests and for
 * scale). */
#ifndef PROVIDER_ENGINE_H
#define PROVIDER_ENGINE_H

#include "api/chat_event.h"
#include "api/chat_request.h"
#include "api/chat_resume.h"
#include "core/arena.h"
#include "core/error.h"

#include <stdatomic.h>

struct kv_cache; /* provider/kvcache/kv_cache.h */

struct engine;
struct engine_call; /* one request inside an engine: a counted handle, see engine_call_release */

#define ENGINE_MAX_WAITING        128 /* accepted, but not yet running (inference 2.3) */
#define ENGINE_MAX_CHOICES        CHAT_MAX_CHOICES
#define ENGINE_WAITING_TIMEOUT_MS 120000 /* from submit to the first step (inference 2.3) */

enum engine_finish { ENGINE_FINISH_STOP, ENGINE_FINISH_LENGTH, ENGINE_FINISH_TOOL_CALLS, ENGINE_FINISH_CANCELLED };
const char *engine_finish_name(enum engine_finish finish); /* the API's finish_reason */

/* Why a call failed, in the words of the protocol's error_reason. Nobody has to read the sentence beside it (inference 4). */
enum engine_reason {
	ENGINE_REASON_NONE,      /* "": the status says enough */
	ENGINE_REASON_TIMEOUT,   /* capacity_timeout: it waited too long */
	ENGINE_REASON_QUEUE,     /* queue_full */
	ENGINE_REASON_BUDGET,    /* token_budget_exhausted: it could never fit, here */
	ENGINE_REASON_CANCELLED, /* cancelled, before anything was said */
	ENGINE_REASON_FAULT,     /* provider_error: the engine's own */
	ENGINE_REASON_TEMPLATE,  /* jinja_template: the template refuses the conversation */
	ENGINE_REASON_LOAD,      /* model_load */
};
const char *engine_reason_name(enum engine_reason reason);

/* A step of output. Text is whole UTF-8 characters, free of stop strings, borrowed until the callback returns. */
struct engine_delta {
	uint32_t choice; /* counted from 0 */
	/* The last of this choice, and how it ended. Only where several were asked for: one choice ends with on_finish. */
	bool ended;
	enum engine_finish finish;
	struct str stop; /* the stop string that ended it, or empty */
	struct str content, reasoning;
	struct str tool_calls; /* JSON array of OpenAI tool-call deltas, or empty */
	struct str logprobs;   /* JSON object of OpenAI logprobs, or empty */
	/* The tokens that were sampled since the last delta, and what continuing depends on; none where n > 1. */
	struct chat_resume sampled;
	/* It repeats what the answer had said where it is continued. Such deltas come first, maybe on another thread. */
	bool replayed;
};

struct engine_callbacks {
	void (*on_started)(struct engine_call *call, void *user); /* prefill begins; may be NULL */
	void (*on_delta)(struct engine_call *call, const struct engine_delta *delta, void *user);
	/* Exactly one of these two ends the call. */
	void (*on_finish)(struct engine_call *call, enum engine_finish finish, const struct chat_usage *usage, void *user);
	/* status: 400 client fault, 404, 422, 429, 499, 500, 501, 503 as in protocol-and-trust 11.2; text holds no prompt. */
	void (*on_error)(struct engine_call *call, int status, enum engine_reason reason, const char *text,
	                 const struct chat_usage *so_far, void *user);
};

/* Names under which the coordinator finds a prompt, and what that begins with, again. Opaque. */
#define ENGINE_PREFIX_NAMES 8
struct engine_prefix_names {
	uint64_t at[ENGINE_PREFIX_NAMES];
	size_t count;
};

struct engine_request {
	const struct chat_request *chat; /* copied as far as needed before engine_submit returns */
	struct str tenant;               /* opaque; fairness */
	struct str cache_scope;          /* opaque; whose prefixes it may find and leave. Empty: nobody's, nothing is kept */
	struct engine_prefix_names names;
	uint64_t max_prompt_tokens; /* a longer prompt is refused with 413; 0 = none */
	/* count > 0: the answer began so elsewhere and goes on here, to the last token as it would have gone on there. Where that
	 * cannot be (another print, tokens that this model would not take) it is refused with 409. Copied. */
	struct chat_resume resume;
};

/* Accepts (0) or refuses at once: an HTTP-like status (429: the queue is full), with error->text from the chapter's vocabulary
 * (inference 2.2). What
 * only rendering and tokenising can tell (a template that refuses the conversation, a prompt longer than the context) comes
 * later through on_error. Callbacks may run before engine_submit returns; *call is set before the first of them. */
int engine_submit(struct engine *engine, const struct engine_request *request, const struct engine_callbacks *callbacks,
                  void *user, struct engine_call **call, struct error *error);
/* Ends the call within one decode step: on_finish(CANCELLED) when text was sent, else on_error(499). The caller learns the end
 * through its callback even when the call was ending by itself in that moment. Does nothing to a call that has ended. */
void engine_cancel(struct engine_call *call);
/* A paused call keeps its place and memory but is not decoded; others are unaffected. */
void engine_pause(struct engine_call *call);
void engine_resume(struct engine_call *call);
/* The call's place among those that wait, 1 = the next to run; 0 when it does not wait (any more). Not before it was prepared.
 */
uint32_t engine_queue_position(struct engine_call *call);
/* Gives the caller's handle back. Exactly once for every accepted call, and only after the callback that ended it began (it
 * may be called inside it, or much later on another thread; even after engine_free). Until then cancel, pause and resume are
 * safe at any moment. */
void engine_call_release(struct engine_call *call);

struct engine_info {
	char architecture[64], quantization[32];
	uint64_t parameters, weight_bytes;
	uint32_t context_tokens; /* of the model */
	uint32_t layers;
	bool template_render_ok;    /* the chat template rendered a probe conversation */
	const char *template_fault; /* why not, in the protocol's words (template_check.h); NULL or "" when it did */
	bool can_constrain;         /* JSON mode, schemas and logprobs */
	bool can_reason;            /* the chat template has a place for thinking */
	bool can_choose;            /* several answers to one request */
	bool can_embed;             /* requests of CHAT_TASK_EMBED are taken ... */
	bool only_embeds;           /* ... and no others */
	double kv_bytes_per_token;
	uint64_t load_time_ms;
	/* Held while it is loaded: weights, the cells of all contexts whether they are in use or not, work space, drafts and
	 * embedders too. 0 = not known. */
	uint64_t memory_bytes;
};
void engine_info(const struct engine *engine, struct engine_info *out);

/* The heartbeat slot (protocol-and-trust 3.2), true at this moment. Rates are those one answer sees. */
struct engine_capacity {
	bool crashed;   /* calls fail one after the other (cleared by the first that runs again), or it hangs */
	bool reloading; /* it hung, and its model is loaded anew */
	uint32_t running, waiting, max_concurrency;
	uint64_t active_tokens, max_tokens_potential;
	uint64_t budget_used_tokens, budget_max_tokens, budget_queued_tokens;
	double decode_tps, prefill_tps; /* observed, 0 = not yet */
	uint64_t requests_done, tokens_done;
	uint64_t tokens_guessed, guesses_right; /* run ahead of being chosen (engine_draft.h); the right ones saved a step each */
	uint64_t progress; /* rises with every step and every request that ends: an engine with work that does not rise hangs */
};
void engine_capacity(struct engine *engine, struct engine_capacity *out);
/* Names of the prompts whose state is in its memory, the latest first; returns how many were written. */
size_t engine_prefixes(struct engine *engine, uint64_t *out, size_t max);

/* Stops the threads, ends every call with on_error(503), frees. Blocks until done. Handles that are still held may only be
 * released afterwards. */
void engine_free(struct engine *engine);

/* --- implementations --- */

/* llama.cpp. What it does with a request (inference 4):
 * - Defaults: greedy (temperature 0), no penalties, max_tokens CHAT_DEFAULT_MAX_TOKENS; max_tokens is cut to the context.
 * - completion_tokens counts every sampled token, also the one that ended the answer and those of a stop string, as
 *   llama-server counts.
 * - The same seed gives the same text when a call runs alone. On the CPU, attention rounds differently for batches of 64 tokens
 *   and more and for a lone sequence above 512 tokens, so text may differ when other calls run beside it.
 * - Guessing ahead changes no answer, but for that rounding: a step that runs guesses is a batch, and where sequences share
 *   their cells, tokens come to lie in others.
 * - n answers share one run of the prompt; answer i draws with seed + i. Usage counts the prompt once.
 * - Refused with a sentence: n above ENGINE_MAX_CHOICES, logprobs with tools,
 * content parts that are not text, schemas that no grammar can express. */

/* Speculation: from the sequence's own text, and with a draft model where there is one. Models with a recurrent state, which
 * cannot be taken back, never guess. */
enum engine_speculation {
	ENGINE_SPECULATE_WHERE_IT_PAYS, /* measured all the time */
	ENGINE_SPECULATE_NEVER,
	ENGINE_SPECULATE_ALWAYS, /* run every guess, whatever it costs (tests) */
};

struct engine_llama_options {
	const char *model_path;    /* a GGUF file */
	uint32_t threads;          /* 0 = all cores */
	uint32_t max_sequences;    /* 0 = 8 */
	uint32_t context_tokens;   /* of all sequences together; 0 = min(model's, 8192) */
	struct kv_budget *budget;  /* shared with other models; NULL: as much as the context holds */
	double target_tps;         /* fewer run at once where one answer would get less than this; 0 = no matter */
	const char *chat_template; /* instead of the GGUF's own; may be NULL */
	/* JSON array of system prompts whose cached states all tenants may share (engine_llama_public.h); NULL: none. */
	const char *public_prompts;
	/* The prefix cache; NULL: none. It must outlive the engine. Without a weight hash nothing goes to disk. */
	struct kv_cache *cache;
	const char *model_id, *weight_hash;
	bool embeddings; /* make embeddings too (engine_embed.h) */
	enum engine_speculation speculation;
	/* A smaller GGUF of the same vocabulary that guesses ahead (engine_llama_draft.h); NULL: none. Its sequences count in the
	 * budget. Not loaded where nothing is guessed. */
	const char *draft_path;
	/* Progress of the load, 0..1, on the calling thread; return false to give up. May be NULL. */
	bool (*on_progress)(float fraction, void *user);
	void *user;
};
/* Blocks while the weights load. */
struct engine *engine_llama_new(const struct engine_llama_options *options, struct error *error);

struct engine_script {
	const char *text; /* answer; NULL = echoes a digest of the last message, word by word */
	uint32_t tokens;  /* pieces the answer is cut into or repeated to; 0 = one per word */
	uint32_t first_delay_ms, token_delay_ms, load_delay_ms;
	uint32_t max_concurrency; /* 0 = 8 */
	int fail_status;          /* not 0: every request fails with it ... */
	const char *fail_text;
	uint32_t fail_after_tokens; /* ... after this many tokens */
	bool hang;                  /* accepts and never says anything */
	/* Not 0: its thread stops for good, for every call and deaf to cancels, once an answer has so many tokens. Only the engine
	 * that is made first hangs: one that `darkbloom start` loads in its place works (tests of the watchdog). */
	uint32_t hang_at_token;
	/* Files of a vocabulary (GGUF) and of a family's Jinja template: the text is read as an answer of that family, with its
	 * thoughts and tool calls. Both or none. */
	const char *vocabulary, *chat_template;
};
struct engine *engine_scripted_new(const struct engine_script *script, struct error *error);
/* Reads a script from JSON with the field names above (for `darkbloom start --scripted-engine FILE`). */
enum db_err engine_script_parse(struct str json, struct arena *arena, struct engine_script *out, struct error *error);

/* --- for implementers: an engine begins with this; the functions above only forward to it --- */
struct engine_ops {
	int (*submit)(struct engine *engine, const struct engine_request *request, const struct engine_callbacks *callbacks,
	              void *user, struct engine_call **call, struct error *error);
	void (*cancel)(struct engine_call *call);
	void (*set_paused)(struct engine_call *call, bool paused);
	uint32_t (*position)(struct engine_call *call); /* NULL: nothing waits here */
	void (*info)(const struct engine *engine, struct engine_info *out);
	void (*capacity)(struct engine *engine, struct engine_capacity *out);
	size_t (*prefixes)(struct engine *engine, uint64_t *out, size_t max); /* NULL: it keeps none */
	void (*free)(struct engine *engine);
};
struct engine {
	const struct engine_ops *ops;
};
struct engine_call {
	struct engine *engine;
	atomic_uint refs; /* one for the caller, the rest for the engine */
	void (*destroy)(struct engine_call *call);
	struct str stop; /* the stop string that ended the answer: set before on_finish, borrowed until it returns; or empty */
};
void engine_call_init(struct engine_call *call, struct engine *engine, void (*destroy)(struct engine_call *call)); /* refs 1 */
void engine_call_hold(struct engine_call *call);

#endif
