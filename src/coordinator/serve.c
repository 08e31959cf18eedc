#include "coordinator/serve.h"

#include "coordinator/account_shares.h"
#include "coordinator/aliases.h"
#include "coordinator/book_keeper.h"
#include "coordinator/database.h"
#include "coordinator/key_file.h"
#include "coordinator/limit_keeper.h"
#include "coordinator/machines.h"
#include "coordinator/memory_keeper.h"
#include "coordinator/money/receipt_signer.h"
#include "coordinator/money/stripe.h"
#include "coordinator/payout_worker.h"
#include "coordinator/portal.h"
#include "coordinator/receipt_key.h"
#include "coordinator/reconcile.h"
#include "coordinator/record_keeper.h"
#include "coordinator/retention_keeper.h"
#include "coordinator/reward_fleet.h"
#include "coordinator/reward_keeper.h"
#include "coordinator/server.h"
#include "core/cli.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/version.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DRAIN_POLL_MS 20
#define PSEUDONYMS    "names of the leaderboard"

struct serving {
	const struct serve_options *options;
	const struct coordinator_config *config;
	struct net_loop *loop;
	struct store *store;
	struct metrics *metrics;
	struct ledger *ledger;
	struct accounts *accounts;
	struct limit_keeper keeper;
	struct book_keeper books;
	struct retention_keeper retention;
	struct reward_fleet reward_fleet;
	struct reward_keeper *rewards; /* NULL: none are paid */
	struct shed shed;
	struct memory_keeper memory;
	struct response_keeper responses;
	struct fleet *fleet;
	struct aliases *aliases;
	struct account_shares shares;
	struct gateway *gateway;
	struct record_log *record_log;
	struct portal *portal;
	struct p256_key *receipt_key;
	uint8_t pseudonym_key[KEY_FILE_BYTES];
	struct receipt_signer receipts;
	struct stripe *stripe;
	struct payout_worker *payouts;
	struct reconciler *reconciler;
	struct server *server;
	struct net_timer drain_timer;
	uint64_t drain_until_us;
	bool draining, flushed;
	int status;
	uint64_t began_us;
};

/* --- files --- */

enum db_err serve_make_dir(const char *path, struct error *error)
{
	char part[4096];
	if (!str_copy(str_of(path), part, sizeof part))
		return error_set(error, DB_E_LIMIT, "The path of the data folder is too long.");
	for (char *slash = strchr(part + 1, '/');; slash = strchr(slash + 1, '/')) {
		if (slash)
			*slash = '\0';
		if (mkdir(part, 0700) != 0 && errno != EEXIST)
			return error_set(error, DB_E_IO, "Cannot make the data folder %s: %s. Set data.dir to one that can be made.", part,
			                 strerror(errno));
		if (!slash)
			return DB_OK;
		*slash = '/';
	}
}

enum db_err serve_write_secret(const char *path, struct str text, struct error *error)
{
	(void)unlink(path); /* an old file may be readable by others */
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set(error, DB_E_IO, "Cannot write %s: %s.", path, strerror(errno));
	bool written =
	    write(fd, text.at, text.len) == (ssize_t)text.len && fsync(fd) == 0; /* what it opens must outlive a power cut */
	if (close(fd) != 0 || !written)
		return error_set(error, DB_E_IO, "Cannot write %s: %s.", path, strerror(errno));
	return DB_OK;
}

/* --- stopping --- */

static void fail(struct serving *s, int status, const struct error *error)
{
	fprintf(stderr, "darkbloom-coordinator: %s\n", error->text);
	s->status = status;
	net_loop_stop(s->loop);
}

static void on_flushed(const struct error *error, void *user)
{
	struct serving *s = user;
	if (error) {
		fail(s, CLI_FAILED, error);
		return;
	}
	net_loop_stop(s->loop);
}

/* Waits for running answers, and for the counts of those whose consumers have left. */
static void on_drain_tick(struct net_timer *timer)
{
	struct serving *s = LIST_OF(timer, struct serving, drain_timer);
	bool idle = server_inflight(s->server) == 0 && ledger_open_holds(s->ledger) == 0;
	if (!idle && net_now_us(s->loop) < s->drain_until_us)
		return;
	net_timer_stop(timer);
	if (!idle)
		log_warn("server.drain_cut", "inflight=%zu holds=%zu", server_inflight(s->server), ledger_open_holds(s->ledger));
	accounts_flush_uses(s->accounts);
	limit_keeper_save(&s->keeper);
	store_flush(s->store, on_flushed, s);
}

static void on_terminate(int signal, void *arg)
{
	struct serving *s = arg;
	if (s->draining || !s->server) { /* asked again: at once */
		net_loop_stop(s->loop);
		return;
	}
	s->draining = true;
	s->drain_until_us = net_now_us(s->loop) + (uint64_t)s->config->drain_grace_s * 1000000;
	log_info("server.draining", "signal=%d inflight=%zu grace_s=%lld", signal, server_inflight(s->server),
	         (long long)s->config->drain_grace_s);
	server_drain(s->server);
	net_timer_start(s->loop, &s->drain_timer, DRAIN_POLL_MS, DRAIN_POLL_MS, on_drain_tick);
}

/* --- starting --- */

static void tell_port(const struct serving *s, uint16_t port)
{
	char text[16];
	struct error error;
	int len = snprintf(text, sizeof text, "%u\n", (unsigned)port);
	if (s->options->ready_fd >= 0) {
		if (write(s->options->ready_fd, text, (size_t)len) != len)
			log_warn("server.ready_fd", "error=%s", strerror(errno));
		close(s->options->ready_fd);
	}
	if (!s->options->port_file)
		return;
	/* Whoever waits for the file must not see half of it. */
	char part[4096];
	int part_len = snprintf(part, sizeof part, "%s.part", s->options->port_file);
	bool fits = part_len > 0 && (size_t)part_len < sizeof part;
	if (!fits || serve_write_secret(part, (struct str){text, (size_t)len}, &error) || rename(part, s->options->port_file) != 0)
		log_warn("server.port_file", "path=%s", s->options->port_file);
}

static void announce(const struct serving *s)
{
	static const char *const trust[] = {"none", "self_signed", "hardware"};
	uint16_t port = server_port(s->server);
	bool v6 = strchr(s->config->host, ':') != NULL;
	printf("Darkbloom coordinator %s is ready on %s://%s%s%s:%u (trust floor: %s, data: %s, started in %llu ms).\n",
	       DARKBLOOM_VERSION, server_is_tls(s->server) ? "https" : "http", v6 ? "[" : "", s->config->host, v6 ? "]" : "",
	       (unsigned)port, trust[s->config->min_trust], s->config->store_url[0] ? "PostgreSQL" : s->config->database,
	       (unsigned long long)((clock_mono_us() - s->began_us) / 1000));
	if (s->portal->setup_path[0])
		printf("Sign up as the operator at /signup with the code in %s.\n", s->portal->setup_path);
	fflush(stdout);
	tell_port(s, port);
}

static bool hand_over_key(const struct serving *s, const char *key)
{
	struct error error;
	if (!s->options->key_file) {
		printf("Your API key, shown this once: %s\n", key);
		return true;
	}
	char line[ACCOUNTS_KEY_SIZE + 1];
	int len = snprintf(line, sizeof line, "%s\n", key);
	enum db_err err = serve_write_secret(s->options->key_file, (struct str){line, (size_t)len}, &error);
	secret_wipe(line, sizeof line);
	if (err)
		fprintf(stderr, "darkbloom-coordinator: %s\n", error.text);
	else
		printf("Your API key is in %s.\n", s->options->key_file);
	return err == DB_OK;
}

static bool open_rewards(struct serving *s)
{
	const struct coordinator_config *c = s->config;
	s->reward_fleet = (struct reward_fleet){s->fleet, (enum route_trust)c->rewards_min_trust};
	struct reward_keeper_options options = {
	    .loop = s->loop,
	    .store = s->store,
	    .ledger = s->ledger,
	    .look = reward_fleet_look,
	    .source = &s->reward_fleet,
	    .terms = {.pool_month_uusd = c->rewards_pool_uusd,
	              .left_uusd = -1,
	              .min_uptime_percent = (int)c->rewards_min_uptime_percent,
	              .reduction_percent = (int)c->rewards_reduction_percent,
	              .account_percent = (int)c->rewards_account_percent},
	    .look_ms = (uint32_t)c->rewards_look_s * 1000,
	    .models = c->rewards_models.at,
	    .model_count = c->rewards_models.count,
	};
	s->rewards = c->rewards ? reward_keeper_new(&options) : NULL;
	return !c->rewards || s->rewards;
}

static void listen_now(struct serving *s)
{
	struct error error;
	struct server_rooms rooms = {.config = s->config,
	                             .loop = s->loop,
	                             .store = s->store,
	                             .ledger = s->ledger,
	                             .accounts = s->accounts,
	                             .fleet = s->fleet,
	                             .gateway = s->gateway,
	                             .metrics = s->metrics,
	                             .portal = s->portal,
	                             .limits = s->keeper.limits,
	                             .shed = &s->shed,
	                             .receipts = &s->receipts,
	                             .pseudonym_key = s->pseudonym_key,
	                             .stripe = s->stripe,
	                             .payouts = s->payouts,
	                             .reconciler = s->reconciler,
	                             .rewards = s->rewards,
	                             .aliases = s->aliases,
	                             .shares = &s->shares,
	                             .record_log = s->record_log,
	                             .keeper = &s->responses};
	receipt_signer_start(&s->receipts, s->loop, s->store, s->receipt_key);
	s->server = server_new(&rooms, &error);
	if (s->server) {
		const struct coordinator_config *c = s->config;
		book_keeper_start(&s->books, s->loop, s->store);
		retention_keeper_start(&s->retention, s->loop, s->store,
		                       &(struct retention_days){c->retention_usage_days, c->retention_webhook_days,
		                                                c->retention_session_days, c->retention_rows});
		announce(s);
	} else
		fail(s, CLI_NETWORK, &error);
}

static void on_setup_offered(const struct error *error, void *user)
{
	struct serving *s = user;
	if (error)
		fail(s, CLI_FAILED, error);
	else
		listen_now(s);
}

static void on_first_start(const char *new_key, const struct error *error, void *user)
{
	struct serving *s = user;
	if (error)
		fail(s, CLI_FAILED, error);
	else if (new_key && !hand_over_key(s, new_key)) {
		s->status = CLI_FAILED;
		net_loop_stop(s->loop);
	} else
		portal_offer_setup(s->portal, s->store, on_setup_offered, s);
}

static void on_shares(const struct error *error, void *user)
{
	struct serving *s = user;
	if (error)
		fail(s, CLI_FAILED, error);
	else
		accounts_first_start(s->accounts, s->config->first_grant_uusd, on_first_start, s);
}

static void on_aliases(const struct error *error, void *user)
{
	struct serving *s = user;
	if (error)
		fail(s, CLI_FAILED, error);
	else
		account_shares_start(&s->shares, on_shares, s);
}

static void on_alias_moved(struct str alias, void *user)
{
	struct serving *s = user;
	aliases_keep(s->aliases, alias);
}

static void on_levels(const struct error *error, void *user)
{
	struct serving *s = user;
	if (error)
		fail(s, CLI_FAILED, error);
	else if (!(s->aliases = aliases_new(s->store, s->fleet, on_aliases, s)))
		fail(s, CLI_FAILED, &(struct error){DB_E_NOMEM, "There is not enough memory to start."});
}

static void on_prices(const struct error *error, void *user)
{
	struct serving *s = user;
	if (error)
		fail(s, CLI_FAILED, error);
	else
		limit_keeper_start(&s->keeper, on_levels, s);
}

static struct limit_rate rate(int64_t per_minute, int64_t burst)
{
	return (struct limit_rate){(double)per_minute, (double)burst};
}

static void keep_warm(struct fleet *fleet, const struct config_strings *entries)
{
	struct str model;
	uint32_t providers;
	for (size_t i = 0; i < entries->count; i++)
		if (!coordinator_config_keep_warm(str_of(entries->at[i]), &model, &providers) ||
		    fleet_keep_warm(fleet, model, providers))
			log_warn("warm.keep", "entry=%s", entries->at[i]);
}

static bool open_limits(struct serving *s)
{
	const struct coordinator_config *c = s->config;
	struct limits_options options = {
	    .rates = {[LIMIT_CONSUMER] = {rate(c->requests_per_minute, c->request_burst),
	                                  rate(c->input_tokens_per_minute, c->input_token_burst),
	                                  rate(c->output_tokens_per_minute, c->output_token_burst)},
	              [LIMIT_SERVICE] = {rate(c->service_requests_per_minute, c->service_request_burst),
	                                 rate(c->service_input_tokens_per_minute, c->service_input_token_burst),
	                                 rate(c->service_output_tokens_per_minute, c->service_output_token_burst)}},
	    .financial = rate(c->financial_per_minute, c->financial_burst),
	    .concurrent = {(uint32_t)c->concurrent_requests, (uint32_t)c->service_concurrent_requests},
	    .expects_output = c->service_expected_output,
	    .expected_fraction = (double)c->service_expected_percent / 100,
	    .expected_floor = c->service_expected_floor,
	    .expected_ceiling = c->service_expected_ceiling,
	};
	s->keeper.limits = limits_new(&options);
	s->keeper.store = s->store;
	s->keeper.loop = s->loop;
	s->shed.options = (struct shed_options){.max_lag_ms = (uint32_t)c->shed_loop_lag_ms,
	                                        .max_queued = (uint64_t)c->shed_store_queue,
	                                        .max_inflight = (uint64_t)c->max_inflight};
	s->shed.loop = s->loop;
	s->shed.store = s->store;
	shed_start(&s->shed);
	return s->keeper.limits != NULL;
}

/* Answers that callers ask to be kept. What was kept before goes at its time also where nothing is kept any more. */
static enum db_err open_keeper(struct serving *s, struct error *error)
{
	const struct coordinator_config *c = s->config;
	struct sealed_options secrets = {0};
	sealed_options_from_environment(&secrets);
	const struct response_vault_options options = {
	    .dir = c->dir, .mnemonic = secrets.mnemonic, .previous_mnemonics = secrets.previous_mnemonics};
	s->responses = (struct response_keeper){
	    .store = s->store,
	    .loop = s->loop,
	    .bounds = {.count = c->responses_per_account, .bytes = c->responses_mib_per_account << 20},
	    .age_us = c->responses_days * INT64_C(86400000000),
	};
	if (c->responses_store)
		s->responses.vault = response_vault_new(&options, error);
	if (c->responses_store && !s->responses.vault)
		return error->code;
	response_keeper_start(&s->responses);
	return DB_OK;
}

static void keep_memory(struct serving *s)
{
	struct memory_keeper_options options = {
	    .loop = s->loop,
	    .fleet = fleet_routes(s->fleet),
	    .learn = gateway_learn(s->gateway),
	    .dir = s->config->dir,
	    .every_ms = (uint32_t)s->config->memory_interval_s * 1000,
	};
	memory_keeper_start(&s->memory, &options);
}

/* The rooms that need no answer from the store. */
static bool open_rooms(struct serving *s, struct error *error)
{
	const struct coordinator_config *c = s->config;
	struct store_options store = database_options(c);
	char name[STORE_ID_SIZE];
	if (serve_make_dir(c->dir, error) != DB_OK || database_name(c, name, error) != DB_OK)
		return false;
	store.instance = name;
	s->store = store_open(&store, s->loop, error);
	if (!s->store || open_keeper(s, error) != DB_OK)
		return false;
	struct fleet_options fleet = {
	    .min_trust = (enum route_trust)c->min_trust,
	    .backends = c->backends.at,
	    .backend_count = c->backends.count,
	    .min_version = str_of(c->min_provider_version),
	    .challenge_interval_ms = (uint32_t)c->challenge_interval_s * 1000,
	    .challenge_timeout_ms = (uint32_t)c->challenge_timeout_s * 1000,
	    .heartbeat_timeout_ms = (uint32_t)c->heartbeat_timeout_s * 1000,
	    .max_providers = (uint32_t)c->max_providers,
	    .warm_interval_ms = (uint32_t)c->warm_interval_s * 1000,
	    .warm_off = !c->warm_pool,
	    .shares = c->account_shares.at,
	    .share_count = c->account_shares.count,
	    .dedicated = c->dedicated_models.at,
	    .dedicated_count = c->dedicated_models.count,
	    .on_alias_moved = on_alias_moved,
	    .alias_user = s,
	};
	fleet.on_machine = machine_seen;
	fleet.machine_user = s->store;
	tenant_key_load(c->dir, fleet.tenant_key);
	hmac_sha256(fleet.tenant_key, sizeof fleet.tenant_key, PSEUDONYMS, sizeof PSEUDONYMS - 1, s->pseudonym_key);
	s->receipt_key = receipt_key_load(c->dir, error);
	if (!s->receipt_key)
		return false;
	struct stripe_options stripe = {s->loop, c->stripe_api_url, c->stripe_secret_key};
	if (c->stripe_secret_key[0] && !(s->stripe = stripe_new(&stripe, error)))
		return false;
	s->metrics = metrics_new();
	s->ledger = ledger_new(s->store);
	if (s->ledger) {
		ledger_set_defaults(s->ledger, (struct price){c->input_price, c->output_price, 0}, (int)c->fee_percent);
		ledger_set_referral_share(s->ledger, (int)c->referral_percent);
	}
	struct payout_worker_options payouts = {s->loop, s->store, s->ledger, s->stripe, (uint32_t)c->stripe_retry_ms};
	if (s->ledger && s->stripe && !(s->payouts = payout_worker_new(&payouts)))
		return error_set(error, DB_E_NOMEM, "There is not enough memory to start.") == DB_OK;
	struct reconciler_options reconcile = {s->loop, s->store, s->stripe, s->metrics};
	if (s->stripe && !(s->reconciler = reconciler_new(&reconcile)))
		return error_set(error, DB_E_NOMEM, "There is not enough memory to start.") == DB_OK;
	s->accounts = s->ledger ? accounts_new(s->store, s->ledger) : NULL;
	if (s->accounts)
		accounts_set_admin_key(s->accounts, str_of(c->admin_key));
	s->fleet = s->metrics && s->accounts ? fleet_new(s->loop, s->accounts, s->metrics, &fleet) : NULL;
	s->shares = (struct account_shares){.loop = s->loop, .store = s->store, .fleet = s->fleet};
	if (s->fleet)
		keep_warm(s->fleet, &c->keep_warm);
	struct portal_options portal = {
	    .config = c, .loop = s->loop, .store = s->store, .ledger = s->ledger, .accounts = s->accounts};
	s->portal = s->fleet ? portal_new(&portal, error) : NULL;
	if (s->fleet && !s->portal)
		return false;
	if (!open_limits(s) || !open_rewards(s))
		return error_set(error, DB_E_NOMEM, "There is not enough memory to start.") == DB_OK;
	struct gateway_options gateway = {
	    .loop = s->loop,
	    .fleet = s->fleet,
	    .ledger = s->ledger,
	    .metrics = s->metrics,
	    .limits = s->keeper.limits,
	    .first_content_ms = (uint32_t)c->first_content_ms,
	    .accepted_ms = (uint32_t)c->accepted_wait_s * 1000,
	    .hedge_percent = (uint32_t)c->hedge_percent,
	    .idle_ms = (uint32_t)c->idle_timeout_s * 1000,
	    .stall_ms = (uint32_t)c->stall_timeout_s * 1000,
	    .queue_wait_ms = (uint32_t)c->queue_wait_s * 1000,
	    .keepalive_ms = (uint32_t)c->keepalive_s * 1000,
	    .keep = s->responses.vault ? response_keeper_add : NULL,
	    .keep_user = &s->responses,
	    .relay_buffer_bytes = (uint32_t)c->relay_buffer_kib * 1024,
	};
	if (!s->portal)
		return error_set(error, DB_E_NOMEM, "There is not enough memory to start.") == DB_OK;
	s->record_log = record_keeper_open(c->dir, fleet.tenant_key, (uint64_t)c->retention_record_mb << 20, &gateway, error);
	if (!s->record_log)
		return false;
	s->gateway = gateway_new(&gateway);
	if (s->gateway) {
		record_keeper_restore(s->record_log, s->gateway);
		keep_memory(s);
	} else {
		error_set(error, DB_E_NOMEM, "There is not enough memory to start.");
	}
	return s->gateway != NULL;
}

static void close_rooms(struct serving *s)
{
	net_timer_stop(&s->drain_timer);
	memory_keeper_stop(&s->memory);
	shed_stop(&s->shed);
	limit_keeper_stop(&s->keeper);
	response_keeper_stop(&s->responses);
	account_shares_stop(&s->shares);
	book_keeper_stop(&s->books);
	retention_keeper_stop(&s->retention);
	receipt_signer_stop(&s->receipts);
	reward_keeper_stop(s->rewards);
	payout_worker_stop(s->payouts);
	reconciler_stop(s->reconciler);
	stripe_free(s->stripe);
	server_free(s->server);
	gateway_free(s->gateway);
	record_log_close(s->record_log);
	if (s->fleet)
		fleet_free(s->fleet);
	portal_stop(s->portal);
	if (s->store)
		store_close(s->store);
	aliases_free(s->aliases);
	payout_worker_free(s->payouts);
	reconciler_free(s->reconciler);
	reward_keeper_free(s->rewards);
	portal_free(s->portal);
	limits_free(s->keeper.limits);
	if (s->accounts)
		accounts_free(s->accounts);
	if (s->ledger)
		ledger_free(s->ledger);
	if (s->metrics)
		metrics_free(s->metrics);
	if (s->loop)
		net_loop_free(s->loop);
	p256_free(s->receipt_key);               /* workers may have signed until the loop ended */
	response_vault_free(s->responses.vault); /* which workers may have used until now */
}

int serve(const struct serve_options *options)
{
	struct serving s = {.options = options, .config = options->config, .status = CLI_OK, .began_us = clock_mono_us()};
	struct error error;
	s.loop = net_loop_new(&error);
	if (s.loop && open_rooms(&s, &error)) {
		net_on_terminate(s.loop, on_terminate, &s);
		ledger_prices_load(s.ledger, on_prices, &s);
		net_loop_run(s.loop);
	} else {
		fprintf(stderr, "darkbloom-coordinator: %s\n", error.text);
		s.status = CLI_FAILED;
	}
	close_rooms(&s);
	return s.status;
}
