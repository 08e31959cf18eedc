/* Models that are on this machine already: added, found, scanned, verified. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/log.h"
#include "crypto/hash.h"
#include "provider/models/folder.h"

static char top[64], dir[96];

static int open_folder(void **state)
{
	(void)state;
	log_set_level(LOG_ERROR);
	snprintf(top, sizeof top, "/tmp/models-test-XXXXXX");
	assert_non_null(mkdtemp(top));
	snprintf(dir, sizeof dir, "%s/models/below", top);
	return 0;
}

static int close_folder(void **state)
{
	(void)state;
	folder_remove(top);
	return 0;
}

static const char *file_with(const char *name, const char *content)
{
	static char path[256];
	snprintf(path, sizeof path, "%s/%s", top, name);
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	fputs(content, file);
	fclose(file);
	return path;
}

static struct model_entry add(const char *id, const char *path)
{
	struct model_entry entry;
	struct error error = {0};
	if (models_add_file(dir, str_of(id), path, NULL, NULL, NULL, &entry, &error))
		fail_msg("%s", error.text);
	return entry;
}

static void an_added_file_is_linked_found_and_whole(void **state)
{
	struct model_entry found;
	struct error error;
	struct stat info;
	uint8_t digest[SHA256_BYTES];
	char expected[SHA256_HEX_SIZE];
	(void)state;
	struct model_entry entry = add("acme/tiny", file_with("tiny.Q4_1.gguf", "GGUFabc"));
	assert_string_equal(entry.id, "acme/tiny");
	assert_string_equal(entry.quantization, "Q4_1");
	assert_int_equal(entry.size_bytes, 7);
	assert_int_equal(lstat(entry.weights, &info), 0);
	assert_true(S_ISLNK(info.st_mode));
	sha256("GGUFabc", 7, digest);
	sha256_hex(digest, sizeof digest, expected); /* of the one file's digest */
	assert_string_equal(entry.weight_hash, expected);
	assert_int_equal(models_find(dir, STR("acme/tiny"), &found, &error), DB_OK);
	assert_string_equal(found.weight_hash, entry.weight_hash);
	assert_int_equal(models_verify(&found, NULL, NULL, &error), DB_OK);
}

static void adding_again_replaces(void **state)
{
	struct error error;
	(void)state;
	add("tiny", file_with("first.gguf", "GGUF"));
	struct model_entry entry = add("tiny", file_with("second.gguf", "GGUF2"));
	assert_int_equal(entry.size_bytes, 5);
	char old[MODEL_PATH_SIZE + 16];
	snprintf(old, sizeof old, "%s/first.gguf", entry.folder);
	assert_int_not_equal(access(old, F_OK), 0);
	assert_int_equal(models_verify(&entry, NULL, NULL, &error), DB_OK);
	struct model_entry *list;
	size_t count;
	assert_int_equal(models_scan(dir, &list, &count, &error), DB_OK);
	assert_int_equal(count, 1);
	free(list);
}

static void a_template_beside_the_weights_is_linked_hashed_and_named(void **state)
{
	(void)state;
	char weights[256], template[256];
	struct model_entry entry, plain = add("plain", file_with("tiny.gguf", "GGUFabc"));
	struct error error = {0};
	snprintf(weights, sizeof weights, "%s", file_with("tiny.gguf", "GGUFabc"));
	assert_string_equal(plain.chat_template, "");
	for (int i = 0; i < 2; i++) { /* whichever name comes first */
		snprintf(template, sizeof template, "%s", file_with(i ? "a.jinja" : "z.jinja", "{{ messages }}"));
		if (models_add_file(dir, STR("told"), weights, &(struct models_extras){.chat_template = template}, NULL, NULL, &entry,
		                    &error))
			fail_msg("%s", error.text);
		assert_non_null(strstr(entry.chat_template, i ? "/a.jinja" : "/z.jinja"));
		assert_non_null(strstr(entry.weights, "/tiny.gguf"));
		assert_string_not_equal(entry.weight_hash, plain.weight_hash);
		assert_int_equal(models_verify(&entry, NULL, NULL, &error), DB_OK);
	}
	struct model_entry other;
	assert_int_equal(
	    models_add_file(dir, STR("m"), weights, &(struct models_extras){.chat_template = weights}, NULL, NULL, &other, &error),
	    DB_E_INVALID);
	assert_non_null(strstr(error.text, ".jinja"));
	file_with("a.jinja", "{{ messagez }}");
	assert_int_equal(models_verify(&entry, NULL, NULL, &error), DB_E_INVALID);
}

static void a_draft_and_public_prompts_are_found_by_their_roles(void **state)
{
	(void)state;
	char weights[256], draft[256], prompts[256];
	struct model_entry entry;
	struct error error = {0};
	snprintf(weights, sizeof weights, "%s", file_with("tiny.gguf", "GGUFabc"));
	snprintf(prompts, sizeof prompts, "%s", file_with("p.json", "[]"));
	for (int i = 0; i < 2; i++) { /* whichever name comes first, the weights are the weights */
		snprintf(draft, sizeof draft, "%s", file_with(i ? "a.gguf" : "z.gguf", "GGUFd"));
		const struct models_extras extras = {.draft = draft, .public_prompts = prompts};
		if (models_add_file(dir, STR("fast"), weights, &extras, NULL, NULL, &entry, &error))
			fail_msg("%s", error.text);
		assert_non_null(strstr(entry.weights, "/tiny.gguf"));
		assert_non_null(strstr(entry.draft, i ? "/a.gguf" : "/z.gguf"));
		assert_non_null(strstr(entry.public_prompts, "/p.json"));
		assert_int_equal(entry.size_bytes, 7 + 5 + 2); /* what a load is forecast by */
		assert_int_equal(models_verify(&entry, NULL, NULL, &error), DB_OK);
	}
	const struct models_extras same = {.draft = weights};
	assert_int_equal(models_add_file(dir, STR("m"), weights, &same, NULL, NULL, &entry, &error), DB_E_INVALID);
	const struct models_extras text = {.draft = file_with("t.gguf", "text")};
	assert_int_equal(models_add_file(dir, STR("m"), weights, &text, NULL, NULL, &entry, &error), DB_E_INVALID);
}

static void a_changed_file_does_not_verify(void **state)
{
	struct error error;
	(void)state;
	struct model_entry entry = add("tiny", file_with("tiny.gguf", "GGUFabc"));
	file_with("tiny.gguf", "GGUFabZ");
	assert_int_equal(models_verify(&entry, NULL, NULL, &error), DB_E_INVALID);
	assert_non_null(strstr(error.text, "tiny.gguf"));
	file_with("tiny.gguf", "GGUFabc and more");
	assert_int_equal(models_verify(&entry, NULL, NULL, &error), DB_E_INVALID);
	unlink(file_with("tiny.gguf", ""));
	assert_int_equal(models_verify(&entry, NULL, NULL, &error), DB_E_IO);
}

static bool stop_at_once(uint64_t done_bytes, uint64_t total_bytes, void *user)
{
	(void)user;
	assert_true(done_bytes <= total_bytes);
	return false;
}

static void hashing_can_be_stopped(void **state)
{
	struct error error;
	struct model_entry entry;
	(void)state;
	const char *path = file_with("tiny.gguf", "GGUFabc");
	assert_int_equal(models_add_file(dir, STR("tiny"), path, NULL, stop_at_once, NULL, &entry, &error), DB_E_CLOSED);
	assert_int_equal(models_find(dir, STR("tiny"), &entry, &error), DB_E_NOT_FOUND);
}

static void refuses_what_is_no_gguf_file(void **state)
{
	struct error error;
	struct model_entry entry;
	(void)state;
	assert_int_equal(models_add_file(dir, STR("m"), "/nonexistent/x.gguf", NULL, NULL, NULL, &entry, &error), DB_E_NOT_FOUND);
	assert_int_equal(models_add_file(dir, STR("m"), top, NULL, NULL, NULL, &entry, &error), DB_E_NOT_FOUND);
	assert_int_equal(models_add_file(dir, STR("m"), file_with("x.bin", "x"), NULL, NULL, NULL, &entry, &error), DB_E_INVALID);
	assert_int_equal(models_add_file(dir, STR("m"), file_with(".x.gguf", "x"), NULL, NULL, NULL, &entry, &error), DB_E_INVALID);
	assert_int_equal(models_add_file(dir, STR("m"), file_with("x.gguf", "a text"), NULL, NULL, NULL, &entry, &error),
	                 DB_E_INVALID);
	assert_int_equal(models_add_file(dir, STR("m"), file_with("x.gguf", "GG"), NULL, NULL, NULL, &entry, &error), DB_E_INVALID);
}

static void ids_that_could_leave_the_folder_or_share_one_are_refused(void **state)
{
	static const char *const bad[] = {"",     ".",   "..",   "../x", "/x",   "x/",   "-x", "x-",        "a//b", "a--b", "a-/b",
	                                  "a/-b", "a b", "a\\b", "a\nb", "\xc3", "a\"b", "a*", ".hidden/x", "a/b/", "-"};
	static const char *const good[] = {"a", "a/b", "a/b/c", "A.b_c:d-e", "org/name-7B.Q4_K_M", "a/.b", "a/..b"};
	char out[MODEL_PATH_SIZE];
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (folder_path("/m", str_of(bad[i]), out, NULL) != DB_E_INVALID)
			fail_msg("accepted \"%s\"", bad[i]);
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(folder_path("/m", str_of(good[i]), out, NULL), DB_OK);
		assert_null(strchr(out + 3, '/'));
	}
	assert_int_equal(folder_path("/m", STR("a/b"), out, NULL), DB_OK);
	assert_string_equal(out, "/m/a--b");
	char long_id[MODEL_ID_SIZE + 1], long_dir[MODEL_PATH_SIZE];
	memset(long_id, 'x', sizeof long_id);
	assert_int_equal(folder_path("/m", (struct str){long_id, MODEL_ID_SIZE}, out, NULL), DB_E_INVALID);
	memset(long_dir, 'x', sizeof long_dir);
	long_dir[sizeof long_dir - 1] = '\0';
	assert_int_equal(folder_path(long_dir, STR("a"), out, NULL), DB_E_LIMIT);
}

static void a_scan_lists_by_id_and_skips_what_is_damaged(void **state)
{
	struct model_entry *list;
	struct error error;
	size_t count;
	char path[256];
	(void)state;
	assert_int_equal(models_scan(dir, &list, &count, &error), DB_OK); /* there is no folder yet */
	assert_int_equal(count, 0);
	free(list);
	for (int i = 0; i < 40; i++) {
		char id[32];
		snprintf(id, sizeof id, "m/%02d", 39 - i);
		add(id, file_with("tiny.gguf", "GGUFabc"));
	}
	snprintf(path, sizeof path, "%s/m--05/manifest.json", dir);
	FILE *file = fopen(path, "wb");
	fputs("{\"schema_version\":1", file);
	fclose(file);
	snprintf(path, sizeof path, "%s/empty", dir);
	assert_int_equal(mkdir(path, 0755), 0);
	snprintf(path, sizeof path, "%s/plain-file", dir);
	fclose(fopen(path, "wb"));
	char from[256];
	snprintf(from, sizeof from, "%s/m--07", dir);
	snprintf(path, sizeof path, "%s/renamed", dir);
	assert_int_equal(rename(from, path), 0); /* its manifest says m/07 */
	log_set_level(LOG_ERROR);
	assert_int_equal(models_scan(dir, &list, &count, &error), DB_OK);
	assert_int_equal(count, 38);
	for (size_t i = 1; i < count; i++)
		assert_true(strcmp(list[i - 1].id, list[i].id) < 0);
	free(list);
}

static void a_model_that_is_not_there_is_named(void **state)
{
	struct model_entry entry;
	struct error error;
	(void)state;
	assert_int_equal(models_find(dir, STR("acme/none"), &entry, &error), DB_E_NOT_FOUND);
	assert_non_null(strstr(error.text, "acme/none"));
	assert_int_equal(models_find(dir, STR("../x"), &entry, &error), DB_E_INVALID);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_folder, close_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(an_added_file_is_linked_found_and_whole),
	    TEST(adding_again_replaces),
	    TEST(a_template_beside_the_weights_is_linked_hashed_and_named),
	    TEST(a_draft_and_public_prompts_are_found_by_their_roles),
	    TEST(a_changed_file_does_not_verify),
	    TEST(hashing_can_be_stopped),
	    TEST(refuses_what_is_no_gguf_file),
	    TEST(ids_that_could_leave_the_folder_or_share_one_are_refused),
	    TEST(a_scan_lists_by_id_and_skips_what_is_damaged),
	    TEST(a_model_that_is_not_there_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
