/* Seeded random numbers: the same seed gives the same history on every machine. Thread: one at a time. */
#ifndef SWARM_SIM_RANDOM_H
#define SWARM_SIM_RANDOM_H

#include <stdint.h>

struct sim_random {
	uint64_t state;
};

/* A generator of its own for each purpose: drawing more for one does not change the others. */
struct sim_random sim_random_for(uint64_t seed, uint64_t purpose);
uint64_t sim_random_u64(struct sim_random *random);
uint32_t sim_random_below(struct sim_random *random, uint32_t bound); /* bound > 0 */
double sim_random_unit(struct sim_random *random);                    /* (0, 1) */
double sim_random_normal(struct sim_random *random);
double sim_random_lognormal(struct sim_random *random, double median, double sigma);
double sim_random_gamma(struct sim_random *random, double shape); /* mean: shape */
double sim_random_exponential(struct sim_random *random, double mean);

#endif
