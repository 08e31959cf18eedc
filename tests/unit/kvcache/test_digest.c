/* Names, boundaries and keys (inference 10.2, 10.3, 11.2). */
#include "kv_fixture.h"

#include "core/encode.h"
#include "crypto/aead.h"

static void expect_digest(const int32_t *tokens, size_t count, const char *scope, const char *hex)
{
	struct kv_roll roll;
	struct kv_digest digest;
	char got[SHA256_HEX_SIZE];
	for (size_t step = 1; step <= 256; step = step * 3 + 1) {
		kv_roll_begin(&roll, str_of(scope));
		for (size_t at = 0; at < count; at += step)
			kv_roll_add(&roll, tokens + at, count - at < step ? count - at : step);
		kv_roll_peek(&roll, &digest);
		kv_roll_end(&roll);
		hex_encode(digest.bytes, sizeof digest.bytes, got);
		assert_string_equal(got, hex);
	}
}

static void digests_are_those_of_the_specification(void **state)
{
	(void)state;
	int32_t counting[256];
	for (int32_t i = 0; i < 256; i++)
		counting[i] = i;
	const int32_t few[] = {1, 2, 3};
	expect_digest(NULL, 0, "", "a3fbf90419531955174cb0cfe01125eb1bac1c61d2d9ffafe5fb26da2079a567");
	expect_digest(few, 3, "", "6c15b156c05723d8fc10f45dbcd14225050982e90ff675ec36cc94907b1d3417");
	expect_digest(counting, 256, "", "a7214692bc3e2a747b028de507313d471bc82f4fd2963899880bf956881100a2");
	expect_digest(few, 3, "tenant-a", "05b5048910899536e92e580e673bcff716921e945653ff805998d776b73e1566");
}

static void points_are_the_digests_of_every_prefix_on_the_grid(void **state)
{
	(void)state;
	int32_t tokens[300];
	struct kv_digest points[4], one;
	prompt_tokens(3, tokens, 300);
	assert_int_equal(kv_points(STR("x"), tokens, 300, points), 4);
	for (size_t i = 0; i < 4; i++) {
		struct kv_roll roll;
		kv_roll_begin(&roll, STR("x"));
		kv_roll_add(&roll, tokens, (i + 1) * KV_GRID);
		kv_roll_peek(&roll, &one);
		kv_roll_end(&roll);
		assert_memory_equal(&one, &points[i], sizeof one);
	}
}

static void expect_ladder(uint32_t window, bool proven, uint32_t context, const uint32_t *wanted, size_t count)
{
	uint32_t got[KV_LADDER_MAX];
	assert_int_equal(kv_ladder(window, proven, context, got), count);
	assert_memory_equal(got, wanted, count * sizeof *wanted);
}

#define LADDER(window, proven, context, ...)                                                                                   \
	do {                                                                                                                       \
		const uint32_t wanted_[] = {__VA_ARGS__};                                                                              \
		expect_ladder(window, proven, context, wanted_, sizeof wanted_ / sizeof *wanted_);                                     \
	} while (0)

static void boundaries_are_geometric_and_know_the_window(void **state)
{
	(void)state;
	LADDER(0, false, 65536, 256, 512, 1024, 2048, 4096, 8192);
	LADDER(0, true, 65536, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536);
	LADDER(128, false, 32768, 64, 128);
	LADDER(256, false, 32768, 128, 256);
	LADDER(512, false, 32768, 256, 512);
	LADDER(1024, false, 32768, 256, 512, 1024);
	LADDER(4096, false, 32768, 256, 512, 1024, 2048, 4096);
	LADDER(128, true, 2048, 64, 128, 256, 512, 1024, 2048);
	LADDER(256, true, 1024, 128, 256, 512, 1024);
	LADDER(512, true, 1024, 256, 512, 1024);
	LADDER(1024, true, 4096, 256, 512, 1024, 2048, 4096);
	LADDER(4096, true, 2048, 256, 512, 1024, 2048);
	uint32_t got[KV_LADDER_MAX];
	assert_int_equal(kv_ladder(0, true, 100, got), 0);
	assert_true(kv_ladder(1000, true, UINT32_MAX, got) <= KV_LADDER_MAX);
}

static void the_last_boundary_leaves_something_to_compute(void **state)
{
	(void)state;
	assert_int_equal(kv_last_boundary(0), 0);
	assert_int_equal(kv_last_boundary(64), 0);
	assert_int_equal(kv_last_boundary(65), 64);
	assert_int_equal(kv_last_boundary(128), 64);
	for (size_t tokens = 1; tokens < 1000; tokens++) {
		size_t last = kv_last_boundary(tokens);
		assert_true(last < tokens && tokens - last <= KV_GRID && last % KV_GRID == 0);
	}
}

static void nonces_are_those_of_the_specification(void **state)
{
	(void)state;
	uint8_t key[32], iv[12], nonce[12];
	char hex[25];
	for (uint8_t i = 0; i < 32; i++)
		key[i] = i;
	for (uint8_t i = 0; i < 12; i++)
		iv[i] = (uint8_t)(100 + i);
	kv_chunk_nonce(key, iv, 0, nonce);
	hex_encode(nonce, sizeof nonce, hex);
	assert_string_equal(hex, "36e5afb793c3dde000871f18");
	kv_chunk_nonce(key, iv, 1, nonce);
	hex_encode(nonce, sizeof nonce, hex);
	assert_string_equal(hex, "5fd5f6de8512ef17428f1c5f");
}

static void every_tenant_has_its_own_key_and_every_device_its_own_names(void **state)
{
	(void)state;
	uint8_t other_secret[KV_SECRET_BYTES] = {9}, key_a[32], key_b[32];
	struct kv_keys *keys = kv_keys_new(device_secret), *others = kv_keys_new(other_secret);
	struct kv_tag a, b, a_elsewhere;
	struct kv_digest digest = {{1}}, name, name_elsewhere;
	kv_keys_tag(keys, STR("a"), &a);
	kv_keys_tag(keys, STR("b"), &b);
	kv_keys_tag(others, STR("a"), &a_elsewhere);
	assert_memory_not_equal(&a, &b, sizeof a);
	assert_memory_not_equal(&a, &a_elsewhere, sizeof a);
	assert_false(kv_tag_is_everybody(&a));
	kv_keys_tenant(keys, &a, key_a);
	kv_keys_tenant(keys, &b, key_b);
	assert_memory_not_equal(key_a, key_b, sizeof key_a);
	kv_keys_name(keys, &digest, &name);
	kv_keys_name(others, &digest, &name_elsewhere);
	assert_memory_not_equal(&name, &digest, sizeof name);
	assert_memory_not_equal(&name, &name_elsewhere, sizeof name);
	kv_keys_free(keys);
	kv_keys_free(others);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(digests_are_those_of_the_specification),
	    cmocka_unit_test(points_are_the_digests_of_every_prefix_on_the_grid),
	    cmocka_unit_test(boundaries_are_geometric_and_know_the_window),
	    cmocka_unit_test(the_last_boundary_leaves_something_to_compute),
	    cmocka_unit_test(nonces_are_those_of_the_specification),
	    cmocka_unit_test(every_tenant_has_its_own_key_and_every_device_its_own_names),
	};
	return cmocka_run_group_tests(tests, kv_setup, NULL);
}
