/* The coordinator's settings: defaults that start, sentences that help, and a reference that is true. */
#include "coordinator/config.h"
#include "coordinator/routing/routing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static int clear_environment(void **state)
{
	(void)state;
	static const char *const names[] = {"DARKBLOOM_PORT",      "DARKBLOOM_DATA_DIR", "DARKBLOOM_DATABASE",
	                                    "DARKBLOOM_MIN_TRUST", "DARKBLOOM_HOST",     "DARKBLOOM_FIRST_GRANT_USD",
	                                    "DARKBLOOM_TLS_CERT",  "XDG_DATA_HOME"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		unsetenv(names[i]);
	return setenv("HOME", "/home/somebody", 1);
}

static enum db_err load(struct coordinator_config *config, const char *file_text, struct arena *arena, struct error *error)
{
	char path[] = "darkbloom-config.XXXXXX";
	if (!file_text)
		return coordinator_config_load(config, NULL, arena, error);
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, file_text, strlen(file_text)), strlen(file_text));
	close(fd);
	enum db_err err = coordinator_config_load(config, path, arena, error);
	unlink(path);
	return err;
}

static void without_a_file_everything_has_a_default(void **state)
{
	(void)state;
	struct coordinator_config config;
	struct error error;
	struct arena *arena = arena_new(0);
	assert_int_equal(load(&config, NULL, arena, &error), DB_OK);
	assert_string_equal(config.host, "127.0.0.1");
	assert_int_equal(config.port, 8080);
	assert_string_equal(config.dir, "/home/somebody/.local/share/darkbloom/coordinator");
	assert_string_equal(config.database, "/home/somebody/.local/share/darkbloom/coordinator/coordinator.db");
	assert_int_equal(config.min_trust, ROUTE_TRUST_SELF_SIGNED);
	assert_int_equal(config.first_grant_uusd, 10000000);
	assert_int_equal(config.input_price, 50000);
	assert_int_equal(config.output_price, 200000);
	assert_int_equal(config.fee_percent, 0);
	assert_true(config.backends.count >= 2);
	assert_string_equal(config.backends.at[0], "mlx-swift");
	assert_string_equal(config.backends.at[1], "inprocess-mlx");
	setenv("XDG_DATA_HOME", "/data", 1);
	assert_int_equal(load(&config, NULL, arena, &error), DB_OK);
	assert_string_equal(config.dir, "/data/darkbloom/coordinator");
	arena_free(arena);
}

static void the_environment_overrides_the_file(void **state)
{
	(void)state;
	struct coordinator_config config;
	struct error error;
	struct arena *arena = arena_new(0);
	setenv("DARKBLOOM_PORT", "9001", 1);
	assert_int_equal(load(&config,
	                      "[server]\nport = 9000\nhost = \"::1\"\n[data]\ndir = \"/d\"\n[trust]\nmin_trust = \"hardware\"\n"
	                      "backends = [\"x\"]\n[accounts]\nfirst_grant_usd = \"2.50\"\n",
	                      arena, &error),
	                 DB_OK);
	assert_int_equal(config.port, 9001);
	assert_string_equal(config.host, "::1");
	assert_string_equal(config.database, "/d/coordinator.db");
	assert_int_equal(config.min_trust, ROUTE_TRUST_HARDWARE);
	assert_int_equal(config.backends.count, 1);
	assert_int_equal(config.first_grant_uusd, 2500000);
	arena_free(arena);
}

static void mistakes_are_named(void **state)
{
	(void)state;
	static const struct {
		const char *text, *says;
	} cases[] = {
	    {"[server]\nprot = 1\n", "server.port"},     {"[server]\nport = 70000\n", "server.port"},
	    {"[server]\ntls_cert = \"a\"\n", "tls_key"}, {"[accounts]\nfirst_grant_usd = \"much\"\n", "first_grant_usd"},
	    {"[trust]\nbackends = []\n", "backends"},    {"[trust]\nmin_trust = \"some\"\n", "self_signed"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct coordinator_config config;
		struct error error;
		struct arena *arena = arena_new(0);
		assert_int_not_equal(load(&config, cases[i].text, arena, &error), DB_OK);
		if (!strstr(error.text, cases[i].says))
			print_error("%s\n", error.text);
		assert_non_null(strstr(error.text, cases[i].says));
		arena_free(arena);
	}
}

static void the_reference_is_what_the_program_prints(void **state)
{
	(void)state;
	struct buf out;
	char *page = calloc(1, 1 << 20);
	buf_init(&out, 1 << 20);
	coordinator_config_document(&out);
	FILE *file = fopen(TEST_SOURCE_DIR "/docs/operator/configuration.md", "r");
	assert_non_null(file);
	size_t len = fread(page, 1, 1 << 20, file);
	fclose(file);
	assert_true(str_eq((struct str){page, len}, buf_str(&out)));
	free(page);
	buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(without_a_file_everything_has_a_default, clear_environment),
	    cmocka_unit_test_setup(the_environment_overrides_the_file, clear_environment),
	    cmocka_unit_test_setup(mistakes_are_named, clear_environment),
	    cmocka_unit_test_setup(the_reference_is_what_the_program_prints, clear_environment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
