/* Over random fleets and histories the indexed choice is what a scan of the whole fleet could have chosen, counts stay true and
 * nothing leaks. */
#include <stdlib.h>

#include "coordinator/routing/alias.h"
#include "routing_fixture.h"

#define NODES  60
#define MODELS 6
#define HELD   200
#define STEPS  60000 /* of each of four histories; ROUTE_STEPS=1000000 for the long run */

static uint64_t seed;

static uint32_t below(uint32_t bound)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((seed >> 33) % bound);
}

static const char *const model_names[MODELS] = {"a/one", "b/two", "c/three", "d/four", "e/five", "f/six"};
static const char *const accounts[] = {"", "acct-1", "acct-2"};
static const char *const hashes[] = {"", "1111111111111111111111111111111111111111111111111111111111111111",
                                     "2222222222222222222222222222222222222222222222222222222222222222"};

struct held {
	struct route_reservation *reservation;
	struct route_node *node; /* NULL when it left */
	uint64_t tokens;
};

struct world {
	struct route_fleet *fleet;
	struct alias_table *aliases;
	bool behind; /* a pin changed, and not all nodes were heard of since */
	struct route_node *nodes[NODES];
	uint32_t pending[NODES];
	struct held held[HELD];
	uint64_t now_us;
};

static struct route_node_facts random_facts(const struct world *w)
{
	static const char *const families[] = {"M1", "M2", "M3", "", "Unknown"};
	static const char *const serials[] = {"", "S1", "S2", "S3"};
	static const char *const devices[] = {"", "D1", "D2", "D3", "D4"};
	static const char *const versions[] = {"", "1.0", "1.1"};
	static const char *const regions[] = {"", "US", "US-CA", "DE"};
	return (struct route_node_facts){
	    .connected_ok = below(20) != 0,
	    .untrusted = below(30) == 0,
	    .private_only = below(10) == 0,
	    .private_text = below(30) != 0,
	    .posture_verified = below(30) != 0,
	    .runtime_verified = below(30) != 0,
	    .trust = (enum route_trust)(below(10) ? 1 + below(2) : 0),
	    .last_challenge_us = below(20) ? w->now_us - below(2000) * SECOND_US : 0,
	    .chip_family = str_of(families[below(5)]),
	    .serial = str_of(serials[below(4)]),
	    .device = str_of(devices[below(5)]),
	    .version = str_of(versions[below(3)]),
	    .region = str_of(regions[below(4)]),
	    .network_ms = below(2) ? 0 : below(300),
	    .tools_ok = below(4) != 0,
	    .static_decode_tps = below(2) ? 0 : 5 + below(100),
	    .bandwidth_gbs = below(3) ? 100 + below(700) : 0,
	    .memory_gb = 16 << below(4),
	    .memory_pressure = below(100) / 100.0,
	    .cpu_usage = below(100) / 100.0,
	    .thermal = below(20) ? (int)below(3) : 3,
	    .has_capacity = below(5) != 0,
	    .gpu_active_gb = below(16),
	    .total_memory_gb = below(2) ? 16 << below(4) : 0,
	    .free_for_load_gb = below(3) ? (double)below(32) : -1,
	};
}

static void random_models(struct world *w, struct route_node *node)
{
	struct route_model_facts facts[MODELS + 1];
	size_t count = 0;
	for (int i = 0; i < MODELS; i++)
		if (below(2))
			facts[count++] = (struct route_model_facts){.id = str_of(model_names[i]),
			                                            .size_bytes = below(4) ? (uint64_t)below(30) * 1000000000u : 0,
			                                            .vision = below(2) != 0,
			                                            .weight_hash = str_of(hashes[below(3)]),
			                                            .template_render_ok = (int)below(8) - 1};
	if (count && below(4) == 0) { /* named twice */
		facts[count] = facts[0];
		count++;
	}
	assert_int_equal(route_node_set_models(w->fleet, node, facts, count), DB_OK);
}

static void random_beat(struct world *w, struct route_node *node)
{
	for (int i = 0; i < MODELS; i++) {
		struct route_slot slot = {.state = (enum route_slot_state)below(6),
		                          .running = below(4),
		                          .waiting = below(2),
		                          .max_concurrency = below(2) ? 0 : below(24),
		                          .max_tokens_potential = below(10000),
		                          .budget_used = below(5000),
		                          .budget_queued = below(1000),
		                          .budget_max = below(2) ? 0 : 1000 + below(40000),
		                          .decode_tps = below(2) ? 0 : 1 + below(90),
		                          .prefill_tps = below(2) ? 0 : 50 + below(2000),
		                          .kv_bytes_per_token = below(2) ? 0 : 100000,
		                          .load_time_ms = below(2) ? 0 : below(60000)};
		if (below(3))
			(void)route_node_set_slot(w->fleet, node, str_of(model_names[i]), &slot);
		const uint64_t digests[] = {below(20), below(20), below(20)};
		if (below(2))
			(void)route_node_set_prefixes(w->fleet, node, str_of(model_names[i]), digests, below(4));
	}
	route_node_heartbeat_done(w->fleet, node);
}

static void forget_node(struct world *w, uint32_t at)
{
	for (int i = 0; i < HELD; i++)
		if (w->held[i].node == w->nodes[at])
			w->held[i].node = NULL;
	route_node_remove(w->fleet, w->nodes[at]);
	w->nodes[at] = NULL;
	w->pending[at] = 0;
}

static void change_a_node(struct world *w)
{
	uint32_t at = below(NODES);
	struct route_node *node = w->nodes[at];
	if (!node) {
		node = w->nodes[at] = route_node_add(w->fleet, NULL);
		assert_non_null(node);
		random_models(w, node);
		assert_int_equal(route_node_set_owner(w->fleet, node, str_of(accounts[below(3)])), DB_OK);
	}
	struct route_node_facts facts = random_facts(w);
	switch (below(8)) {
	case 0:
		forget_node(w, at);
		break;
	case 1:
		random_models(w, node);
		break;
	case 2:
		route_node_cool(w->fleet, node, below(2) ? STR_NONE : str_of(model_names[below(MODELS)]),
		                w->now_us + below(200) * SECOND_US);
		break;
	case 3:
	case 4:
		route_node_set_facts(w->fleet, node, &facts);
		break;
	default:
		random_beat(w, node);
	}
}

/* The order in the index follows a pin with each node's next report. */
static void hear_of_all(struct world *w)
{
	for (int i = 0; w->behind && i < NODES; i++) {
		struct route_node_facts facts;
		if (!w->nodes[i])
			continue;
		route_node_facts(w->fleet, w->nodes[i], &facts);
		route_node_set_facts(w->fleet, w->nodes[i], &facts);
	}
	w->behind = false;
}

/* Files that are refused are so at once, though the index still has them; those that are taken again are heard of first. */
static void change_a_pin(struct world *w)
{
	static const char *const ids[MODELS] = {"one", "two", "three", "four", "five", "six"};
	uint32_t at = below(MODELS);
	bool taken_again = alias_pin(w->aliases, str_of(model_names[at])) != NULL;
	struct alias_change change = {
	    .id = str_of(ids[at]), .desired = str_of(model_names[at]), .weight_hash = str_of(hashes[below(3)])};
	struct error error;
	if (below(3) == 0)
		(void)alias_remove(w->aliases, str_of(ids[at]));
	else
		assert_int_equal(alias_put(w->aliases, &change, w->now_us, &error), DB_OK);
	w->behind = true;
	if (taken_again)
		hear_of_all(w);
}

static void release(struct world *w, struct held *held)
{
	for (uint32_t i = 0; held->node && i < NODES; i++)
		if (w->nodes[i] == held->node)
			w->pending[i]--;
	assert_ptr_equal(route_reservation_node(held->reservation), held->node);
	if (below(4))
		route_outcome(w->fleet, held->reservation, (enum route_outcome)(below(2) ? ROUTE_OUTCOME_OK : below(9)), w->now_us);
	route_release(w->fleet, held->reservation);
	*held = (struct held){0};
}

static struct route_request random_request(struct world *w, struct route_node **excluded, struct str *serial,
                                           struct str *region)
{
	uint32_t count = below(4) ? 0 : below(5);
	for (uint32_t i = 0; i < count; i++)
		excluded[i] = w->nodes[below(NODES)];
	*serial = str_of(below(2) ? "S1" : "S2");
	*region = str_of(below(2) ? "US" : "DE");
	static struct route_prefix prefixes[2];
	prefixes[0] = (struct route_prefix){below(20), 600};
	prefixes[1] = (struct route_prefix){below(20), 200};
	return (struct route_request){
	    .model = str_of(model_names[below(MODELS)]),
	    .prompt_tokens = 1 + below(below(10) ? 2000 : 30000),
	    .max_tokens = below(2) ? 256 : below(16000),
	    .expected_tokens = below(2) ? 0 : 1 + below(2000),
	    .tools = below(4) == 0,
	    .vision = below(4) == 0,
	    .caller_account = str_of(accounts[below(3)]),
	    .own_only = below(12) == 0,
	    .prefer_own = below(8) == 0,
	    .min_trust = (enum route_trust)(below(8) ? 0 : below(3)),
	    .regions = below(8) ? NULL : region,
	    .region_count = 1,
	    .avoid_version = below(8) ? STR_NONE : STR("1.1"),
	    .excluded = excluded,
	    .excluded_count = count,
	    .serials = below(12) ? NULL : serial,
	    .serial_count = 1,
	    .prefixes = prefixes,
	    .prefix_count = below(2) ? 0 : 2,
	};
}

/* The soft filters of routing 7, selection 3, the one that matters most in the highest bit. */
static unsigned grade_of(const struct world *w, const struct route_node *node, const struct route_request *request,
                         const struct route_cost *cost)
{
	struct route_node_facts facts;
	struct route_request own = *request;
	own.own_only = true;
	route_node_facts(w->fleet, node, &facts);
	bool avoided = request->avoid_version.len && str_eq(facts.version, request->avoid_version);
	bool foreign = request->prefer_own && route_check(w->fleet, node, &own, w->now_us) == ROUTE_NOT_OWNED;
	return (foreign ? 4u : 0) | (avoided ? 2u : 0) | (cost->slow ? 1u : 0);
}

/* The cheapest of all that pass and fail the fewest wishes, by the predicate and the cost of the whole fleet; false when none
 * passes. */
static bool full_scan(const struct world *w, const struct route_request *request, double *best, unsigned *grade)
{
	bool found = false;
	for (int i = 0; i < NODES; i++) {
		struct route_cost cost;
		if (!w->nodes[i] || route_check(w->fleet, w->nodes[i], request, w->now_us) != ROUTE_OK)
			continue;
		assert_true(route_cost_of(w->fleet, w->nodes[i], request, &cost));
		unsigned of_node = grade_of(w, w->nodes[i], request, &cost);
		if (!found || of_node < *grade || (of_node == *grade && cost.total < *best)) {
			*best = cost.total;
			*grade = of_node;
		}
		found = true;
	}
	return found;
}

static void take_note(struct world *w, struct held *held, struct route_node *node)
{
	uint32_t at = 0;
	while (at < NODES && w->nodes[at] != node)
		at++;
	assert_true(at < NODES);
	held->node = node;
	w->pending[at]++;
}

static void decide(struct world *w, struct held *held)
{
	struct route_node *excluded[4];
	struct str serial, region;
	struct route_request request = random_request(w, excluded, &serial, &region);
	struct route_decision decision;
	double best = 0;
	(void)route_models(w->fleet, w->now_us, NULL, 0); /* lets time pass, so that costs stand still from here on */
	unsigned grade = 0;
	bool any = full_scan(w, &request, &best, &grade);
	static struct route_cost before[NODES];
	static enum route_gate gates[NODES];
	for (int i = 0; i < NODES; i++) {
		gates[i] = w->nodes[i] ? route_check(w->fleet, w->nodes[i], &request, w->now_us) : ROUTE_OFFLINE;
		if (gates[i] == ROUTE_OK)
			(void)route_cost_of(w->fleet, w->nodes[i], &request, &before[i]);
	}
	enum db_err result = route_select(w->fleet, &request, w->now_us, &decision, &held->reservation);
	if (request.serials && result != DB_OK)
		return; /* of two nodes that claim one serial only the newest can be named */
	if (result == DB_OK && decision.bypassed_breaker) {
		assert_true(!any || request.serials); /* only when nobody else could */
		take_note(w, held, decision.node);
		return;
	}
	assert_int_equal(result == DB_OK, any);
	if (result != DB_OK) {
		assert_null(held->reservation);
		return;
	}
	uint32_t at = 0;
	while (at < NODES && w->nodes[at] != decision.node)
		at++;
	assert_true(at < NODES);
	assert_int_equal(gates[at], ROUTE_OK);
	struct route_cost cost = before[at];
	assert_near(decision.cost_ms, cost.total, 0.001 * (1 + cost.total));
	/* A class keeps the order of base costs up to its slopes' spread (a quarter of decoding, a half of reading). */
	if (!request.serials) {
		assert_int_equal(grade_of(w, decision.node, &request, &cost), grade);
		assert_true(cost.total <= best + 2 * 3000 + 0.5 * cost.own + 0.25 * cost.backlog);
	}
	take_note(w, held, decision.node);
}

static void counts_are_true(struct world *w)
{
	struct route_model_view views[MODELS];
	hear_of_all(w);
	size_t count = route_models(w->fleet, w->now_us, views, MODELS);
	size_t live = 0;
	for (int i = 0; i < NODES; i++) {
		live += w->nodes[i] != NULL;
		if (w->nodes[i])
			assert_int_equal(route_node_pending(w->nodes[i]), w->pending[i]);
	}
	assert_int_equal(route_node_count(w->fleet), live);
	for (size_t v = 0; v < count; v++) {
		uint32_t nodes = 0, routable = 0;
		struct route_request request = {.model = views[v].id};
		if (v)
			assert_true(memcmp(views[v - 1].id.at, views[v].id.at, 1) < 0);
		for (int i = 0; i < NODES; i++) {
			struct route_node_facts facts;
			struct route_cost cost;
			if (!w->nodes[i] || !route_cost_of(w->fleet, w->nodes[i], &request, &cost))
				continue;
			route_node_facts(w->fleet, w->nodes[i], &facts);
			enum route_gate gate = route_check(w->fleet, w->nodes[i], &request, w->now_us);
			nodes += facts.connected_ok && !facts.untrusted && !facts.private_only && gate != ROUTE_NOT_SERVING;
			routable += gate == ROUTE_OK || gate == ROUTE_CONCURRENCY || gate == ROUTE_BUDGET || gate == ROUTE_MEMORY;
		}
		assert_int_equal(views[v].nodes, nodes);
		assert_int_equal(views[v].routable, routable);
	}
}

static void run(uint64_t start)
{
	static struct world w;
	struct route_policy policy = {.min_trust = ROUTE_TRUST_SELF_SIGNED, .seed = start};
	seed = start;
	w = (struct world){.fleet = route_fleet_new(&policy), .now_us = 3000 * SECOND_US};
	assert_non_null(w.fleet);
	w.aliases = alias_table_new(w.fleet);
	assert_non_null(w.aliases);
	const char *steps_text = getenv("ROUTE_STEPS");
	unsigned long steps = steps_text ? strtoul(steps_text, NULL, 10) : STEPS;
	for (unsigned long step = 0; step < steps; step++) {
		struct held *held = &w.held[below(HELD)];
		if (below(20) == 0)
			w.now_us += below(30) * SECOND_US;
		if (below(500) == 0)
			change_a_pin(&w);
		if (below(3) == 0)
			change_a_node(&w);
		else if (held->reservation)
			release(&w, held);
		else
			decide(&w, held);
		if (step % 997 == 0)
			counts_are_true(&w);
	}
	for (int i = 0; i < HELD; i++)
		if (w.held[i].reservation)
			release(&w, &w.held[i]);
	for (int i = 0; i < NODES; i++)
		if (w.nodes[i])
			assert_int_equal(route_node_pending(w.nodes[i]), 0);
	counts_are_true(&w);
	alias_table_free(w.aliases);
	route_fleet_free(w.fleet);
}

static void the_index_agrees_with_a_scan_of_the_fleet(void **state)
{
	(void)state;
	for (uint64_t start = 1; start <= 4; start++)
		run(start);
}

static void equal_nodes_take_turns(void **state)
{
	(void)state;
	enum { COUNT = 40, ROUNDS = 4000 };
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_node *nodes[COUNT];
	uint32_t chosen[COUNT] = {0};
	for (int i = 0; i < COUNT; i++)
		nodes[i] = fixture_node(fleet, &facts, &slot);
	for (int round = 0; round < ROUNDS; round++) {
		struct route_request request = fixture_request();
		struct route_decision decision;
		struct route_reservation *reservation;
		assert_int_equal(route_select(fleet, &request, NOW_US, &decision, &reservation), DB_OK);
		for (int i = 0; i < COUNT; i++)
			chosen[i] += nodes[i] == decision.node;
		route_release(fleet, reservation);
	}
	for (int i = 0; i < COUNT; i++)
		assert_in_range(chosen[i], ROUNDS / COUNT / 2, ROUNDS / COUNT * 2);
	route_fleet_free(fleet);
}

static void a_burst_spreads_before_any_heartbeat(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts fast = fixture_facts(), slow = fixture_facts();
	struct route_slot slot = fixture_slot();
	slow.static_decode_tps = 50;
	struct route_node *x = fixture_node(fleet, &fast, &slot), *y = fixture_node(fleet, &slow, &slot);
	struct route_reservation *held[8];
	for (int i = 0; i < 8; i++) {
		struct route_request request = fixture_request();
		struct route_decision decision;
		request.max_tokens = 8192;
		assert_int_equal(route_select(fleet, &request, NOW_US, &decision, &held[i]), DB_OK);
	}
	assert_in_range(route_node_pending(x), 4, 5);
	assert_in_range(route_node_pending(y), 3, 4);
	for (int i = 0; i < 8; i++)
		route_release(fleet, held[i]);
	route_fleet_free(fleet);
}

static void a_rare_shape_is_found_behind_many_others(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node_facts facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	facts.tools_ok = false;
	for (int i = 0; i < 500; i++)
		(void)fixture_node(fleet, &facts, &slot);
	facts.tools_ok = true;
	facts.memory_pressure = 1; /* dearest of all */
	struct route_node *able = fixture_node(fleet, &facts, &slot);
	struct route_request request = fixture_request();
	struct route_decision decision;
	struct route_reservation *reservation;
	request.tools = true;
	assert_int_equal(route_select(fleet, &request, NOW_US, &decision, &reservation), DB_OK);
	assert_ptr_equal(decision.node, able);
	route_release(fleet, reservation);
	route_fleet_free(fleet);
}

static void limits_of_what_a_node_advertises(void **state)
{
	(void)state;
	struct route_fleet *fleet = fixture_fleet();
	struct route_node *node = route_node_add(fleet, NULL);
	static struct route_model_facts many[ROUTE_MAX_NODE_MODELS + 1];
	char long_id[ROUTE_MODEL_SIZE + 1];
	memset(long_id, 'x', sizeof long_id);
	for (size_t i = 0; i < ROUTE_MAX_NODE_MODELS + 1; i++)
		many[i].id = STR("same");
	assert_int_equal(route_node_set_models(fleet, node, many, ROUTE_MAX_NODE_MODELS + 1), DB_E_LIMIT);
	assert_int_equal(route_node_set_models(fleet, node, many, ROUTE_MAX_NODE_MODELS), DB_OK);
	assert_int_equal(route_node_models(node, NULL, 0), 1);
	struct route_model_facts odd = {.id = {long_id, ROUTE_MODEL_SIZE}};
	assert_int_equal(route_node_set_models(fleet, node, &odd, 1), DB_E_LIMIT);
	odd.id.len--;
	assert_int_equal(route_node_set_models(fleet, node, &odd, 1), DB_OK);
	route_fleet_free(fleet);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_index_agrees_with_a_scan_of_the_fleet), cmocka_unit_test(equal_nodes_take_turns),
	    cmocka_unit_test(a_burst_spreads_before_any_heartbeat),      cmocka_unit_test(a_rare_shape_is_found_behind_many_others),
	    cmocka_unit_test(limits_of_what_a_node_advertises),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
