/* Builds whose files the operator pinned (registry 3), with nodes that are connected already. */
#include "routing_fixture.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/routing/alias.h"

#define BUILD  "acme/tiny"
#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct place {
	struct route_fleet *fleet;
	struct alias_table *table;
};

static struct place place_new(void)
{
	struct place place = {.fleet = fixture_fleet()};
	place.table = alias_table_new(place.fleet);
	assert_non_null(place.table);
	return place;
}

static void place_free(struct place *place)
{
	alias_table_free(place->table);
	route_fleet_free(place->fleet);
}

static void say(struct place *place, struct route_node *node, const char *hash)
{
	struct route_model_facts model = {.id = STR(BUILD), .size_bytes = 4000000000u, .template_render_ok = -1};
	model.weight_hash = str_of(hash);
	assert_int_equal(route_node_update_models(place->fleet, node, &model, 1), DB_OK);
}

static void beat(struct place *place, struct route_node *node)
{
	struct route_slot slot = fixture_slot();
	(void)route_node_set_slot(place->fleet, node, STR(BUILD), &slot);
	route_node_heartbeat_done(place->fleet, node);
}

static struct route_node *node_with(struct place *place, const char *hash)
{
	struct route_node_facts facts = fixture_facts();
	struct route_node *node = route_node_add(place->fleet, NULL);
	assert_non_null(node);
	say(place, node, hash);
	route_node_set_facts(place->fleet, node, &facts);
	beat(place, node);
	return node;
}

static void pin(struct place *place, const char *hash)
{
	struct alias_change change = {.id = STR("acme-chat"), .desired = STR(BUILD), .weight_hash = str_of(hash)};
	struct error error;
	if (alias_put(place->table, &change, NOW_US, &error))
		fail_msg("%s", error.text);
}

static struct route_node *chosen(struct place *place)
{
	struct route_request request = fixture_request();
	struct route_decision decision;
	struct route_reservation *reservation;
	if (route_select(place->fleet, &request, NOW_US, &decision, &reservation))
		return NULL;
	route_release(place->fleet, reservation);
	return decision.node;
}

static bool serves(struct place *place, const struct route_node *node)
{
	struct route_request request = fixture_request();
	return route_check(place->fleet, node, &request, NOW_US) == ROUTE_OK;
}

static uint32_t listed(struct place *place)
{
	struct route_model_view view;
	return route_models(place->fleet, NOW_US, &view, 1) ? view.nodes : 0;
}

static void a_pin_that_changes_counts_for_whoever_is_connected(void **state)
{
	struct place place = place_new();
	struct route_node *a = node_with(&place, HASH_A), *b = node_with(&place, HASH_B), *silent = node_with(&place, NULL);
	(void)state;
	assert_true(serves(&place, a) && serves(&place, b) && serves(&place, silent));
	pin(&place, HASH_A); /* from now on, and not from the next heartbeat on */
	assert_true(serves(&place, a) && !serves(&place, b) && !serves(&place, silent));
	for (int i = 0; i < 20; i++)
		assert_ptr_equal(chosen(&place), a);
	assert_int_equal(route_node_models(a, NULL, 0), 1);
	assert_int_equal(route_node_models(b, NULL, 0), 0);
	pin(&place, HASH_B);
	assert_true(!serves(&place, a) && serves(&place, b) && !serves(&place, silent));
	beat(&place, a);
	beat(&place, b);
	beat(&place, silent);
	assert_int_equal(listed(&place), 1);
	for (int i = 0; i < 20; i++)
		assert_ptr_equal(chosen(&place), b);
	pin(&place, NULL);
	assert_true(serves(&place, a) && serves(&place, b) && serves(&place, silent));
	beat(&place, a);
	beat(&place, b);
	beat(&place, silent);
	assert_int_equal(listed(&place), 3);
	pin(&place, HASH_A);
	assert_int_equal(alias_remove(place.table, STR("acme-chat")), DB_OK);
	assert_true(serves(&place, b));
	place_free(&place);
}

static void a_node_that_says_other_files_than_before_is_compared_again(void **state)
{
	struct place place = place_new();
	(void)state;
	pin(&place, HASH_A);
	struct route_node *node = node_with(&place, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	assert_ptr_equal(chosen(&place), node); /* in any case of letters */
	say(&place, node, HASH_B);
	assert_null(chosen(&place));
	assert_int_equal(route_node_models(node, NULL, 0), 0);
	struct route_slot slot = fixture_slot();
	assert_int_equal(route_node_set_slot(place.fleet, node, STR(BUILD), &slot), DB_E_NOT_FOUND);
	say(&place, node, HASH_A HASH_A);
	assert_null(chosen(&place));
	say(&place, node, HASH_A);
	assert_ptr_equal(chosen(&place), node);
	place_free(&place);
}

static void nobody_is_offered_while_all_have_other_files(void **state)
{
	struct place place = place_new();
	struct route_decision decision;
	struct route_reservation *reservation;
	struct route_request request = fixture_request();
	(void)state;
	for (int i = 0; i < 40; i++)
		(void)node_with(&place, HASH_B);
	pin(&place, HASH_A);
	assert_int_equal(route_select(place.fleet, &request, NOW_US, &decision, &reservation), DB_E_NOT_FOUND);
	assert_true(decision.by_gate[ROUTE_NOT_SERVING] > 0);
	assert_false(route_could_serve(place.fleet, &request, NOW_US));
	struct route_node *good = node_with(&place, HASH_A);
	assert_ptr_equal(chosen(&place), good);
	place_free(&place);
}

/* More different files than are told apart: nobody has the pinned ones by mistake, and places of those that left are used
 * again. */
static void files_beyond_counting_are_nobodys(void **state)
{
	struct place place = place_new();
	struct route_node *nodes[600];
	char hash[65];
	(void)state;
	for (int round = 0; round < 2; round++) {
		pin(&place, NULL);
		for (unsigned i = 0; i < 600; i++) {
			snprintf(hash, sizeof hash, "%064x", i + 1000u * (unsigned)round);
			nodes[i] = node_with(&place, hash);
		}
		for (unsigned i = 0; i < 600; i += 7) {
			snprintf(hash, sizeof hash, "%064x", i + 1000u * (unsigned)round);
			pin(&place, hash);
			for (unsigned j = 0; j < 600; j++)
				assert_int_equal(serves(&place, nodes[j]), j == i && i < 255);
		}
		for (unsigned i = 0; i < 600; i++)
			route_node_remove(place.fleet, nodes[i]);
	}
	place_free(&place);
}

static void a_build_that_comes_after_its_pin_is_compared(void **state)
{
	struct place place = place_new();
	struct alias kept = {.id = "kept", .desired = BUILD, .weight_hash = HASH_A, .active = true, .share_percent = ALIAS_WHOLE};
	(void)state;
	assert_int_equal(alias_restore(place.table, &kept), DB_OK);
	struct route_node *wrong = node_with(&place, HASH_B), *right = node_with(&place, HASH_A);
	assert_false(serves(&place, wrong));
	assert_ptr_equal(chosen(&place), right);
	place_free(&place);
}

/* A pin that was wrong from the start refuses everybody: what they said of the build counts once it is mended. */
static void a_build_whose_pin_is_mended_is_described_as_its_nodes_said(void **state)
{
	struct place place = place_new();
	struct route_model_view view;
	(void)state;
	pin(&place, HASH_A);
	struct route_node *node = node_with(&place, HASH_B);
	assert_int_equal(listed(&place), 0);
	assert_false(route_node_models(node, NULL, 0));
	assert_true(route_node_advertises(place.fleet, node, STR(BUILD)));
	assert_false(route_node_advertises(place.fleet, node, STR("acme/other")));
	pin(&place, HASH_B);
	beat(&place, node);
	assert_ptr_equal(chosen(&place), node);
	assert_int_equal(route_models(place.fleet, NOW_US, &view, 1), 1);
	assert_true(view.size_bytes == 4000000000u);
	struct route_model_facts other = {.id = STR(BUILD), .size_bytes = 7, .weight_hash = STR(HASH_A), .template_render_ok = -1};
	struct route_node *wrong = route_node_add(place.fleet, NULL);
	assert_int_equal(route_node_set_models(place.fleet, wrong, &other, 1), DB_OK);
	say(&place, node, HASH_B);
	assert_int_equal(route_node_set_models(place.fleet, wrong, &other, 1), DB_OK);
	assert_int_equal(route_models(place.fleet, NOW_US, &view, 1), 1);
	assert_true(view.size_bytes == 4000000000u); /* not as other files are */
	place_free(&place);
}

static void an_owners_machine_with_other_files_serves_nothing(void **state)
{
	struct place place = place_new();
	size_t serving;
	(void)state;
	struct route_node *node = node_with(&place, HASH_B);
	assert_int_equal(route_node_set_owner(place.fleet, node, STR("acct-1")), DB_OK);
	assert_int_equal(route_owned(place.fleet, STR("acct-1"), STR(BUILD), &serving), 1);
	assert_int_equal(serving, 1);
	pin(&place, HASH_A);
	assert_int_equal(route_owned(place.fleet, STR("acct-1"), STR(BUILD), &serving), 1);
	assert_int_equal(serving, 0);
	place_free(&place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_pin_that_changes_counts_for_whoever_is_connected),
	    cmocka_unit_test(a_node_that_says_other_files_than_before_is_compared_again),
	    cmocka_unit_test(nobody_is_offered_while_all_have_other_files),
	    cmocka_unit_test(files_beyond_counting_are_nobodys),
	    cmocka_unit_test(a_build_that_comes_after_its_pin_is_compared),
	    cmocka_unit_test(a_build_whose_pin_is_mended_is_described_as_its_nodes_said),
	    cmocka_unit_test(an_owners_machine_with_other_files_serves_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
