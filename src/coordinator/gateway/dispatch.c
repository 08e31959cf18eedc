/* Attempts: which provider runs the request, how long it may take to say something, and who is next when it fails
 * (http-api 2.6, routing 10). */
#include "coordinator/gateway/call.h"

#include "core/clock.h"
#include "core/log.h"
#include "wire/register.h"

#include <stdio.h>
#include <stdlib.h>

#define SHORTENED_ANSWER_PART 4 /* of the context that a shortened prompt leaves for the answer */

static void try_attempt(struct call *call);
static void failed(struct attempt *attempt, struct route_node *node, const struct fleet_job_end *end);

/* --- attempts --- */

static void attempt_free(struct attempt *attempt)
{
	struct call *call = attempt->call;
	list_remove(&call->attempts, &attempt->link);
	net_timer_stop(&attempt->deadline);
	if (call->resuming && attempt->answer) {
		call->carried = attempt->answer;
		attempt->answer = NULL;
	}
	dialect_answer_free(attempt->answer);
	buf_free(&attempt->held);
	if (call->winner == attempt)
		call->winner = NULL;
	free(attempt);
}

static struct attempt *attempt_new(struct call *call)
{
	struct attempt *attempt = calloc(1, sizeof *attempt);
	struct chat_answer_options options = {.job_id = call->id,
	                                      .requested_model = str_of(call->public_model),
	                                      .stream = call->stream,
	                                      .max_tokens = call->max_tokens,
	                                      .request = call->request};
	if (!attempt)
		return NULL;
	attempt->call = call;
	attempt->answer = call->resuming ? call->carried : call->dialect->answer_new(http_arena(call->exchange->http), &options);
	call->carried = NULL;
	buf_init(&attempt->held, CALL_MAX_PREAMBLE);
	list_push_back(&call->attempts, &attempt->link);
	if (attempt->answer)
		return attempt;
	attempt_free(attempt);
	return NULL;
}

void dispatch_drop(struct attempt *attempt)
{
	if (attempt->job && !attempt->ended)
		fleet_job_cancel(attempt->job);
	attempt_free(attempt);
}

void dispatch_exclude(struct call *call, struct route_node *node)
{
	if (!node || call->excluded_count == CALL_MAX_ATTEMPTS)
		return;
	if (call->excluded_count == 0)
		list_push_back(&call->gateway->excluding, &call->excluding);
	call->excluded[call->excluded_count++] = node;
}

void dispatch_forget_exclusions(struct call *call)
{
	if (call->excluded_count > 0)
		list_remove(&call->gateway->excluding, &call->excluding);
	call->excluded_count = 0;
}

void dispatch_include(struct call *call, const struct route_node *node)
{
	size_t kept = 0, count = call->excluded_count;
	for (size_t i = 0; i < count; i++)
		if (call->excluded[i] != node)
			call->excluded[kept++] = call->excluded[i];
	if (kept == 0)
		dispatch_forget_exclusions(call);
	call->excluded_count = kept;
}

void dispatch_node_gone(const struct route_node *node, void *user)
{
	struct gateway *gateway = user;
	LIST_EACH_SAFE (link, next, &gateway->excluding) {
		struct call *call = LIST_OF(link, struct call, excluding);
		dispatch_include(call, node);
		if (call->asked_node == node)
			call->asked_node = NULL;
	}
}

/* --- callbacks of the fleet --- */

static void on_accepted(struct fleet_job *job, bool loading, uint32_t queue_position, void *user)
{
	(void)job;
	struct attempt *attempt = user;
	bool again = attempt->accepted;
	attempt->accepted = true;
	if (queue_position > attempt->queue_position)
		attempt->queue_position = queue_position;
	if (again)
		return; /* only its place has changed */
	attempt->loading = loading;
	if (!attempt->call->winner)
		silence_accepted(attempt);
}

static void on_chunk(struct fleet_job *job, struct str chunk, void *user)
{
	(void)job;
	struct attempt *attempt = user;
	struct call *call = attempt->call;
	call_enter(call);
	relay_chunk(attempt, chunk);
	call_leave(call);
}

static void on_complete(struct fleet_job *job, const struct fleet_job_end *end, void *user)
{
	(void)job;
	struct attempt *attempt = user;
	struct call *call = attempt->call;
	call_enter(call);
	attempt->ended = true;
	relay_complete(attempt, end);
	call_leave(call);
}

static void on_error(struct fleet_job *job, const struct fleet_job_end *end, void *user)
{
	struct attempt *attempt = user;
	struct call *call = attempt->call;
	call_enter(call);
	attempt->ended = true;
	failed(attempt, fleet_job_node(job), end);
	call_leave(call);
}

static const struct fleet_job_callbacks callbacks_of_attempts = {
    .on_accepted = on_accepted, .on_chunk = on_chunk, .on_complete = on_complete, .on_error = on_error};

/* --- what the consumer is told --- */

static const char *type_of(int status)
{
	switch (status) {
	case 402:
		return "insufficient_funds";
	case 429:
		return "rate_limit_exceeded";
	default:
		return "provider_error";
	}
}

/* Content was sent, and no other provider can go on: the consumer hears of it and pays nothing (billing 4.5). */
static void fail_lost(struct call *call)
{
	const struct call_failure *failure = &call->failure;
	struct api_error error;
	bool timeout = failure->status == 504;
	if (failure->status == 422) /* it said all it had to say, in a form that was not asked for */
		api_fail(&error, 422, "invalid_request_error", NULL, "response_format", "%s", failure->text);
	else
		api_fail(&error, call->stream ? 502 : failure->status, timeout ? "timeout" : "provider_error", NULL, NULL,
		         "The provider failed while it answered: %s", failure->text);
	money_release(call, timeout ? "provider_timeout" : "provider_error");
	call_fail(call, &error);
}

/* No provider is left (http-api 2.6 "Exhaustion status"). */
static void fail_exhausted(struct call *call)
{
	const struct call_failure *failure = &call->failure;
	if (call->resuming) {
		fail_lost(call);
		return;
	}
	struct api_error error;
	int status = failure->status;
	if (call->attempts_made == 0 && call->lack) {
		dearer_fail(call);
		return;
	}
	if (failure->deterministic || (failure->capacity && status >= 500) || call->capacity_failures >= CALL_MAX_CAPACITY)
		status = 429;
	else if (status == 0)
		status = 503;
	api_fail(&error, status, type_of(status), NULL, NULL, "No provider could answer after %u attempt%s: %s",
	         call->attempts_made, call->attempts_made == 1 ? "" : "s", failure->text[0] ? failure->text : "none is left.");
	if (status == 429 || status == 503)
		error.retry_after_s = call_retry_after_s(call);
	money_release(call, "reservation_refund");
	call_fail(call, &error);
}

/* The model's machines are its own, and full: whoever asks hears of it at once, but for callers that may use their own (routing
 * 13.1). */
static bool sheds(const struct call *call)
{
	return !call->wishes.own_only && !call->wishes.prefers_own &&
	       fleet_model_dedicated(call->gateway->options.fleet, str_of(call->model));
}

static void fail_busy(struct call *call, const char *why)
{
	struct api_error error;
	if (call->resuming) {
		fail_lost(call);
		return;
	}
	api_fail(&error, 429, call->wishes.own_only || sheds(call) ? "machine_busy" : "rate_limit_exceeded", NULL, NULL, "%s", why);
	error.retry_after_s = call_retry_after_s(call);
	money_release(call, "reservation_refund");
	call_fail(call, &error);
}

/* No provider can take the request, now or after a wait: says why (routing 9). */
static void fail_unroutable(struct call *call, const struct route_decision *decision)
{
	struct api_error error;
	const uint32_t *gate = decision->by_gate;
	uint32_t serving = decision->considered > gate[ROUTE_NOT_SERVING] ? decision->considered - gate[ROUTE_NOT_SERVING] : 0;
	if (wishes_explain(&call->wishes, call->gateway->options.fleet, call_account(call), str_of(call->model), &error))
		(void)serving;
	else if (serving == 0 && !learn_knows(&call->gateway->learn, str_of(call->model)))
		api_fail(&error, 404, "model_not_found", NULL, "model",
		         "No provider offers this model: GET /v1/models lists those that can be used.");
	else if (gate[ROUTE_CAPABILITY] > 0 && call->prompts)
		api_fail(&error, 503, "model_unavailable", NULL, "prompt",
		         "No provider of this model takes several prompts at once: send a request for each of them.");
	else if (gate[ROUTE_CAPABILITY] > 0 && call->answers > 1)
		api_fail(&error, 503, "model_unavailable", NULL, "n",
		         "No provider of this model gives several answers to one request.");
	else if (gate[ROUTE_CAPABILITY] > 0)
		api_fail(&error, 404, "model_not_found", NULL, "model", "No provider of this model %s.",
		         call->dialect->task == CHAT_TASK_EMBED   ? "makes embeddings with it"
		         : call->dialect->task == CHAT_TASK_COUNT ? "counts tokens"
		                                                  : "answers conversations with it: it makes embeddings");
	else if (gate[ROUTE_VISION] > 0)
		api_fail(&error, 503, "model_unavailable", NULL, "model", "No provider of this model can read images.");
	else if (call->request->has_tools && (gate[ROUTE_TEMPLATE] > 0 || gate[ROUTE_VERSION_FLOOR] > 0))
		api_fail(&error, 503, "model_unavailable", NULL, "model", "No provider of this model can call tools.");
	else if (call->request->prompt && gate[ROUTE_VERSION_FLOOR] > 0)
		api_fail(&error, 503, "model_unavailable", NULL, "model",
		         "No provider of this model takes plain prompts: use /v1/chat/completions.");
	else if (gate[ROUTE_TOO_LARGE] > 0 || gate[ROUTE_BUDGET] > 0 || gate[ROUTE_MEMORY] > 0)
		api_fail(&error, 503, "model_unavailable", "model_too_large", "model", "The request is too large for every provider.");
	else if (gate[ROUTE_REGION] > 0)
		api_fail(&error, 503, "model_unavailable", "region_unavailable", NULL,
		         "No provider of this model in the regions that were asked for can answer.");
	else if (call->wishes.places.serial_count > 0)
		api_fail(&error, 503, "model_unavailable", NULL, "model", "None of the providers that were asked for can answer.");
	else
		api_fail(&error, 503, "model_unavailable", NULL, "model",
		         "No provider of this model can be trusted with the request at the moment: try again soon.");
	if (error.status == 503 && !error.retry_after_s)
		error.retry_after_s = call_retry_after_s(call);
	money_release(call, "reservation_refund");
	call_fail(call, &error);
}

/* --- the queue --- */

static void on_queue_timeout(struct net_timer *timer)
{
	struct call *call = LIST_OF(timer, struct call, queue_timer);
	call_enter(call);
	fail_busy(call, "No provider became free in time: try again.");
	call_leave(call);
}

static void on_wake(struct fleet_waiter *waiter)
{
	struct call *call = LIST_OF(waiter, struct call, waiter);
	call_enter(call);
	if (!call->over)
		try_attempt(call);
	call_leave(call);
}

static struct route_request route_of(const struct call *call);

static void wait_for_provider(struct call *call)
{
	struct gateway *gateway = call->gateway;
	bool first = !call->waiting;
	struct route_request request = route_of(call);
	call->waiter.wake = on_wake;
	if (fleet_wait(gateway->options.fleet, &request, &call->waiter, !first) != DB_OK) {
		fail_busy(call, "Too many requests wait for this model: try again.");
		return;
	}
	if (!first)
		return;
	call->waiting = true;
	call->queued_at_us = clock_mono_us();
	metric_add(gateway->queued, 1);
	net_timer_start(gateway->options.loop, &call->queue_timer, gateway->options.queue_wait_ms, 0, on_queue_timeout);
}

static void shed(struct call *call)
{
	fleet_note_demand(call->gateway->options.fleet, str_of(call->model), PLANNER_CAPACITY_REJECT);
	if (call->exchange)
		call->exchange->refused_by = "dedicated_capacity";
	fail_busy(call, "The machines of this model are busy: try again.");
}

static void stop_waiting(struct call *call)
{
	if (!call->waiting)
		return;
	fleet_wait_cancel(&call->waiter);
	net_timer_stop(&call->queue_timer);
	call->waiting = false;
	call->queue_us = clock_mono_us() - call->queued_at_us;
}

/* --- an attempt --- */

static void on_keepalive(struct net_timer *timer)
{
	struct call *call = LIST_OF(timer, struct call, keepalive_timer);
	call_enter(call);
	if (call->exchange && !call->winner)
		relay_keepalive(call);
	call_leave(call);
}

static void start_clocks(struct call *call, struct attempt *attempt)
{
	const struct gateway_options *options = &call->gateway->options;
	silence_sent(attempt);
	if (call->stream && !call->keepalive_timer.loop)
		net_timer_start(options->loop, &call->keepalive_timer, options->keepalive_ms, options->keepalive_ms, on_keepalive);
}

static uint32_t need_of(const struct call *call)
{
	switch (call->dialect->task) {
	case CHAT_TASK_EMBED:
		return WIRE_CAN_EMBED;
	case CHAT_TASK_COUNT:
		return WIRE_CAN_COUNT;
	case CHAT_TASK_ANSWER:
		break;
	}
	uint32_t need = WIRE_CAN_CHAT | (call->prompts ? (uint32_t)WIRE_CAN_PROMPTS : 0);
	return call->request->n > 1 ? need | WIRE_CAN_CHOOSE : need;
}

/* Tokens of the prompt as the engine will run it: one that may be shortened leaves room in the context for an answer. */
static uint64_t prompt_needed(const struct call *call)
{
	uint64_t context = fleet_model_context(call->gateway->options.fleet, str_of(call->model));
	uint64_t most = context - context / SHORTENED_ANSWER_PART;
	return call->request->shortens && context > 0 && call->prompt_estimate > most ? most : call->prompt_estimate;
}

static uint64_t room_needed(const struct call *call)
{
	return (uint64_t)call->answers *
	       fleet_model_room(call->gateway->options.fleet, str_of(call->model), prompt_needed(call), (uint64_t)call->max_tokens);
}

static bool approves(const struct route_decision *decision, void *user)
{
	struct attempt *attempt = user;
	struct call *call = attempt->call;
	if (attempt->is_backup && !race_approves(call, decision))
		return false;
	if (dearer_covers(attempt, decision->node))
		return true;
	if (attempt->is_backup)
		race_stop(call, 0, 0);
	return false;
}

/* Those that failed, and those that have the request now. */
static size_t not_again(const struct call *call, struct route_node *out[CALL_MAX_ATTEMPTS])
{
	size_t count = 0;
	LIST_EACH (link, &call->attempts) {
		const struct attempt *attempt = LIST_OF(link, struct attempt, link);
		if (attempt->job && count < CALL_MAX_ATTEMPTS)
			out[count++] = fleet_job_node(attempt->job);
	}
	for (size_t i = 0; i < call->excluded_count && count < CALL_MAX_ATTEMPTS; i++)
		out[count++] = call->excluded[i];
	return count;
}

/* What routing must know; strings are borrowed from the call. */
static struct route_request route_of(const struct call *call)
{
	const struct gateway *gateway = call->gateway;
	uint64_t expected = (uint64_t)call->answers * learn_expect(&gateway->learn, str_of(call->model), call_account(call));
	struct route_request request = {
	    .model = str_of(call->model),
	    .prompt_tokens = prompt_needed(call),
	    .max_tokens = room_needed(call),
	    .expected_tokens = expected < (uint64_t)call->output_tokens ? expected : (uint64_t)call->output_tokens,
	    .tools = call->request->has_tools,
	    .vision = call->request->has_media,
	    .plain_prompt = call->request->prompt != NULL,
	    .needs = need_of(call) | (call->resuming ? WIRE_CAN_RESUME : 0),
	    .caller_account = call_account(call),
	    .prefixes = call->prefixes.at,
	    .prefix_count = call->prefixes.count,
	};
	wishes_ask(&call->wishes, &request);
	return request;
}

/* Seals and sends the request to the provider that routing chooses. */
static enum db_err start_job(struct call *call, struct attempt *attempt, struct route_decision *decision)
{
	struct gateway *gateway = call->gateway;
	struct route_node *excluded[CALL_MAX_ATTEMPTS];
	size_t excluded_count = not_again(call, excluded);
	if (!call->prefixes.count)
		fleet_name_prefixes(gateway->options.fleet, call->request, call_account(call), &call->prefixes);
	struct fleet_job_request request = {
	    .account = call_account(call),
	    .route = route_of(call),
	    .request_id = str_of(call->id),
	    .stream = call->stream,
	    .approves = approves,
	    .notes = call->resume.wanted,
	};
	if (attempt->is_backup) { /* it is there for the first content, however long the answer */
		request.route.expected_tokens = 1;
		request.route.urgent = true;
	}
	request.route.excluded = excluded;
	request.route.excluded_count = excluded_count;
	buf_clear(&gateway->body);
	enum db_err err = chat_request_forward(call->request, request.route.model, call->max_tokens, &gateway->body);
	if (!err)
		err = resume_write(call, &gateway->body);
	request.body = buf_str(&gateway->body);
	if (!err)
		err = fleet_job_start(gateway->options.fleet, &request, &callbacks_of_attempts, attempt, &attempt->job, decision);
	if (gateway->body.cap > CALL_KEPT_BUFFER_BYTES)
		buf_free(&gateway->body);
	else
		buf_clear(&gateway->body);
	return err;
}

/* The attempt is on its way. */
static void note_start(struct call *call, struct attempt *attempt, const struct route_decision *decision)
{
	attempt->started_us = net_now_us(call->gateway->options.loop);
	tries_begin(attempt, decision);
	call->record.hedged |= attempt->is_backup;
	call->record.resumed |= call->resuming;
	attempt->predicted_ms = decision->ttft_ms;
	attempt->tail_ms = decision->tail_ms;
	call->attempts_made++;
	metric_add(call->gateway->attempts, 1);
}

bool dispatch_backup(struct call *call)
{
	struct gateway *gateway = call->gateway;
	struct route_decision decision = {0};
	struct attempt *attempt = call->attempts_made < CALL_MAX_ATTEMPTS ? attempt_new(call) : NULL;
	if (!attempt)
		return false;
	attempt->is_backup = true;
	if (start_job(call, attempt, &decision) != DB_OK) {
		metric_add(gateway->hedges_refused, 1);
		attempt_free(attempt);
		return false;
	}
	note_start(call, attempt, &decision);
	metric_add(gateway->hedges, 1);
	log_info("request.hedged", "id=%s attempt=%u", call->id, call->attempts_made);
	start_clocks(call, attempt);
	return true;
}

static void try_attempt(struct call *call)
{
	struct route_decision decision = {0};
	uint64_t began = clock_mono_us();
	struct attempt *attempt = attempt_new(call);
	enum db_err err = attempt ? start_job(call, attempt, &decision) : DB_E_NOMEM;
	if (!err) {
		call->dispatch_us = clock_mono_us() - began;
		note_start(call, attempt, &decision);
		stop_waiting(call);
		start_clocks(call, attempt);
		race_arm(call, attempt);
		return;
	}
	enum db_err uncovered = attempt ? attempt->uncovered : DB_OK;
	struct price price = attempt ? attempt->price : (struct price){0};
	if (attempt)
		attempt_free(attempt);
	if (uncovered) {
		stop_waiting(call);
		dearer_chosen(call, &decision, price, uncovered);
		return;
	}
	unsigned looked_at = call->attempts_made + call->passed_over;
	if (looked_at == 0)
		record_note_decision(&call->record, &decision);
	if (looked_at > 0 && !(call->resuming && err == DB_E_AGAIN))
		fail_exhausted(call);
	else if (err == DB_E_AGAIN && !call->resuming && sheds(call))
		shed(call);
	else if (err == DB_E_AGAIN)
		wait_for_provider(call);
	else if (err == DB_E_NOT_FOUND)
		fail_unroutable(call, &decision);
	else
		fail_busy(call, "The request cannot be sent to a provider at the moment: try again.");
}

void dispatch_next(struct call *call)
{
	unsigned looked_at = call->attempts_made + call->passed_over;
	if (looked_at >= CALL_MAX_ATTEMPTS || call->failure.deterministic || call->capacity_failures >= CALL_MAX_CAPACITY)
		fail_exhausted(call);
	else
		try_attempt(call);
}

/* --- failures --- */

/* The request itself is wrong: no other provider would answer, and nobody is to blame (routing 11.2). */
static bool is_client_fault(const struct fleet_job_end *end)
{
	bool of_this_provider = end->status == 404 || end->status == 408 || end->status == 409 || end->status == 499;
	return end->status >= 400 && end->status < 500 && !of_this_provider && !end->provider_fault && !end->capacity &&
	       !end->deterministic;
}

/* What a consumer is told of a status that a provider gave: others than these mean something else at our door. */
static int told_as(int status)
{
	return status == 413 || status == 422 ? status : 400;
}

static void fail_as_client(struct call *call, const struct fleet_job_end *end)
{
	struct api_error error;
	bool verdict = end->status == 422;
	api_fail(&error, told_as(end->status), "invalid_request_error", NULL, verdict ? "response_format" : NULL, "%s%.*s",
	         verdict ? "" : "The model refused the request: ", (int)(end->text.len < 240 ? end->text.len : 240),
	         end->text.at ? end->text.at : "");
	money_release(call, "reservation_refund");
	call_fail(call, &error);
}

static void note_failure(struct call *call, const struct fleet_job_end *end)
{
	struct call_failure *failure = &call->failure;
	bool no_answer_of_ours = end->status == 0 || (end->status >= 400 && end->status < 500 && end->status != 404 &&
	                                              end->status != 422 && end->status != 429);
	failure->status = no_answer_of_ours && !end->capacity ? 502 : end->status;
	failure->capacity = end->capacity;
	failure->deterministic |= end->deterministic;
	(void)str_copy(str_sub(end->text, 0, sizeof failure->text - 1), failure->text, sizeof failure->text);
	call->capacity_failures += end->capacity && !end->deterministic;
}

/* Content of it went out, or could go on elsewhere. */
static void lost(struct attempt *attempt, const struct fleet_job_end *end)
{
	struct call *call = attempt->call;
	bool possible = resume_possible(call) && !is_client_fault(end);
	note_failure(call, end);
	call->failure.deterministic = false;
	call->capacity_failures = 0;
	call->winner = NULL;
	call->resuming = true;
	attempt_free(attempt);
	if (!possible) {
		fail_lost(call);
		return;
	}
	call->resume.times++;
	metric_add(call->gateway->resumed, 1);
	log_info("request.resumed", "id=%s tokens=%zu", call->id, call->resume.tokens.len / sizeof(int32_t));
	dispatch_next(call);
}

static uint64_t chunks_of(const struct attempt *attempt)
{
	return attempt->answer ? attempt->answer->chunks : 0;
}

/* The attempt's job has ended. */
static void failed(struct attempt *attempt, struct route_node *node, const struct fleet_job_end *end)
{
	struct call *call = attempt->call;
	bool after_content = call->winner == attempt;
	if (!call->exchange) { /* the consumer left, and the provider did not finish */
		money_release(call, end->status == 499 ? "no_terminal_after_cancel" : "provider_error_after_disconnect");
		call_over(call);
		return;
	}
	log_info("request.attempt_failed", "id=%s attempt=%u status=%d capacity=%d after_content=%d", call->id, call->attempts_made,
	         end->status, end->capacity, after_content);
	tries_end(attempt, after_content ? RECORD_TRY_LOST : RECORD_TRY_FAILED, end->status, chunks_of(attempt));
	naming_failed(call, end);
	dispatch_exclude(call, node);
	if (after_content && (call->started || (resume_possible(call) && !is_client_fault(end)))) {
		lost(attempt, end);
		return;
	}
	attempt_free(attempt);
	if (is_client_fault(end)) {
		fail_as_client(call, end);
		return;
	}
	if (!call->resuming)
		note_failure(call, end);
	metric_add(call->gateway->failovers, 1);
	if (call->attempts.count > 0)
		race_one_left(call);
	else
		dispatch_next(call);
}

/* Nobody blames a provider that said nothing by the deadline (routing 11.2): one that accepted, and then was silent, it does.
 */
static void blame(struct attempt *attempt, int status)
{
	bool began = attempt->accepted || attempt->held_count > 0 || attempt->call->winner == attempt;
	enum route_outcome silent = began ? ROUTE_OUTCOME_TIMEOUT : ROUTE_OUTCOME_LATE;
	fleet_job_outcome(attempt->job, status == 504 ? silent : ROUTE_OUTCOME_FAULT);
}

void dispatch_retire(struct attempt *attempt, int status, const char *text)
{
	struct call *call = attempt->call;
	struct fleet_job_end end = {.status = status, .text = str_of(text), .provider_fault = true};
	dispatch_exclude(call, fleet_job_node(attempt->job));
	note_failure(call, &end);
	metric_add(call->gateway->failovers, 1);
	blame(attempt, status);
	tries_end(attempt, RECORD_TRY_SILENT, 0, chunks_of(attempt));
	dispatch_drop(attempt);
}

void dispatch_pass_over(struct attempt *attempt)
{
	dispatch_exclude(attempt->call, fleet_job_node(attempt->job));
	metric_add(attempt->call->gateway->failovers, 1);
	tries_end(attempt, RECORD_TRY_SILENT, 0, chunks_of(attempt));
	dispatch_drop(attempt);
}

void dispatch_give_up(struct attempt *attempt, int status, const char *text)
{
	struct fleet_job_end end = {.status = status, .text = str_of(text), .provider_fault = true};
	struct route_node *node = fleet_job_node(attempt->job);
	if (status == 504 && attempt->call->winner != attempt)
		tries_end(attempt, RECORD_TRY_SILENT, 0, chunks_of(attempt));
	blame(attempt, status);
	fleet_job_cancel(attempt->job);
	attempt->job = NULL;
	attempt->ended = true;
	failed(attempt, node, &end);
}
