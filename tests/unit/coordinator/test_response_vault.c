/* What is kept for callers opens for its account and id alone, and under the secret it was sealed with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/response_vault.h"
#include "crypto/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WORDS "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
#define OTHER "legal winner thank year wave sausage worth useful legal winner thank yellow"

static char folder[] = "/tmp/db_vault_XXXXXX";

static struct response_vault *vault_of(const char *mnemonic, const char *previous)
{
	struct error error = {0};
	const struct response_vault_options options = {.dir = folder, .mnemonic = mnemonic, .previous_mnemonics = previous};
	struct response_vault *vault = response_vault_new(&options, &error);
	if (!vault)
		fail_msg("%s", error.text);
	return vault;
}

static void seal(const struct response_vault *vault, struct buf *out)
{
	buf_init(out, 4096);
	assert_int_equal(response_vault_seal(vault, STR("acme"), STR("resp_1"), STR("the text"), out), DB_OK);
	assert_int_equal(out->len, RESPONSE_VAULT_EXTRA_BYTES + 8);
	assert_null(memmem(out->at, out->len, "text", 4));
}

static enum db_err try_open(const struct response_vault *vault, const char *account, const char *id, struct str sealed)
{
	struct buf out;
	buf_init(&out, 4096);
	enum db_err err = response_vault_open(vault, str_of(account), str_of(id), sealed, &out);
	assert_true(err ? out.len == 0 : str_is(buf_str(&out), "the text"));
	buf_free(&out);
	return err;
}

static void a_text_opens_where_it_belongs_alone(void **state)
{
	(void)state;
	struct response_vault *vault = vault_of(WORDS, NULL);
	struct buf sealed, again;
	seal(vault, &sealed);
	seal(vault, &again);
	assert_int_not_equal(memcmp(sealed.at, again.at, sealed.len), 0); /* a nonce of its own */
	assert_int_equal(try_open(vault, "acme", "resp_1", buf_str(&sealed)), DB_OK);
	assert_int_equal(try_open(vault, "acme", "resp_2", buf_str(&sealed)), DB_E_CRYPTO);
	assert_int_equal(try_open(vault, "other", "resp_1", buf_str(&sealed)), DB_E_CRYPTO);
	for (size_t i = 0; i < sealed.len; i++) {
		sealed.at[i] ^= 1;
		assert_int_not_equal(try_open(vault, "acme", "resp_1", buf_str(&sealed)), DB_OK);
		sealed.at[i] ^= 1;
		assert_int_not_equal(try_open(vault, "acme", "resp_1", str_sub(buf_str(&sealed), 0, i)), DB_OK);
	}
	buf_free(&sealed);
	buf_free(&again);
	response_vault_free(vault);
}

static void a_secret_that_was_replaced_opens_still_when_it_is_named(void **state)
{
	(void)state;
	struct buf sealed;
	struct response_vault *before = vault_of(WORDS, NULL), *after = vault_of(OTHER, WORDS), *stranger = vault_of(OTHER, NULL);
	seal(before, &sealed);
	assert_int_equal(try_open(after, "acme", "resp_1", buf_str(&sealed)), DB_OK);
	assert_int_equal(try_open(stranger, "acme", "resp_1", buf_str(&sealed)), DB_E_NOT_FOUND);
	buf_free(&sealed);
	response_vault_free(before);
	response_vault_free(after);
	response_vault_free(stranger);
}

static void without_words_the_secret_is_a_file(void **state)
{
	(void)state;
	struct buf sealed;
	char path[64];
	struct response_vault *first = vault_of(NULL, NULL), *again = vault_of("", NULL), *words = vault_of(WORDS, NULL);
	seal(first, &sealed);
	assert_int_equal(try_open(again, "acme", "resp_1", buf_str(&sealed)), DB_OK);
	assert_int_equal(try_open(words, "acme", "resp_1", buf_str(&sealed)), DB_OK); /* words came later */
	(void)snprintf(path, sizeof path, "%s/responses_key", folder);
	assert_int_equal(unlink(path), 0);
	buf_free(&sealed);
	response_vault_free(first);
	response_vault_free(again);
	response_vault_free(words);
}

static void where_no_secret_can_be_kept_nothing_is_sealed(void **state)
{
	(void)state;
	struct error error = {0};
	const struct response_vault_options options = {.dir = "/nonexistent/folder"};
	assert_null(response_vault_new(&options, &error));
	assert_int_not_equal(error.text[0], '\0');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_text_opens_where_it_belongs_alone),
	    cmocka_unit_test(a_secret_that_was_replaced_opens_still_when_it_is_named),
	    cmocka_unit_test(without_words_the_secret_is_a_file),
	    cmocka_unit_test(where_no_secret_can_be_kept_nothing_is_sealed),
	};
	if (crypto_init() != DB_OK || !mkdtemp(folder))
		return 1;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(folder);
	return failed;
}
