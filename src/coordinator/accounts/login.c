#include "coordinator/accounts/login.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/id.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "crypto/password.h"
#include "crypto/secret.h"

#define AT_ONCE        2  /* hashes being computed: 64 MiB and a worker each */
#define QUEUE_MAX      32 /* waiting for one; more are refused */
#define THROTTLE_SLOTS 65536

/* An account is slowed down less than an address: whoever wants its owner to wait can make them wait no longer than this. */
static const struct throttle_rule account_rule = {5, 1000, 60000, 3600000};
static const struct throttle_rule address_rule = {20, 1000, 900000, 3600000};

struct login {
	struct login_options options;
	struct throttle *throttle;
	struct list waiting; /* of struct job, for a worker */
	struct list hashing; /* which workers have */
	bool has_setup_code;
	char setup_code[SHA256_HEX_SIZE]; /* hash */
};

enum job_kind { JOB_SIGN_UP, JOB_CHECK, JOB_CHANGE };

/* One attempt, from the first question to its answer. */
struct job {
	struct login *login; /* NULL: it is gone, and a worker has still to come back */
	enum job_kind kind;
	login_fn done;
	void *user;
	struct list_link link;
	char email[STORE_EMAIL_SIZE], net[THROTTLE_NET_SIZE], keep[SHA256_HEX_SIZE];
	char account_id[STORE_ID_SIZE]; /* when it is known who it is */
	bool by_setup_code;
	struct str password, fresh; /* secret memory of this job's own */
	char text[2][LOGIN_PASSWORD_MAX];
	struct store_signup signup;

	bool is_known; /* there is a hash to compare with */
	char hash[STORE_PASSWORD_SIZE];
	struct store_person person;
	enum db_err hashed; /* on the worker: DB_OK = right */
	struct net_timer soon;
	struct login_result result;
};

/* --- life --- */

struct login *login_new(const struct login_options *options)
{
	struct login *login = calloc(1, sizeof *login);
	if (!login)
		return NULL;
	login->options = *options;
	list_init(&login->waiting);
	list_init(&login->hashing);
	login->throttle = throttle_new(THROTTLE_SLOTS);
	if (!login->throttle) {
		free(login);
		return NULL;
	}
	return login;
}

static void free_job(struct job *job)
{
	net_timer_stop(&job->soon);
	secret_free(job);
}

enum login_signup_mode login_signup_mode(const struct login *login)
{
	return login->options.signup;
}

void login_set_setup_code(struct login *login, struct str code)
{
	login->has_setup_code = code.len > 0;
	sha256_hex(code.at, code.len, login->setup_code);
}

bool login_has_setup_code(const struct login *login)
{
	return login->has_setup_code;
}

/* --- answers --- */

static void answer(struct job *job)
{
	job->done(&job->result, job->user);
	free_job(job);
}

static void on_soon(struct net_timer *timer)
{
	answer(LIST_OF(timer, struct job, soon));
}

static void finish(struct job *job, enum db_err code, const char *text)
{
	job->result.code = code;
	job->result.person = code == DB_OK ? &job->person : NULL;
	snprintf(job->result.text, sizeof job->result.text, "%s", text ? text : "");
	answer(job);
}

void login_free(struct login *login)
{
	struct list_link *link;
	if (!login)
		return;
	while ((link = list_pop_front(&login->waiting)))
		finish(LIST_OF(link, struct job, link), DB_E_CLOSED, NULL);
	while ((link = list_pop_front(&login->hashing)))
		LIST_OF(link, struct job, link)->login = NULL;
	throttle_free(login->throttle);
	free(login);
}

/* The same, but not from inside the caller's call. */
static void finish_soon(struct job *job, enum db_err code, const char *text)
{
	job->result.code = code;
	snprintf(job->result.text, sizeof job->result.text, "%s", text);
	net_timer_start(job->login->options.loop, &job->soon, 0, 0, on_soon);
}

static void finish_with(struct job *job, const struct error *error)
{
	bool is_refusal = error->code == DB_E_DENIED || error->code == DB_E_EXISTS || error->code == DB_E_NOT_FOUND;
	if (!is_refusal)
		log_error("login.store", "reason=\"%s\"", error->text);
	finish(job, is_refusal ? error->code : DB_E_IO, is_refusal ? error->text : "The database cannot be asked at the moment.");
}

/* --- guessing --- */

static struct str account_key(const struct job *job)
{
	return str_of(job->email[0] ? job->email : job->account_id);
}

/* True, and the answer is on its way, when it must wait. Otherwise the try counts as failed until it went well. */
static bool is_throttled(struct job *job)
{
	struct login *login = job->login;
	uint64_t now_us = clock_mono_us();
	uint32_t account_ms = throttle_wait_ms(login->throttle, &account_rule, "account", account_key(job), now_us);
	uint32_t net_ms = throttle_wait_ms(login->throttle, &address_rule, "address", str_of(job->net), now_us);
	job->result.retry_ms = account_ms > net_ms ? account_ms : net_ms;
	if (job->result.retry_ms) {
		finish_soon(job, DB_E_LIMIT, "There were too many tries: wait a moment, then try again.");
		return true;
	}
	throttle_failed(login->throttle, &account_rule, "account", account_key(job), now_us);
	if (job->net[0])
		throttle_failed(login->throttle, &address_rule, "address", str_of(job->net), now_us);
	return false;
}

static void forgive(struct job *job)
{
	throttle_forgive(job->login->throttle, "account", account_key(job));
	if (job->net[0])
		throttle_take_back(job->login->throttle, "address", str_of(job->net));
}

/* --- workers --- */

static void on_hashed(void *arg);

/* On a worker. Whether or not there is a hash to compare with, one is computed. */
static void hash_now(void *arg)
{
	struct job *job = arg;
	char fresh[PASSWORD_HASH_SIZE];
	job->hashed = DB_OK;
	if (job->kind != JOB_SIGN_UP) {
		bool right = job->is_known ? password_verify(job->password, job->hash) : password_hash(job->password, fresh) != DB_OK;
		job->hashed = right && job->is_known ? DB_OK : DB_E_DENIED;
	}
	if (job->hashed == DB_OK && job->kind != JOB_CHECK) {
		job->hashed = password_hash(job->kind == JOB_CHANGE ? job->fresh : job->password, fresh);
		memcpy(job->hash, fresh, sizeof job->hash);
	}
	secret_wipe(fresh, sizeof fresh);
}

static void start_hashing(struct login *login)
{
	while (login->hashing.count < AT_ONCE) {
		struct list_link *link = list_pop_front(&login->waiting);
		if (!link)
			return;
		list_push_back(&login->hashing, link);
		net_work(login->options.loop, hash_now, on_hashed, LIST_OF(link, struct job, link));
	}
}

/* Takes its place in front of the workers. */
static void queue_job(struct job *job)
{
	struct login *login = job->login;
	if (login->waiting.count >= QUEUE_MAX) {
		job->result.retry_ms = 2000;
		forgive(job);
		finish_soon(job, DB_E_AGAIN, "Too many people log in at this moment: try again in a few seconds.");
		return;
	}
	list_push_back(&login->waiting, &job->link);
	start_hashing(login);
}

static void on_signed_up(const struct store_person *person, const struct error *error, void *user)
{
	struct job *job = user;
	if (!person) {
		finish_with(job, error);
		return;
	}
	if (job->by_setup_code)
		job->login->has_setup_code = false;
	forgive(job);
	job->person = *person;
	log_info("login.signed_up", "account=%s owner=%d", person->account_id, person->is_owner);
	finish(job, DB_OK, NULL);
}

static void on_changed(const struct error *error, void *user)
{
	struct job *job = user;
	if (error)
		finish_with(job, error);
	else
		finish(job, DB_OK, NULL);
}

static void on_hashed(void *arg)
{
	struct job *job = arg;
	struct login *login = job->login;
	if (!login) {
		finish(job, DB_E_CLOSED, NULL);
		return;
	}
	list_remove(&login->hashing, &job->link);
	start_hashing(login);
	if (job->hashed == DB_E_DENIED) {
		finish(job, DB_E_DENIED, job->email[0] ? "The e-mail address or the password is wrong." : "The password is wrong.");
	} else if (job->hashed) {
		finish(job, DB_E_AGAIN, "There is not enough memory at this moment: try again in a few seconds.");
	} else if (job->kind == JOB_SIGN_UP) {
		memcpy(job->signup.password, job->hash, sizeof job->signup.password);
		store_signup(login->options.store, &job->signup, on_signed_up, job);
	} else if (job->kind == JOB_CHANGE) {
		forgive(job);
		store_password_change(login->options.store, str_of(job->account_id), job->hash, str_of(job->keep), on_changed, job);
	} else {
		forgive(job);
		finish(job, DB_OK, NULL);
	}
}

/* --- attempts --- */

static struct str keep_secret(struct job *job, int slot, struct str text)
{
	size_t len = text.len < LOGIN_PASSWORD_MAX ? text.len : LOGIN_PASSWORD_MAX;
	if (len)
		memcpy(job->text[slot], text.at, len);
	return (struct str){job->text[slot], len};
}

static void say_no_memory(login_fn done, void *user)
{
	struct login_result result = {.code = DB_E_AGAIN, .retry_ms = 2000, .text = "There is not enough memory at this moment."};
	done(&result, user);
}

static struct job *new_job(struct login *login, enum job_kind kind, struct str password, login_fn done, void *user)
{
	struct job *job = secret_alloc(sizeof *job);
	if (!job) {
		say_no_memory(done, user);
		return NULL;
	}
	job->login = login;
	job->kind = kind;
	job->done = done;
	job->user = user;
	job->password = keep_secret(job, 0, password);
	return job;
}

static void on_password(const struct store_person *person, const char *hash, const struct error *error, void *user)
{
	struct job *job = user;
	if (error) {
		finish_with(job, error);
		return;
	}
	job->is_known = person != NULL;
	if (person) {
		job->person = *person;
		str_copy(str_of(person->account_id), job->account_id, sizeof job->account_id);
		str_copy(str_of(hash), job->hash, sizeof job->hash);
	}
	queue_job(job);
}

void login_check(struct login *login, const struct login_attempt *attempt, login_fn done, void *user)
{
	struct job *job = new_job(login, JOB_CHECK, attempt->password, done, user);
	if (!job)
		return;
	throttle_net(attempt->address, job->net);
	if (login_fold_email(attempt->email, job->email) || attempt->password.len > LOGIN_PASSWORD_MAX) {
		finish_soon(job, DB_E_DENIED, "The e-mail address or the password is wrong.");
		return;
	}
	if (!is_throttled(job))
		store_password_find(login->options.store, str_of(job->email), on_password, job);
}

void login_check_again(struct login *login, struct str account_id, struct str password, login_fn done, void *user)
{
	struct job *job = new_job(login, JOB_CHECK, password, done, user);
	if (!job)
		return;
	str_copy(account_id, job->account_id, sizeof job->account_id);
	if (!is_throttled(job))
		store_password_of(login->options.store, account_id, on_password, job);
}

void login_change(struct login *login, struct str account_id, struct str current, struct str fresh, struct str keep,
                  login_fn done, void *user)
{
	struct job *job = new_job(login, JOB_CHANGE, current, done, user);
	const char *objection = login_password_objection(fresh, STR_NONE);
	if (!job)
		return;
	job->fresh = keep_secret(job, 1, fresh);
	str_copy(account_id, job->account_id, sizeof job->account_id);
	str_copy(keep, job->keep, sizeof job->keep);
	if (objection)
		finish_soon(job, DB_E_INVALID, objection);
	else if (!is_throttled(job))
		store_password_of(login->options.store, account_id, on_password, job);
}

static bool is_setup_code(const struct login *login, struct str code)
{
	char hash[SHA256_HEX_SIZE];
	sha256_hex(code.at, code.len, hash);
	return login->has_setup_code && secret_equal(hash, login->setup_code, sizeof hash);
}

/* Why it cannot be, before anything is hashed; DB_OK when it can. */
static enum db_err object_to_signup(struct job *job, const struct login_attempt *attempt, const char **why)
{
	struct login *login = job->login;
	struct store_signup *signup = &job->signup;
	bool has_code = attempt->invitation.len > 0;
	signup->as_owner = job->by_setup_code = has_code && is_setup_code(login, attempt->invitation);
	*why = login_fold_email(attempt->email, job->email) ? "This is no e-mail address."
	                                                    : login_password_objection(attempt->password, str_of(job->email));
	if (*why)
		return DB_E_INVALID;
	if (!signup->as_owner && login->options.signup == LOGIN_SIGNUP_CLOSED)
		*why = "Signing up is closed here: ask the operator.";
	else if (!signup->as_owner && login->options.signup == LOGIN_SIGNUP_INVITE && !has_code)
		*why = "Signing up needs an invitation: ask the operator for one.";
	if (*why)
		return DB_E_DENIED;
	if (!signup->as_owner && has_code)
		sha256_hex(attempt->invitation.at, attempt->invitation.len, signup->invitation);
	return DB_OK;
}

void login_sign_up(struct login *login, const struct login_attempt *attempt, login_fn done, void *user)
{
	const char *why;
	struct job *job = new_job(login, JOB_SIGN_UP, attempt->password, done, user);
	if (!job)
		return;
	throttle_net(attempt->address, job->net);
	enum db_err err = object_to_signup(job, attempt, &why);
	if (err) {
		finish_soon(job, err, why);
		return;
	}
	memcpy(job->signup.email, job->email, sizeof job->signup.email);
	str_copy(str_sub(attempt->name, 0, sizeof job->signup.name - 1), job->signup.name, sizeof job->signup.name);
	id_uuid4(job->signup.account_id);
	if (!is_throttled(job))
		queue_job(job);
}
