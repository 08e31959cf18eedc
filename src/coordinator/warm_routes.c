/* GET /v1/admin/demand: what the warm pool knows and wants (routing 12, 18). */
#include "coordinator/server.h"

#include "coordinator/task.h"
#include "core/json.h"

#include <stdlib.h>

#define SHOWN_MAX 1000
#define BODY_MAX  (4u << 20)

static void put_model(struct json_writer *w, const struct planner_view *view)
{
	json_begin_object(w);
	json_put_str(w, "model", view->model);
	json_put_i64(w, "warm_providers", view->warm);
	json_put_i64(w, "target_providers", view->target);
	json_put_i64(w, "keep_warm", view->min_warm);
	json_put_i64(w, "loading_providers", view->loading);
	json_put_i64(w, "providers_that_could_load", view->eligible_cold);
	json_put_i64(w, "queued_requests", view->queue);
	json_put_double(w, "load", view->load);
	json_put_i64(w, "places_per_provider", view->node_places);
	json_put_double(w, "arrivals_per_s", view->arrivals_per_s);
	json_put_double(w, "service_s", view->service_s);
	json_put_bool(w, "pressure", view->pressure);
	json_put_i64(w, "loads", (int64_t)view->loads);
	json_put_i64(w, "failed_loads", (int64_t)view->failures);
	json_end_object(w);
}

void handle_admin_demand(struct server *server, struct exchange *exchange)
{
	struct buf body;
	struct json_writer w;
	struct planner_view *views = calloc(SHOWN_MAX, sizeof *views);
	size_t count = views ? fleet_demand(server_rooms(server)->fleet, views, SHOWN_MAX) : 0;
	buf_init(&body, BODY_MAX);
	json_writer_init(&w, &body);
	json_begin_object(&w);
	json_put_i64(&w, "models_known", (int64_t)count);
	json_key(&w, "models");
	json_begin_array(&w);
	for (size_t i = 0; i < count && i < SHOWN_MAX; i++)
		put_model(&w, &views[i]);
	json_end_array(&w);
	json_end_object(&w);
	body.failed |= !views;
	task_answer(exchange, 200, &body);
	free(views);
}
