/* GET /v1/admin/builds: how far providers are with the builds that aliases want (registry 3). */
#include "coordinator/server.h"

#include "coordinator/task.h"
#include "core/json.h"

#define SHOWN_MAX 10000
#define BODY_MAX  (8u << 20)

struct listing {
	struct json_writer w;
	size_t count;
	size_t states[FLEET_BUILD_STATES];
};

static void put_build(const struct fleet_build_view *view, void *user)
{
	struct listing *listing = user;
	struct json_writer *w = &listing->w;
	listing->states[view->state]++;
	if (listing->count++ >= SHOWN_MAX)
		return;
	json_begin_object(w);
	json_put_str(w, "provider_id", view->provider_id);
	json_put_str(w, "model", view->model);
	json_put_cstr(w, "state", fleet_build_state_name(view->state));
	json_put_double(w, "progress", view->progress);
	json_put_double(w, "for_s", view->for_s);
	if (view->why.len)
		json_put_str(w, "why", view->why);
	json_end_object(w);
}

void handle_admin_builds(struct server *server, struct exchange *exchange)
{
	struct buf body;
	struct listing listing = {.count = 0};
	struct json_writer *w = &listing.w;
	buf_init(&body, BODY_MAX);
	json_writer_init(w, &body);
	json_begin_object(w);
	json_key(w, "builds");
	json_begin_array(w);
	fleet_each_build(server_rooms(server)->fleet, put_build, &listing);
	json_end_array(w);
	json_key(w, "states");
	json_begin_object(w);
	for (int state = 0; state < FLEET_BUILD_STATES; state++)
		json_put_i64(w, fleet_build_state_name((enum fleet_build_state)state), (int64_t)listing.states[state]);
	json_end_object(w);
	json_end_object(w);
	task_answer(exchange, 200, &body);
}
