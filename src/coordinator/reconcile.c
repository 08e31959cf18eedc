#include "coordinator/reconcile.h"

#include "core/clock.h"
#include "core/log.h"
#include "net/form.h"

#include <stdio.h>
#include <stdlib.h>

#define CENT_UUSD 10000
#define EVERY_MS  21600000u /* six hours */
#define CENTS_MAX (INT64_C(1) << 49)

enum { OFF_DEPOSITS, OFF_REVERSALS, OFF_TRANSFERS, OFF_BALANCE, OFF_COUNT };

struct reconciler {
	struct reconciler_options options;
	struct net_timer timer;
	bool stopped;
	struct metric *off[OFF_COUNT], *at;
};

struct run {
	struct reconciler *reconciler;
	struct store_reconciliation found;
	struct store_stripe_item *items;
	size_t item_count, item_room;
	int64_t net_cents, balance_cents;
	store_reconciliation_fn done;
	void *user;
};

static void end_run(struct run *run, const struct store_reconciliation *result, const struct error *error)
{
	if (run->done)
		run->done(result, error, run->user);
	free(run->items);
	free(run);
}

static void fail(struct run *run, const char *sentence)
{
	struct error error;
	error_set(&error, DB_E_AGAIN, "%s", sentence);
	log_warn("stripe.not_compared", "why=\"%s\"", sentence);
	end_run(run, NULL, &error);
}

static void on_compared(const struct store_reconciliation *result, const struct error *error, void *user)
{
	struct run *run = user;
	struct reconciler *r = run->reconciler;
	if (result) {
		const int64_t off[OFF_COUNT] = {result->stripe.deposits_uusd - result->books.deposits_uusd,
		                                result->stripe.reversals_uusd - result->books.reversals_uusd,
		                                result->stripe.transfers_uusd - result->books.transfers_uusd, result->balance_off_uusd};
		for (int i = 0; i < OFF_COUNT; i++)
			metric_set(r->off[i], (double)off[i]);
		metric_set(r->at, (double)(clock_wall_us() / 1000000));
		if (!result->agrees)
			log_error("stripe.differs",
			          "deposits=%lld reversals=%lld transfers=%lld balance=%lld unit=micro_usd transactions=%lld",
			          (long long)off[OFF_DEPOSITS], (long long)off[OFF_REVERSALS], (long long)off[OFF_TRANSFERS],
			          (long long)off[OFF_BALANCE], (long long)result->difference_count);
	}
	end_run(run, result, error);
}

/* --- Stripe's side --- */

static bool read_cents(const json_val *object, const char *name, int64_t *out)
{
	return json_as_i64(json_get(object, name), out) && *out > -CENTS_MAX && *out < CENTS_MAX;
}

static bool is_usd(const json_val *object)
{
	struct str currency;
	return json_as_str(json_get(object, "currency"), &currency) && str_is(currency, "usd");
}

/* Money that came in is positive there, what left is negative. False for what is not the books'. */
static bool read_kind(struct str type, enum store_stripe_kind *kind, int64_t *sign)
{
	*sign = -1;
	if (str_is(type, "charge") || str_is(type, "payment")) {
		*kind = STORE_STRIPE_DEPOSIT;
		*sign = 1;
		return true;
	}
	*kind = STORE_STRIPE_REVERSAL;
	if (str_is(type, "refund") || str_is(type, "payment_refund") || str_is(type, "adjustment"))
		return true;
	*kind = STORE_STRIPE_TRANSFER;
	return str_starts(type, STR("transfer")); /* and transfer_refund, transfer_cancel, transfer_failure */
}

/* What the transaction is of: its source, which Stripe was asked to tell in full, names a payment or a transfer. */
static bool read_reference(const json_val *source, enum store_stripe_kind kind, char out[STORE_STRIPE_REFERENCE])
{
	struct str reference = STR_NONE;
	if (kind != STORE_STRIPE_TRANSFER)
		(void)json_as_str(json_get(source, "payment_intent"), &reference);
	else if (!json_as_str(json_get(source, "transfer"), &reference)) /* of a reversal */
		(void)(json_as_str(source, &reference) || json_as_str(json_get(source, "id"), &reference));
	return reference.len > 0 && !memchr(reference.at, '\0', reference.len) && str_copy(reference, out, STORE_STRIPE_REFERENCE);
}

static bool add_item(struct run *run, const struct store_stripe_item *item)
{
	if (run->item_count == run->item_room) {
		size_t room = run->item_room ? 2 * run->item_room : 256;
		struct store_stripe_item *grown = realloc(run->items, room * sizeof *grown);
		if (!grown)
			return false;
		run->items = grown;
		run->item_room = room;
	}
	run->items[run->item_count++] = *item;
	return true;
}

static bool take_usd(struct run *run, const json_val *object, struct str type, int64_t cents)
{
	struct store_stripe_sums *sums = &run->found.stripe;
	struct store_stripe_item item = {0};
	int64_t sign;
	if (!read_kind(type, &item.kind, &sign))
		return true;
	item.uusd = sign * cents * CENT_UUSD;
	*(item.kind == STORE_STRIPE_DEPOSIT    ? &sums->deposits_uusd
	  : item.kind == STORE_STRIPE_REVERSAL ? &sums->reversals_uusd
	                                       : &sums->transfers_uusd) += item.uusd;
	if (read_reference(json_get(object, "source"), item.kind, item.reference))
		return add_item(run, &item);
	run->found.unnamed++;
	return true;
}

static bool take_transaction(struct run *run, const json_val *object)
{
	struct str type;
	int64_t cents, net;
	if (!json_as_str(json_get(object, "type"), &type) || !read_cents(object, "amount", &cents) ||
	    !read_cents(object, "net", &net))
		return false;
	if (!is_usd(object))
		return true;
	run->net_cents += net;
	return take_usd(run, object, type, cents);
}

static void on_matched(const struct store_reconciliation *result, const struct error *error, void *user)
{
	struct run *run = user;
	if (!result) {
		end_run(run, NULL, error);
		return;
	}
	run->found.difference_count = result->difference_count;
	memcpy(run->found.differences, result->differences, sizeof result->differences);
	run->found.balance_off_uusd = (run->balance_cents - run->net_cents) * CENT_UUSD;
	store_stripe_compare(run->reconciler->options.store, &run->found, on_compared, run);
}

static void match(struct run *run)
{
	struct store_stripe_item *items = run->items;
	size_t count = run->item_count;
	run->items = NULL;
	store_stripe_match(run->reconciler->options.store, items, count, run->found.unnamed, on_matched, run);
}

static const char cannot_tell[] = "Stripe does not tell its transactions: try again later.";

static bool on_transaction(const json_val *object, void *user)
{
	struct run *run = user;
	if (!run->reconciler->stopped && take_transaction(run, object))
		return true;
	fail(run, cannot_tell);
	return false;
}

static void on_all(bool whole, void *user)
{
	struct run *run = user;
	if (whole && !run->reconciler->stopped)
		match(run);
	else
		fail(run, cannot_tell);
}

static void list_transactions(struct run *run)
{
	struct buf query;
	buf_init(&query, 256);
	form_put(&query, "expand[]", STR("data.source"));
	struct stripe_list list = {
	    .path = "/v1/balance_transactions", .query = buf_str(&query), .user = run, .take = on_transaction, .done = on_all};
	stripe_list(run->reconciler->options.stripe, &list);
	buf_free(&query);
}

static bool add_balances(const json_val *list, int64_t *cents)
{
	struct json_iter iter = json_iter(list);
	struct str key;
	const json_val *object;
	int64_t amount;
	while ((object = json_next(&iter, &key))) {
		if (!read_cents(object, "amount", &amount))
			return false;
		if (is_usd(object))
			*cents += amount;
	}
	return true;
}

static void on_balance(int status, const json_val *root, struct str code, void *user)
{
	struct run *run = user;
	(void)code;
	if (status != 200 || run->reconciler->stopped || !add_balances(json_get(root, "available"), &run->balance_cents) ||
	    !add_balances(json_get(root, "pending"), &run->balance_cents))
		fail(run, "Stripe does not tell its balance: try again later.");
	else
		list_transactions(run);
}

void reconciler_run(struct reconciler *reconciler, store_reconciliation_fn done, void *user)
{
	struct run *run = calloc(1, sizeof *run);
	struct error error;
	if (!run) {
		error_set(&error, DB_E_NOMEM, "There is not enough memory.");
		if (done)
			done(NULL, &error, user);
		return;
	}
	*run = (struct run){.reconciler = reconciler, .done = done, .user = user};
	struct stripe_call call = {.method = "GET", .path = "/v1/balance", .user = run, .done = on_balance};
	stripe_call(reconciler->options.stripe, &call);
}

/* --- from time to time --- */

static void on_time(struct net_timer *timer)
{
	reconciler_run(LIST_OF(timer, struct reconciler, timer), NULL, NULL);
}

struct reconciler *reconciler_new(const struct reconciler_options *options)
{
	static const char *const labels[OFF_COUNT] = {"what=\"deposits\"", "what=\"reversals\"", "what=\"transfers\"",
	                                              "what=\"balance\""};
	struct reconciler *reconciler = calloc(1, sizeof *reconciler);
	if (!reconciler)
		return NULL;
	reconciler->options = *options;
	for (int i = 0; i < OFF_COUNT; i++)
		reconciler->off[i] = metrics_gauge(options->metrics, "darkbloom_stripe_difference_micro_usd", labels[i],
		                                   "What Stripe says less what the books say, at the last comparison.");
	reconciler->at = metrics_gauge(options->metrics, "darkbloom_stripe_compared_seconds", NULL,
	                               "When Stripe was last compared with the books, seconds since 1970.");
	net_timer_start(options->loop, &reconciler->timer, EVERY_MS, EVERY_MS, on_time);
	return reconciler;
}

void reconciler_stop(struct reconciler *reconciler)
{
	if (!reconciler)
		return;
	reconciler->stopped = true;
	net_timer_stop(&reconciler->timer);
}

void reconciler_free(struct reconciler *reconciler)
{
	free(reconciler);
}
