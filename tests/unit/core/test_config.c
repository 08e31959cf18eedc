#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <unistd.h>

#include "core/config.h"

struct settings {
	int64_t port;
	const char *host;
	const char *absent;
	const char *token;
	bool tls;
	int floor;
	struct config_strings backends;
	int64_t top;
};

static const char *const floors[] = {"none", "self_signed", "hardware", NULL};

static const struct config_field fields[] = {
    {.name = "top",
     .type = CONFIG_INT,
     .offset = offsetof(struct settings, top),
     .fallback = "-5",
     .min = -10,
     .max = 10,
     .help = "A top-level number."},
    {.name = "server.port",
     .env = "TEST_PORT",
     .type = CONFIG_INT,
     .offset = offsetof(struct settings, port),
     .fallback = "8080",
     .min = 1,
     .max = 65535,
     .help = "Port to listen on."},
    {.name = "server.host",
     .env = "TEST_HOST",
     .type = CONFIG_STRING,
     .offset = offsetof(struct settings, host),
     .fallback = "127.0.0.1",
     .help = "Address | name to listen on."},
    {.name = "server.absent", .type = CONFIG_STRING, .offset = offsetof(struct settings, absent), .help = "Has no default."},
    {.name = "server.tls.on",
     .env = "TEST_TLS",
     .type = CONFIG_BOOL,
     .offset = offsetof(struct settings, tls),
     .fallback = "false",
     .help = "Whether to use TLS."},
    {.name = "trust.floor",
     .env = "TEST_FLOOR",
     .type = CONFIG_ENUM,
     .offset = offsetof(struct settings, floor),
     .fallback = "self_signed",
     .choices = floors,
     .help = "Least trust."},
    {.name = "trust.backends",
     .env = "TEST_BACKENDS",
     .type = CONFIG_STRINGS,
     .offset = offsetof(struct settings, backends),
     .fallback = "a, b",
     .help = "Accepted back ends."},
    {.name = "secrets.token",
     .env = "TEST_TOKEN",
     .type = CONFIG_STRING,
     .offset = offsetof(struct settings, token),
     .fallback = "hunter2",
     .help = "A secret.",
     .secret = true},
};
#define FIELD_COUNT (sizeof fields / sizeof fields[0])

static struct arena *arena;
static char path[64];
static struct error error;

static int setup(void **state)
{
	(void)state;
	static const char *const names[] = {"TEST_PORT", "TEST_HOST", "TEST_TLS", "TEST_FLOOR", "TEST_BACKENDS", "TEST_TOKEN"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		unsetenv(names[i]);
	(void)snprintf(path, sizeof path, "test_config_%d.toml", (int)getpid());
	arena = arena_new(0);
	error = (struct error){0};
	return arena ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	arena_free(arena);
	(void)remove(path);
	return 0;
}

static enum db_err load_text(const char *text, struct settings *out)
{
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	memset(out, 0, sizeof *out);
	return config_load(fields, FIELD_COUNT, out, path, arena, &error);
}

static struct settings load_good(const char *text)
{
	struct settings settings;
	if (load_text(text, &settings))
		fail_msg("%s", error.text);
	return settings;
}

static void assert_refused(const char *text, enum db_err code, const char *sentence)
{
	struct settings settings;
	assert_int_equal(load_text(text, &settings), code);
	if (!strstr(error.text, sentence))
		fail_msg("\"%s\" does not say \"%s\"", error.text, sentence);
}

static void test_defaults(void **state)
{
	(void)state;
	struct settings settings = {0};
	assert_int_equal(config_load(fields, FIELD_COUNT, &settings, NULL, arena, &error), DB_OK);
	assert_int_equal(settings.port, 8080);
	assert_int_equal(settings.top, -5);
	assert_string_equal(settings.host, "127.0.0.1");
	assert_null(settings.absent);
	assert_false(settings.tls);
	assert_int_equal(settings.floor, 1);
	assert_int_equal(settings.backends.count, 2);
	assert_string_equal(settings.backends.at[0], "a");
	assert_string_equal(settings.backends.at[1], "b");
}

static void test_the_file_overrides_defaults_and_the_environment_the_file(void **state)
{
	(void)state;
	const char text[] = "top = 3\n[server]\nport = 9000\nhost = \"::1\"\ntls.on = true\n[trust]\nfloor = "
	                    "\"hardware\"\nbackends = [\"x\", \"y,z\", '']\n";
	struct settings settings = load_good(text);
	assert_int_equal(settings.top, 3);
	assert_int_equal(settings.port, 9000);
	assert_string_equal(settings.host, "::1");
	assert_true(settings.tls);
	assert_int_equal(settings.floor, 2);
	assert_int_equal(settings.backends.count, 3);
	assert_string_equal(settings.backends.at[1], "y,z");
	setenv("TEST_PORT", "77", 1);
	setenv("TEST_HOST", "", 1); /* empty counts as not set */
	setenv("TEST_TLS", "0", 1);
	setenv("TEST_FLOOR", "none", 1);
	setenv("TEST_BACKENDS", " p ,q", 1);
	settings = load_good(text);
	assert_int_equal(settings.port, 77);
	assert_string_equal(settings.host, "::1");
	assert_false(settings.tls);
	assert_int_equal(settings.floor, 0);
	assert_int_equal(settings.backends.count, 2);
	assert_string_equal(settings.backends.at[0], "p");
	assert_string_equal(settings.backends.at[1], "q");
}

static void test_empty_lists_and_texts_are_values(void **state)
{
	(void)state;
	struct settings settings = load_good("[server]\nhost = ''\n[trust]\nbackends = []\n");
	assert_string_equal(settings.host, "");
	assert_int_equal(settings.backends.count, 0);
}

static void test_unknown_names_are_refused_with_a_hint(void **state)
{
	(void)state;
	char where[256];
	(void)snprintf(where, sizeof where, "%s: line 3: `server.prot` is not a known setting. Did you mean `server.port`?", path);
	assert_refused("\n[server]\nprot = 1\n", DB_E_INVALID, where);
	assert_refused("[srever]\nport = 1\n", DB_E_INVALID, "line 1: `srever` is not a known setting. Did you mean `server`?");
	assert_refused("completely-different = 1\n", DB_E_INVALID, "`completely-different` is not a known setting.");
	assert_refused("[server.port]\n", DB_E_RANGE, "`server.port` must be a whole number");
	assert_refused("server = 1\n", DB_E_INVALID, "`server` is not a known setting.");
	assert_refused("[server.tls.on.x]\n", DB_E_INVALID, "`server.tls.on` must be true or false");
}

static void test_wrong_types_are_refused(void **state)
{
	(void)state;
	assert_refused("[server]\nport = \"80\"\n", DB_E_RANGE, "line 2: `server.port` must be a whole number from 1 to 65535.");
	assert_refused("[server]\nport = 80.0\n", DB_E_RANGE, "must be a whole number");
	assert_refused("[server]\nhost = 5\n", DB_E_INVALID, "`server.host` must be a text.");
	assert_refused("[server]\ntls.on = \"true\"\n", DB_E_INVALID, "`server.tls.on` must be true or false.");
	assert_refused("[trust]\nfloor = 1\n", DB_E_INVALID,
	               "`trust.floor` must be one of \"none\", \"self_signed\", \"hardware\".");
	assert_refused("[trust]\nfloor = \"Hardware\"\n", DB_E_INVALID, "must be one of");
	assert_refused("[trust]\nbackends = \"a\"\n", DB_E_INVALID, "`trust.backends` must be a list of texts.");
	assert_refused("[trust]\nbackends = [\"a\", 1]\n", DB_E_INVALID, "must be a list of texts.");
	assert_refused("[server]\nhost = \"a\\u0000b\"\n", DB_E_INVALID, "NUL");
	assert_refused("[trust]\nbackends = [\"a\\u0000b\"]\n", DB_E_INVALID, "must be a list of texts.");
}

static void test_ranges_are_enforced_to_the_last_value(void **state)
{
	(void)state;
	assert_int_equal(load_good("[server]\nport = 1\n").port, 1);
	assert_int_equal(load_good("[server]\nport = 65535\n").port, 65535);
	assert_refused("[server]\nport = 0\n", DB_E_RANGE, "from 1 to 65535");
	assert_refused("[server]\nport = 65536\n", DB_E_RANGE, "from 1 to 65535");
	assert_refused("top = -11\n", DB_E_RANGE, "from -10 to 10");
}

static void test_bad_environment_values_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *name, *value, *sentence;
	} cases[] = {
	    {"TEST_PORT", "abc", "Environment variable TEST_PORT: `server.port` must be a whole number from 1 to 65535."},
	    {"TEST_PORT", "65536", "Environment variable TEST_PORT: "},
	    {"TEST_PORT", " 80", "Environment variable TEST_PORT: "},
	    {"TEST_TLS", "yes", "Environment variable TEST_TLS: `server.tls.on` must be true or false."},
	    {"TEST_FLOOR", "low", "Environment variable TEST_FLOOR: `trust.floor` must be one of"},
	    {"TEST_BACKENDS", "a,,b", "Environment variable TEST_BACKENDS: `trust.backends` has an empty item"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		setenv(cases[i].name, cases[i].value, 1);
		assert_refused("", i < 3 ? DB_E_RANGE : DB_E_INVALID, cases[i].sentence);
		unsetenv(cases[i].name);
	}
}

static void test_syntax_errors_name_file_and_line(void **state)
{
	(void)state;
	char where[256];
	(void)snprintf(where, sizeof where, "%s: line 2: ", path);
	assert_refused("[server]\nport 1\n", DB_E_INVALID, where);
}

static void test_a_missing_or_unreadable_file_is_an_error(void **state)
{
	(void)state;
	struct settings settings;
	assert_int_equal(config_load(fields, FIELD_COUNT, &settings, "no/such/file.toml", arena, &error), DB_E_NOT_FOUND);
	assert_non_null(strstr(error.text, "no/such/file.toml"));
	assert_int_equal(config_load(fields, FIELD_COUNT, &settings, ".", arena, &error), DB_E_IO);
	assert_int_equal(config_load(fields, FIELD_COUNT, &settings, "no/such/file.toml", arena, NULL), DB_E_NOT_FOUND);
}

static void test_a_huge_file_is_refused(void **state)
{
	(void)state;
	static char text[2u << 20];
	struct settings settings;
	memset(text, '#', sizeof text - 1);
	assert_int_equal(load_text(text, &settings), DB_E_LIMIT);
}

static void test_a_small_arena_ends_in_no_memory(void **state)
{
	(void)state;
	struct settings settings;
	assert_int_equal(config_load(fields, FIELD_COUNT, &settings, NULL, arena, &error), DB_OK);
	size_t needed = arena_used(arena);
	for (size_t limit = 16; limit <= needed; limit += 16) {
		struct arena *small = arena_new(limit);
		enum db_err err = config_load(fields, FIELD_COUNT, &settings, NULL, small, &error);
		assert_int_equal(err, limit < needed ? DB_E_NOMEM : DB_OK);
		arena_free(small);
	}
}

static void test_the_reference_shows_every_field_but_no_secret(void **state)
{
	(void)state;
	struct buf out;
	buf_init(&out, 1u << 16);
	config_document(fields, FIELD_COUNT, &out);
	buf_append_byte(&out, '\0');
	assert_false(out.failed);
	static const char *const lines[] = {
	    "| `top` | a whole number from -10 to 10 | `-5` | | A top-level number. |\n",
	    "## [server]\n",
	    "| `port` | a whole number from 1 to 65535 | `8080` | `TEST_PORT` | Port to listen on. |\n",
	    "Address \\| name to listen on.",
	    "## [server.tls]\n",
	    "| `on` | true or false | `false` | `TEST_TLS` | Whether to use TLS. |\n",
	    "| `floor` | one of \"none\", \"self_signed\", \"hardware\" | `self_signed` | `TEST_FLOOR` | Least trust. |\n",
	    "| `backends` | a list of texts | `a, b` | `TEST_BACKENDS` | Accepted back ends. |\n",
	    "| `token` | a text, secret | | `TEST_TOKEN` | A secret. |\n",
	};
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		if (!strstr(out.at, lines[i]))
			fail_msg("the reference lacks %s:\n%s", lines[i], out.at);
	assert_null(strstr(out.at, "hunter2"));
	buf_free(&out);
}

static void test_a_secret_value_is_in_no_sentence(void **state)
{
	(void)state;
	struct settings settings;
	assert_int_equal(load_text("[secrets]\ntoken = [\"topsecretvalue\"]\n", &settings), DB_E_INVALID);
	assert_null(strstr(error.text, "topsecretvalue"));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_defaults),
	    TEST(test_the_file_overrides_defaults_and_the_environment_the_file),
	    TEST(test_empty_lists_and_texts_are_values),
	    TEST(test_unknown_names_are_refused_with_a_hint),
	    TEST(test_wrong_types_are_refused),
	    TEST(test_ranges_are_enforced_to_the_last_value),
	    TEST(test_bad_environment_values_are_refused),
	    TEST(test_syntax_errors_name_file_and_line),
	    TEST(test_a_missing_or_unreadable_file_is_an_error),
	    TEST(test_a_huge_file_is_refused),
	    TEST(test_a_small_arena_ends_in_no_memory),
	    TEST(test_the_reference_shows_every_field_but_no_secret),
	    TEST(test_a_secret_value_is_in_no_sentence),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
