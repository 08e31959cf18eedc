#include "coordinator/payout_worker.h"

#include "core/clock.h"
#include "core/log.h"
#include "net/form.h"

#include <stdio.h>
#include <stdlib.h>

#define CENT_UUSD        10000
#define POLL_SUBMITTED_S 3600
#define LONGEST_WAIT_S   3600

struct payout_worker {
	struct payout_worker_options options;
	struct net_timer timer;
	bool looking, stopped;
	bool has_looked; /* the first look takes all: whoever was carrying them on is gone */
};

struct run {
	struct payout_worker *worker;
	struct store_withdrawal row;
	struct ledger_move move;
	int64_t arrival_s;
	payout_rest_fn rest;
	store_done_fn told; /* of a webhook's step */
	void *user;
};

static void go_on(struct run *run);

static void end_run(struct run *run)
{
	if (run->rest)
		run->rest(&run->row, run->arrival_s, run->user);
	free(run);
}

static void on_step(const struct store_withdrawal *row, int64_t refunded_uusd, const struct error *error, void *user)
{
	struct run *run = user;
	ledger_move_end(&run->move, refunded_uusd, true);
	if (run->told)
		run->told(error, run->user);
	run->told = NULL;
	if (error || !row || run->worker->stopped) { /* the next look finds it where it is */
		if (error)
			log_error("payout.step_failed", "withdrawal=%s why=\"%s\"", run->row.id, error->text);
		end_run(run);
		return;
	}
	run->row = *row;
	log_info("payout.step", "withdrawal=%s status=%s", row->id, store_withdrawal_state_name(row->state));
	go_on(run);
}

static void take_step(struct run *run, const struct store_withdrawal_step *step)
{
	const struct payout_worker_options *o = &run->worker->options;
	if (ledger_move_begin(o->ledger, str_of(run->row.account_id), 0, &run->move) != DB_OK)
		run->move = (struct ledger_move){0};
	store_withdrawal_step(o->store, step, on_step, run);
}

static struct store_withdrawal_step step_to(const struct run *run, enum store_withdrawal_state to)
{
	struct store_withdrawal_step step = {.to = to};
	memcpy(step.id, run->row.id, sizeof step.id);
	return step;
}

/* Nothing is known: the same again later, a little less often each time. */
static void postpone(struct run *run, int64_t least_s)
{
	int64_t wait_us = (int64_t)run->worker->options.retry_ms * 1000;
	for (int64_t i = 0; i < run->row.attempts && wait_us < LONGEST_WAIT_S * INT64_C(1000000); i++)
		wait_us *= 2;
	if (wait_us < least_s * 1000000)
		wait_us = least_s * 1000000;
	store_withdrawal_postpone(run->worker->options.store, str_of(run->row.id), clock_wall_us() + wait_us);
	end_run(run);
}

static void copy_text(const json_val *root, const char *name, char *out, size_t size)
{
	struct str text;
	if (!json_as_str(json_get(root, name), &text) || !str_copy(text, out, size))
		out[0] = '\0';
}

static void note_reason(struct store_withdrawal_step *step, struct str code, const char *fallback)
{
	if (code.len == 0 || !str_copy(str_sub(code, 0, sizeof step->reason - 1), step->reason, sizeof step->reason))
		snprintf(step->reason, sizeof step->reason, "%s", fallback);
}

static void on_transfer(int status, const json_val *root, struct str code, void *user)
{
	struct run *run = user;
	struct store_withdrawal_step step = step_to(run, STORE_WITHDRAWAL_TRANSFERRED);
	copy_text(root, "id", step.transfer_id, sizeof step.transfer_id);
	if (status == 200 && step.transfer_id[0]) {
		take_step(run, &step);
	} else if (stripe_is_definite_refusal(status)) {
		step.to = STORE_WITHDRAWAL_FAILED;
		note_reason(&step, code, "transfer_refused");
		take_step(run, &step);
	} else {
		postpone(run, 0);
	}
}

static void on_payout(int status, const json_val *root, struct str code, void *user)
{
	struct run *run = user;
	struct store_withdrawal_step step = step_to(run, STORE_WITHDRAWAL_SUBMITTED);
	copy_text(root, "id", step.payout_id, sizeof step.payout_id);
	if (status == 200 && step.payout_id[0]) {
		(void)json_as_i64(json_get(root, "arrival_date"), &run->arrival_s);
		take_step(run, &step);
	} else if (stripe_is_definite_refusal(status)) {
		step.to = STORE_WITHDRAWAL_REVERSING;
		note_reason(&step, code, "payout_refused");
		take_step(run, &step);
	} else {
		postpone(run, 0);
	}
}

static void on_reversal(int status, const json_val *root, struct str code, void *user)
{
	struct run *run = user;
	struct store_withdrawal_step step = step_to(run, STORE_WITHDRAWAL_FAILED);
	(void)root;
	if (status == 200) {
		take_step(run, &step);
		return;
	}
	if (stripe_is_definite_refusal(status)) /* somebody has to look: the money is at the connected account */
		log_error("payout.reversal_refused", "withdrawal=%s code=%.*s", run->row.id, STR_ARG(code));
	postpone(run, 0);
}

static void on_look(int status, const json_val *root, struct str code, void *user)
{
	struct run *run = user;
	struct str told = STR_NONE;
	(void)code;
	bool known = status == 200 && json_as_str(json_get(root, "status"), &told);
	if (known && str_is(told, "paid")) {
		struct store_withdrawal_step step = step_to(run, STORE_WITHDRAWAL_PAID);
		take_step(run, &step);
	} else if (known && (str_is(told, "failed") || str_is(told, "canceled"))) {
		struct store_withdrawal_step step = step_to(run, STORE_WITHDRAWAL_REVERSING);
		note_reason(&step, told, "");
		take_step(run, &step);
	} else {
		postpone(run, POLL_SUBMITTED_S);
	}
}

static void put_amount(struct buf *form, const struct store_withdrawal *row)
{
	char cents[32];
	snprintf(cents, sizeof cents, "%lld", (long long)(row->net_uusd / CENT_UUSD));
	form_put(form, "amount", str_of(cents));
	form_put(form, "currency", STR("usd"));
	form_put(form, "metadata[withdrawal_id]", str_of(row->id));
}

static void order(struct run *run)
{
	struct store_withdrawal row = run->row;
	struct buf form;
	char key[STORE_ID_SIZE + 8], path[300];
	struct stripe_call call = {.method = "POST", .path = path, .idempotency_key = key, .user = run};
	buf_init(&form, 8192);
	switch (row.state) {
	case STORE_WITHDRAWAL_PENDING:
		snprintf(key, sizeof key, "wd-tr-%s", row.id);
		snprintf(path, sizeof path, "/v1/transfers");
		put_amount(&form, &row);
		form_put(&form, "destination", str_of(row.stripe_account));
		call.done = on_transfer;
		break;
	case STORE_WITHDRAWAL_TRANSFERRED:
		snprintf(key, sizeof key, "wd-po-%s", row.id);
		snprintf(path, sizeof path, "/v1/payouts");
		put_amount(&form, &row);
		form_put(&form, "method", str_of(row.method));
		call.on_account = row.stripe_account;
		call.done = on_payout;
		break;
	case STORE_WITHDRAWAL_REVERSING:
		snprintf(key, sizeof key, "wd-rv-%s", row.id);
		snprintf(path, sizeof path, "/v1/transfers/%s/reversals", row.transfer_id);
		form_put(&form, "metadata[withdrawal_id]", str_of(row.id));
		call.done = on_reversal;
		break;
	default:
		call.method = "GET";
		call.idempotency_key = NULL;
		snprintf(path, sizeof path, "/v1/payouts/%s", row.payout_id);
		call.on_account = row.stripe_account;
		call.done = on_look;
	}
	call.form = form.at ? buf_str(&form) : STR_NONE;
	stripe_call(run->worker->options.stripe, &call);
	buf_free(&form);
}

/* --- what Stripe did --- */

static bool is_ours(const struct run *run, const json_val *object)
{
	struct str id;
	return json_as_str(json_get(json_get(object, "metadata"), "withdrawal_id"), &id) && str_eq(id, str_of(run->row.id));
}

static bool on_listed(const json_val *object, void *user)
{
	struct run *run = user;
	if (!is_ours(run, object))
		return true;
	if (run->row.state == STORE_WITHDRAWAL_PENDING)
		on_transfer(200, object, STR_NONE, run);
	else
		on_payout(200, object, STR_NONE, run);
	return false;
}

static void on_not_listed(bool whole, void *user)
{
	struct run *run = user;
	if (whole && !run->worker->stopped)
		order(run);
	else
		postpone(run, 0);
}

static void look_at_list(struct run *run)
{
	bool transfer = run->row.state == STORE_WITHDRAWAL_PENDING;
	struct buf query;
	buf_init(&query, 512);
	if (transfer)
		form_put(&query, "destination", str_of(run->row.stripe_account));
	struct stripe_list list = {.path = transfer ? "/v1/transfers" : "/v1/payouts",
	                           .query = buf_str(&query),
	                           .on_account = transfer ? NULL : run->row.stripe_account,
	                           .user = run,
	                           .take = on_listed,
	                           .done = on_not_listed};
	stripe_list(run->worker->options.stripe, &list);
	buf_free(&query);
}

static void on_transfer_look(int status, const json_val *root, struct str code, void *user)
{
	struct run *run = user;
	bool reversed = false;
	if (status != 200 || run->worker->stopped || !json_as_bool(json_get(root, "reversed"), &reversed))
		postpone(run, 0);
	else if (reversed)
		on_reversal(200, root, code, run);
	else
		order(run);
}

static void look_at_transfer(struct run *run)
{
	char path[300];
	snprintf(path, sizeof path, "/v1/transfers/%s", run->row.transfer_id);
	struct stripe_call call = {.method = "GET", .path = path, .user = run, .done = on_transfer_look};
	stripe_call(run->worker->options.stripe, &call);
}

/* It was asked for before, and nobody knows what came of it. Stripe forgets a key after a day, and would then do the same a
 * second time; no clock tells surely how long ago it was, so what it did is looked at first, however little that may be. */
static void order_again(struct run *run)
{
	if (run->row.state == STORE_WITHDRAWAL_SUBMITTED)
		order(run);
	else if (run->row.state == STORE_WITHDRAWAL_REVERSING)
		look_at_transfer(run);
	else
		look_at_list(run);
}

static void go_on(struct run *run)
{
	bool rests = run->row.state == STORE_WITHDRAWAL_PAID || run->row.state == STORE_WITHDRAWAL_FAILED;
	if (rests || run->worker->stopped)
		end_run(run);
	else if (run->row.state == STORE_WITHDRAWAL_SUBMITTED)
		postpone(run, POLL_SUBMITTED_S);
	else
		order(run);
}

static struct run *new_run(struct payout_worker *worker, const struct store_withdrawal *row)
{
	struct run *run = calloc(1, sizeof *run);
	if (!run) {
		log_error("payout.out_of_memory", "withdrawal=%s", row->id);
		return NULL; /* the next look finds it */
	}
	run->worker = worker;
	run->row = *row;
	return run;
}

void payout_worker_run(struct payout_worker *worker, const struct store_withdrawal *withdrawal, payout_rest_fn rest, void *user)
{
	struct run *run = new_run(worker, withdrawal);
	if (!run) {
		if (rest)
			rest(withdrawal, 0, user);
		return;
	}
	run->rest = rest;
	run->user = user;
	go_on(run);
}

void payout_worker_step(struct payout_worker *worker, const struct store_withdrawal *row,
                        const struct store_withdrawal_step *step, store_done_fn done, void *user)
{
	struct error error;
	struct run *run = new_run(worker, row);
	if (!run) {
		error_set(&error, DB_E_NOMEM, "There is not enough memory.");
		done(&error, user);
		return;
	}
	run->told = done;
	run->user = user;
	take_step(run, step);
}

/* --- looking --- */

static void on_due(const struct store_withdrawal *rows, size_t count, const struct error *error, void *user)
{
	struct payout_worker *worker = user;
	worker->looking = false;
	for (size_t i = 0; i < count && !error && !worker->stopped; i++) {
		struct run *run = new_run(worker, &rows[i]);
		if (!run)
			continue;
		/* Not again while this one is under way; a crash makes it due again. */
		store_withdrawal_postpone(worker->options.store, str_of(rows[i].id), clock_wall_us() + INT64_C(60000000));
		order_again(run);
	}
}

static void on_time(struct net_timer *timer)
{
	struct payout_worker *worker = LIST_OF(timer, struct payout_worker, timer);
	if (worker->looking)
		return;
	worker->looking = true;
	store_withdrawals_due(worker->options.store, worker->has_looked ? clock_wall_us() : INT64_MAX, on_due, worker);
	worker->has_looked = true;
}

struct payout_worker *payout_worker_new(const struct payout_worker_options *options)
{
	struct payout_worker *worker = calloc(1, sizeof *worker);
	if (!worker)
		return NULL;
	worker->options = *options;
	net_timer_start(options->loop, &worker->timer, options->retry_ms, options->retry_ms, on_time);
	return worker;
}

void payout_worker_stop(struct payout_worker *worker)
{
	if (!worker)
		return;
	worker->stopped = true;
	net_timer_stop(&worker->timer);
}

void payout_worker_free(struct payout_worker *worker)
{
	free(worker);
}
