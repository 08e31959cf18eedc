/* What an account sees of itself and of its machines (http-api 4.3). */
#include "coordinator/portal_routes.h"
#include "coordinator/server.h"
#include "coordinator/task.h"

#include "coordinator/store/store_login.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/version.h"

static void answer_json(struct exchange *exchange, struct buf *body)
{
	buf_append_byte(body, '\n');
	exchange_header(exchange, "Cache-Control", STR("no-store"));
	exchange_json(exchange, 200, buf_str(body));
	buf_free(body);
}

static void refuse_unreadable(struct exchange *exchange)
{
	task_refuse(exchange, 503, "service_unavailable", "The account cannot be read at the moment: try again.", 2);
}

/* --- GET /v1/me --- */

static const char *kind_name(enum caller_kind kind)
{
	static const char *const names[] = {[CALLER_NOBODY] = "nobody",
	                                    [CALLER_KEY] = "api_key",
	                                    [CALLER_SESSION] = "session",
	                                    [CALLER_ADMIN] = "admin_key",
	                                    [CALLER_PROVIDER] = "device_token"};
	return names[kind];
}

static void on_person(const struct store_person *person, const struct error *error, void *user)
{
	struct task *task = user;
	struct exchange *exchange = task_end(task);
	struct buf body;
	struct json_writer w;
	if (exchange && (error || !person)) {
		refuse_unreadable(exchange);
	} else if (exchange) {
		buf_init(&body, 4096);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "account_id", person->account_id);
		json_put_cstr(&w, "name", person->name);
		json_put_cstr(&w, "email", person->email);
		json_put_bool(&w, "email_verified", person->email_verified);
		json_put_cstr(&w, "authenticated_by", kind_name(exchange->caller.kind));
		json_put_bool(&w, "is_admin", exchange->caller.is_admin);
		json_end_object(&w);
		answer_json(exchange, &body);
	}
	task_free(task);
}

void handle_me(struct server *server, struct exchange *exchange)
{
	struct task *task = task_new(server, exchange, sizeof *task);
	if (task)
		store_person_get(server_rooms(server)->store, str_of(ledger_account_id(exchange->caller.account)), on_person, task);
}

/* --- the account's machines --- */

struct machines {
	struct str account;
	struct json_writer *w; /* NULL: they are only counted */
	int64_t total, online, serving, untrusted, hardware, needs_attention;
};

static void put_reputation(struct json_writer *w, const struct reputation *r)
{
	json_key(w, "reputation");
	json_begin_object(w);
	json_put_double(w, "score", reputation_score(r));
	json_put_i64(w, "total_jobs", (int64_t)r->jobs_ok + r->jobs_failed);
	json_put_i64(w, "successful_jobs", r->jobs_ok);
	json_put_i64(w, "failed_jobs", r->jobs_failed);
	json_put_i64(w, "total_uptime_seconds", r->uptime_s);
	json_put_i64(w, "avg_response_time_ms", (int64_t)r->latency_ms);
	json_put_i64(w, "challenges_passed", r->challenges_passed);
	json_put_i64(w, "challenges_failed", r->challenges_failed);
	json_end_object(w);
}

static void put_machine(struct json_writer *w, const struct fleet_provider_view *view)
{
	json_begin_object(w);
	json_put_str(w, "id", view->id);
	json_put_str(w, "account_id", view->account);
	json_put_cstr(w, "status", view->status);
	json_put_bool(w, "online", true);
	json_key(w, "hardware");
	json_begin_object(w);
	json_put_str(w, "chip_name", view->chip_name);
	json_put_str(w, "machine_model", view->machine_model);
	json_put_double(w, "memory_gb", view->memory_gb);
	json_put_i64(w, "gpu_cores", view->gpu_cores);
	json_end_object(w);
	json_key(w, "models");
	json_begin_array(w);
	for (size_t i = 0; i < view->model_count; i++)
		json_str(w, view->models[i]);
	json_end_array(w);
	json_put_str(w, "backend", view->backend);
	json_put_str(w, "version", view->version);
	json_put_str(w, "serial_number", view->serial);
	json_put_cstr(w, "trust_level", route_trust_name(view->trust));
	put_reputation(w, &view->reputation);
	json_put_bool(w, "attested", view->attested);
	json_put_bool(w, "mda_verified", view->mda_verified);
	json_put_bool(w, "acme_verified", false);
	json_put_bool(w, "se_key_bound", view->secure_enclave);
	json_put_str(w, "se_public_key", view->se_public_key);
	json_put_str(w, "provider_key", view->encryption_public_key);
	json_put_bool(w, "secure_enclave", view->secure_enclave);
	json_put_bool(w, "sip_enabled", view->sip);
	json_put_bool(w, "secure_boot_enabled", view->secure_boot);
	json_put_bool(w, "authenticated_root_enabled", view->authenticated_root);
	json_put_str(w, "platform", view->platform);
	json_put_str(w, "key_protection", view->key_protection);
	json_end_object(w);
}

static void look_at(const struct fleet_provider_view *view, void *user)
{
	struct machines *machines = user;
	if (!view->account.len || !str_eq(view->account, machines->account))
		return;
	bool is_untrusted = str_is(STR("untrusted"), view->status);
	machines->total++;
	machines->online += !is_untrusted;
	machines->serving += str_is(STR("serving"), view->status);
	machines->untrusted += is_untrusted;
	machines->hardware += view->trust == ROUTE_TRUST_HARDWARE;
	machines->needs_attention += is_untrusted || !view->attested;
	if (machines->w)
		put_machine(machines->w, view);
}

static struct machines machines_of(const struct server *server, const struct exchange *exchange, struct json_writer *w)
{
	struct machines machines = {.account = str_of(ledger_account_id(exchange->caller.account)), .w = w};
	fleet_each(server_rooms(server)->fleet, look_at, &machines);
	return machines;
}

static void put_versions(struct json_writer *w, const struct server *server)
{
	json_put_cstr(w, "latest_provider_version", DARKBLOOM_VERSION);
	json_put_cstr(w, "min_provider_version", server_rooms(server)->config->min_provider_version);
}

void handle_me_providers(struct server *server, struct exchange *exchange)
{
	struct buf body;
	struct json_writer w;
	buf_init(&body, 16u << 20);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_key(&w, "providers");
	json_begin_array(&w);
	(void)machines_of(server, exchange, &w);
	json_end_array(&w);
	put_versions(&w, server);
	json_put_i64(&w, "heartbeat_timeout_seconds", server_rooms(server)->config->heartbeat_timeout_s);
	json_put_i64(&w, "challenge_max_age_seconds", server_rooms(server)->config->challenge_interval_s + 60);
	json_end_object(&w);
	answer_json(exchange, &body);
}

/* --- GET /v1/me/summary --- */

static void put_earned(struct json_writer *w, const char *uusd, const char *jobs, struct store_earned earned)
{
	json_put_i64(w, uusd, earned.uusd);
	json_put_i64(w, jobs, earned.jobs);
}

static void put_counts(struct json_writer *w, const struct machines *machines)
{
	json_key(w, "counts");
	json_begin_object(w);
	json_put_i64(w, "total", machines->total);
	json_put_i64(w, "online", machines->online);
	json_put_i64(w, "serving", machines->serving);
	json_put_i64(w, "offline", 0);
	json_put_i64(w, "untrusted", machines->untrusted);
	json_put_i64(w, "hardware", machines->hardware);
	json_put_i64(w, "needs_attention", machines->needs_attention);
	json_end_object(w);
}

static void on_earnings(const struct store_earnings *earnings, const struct error *error, void *user)
{
	struct task *task = user;
	struct exchange *exchange = task_end(task);
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		refuse_unreadable(exchange);
	} else if (exchange) {
		const struct ledger_account *account = exchange->caller.account;
		struct machines machines = machines_of(task->server, exchange, NULL);
		buf_init(&body, 4096);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_cstr(&w, "account_id", ledger_account_id(account));
		json_put_i64(&w, "available_balance_micro_usd", ledger_available(account));
		json_put_i64(&w, "withdrawable_balance_micro_usd", ledger_withdrawable(account));
		json_put_bool(&w, "payout_ready", false);
		put_earned(&w, "lifetime_micro_usd", "lifetime_jobs", earnings->lifetime);
		put_earned(&w, "last_24h_micro_usd", "last_24h_jobs", earnings->day);
		put_earned(&w, "last_7d_micro_usd", "last_7d_jobs", earnings->week);
		put_counts(&w, &machines);
		put_versions(&w, task->server);
		json_end_object(&w);
		answer_json(exchange, &body);
	}
	task_free(task);
}

void handle_me_summary(struct server *server, struct exchange *exchange)
{
	struct task *task = task_new(server, exchange, sizeof *task);
	if (task)
		store_earnings_get(server_rooms(server)->store, str_of(ledger_account_id(exchange->caller.account)), clock_wall_us(),
		                   on_earnings, task);
}
