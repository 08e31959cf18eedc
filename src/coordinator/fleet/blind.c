/* Jobs whose body a consumer sealed to the provider (docs/reference/blind-mode.md). Nothing here can be opened: chunks are
 * passed on as they come, and the provider's count is taken only with its signature over everything that was passed on. */
#include <stdlib.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/log.h"
#include "wire/blind.h"

#define CIPHERTEXT_MIN 56 /* base64 of a nonce, a tag and nothing */

struct blind_check;

struct blind_job {
	struct blind_transcript transcript;
	struct blind_check *check; /* the terminal message has come and its signature is being looked at */
	char sender_key[WIRE_KEY_B64_LEN + 1];
};

/* A completion on its way through a worker. Texts are its own: job and session may go meanwhile. */
struct blind_check {
	struct fleet_job *job; /* NULL: nobody waits any more */
	struct fleet_job_end end;
	struct buf texts;
	struct blind_usage usage;
	struct str public_key;
	char transcript[SHA256_HEX_SIZE];
	enum db_err result;
};

/* --- out --- */

enum db_err blind_send(struct session *session, struct fleet_job *job, const struct fleet_job_request *request)
{
	const struct fleet_blind_request *blind = request->blind;
	struct wire_message message = {
	    .type = WIRE_REQUEST,
	    .as.request = {.request_id = str_of(job->id),
	                   .has_encrypted_body = true,
	                   .encrypted_body = {blind->sender_key, blind->ciphertext},
	                   .has_credit = true,
	                   .credit = FLEET_CREDIT_FIRST,
	                   .estimated_prompt_tokens = (int64_t)(request->route.prompt_tokens & INT64_MAX),
	                   .queue_notes = true,
	                   .has_blind = true,
	                   .blind = {request->route.model, blind->max_prompt_tokens, blind->max_tokens}},
	};
	if (!job->blind)
		job->blind = calloc(1, sizeof *job->blind);
	if (!job->blind)
		return DB_E_NOMEM;
	blind_transcript_begin(&job->blind->transcript);
	if (!str_copy(blind->sender_key, job->blind->sender_key, sizeof job->blind->sender_key))
		return DB_E_INVALID;
	return session_send(session, &message);
}

void blind_job_free(struct fleet_job *job)
{
	if (job->blind && job->blind->check)
		job->blind->check->job = NULL;
	free(job->blind);
	job->blind = NULL;
}

/* --- in --- */

static bool is_base64(struct str text)
{
	if (text.len < CIPHERTEXT_MIN || text.len % 4 != 0)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.at[i];
		bool good = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/' ||
		            (c == '=' && i + 2 >= text.len);
		if (!good)
			return false;
	}
	return true;
}

const char *blind_take_chunk(struct fleet_job *job, const struct wire_chunk *message)
{
	struct str ciphertext = message->encrypted_data.ciphertext;
	if (!message->has_encrypted_data || message->data.len)
		return "a blind chunk that is not sealed";
	if (!str_eq(message->encrypted_data.sender_key, session_text(job->session, TEXT_PUBLIC_KEY)))
		return "a chunk from a key that is not the provider's";
	if (!is_base64(ciphertext)) /* it goes into an event stream as it stands */
		return "a blind chunk that is not base64";
	if (job->blind->check)
		return "a blind chunk after the end";
	blind_transcript_add(&job->blind->transcript, ciphertext);
	return NULL;
}

/* --- the signed end --- */

static void check_free(struct blind_check *check)
{
	buf_free(&check->texts);
	free(check);
}

static enum db_err verify(const struct blind_check *check)
{
	return blind_usage_verify(&check->usage, check->public_key, check->end.usage_signature);
}

static void conclude(struct fleet_job *job, enum db_err result)
{
	struct blind_check *check = job->blind->check;
	struct fleet_job_end end = check->end;
	job->blind->check = NULL;
	check->job = NULL;
	end.parked_chunks = job->parked_chunks;
	if (result == DB_OK)
		jobs_finish(job, &end);
	else
		jobs_violated(job, "a blind request's usage with a wrong signature");
}

static void verify_on_worker(void *arg)
{
	struct blind_check *check = arg;
	check->result = verify(check);
}

static void verified_on_worker(void *arg)
{
	struct blind_check *check = arg;
	if (check->job)
		conclude(check->job, check->result);
	check_free(check);
}

bool blind_end_now(struct fleet_job *job)
{
	if (!job->blind || !job->blind->check)
		return false;
	conclude(job, verify(job->blind->check)); /* the worker still has its copy, and frees it */
	return true;
}

static struct str keep(struct blind_check *check, struct str text)
{
	size_t at = check->texts.len;
	buf_append_str(&check->texts, text);
	return (struct str){check->texts.at + at, text.len};
}

static struct blind_check *check_new(struct fleet_job *job, const struct wire_complete *message,
                                     const struct fleet_job_end *end)
{
	struct blind_check *check = calloc(1, sizeof *check);
	if (!check)
		return NULL;
	struct str identity = session_text(job->session, TEXT_SE_PUBLIC_KEY);
	size_t room =
	    sizeof job->id + sizeof job->blind->sender_key + strlen(job->model) + identity.len + message->usage_signature.len;
	buf_init(&check->texts, room);
	if (buf_reserve(&check->texts, room)) { /* all at once: what is kept must not move */
		check_free(check);
		return NULL;
	}
	blind_transcript_end(&job->blind->transcript, check->transcript);
	check->job = job;
	check->end = *end;
	check->end.se_signature = check->end.response_hash = STR_NONE; /* they would depend on the text */
	check->end.usage_signature = keep(check, message->usage_signature);
	check->end.transcript = str_of(check->transcript);
	check->public_key = keep(check, identity);
	check->usage = (struct blind_usage){.request_id = keep(check, str_of(job->id)),
	                                    .consumer_key = keep(check, str_of(job->blind->sender_key)),
	                                    .model = keep(check, str_of(job->model)),
	                                    .prompt_tokens = message->prompt_tokens,
	                                    .completion_tokens = message->completion_tokens,
	                                    .reasoning_tokens = message->reasoning_tokens,
	                                    .transcript = check->end.transcript};
	check->end.consumer_key = check->usage.consumer_key;
	return check;
}

void blind_complete(struct fleet_job *job, const struct wire_complete *message, const struct fleet_job_end *end)
{
	if (job->blind->check)
		return;
	job->blind->check = check_new(job, message, end);
	if (job->blind->check)
		net_work(job->session->fleet->loop, verify_on_worker, verified_on_worker, job->blind->check);
	else
		jobs_violated(job, "a blind request's usage that could not be checked");
}

/* --- who can be chosen --- */

struct session *blind_session(const struct fleet *fleet, struct str provider_id)
{
	return map_get(&fleet->blind, provider_id);
}

struct route_node *fleet_blind_node(const struct fleet *fleet, struct str provider_id)
{
	const struct session *session = blind_session(fleet, provider_id);
	return session ? session->node : NULL;
}

bool fleet_blind_provider(const struct fleet *fleet, struct str provider_id, struct fleet_provider_view *out)
{
	const struct session *session = blind_session(fleet, provider_id);
	if (session)
		session_view(session, NULL, out);
	return session != NULL;
}

enum db_err fleet_blind_candidates(struct fleet *fleet, const struct route_request *wanted, size_t max,
                                   void (*fn)(const struct fleet_provider_view *view, double ttft_ms, void *user), void *user,
                                   struct route_decision *decision)
{
	struct route_node *taken[ROUTE_MAX_EXCLUDED];
	struct route_request request = *wanted;
	enum db_err err = DB_OK;
	request.blind = true;
	request.excluded = taken;
	request.excluded_count = 0;
	while (request.excluded_count < max && request.excluded_count < ROUTE_MAX_EXCLUDED) {
		struct route_reservation *reservation;
		struct fleet_provider_view view;
		err = route_select(fleet->routes, &request, net_now_us(fleet->loop), decision, &reservation);
		if (err)
			break;
		struct session *session = route_node_user(decision->node);
		taken[request.excluded_count++] = decision->node;
		route_release(fleet->routes, reservation);
		session_view(session, NULL, &view);
		fn(&view, decision->ttft_ms, user);
	}
	return request.excluded_count > 0 ? DB_OK : err;
}
