/* What an account sees of itself and of its machines (http-api 4.3). */
#include "coordinator/machines.h"
#include "coordinator/portal_routes.h"
#include "coordinator/server.h"
#include "coordinator/task.h"

#include "coordinator/store/store_login.h"
#include "core/clock.h"
#include "core/json.h"
#include "core/version.h"
#include "net/form.h"

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
		task_answer_private(exchange, 200, &body);
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

#define LIVE_MAX 1000 /* of one account that are told apart from those remembered */

struct machines {
	const struct fleet *fleet;
	struct str account;
	struct json_writer *w; /* NULL: they are only counted */
	const struct store_machine *known;
	size_t known_count;
	bool *is_live; /* of each that is known */
	int64_t total, online, serving, offline, untrusted, hardware, needs_attention;
};

static const struct store_machine *find_known(struct machines *machines, const struct fleet_provider_view *view)
{
	char key[STORE_MODEL_SIZE];
	if (!machine_key(view, key))
		return NULL;
	for (size_t i = 0; i < machines->known_count; i++)
		if (strcmp(machines->known[i].key, key) == 0) {
			machines->is_live[i] = true;
			return &machines->known[i];
		}
	return NULL;
}

static void look_at(const struct fleet_provider_view *view, void *user)
{
	struct machines *machines = user;
	if (!view->account.len || !str_eq(view->account, machines->account))
		return;
	const struct store_machine *known = find_known(machines, view);
	bool is_untrusted = str_is(STR("untrusted"), view->status);
	machines->total++;
	machines->online += !is_untrusted;
	machines->serving += str_is(STR("serving"), view->status);
	machines->untrusted += is_untrusted;
	machines->hardware += view->trust == ROUTE_TRUST_HARDWARE;
	machines->needs_attention += is_untrusted || !view->attested;
	if (machines->w)
		machine_put(machines->w, machines->fleet, view, known);
}

/* Those that are connected, then those that are remembered. */
static void look_at_all(const struct server *server, struct machines *machines, const struct store_machine *known, size_t count)
{
	bool is_live[LIVE_MAX] = {false};
	machines->fleet = server_rooms(server)->fleet;
	machines->known = known;
	machines->known_count = count < LIVE_MAX ? count : LIVE_MAX;
	machines->is_live = is_live;
	fleet_each(server_rooms(server)->fleet, look_at, machines);
	for (size_t i = 0; i < machines->known_count; i++) {
		if (is_live[i])
			continue;
		machines->total++;
		machines->offline++;
		if (machines->w)
			machine_put_remembered(machines->w, &known[i]);
	}
}

static struct str account_of(const struct exchange *exchange)
{
	return str_of(ledger_account_id(exchange->caller.account));
}

static void put_versions(struct json_writer *w, const struct server *server)
{
	json_put_cstr(w, "latest_provider_version", DARKBLOOM_VERSION);
	json_put_cstr(w, "min_provider_version", server_rooms(server)->config->min_provider_version);
}

static void on_machines(const struct store_machine *known, size_t count, const struct error *error, void *user)
{
	struct task *task = user;
	struct exchange *exchange = task_end(task);
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		refuse_unreadable(exchange);
	} else if (exchange) {
		struct machines machines = {.account = account_of(exchange), .w = &w};
		const struct coordinator_config *config = server_rooms(task->server)->config;
		buf_init(&body, 16u << 20);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_key(&w, "providers");
		json_begin_array(&w);
		look_at_all(task->server, &machines, known, count);
		json_end_array(&w);
		put_versions(&w, task->server);
		json_put_i64(&w, "heartbeat_timeout_seconds", config->heartbeat_timeout_s);
		json_put_i64(&w, "challenge_max_age_seconds", config->challenge_interval_s + 60);
		json_end_object(&w);
		task_answer_private(exchange, 200, &body);
	}
	task_free(task);
}

void handle_me_providers(struct server *server, struct exchange *exchange)
{
	struct task *task = task_new(server, exchange, sizeof *task);
	if (task)
		store_machines_list(server_rooms(server)->store, account_of(exchange), on_machines, task);
}

/* --- DELETE /v1/me/providers/{serial} --- */

struct forgetting {
	struct task task;
	char name[STORE_MODEL_SIZE];
	bool is_connected;
};

static void on_forgotten(const struct error *error, void *user)
{
	struct forgetting *forgetting = user;
	struct exchange *exchange = task_end(forgetting);
	struct buf body;
	struct json_writer w;
	if (exchange && error && error->code == DB_E_NOT_FOUND) {
		task_refuse(exchange, 404, "not_found", "There is no such machine.", 0);
	} else if (exchange && error && error->code == DB_E_DENIED) {
		task_refuse(exchange, 403, "forbidden", "This machine belongs to another account.", 0);
	} else if (exchange && error) {
		refuse_unreadable(exchange);
	} else if (exchange) {
		buf_init(&body, 1024);
		json_writer_init(&w, &body);
		json_begin_object(&w);
		json_put_bool(&w, "deleted", true);
		json_put_cstr(&w, "serial", forgetting->name);
		json_put_i64(&w, "rows_removed", 1);
		json_end_object(&w);
		task_answer_private(exchange, 200, &body);
	}
	task_free(forgetting);
}

static void look_for(const struct fleet_provider_view *view, void *user)
{
	struct forgetting *forgetting = user;
	char key[STORE_MODEL_SIZE];
	bool named = (machine_key(view, key) && strcmp(key, forgetting->name) == 0) || str_is(view->id, forgetting->name);
	forgetting->is_connected |= named && str_eq(view->account, account_of(forgetting->task.exchange));
}

void handle_me_provider_delete(struct server *server, struct exchange *exchange)
{
	struct forgetting *forgetting = task_new(server, exchange, sizeof *forgetting);
	struct str name;
	if (!forgetting)
		return;
	/* a name that does not fit, or cannot be read, names nothing */
	if (form_decode(route_part(exchange->route, http_path(exchange->http), 0), http_arena(exchange->http), &name) == DB_OK)
		str_copy(name, forgetting->name, sizeof forgetting->name);
	fleet_each(server_rooms(server)->fleet, look_for, forgetting);
	if (!forgetting->is_connected) {
		store_machine_forget(server_rooms(server)->store, account_of(exchange), str_of(forgetting->name), on_forgotten,
		                     forgetting);
		return;
	}
	task_end(forgetting);
	task_free(forgetting);
	task_refuse(exchange, 409, "conflict", "This machine is connected: stop it first.", 0);
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
	json_put_i64(w, "offline", machines->offline);
	json_put_i64(w, "untrusted", machines->untrusted);
	json_put_i64(w, "hardware", machines->hardware);
	json_put_i64(w, "needs_attention", machines->needs_attention);
	json_end_object(w);
}

struct summary {
	struct task task;
	struct store_earnings earnings;
};

static void put_summary(struct json_writer *w, const struct server *server, const struct exchange *exchange,
                        const struct store_earnings *earnings, const struct machines *machines)
{
	const struct ledger_account *account = exchange->caller.account;
	json_begin_object(w);
	json_put_cstr(w, "account_id", ledger_account_id(account));
	json_put_i64(w, "available_balance_micro_usd", ledger_available(account));
	json_put_i64(w, "withdrawable_balance_micro_usd", ledger_withdrawable(account));
	json_put_bool(w, "payout_ready", false);
	put_earned(w, "lifetime_micro_usd", "lifetime_jobs", earnings->lifetime);
	put_earned(w, "last_24h_micro_usd", "last_24h_jobs", earnings->day);
	put_earned(w, "last_7d_micro_usd", "last_7d_jobs", earnings->week);
	put_counts(w, machines);
	put_versions(w, server);
	json_end_object(w);
}

static void on_summary_machines(const struct store_machine *known, size_t count, const struct error *error, void *user)
{
	struct summary *summary = user;
	struct exchange *exchange = task_end(summary);
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		refuse_unreadable(exchange);
	} else if (exchange) {
		struct machines machines = {.account = account_of(exchange)};
		look_at_all(summary->task.server, &machines, known, count);
		buf_init(&body, 4096);
		json_writer_init(&w, &body);
		put_summary(&w, summary->task.server, exchange, &summary->earnings, &machines);
		task_answer_private(exchange, 200, &body);
	}
	task_free(summary);
}

static void on_earnings(const struct store_earnings *earnings, const struct error *error, void *user)
{
	struct summary *summary = user;
	struct exchange *exchange = summary->task.exchange;
	if (exchange && !error) {
		summary->earnings = *earnings;
		store_machines_list(server_rooms(summary->task.server)->store, account_of(exchange), on_summary_machines, summary);
		return;
	}
	exchange = task_end(summary);
	if (exchange)
		refuse_unreadable(exchange);
	task_free(summary);
}

void handle_me_summary(struct server *server, struct exchange *exchange)
{
	struct summary *summary = task_new(server, exchange, sizeof *summary);
	if (summary)
		store_earnings_get(server_rooms(server)->store, account_of(exchange), clock_wall_us(), on_earnings, summary);
}
