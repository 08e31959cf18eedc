#include "swarm/sim/random.h"

#include <math.h>

uint64_t sim_random_u64(struct sim_random *random)
{
	uint64_t z = random->state += 0x9e3779b97f4a7c15u; /* splitmix64 */
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

struct sim_random sim_random_for(uint64_t seed, uint64_t purpose)
{
	struct sim_random random = {seed};
	uint64_t mixed = sim_random_u64(&random) ^ (purpose * 0xd1342543de82ef95u);
	return (struct sim_random){mixed};
}

uint32_t sim_random_below(struct sim_random *random, uint32_t bound)
{
	return (uint32_t)(((sim_random_u64(random) >> 32) * bound) >> 32);
}

double sim_random_unit(struct sim_random *random)
{
	return ((double)(sim_random_u64(random) >> 12) + 0.5) / 4503599627370496.0; /* 2^52 */
}

double sim_random_normal(struct sim_random *random)
{
	double radius = sqrt(-2 * log(sim_random_unit(random)));
	return radius * cos(6.283185307179586 * sim_random_unit(random));
}

double sim_random_lognormal(struct sim_random *random, double median, double sigma)
{
	return median * exp(sigma * sim_random_normal(random));
}

double sim_random_exponential(struct sim_random *random, double mean)
{
	return -mean * log(sim_random_unit(random));
}

/* Marsaglia and Tsang 2000; below a shape of 1 by their boost. */
double sim_random_gamma(struct sim_random *random, double shape)
{
	if (shape < 1)
		return sim_random_gamma(random, shape + 1) * pow(sim_random_unit(random), 1 / shape);
	double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
	for (;;) {
		double x = sim_random_normal(random), v = 1 + c * x;
		if (v <= 0)
			continue;
		v = v * v * v;
		if (log(sim_random_unit(random)) < 0.5 * x * x + d - d * v + d * log(v))
			return d * v;
	}
}
