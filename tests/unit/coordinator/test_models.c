/* The model listings: complete, found by id, kept until something changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/models.h"
#include "core/arena.h"
#include "core/clock.h"
#include "core/json.h"
#include "wire/register.h"

#include <stdio.h>

struct world {
	uint64_t version;
	size_t made, count;
	struct route_model_view views[3];
};

static uint64_t version(void *user)
{
	return ((struct world *)user)->version;
}

static size_t views(void *user, struct route_model_view *out, size_t max)
{
	struct world *world = user;
	world->made++;
	for (size_t i = 0; i < world->count && i < max; i++)
		out[i] = world->views[i];
	return world->count;
}

static struct price price(void *user, struct str model)
{
	(void)user;
	(void)model;
	return (struct price){50000, 200000, 0};
}

static struct models *models_of(struct world *world)
{
	struct models_source source = {.version = version, .views = views, .price = price, .user = world, .created_s = 1767225600};
	struct models *models = models_new(&source);
	assert_non_null(models);
	return models;
}

static const json_val *entry(struct arena *arena, struct str list, size_t at)
{
	struct json_iter iter = json_iter(json_get(json_root(json_parse(list, arena, NULL)), "data"));
	json_val *found = json_next(&iter, NULL);
	while (at-- > 0)
		found = json_next(&iter, NULL);
	assert_non_null(found);
	return found;
}

static void assert_text(const json_val *object, const char *name, const char *expected)
{
	struct str text = STR_NONE;
	assert_true(json_as_str(json_get(object, name), &text));
	assert_true(str_is(text, expected));
}

static void an_entry_says_what_is_known(void **state)
{
	(void)state;
	struct world world = {.count = 1,
	                      .views = {{.id = STR("org/model"),
	                                 .nodes = 2,
	                                 .routable = 1,
	                                 .warm = 1,
	                                 .attested = 2,
	                                 .best_trust = ROUTE_TRUST_HARDWARE,
	                                 .quantization = STR("mostly Q4_K - Medium"),
	                                 .context_tokens = 4096,
	                                 .can = WIRE_CAN_CHAT | WIRE_CAN_TOOLS | WIRE_CAN_REASON}}};
	struct models *models = models_of(&world);
	struct arena *arena = arena_new(0);
	const json_val *model = entry(arena, models_list(models), 0);
	int64_t number = 0;
	assert_text(model, "id", "org/model");
	assert_text(model, "object", "model");
	assert_text(model, "owned_by", "eigeninference");
	assert_text(model, "quantization", "int4");
	assert_text(model, "created_at", "2026-01-01T00:00:00Z");
	assert_true(json_as_i64(json_get(model, "context_length"), &number));
	assert_int_equal(number, 4096);
	assert_text(json_get(model, "pricing"), "prompt", "0.00000005");
	assert_text(json_get(model, "pricing"), "completion", "0.0000002");
	assert_text(json_get(model, "metadata"), "trust_level", "hardware");
	assert_int_equal(json_len(json_get(model, "supported_features")), 2);
	assert_true(
	    str_eq(models_one(models, STR("org/model")), str_sub(models_list(models), strlen("{\"object\":\"list\",\"data\":["),
	                                                         models_one(models, STR("org/model")).len)));
	assert_int_equal(models_one(models, STR("org/other")).len, 0);
	const json_val *shop = entry(arena, models_openrouter(models), 0);
	assert_text(shop, "hugging_face_id", "org/model");
	assert_text(json_get(shop, "openrouter"), "slug", "org/model");
	arena_free(arena);
	models_free(models);
}

static void what_is_not_known_is_left_out(void **state)
{
	(void)state;
	struct world world = {.count = 2,
	                      .views = {{.id = STR("a"), .quantization = STR("none"), .can = WIRE_CAN_CHAT},
	                                {.id = STR("b"), .can = WIRE_CAN_EMBED}}};
	struct models *models = models_of(&world);
	struct arena *arena = arena_new(0);
	const json_val *model = entry(arena, models_list(models), 0);
	assert_null(json_get(model, "quantization"));
	assert_null(json_get(model, "context_length"));
	const json_val *vectors = entry(arena, models_list(models), 1);
	assert_text(json_get(vectors, "metadata"), "model_type", "embedding");
	assert_int_equal(json_len(json_get(vectors, "supported_sampling_parameters")), 0);
	assert_int_equal(json_len(json_get(json_root(json_parse(models_openrouter(models), arena, NULL)), "data")), 1);
	arena_free(arena);
	models_free(models);
}

static void a_listing_is_kept_until_something_changes(void **state)
{
	(void)state;
	struct world world = {.count = 1, .views = {{.id = STR("a")}}};
	struct models *models = models_of(&world);
	for (int i = 0; i < 5; i++)
		assert_true(models_list(models).len > 0);
	assert_int_equal(world.made, 1);
	world.version++;
	world.views[0].id = STR("b");
	for (uint64_t until = clock_mono_us() + 10000000; models_one(models, STR("b")).len == 0 && clock_mono_us() < until;)
		;
	assert_int_equal(world.made, 2);
	assert_int_equal(models_one(models, STR("a")).len, 0);
	models_free(models);
}

static void quantizations_have_one_name_each(void **state)
{
	(void)state;
	static const char *const cases[][2] = {{"4bit", "int4"},        {"8bit", "int8"}, {"6bit", "fp6"},  {"3bit", "int4"},
	                                       {"bfloat16", "bf16"},    {"BF16", "bf16"}, {"F16", "fp16"},  {"all F32", "fp32"},
	                                       {"mostly Q8_0", "int8"}, {"mxfp4", "fp4"}, {"Q4_1", "int4"}, {"fp8", "fp8"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct world world = {.count = 1, .views = {{.id = STR("a"), .quantization = str_of(cases[i][0])}}};
		struct models *models = models_of(&world);
		struct arena *arena = arena_new(0);
		assert_text(entry(arena, models_list(models), 0), "quantization", cases[i][1]);
		arena_free(arena);
		models_free(models);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_entry_says_what_is_known),
	    cmocka_unit_test(what_is_not_known_is_left_out),
	    cmocka_unit_test(a_listing_is_kept_until_something_changes),
	    cmocka_unit_test(quantizations_have_one_name_each),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
