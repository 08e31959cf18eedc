#include "../vectors.h"

#include "core/id.h"
#include "core/list.h"
#include "core/map.h"

static void test_hash_is_siphash_1_3(void **state)
{
	(void)state;
	struct json_doc *doc = vectors_load("core_vectors.json");
	struct json_iter iter = json_iter(json_get(json_root(doc), "siphashes"));
	size_t count = 0;
	for (json_val *one; (one = json_next(&iter, NULL)); count++) {
		uint8_t key[16], data[255], wanted[8];
		uint64_t seed[2] = {0, 0}, expected = 0;
		size_t len = vector_str(one, "data").len / 2;
		vector_hex(one, "key", key, sizeof key);
		vector_hex(one, "data", data, len);
		vector_hex(one, "hash", wanted, sizeof wanted);
		for (size_t i = 0; i < 8; i++) {
			seed[0] |= (uint64_t)key[i] << (8 * i);
			seed[1] |= (uint64_t)key[8 + i] << (8 * i);
			expected = expected << 8 | wanted[i];
		}
		assert_true(map_hash(seed, (struct str){(const char *)data, len}) == expected);
	}
	assert_true(count > 20);
	json_free(doc);
}

static void test_put_get_replace_remove(void **state)
{
	(void)state;
	struct map map;
	int one = 1, two = 2;
	void *old = &two;
	map_init(&map);
	assert_null(map_get(&map, STR("a")));
	assert_null(map_remove(&map, STR("a")));
	assert_int_equal(map_put(&map, STR("a"), &one, &old), DB_OK);
	assert_null(old);
	assert_ptr_equal(map_get(&map, STR("a")), &one);
	assert_null(map_get(&map, STR("b")));
	const char other_key[] = "a";
	assert_int_equal(map_put(&map, str_of(other_key), &two, &old), DB_OK);
	assert_ptr_equal(old, &one);
	assert_int_equal(map.count, 1);
	assert_int_equal(map_put(&map, STR_NONE, &one, NULL), DB_OK); /* the empty key is a key */
	assert_ptr_equal(map_get(&map, STR("")), &one);
	assert_ptr_equal(map_remove(&map, STR("a")), &two);
	assert_null(map_get(&map, STR("a")));
	assert_int_equal(map.count, 1);
	map_free(&map);
	assert_null(map_get(&map, STR("")));
	map_free(&map);
}

static void test_reserved_room_is_not_moved(void **state)
{
	(void)state;
	struct map map;
	char keys[1000][8];
	map_init(&map);
	assert_int_equal(map_reserve(&map, 1000), DB_OK);
	const struct map_slot *slots = map.slots;
	for (int i = 0; i < 1000; i++) {
		int len = snprintf(keys[i], sizeof keys[i], "k%d", i);
		assert_int_equal(map_put(&map, (struct str){keys[i], (size_t)len}, keys[i], NULL), DB_OK);
	}
	assert_ptr_equal(map.slots, slots);
	assert_int_equal(map_reserve(&map, 10), DB_OK);
	assert_ptr_equal(map.slots, slots);
	assert_int_equal(map_reserve(&map, 5000), DB_OK);
	for (int i = 0; i < 1000; i++)
		assert_ptr_equal(map_get(&map, str_of(keys[i])), keys[i]);
	map_free(&map);
}

struct entry {
	char key[16];
	bool present;
};

/* Random puts and removals against a plain array of what should be there. */
static void test_agrees_with_a_plain_table(void **state)
{
	(void)state;
	enum { KEYS = 700, STEPS = 60000 };
	static struct entry entries[KEYS];
	struct map map;
	size_t present = 0;
	map_init(&map);
	for (size_t i = 0; i < KEYS; i++)
		(void)snprintf(entries[i].key, sizeof entries[i].key, "key-%zu", i);
	for (size_t step = 0; step < STEPS; step++) {
		uint16_t random[2];
		id_random(random, sizeof random);
		struct entry *entry = &entries[random[0] % KEYS];
		/* Phases in which the table mostly grows, then mostly shrinks. */
		bool put = random[1] % 4 < (step / 5000 % 2 ? 1 : 3);
		void *old;
		if (put) {
			assert_int_equal(map_put(&map, str_of(entry->key), entry, &old), DB_OK);
			assert_ptr_equal(old, entry->present ? entry : NULL);
			present += !entry->present;
		} else {
			assert_ptr_equal(map_remove(&map, str_of(entry->key)), entry->present ? entry : NULL);
			present -= entry->present;
		}
		entry->present = put;
		assert_int_equal(map.count, present);
		struct entry *asked = &entries[(random[0] + 1u) % KEYS];
		assert_ptr_equal(map_get(&map, str_of(asked->key)), asked->present ? asked : NULL);
	}
	for (size_t i = 0; i < KEYS; i++)
		assert_ptr_equal(map_get(&map, str_of(entries[i].key)), entries[i].present ? &entries[i] : NULL);
	map_free(&map);
}

static void test_iteration_meets_each_value_once(void **state)
{
	(void)state;
	static char keys[1000][8];
	static int visits[1000];
	struct map map;
	map_init(&map);
	for (size_t i = 0; i < 1000; i++) {
		(void)snprintf(keys[i], sizeof keys[i], "%zu", i);
		map_put(&map, str_of(keys[i]), &visits[i], NULL);
	}
	size_t cursor = 0;
	for (int *visit; (visit = map_next(&map, &cursor));)
		++*visit;
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(visits[i], 1);
	map_free(&map);
	cursor = 0;
	assert_null(map_next(&map, &cursor));
}

static void test_each_map_has_its_own_seed(void **state)
{
	(void)state;
	struct map a, b;
	map_init(&a);
	map_init(&b);
	assert_memory_not_equal(a.seed, b.seed, sizeof a.seed);
}

/* --- lists --- */

struct item {
	int number;
	struct list_link link;
};

static void assert_order(const struct list *list, const char *digits)
{
	size_t at = 0;
	LIST_EACH (link, list) {
		assert_int_equal(LIST_OF(link, struct item, link)->number, digits[at] - '0');
		at++;
	}
	assert_int_equal(at, strlen(digits));
	assert_int_equal(list->count, at);
}

static void test_list_keeps_order(void **state)
{
	(void)state;
	struct list list;
	struct item items[4] = {{.number = 0}, {.number = 1}, {.number = 2}, {.number = 3}};
	list_init(&list);
	assert_null(list_first(&list));
	assert_null(list_pop_front(&list));
	list_push_back(&list, &items[1].link);
	list_push_back(&list, &items[3].link);
	list_push_front(&list, &items[0].link);
	list_insert_before(&list, &items[3].link, &items[2].link);
	assert_order(&list, "0123");
	assert_true(list_linked(&items[2].link));
	list_remove(&list, &items[2].link);
	assert_false(list_linked(&items[2].link));
	list_remove(&list, &items[2].link); /* in no list: left alone */
	assert_order(&list, "013");
	LIST_EACH_SAFE (link, next, &list) {
		if (LIST_OF(link, struct item, link)->number != 1)
			list_remove(&list, link);
	}
	assert_order(&list, "1");
	assert_ptr_equal(list_pop_front(&list), &items[1].link);
	assert_order(&list, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_hash_is_siphash_1_3),
	    cmocka_unit_test(test_reserved_room_is_not_moved),
	    cmocka_unit_test(test_put_get_replace_remove),
	    cmocka_unit_test(test_agrees_with_a_plain_table),
	    cmocka_unit_test(test_iteration_meets_each_value_once),
	    cmocka_unit_test(test_each_map_has_its_own_seed),
	    cmocka_unit_test(test_list_keeps_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
