/* Dispatch attempts (protocol-and-trust 4.2, 4.3, 11.2): the sealed request on its way out, the sealed answer on its way in.
 * A callback may end any job, its own too: nothing of a job is touched after one. */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"
#include "coordinator/fleet/job_error.h"
#include "core/clock.h"
#include "core/encode.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

/* --- life --- */

static struct fleet_job *job_new(const struct fleet_job_request *request, const struct fleet_job_callbacks *callbacks,
                                 void *user)
{
	struct fleet_job *job = calloc(1, sizeof *job + request->route.model.len + 1);
	if (!job)
		return NULL;
	memcpy(job->model, request->route.model.at, request->route.model.len);
	(void)str_copy(request->request_id, job->request_id, sizeof job->request_id);
	if (request->job_id.len == 0 || !str_copy(request->job_id, job->id, sizeof job->id))
		id_uuid4(job->id);
	job->callbacks = *callbacks;
	job->user = user;
	return job;
}

/* Out of every table; the memory stays for the callback that tells of its end. */
static void detach(struct fleet_job *job)
{
	struct session *session = job->session;
	struct fleet *fleet = session->fleet;
	net_timer_stop(&job->park_timer);
	map_remove(&fleet->jobs, str_of(job->id));
	list_remove(&session->jobs, &job->link);
	route_release(fleet->routes, job->reservation);
	job->reservation = NULL;
	secret_wipe(&job->shared, sizeof job->shared);
	waiting_wake_node(fleet, session->node);
}

static void job_free(struct fleet_job *job)
{
	blind_job_free(job);
	free(job);
}

static void send_cancel(struct session *session, struct str request_id)
{
	struct wire_message message = {.type = WIRE_CANCEL, .as.cancel = {.request_id = request_id}};
	(void)session_send(session, &message);
}

/* --- ends --- */

static void end_with_error(struct fleet_job *job, const struct fleet_job_end *end)
{
	struct fleet *fleet = job->session->fleet;
	metric_add(fleet->metrics.job_errors, 1);
	log_info("job.error", "job=%s request=%s provider=%s status=%d fault=%d capacity=%d error=\"%.*s\"", job->id,
	         job->request_id, job->session->id, end->status, end->provider_fault, end->capacity,
	         STR_ARG(str_sub(end->text, 0, 200)));
	fleet_job_outcome(job, end->outcome);
	detach(job);
	job->callbacks.on_error(job, end, job->user);
	job_free(job);
}

static void end_with_fault(struct fleet_job *job, enum route_outcome outcome, const char *text)
{
	struct fleet_job_end end = {.status = 502, .text = str_of(text), .provider_fault = true, .outcome = outcome};
	end_with_error(job, &end);
}

void jobs_fail_all(struct session *session)
{
	for (struct list_link *link; (link = list_first(&session->jobs));) {
		struct fleet_job *job = LIST_OF(link, struct fleet_job, link);
		if (!blind_end_now(job))
			end_with_fault(job, ROUTE_OUTCOME_LOST, "provider disconnected");
	}
}

/* --- start --- */

static enum db_err seal_now(struct session *session, const struct request_key *key, const struct wire_request *message,
                            struct str body)
{
	struct buf *out = &session->fleet->out;
	buf_clear(out);
	enum db_err err = wire_seal_request(&key->shared, message, str_of(key->public_b64), body, out);
	return err ? err : ws_send(session->ws, WS_TEXT, buf_str(out));
}

/* A provider tells accounts apart, but not who they are, nor that another provider serves them too. The same provider gets the
 * same name after a restart: its attested key is its identity. */
static void name_tenant(const struct session *session, struct str account, char out[SHA256_HEX_SIZE])
{
	struct str identity = session_text(session, TEXT_SE_PUBLIC_KEY);
	uint8_t key[SHA256_BYTES], name[SHA256_BYTES];
	out[0] = '\0';
	if (!session->attested || !identity.len || !account.len)
		return;
	hmac_sha256(session->fleet->options.tenant_key, FLEET_TENANT_KEY_BYTES, identity.at, identity.len, key);
	hmac_sha256(key, sizeof key, account.at, account.len, name);
	hex_encode(name, sizeof name, out);
	secret_wipe(key, sizeof key);
}

static enum db_err seal_and_send(struct session *session, struct fleet_job *job, const struct fleet_job_request *request)
{
	struct fleet *fleet = session->fleet;
	struct request_key key;
	if (request->blind)
		return blind_send(session, job, request);
	enum db_err err = keys_take(session, &key);
	if (err)
		return err;
	char tenant[SHA256_HEX_SIZE], prefixes[FLEET_PREFIXES_TEXT];
	name_tenant(session, request->account, tenant);
	struct wire_request message = {
	    .cache_tenant = str_of(tenant),
	    .prefixes = prefixes_text(session, &request->route, prefixes),
	    .request_id = str_of(job->id),
	    .notes = request->notes && session->resumes,
	    .queue_notes = true,
	    .has_credit = session->flow_credit,
	    .credit = FLEET_CREDIT_FIRST,
	    .estimated_prompt_tokens = (int64_t)(request->route.prompt_tokens & INT64_MAX),
	};
	err = request->body.len <= FLEET_SEAL_INLINE ? seal_now(session, &key, &message, request->body)
	                                             : seal_on_worker(fleet, &key, &message, request->body);
	job->shared = key.shared;
	secret_wipe(&key, sizeof key);
	return err;
}

void jobs_sealed(struct fleet *fleet, struct str job_id, enum db_err result, struct str frame)
{
	struct fleet_job *job = map_get(&fleet->jobs, job_id);
	if (!job)
		return;
	if (!result)
		result = ws_send(job->session->ws, WS_TEXT, frame);
	if (!result)
		return;
	struct fleet_job_end end = {
	    .status = result == DB_E_LIMIT ? 413 : 502,
	    .text = result == DB_E_LIMIT ? STR("request too large for the provider's protocol") : STR("request could not be sent"),
	    .deterministic = result == DB_E_LIMIT,
	};
	end_with_error(job, &end);
}

static enum db_err attach(struct fleet *fleet, struct session *session, struct fleet_job *job)
{
	enum db_err err = map_put(&fleet->jobs, str_of(job->id), job, NULL);
	if (err)
		return err;
	job->session = session;
	list_push_back(&session->jobs, &job->link);
	metric_add(fleet->metrics.jobs, 1);
	return DB_OK;
}

/* One provider, chosen and reserved. On failure the reservation is given back and the provider is not to be asked again. */
static enum db_err try_provider(struct fleet *fleet, const struct fleet_job_request *request, struct fleet_job *job,
                                struct route_decision *decision)
{
	uint64_t began = clock_mono_us();
	enum db_err err = route_select(fleet->routes, &request->route, net_now_us(fleet->loop), decision, &job->reservation);
	if (err)
		return err;
	if (request->approves && !request->approves(decision, job->user)) {
		route_release(fleet->routes, job->reservation);
		job->reservation = NULL;
		return DB_E_AGAIN;
	}
	uint64_t chosen = clock_mono_us();
	struct session *session = route_node_user(decision->node);
	if (decision->affinity_tokens)
		metric_add(fleet->metrics.prefix_hits, 1);
	err = seal_and_send(session, job, request);
	job->route_us = chosen - began;
	job->encrypt_us = clock_mono_us() - chosen;
	if (!err)
		err = attach(fleet, session, job);
	if (!err)
		return DB_OK;
	log_warn("job.send_failed", "request=%s provider=%s error=%s", job->request_id, session->id, error_name(err));
	route_release(fleet->routes, job->reservation);
	job->reservation = NULL;
	if (err == DB_E_CRYPTO)
		session_violation(session, "public key of low order");
	return err == DB_E_LIMIT || err == DB_E_NOMEM ? err : DB_E_CLOSED;
}

enum db_err fleet_job_start(struct fleet *fleet, const struct fleet_job_request *request,
                            const struct fleet_job_callbacks *callbacks, void *user, struct fleet_job **out,
                            struct route_decision *decision)
{
	struct route_node *excluded[ROUTE_MAX_EXCLUDED];
	struct fleet_job_request attempt = *request;
	size_t known = request->route.excluded_count < ROUTE_MAX_EXCLUDED ? request->route.excluded_count : ROUTE_MAX_EXCLUDED;
	enum db_err err = DB_E_CLOSED;
	struct fleet_job *job = job_new(request, callbacks, user);
	*out = NULL;
	if (!job)
		return DB_E_NOMEM;
	if (known)
		memcpy(excluded, request->route.excluded, known * sizeof *excluded);
	if (request->blind) {
		struct session *chosen = blind_session(fleet, request->blind->provider_id);
		attempt.route.only = chosen ? chosen->node : NULL;
		attempt.route.blind = true;
		if (!attempt.route.only) {
			*decision = (struct route_decision){.ttft_ms = -1};
			job_free(job);
			return DB_E_NOT_FOUND;
		}
	}
	attempt.route.excluded = excluded;
	attempt.route.excluded_count = known;
	/* A provider that cannot be written to is passed over like one that failed. */
	while ((err = try_provider(fleet, &attempt, job, decision)) == DB_E_CLOSED &&
	       attempt.route.excluded_count < ROUTE_MAX_EXCLUDED)
		excluded[attempt.route.excluded_count++] = decision->node;
	if (err) {
		secret_wipe(&job->shared, sizeof job->shared);
		job_free(job);
		return err == DB_E_CLOSED ? DB_E_NOT_FOUND : err;
	}
	warm_sent(fleet, &request->route, decision);
	*out = job;
	return DB_OK;
}

/* --- what the gateway does with a job --- */

const char *fleet_job_id(const struct fleet_job *job)
{
	return job->id;
}

void fleet_job_provider(const struct fleet_job *job, struct fleet_provider_view *out)
{
	session_view(job->session, NULL, out);
}

void fleet_node_provider(const struct route_node *node, struct fleet_provider_view *out)
{
	session_view(route_node_user(node), NULL, out);
}

struct route_node *fleet_job_node(const struct fleet_job *job)
{
	return job->session->node;
}

void fleet_job_timing(const struct fleet_job *job, uint64_t *route_us, uint64_t *encrypt_us)
{
	*route_us = job->route_us;
	*encrypt_us = job->encrypt_us;
}

bool fleet_job_has_credit(const struct fleet_job *job)
{
	return job->session->flow_credit;
}

static void grant(struct fleet_job *job)
{
	struct wire_message message = {
	    .type = WIRE_CREDIT,
	    .as.credit = {.request_id = str_of(job->id), .chunks = job->consumed},
	};
	if (job->consumed >= FLEET_CREDIT_BATCH && session_send(job->session, &message) == DB_OK)
		job->consumed = 0;
}

void fleet_job_consumed(struct fleet_job *job, uint32_t chunks)
{
	job->untaken -= chunks < job->untaken ? chunks : job->untaken;
	if (!job->session->flow_credit)
		return;
	job->consumed += chunks;
	grant(job);
}

void jobs_drained(struct session *session)
{
	LIST_EACH (link, &session->jobs)
		grant(LIST_OF(link, struct fleet_job, link));
}

void fleet_job_first_content(struct fleet_job *job)
{
	struct fleet *fleet = job->session->fleet;
	(void)route_first_content(fleet->routes, job->reservation, net_now_us(fleet->loop));
}

uint64_t fleet_job_progress_us(const struct fleet_job *job)
{
	return job->session->last_chunk_us;
}

bool fleet_job_owes_others(const struct fleet_job *job)
{
	LIST_EACH (link, &job->session->jobs) {
		const struct fleet_job *other = LIST_OF(link, struct fleet_job, link);
		if (other != job && other->began && !other->parked && other->untaken == 0)
			return true;
	}
	return false;
}

void fleet_job_outcome(struct fleet_job *job, enum route_outcome outcome)
{
	struct fleet *fleet = job->session->fleet;
	route_outcome(fleet->routes, job->reservation, outcome, net_now_us(fleet->loop));
}

void fleet_job_cancel(struct fleet_job *job)
{
	send_cancel(job->session, str_of(job->id));
	detach(job);
	job_free(job);
}

static void on_park_end(struct net_timer *timer)
{
	struct fleet_job_end end = {.status = 499, .text = STR("request cancelled")};
	end_with_error(LIST_OF(timer, struct fleet_job, park_timer), &end);
}

void fleet_job_park(struct fleet_job *job)
{
	if (job->parked)
		return;
	job->parked = true;
	send_cancel(job->session, str_of(job->id));
	net_timer_start(job->session->fleet->loop, &job->park_timer, FLEET_PARK_MS, 0, on_park_end);
}

/* --- what the provider says about a job --- */

/* Only of a job that runs on this session: others' ids are as good as unknown. */
static struct fleet_job *job_of(struct session *session, struct str request_id)
{
	struct fleet_job *job = map_get(&session->fleet->jobs, request_id);
	return job && job->session == session ? job : NULL;
}

void jobs_accepted(struct session *session, const struct wire_accepted *message)
{
	struct fleet_job *job = job_of(session, message->request_id);
	if (job && !job->parked && job->callbacks.on_accepted)
		job->callbacks.on_accepted(job, message->loading, (uint32_t)message->queue_position, job->user);
}

static void stray_chunk(struct session *session, struct str request_id)
{
	metric_add(session->fleet->metrics.strays, 1);
	if (strays_note(session->fleet, request_id, net_now_us(session->fleet->loop)))
		send_cancel(session, request_id);
}

/* 4.3, in order. NULL, with the text in fleet->plain, or what is wrong. */
static const char *open_chunk(const struct fleet_job *job, const struct wire_chunk *message)
{
	const struct session *session = job->session;
	struct buf *plain = &session->fleet->plain;
	if (!message->has_encrypted_data)
		return "a chunk without encrypted_data";
	if (message->data.len)
		return "a chunk with plain text";
	if (!session_text(session, TEXT_PUBLIC_KEY).len)
		return "a chunk from a provider without a key";
	if (!str_eq(message->encrypted_data.sender_key, session_text(session, TEXT_PUBLIC_KEY)))
		return "a chunk from a key that is not the provider's";
	if (wire_payload_open(&job->shared, message->encrypted_data.ciphertext, plain))
		return "a chunk that does not open";
	return NULL;
}

static void drop_plain(struct fleet *fleet)
{
	if (fleet->plain.cap > FLEET_SCRATCH_KEEP)
		buf_free(&fleet->plain);
	else
		buf_clear(&fleet->plain);
}

void jobs_chunk(struct session *session, const struct wire_chunk *message)
{
	struct fleet *fleet = session->fleet;
	struct fleet_job *job = job_of(session, message->request_id);
	if (!job) {
		stray_chunk(session, message->request_id);
		return;
	}
	const char *violation = job->blind ? blind_take_chunk(job, message) : open_chunk(job, message);
	if (violation) {
		drop_plain(fleet);
		jobs_violated(job, violation);
		return;
	}
	session->last_chunk_us = net_now_us(fleet->loop);
	struct str chunk = job->blind ? message->encrypted_data.ciphertext : buf_str(&fleet->plain);
	metric_add(fleet->metrics.chunks, 1);
	metric_add(fleet->metrics.chunk_bytes, chunk.len);
	job->began = true;
	job->untaken++;
	if (job->parked)
		job->parked_chunks++;
	else
		job->callbacks.on_chunk(job, chunk, job->user);
	drop_plain(fleet);
}

void jobs_finish(struct fleet_job *job, const struct fleet_job_end *end)
{
	fleet_job_outcome(job, ROUTE_OUTCOME_OK);
	detach(job);
	job->callbacks.on_complete(job, end, job->user);
	job_free(job);
}

void jobs_violated(struct fleet_job *job, const char *what)
{
	session_violation(job->session, what);
	send_cancel(job->session, str_of(job->id));
	end_with_fault(job, ROUTE_OUTCOME_FAULT, "provider broke the protocol");
}

static uint64_t claimed(int64_t count)
{
	return count < 0 ? 0 : (uint64_t)count;
}

void jobs_complete(struct session *session, const struct wire_complete *message)
{
	struct fleet_job *job = job_of(session, message->request_id);
	if (!job) {
		log_debug("job.late_terminal", "provider=%s", session->id);
		return;
	}
	struct fleet_job_end end = {
	    .usage = {.prompt_tokens = claimed(message->prompt_tokens),
	              .completion_tokens = claimed(message->completion_tokens),
	              .reasoning_tokens = claimed(message->reasoning_tokens)},
	    .parked_chunks = job->parked_chunks,
	    .se_signature = message->se_signature,
	    .response_hash = message->response_hash,
	    .status = 200,
	};
	if (job->blind)
		blind_complete(job, message, &end);
	else
		jobs_finish(job, &end);
}

void jobs_error(struct session *session, const struct wire_error *message)
{
	struct fleet *fleet = session->fleet;
	struct fleet_job *job = job_of(session, message->request_id);
	if (!job) {
		log_debug("job.late_terminal", "provider=%s", session->id);
		return;
	}
	int status = message->status_code >= 400 && message->status_code <= 599 ? (int)message->status_code : 502;
	struct job_error class = job_error_classify(status, message->error, message->error_reason);
	struct fleet_job_end end = {
	    .status = status,
	    .text = message->error,
	    .reason = message->error_reason,
	    .provider_fault = class.fault,
	    .capacity = class.capacity,
	    .deterministic = class.deterministic,
	    .outcome = class.outcome,
	};
	if (class.cool_down)
		route_node_cool(fleet->routes, session->node, str_of(job->model), net_now_us(fleet->loop) + FLEET_LOAD_COOL_US);
	end_with_error(job, &end);
}
