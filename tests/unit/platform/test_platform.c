#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/encode.h"
#include "crypto/p256.h"
#include "provider/platform/platform.h"

static char folder[64];

static char *path_of(const char *name)
{
	static char path[256];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void chip_names_give_family_tier_and_bandwidth(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		int64_t gpu_cores;
		const char *family, *tier;
		double bandwidth;
	} cases[] = {
	    {"Apple M1", 8, "M1", "Base", 68},           {"Apple M2 Pro", 19, "M2", "Pro", 200},
	    {"Apple M3 Max", 30, "M3", "Max", 300},      {"Apple M3 Max", 40, "M3", "Max", 400},
	    {"Apple M4 Max", 32, "M4", "Max", 410},      {"Apple M4 Max", 40, "M4", "Max", 546},
	    {"Apple M2 Ultra", 76, "M2", "Ultra", 800},  {"apple m5 pro", 20, "M5", "Pro", 307},
	    {"Apple A18", 6, "Unknown", "Unknown", 100}, {"AMD Ryzen 9 Pro", 0, "Unknown", "Unknown", 100},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct platform_hardware facts = {0};
		platform_chip_facts(str_of(cases[i].name), cases[i].gpu_cores, &facts);
		assert_string_equal(facts.chip_family, cases[i].family);
		assert_string_equal(facts.chip_tier, cases[i].tier);
		assert_true(facts.memory_bandwidth_gbs == cases[i].bandwidth);
	}
}

static void this_machine_has_memory_and_processors(void **state)
{
	(void)state;
	struct platform_hardware facts;
	platform_hardware(&facts);
	assert_true(facts.memory_gb >= 1);
	assert_true(facts.memory_available_gb > 0 && facts.memory_available_gb <= (double)facts.memory_gb + 1);
	assert_true(facts.cpu_total >= 1);
	assert_true(facts.chip_name[0]);
	struct platform_metrics metrics;
	platform_metrics(&metrics);
	assert_true(metrics.memory_pressure >= 0 && metrics.memory_pressure <= 1);
	assert_true(metrics.cpu_usage >= 0 && metrics.cpu_usage <= 1);
}

static void private_files_are_readable_by_their_owner_only(void **state)
{
	(void)state;
	struct error error;
	struct stat info;
	struct buf content;
	umask(0);
	assert_int_equal(platform_write_private(path_of("deep/down/secret"), STR("first"), &error), DB_OK);
	assert_int_equal(platform_write_private(path_of("deep/down/secret"), STR("second"), &error), DB_OK);
	assert_int_equal(stat(path_of("deep/down/secret"), &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	assert_int_equal(stat(path_of("deep"), &info), 0);
	assert_int_equal(info.st_mode & 0777, 0700);
	buf_init(&content, 1 << 16);
	assert_int_equal(platform_read_file(path_of("deep/down/secret"), 1024, &content, &error), DB_OK);
	assert_true(str_is(buf_str(&content), "second"));
	buf_clear(&content);
	assert_int_equal(platform_read_file(path_of("deep/down/secret"), 3, &content, &error), DB_E_LIMIT);
	assert_int_equal(platform_read_file(path_of("absent"), 3, &content, &error), DB_E_NOT_FOUND);
	buf_free(&content);
}

static void the_signing_key_survives_a_restart_and_its_signatures_verify(void **state)
{
	(void)state;
	struct error error;
	uint8_t first[64], second[64];
	struct platform_signer *signer = platform_signer_open(folder, &error);
	assert_non_null(signer);
	platform_signer_public(signer, first);
	assert_false(platform_signer_is_hardware(signer));
	struct buf signature;
	buf_init(&signature, 256);
	assert_int_equal(platform_sign(signer, STR("message"), &signature), DB_OK);
	platform_signer_free(signer);

	signer = platform_signer_open(folder, &error);
	assert_non_null(signer);
	platform_signer_public(signer, second);
	assert_memory_equal(first, second, 64);
	platform_signer_free(signer);

	char public_b64[BASE64_ENCODED_LEN(64)];
	struct str key = {public_b64, base64_encode(first, 64, public_b64)};
	assert_int_equal(p256_verify_base64(key, STR("message"), buf_str(&signature)), DB_OK);
	assert_int_not_equal(p256_verify_base64(key, STR("massage"), buf_str(&signature)), DB_OK);
	buf_free(&signature);
}

static void a_damaged_signing_key_is_reported_and_kept(void **state)
{
	(void)state;
	struct error error;
	char damaged[128];
	snprintf(damaged, sizeof damaged, "%s/damaged", folder);
	assert_int_equal(platform_write_private(path_of("damaged/signing_key"), STR("not a key"), &error), DB_OK);
	assert_null(platform_signer_open(damaged, &error));
	assert_int_equal(error.code, DB_E_INVALID);
	struct buf content;
	buf_init(&content, 64 << 10);
	assert_int_equal(platform_read_file(path_of("damaged/signing_key"), 100, &content, &error), DB_OK);
	assert_true(str_is(buf_str(&content), "not a key"));
	buf_free(&content);
}

static void linux_never_claims_apple_protections(void **state)
{
	(void)state;
	struct platform_posture posture;
	platform_posture(&posture);
	assert_string_equal(posture.platform, "linux");
	assert_false(posture.sip_enabled);
	assert_false(posture.secure_enclave_available);
}

static void the_executable_hash_is_a_sha256(void **state)
{
	(void)state;
	struct error error;
	char first[65], second[65];
	assert_int_equal(platform_self_hash(first, &error), DB_OK);
	assert_int_equal(platform_self_hash(second, &error), DB_OK);
	assert_int_equal(strspn(first, "0123456789abcdef"), 64);
	assert_string_equal(first, second);
}

/* In a process of its own: hardening cannot be undone. Exit status 0 when every promise holds. */
static int hardened_child(char **argv)
{
	struct error error = {0};
	if (platform_harden(argv, &error)) {
		fprintf(stderr, "%s\n", error.text);
		return 10;
	}
	struct rlimit core;
	if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0 || core.rlim_max != 0)
		return 11;
	if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return 12;
	if (getenv("LD_LIBRARY_PATH") || getenv("GLIBC_TUNABLES"))
		return 13;
	struct platform_posture posture;
	platform_posture(&posture);
	return posture.anti_debug_enabled && posture.core_dumps_disabled && posture.env_scrubbed ? 0 : 14;
}

static void hardening_closes_the_process_and_cleans_its_environment(void **state)
{
	(void)state;
	pid_t child = fork();
	if (child == 0) {
		setenv("LD_LIBRARY_PATH", "/nowhere", 1);
		setenv("GLIBC_TUNABLES", "glibc.malloc.check=0", 1);
		execl("/proc/self/exe", "unit_platform_test_platform", "--hardened-child", (char *)NULL);
		_exit(99);
	}
	int status = 0;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--hardened-child") == 0)
		return hardened_child(argv);
	snprintf(folder, sizeof folder, "%s/platform-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(folder))
		return 1;
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(chip_names_give_family_tier_and_bandwidth),
	    cmocka_unit_test(this_machine_has_memory_and_processors),
	    cmocka_unit_test(private_files_are_readable_by_their_owner_only),
	    cmocka_unit_test(the_signing_key_survives_a_restart_and_its_signatures_verify),
	    cmocka_unit_test(a_damaged_signing_key_is_reported_and_kept),
	    cmocka_unit_test(linux_never_claims_apple_protections),
	    cmocka_unit_test(the_executable_hash_is_a_sha256),
	    cmocka_unit_test(hardening_closes_the_process_and_cleans_its_environment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
