/* darkbloom-swarm simulate: the command line of swarm/sim. Thread: start-up only. */
#ifndef SWARM_SIMULATE_H
#define SWARM_SIMULATE_H

#include "core/cli.h"

extern const struct cli_option swarm_simulate_options[];
int swarm_simulate(const struct cli_args *args);

#endif
