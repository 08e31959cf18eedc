/* POST /v1/admin/stripe/reconcile: Stripe beside the books, now. */
#include "coordinator/money_routes.h"

#include "coordinator/reconcile.h"
#include "coordinator/server.h"
#include "coordinator/task.h"

static void put_sums(struct json_writer *w, const char *name, const struct store_stripe_sums *sums)
{
	json_key(w, name);
	json_begin_object(w);
	json_put_i64(w, "deposits_micro_usd", sums->deposits_uusd);
	json_put_i64(w, "reversals_micro_usd", sums->reversals_uusd);
	json_put_i64(w, "transfers_micro_usd", sums->transfers_uusd);
	json_end_object(w);
}

static void put_differences(struct json_writer *w, const struct store_reconciliation *result)
{
	static const char *const kinds[] = {
	    [STORE_STRIPE_DEPOSIT] = "deposit", [STORE_STRIPE_REVERSAL] = "reversal", [STORE_STRIPE_TRANSFER] = "transfer"};
	json_put_i64(w, "difference_count", result->difference_count);
	json_put_i64(w, "unnamed", result->unnamed);
	json_key(w, "differences");
	json_begin_array(w);
	for (int64_t i = 0; i < result->difference_count && i < STORE_STRIPE_DIFFERENCES; i++) {
		const struct store_stripe_difference *row = &result->differences[i];
		json_begin_object(w);
		json_put_cstr(w, "kind", kinds[row->item.kind]);
		json_put_cstr(w, "reference", row->item.reference);
		json_put_cstr(w, "books_id", row->id);
		json_put_i64(w, "books_micro_usd", row->books_uusd);
		json_put_i64(w, "stripe_micro_usd", row->item.uusd);
		json_end_object(w);
	}
	json_end_array(w);
}

static void on_reconciled(const struct store_reconciliation *result, const struct error *error, void *user)
{
	struct exchange *exchange = task_end(user);
	struct buf body;
	struct json_writer w;
	task_free(user);
	if (!exchange)
		return;
	if (!result) {
		task_refuse(exchange, 502, "stripe_error", error->text, 0);
		return;
	}
	buf_init(&body, 128u << 10);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_bool(&w, "agrees", result->agrees);
	put_sums(&w, "books", &result->books);
	put_sums(&w, "stripe", &result->stripe);
	json_put_i64(&w, "balance_off_micro_usd", result->balance_off_uusd);
	put_differences(&w, result);
	json_end_object(&w);
	task_answer(exchange, 200, &body);
}

void handle_reconcile(struct server *server, struct exchange *exchange)
{
	struct reconciler *reconciler = server_rooms(server)->reconciler;
	if (!reconciler) {
		task_refuse(exchange, 503, "billing_error", "There is no Stripe to compare with: stripe.secret_key is not set.", 0);
		return;
	}
	struct task *task = task_new(server, exchange, sizeof *task);
	if (task)
		reconciler_run(reconciler, on_reconciled, task);
}
