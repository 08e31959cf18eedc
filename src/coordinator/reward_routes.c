/* GET /v1/admin/base-rewards (billing 8.3). */
#include "coordinator/money_routes.h"

#include "coordinator/reward_keeper.h"
#include "coordinator/server.h"
#include "coordinator/task.h"
#include "core/json.h"

static void put_draw(struct json_writer *w, const struct store_reward *row)
{
	json_begin_object(w);
	json_put_cstr(w, "provider_key", row->machine.provider_key);
	json_put_cstr(w, "account_id", row->machine.account_id);
	json_put_i64(w, "amount_micro_usd", row->amount_uusd);
	json_put_i64(w, "floor_micro_usd", row->floor_uusd);
	json_put_i64(w, "earned_micro_usd", row->earned_uusd);
	json_put_double(w, "uptime_frac", (double)row->uptime_us / (double)REWARD_PERIOD_US);
	json_put_i64(w, "memory_gb", row->memory_gb);
	json_end_object(w);
}

static void put_epoch(struct json_writer *w, const struct reward_terms *terms, const struct store_epoch *epoch)
{
	char id[REWARD_ID_SIZE] = "";
	struct reward_terms now = *terms;
	if (epoch->epoch_us) {
		reward_period_id(epoch->epoch_us, id);
		now.start_us = epoch->epoch_us;
	}
	json_begin_object(w);
	json_put_bool(w, "enabled", true);
	json_put_cstr(w, "epoch_id", id);
	json_put_i64(w, "period_seconds", REWARD_PERIOD_US / 1000000);
	json_put_i64(w, "monthly_pool_budget", terms->pool_month_uusd);
	json_put_i64(w, "pool_budget", epoch->epoch_us ? epoch->pool_uusd : reward_pool(&now));
	json_put_i64(w, "pool_used", epoch->used_uusd);
	json_put_double(w, "reduction_k", terms->reduction_percent / 100.0);
	json_put_i64(w, "draw_count", (int64_t)epoch->count);
	json_key(w, "draws");
	json_begin_array(w);
	for (size_t i = 0; i < epoch->count; i++)
		put_draw(w, &epoch->rows[i]);
	json_end_array(w);
	json_end_object(w);
}

static void on_draws(const struct store_epoch *epoch, const struct error *error, void *user)
{
	struct task *task = user;
	const struct reward_keeper *keeper = server_rooms(task->server)->rewards;
	struct exchange *exchange = task_end(task);
	struct buf body;
	struct json_writer w;
	if (exchange && error) {
		task_refuse(exchange, 503, "service_unavailable", "The books cannot be read at the moment: try again.", 2);
	} else if (exchange) {
		buf_init(&body, 1u << 20);
		json_writer_init(&w, &body);
		put_epoch(&w, reward_keeper_terms(keeper), epoch);
		task_answer(exchange, 200, &body);
	}
	task_free(task);
}

static void answer_off(struct exchange *exchange)
{
	struct buf body;
	struct json_writer w;
	buf_init(&body, 64);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_bool(&w, "enabled", false);
	json_end_object(&w);
	task_answer(exchange, 200, &body);
}

void handle_base_rewards(struct server *server, struct exchange *exchange)
{
	if (!server_rooms(server)->rewards) {
		answer_off(exchange);
		return;
	}
	struct task *task = task_new(server, exchange, sizeof *task);
	if (task)
		store_draws_list(server_rooms(server)->store, on_draws, task);
}
