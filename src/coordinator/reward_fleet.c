#include "coordinator/reward_fleet.h"

#include "coordinator/machines.h"

#define PRESSURE_MAX     0.8
#define THERMAL_CRITICAL 3
#define SESSIONS_AT_ONCE 1000 /* about a millisecond */

struct looking {
	const struct reward_fleet *source;
	void (*see)(const struct store_stretch *machine, void *user);
	void *user;
};

static bool has_model_loaded(const struct fleet_provider_view *view)
{
	struct route_slot slot;
	for (size_t i = 0; i < view->model_count; i++)
		if (fleet_view_slot(view, i, &slot) && (slot.state == ROUTE_SLOT_IDLE || slot.state == ROUTE_SLOT_RUNNING))
			return true;
	return false;
}

static bool is_fit(const struct looking *looking, const struct fleet_provider_view *view)
{
	struct fleet_live_view live;
	if (!view->attested || view->trust < looking->source->min_trust || strcmp(view->status, "untrusted") == 0)
		return false;
	if (!view->account.len || !view->encryption_public_key.len || !has_model_loaded(view))
		return false;
	fleet_view_live(looking->source->fleet, view, &live);
	return live.memory_pressure < PRESSURE_MAX && live.thermal < THERMAL_CRITICAL;
}

static void look_at(const struct fleet_provider_view *view, void *user)
{
	const struct looking *looking = user;
	struct store_stretch machine = {.memory_gb = view->memory_gb > 0 ? (int64_t)view->memory_gb : 0};
	if (is_fit(looking, view) && machine_key(view, machine.device) &&
	    str_copy(view->encryption_public_key, machine.provider_key, sizeof machine.provider_key) &&
	    str_copy(view->account, machine.account_id, sizeof machine.account_id) &&
	    str_copy(view->machine_model, machine.model, sizeof machine.model))
		looking->see(&machine, looking->user);
}

bool reward_fleet_look(void *source, bool from_first, void (*see)(const struct store_stretch *machine, void *user), void *user)
{
	struct looking looking = {source, see, user};
	return fleet_walk(looking.source->fleet, from_first, SESSIONS_AT_ONCE, look_at, &looking);
}
