#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/money/pricing.h"

static void costs_follow_the_formula(void **state)
{
	(void)state;
	static const struct {
		int64_t input, output;
		uint64_t prompt, completion;
		int64_t standard, service;
	} rows[] = {
	    {50000, 200000, 0, 0, 100, 0},        /* the floor applies to nothing, too */
	    {50000, 200000, 1, 0, 100, 1},        /* a service account pays at least 1 for something */
	    {50000, 200000, 0, 1, 100, 1},        /* */
	    {50000, 200000, 1000, 250, 100, 100}, /* 50 + 50 */
	    {50000, 200000, 1000, 255, 101, 101}, /* 50 + 51 */
	    {50000, 200000, 1000, 249, 100, 99},  /* 50 + 49.8 */
	    {50000, 200000, 19, 4, 100, 1},       /* 0.95 and 0.8: each is truncated before the sum */
	    {999999, 999999, 1, 1, 100, 1},       /* 0.999999 twice makes 0, not 1 */
	    {1000000, 1000000, 7, 8, 100, 15},    /* */
	    {3000000, 15000000, 1000000, 1000000, 18000000, 18000000},
	    {1, 1, 999999, 999999, 100, 1},   /* */
	    {1, 1, 1000000, 1000000, 100, 2}, /* */
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct price price = {rows[i].input, rows[i].output, 0};
		assert_int_equal(price_cost(price, (struct price_tokens){rows[i].prompt, rows[i].completion, 0}, false),
		                 rows[i].standard);
		assert_int_equal(price_cost(price, (struct price_tokens){rows[i].prompt, rows[i].completion, 0}, true),
		                 rows[i].service);
	}
}

static void cached_tokens_have_a_price_of_their_own(void **state)
{
	(void)state;
	static const struct {
		int64_t cached_price;
		uint64_t prompt, cached;
		int64_t service;
	} rows[] = {
	    {0, 1000, 900, 1000},                                                           /* none: they cost what others do */
	    {500000, 1000, 0, 1000},                                                        /* */
	    {500000, 1000, 900, 550}, {500000, 1000, 1000, 500}, {500000, 1000, 5000, 500}, /* no more than there are */
	    {999999, 3, 2, 2}, /* 1 + 1.999998: each part is truncated before the sum */
	    {-7, 1000, 900, 1000},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		assert_int_equal(price_cost((struct price){1000000, 1, rows[i].cached_price},
		                            (struct price_tokens){rows[i].prompt, 0, rows[i].cached}, true),
		                 rows[i].service);
	assert_true(price_cost((struct price){INT64_MAX, INT64_MAX, INT64_MAX},
	                       (struct price_tokens){UINT64_MAX, UINT64_MAX, UINT64_MAX / 2}, false) == INT64_MAX);
}

static void large_costs_saturate(void **state)
{
	(void)state;
	struct price most = {INT64_MAX, INT64_MAX, 0};
	assert_true(price_cost(most, (struct price_tokens){UINT64_MAX, UINT64_MAX, 0}, false) == INT64_MAX);
	assert_true(price_cost(most, (struct price_tokens){1000000, 0, 0}, false) == INT64_MAX);
	assert_true(price_cost(most, (struct price_tokens){1000000, 1, 0}, false) == INT64_MAX);
	assert_true(price_cost((struct price){1000000, 1, 0}, (struct price_tokens){INT64_MAX, 0, 0}, false) == INT64_MAX);
	assert_true(price_cost((struct price){1000000, 1, 0}, (struct price_tokens){INT64_MAX - 1, 0, 0}, false) == INT64_MAX - 1);
	assert_true(price_cost((struct price){-5, INT64_MIN, 0}, (struct price_tokens){1000000, 1000000, 0}, true) == 1);
}

static void payout_and_fee_make_the_cost(void **state)
{
	(void)state;
	static const int64_t costs[] = {0, 1, 99, 100, 101, 12345678901, INT64_MAX};
	for (size_t i = 0; i < sizeof costs / sizeof costs[0]; i++) {
		assert_true(price_fee(costs[i], 0) == 0);
		assert_true(price_fee(costs[i], -1) == 0);
		assert_true(price_fee(costs[i], 100) == costs[i]);
		assert_true(price_fee(costs[i], 1000) == costs[i]);
		for (int percent = 1; percent < 100; percent++) {
			int64_t fee = price_fee(costs[i], percent);
			assert_true(fee >= 0 && fee <= costs[i]);
			assert_true(fee / 2 <= costs[i] / 2);
		}
	}
	assert_int_equal(price_fee(101, 33), 33);
	assert_int_equal(price_fee(99, 1), 0);
	assert_int_equal(price_fee(100, 1), 1);
	assert_int_equal(price_fee(-100, 50), 0);
	assert_true(price_fee(INT64_MAX, 50) == INT64_MAX / 2);
}

struct good_amount {
	const char *text;
	int64_t uusd;
};
struct bad_amount {
	const char *text;
	enum db_err code;
};
typedef enum db_err (*parse_fn)(struct str text, int64_t *out);

/* What is refused leaves what was there. */
#define ASSERT_READS(parse, good, bad)                                                                                         \
	assert_reads(parse, good, sizeof(good) / sizeof(good)[0], bad, sizeof(bad) / sizeof(bad)[0])
static void assert_reads(parse_fn parse, const struct good_amount *good, size_t good_count, const struct bad_amount *bad,
                         size_t bad_count)
{
	for (size_t i = 0; i < good_count; i++) {
		int64_t uusd = -1;
		assert_int_equal(parse(str_of(good[i].text), &uusd), DB_OK);
		assert_true(uusd == good[i].uusd);
	}
	for (size_t i = 0; i < bad_count; i++) {
		int64_t uusd = 7;
		assert_int_equal(parse(str_of(bad[i].text), &uusd), bad[i].code);
		assert_int_equal(uusd, 7);
	}
}

static enum db_err parse_any_number(struct str text, int64_t *out)
{
	return price_parse_number(text, INT64_MAX, out);
}

static void dollars_are_read_as_decimals(void **state)
{
	(void)state;
	static const struct good_amount good[] = {
	    {"0", 0},
	    {"25.00", 25000000},
	    {"0.29", 290000},
	    {"0.000001", 1},
	    {"1.5", 1500000},
	    {"00012.10", 12100000},
	    {"9223372036854.775807", INT64_MAX},
	};
	static const struct bad_amount bad[] = {
	    {"", DB_E_INVALID},
	    {".", DB_E_INVALID},
	    {".5", DB_E_INVALID},
	    {"5.", DB_E_INVALID},
	    {"-1", DB_E_INVALID},
	    {"+1", DB_E_INVALID},
	    {"1e3", DB_E_INVALID},
	    {"1.2.3", DB_E_INVALID},
	    {"1,5", DB_E_INVALID},
	    {" 1", DB_E_INVALID},
	    {"1 ", DB_E_INVALID},
	    {"NaN", DB_E_INVALID},
	    {"Inf", DB_E_INVALID},
	    {"0x10", DB_E_INVALID},
	    {"0.0000001", DB_E_INVALID},
	    {"1.-5", DB_E_INVALID},
	    {"9223372036854.775808", DB_E_RANGE},
	    {"9223372036855", DB_E_RANGE},
	    {"18446744073709551616", DB_E_RANGE},
	    {"99999999999999999999999999", DB_E_RANGE},
	};
	ASSERT_READS(price_parse_usd, good, bad);
	int64_t uusd;
	assert_int_equal(price_parse_usd((struct str){"1\0002", 3}, &uusd), DB_E_INVALID);
}

static void numbers_are_read_as_they_stand_and_rounded_half_away(void **state)
{
	(void)state;
	static const struct good_amount good[] = {
	    {"0", 0},
	    {"0.0", 0},
	    {"5", 5000000},
	    {"0.29", 290000},
	    {"0.000001", 1},
	    {"0.0000005", 1},
	    {"0.00000049999999999999999999999999999999999999999999999999999999999999999999999999", 0},
	    {"1.0000015", 1000002},
	    {"1.0000014999999999999999999", 1000001},
	    {"9.9999995", 10000000},
	    {"25e-2", 250000},
	    {"2.5E+1", 25000000},
	    {"0.005e3", 5000000},
	    {"1e-400", 0},
	    {"0e999999999", 0},
	    {"4503599627370.497", 4503599627370497000},
	    {"9223372036854.775807", INT64_MAX},
	};
	static const struct bad_amount bad[] = {
	    {"", DB_E_INVALID},     {"-1", DB_E_INVALID},    {"-0", DB_E_INVALID},
	    {"null", DB_E_INVALID}, {"\"5\"", DB_E_INVALID}, {"1e", DB_E_INVALID},
	    {"1e+", DB_E_INVALID},  {"1.", DB_E_INVALID},    {".5", DB_E_INVALID},
	    {"true", DB_E_INVALID}, {"NaN", DB_E_INVALID},   {"1e9999999999", DB_E_INVALID},
	    {"1e308", DB_E_RANGE},  {"1e13", DB_E_RANGE},    {"9223372036854.7758075", DB_E_RANGE},
	};
	ASSERT_READS(parse_any_number, good, bad);
	int64_t uusd;
	assert_int_equal(price_parse_number(STR("2"), 2000000, &uusd), DB_OK);
	assert_int_equal(price_parse_number(STR("2.000001"), 2000000, &uusd), DB_E_RANGE);
}

static void amounts_are_written_with_six_digits(void **state)
{
	(void)state;
	static const struct {
		int64_t uusd;
		const char *text;
	} rows[] = {
	    {0, "0.000000"},
	    {1, "0.000001"},
	    {-1, "-0.000001"},
	    {25000000, "25.000000"},
	    {-1500000, "-1.500000"},
	    {INT64_MAX, "9223372036854.775807"},
	    {INT64_MIN, "-9223372036854.775808"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[PRICE_USD_SIZE];
		price_format_usd(rows[i].uusd, text);
		assert_string_equal(text, rows[i].text);
		int64_t back;
		if (rows[i].uusd >= 0) {
			assert_int_equal(price_parse_usd(str_of(text), &back), DB_OK);
			assert_true(back == rows[i].uusd);
		}
	}
}

static void prices_per_token_lose_no_digit(void **state)
{
	(void)state;
	static const struct {
		int64_t per_million;
		const char *text;
	} rows[] = {
	    {0, "0"},
	    {1, "0.000000000001"},
	    {50000, "0.00000005"},
	    {200000, "0.0000002"},
	    {1000000000000, "1"},
	    {1500000000000, "1.5"},
	    {10000000000000, "10"},
	    {INT64_MAX, "9223372.036854775807"},
	    {-5, "0"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[PRICE_USD_SIZE];
		price_format_per_token(rows[i].per_million, text);
		assert_string_equal(text, rows[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(costs_follow_the_formula),
	    cmocka_unit_test(cached_tokens_have_a_price_of_their_own),
	    cmocka_unit_test(large_costs_saturate),
	    cmocka_unit_test(payout_and_fee_make_the_cost),
	    cmocka_unit_test(dollars_are_read_as_decimals),
	    cmocka_unit_test(amounts_are_written_with_six_digits),
	    cmocka_unit_test(prices_per_token_lose_no_digit),
	    cmocka_unit_test(numbers_are_read_as_they_stand_and_rounded_half_away),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
