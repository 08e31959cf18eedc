#include "../vectors.h"

#include "provider/models/manifest.h"

#define HASH_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
/* SHA-256 of 32 bytes 0xaa */
#define AGGREGATE_A "e0e77a507412b120f6ede61f62295b1a7b2ff19d3dcc8f7253e51663470c888e"

static struct str text_of(const json_val *value, struct buf *out)
{
	struct json_writer w;
	buf_init(out, 1 << 20);
	json_writer_init(&w, out);
	json_value(&w, value);
	return buf_str(out);
}

static void agrees_with_hashlib_on_the_aggregate(void **state)
{
	struct json_doc *doc = vectors_load("manifest_vectors.json");
	struct json_iter each = json_iter(json_root(doc));
	(void)state;
	for (const json_val *vector; (vector = json_next(&each, NULL));) {
		struct buf text;
		struct manifest manifest;
		struct error error = {0};
		struct str expected;
		struct arena *arena = arena_new(0);
		assert_int_equal(manifest_parse(text_of(vector, &text), arena, &manifest, &error), DB_OK);
		assert_true(json_as_str(json_get(vector, "aggregate_sha256"), &expected));
		assert_true(str_is(expected, manifest.aggregate_sha256));
		assert_int_equal(manifest.file_count, json_len(json_get(vector, "files")));
		for (size_t i = 1; i < manifest.file_count; i++)
			assert_true(memcmp(manifest.files[i - 1].path.at, manifest.files[i].path.at,
			                   manifest.files[i].path.len < manifest.files[i - 1].path.len
			                       ? manifest.files[i].path.len
			                       : manifest.files[i - 1].path.len) <= 0);
		arena_free(arena);
		buf_free(&text);
	}
	json_free(doc);
}

static void what_it_writes_it_reads_again(void **state)
{
	struct json_doc *doc = vectors_load("manifest_vectors.json");
	struct json_iter each = json_iter(json_root(doc));
	(void)state;
	for (const json_val *vector; (vector = json_next(&each, NULL));) {
		struct buf text, again;
		struct manifest first, second;
		struct arena *arena = arena_new(0);
		buf_init(&again, 1 << 20);
		assert_int_equal(manifest_parse(text_of(vector, &text), arena, &first, NULL), DB_OK);
		assert_int_equal(manifest_write(&first, &again), DB_OK);
		assert_int_equal(manifest_parse(buf_str(&again), arena, &second, NULL), DB_OK);
		assert_string_equal(first.aggregate_sha256, second.aggregate_sha256);
		assert_true(str_eq(first.model_id, second.model_id));
		assert_true(str_eq(first.created_at, second.created_at));
		assert_int_equal(first.file_count, second.file_count);
		for (size_t i = 0; i < first.file_count; i++) {
			assert_true(str_eq(first.files[i].path, second.files[i].path));
			assert_true(str_eq(first.files[i].role, second.files[i].role));
			assert_int_equal(first.files[i].size_bytes, second.files[i].size_bytes);
		}
		arena_free(arena);
		buf_free(&text);
		buf_free(&again);
	}
	json_free(doc);
}

#define HEAD    "{\"schema_version\":1,\"model_id\":\"m\","
#define COUNTS  "\"file_count\":1,\"total_size_bytes\":5,\"aggregate_sha256\":\"" AGGREGATE_A "\","
#define FILE_A  "{\"path\":\"m.gguf\",\"size_bytes\":5,\"sha256\":\"" HASH_A "\"}"
#define FILES_A "\"files\":[" FILE_A "]}"

static enum db_err parse(const char *text, struct error *error)
{
	struct manifest manifest;
	struct arena *arena = arena_new(0);
	enum db_err err = manifest_parse(str_of(text), arena, &manifest, error);
	arena_free(arena);
	return err;
}

static void refuses_manifests_that_are_not_whole(void **state)
{
	static const char *const bad[] = {
	    "",
	    "{",
	    "[]",
	    "{}",
	    "{\"schema_version\":2,\"model_id\":\"m\"," COUNTS FILES_A,
	    "{\"schema_version\":\"1\",\"model_id\":\"m\"," COUNTS FILES_A,
	    "{\"schema_version\":1," COUNTS FILES_A,
	    "{\"schema_version\":1,\"model_id\":\"\"," COUNTS FILES_A,
	    "{\"schema_version\":1,\"model_id\":7," COUNTS FILES_A,
	    HEAD "\"total_size_bytes\":5,\"aggregate_sha256\":\"" AGGREGATE_A "\"," FILES_A,
	    HEAD "\"file_count\":0,\"total_size_bytes\":0,\"aggregate_sha256\":\"" AGGREGATE_A "\",\"files\":[]}",
	    HEAD "\"file_count\":2,\"total_size_bytes\":5,\"aggregate_sha256\":\"" AGGREGATE_A "\"," FILES_A,
	    HEAD "\"file_count\":-1,\"total_size_bytes\":5,\"aggregate_sha256\":\"" AGGREGATE_A "\"," FILES_A,
	    HEAD "\"file_count\":5000,\"total_size_bytes\":5,\"aggregate_sha256\":\"" AGGREGATE_A "\"," FILES_A,
	    HEAD "\"file_count\":1,\"total_size_bytes\":6,\"aggregate_sha256\":\"" AGGREGATE_A "\"," FILES_A,
	    HEAD "\"file_count\":1,\"total_size_bytes\":5,\"aggregate_sha256\":\"" HASH_A "\"," FILES_A,
	    HEAD "\"file_count\":1,\"total_size_bytes\":5,\"aggregate_sha256\":\"abc\"," FILES_A,
	    HEAD COUNTS "\"files\":{}}",
	    HEAD COUNTS "\"files\":[7]}",
	    HEAD COUNTS "\"files\":[{\"path\":\"m.gguf\",\"size_bytes\":5}]}",
	    HEAD COUNTS "\"files\":[{\"path\":\"m.gguf\",\"sha256\":\"" HASH_A "\"}]}",
	    HEAD COUNTS "\"files\":[{\"path\":\"m.gguf\",\"size_bytes\":-5,\"sha256\":\"" HASH_A "\"}]}",
	    HEAD COUNTS "\"files\":[{\"path\":\"m.gguf\",\"size_bytes\":5.0,\"sha256\":\"" HASH_A "\"}]}",
	    HEAD COUNTS "\"files\":[{\"path\":\"m.gguf\",\"size_bytes\":5,\"sha256\":\"zz\"}]}",
	    HEAD "\"file_count\":2,\"total_size_bytes\":10,\"aggregate_sha256\":\"" AGGREGATE_A "\",\"files\":[" FILE_A "," FILE_A
	         "]}",
	};
	struct error error;
	(void)state;
	assert_int_equal(parse(HEAD COUNTS FILES_A, &error), DB_OK);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (parse(bad[i], &error) != DB_E_INVALID)
			fail_msg("accepted: %s", bad[i]);
}

static void refuses_paths_that_leave_the_folder_or_hide(void **state)
{
	static const char *const bad[] = {"",      "/etc/passwd", "../x", "a/../b", "a/..",         ".",
	                                  "./a",   "a/./b",       "a//b", "a/",     "a\\\\b",       "a\\u0000b",
	                                  "a\\nb", ".hidden",     "a/.b", "..",     "manifest.json"};
	static const char *const good[] = {"a", "a/b/c", "a..b", "a b", "a-b_c.d", "\xc3\xbc", "a/manifest.json"};
	char text[1024];
	struct error error;
	(void)state;
	const char *form = HEAD COUNTS "\"files\":[{\"path\":\"%s\",\"size_bytes\":5,\"sha256\":\"" HASH_A "\"}]}";
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(text, sizeof text, form, bad[i]);
		if (parse(text, &error) != DB_E_INVALID)
			fail_msg("accepted the path %s", bad[i]);
	}
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		snprintf(text, sizeof text, form, good[i]);
		if (parse(text, &error) != DB_OK)
			fail_msg("refused the path %s: %s", good[i], error.text);
	}
	char longest[MANIFEST_MAX_PATH + 2];
	memset(longest, 'x', sizeof longest);
	assert_true(manifest_path_is_good((struct str){longest, MANIFEST_MAX_PATH}));
	assert_false(manifest_path_is_good((struct str){longest, MANIFEST_MAX_PATH + 1}));
}

static void reads_the_quantisation_from_file_names(void **state)
{
	static const struct {
		const char *name, *expected;
	} cases[] = {
	    {"SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"},
	    {"model-Q4_K_M.gguf", "Q4_K_M"},
	    {"model-IQ2_XS.gguf", "IQ2_XS"},
	    {"model.f16.gguf", "f16"},
	    {"model-BF16.gguf", "BF16"},
	    {"model.gguf", ""},
	    {"Qwen3-0.6B.gguf", ""},
	    {"Qwen3-0.6B-Q8_0.gguf", "Q8_0"},
	    {"", ""},
	    {"model-q5_0-00001-of-00002.gguf", "q5_0"},
	    {"gpt-oss-MXFP4.gguf", "MXFP4"},
	};
	char out[32];
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		manifest_quantization(str_of(cases[i].name), out, sizeof out);
		assert_string_equal(out, cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(agrees_with_hashlib_on_the_aggregate),   cmocka_unit_test(what_it_writes_it_reads_again),
	    cmocka_unit_test(refuses_manifests_that_are_not_whole),   cmocka_unit_test(refuses_paths_that_leave_the_folder_or_hide),
	    cmocka_unit_test(reads_the_quantisation_from_file_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
