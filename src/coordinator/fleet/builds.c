/* What providers say of builds that they were told to have (protocol-and-trust 3.5 prefetch_model_status, registry 3): kept
 * with the session, shown to the operator. A build gets requests once it is advertised, whatever was said here. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/log.h"

struct session_build {
	char model[ROUTE_MODEL_SIZE];
	enum fleet_build_state state;
	double progress;
	char why[FLEET_BUILD_WHY_SIZE];
	uint64_t since_us; /* of the state */
};

/* Providers in each state with one build; gone when there is none. */
struct build_count {
	size_t states[FLEET_BUILD_STATES], all;
	char model[ROUTE_MODEL_SIZE]; /* the key */
};

const char *fleet_build_state_name(enum fleet_build_state state)
{
	static const char *const names[FLEET_BUILD_STATES] = {"pending", "downloading", "verifying", "loading", "ready", "failed"};
	return names[state];
}

/* --- counts --- */

static void count_in(struct fleet *fleet, const struct session_build *build)
{
	struct build_count *count = map_get(&fleet->build_counts, str_of(build->model));
	if (!count && (count = calloc(1, sizeof *count))) {
		memcpy(count->model, build->model, sizeof count->model);
		if (map_put(&fleet->build_counts, str_of(count->model), count, NULL)) {
			free(count);
			count = NULL;
		}
	}
	if (count) {
		count->states[build->state]++;
		count->all++;
	}
}

static void count_out(struct fleet *fleet, const struct session_build *build)
{
	struct build_count *count = build->state < FLEET_BUILD_STATES ? map_get(&fleet->build_counts, str_of(build->model)) : NULL;
	if (!count || !count->states[build->state]) /* there was no memory to count it */
		return;
	count->states[build->state]--;
	if (--count->all == 0) {
		map_remove(&fleet->build_counts, str_of(count->model));
		free(count);
	}
}

void fleet_build_counts(const struct fleet *fleet, struct str model, size_t out[FLEET_BUILD_STATES])
{
	const struct build_count *count = map_get(&fleet->build_counts, model);
	for (int state = 0; state < FLEET_BUILD_STATES; state++)
		out[state] = count ? count->states[state] : 0;
}

void builds_counts_free(struct fleet *fleet)
{
	map_free(&fleet->build_counts); /* every session is gone, and its builds with it */
}

/* --- what a provider says --- */

static enum fleet_build_state state_of(enum wire_prefetch_state said)
{
	switch (said) {
	case WIRE_PREFETCH_DOWNLOADING:
		return FLEET_BUILD_DOWNLOADING;
	case WIRE_PREFETCH_VERIFYING:
		return FLEET_BUILD_VERIFYING;
	case WIRE_PREFETCH_LOADING:
		return FLEET_BUILD_LOADING;
	case WIRE_PREFETCH_VERIFIED:
		return FLEET_BUILD_READY;
	case WIRE_PREFETCH_FAILED:
		return FLEET_BUILD_FAILED;
	default:
		return FLEET_BUILD_PENDING;
	}
}

static bool was_told(const struct session *session, struct str model)
{
	const struct alias *aliases[ALIAS_MAX];
	size_t count = alias_list(session->fleet->aliases, aliases, ALIAS_MAX);
	for (size_t i = 0; i < count && i < ALIAS_MAX; i++)
		if (aliases[i]->active && str_is(model, aliases[i]->desired))
			return true;
	return false;
}

/* Of this model, or a place for it; NULL when there is none. */
static struct session_build *place_of(struct session *session, struct str model)
{
	size_t count = session->build_count;
	for (size_t i = 0; i < count; i++)
		if (str_is(model, session->builds[i].model))
			return &session->builds[i];
	if (count == FLEET_BUILDS_MAX || !was_told(session, model))
		return NULL; /* nobody asked: a peer must not fill our memory */
	struct session_build *more = realloc(session->builds, (count + 1) * sizeof *more);
	if (!more)
		return NULL;
	session->builds = more;
	more[count] = (struct session_build){.state = FLEET_BUILD_STATES};
	if (!str_copy(model, more[count].model, sizeof more[count].model))
		return NULL;
	session->build_count++;
	return &more[count];
}

void session_build_status(struct session *session, const struct wire_prefetch_model_status *message)
{
	struct fleet *fleet = session->fleet;
	struct session_build *build = message->status == WIRE_PREFETCH_UNKNOWN ? NULL : place_of(session, message->model_id);
	enum fleet_build_state state = state_of(message->status);
	if (!build)
		return;
	if (message->bytes_total > 0 && message->bytes_done >= 0)
		build->progress =
		    message->bytes_done >= message->bytes_total ? 1 : (double)message->bytes_done / (double)message->bytes_total;
	str_copy(str_sub(message->error, 0, sizeof build->why - 1), build->why, sizeof build->why);
	if (state == build->state)
		return;
	log_info("build.state", "provider=%s model=%s state=%s", session->id, build->model, fleet_build_state_name(state));
	if (state == FLEET_BUILD_READY &&
	    build->state == FLEET_BUILD_LOADING) /* a load that nobody commanded used the device too */
		planner_load_ended(fleet->planner, session->node, message->model_id, PLANNER_LOADED, net_now_us(fleet->loop));
	count_out(fleet, build);
	build->state = state;
	build->since_us = net_now_us(fleet->loop);
	count_in(fleet, build);
}

void session_builds_told(struct session *session)
{
	size_t kept = 0;
	for (size_t i = 0; i < session->build_count; i++)
		if (was_told(session, str_of(session->builds[i].model)))
			session->builds[kept++] = session->builds[i];
		else
			count_out(session->fleet, &session->builds[i]);
	session->build_count = (uint8_t)kept;
}

void session_builds_forget(struct session *session)
{
	for (size_t i = 0; i < session->build_count; i++)
		count_out(session->fleet, &session->builds[i]);
	free(session->builds);
	session->builds = NULL;
	session->build_count = 0;
}

void fleet_each_build(const struct fleet *fleet, void (*fn)(const struct fleet_build_view *view, void *user), void *user)
{
	uint64_t now_us = net_now_us(fleet->loop);
	LIST_EACH (link, &fleet->sessions) {
		const struct session *session = LIST_OF(link, struct session, link);
		for (size_t i = 0; i < session->build_count; i++) {
			const struct session_build *build = &session->builds[i];
			struct fleet_build_view view = {.provider_id = str_of(session->id),
			                                .model = str_of(build->model),
			                                .state = build->state,
			                                .progress = build->progress,
			                                .why = str_of(build->why),
			                                .for_s = (double)(now_us - build->since_us) / 1e6};
			fn(&view, user);
		}
	}
}
