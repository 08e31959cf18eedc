#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/csv.h"

static void fields_are_quoted_as_rfc_4180_has_it_and_formulas_are_disarmed(void **state)
{
	static const struct {
		const char *text, *field;
	} cases[] = {
	    {"", ""},
	    {"plain text", "plain text"},
	    {"a,b", "\"a,b\""},
	    {"say \"hi\"", "\"say \"\"hi\"\"\""},
	    {"two\nlines", "\"two\nlines\""},
	    {"two\r\nlines", "\"two\r\nlines\""},
	    {"=1+1", "'=1+1"},
	    {"+1", "'+1"},
	    {"-1", "'-1"},
	    {"@SUM(A1)", "'@SUM(A1)"},
	    {"\tx", "'\tx"},
	    {"=HYPERLINK(\"x\",\"y\")", "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\""},
	    {"1-1=0", "1-1=0"},
	    {"Zürich", "Zürich"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf out;
		buf_init(&out, 256);
		csv_field(&out, str_of(cases[i].text));
		buf_append_byte(&out, '\0');
		assert_string_equal(out.at, cases[i].field);
		buf_free(&out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(fields_are_quoted_as_rfc_4180_has_it_and_formulas_are_disarmed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
