/* How long a decision with its reservation takes, by size of the fleet: 200 models, two on each node, each request for any of
 * the models (the least that a cache can know), 512 of them in flight. Prints the median of single decisions, without those
 * that found nobody: of 100 nodes with two models each every third model has none. Reading the clock is in each figure, and
 * printed.
 *
 * A loop that does nothing else keeps a small fleet in the first cache, where no server would have it: `route_apart_us_*` are
 * decisions with other work in between, which takes that cache for itself, whatever the size of the fleet. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "coordinator/routing/routing.h"
#include "core/clock.h"

#define MODELS    200
#define DECISIONS 200000
#define IN_FLIGHT 512
#define APART     20000      /* decisions with other work in between */
#define OTHERS    (2u << 20) /* bytes that it touches: a core's own caches */

static uint32_t random_below(uint32_t bound)
{
	static uint64_t state = 42;
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((state >> 33) % bound);
}

static struct str model_name(char out[32], uint32_t model)
{
	int len = snprintf(out, 32, "org/model-%u-4bit", model);
	return (struct str){out, (size_t)len};
}

static void heartbeat(struct route_fleet *fleet, struct route_node *node, const uint32_t models[2])
{
	struct route_node_facts facts;
	char name[32];
	route_node_facts(fleet, node, &facts);
	facts.memory_pressure = random_below(100) / 100.0;
	facts.cpu_usage = random_below(100) / 100.0;
	route_node_set_facts(fleet, node, &facts);
	for (int i = 0; i < 2; i++) {
		struct route_slot slot = {.state = random_below(3) ? ROUTE_SLOT_IDLE : ROUTE_SLOT_COLD,
		                          .decode_tps = random_below(2) ? 0 : 20 + random_below(60),
		                          .budget_max = 200000,
		                          .max_concurrency = 16};
		(void)route_node_set_slot(fleet, node, model_name(name, models[i]), &slot);
	}
	route_node_heartbeat_done(fleet, node);
}

static struct route_node *add_node(struct route_fleet *fleet, uint32_t models[2], uint64_t challenged_us)
{
	static const double bandwidths[] = {100, 200, 400, 546, 800};
	static const char *const families[] = {"M1", "M2", "M3", "M4", "M5"};
	char names[2][32];
	uint32_t chip = random_below(5);
	models[0] = random_below(MODELS);
	models[1] = (models[0] + 1 + random_below(MODELS - 1)) % MODELS;
	struct route_model_facts advertised[2] = {
	    {.id = model_name(names[0], models[0]), .size_bytes = 4000000000u, .template_render_ok = -1},
	    {.id = model_name(names[1], models[1]), .size_bytes = 8000000000u, .template_render_ok = -1},
	};
	struct route_node_facts facts = {
	    .connected_ok = true,
	    .private_text = true,
	    .posture_verified = true,
	    .runtime_verified = true,
	    .trust = ROUTE_TRUST_HARDWARE,
	    .last_challenge_us = challenged_us,
	    .chip_family = str_of(families[chip]),
	    .tools_ok = true,
	    .bandwidth_gbs = bandwidths[chip],
	    .memory_gb = 64,
	    .has_capacity = true,
	    .total_memory_gb = 64,
	    .free_for_load_gb = 48,
	};
	struct route_node *node = route_node_add(fleet, NULL);
	if (node) {
		(void)route_node_set_models(fleet, node, advertised, 2);
		route_node_set_facts(fleet, node, &facts);
		heartbeat(fleet, node, models);
	}
	return node;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What a server does between two decisions, to the caches. */
static void other_work(void)
{
	static volatile unsigned char bytes[OTHERS];
	for (size_t i = 0; i < OTHERS; i += 64)
		bytes[i]++;
}

static void decide(uint32_t node_count, bool apart)
{
	struct route_policy policy = {.min_trust = ROUTE_TRUST_HARDWARE, .seed = 7};
	struct route_fleet *fleet = route_fleet_new(&policy);
	uint32_t(*models)[2] = calloc(node_count, sizeof *models);
	struct route_node **nodes = calloc(node_count, sizeof(struct route_node *));
	uint64_t *times = calloc(DECISIONS, sizeof *times);
	struct route_reservation *flight[IN_FLIGHT] = {NULL};
	uint64_t *beat_times = calloc(DECISIONS, sizeof *beat_times);
	uint32_t made = 0, refused = 0, beats = 0, decisions = apart ? APART : DECISIONS;
	if (!fleet || !models || !nodes || !times || !beat_times)
		exit(1);
	for (uint32_t i = 0; i < node_count; i++)
		nodes[i] = add_node(fleet, models[i], i + 1);
	for (uint32_t i = 0; i < decisions; i++) {
		char name[32];
		struct route_decision decision;
		struct route_request request = {.model = model_name(name, random_below(MODELS)),
		                                .prompt_tokens = 50 + random_below(4000),
		                                .max_tokens = 4096,
		                                .expected_tokens = 20 + random_below(1000)};
		uint32_t place = i % IN_FLIGHT;
		route_release(fleet, flight[place]);
		if (apart)
			other_work();
		uint64_t start = now_ns();
		enum db_err err = route_select(fleet, &request, node_count, &decision, &flight[place]);
		uint64_t took_ns = now_ns() - start;
		if (err)
			refused++;
		else
			times[made++] = took_ns;
		if (i % 4 == 0) {
			uint32_t beating = random_below(node_count);
			uint64_t beat_start = now_ns();
			heartbeat(fleet, nodes[beating], models[beating]);
			beat_times[beats++] = now_ns() - beat_start;
		}
	}
	if (!made)
		exit(1);
	qsort(times, made, sizeof *times, compare);
	qsort(beat_times, beats, sizeof *beat_times, compare);
	if (apart) {
		printf("bench route_apart_us_%u %.3f us\n", node_count, (double)times[made / 2] / 1000);
	} else {
		printf("bench route_us_%u %.3f us\n", node_count, (double)times[made / 2] / 1000);
		printf("bench route_p99_us_%u %.3f us\n", node_count, (double)times[made - 1 - made / 100] / 1000);
		printf("bench route_heartbeat_us_%u %.3f us\n", node_count, (double)beat_times[beats / 2] / 1000);
	}
	printf("# %u nodes: %u of %u decisions found nobody\n", node_count, refused, decisions);
	for (uint32_t i = 0; i < IN_FLIGHT; i++)
		route_release(fleet, flight[i]);
	route_fleet_free(fleet);
	free(models);
	free(nodes);
	free(times);
	free(beat_times);
}

static void clock_cost(void)
{
	enum { READS = 100001 };
	static uint64_t times[READS];
	for (int i = 0; i < READS; i++) {
		uint64_t start = now_ns();
		times[i] = now_ns() - start;
	}
	qsort(times, READS, sizeof *times, compare);
	printf("# reading the clock: %.3f us\n", (double)times[READS / 2] / 1000);
}

int main(int argc, char **argv)
{
	if (argc > 1) { /* one size, for a profiler */
		decide((uint32_t)strtoul(argv[1], NULL, 10), argc > 2);
		return 0;
	}
	clock_cost();
	decide(100, false);
	decide(1000, false);
	decide(10000, false);
	decide(100000, false);
	decide(100, true);
	decide(100000, true);
	return 0;
}
