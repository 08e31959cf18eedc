/* Inside of the llama.cpp engine; nobody but engine_llama*.c and their tests includes it.
 *
 * A call passes through two threads. The prepare thread renders and tokenises, so that neither the caller's loop nor the
 * running batch waits for a long prompt. The engine thread owns the llama context: at every step it admits waiting calls,
 * decodes one batch (one token of every running call and up to a chunk of prompts) and gives out what was sampled.
 *
 *   submit -> to_prepare -> [prepare thread] -> prepared -> [engine thread] waiting -> running -> ended
 *
 * KV memory is counted twice: in cells of this context, and in bytes against a budget that all models of the process share. A
 * running call holds a reservation of both that grows ahead of it; when either is used up the youngest call gives its place
 * back and is run again later from its tokens, unseen by its consumer.
 *
 * A request for several answers is one call for each: the first is the root, whose handle the consumer has and whose callbacks
 * tell of all. The others wait until the root's prompt has been run, and then take a copy of its sequence. */
#ifndef PROVIDER_ENGINE_LLAMA_H
#define PROVIDER_ENGINE_LLAMA_H

#include "core/buf.h"
#include "core/list.h"
#include "provider/engine/chat_shim.h"
#include "provider/engine/chat_verdict.h"
#include "provider/engine/engine.h"
#include "provider/engine/engine_draft.h"
#include "provider/engine/engine_llama_cache.h"
#include "provider/engine/engine_llama_draft.h"
#include "provider/engine/engine_llama_public.h"
#include "provider/engine/engine_output.h"
#include "provider/engine/engine_pace.h"
#include "provider/engine/engine_sampler.h"
#include "provider/engine/engine_sync.h"
#include "provider/engine/kv_budget.h"
#include "provider/engine/kv_cost.h"

#include <llama.h>
#include <pthread.h>

#define ENGINE_LLAMA_MAX_SEQUENCES 64
#define ENGINE_STEP_TOKENS         512 /* in one batch: llama.cpp's physical batch (inference 2.5) */
#define ENGINE_AGAIN_TOKENS        32  /* of an answer that is run again, in one step */
#define ENGINE_RESERVE_AHEAD       256
#define ENGINE_GATHER_US           20000
#define ENGINE_CRASHED_FAILURES    3 /* calls in a row that cannot be run: the engine reports that it crashed */

/* A prompt that no template touches: text, or tokens when that is NULL. In the call's arena. */
struct llama_plain {
	const char *text;
	size_t text_len;
	int32_t *tokens;
	size_t count;
};

/* Who shares the machine: the waiting and running calls of one tenant, and the tokens they were given. */
struct llama_tenant {
	struct list_link link;
	struct str name; /* owned */
	uint32_t calls, running, rank;
	double served;
};

/* What the answers of one request have in common; the root's counts. */
struct llama_group {
	uint32_t open; /* answers that have not ended */
	bool forked;   /* the prompt was run: the other answers need not wait for it any more */
	bool said, cancelled;
	int fail_status; /* of the first that failed: the others are ended too */
	enum engine_reason fail_reason;
	char fail_text[256];
	enum engine_finish finish;
	struct chat_usage usage;
};

enum call_state { CALL_GOES_ON, CALL_STOPPED, CALL_AT_LENGTH, CALL_FAILED };

struct llama_call {
	struct engine_call base;
	struct list_link link;
	struct llama_call *root;                             /* itself, but for the second and later answers of a request */
	struct llama_call *siblings[ENGINE_MAX_CHOICES - 1]; /* the root's, while they go from thread to thread */
	uint32_t choice, choices;
	struct llama_group group;
	struct engine_callbacks callbacks;
	void *user;
	atomic_bool cancelled, paused; /* the root's count */
	atomic_uint position;          /* in the queue, 1 = next; 0 = not in it */
	uint64_t submitted_us;

	/* the request, in the arena */
	struct arena *arena;
	struct str tenant, cache_scope;
	struct engine_prefix_names names;
	struct chat_conversation conversation;
	struct llama_plain *plain; /* in place of the conversation; NULL as a rule */
	struct chat_sampling sampling;
	bool count_only;            /* CHAT_TASK_COUNT: it ends when it is prepared */
	bool shortens;              /* the conversation may be made to fit */
	uint64_t max_prompt_tokens; /* 0 = no such limit */
	int64_t max_tokens;         /* asked for, 0 = not said; after preparing: what the context allows at most */

	/* made by the prepare thread; fail_status not 0 means that the engine thread only has to report it */
	int fail_status;
	enum engine_reason fail_reason;
	struct error fail;
	struct chat_prompt prompt;
	struct str *stops;
	size_t stop_count;
	struct engine_sampler *sampler;
	struct buf tokens; /* int32_t: prompt, then answer */
	size_t prompt_count;

	/* the engine thread's */
	struct llama_tenant *turn; /* of the tenant; NULL: in nobody's */
	struct kv_reservation kv;
	llama_seq_id seq;                /* -1 while not running */
	uint64_t serial;                 /* order of admission */
	size_t in_cache;                 /* tokens whose KV is in the cache */
	size_t restored;                 /* ... of the prompt, that the prefix cache brought when the call was admitted last */
	size_t cached_tokens;            /* ... when it was admitted first: what its consumer is told */
	struct llama_cache_call *cached; /* engine_llama_cache.c's */
	struct engine_draft draft;
	size_t reserved;    /* tokens of the budget */
	bool started, said; /* on_started was called; visible text was given out */
	uint64_t started_us, first_token_us;
	uint64_t generated;
	struct engine_output output;
	struct chat_verdict verdict; /* on its form */
	bool cut;                    /* ended by a stop of the request, not by the model */
	uint64_t text_bytes;         /* of all tokens so far, stop strings included */
	struct chat_resume resume;   /* how the answer began elsewhere, in the arena; count 0 as a rule */
	uint64_t print;              /* of what the answer depends on besides its tokens */
	struct buf fresh;            /* int32_t: sampled since the last delta */
	bool replaying;
	enum call_state resumed; /* where replaying ended */
	struct buf logprobs;     /* struct call_logprob, not yet given out */
};

struct llama_engine {
	struct engine base;
	struct engine *embedder; /* NULL: this model makes no embeddings */

	/* constant after the load */
	struct llama_model *model;
	struct llama_context *context;
	const struct llama_vocab *vocab;
	struct ggml_threadpool *pool;
	struct chat_templates *templates;
	struct llama_public *public_prompts; /* NULL: none */
	char weight_hash[65];                /* "" = unknown */
	struct engine_sampler_model sampling;
	struct engine_info info;
	uint32_t max_sequences;
	size_t budget_tokens;   /* KV cells */
	size_t sequence_tokens; /* the longest sequence */
	size_t step_tokens;     /* tokens of one step, prompts included; at most ENGINE_STEP_TOKENS */
	size_t reserve_ahead;   /* tokens that a reservation grows by */
	uint64_t gather_us;     /* how long an engine that was idle waits for calls that are being prepared */
	struct kv_cost cost;
	struct kv_budget *budget;
	bool owns_budget;
	enum engine_speculation speculation;
	struct kv_budget_watcher watcher; /* wakes the engine when another model gave memory back */
	/* chat_shim_decode; tests put faults here */
	int32_t (*decode)(struct llama_context *context, const struct llama_batch *batch);

	pthread_t prepare_thread, engine_thread;
	bool threads_run;
	pthread_mutex_t lock; /* over the block below */
	pthread_cond_t prepare_wake, engine_wake;
	struct list to_prepare, prepared;
	uint32_t not_running; /* accepted calls that are not admitted yet */
	bool stopping;        /* nothing is accepted, the prepare thread ends */
	bool prepare_ended;   /* ... and so does the engine thread */
	atomic_bool aborting; /* a step that runs is given up */
	bool poked;           /* a call was cancelled, paused or resumed */
	struct engine_capacity published;

	/* the engine thread's */
	struct list waiting, tenants;
	struct engine_pace pace;
	struct engine_concurrency concurrency;
	struct engine_draft_cost draft_cost;
	struct llama_draft *draft_model;                        /* NULL: none */
	bool draft_asked;                                       /* for guesses of this step */
	struct llama_call *running[ENGINE_LLAMA_MAX_SEQUENCES]; /* by age, the oldest first */
	size_t running_count;
	bool sequence_used[ENGINE_LLAMA_MAX_SEQUENCES];
	size_t reserved_tokens; /* by running calls */
	uint64_t next_serial;
	struct llama_batch batch;
	double decode_tps, prefill_tps;
	uint64_t requests_done, tokens_done, steps, progress;
	uint64_t tokens_guessed, guesses_right;
	unsigned failures;         /* calls in a row that could not be run */
	struct llama_cache *cache; /* engine_llama_cache.c's; NULL: no prefix cache */
};

static inline int32_t *call_tokens(const struct llama_call *call)
{
	return (int32_t *)(void *)call->tokens.at;
}

static inline size_t call_token_count(const struct llama_call *call)
{
	return call->tokens.len / sizeof(int32_t);
}

/* engine_llama_load.c */
enum db_err engine_llama_load(struct llama_engine *engine, const struct engine_llama_options *options, struct error *error);
void engine_llama_unload(struct llama_engine *engine);

/* engine_llama_call.c: a call from its request to the tokens to run */
struct llama_call *llama_call_new(struct llama_engine *engine, const struct engine_request *request,
                                  const struct engine_callbacks *callbacks, void *user, int *status, struct error *error);
void llama_call_prepare(struct llama_engine *engine, struct llama_call *call);
/* The prompt's text, and its tokens. False when it failed: the first says why in the call, the other is out of memory. */
bool llama_call_render(struct llama_engine *engine, struct llama_call *call);
bool llama_call_tokenize(struct llama_engine *engine, struct llama_call *call);
size_t llama_engine_longest(const struct llama_engine *engine); /* the longest sequence that could ever run, were it alone */
void llama_call_clear(struct llama_call *call);                 /* wipes everything of the answer and the prompt */
struct chat_usage llama_call_usage(const struct llama_call *call);
void llama_call_clear_request(struct llama_call *root); /* ... and of the request, when its last answer has ended */

/* engine_llama_text.c: from sampled tokens to deltas */
/* Takes a sampled token in and gives out what it makes visible. */
enum call_state llama_call_token(struct llama_engine *engine, struct llama_call *call, int32_t token,
                                 const struct engine_logprobs *logprobs);

/* engine_llama_fair.c: who is next. Tenants take turns: whoever has the least running goes first, and among those whoever was
 * given the least since it came. */
void llama_fair_join(struct llama_engine *engine, struct llama_call *call);  /* begins to wait */
void llama_fair_leave(struct llama_engine *engine, struct llama_call *call); /* has ended */
struct llama_call *llama_fair_next(struct llama_engine *engine);             /* of those that may run now; NULL: none */
void llama_fair_number(struct llama_engine *engine);                         /* tells every waiting call its place */

/* engine_llama_guess.c: the tokens that each of `count` answers is run ahead with in the next step */
struct llama_guesses {
	int32_t tokens[ENGINE_LLAMA_MAX_SEQUENCES][ENGINE_DRAFT_MOST];
	size_t count[ENGINE_LLAMA_MAX_SEQUENCES];
};
void llama_guess(struct llama_engine *engine, struct llama_call *const *calls, size_t count, struct llama_guesses *out);

/* engine_llama_step.c: one decode step over the running calls */
void llama_engine_step(struct llama_engine *engine);
void llama_engine_end_call(struct llama_engine *engine, struct llama_call *call,
                           enum call_state state); /* it goes no further */

/* engine_llama_sched.c: the two threads, admission and the end of calls */
enum db_err llama_engine_start(struct llama_engine *engine);
void llama_engine_stop(struct llama_engine *engine);
/* Around every use of the templates: their library asks for the local time, which libc keeps in one place for all threads. */
void llama_rendering_begin(void);
void llama_rendering_end(void);
void llama_engine_poke(struct llama_engine *engine); /* any thread: something changed, look at every call again */
void llama_engine_finish_call(struct llama_engine *engine, struct llama_call *call, enum engine_finish finish);
void llama_engine_fail_call(struct llama_engine *engine, struct llama_call *call, int status, enum engine_reason reason,
                            const char *text);
void llama_engine_preempt_youngest(struct llama_engine *engine);
/* The root's prompt was run: as many of the other answers as there is room for join the batch with a copy of its sequence and
 * are written to `joined`. Returns how many. */
size_t llama_engine_fork(struct llama_engine *engine, struct llama_call *root,
                         struct llama_call *joined[ENGINE_MAX_CHOICES - 1]);

/* engine_llama_shorten.c: leaves out what chat_shorten.h says, as little as possible, when the tokens are more than can be
 * run. `said` are the messages before they were rendered. A prompt that cannot be made to fit stays as it is. False when memory
 * ran out. */
bool llama_call_shorten(struct llama_engine *engine, struct llama_call *call, const char *said);

/* --- engine_llama_plain.c --- */
bool llama_plain_copy(struct llama_call *call, const json_val *prompt);
/* The prompt's text, to be cut into tokens, or its tokens. DB_E_INVALID for one that the model does not know. */
enum db_err llama_plain_prompt(struct llama_engine *engine, struct llama_call *call, struct error *error);

#endif
