/* What others read of this machine's failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "provider/node/node_internal.h"

static const struct builds_options owners = {.models_dir = "/home/joe/models/", .source = "http://joe:secret@10.0.0.1/all"};

static void assert_told(const char *text, const char *told)
{
	struct node *node = calloc(1, sizeof *node);
	char out[NODE_TEXT_SIZE];
	assert_non_null(node);
	node->options.builds = &owners;
	assert_string_equal(node_public_text(node, text, out), told);
	free(node);
}

static void folders_and_addresses_of_the_owner_are_not_told(void **state)
{
	(void)state;
	assert_told("model load failed: /home/joe/models/acme--new/w.gguf: no such file",
	            "model load failed: the models folder/acme--new/w.gguf: no such file");
	assert_told("/home/joe/models has 1.0 GB free", "the models folder has 1.0 GB free");
	assert_told("http://joe:secret@10.0.0.1/all/new/manifest.json could not be fetched: Not Found",
	            "the owner's server/new/manifest.json could not be fetched: Not Found");
}

static void a_name_that_was_cut_is_not_told_either(void **state)
{
	(void)state;
	assert_told("the draft model /home/joe/mod", "the draft model the models folder");
	assert_told("either/or", "either/or");
	assert_told("/home/joe/models2 is another", "/home/joe/models2 is another");
}

static void other_sentences_stay_and_long_ones_are_cut(void **state)
{
	struct node *node = calloc(1, sizeof *node);
	char text[2 * NODE_TEXT_SIZE], out[NODE_TEXT_SIZE];
	(void)state;
	assert_told("insufficient memory", "insufficient memory");
	assert_told("", "");
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	assert_non_null(node);
	assert_int_equal(strlen(node_public_text(node, text, out)), NODE_TEXT_SIZE - 1); /* of an owner who keeps nothing */
	free(node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(folders_and_addresses_of_the_owner_are_not_told),
	    cmocka_unit_test(a_name_that_was_cut_is_not_told_either),
	    cmocka_unit_test(other_sentences_stay_and_long_ones_are_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
