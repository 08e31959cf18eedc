/* The state of one consumer request, shared by the files of gateway/; not for anyone else.
 *
 * A call outlives its HTTP request when the consumer leaves after content was sent: then it waits, parked, for the provider's
 * count. What lives in the HTTP request's arena (the exchange, the parsed body, the answer) goes when the exchange goes. */
#ifndef COORDINATOR_GATEWAY_CALL_H
#define COORDINATOR_GATEWAY_CALL_H

#include "api/chat_resume.h"
#include "api/dialect.h"
#include "coordinator/gateway/admit.h"
#include "coordinator/gateway/blind.h"
#include "coordinator/gateway/gateway.h"
#include "coordinator/gateway/hedges.h"
#include "coordinator/gateway/record.h"
#include "coordinator/gateway/record_log.h"
#include "coordinator/gateway/wishes.h"
#include "coordinator/routing/learn.h"
#include "core/id.h"

#define CALL_MAX_ATTEMPTS      64 /* http-api 2.1 */
#define CALL_MAX_CAPACITY      3  /* transient-capacity failovers */
#define CALL_MAX_HELD          8  /* preamble chunks of one attempt */
#define CALL_MAX_PREAMBLE      (256u << 10)
#define CALL_KEPT_BUFFER_BYTES (1u << 20) /* shared buffers that grew above this are given back */

struct gateway {
	struct gateway_options options;
	struct learn learn;
	struct hedges hedge_buckets;
	struct list calls, blind_calls;
	struct list excluding; /* calls that may not go to some provider again */
	struct blind_offers blind_offers;
	struct records records;
	uint64_t record_seed[2]; /* of accounts' digests */
	size_t inflight;
	uint64_t settled;      /* answers */
	struct arena *scratch; /* of the chunk that is read now */
	struct buf body;       /* the body that is sealed now */
	struct buf out;        /* what is sent to a consumer now */
	struct metric *attempts, *failovers, *queued, *parked, *aborted, *prompt_tokens, *completion_tokens, *charged;
	struct metric *first_content, *chunks;
	struct metric *resumed, *resume_done;
	struct metric *hedges, *hedges_won, *hedges_lost, *hedges_refused, *hedge_tokens;
};

/* Why the last attempt failed, for what the consumer is told when no other is left. */
struct call_failure {
	int status; /* 0 = none yet */
	bool capacity, deterministic;
	char text[200];
};

/* Why providers were passed over for their price; of several reasons the last of these is told. */
enum call_lack {
	CALL_LACKS_NOTHING,
	CALL_LACKS_FUNDS,
	CALL_LACKS_LIMIT,   /* the key's spend limit leaves less */
	CALL_LACKS_ANSWERS, /* nobody knows: another coordinator or the database says nothing */
};

/* What it takes to go on with the answer elsewhere. */
struct resume {
	bool wanted;    /* it may be, and so far could be */
	bool adds_seed; /* the request gave none */
	uint64_t seed, print;
	struct buf tokens; /* int32_t: that were sampled for what was taken from the provider */
	unsigned times;
};
struct resume_seen { /* in one chunk */
	bool content, tool_calls;
};

/* One dispatch to one provider. A call has one at a time, or two that race until one has content. */
struct attempt {
	struct list_link link;
	struct call *call;
	struct fleet_job *job;
	struct dialect_answer *answer; /* NULL once the exchange is gone */
	struct buf held;               /* rewritten preambles, not sent yet */
	uint32_t held_count;
	bool accepted, extended;
	bool loading;            /* it said that it loads the model first */
	uint32_t queue_position; /* the farthest back it stood in its engine's queue; 0 = it did not wait, as far as was said */
	bool is_backup;          /* asked while another was silent */
	bool owned;              /* the provider is the caller's own */
	enum db_err uncovered;   /* why its price is not covered: then nothing was sent */
	double predicted_ms, tail_ms; /* of the first content, < 0 = unknown */
	double hedge_due_ms;          /* since it was sent: when another is asked as well */
	struct route_decision decision;
	unsigned try_at; /* in the record's tries; RECORD_TRIES: it made way for a later one */
	struct price price;
	bool ended; /* the job told its end: it can be looked at, but not used, until its callback returns */
	uint64_t started_us, last_chunk_us;
	struct net_timer deadline;
};

struct call {
	struct list_link link;
	struct gateway *gateway;
	const struct dialect *dialect;
	struct exchange *exchange; /* NULL: answered, or the consumer left */
	unsigned busy;             /* entered from outside; freed when the last leaves */
	bool over;

	char id[ID_UUID_SIZE]; /* the job id that the consumer sees, and the id of the hold */
	char model[ROUTE_MODEL_SIZE], public_model[ROUTE_MODEL_SIZE];
	bool aliased;         /* public_model is an alias, model the build that was chosen for it */
	struct caller caller; /* its allowed_models live as long as the exchange */
	struct admission admission;
	bool service, stream;
	const struct chat_request *request; /* in the exchange's arena */
	uint64_t prompt_estimate, prompt_bound;
	struct fleet_prefixes prefixes;
	int64_t answers;       /* that were asked for, to all prompts together */
	bool prompts;          /* there are several */
	int64_t max_tokens;    /* of each answer */
	int64_t output_tokens; /* of all answers together, at most */

	/* money */
	struct ledger_hold *hold; /* NULL: none yet, or ended */
	struct price held_price;
	int64_t held_tokens;           /* of output that the hold covers */
	struct ledger_room room;       /* until another coordinator has given back what it holds of the account */
	struct price asked_price;      /* it is waited for because of a provider with this price */
	struct route_node *asked_node; /* that provider; NULL: it has gone meanwhile */
	unsigned asks_refused;         /* how often there was none */
	struct ledger_room more;       /* the same for an answer that outgrows the hold; it goes on meanwhile */
	bool grows_no_more;            /* and there is none */

	/* dispatch */
	struct list attempts;
	struct attempt *winner; /* content came from it */
	struct route_node *excluded[CALL_MAX_ATTEMPTS];
	size_t excluded_count;
	struct list_link excluding; /* in the gateway's list while there are any */
	unsigned attempts_made, capacity_failures;
	unsigned passed_over; /* that were sent nothing, for their price */
	enum call_lack lack;  /* what was missing for that */
	struct wishes wishes;
	struct resume resume;
	bool resuming;                  /* content was sent, and its provider lost: the next one goes on */
	struct dialect_answer *carried; /* meanwhile, while no attempt has it */
	bool racing;                    /* two attempts run, or did until one of them just ended */
	struct hedge *hedge;            /* the model's, once it is asked for */
	struct hedge_backup backup;
	struct net_timer race_timer;
	struct call_failure failure;
	struct fleet_waiter waiter;
	bool waiting;
	struct net_timer queue_timer, keepalive_timer;

	/* relay */
	bool started;       /* status and headers of a stream are out */
	struct buf pending; /* bytes that wait for the consumer, from pending_at on */
	size_t pending_at;
	uint32_t unconsumed; /* chunks in pending */
	/* of the winner's answer, kept when that goes */
	size_t text_bytes;
	uint64_t chunks;
	uint64_t cut_from; /* chunks that had come when the stream was cut short; 0 = it was not */

	struct record record;                                              /* of what was decided, told when it is over */
	uint64_t parse_us, reserve_us, dispatch_us, queue_us, provider_us; /* for X-Timing */
	uint64_t queued_at_us;
};

/* Brackets every entry from outside, so that a call is not freed under its own feet. Whatever is handed to HTTP may turn out to
 * have nobody to go to: then the call has no exchange any more, and its attempts no answer. */
void call_enter(struct call *call);
void call_leave(struct call *call);
/* Nothing follows: timers, attempts and buffers go; the hold must have ended. */
void call_over(struct call *call);
/* Tells the consumer, if one is left, and ends the call. The hold must have ended. */
void call_fail(struct call *call, const struct api_error *error);
/* It was answered, wholly or in part: for its record, before call_over. */
void call_ended(struct call *call, const char *outcome, uint64_t completion_tokens);
/* Forgets the exchange and what lives in it; the caller ends it afterwards. */
void call_let_go(struct call *call);

/* --- keep.c --- */
void keep_begin(struct call *call); /* once what was asked is known */
void keep_end(struct call *call);   /* it is over */
/* What befell a record's request, as its consumer is told. `by`: static text or NULL, as exchange.refused_by. */
void keep_note_error(struct record *record, const struct api_error *error, const char *by);
void keep_record(struct gateway *gateway, const struct record *record);
/* The model that a body names, whatever else is wrong with it: cut to what fits, printable ASCII and '?' for the rest. */
void keep_asked_model(struct str body, struct record *record);
/* It is refused before there is a call; adds the header that names the record, which has everything but what all have. */
void keep_refused(struct gateway *gateway, struct exchange *exchange, const struct api_error *error, struct record *record);
uint64_t keep_digest(const struct gateway *gateway, const struct caller *caller); /* of the account */

/* --- infer.c --- */
int call_retry_after_s(const struct call *call);

/* --- naming.c --- */
/* Puts the build that `asked`, with the public name in it, is to get into call->model. False when the machines that it names
 * can serve none. */
bool naming_resolve(struct call *call, const struct route_request *asked);
void naming_answered(const struct call *call);
void naming_failed(const struct call *call, const struct fleet_job_end *end);

/* --- dispatch.c --- */
void dispatch_next(struct call *call);
/* The node is not to be chosen again, or may be. */
void dispatch_exclude(struct call *call, struct route_node *node);
void dispatch_include(struct call *call, const struct route_node *node);
void dispatch_forget_exclusions(struct call *call); /* it is over */
/* Another provider may get the node's place in memory: it has not failed. For fleet_on_node_gone. */
void dispatch_node_gone(const struct route_node *node, void *gateway);
/* Cancels the attempt's job as if it had failed so. Before content another attempt follows, after it the call ends. */
void dispatch_give_up(struct attempt *attempt, int status, const char *text);
void dispatch_drop(struct attempt *attempt); /* cancels its job and frees it */
/* As dispatch_give_up before content, but no other attempt follows: one runs already. */
void dispatch_retire(struct attempt *attempt, int status, const char *text);
/* The same before its time is up: nobody is blamed. */
void dispatch_pass_over(struct attempt *attempt);
/* Sends the request to one more provider beside those that have it. False: there is none, or it is not worth it. */
bool dispatch_backup(struct call *call);

/* --- tries.c --- */
void tries_begin(struct attempt *attempt, const struct route_decision *decision); /* it was sent */
void tries_chosen(const struct attempt *attempt);                                 /* the record is about this one */
/* The first end counts. `tokens`: of output that came. */
void tries_end(const struct attempt *attempt, enum record_try_end end, int status, uint64_t tokens);

/* It is passed over for its price: nothing was sent. */
void tries_pass_over(struct call *call, const struct route_node *node, bool is_backup);

/* --- dearer.c --- */
/* Before anything is sent: what is on hold covers the provider's price, raised if need be. Notes price, owner and why not. */
bool dearer_covers(struct attempt *attempt, const struct route_node *node);
/* Routing chose a provider whose price was not covered: asks for the money where others may have it, and passes it over else.
 * Another attempt, or the end, follows. */
void dearer_chosen(struct call *call, const struct route_decision *decision, struct price price, enum db_err uncovered);
void dearer_fail(struct call *call); /* none was left that could be paid */

/* --- silence.c --- */
void silence_sent(struct attempt *attempt); /* watches it until content comes */
void silence_accepted(struct attempt *attempt);
void silence_after_content(struct attempt *attempt);
struct hedge_silence silence_of(const struct attempt *attempt);

/* --- resume.c --- */
void resume_begin(struct call *call);
/* The chunk was taken whole. */
void resume_took(struct call *call, struct str chunk, const struct resume_seen *seen);
void resume_stop(struct call *call);
bool resume_possible(const struct call *call);
/* Adds to a forwarded body what keeps the answer continuable and, when it is continued, how it began. */
enum db_err resume_write(const struct call *call, struct buf *body);

/* --- race.c --- */
void race_arm(struct call *call, struct attempt *first); /* it was just sent */
/* Whether a second attempt is worth it, and within the budget: then the race has begun. */
bool race_approves(struct call *call, const struct route_decision *decision);
/* Content came from this attempt: the others are cancelled, which says nothing against them. */
void race_won(struct attempt *winner);
void race_one_left(struct call *call); /* the other failed */
/* It is over, however; a loser worked off so many tokens for nothing. */
void race_stop(struct call *call, uint64_t loser_prompt, uint64_t loser_output);

/* --- relay.c --- */
void relay_chunk(struct attempt *attempt, struct str chunk);
void relay_put_position(struct exchange *exchange, uint32_t position); /* as a header; 0 = it did not wait, and none */
void relay_complete(struct attempt *attempt, const struct fleet_job_end *end);
void relay_keepalive(struct call *call);
/* The consumer reads too slowly: ends the stream with an error event, to be settled for what was delivered. */
void relay_abort_slow(struct call *call);

/* --- settle.c --- */
enum db_err money_hold(struct call *call, struct api_error *error); /* DB_E_AGAIN: ask for room, then try again */
int64_t money_wanted(const struct call *call);                      /* how much money_hold needs */
/* The chosen provider's price: raises the hold when it is dearer. DB_E_AGAIN: ask for room for what is uncovered. */
enum db_err money_cover(struct call *call, struct price price);
int64_t money_uncovered(const struct call *call, struct price price);
/* The answer grew: keeps the hold above it. False when the balance does not cover more. */
bool money_grow(struct call *call, uint64_t tokens);
/* How many tokens so much of an answer had at least: most providers send each by itself, some send several at once. */
uint64_t money_tokens(uint64_t chunks, size_t text_bytes);
/* Ends the hold with a charge; *billed is what was counted. */
void money_settle(struct call *call, const struct attempt *attempt, const struct fleet_job_end *end, const char *outcome,
                  struct chat_usage *billed);
void money_release(struct call *call, const char *reason);

/* Who asks, as routing and learning know accounts. */
static inline struct str call_account(const struct call *call)
{
	return str_of(ledger_account_id(call->caller.account));
}

#endif
