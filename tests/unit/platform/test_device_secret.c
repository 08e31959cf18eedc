/* Where the secret of a device lies, and how it moves: by files, and by a keeper of the test's own in the place of hardware. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/encode.h"
#include "core/id.h"
#include "crypto/aead.h"
#include "crypto/secret.h"
#include "provider/platform/secret_keeper.h"

static char folder[64];

static char *path_of(const char *name)
{
	static char path[256];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

/* --- a keeper in memory, of the same duties as the hardware's --- */

struct double_keeper {
	struct secret_keeper base;
	uint8_t device_key[AEAD_KEY_BYTES];
	uint8_t blob[128];
	size_t blob_len;
	enum db_err wrap_fails, unwrap_fails, save_fails;
	const struct double_keeper *rival; /* saves first */
};

static const uint8_t no_nonce[AEAD_NONCE_BYTES];

static enum db_err double_wrap(struct secret_keeper *base, const uint8_t secret[PLATFORM_SECRET_BYTES], struct buf *blob,
                               struct error *error)
{
	struct double_keeper *keeper = (struct double_keeper *)base;
	uint8_t sealed[PLATFORM_SECRET_BYTES + AEAD_TAG_BYTES];
	if (keeper->wrap_fails)
		return error_set(error, keeper->wrap_fails, "no sealing today");
	aead_seal(keeper->device_key, no_nonce, STR("double"), secret, PLATFORM_SECRET_BYTES, sealed);
	return buf_append(blob, sealed, sizeof sealed);
}

static enum db_err double_unwrap(struct secret_keeper *base, struct str blob, uint8_t secret[PLATFORM_SECRET_BYTES],
                                 struct error *error)
{
	struct double_keeper *keeper = (struct double_keeper *)base;
	if (keeper->unwrap_fails)
		return error_set(error, keeper->unwrap_fails, "the double is busy");
	if (blob.len != PLATFORM_SECRET_BYTES + AEAD_TAG_BYTES ||
	    aead_open(keeper->device_key, no_nonce, STR("double"), (const uint8_t *)blob.at, blob.len, secret))
		return error_set(error, DB_E_CRYPTO, "sealed elsewhere");
	return DB_OK;
}

static enum db_err double_load(struct secret_keeper *base, struct buf *blob, struct error *error)
{
	struct double_keeper *keeper = (struct double_keeper *)base;
	return keeper->blob_len ? buf_append(blob, keeper->blob, keeper->blob_len)
	                        : error_set(error, DB_E_NOT_FOUND, "nothing yet");
}

static enum db_err double_save(struct secret_keeper *base, struct str blob, struct error *error)
{
	struct double_keeper *keeper = (struct double_keeper *)base;
	if (keeper->save_fails)
		return error_set(error, keeper->save_fails, "no room");
	if (keeper->rival) {
		memcpy(keeper->blob, keeper->rival->blob, keeper->rival->blob_len);
		keeper->blob_len = keeper->rival->blob_len;
	}
	if (keeper->blob_len)
		return error_set(error, DB_E_EXISTS, "there is one");
	memcpy(keeper->blob, blob.at, blob.len);
	keeper->blob_len = blob.len;
	return DB_OK;
}

static enum db_err double_discard(struct secret_keeper *base, struct error *error)
{
	(void)error;
	((struct double_keeper *)base)->blob_len = 0;
	return DB_OK;
}

static struct double_keeper double_device(void)
{
	static const struct secret_keeper_ops ops = {.kind = PLATFORM_KEEPER_TPM,
	                                             .wrap = double_wrap,
	                                             .unwrap = double_unwrap,
	                                             .load = double_load,
	                                             .save = double_save,
	                                             .discard = double_discard};
	struct double_keeper keeper = {.base = {.ops = &ops}};
	id_random(keeper.device_key, sizeof keeper.device_key);
	return keeper;
}

/* --- files in the clear --- */

static struct platform_secret *file_secret(const char *state_dir, const char *name, struct error *error)
{
	return platform_secret_open(
	    &(struct platform_secret_options){.state_dir = state_dir, .name = name, .choice = PLATFORM_SECRET_FILE}, error);
}

/* All begin at once, and whoever loses takes the winner's. */
static void the_secret_of_a_device_is_made_once_for_all_processes(void **state)
{
	(void)state;
	enum { PROCESSES = 8 };
	struct error error;
	struct stat info;
	uint8_t secret[PLATFORM_SECRET_BYTES], none[PLATFORM_SECRET_BYTES] = {0};
	int go[2], told[2], status;
	char byte = 0;
	assert_int_equal(pipe(go) | pipe(told), 0);
	for (int i = 0; i < PROCESSES; i++) {
		if (fork() == 0) {
			struct platform_secret *mine = read(go[0], &byte, 1) == 1 ? file_secret(path_of("secrets"), "cache", &error) : NULL;
			bool good = mine && write(told[1], mine->bytes, sizeof mine->bytes) == (ssize_t)sizeof mine->bytes;
			_exit(good ? 0 : 1);
		}
	}
	for (int i = 0; i < PROCESSES; i++)
		assert_int_equal(write(go[1], &byte, 1), 1);
	for (int i = 0; i < PROCESSES; i++) {
		assert_true(wait(&status) > 0);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	struct platform_secret *first = file_secret(path_of("secrets"), "cache", &error);
	assert_non_null(first);
	assert_int_equal(first->kept, PLATFORM_KEEPER_FILE);
	assert_int_equal(first->origin, PLATFORM_SECRET_FOUND);
	assert_false(platform_keeper_is_secure(first->kept));
	assert_memory_not_equal(first->bytes, none, sizeof none);
	for (int i = 0; i < PROCESSES; i++) {
		assert_int_equal(read(told[0], secret, sizeof secret), (ssize_t)sizeof secret);
		assert_memory_equal(secret, first->bytes, sizeof secret);
	}
	assert_int_equal(stat(path_of("secrets/cache"), &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	assert_int_equal(info.st_nlink, 1); /* nothing else is left of it */
	struct platform_secret *another = file_secret(path_of("secrets"), "another", &error);
	assert_non_null(another);
	assert_memory_not_equal(another->bytes, first->bytes, sizeof another->bytes);
	platform_secret_free(another);
	platform_secret_free(first);
	for (int i = 0; i < 2; i++) {
		close(go[i]);
		close(told[i]);
	}
}

static void a_damaged_secret_is_reported_and_kept(void **state)
{
	(void)state;
	struct error error;
	struct buf content;
	assert_int_equal(platform_write_private(path_of("damaged-secret"), STR("not a secret"), &error), DB_OK);
	assert_null(file_secret(folder, "damaged-secret", &error));
	assert_int_equal(error.code, DB_E_INVALID);
	assert_non_null(strstr(error.text, "move it away"));
	buf_init(&content, 4096);
	assert_int_equal(platform_read_file(path_of("damaged-secret"), 1024, &content, &error), DB_OK);
	assert_true(str_is(buf_str(&content), "not a secret"));
	buf_free(&content);
}

static void a_secret_in_memory_leaves_nothing_behind_and_is_another_each_time(void **state)
{
	(void)state;
	struct error error;
	struct platform_secret_options options = {.state_dir = folder, .name = "fleeting", .choice = PLATFORM_SECRET_MEMORY};
	struct platform_secret *one = platform_secret_open(&options, &error), *two = platform_secret_open(&options, &error);
	assert_non_null(one);
	assert_non_null(two);
	assert_int_equal(one->kept, PLATFORM_KEEPER_MEMORY);
	assert_memory_not_equal(one->bytes, two->bytes, sizeof one->bytes);
	assert_int_not_equal(access(path_of("fleeting"), F_OK), 0);
	platform_secret_free(one);
	platform_secret_free(two);
}

#ifndef __APPLE__
static void hardware_that_is_not_there_is_refused_when_demanded_and_else_replaced_by_a_file(void **state)
{
	(void)state;
	static const enum platform_secret_choice demands[] = {PLATFORM_SECRET_SECURE, PLATFORM_SECRET_SECURE_ENCLAVE,
	                                                      PLATFORM_SECRET_TPM};
	struct platform_secret_options options = {.state_dir = folder, .name = "demanded", .tpm = "device:/nonexistent/tpm"};
	struct error error;
	for (size_t i = 0; i < sizeof demands / sizeof *demands; i++) {
		options.choice = demands[i];
		error = (struct error){0};
		assert_null(platform_secret_open(&options, &error));
		assert_int_not_equal(error.code, DB_OK);
		assert_true(error.text[0]);
		assert_int_not_equal(access(path_of("demanded"), F_OK), 0);
	}
	options.choice = PLATFORM_SECRET_AUTO;
	struct platform_secret *secret = platform_secret_open(&options, &error);
	assert_non_null(secret);
	assert_int_equal(secret->kept, PLATFORM_KEEPER_FILE);
	assert_true(secret->why[0]);
	assert_int_equal(access(path_of("demanded"), F_OK), 0);
	platform_secret_free(secret);
}
#endif

/* --- sealed --- */

static void keep(struct double_keeper *device, struct platform_secret *out)
{
	struct error error = {0};
	*out = (struct platform_secret){0};
	if (secret_keep(&device->base, path_of("plain"), out, &error))
		fail_msg("%s", error.text);
}

static void a_sealed_secret_is_made_once_and_found_again(void **state)
{
	(void)state;
	struct double_keeper device = double_device();
	struct platform_secret first, again;
	keep(&device, &first);
	assert_int_equal(first.origin, PLATFORM_SECRET_MADE);
	assert_int_equal(first.kept, PLATFORM_KEEPER_TPM);
	keep(&device, &again);
	assert_int_equal(again.origin, PLATFORM_SECRET_FOUND);
	assert_memory_equal(first.bytes, again.bytes, sizeof first.bytes);
	assert_int_not_equal(access(path_of("plain"), F_OK), 0);
}

static void who_comes_second_takes_the_secret_of_who_came_first(void **state)
{
	(void)state;
	struct double_keeper first = double_device(), second = first;
	struct platform_secret won, lost;
	keep(&first, &won);
	second.rival = &first;
	keep(&second, &lost);
	assert_memory_equal(won.bytes, lost.bytes, sizeof won.bytes);
}

/* Its bytes in the clear are overwritten where they lay, not only unlinked. */
static void a_secret_in_a_file_is_adopted_and_its_file_erased(void **state)
{
	(void)state;
	struct error error;
	struct double_keeper device = double_device();
	struct platform_secret sealed, again;
	struct platform_secret *plain = file_secret(folder, "plain", &error);
	char left[64];
	assert_non_null(plain);
	FILE *same = fopen(path_of("plain"), "r");
	assert_non_null(same);
	setvbuf(same, NULL, _IONBF, 0);
	keep(&device, &sealed);
	assert_int_equal(sealed.origin, PLATFORM_SECRET_ADOPTED);
	assert_memory_equal(sealed.bytes, plain->bytes, sizeof sealed.bytes);
	assert_int_not_equal(access(path_of("plain"), F_OK), 0);
	assert_int_equal(fread(left, 1, sizeof left, same), sizeof left);
	for (size_t i = 0; i < sizeof left; i++)
		assert_int_equal(left[i], 0);
	fclose(same);
	keep(&device, &again);
	assert_int_equal(again.origin, PLATFORM_SECRET_FOUND);
	assert_memory_equal(sealed.bytes, again.bytes, sizeof sealed.bytes);
	platform_secret_free(plain);
}

/* A start that ended between sealing and erasing, and one on which the hardware was away. */
static void what_is_sealed_counts_more_than_a_file_that_was_left(void **state)
{
	(void)state;
	struct error error;
	struct double_keeper device = double_device();
	struct platform_secret sealed, again;
	keep(&device, &sealed);
	platform_secret_free(file_secret(folder, "plain", &error));
	assert_int_equal(access(path_of("plain"), F_OK), 0);
	keep(&device, &again);
	assert_memory_equal(sealed.bytes, again.bytes, sizeof sealed.bytes);
	assert_int_not_equal(access(path_of("plain"), F_OK), 0);
}

static void what_another_device_sealed_or_what_is_torn_gives_way_to_a_new_secret(void **state)
{
	(void)state;
	struct double_keeper device = double_device(), other = double_device();
	struct platform_secret first, moved, again;
	keep(&device, &first);
	memcpy(other.blob, device.blob, sizeof other.blob);
	for (size_t len = device.blob_len; len; len--) {
		other.blob_len = len;
		keep(&other, &moved);
		assert_int_equal(moved.origin, PLATFORM_SECRET_RENEWED);
		assert_string_equal(moved.why, "sealed elsewhere");
		assert_memory_not_equal(moved.bytes, first.bytes, sizeof moved.bytes);
		keep(&other, &again);
		assert_int_equal(again.origin, PLATFORM_SECRET_FOUND);
		assert_memory_equal(moved.bytes, again.bytes, sizeof moved.bytes);
		memcpy(other.blob, device.blob, sizeof other.blob);
	}
}

static void hardware_that_fails_for_now_loses_nothing(void **state)
{
	(void)state;
	struct error error;
	struct double_keeper device = double_device();
	struct platform_secret first, out = {0};
	keep(&device, &first);
	device.unwrap_fails = DB_E_IO;
	assert_int_equal(secret_keep(&device.base, path_of("plain"), &out, &error), DB_E_IO);
	assert_string_equal(error.text, "the double is busy");
	device.unwrap_fails = DB_OK;
	keep(&device, &out);
	assert_memory_equal(first.bytes, out.bytes, sizeof first.bytes);
}

static void a_secret_that_cannot_be_sealed_stays_in_its_file(void **state)
{
	(void)state;
	struct error error;
	struct platform_secret out = {0};
	struct platform_secret *plain = file_secret(folder, "plain", &error);
	assert_non_null(plain);
	for (int step = 0; step < 3; step++) {
		struct double_keeper device = double_device();
		*(step == 0 ? &device.wrap_fails : step == 1 ? &device.save_fails : &device.unwrap_fails) = DB_E_IO;
		assert_int_equal(secret_keep(&device.base, path_of("plain"), &out, &error), DB_E_IO);
		struct platform_secret *still = file_secret(folder, "plain", &error);
		assert_non_null(still);
		assert_memory_equal(still->bytes, plain->bytes, sizeof plain->bytes);
		platform_secret_free(still);
	}
	platform_secret_free(plain);
	assert_int_equal(secret_file_erase(path_of("plain"), &error), DB_OK);
}

int main(void)
{
	snprintf(folder, sizeof folder, "%s/secret-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (crypto_init() || !mkdtemp(folder))
		return 1;
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_secret_of_a_device_is_made_once_for_all_processes),
	    cmocka_unit_test(a_damaged_secret_is_reported_and_kept),
	    cmocka_unit_test(a_secret_in_memory_leaves_nothing_behind_and_is_another_each_time),
#ifndef __APPLE__
	    cmocka_unit_test(hardware_that_is_not_there_is_refused_when_demanded_and_else_replaced_by_a_file),
#endif
	    cmocka_unit_test(a_sealed_secret_is_made_once_and_found_again),
	    cmocka_unit_test(who_comes_second_takes_the_secret_of_who_came_first),
	    cmocka_unit_test(a_secret_in_a_file_is_adopted_and_its_file_erased),
	    cmocka_unit_test(what_is_sealed_counts_more_than_a_file_that_was_left),
	    cmocka_unit_test(what_another_device_sealed_or_what_is_torn_gives_way_to_a_new_secret),
	    cmocka_unit_test(hardware_that_fails_for_now_loses_nothing),
	    cmocka_unit_test(a_secret_that_cannot_be_sealed_stays_in_its_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
