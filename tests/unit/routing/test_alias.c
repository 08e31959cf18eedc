/* Public names of models and their moves from build to build (routing 13.2, registry 3). */
#include "routing_fixture.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/routing/alias.h"

#define OLD   "acme/old"
#define NEW   "acme/new"
#define ALIAS "acme-chat"

struct place {
	struct route_fleet *fleet;
	struct alias_table *table;
	struct route_node *old_node, *new_node;
	struct error error;
};

static struct route_node *node_of(struct route_fleet *fleet, const char *model, const char *serial)
{
	struct route_model_facts facts = {.id = str_of(model), .size_bytes = 1000000000u, .template_render_ok = -1};
	struct route_node_facts node_facts = fixture_facts();
	struct route_slot slot = fixture_slot();
	struct route_node *node = route_node_add(fleet, NULL);
	node_facts.serial = node_facts.device = str_of(serial);
	assert_int_equal(route_node_set_models(fleet, node, &facts, 1), DB_OK);
	route_node_set_facts(fleet, node, &node_facts);
	assert_int_equal(route_node_set_slot(fleet, node, str_of(model), &slot), DB_OK);
	route_node_heartbeat_done(fleet, node);
	return node;
}

static struct place place_new(void)
{
	struct place place = {.fleet = fixture_fleet()};
	place.table = alias_table_new(place.fleet);
	assert_non_null(place.table);
	place.old_node = node_of(place.fleet, OLD, "OLD1");
	place.new_node = node_of(place.fleet, NEW, "NEW1");
	return place;
}

static void place_free(struct place *place)
{
	alias_table_free(place->table);
	route_fleet_free(place->fleet);
}

static struct alias_change roll_out(void)
{
	return (struct alias_change){.id = STR(ALIAS), .desired = STR(NEW), .previous = STR(OLD)};
}

static enum db_err put(struct place *place, struct alias_change change)
{
	return alias_put(place->table, &change, NOW_US, &place->error);
}

static enum alias_choice ask(struct place *place, struct route_request request, const char **build)
{
	struct str chosen;
	enum alias_choice choice = alias_resolve(place->table, &request, NOW_US, &chosen);
	*build = chosen.at;
	return choice;
}

static struct route_request named(const char *account)
{
	struct route_request request = fixture_request();
	request.model = STR(ALIAS);
	request.caller_account = str_of(account);
	return request;
}

static void a_name_that_is_no_alias_is_left_alone(void **state)
{
	(void)state;
	struct place place = place_new();
	const char *build;
	struct route_request request = fixture_request();
	request.model = STR(OLD);
	assert_int_equal(ask(&place, request, &build), ALIAS_NOT_ONE);
	assert_string_equal(build, OLD);
	place_free(&place);
}

static void the_desired_build_is_taken_while_it_can_be_routed(void **state)
{
	(void)state;
	struct place place = place_new();
	const char *build;
	assert_int_equal(put(&place, roll_out()), DB_OK);
	assert_int_equal(ask(&place, named("a"), &build), ALIAS_DESIRED);
	assert_string_equal(build, NEW);
	route_node_remove(place.fleet, place.new_node);
	assert_int_equal(ask(&place, named("a"), &build), ALIAS_PREVIOUS);
	assert_string_equal(build, OLD);
	route_node_remove(place.fleet, place.old_node); /* neither: it waits for a real build */
	assert_int_equal(ask(&place, named("a"), &build), ALIAS_DESIRED);
	place_free(&place);
}

/* Capacity does not move traffic: a full desired build is waited for (routing 13.2 "no capacity check"). */
static void a_full_desired_build_is_still_the_one(void **state)
{
	(void)state;
	struct place place = place_new();
	const char *build;
	struct route_slot slot = fixture_slot();
	slot.running = slot.max_concurrency;
	slot.state = ROUTE_SLOT_RUNNING;
	assert_int_equal(put(&place, roll_out()), DB_OK);
	assert_int_equal(route_node_set_slot(place.fleet, place.new_node, STR(NEW), &slot), DB_OK);
	route_node_heartbeat_done(place.fleet, place.new_node);
	assert_int_equal(ask(&place, named("a"), &build), ALIAS_DESIRED);
	place_free(&place);
}

static void a_cooled_desired_build_gives_way(void **state)
{
	(void)state;
	struct place place = place_new();
	const char *build;
	assert_int_equal(put(&place, roll_out()), DB_OK);
	route_node_cool(place.fleet, place.new_node, STR(NEW), NOW_US + 120 * SECOND_US);
	assert_int_equal(ask(&place, named("a"), &build), ALIAS_PREVIOUS);
	place_free(&place);
}

static void pinned_requests_count_their_own_machines_only(void **state)
{
	(void)state;
	struct place place = place_new();
	const char *build;
	struct str serial = STR("OLD1");
	struct route_request request = named("a");
	assert_int_equal(put(&place, roll_out()), DB_OK);
	request.serials = &serial;
	request.serial_count = 1;
	assert_int_equal(ask(&place, request, &build), ALIAS_PREVIOUS);
	serial = STR("NOBODY");
	assert_int_equal(ask(&place, request, &build), ALIAS_UNAVAILABLE);
	request = named("owner");
	request.own_only = true;
	assert_int_equal(ask(&place, request, &build), ALIAS_UNAVAILABLE);
	assert_int_equal(route_node_set_owner(place.fleet, place.old_node, STR("owner")), DB_OK);
	assert_int_equal(ask(&place, request, &build), ALIAS_PREVIOUS);
	place_free(&place);
}

static void names_are_checked(void **state)
{
	(void)state;
	struct place place = place_new();
	struct alias_change change = roll_out();
	change.id = STR("a b");
	assert_int_equal(put(&place, change), DB_E_INVALID);
	change.id = STR("a..b");
	assert_int_equal(put(&place, change), DB_E_INVALID);
	change.id = STR("acme-chat");
	change.previous = change.desired;
	assert_int_equal(put(&place, change), DB_E_INVALID);
	change.desired = change.id;
	assert_int_equal(put(&place, change), DB_E_INVALID);
	change = (struct alias_change){.id = STR("x"), .desired = STR(NEW), .canary = true};
	assert_int_equal(put(&place, change), DB_E_INVALID);
	change.canary = false;
	change.share_percent = 50;
	assert_int_equal(put(&place, change), DB_E_INVALID);
	assert_null(alias_find(place.table, STR("x")));
	place_free(&place);
}

static void an_alias_takes_over_a_builds_name_only_when_asked(void **state)
{
	(void)state;
	struct place place = place_new();
	struct route_node *plain = node_of(place.fleet, "plain", "PLAIN1");
	struct alias_change change = {.id = STR("plain"), .desired = STR(NEW), .previous = STR(OLD)};
	assert_int_equal(put(&place, change), DB_E_EXISTS);
	change.takeover = true;
	assert_int_equal(put(&place, change), DB_E_INVALID);
	change.previous = STR("plain");
	assert_int_equal(put(&place, change), DB_OK);
	const char *build;
	struct route_request request = fixture_request();
	request.model = STR("plain");
	assert_int_equal(ask(&place, request, &build), ALIAS_DESIRED);
	route_node_remove(place.fleet, place.new_node);
	assert_int_equal(ask(&place, request, &build), ALIAS_PREVIOUS);
	assert_string_equal(build, "plain");
	(void)plain;
	place_free(&place);
}

static void builds_that_leave_are_remembered_up_to_sixteen(void **state)
{
	(void)state;
	struct place place = place_new();
	char build[32];
	for (int i = 0; i < 20; i++) {
		snprintf(build, sizeof build, "build-%d", i);
		assert_int_equal(put(&place, (struct alias_change){.id = STR(ALIAS), .desired = str_of(build)}), DB_OK);
	}
	const struct alias *alias = alias_find(place.table, STR(ALIAS));
	assert_int_equal(alias->retired_count, ALIAS_RETIRED_MAX);
	assert_string_equal(alias->retired[0], "build-3");
	assert_string_equal(alias->retired[15], "build-18");
	assert_int_equal(put(&place, (struct alias_change){.id = STR(ALIAS), .desired = STR("build-10")}), DB_OK); /* back */
	alias = alias_find(place.table, STR(ALIAS));
	for (size_t i = 0; i < alias->retired_count; i++)
		assert_string_not_equal(alias->retired[i], "build-10");
	assert_string_equal(alias->retired[alias->retired_count - 1], "build-19");
	place_free(&place);
}

static double share_of_new(struct place *place)
{
	int desired = 0;
	for (int i = 0; i < 1000; i++) {
		char account[16];
		const char *build, *again;
		snprintf(account, sizeof account, "acct%d", i);
		desired += ask(place, named(account), &build) == ALIAS_DESIRED;
		(void)ask(place, named(account), &again);
		assert_string_equal(build, again); /* an account stays with its build */
	}
	return desired / 1000.0;
}

static void a_share_of_the_accounts_gets_the_desired_build(void **state)
{
	(void)state;
	struct place place = place_new();
	struct alias_change change = roll_out();
	change.share_percent = 20;
	assert_int_equal(put(&place, change), DB_OK);
	assert_near(share_of_new(&place), 0.2, 0.05);
	change.share_percent = 0;
	assert_int_equal(put(&place, change), DB_OK);
	assert_near(share_of_new(&place), 1, 0);
	place_free(&place);
}

static bool note(struct place *place, const char *build, int ok, int faults, double ttft_ms, uint64_t at_us)
{
	bool changed = false;
	for (int i = 0; i < ok + faults; i++) {
		struct alias_outcome outcome = {.alias = STR(ALIAS), .build = str_of(build), .ok = i < ok, .ttft_ms = ttft_ms};
		changed |= alias_note(place->table, &outcome, at_us);
	}
	return changed;
}

static void begin_canary(struct place *place)
{
	struct alias_change change = roll_out();
	change.canary = true;
	assert_int_equal(put(place, change), DB_OK);
}

static void a_good_canary_grows_to_everything(void **state)
{
	(void)state;
	struct place place = place_new();
	static const uint32_t shares[] = {5, 25, 50, 100};
	begin_canary(&place);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(alias_find(place.table, STR(ALIAS))->share_percent, shares[i]);
		if (i < 3)
			assert_near(share_of_new(&place), shares[i] / 100.0, 0.05);
		note(&place, OLD, 100, 1, 300, NOW_US + i * 700 * SECOND_US);
		assert_false(note(&place, NEW, 1, 0, 310, NOW_US + i * 650 * SECOND_US));
		assert_int_equal(alias_find(place.table, STR(ALIAS))->share_percent, shares[i]); /* time alone proves nothing */
		assert_int_equal(note(&place, NEW, 60, 0, 310, NOW_US + (i + 1) * 650 * SECOND_US), i < 3);
	}
	assert_int_equal(alias_find(place.table, STR(ALIAS))->state, ALIAS_STEADY);
	place_free(&place);
}

static void a_canary_that_fails_is_rolled_back_and_says_why(void **state)
{
	(void)state;
	struct place place = place_new();
	begin_canary(&place);
	note(&place, OLD, 200, 2, 300, NOW_US);
	assert_false(note(&place, NEW, 20, 1, 300, NOW_US));
	assert_true(note(&place, NEW, 0, 8, 300, NOW_US));
	const struct alias *alias = alias_find(place.table, STR(ALIAS));
	assert_int_equal(alias->state, ALIAS_ROLLED_BACK);
	assert_non_null(strstr(alias->why, "failed"));
	assert_near(share_of_new(&place), 0, 0);
	assert_false(note(&place, NEW, 100, 0, 300, NOW_US + 700 * SECOND_US)); /* the operator decides */
	begin_canary(&place);
	assert_int_equal(alias_find(place.table, STR(ALIAS))->share_percent, 5);
	place_free(&place);
}

static void a_canary_that_starts_later_is_rolled_back(void **state)
{
	(void)state;
	struct place place = place_new();
	begin_canary(&place);
	note(&place, OLD, 60, 0, 300, NOW_US);
	assert_true(note(&place, NEW, 60, 0, 900, NOW_US));
	assert_non_null(strstr(alias_find(place.table, STR(ALIAS))->why, "first content"));
	place_free(&place);
}

/* As many faults on both: the network's, not the build's. */
static void a_canary_is_not_blamed_for_what_the_previous_build_does_too(void **state)
{
	(void)state;
	struct place place = place_new();
	begin_canary(&place);
	note(&place, OLD, 80, 20, 300, NOW_US);
	note(&place, NEW, 40, 10, 300, NOW_US);
	assert_int_equal(alias_find(place.table, STR(ALIAS))->state, ALIAS_CANARY);
	place_free(&place);
}

static void what_was_kept_comes_back(void **state)
{
	(void)state;
	struct place place = place_new();
	begin_canary(&place);
	struct alias kept = *alias_find(place.table, STR(ALIAS));
	assert_int_equal(alias_restore(place.table, &kept), DB_E_LIMIT);
	assert_int_equal(alias_remove(place.table, STR(ALIAS)), DB_OK);
	assert_int_equal(alias_remove(place.table, STR(ALIAS)), DB_E_NOT_FOUND);
	assert_int_equal(alias_restore(place.table, &kept), DB_OK);
	assert_memory_equal(alias_find(place.table, STR(ALIAS)), &kept, sizeof kept);
	assert_true(alias_covers(place.table, STR(OLD)));
	assert_false(alias_covers(place.table, STR("acme/other")));
	kept.share_percent = 101;
	assert_int_equal(alias_restore(place.table, &kept), DB_E_INVALID);
	place_free(&place);
}

/* --- pins --- */

#define PINNED   200
#define CHANGES  4000
#define BUILDS   40
#define A_HASH   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define NO_BUILD "acme/nobody"

/* What the listed aliases say, one after the other. */
static const char *pin_by_list(const struct alias_table *table, struct str build)
{
	const struct alias *aliases[PINNED];
	size_t count = alias_list(table, aliases, PINNED);
	for (size_t i = 0; i < count; i++)
		if (aliases[i]->active && aliases[i]->weight_hash[0] && str_is(build, aliases[i]->desired))
			return aliases[i]->weight_hash;
	return NULL;
}

static bool covered_by_list(const struct alias_table *table, struct str build)
{
	const struct alias *aliases[PINNED];
	size_t count = alias_list(table, aliases, PINNED);
	for (size_t i = 0; i < count; i++)
		if (aliases[i]->active && (str_is(build, aliases[i]->desired) || str_is(build, aliases[i]->previous)))
			return true;
	return false;
}

static void assert_builds_as_listed(const struct alias_table *table)
{
	for (unsigned i = 0; i < BUILDS; i++) {
		char build[32];
		snprintf(build, sizeof build, "acme/build-%u", i);
		assert_int_equal(alias_covers(table, str_of(build)), covered_by_list(table, str_of(build)));
		assert_ptr_equal(alias_pin(table, str_of(build)), pin_by_list(table, str_of(build)));
	}
	assert_null(alias_pin(table, STR(NO_BUILD)));
	assert_null(alias_pin(table, STR_NONE));
	assert_null(alias_pin(table, (struct str){"acme/build-1\0", 13}));
}

static void builds_are_known_as_the_active_aliases_have_them_whatever_changed_before(void **state)
{
	struct place place = place_new();
	uint64_t drawn = 7;
	size_t pinned = 0;
	(void)state;
	for (unsigned i = 0; i < CHANGES; i++) {
		char id[32], build[32], previous[32], hash[] = A_HASH;
		drawn = drawn * 6364136223846793005u + 1442695040888963407u;
		unsigned which = (unsigned)(drawn >> 33);
		snprintf(id, sizeof id, "alias-%u", which % PINNED);
		snprintf(build, sizeof build, "acme/build-%u", which / PINNED % BUILDS);
		snprintf(previous, sizeof previous, "acme/build-%u", (which / PINNED + 1 + which % 6) % BUILDS);
		hash[0] = (char)('0' + which % 10);
		if (which % 5 == 0)
			(void)alias_remove(place.table, str_of(id));
		else
			assert_int_equal(put(&place, (struct alias_change){.id = str_of(id),
			                                                   .desired = str_of(build),
			                                                   .previous = which % 4 ? str_of(previous) : STR_NONE,
			                                                   .weight_hash = which % 3 ? str_of(hash) : STR_NONE,
			                                                   .inactive = which % 7 == 0}),
			                 DB_OK);
		if (i % 20 == 0)
			assert_builds_as_listed(place.table);
		pinned += alias_pin(place.table, str_of(build)) != NULL;
	}
	assert_true(pinned > CHANGES / 4);
	place_free(&place);
}

static void a_pin_that_was_kept_comes_back(void **state)
{
	struct place place = place_new();
	struct alias kept = {.id = ALIAS, .desired = NEW, .weight_hash = A_HASH, .active = true, .share_percent = ALIAS_WHOLE};
	(void)state;
	assert_int_equal(alias_restore(place.table, &kept), DB_OK);
	assert_string_equal(alias_pin(place.table, STR(NEW)), A_HASH);
	assert_null(alias_pin(place.table, STR(OLD)));
	assert_int_equal(alias_remove(place.table, STR(ALIAS)), DB_OK);
	assert_null(alias_pin(place.table, STR(NEW)));
	place_free(&place);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_name_that_is_no_alias_is_left_alone),
	    cmocka_unit_test(the_desired_build_is_taken_while_it_can_be_routed),
	    cmocka_unit_test(a_full_desired_build_is_still_the_one),
	    cmocka_unit_test(a_cooled_desired_build_gives_way),
	    cmocka_unit_test(pinned_requests_count_their_own_machines_only),
	    cmocka_unit_test(names_are_checked),
	    cmocka_unit_test(an_alias_takes_over_a_builds_name_only_when_asked),
	    cmocka_unit_test(builds_that_leave_are_remembered_up_to_sixteen),
	    cmocka_unit_test(a_share_of_the_accounts_gets_the_desired_build),
	    cmocka_unit_test(a_good_canary_grows_to_everything),
	    cmocka_unit_test(a_canary_that_fails_is_rolled_back_and_says_why),
	    cmocka_unit_test(a_canary_that_starts_later_is_rolled_back),
	    cmocka_unit_test(a_canary_is_not_blamed_for_what_the_previous_build_does_too),
	    cmocka_unit_test(what_was_kept_comes_back),
	    cmocka_unit_test(builds_are_known_as_the_active_aliases_have_them_whatever_changed_before),
	    cmocka_unit_test(a_pin_that_was_kept_comes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
