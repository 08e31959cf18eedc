/* Files of the SSD tier: whatever is done to one, it is a miss, and only what says something against the file removes it. */
#include "kv_fixture.h"

#include <fcntl.h>

#include "core/encode.h"
#include "provider/kvcache/kv_file.h"

#define POINTS      3
#define STATE_BYTES 500

struct paper {
	struct kv_keys *keys;
	struct kv_shape shape;
	struct kv_place place;
	struct kv_digest points[POINTS];
	uint8_t state[STATE_BYTES];
	uint8_t *file;
	size_t len;
};

static int blank(void)
{
	char path[KV_PATH_SIZE];
	const char *folder = getenv("TMPDIR");
	snprintf(path, sizeof path, "%s/test-kv-file-XXXXXX", folder && folder[0] ? folder : "/var/tmp");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

static void paper_write(struct paper *paper, const void *state, size_t len)
{
	struct kv_file_facts facts = {.tokens = POINTS * KV_GRID, .created_us = 5, .point_count = POINTS};
	uint64_t written = 0;
	int fd = blank();
	assert_int_equal(kv_file_write(fd, &paper->place, &facts, paper->points, (struct str){state, len}, NULL, NULL, &written),
	                 DB_OK);
	paper->len = (size_t)lseek(fd, 0, SEEK_END);
	assert_int_equal(paper->len, written);
	free(paper->file);
	paper->file = malloc(paper->len);
	assert_int_equal(pread(fd, paper->file, paper->len, 0), (ssize_t)paper->len);
	close(fd);
}

static void paper_make(struct paper *paper)
{
	*paper = (struct paper){.keys = kv_keys_new(device_secret), .shape = shape_of("weights-1")};
	paper->place = (struct kv_place){.keys = paper->keys, .shape = &paper->shape};
	kv_keys_tag(paper->keys, STR("tenant-a"), &paper->place.tag);
	for (size_t i = 0; i < POINTS; i++)
		paper->points[i].bytes[0] = (uint8_t)i;
	kv_keys_name(paper->keys, &paper->points[POINTS - 1], &paper->place.name);
	for (size_t i = 0; i < STATE_BYTES; i++)
		paper->state[i] = (uint8_t)(i * 7);
	paper_write(paper, paper->state, STATE_BYTES);
}

static void paper_free(struct paper *paper)
{
	kv_keys_free(paper->keys);
	free(paper->file);
}

static enum kv_why read_bytes(const struct kv_place *place, const uint8_t *bytes, size_t len, struct kv_blob **state)
{
	struct kv_file_facts facts;
	struct kv_digest *points = NULL;
	*state = NULL;
	int fd = blank();
	assert_int_equal(pwrite(fd, bytes, len, 0), (ssize_t)len);
	enum kv_why described = kv_file_describe(fd, place, &facts, &points);
	enum kv_why why = kv_file_read(fd, place, &facts, state);
	assert_true(described == why || described == KV_GOOD); /* only reading finds what is wrong with the state itself */
	assert_int_equal(points != NULL, described == KV_GOOD);
	free(points);
	close(fd);
	return why;
}

static void expect(const struct kv_place *place, const uint8_t *bytes, size_t len, enum kv_why wanted)
{
	struct kv_blob *state;
	assert_int_equal(read_bytes(place, bytes, len, &state), wanted);
	assert_int_equal(state != NULL, wanted == KV_GOOD);
	kv_blob_release(state);
}

static void a_file_gives_back_what_was_written(void **state)
{
	(void)state;
	struct paper paper;
	struct kv_blob *blob;
	paper_make(&paper);
	assert_int_equal(read_bytes(&paper.place, paper.file, paper.len, &blob), KV_GOOD);
	assert_int_equal(blob->len, STATE_BYTES);
	assert_memory_equal(blob->bytes, paper.state, STATE_BYTES);
	kv_blob_release(blob);
	paper_free(&paper);
}

static void large_states_are_cut_into_chunks(void **state)
{
	(void)state;
	struct paper paper;
	struct kv_blob *blob;
	size_t len = 2 * KV_FILE_CHUNK + 12345;
	uint8_t *large = malloc(len);
	for (size_t i = 0; i < len; i++)
		large[i] = (uint8_t)(i ^ (i >> 9));
	paper_make(&paper);
	paper_write(&paper, large, len);
	assert_int_equal(read_bytes(&paper.place, paper.file, paper.len, &blob), KV_GOOD);
	assert_int_equal(blob->len, len);
	assert_memory_equal(blob->bytes, large, len);
	kv_blob_release(blob);
	/* the second and third chunk in each other's place: of one size but for the last */
	size_t sealed = 4 + KV_FILE_CHUNK + 16, first = paper.len - (4 + 12345 + 16) - 2 * sealed;
	uint8_t *swapped = malloc(paper.len);
	memcpy(swapped, paper.file, paper.len);
	memcpy(swapped + first, paper.file + first + sealed, sealed);
	memcpy(swapped + first + sealed, paper.file + first, sealed);
	expect(&paper.place, swapped, paper.len, KV_DAMAGED);
	free(swapped);
	free(large);
	paper_free(&paper);
}

static void a_file_cut_short_at_any_byte_is_a_miss(void **state)
{
	(void)state;
	struct paper paper;
	paper_make(&paper);
	for (size_t len = 0; len < paper.len; len++)
		expect(&paper.place, paper.file, len, KV_DAMAGED);
	uint8_t *longer = calloc(1, paper.len + 1);
	memcpy(longer, paper.file, paper.len);
	expect(&paper.place, longer, paper.len + 1, KV_DAMAGED);
	free(longer);
	paper_free(&paper);
}

/* Of the metadata's bytes some say what the file is for: then it may be called another's. Never is it good. */
static void a_file_with_any_bit_flipped_is_a_miss(void **state)
{
	(void)state;
	struct paper paper;
	paper_make(&paper);
	for (size_t at = 0; at < paper.len; at++) {
		struct kv_blob *blob;
		paper.file[at] ^= (uint8_t)(1 << (at % 8));
		enum kv_why why = read_bytes(&paper.place, paper.file, paper.len, &blob);
		paper.file[at] ^= (uint8_t)(1 << (at % 8));
		assert_null(blob);
		assert_int_not_equal(why, KV_GOOD);
		assert_true(why == KV_DAMAGED || why == KV_OTHER_MODEL || why == KV_OTHER_SHAPE || why == KV_OTHER_NAME ||
		            why == KV_OTHER_SCOPE);
	}
	paper_free(&paper);
}

static void lengths_beyond_the_file_are_refused_before_memory_is_taken(void **state)
{
	(void)state;
	struct paper paper;
	paper_make(&paper);
	static const size_t lengths_at[] = {20, 84};
	for (size_t i = 0; i < 2; i++)
		for (unsigned value = 0; value < 3; value++) {
			uint8_t *copy = malloc(paper.len);
			memcpy(copy, paper.file, paper.len);
			memset(copy + lengths_at[i], value == 0 ? 0xff : value == 1 ? 0x7f : 0, 4);
			expect(&paper.place, copy, paper.len, KV_DAMAGED);
			free(copy);
		}
	paper_free(&paper);
}

/* The metadata of another file under this one's seal: what is authenticated comes from the reader. */
static void metadata_that_was_exchanged_is_a_miss(void **state)
{
	(void)state;
	struct paper paper;
	paper_make(&paper);
	char *created = memmem(paper.file, paper.len, "\"createdAt\":5", 13);
	assert_non_null(created);
	created[12] = '6';
	expect(&paper.place, paper.file, paper.len, KV_DAMAGED);
	paper_free(&paper);
}

static void another_model_tenant_prefix_or_version_is_a_miss(void **state)
{
	(void)state;
	struct paper paper;
	paper_make(&paper);
	struct kv_shape shape = paper.shape;
	struct kv_place place = paper.place;
	place.shape = &shape;
	snprintf(shape.model_hash, sizeof shape.model_hash, "weights-2");
	expect(&place, paper.file, paper.len, KV_OTHER_MODEL);
	shape = paper.shape;
	snprintf(shape.engine_version, sizeof shape.engine_version, "2"); /* the program was upgraded */
	expect(&place, paper.file, paper.len, KV_OTHER_SHAPE);
	shape = paper.shape;
	snprintf(shape.kv_type, sizeof shape.kv_type, "q8_0");
	expect(&place, paper.file, paper.len, KV_OTHER_SHAPE);
	shape = paper.shape;
	snprintf(shape.context_flags, sizeof shape.context_flags, "other");
	expect(&place, paper.file, paper.len, KV_OTHER_SHAPE);
	shape = paper.shape;
	shape.head_dim++;
	expect(&place, paper.file, paper.len, KV_OTHER_SHAPE);
	shape = paper.shape;
	place.name.bytes[3] ^= 1;
	expect(&place, paper.file, paper.len, KV_OTHER_NAME);
	place = paper.place;
	kv_keys_tag(paper.keys, STR("tenant-b"), &place.tag);
	expect(&place, paper.file, paper.len, KV_OTHER_SCOPE);
	paper_free(&paper);
}

static void another_devices_secret_opens_nothing(void **state)
{
	(void)state;
	struct paper paper;
	uint8_t other[KV_SECRET_BYTES] = {42};
	paper_make(&paper);
	struct kv_keys *keys = kv_keys_new(other);
	struct kv_place place = paper.place;
	place.keys = keys;
	expect(&place, paper.file, paper.len, KV_DAMAGED);
	kv_keys_free(keys);
	paper_free(&paper);
}

static void only_what_speaks_against_a_file_removes_it(void **state)
{
	(void)state;
	static const enum kv_why removing[] = {KV_DAMAGED,    KV_OTHER_MODEL, KV_OTHER_SHAPE,
	                                       KV_OTHER_NAME, KV_EXPIRED,     KV_UNREADABLE};
	static const enum kv_why keeping[] = {KV_GOOD, KV_ABSENT, KV_OTHER_SCOPE, KV_NO_MEMORY};
	for (size_t i = 0; i < sizeof removing / sizeof *removing; i++)
		assert_true(kv_why_deletes(removing[i]));
	for (size_t i = 0; i < sizeof keeping / sizeof *keeping; i++)
		assert_false(kv_why_deletes(keeping[i]));
}

static void nothing_of_the_state_can_be_read_in_the_file(void **state)
{
	(void)state;
	struct paper paper;
	static const char canary[] = "the canary sings in clear text here, again and again and again";
	paper_make(&paper);
	paper_write(&paper, canary, sizeof canary);
	assert_null(memmem(paper.file, paper.len, canary, 8));
	for (size_t i = 0; i < POINTS; i++)
		assert_null(memmem(paper.file, paper.len, &paper.points[i], sizeof paper.points[i]));
	paper_free(&paper);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_file_gives_back_what_was_written),
	    cmocka_unit_test(large_states_are_cut_into_chunks),
	    cmocka_unit_test(a_file_cut_short_at_any_byte_is_a_miss),
	    cmocka_unit_test(a_file_with_any_bit_flipped_is_a_miss),
	    cmocka_unit_test(lengths_beyond_the_file_are_refused_before_memory_is_taken),
	    cmocka_unit_test(metadata_that_was_exchanged_is_a_miss),
	    cmocka_unit_test(another_model_tenant_prefix_or_version_is_a_miss),
	    cmocka_unit_test(another_devices_secret_opens_nothing),
	    cmocka_unit_test(only_what_speaks_against_a_file_removes_it),
	    cmocka_unit_test(nothing_of_the_state_can_be_read_in_the_file),
	};
	return cmocka_run_group_tests(tests, kv_setup, NULL);
}
