/* The check of templates when a model is loaded, over templates that are fine and some that are not. */
#include "shim_fixture.h"

#include "provider/engine/template_check.h"

#include <dirent.h>

static enum template_fault fault_of(const char *source)
{
	char error[320] = "";
	struct chat_templates *templates = chat_templates_new(model, source, error, sizeof error);
	if (!templates)
		fail_msg("%s", error);
	enum template_fault fault = template_check(templates, STR("llama"));
	chat_templates_free(templates);
	return fault;
}

#define EACH(body) "{% for m in messages %}" body "{% endfor %}"
#define SAID       "{{ m.role }}: {{ m.content }}\n"
#define CALLS                                                                                                                  \
	"{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.name }}{{ c.function.arguments }}{% endfor %}{% endif %}"
#define OFFERS_TOOLS "{% if tools %}{{ tools | tojson }}{% endif %}"

static void templates_that_take_everything_are_fine(void **state)
{
	(void)state;
	assert_int_equal(fault_of(EACH(SAID)), TEMPLATE_FINE); /* tools are told as text */
	assert_int_equal(fault_of(OFFERS_TOOLS EACH(SAID CALLS)), TEMPLATE_FINE);
	struct chat_templates *own = chat_templates_new(model, NULL, (char[320]){""}, 320);
	assert_int_equal(template_check(own, STR("llama")), TEMPLATE_FINE);
	chat_templates_free(own);
}

static void a_template_that_loses_or_refuses_plain_chat_is_broken(void **state)
{
	(void)state;
	assert_int_equal(fault_of("{{ messages[0].content }}"), TEMPLATE_BROKEN);
	assert_int_equal(fault_of(EACH("{{ raise_exception('nobody may say anything') }}")), TEMPLATE_BROKEN);
	assert_string_equal(template_fault_name(TEMPLATE_BROKEN), "jinja_template");
}

static void a_template_that_fails_on_tools_is_broken_unless_it_says_why(void **state)
{
	(void)state;
	static const char fails[] =
	    OFFERS_TOOLS EACH("{% if m.role == 'tool' %}{{ m.content.nothing.here }}{% else %}" SAID CALLS "{% endif %}");
	static const char refuses[] = OFFERS_TOOLS EACH(
	    "{% if m.role == 'tool' %}{{ raise_exception('tool results are not taken') }}{% else %}" SAID CALLS "{% endif %}");
	assert_int_equal(fault_of(fails), TEMPLATE_BROKEN);
	assert_int_equal(fault_of(refuses), TEMPLATE_FINE);
}

static void the_templates_of_the_source_are_fine(void **state)
{
	(void)state;
	int fine = 0, all = 0;
	DIR *folder = opendir(TEMPLATES);
	assert_non_null(folder);
	for (struct dirent *entry; (entry = readdir(folder));) {
		if (!strstr(entry->d_name, ".jinja"))
			continue;
		struct chat_templates *templates = template_of(entry->d_name);
		enum template_fault fault = template_check(templates, strstr(entry->d_name, "gpt-oss") ? STR("gpt-oss") : STR("llama"));
		chat_templates_free(templates);
		if (fault != TEMPLATE_FINE)
			print_message("%s: %s\n", entry->d_name, template_fault_name(fault));
		fine += fault == TEMPLATE_FINE;
		all++;
	}
	closedir(folder);
	assert_true(all >= 70);
	assert_int_equal(fine, all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(templates_that_take_everything_are_fine),
	    cmocka_unit_test(a_template_that_loses_or_refuses_plain_chat_is_broken),
	    cmocka_unit_test(a_template_that_fails_on_tools_is_broken_unless_it_says_why),
	    cmocka_unit_test(the_templates_of_the_source_are_fine),
	};
	return cmocka_run_group_tests(tests, load_vocabulary, free_vocabulary);
}
