/* Which connected machines are fit for base rewards (billing 8.3). Thread: the loop's. */
#ifndef COORDINATOR_REWARD_FLEET_H
#define COORDINATOR_REWARD_FLEET_H

#include "coordinator/fleet/fleet.h"
#include "coordinator/store/store_rewards.h"

struct reward_fleet {
	struct fleet *fleet;
	enum route_trust min_trust;
};
/* reward_keeper_options.look; source: a struct reward_fleet. */
bool reward_fleet_look(void *source, bool from_first, void (*see)(const struct store_stretch *machine, void *user), void *user);

#endif
