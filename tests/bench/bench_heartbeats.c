/* What a connected provider costs the coordinator beside its connection: memory of its record with everything that points at
 * it, and the time that a heartbeat takes from its text to the new rank of its models. Two models of 200 on each provider. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "coordinator/fleet/fleet_internal.h"
#include "core/log.h"

#define PROVIDERS  100000
#define MODELS     200
#define HEARTBEATS 300000
/* Kept of an attestation: serial number, P-256 key, hash of the system volume, version of the system. */
#define ATTESTED_TEXT_BYTES   (12 + 88 + 64 + 8)
#define REGISTERED_TEXT_BYTES 96

static uint32_t random_below(uint32_t bound)
{
	static uint64_t state = 42;
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((state >> 33) % bound);
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "bench_heartbeats: %s\n", what);
	exit(1);
}

static struct str text_of(const struct wire_message *message, struct buf *out)
{
	buf_clear(out);
	if (wire_encode(message, out))
		fail("a message could not be written");
	return buf_str(out);
}

static struct str model_name(char out[40], uint32_t model)
{
	return (struct str){out, (size_t)snprintf(out, 40, "org/model-%u-4bit", model)};
}

static struct session *add_provider(struct fleet *fleet, uint32_t index, const uint32_t models[2], struct buf *out)
{
	char names[2][40], device[16];
	struct wire_model advertised[2] = {
	    {.id = model_name(names[0], models[0]), .size_bytes = 4000000000},
	    {.id = model_name(names[1], models[1]), .size_bytes = 8000000000},
	};
	struct wire_message message = {
	    .type = WIRE_REGISTER,
	    .as.registration = {.hardware = {.machine_model = STR("Mac15,9"),
	                                     .chip_name = STR("Apple M3 Max"),
	                                     .chip_family = STR("M3"),
	                                     .memory_gb = 64,
	                                     .memory_bandwidth_gbs = 400},
	                        .version = STR("0.6.3"),
	                        .backend = STR("llama.cpp"),
	                        .public_key = STR("gqXlNKVz9u8xqVmRNgVDY8K3vCw3VxqQF8Ff7o0c8zo="),
	                        .models = {.at = advertised, .count = 2}},
	};
	struct session *session = session_new(fleet);
	if (!session)
		fail("out of memory");
	session_take(session, text_of(&message, out));
	if (!session->node)
		fail("a provider did not register");
	/* As after its attestation and first challenge: a Mac of hardware trust, known by its serial number. */
	struct route_node_facts facts;
	(void)snprintf(device, sizeof device, "C02%09u", index);
	route_node_facts(fleet->routes, session->node, &facts);
	facts.connected_ok = facts.private_text = facts.posture_verified = facts.runtime_verified = true;
	facts.trust = ROUTE_TRUST_HARDWARE;
	facts.last_challenge_us = net_now_us(fleet->loop) + 1;
	facts.device = facts.serial = str_of(device);
	route_node_set_facts(fleet->routes, session->node, &facts);
	session->settled = true;
	session->texts = realloc(session->texts, SESSION_TEXTS + REGISTERED_TEXT_BYTES + ATTESTED_TEXT_BYTES);
	memcpy(session->texts + SESSION_TEXTS + REGISTERED_TEXT_BYTES, device,
	       strlen(device)); /* where its serial number would be */
	if (map_put(&fleet->by_serial,
	            (struct str){(const char *)session->texts + SESSION_TEXTS + REGISTERED_TEXT_BYTES, strlen(device)}, session,
	            NULL))
		fail("out of memory");
	return session;
}

static struct str heartbeat(const uint32_t models[2], struct buf *out)
{
	char names[2][40];
	struct wire_slot slots[2];
	for (int i = 0; i < 2; i++)
		slots[i] = (struct wire_slot){.model = model_name(names[i], models[i]),
		                              .state = random_below(2) ? WIRE_SLOT_IDLE : WIRE_SLOT_RUNNING,
		                              .num_running = random_below(4),
		                              .max_concurrency = 16,
		                              .active_token_budget_used = random_below(20000),
		                              .active_token_budget_max = 200000,
		                              .observed_decode_tps = 20 + random_below(60),
		                              .observed_prefill_tps = 300 + random_below(900)};
	struct wire_message message = {
	    .type = WIRE_HEARTBEAT,
	    .as.heartbeat = {.memory_pressure = random_below(100) / 100.0,
	                     .cpu_usage = random_below(100) / 100.0,
	                     .has_capacity = true,
	                     .capacity = {.slots = slots, .slot_count = 2, .total_memory_gb = 64, .gpu_memory_active_gb = 20}},
	};
	return text_of(&message, out);
}

/* Memory of this process that is there, whoever asked for it. */
static size_t resident_bytes(void)
{
	unsigned long all = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	if (!file || fscanf(file, "%lu %lu", &all, &resident) != 2)
		fail("the size of this process cannot be read");
	fclose(file);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

int main(void)
{
	struct error error;
	struct net_loop *loop = net_loop_new(&error);
	struct fleet_options options = {.max_providers = PROVIDERS, .warm_off = true};
	struct fleet *fleet = loop ? fleet_new(loop, NULL, NULL, &options) : NULL;
	struct session **sessions = calloc(PROVIDERS, sizeof(struct session *));
	uint32_t(*models)[2] = calloc(PROVIDERS, sizeof *models);
	uint64_t *times = calloc(HEARTBEATS, sizeof *times);
	struct buf out;
	buf_init(&out, 1u << 20);
	log_set_level(LOG_ERROR);
	if (!fleet || !sessions || !models || !times)
		fail("out of memory");
	memset(sessions, 0xff, PROVIDERS * sizeof(struct session *)); /* this program's own: there before the providers */
	memset(models, 0xff, PROVIDERS * sizeof *models);
	size_t before = resident_bytes();
	for (uint32_t i = 0; i < PROVIDERS; i++) {
		models[i][0] = random_below(MODELS);
		models[i][1] = (models[i][0] + 1 + random_below(MODELS - 1)) % MODELS;
		sessions[i] = add_provider(fleet, i, models[i], &out);
		session_take(sessions[i], heartbeat(models[i], &out));
	}
	double record_bytes = (double)(resident_bytes() - before) / PROVIDERS;
	for (uint32_t i = 0; i < HEARTBEATS; i++) {
		uint32_t at = random_below(PROVIDERS);
		struct str text = heartbeat(models[at], &out);
		uint64_t start = now_ns();
		session_take(sessions[at], text);
		times[i] = now_ns() - start;
	}
	qsort(times, HEARTBEATS, sizeof *times, compare);
	printf("bench heartbeat_us %.2f us\n", (double)times[HEARTBEATS / 2] / 1000);
	printf("bench heartbeat_p99_us %.2f us\n", (double)times[HEARTBEATS - HEARTBEATS / 100] / 1000);
	printf("bench provider_record_bytes %.0f bytes\n", record_bytes);
	fleet_free(fleet);
	net_loop_free(loop);
	buf_free(&out);
	free(sessions);
	free(models);
	free(times);
	return 0;
}
