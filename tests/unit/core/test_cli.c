#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <unistd.h>

#include "core/cli.h"
#include "core/str.h"

/* What the last command saw, as text: "NAME config=... models=[a b] all args=[x y]". */
static char seen[1024];

static int describe(const char *name, const struct cli_args *args)
{
	const char *models[8];
	struct buf out;
	buf_init(&out, sizeof seen - 1);
	buf_append_c(&out, name);
	if (cli_value(args, "config"))
		buf_printf(&out, " config=%s", cli_value(args, "config"));
	size_t count = cli_values(args, "model", models, 8);
	for (size_t i = 0; i < count; i++)
		buf_printf(&out, " model=%s", models[i]);
	if (cli_flag(args, "all"))
		buf_append_c(&out, " all");
	for (size_t i = 0; i < cli_arg_count(args); i++)
		buf_printf(&out, " %s", cli_arg(args, i));
	assert_null(cli_arg(args, cli_arg_count(args)));
	int64_t port = 0;
	if (!cli_int(args, "port", 8000, 1, 65535, &port)) {
		buf_free(&out);
		return CLI_USAGE;
	}
	if (port != 8000)
		buf_printf(&out, " port=%d", (int)port);
	str_copy(buf_str(&out), seen, sizeof seen);
	buf_free(&out);
	return CLI_OK;
}

static int run_start(const struct cli_args *args)
{
	return describe("start", args);
}

static int run_pull(const struct cli_args *args)
{
	return describe("pull", args);
}

static int run_list(const struct cli_args *args)
{
	(void)args;
	return CLI_NETWORK;
}

static int run_unnamed(const struct cli_args *args)
{
	return describe("unnamed", args);
}

static const struct cli_option options[] = {
    {.name = "config",
     .letter = 'c',
     .value = "PATH",
     .help = "Read this file instead of the usual one, which this sentence is long enough to wrap."},
    {.name = "port", .letter = 'p', .value = "N", .help = "Port."},
    {.name = "all", .letter = 'a', .help = "Take all."},
    {.name = "model", .value = "ID", .repeat = true, .help = "Model; may be repeated."},
    {.name = "an-option-with-a-rather-long-name", .help = "Help on the next line."},
    {0},
};
static const struct cli_command commands[] = {
    {.name = "start",
     .summary = "Start it.",
     .details = "A paragraph.\n\nAnother \\ paragraph.\n.with a dot",
     .example = "tool start --port 9\ntool start -a",
     .options = options,
     .run = run_start},
    {.name = "models pull",
     .arguments = "ID [NAME...]",
     .summary = "Fetch a model.",
     .example = "tool models pull x",
     .options = options,
     .run = run_pull},
    {.name = "models list", .arguments = "[FILTER]", .summary = "List models.", .example = "tool models list", .run = run_list},
    {0},
};
static const struct cli_program tool = {
    .name = "tool", .summary = "Does \"things\".", .version = "1.2.3", .commands = commands};

static const struct cli_command single[] = {
    {.arguments = "[FILE]", .summary = "Do the one thing.", .example = "one -a", .options = options, .run = run_unnamed},
    {0},
};
static const struct cli_program one = {.name = "one", .summary = "One thing.", .version = "1", .commands = single};

static const struct cli_command both[] = {
    {.summary = "Serve.", .example = "server", .options = options, .run = run_unnamed},
    {.name = "check", .summary = "Check.", .example = "server check", .run = run_list},
    {0},
};
static const struct cli_program server = {.name = "server", .summary = "A server.", .version = "1", .commands = both};

static char out_text[16384], err_text[4096];

static void read_back(FILE *file, char *text, size_t size)
{
	rewind(file);
	text[fread(text, 1, size - 1, file)] = '\0';
	fclose(file);
}

/* Runs a line of words, catching both outputs. */
static int run(const struct cli_program *program, const char *line)
{
	char words[256], *argv[32] = {(char *)(uintptr_t)program->name};
	int argc = 1;
	assert_true(str_copy(str_of(line), words, sizeof words));
	for (char *word = words, *next; word && *word; word = next) {
		next = strchr(word, ' ');
		if (next)
			*next++ = '\0';
		argv[argc++] = word;
	}
	seen[0] = '\0';
	FILE *out = tmpfile(), *err = tmpfile();
	assert_true(out && err);
	fflush(stdout);
	fflush(stderr);
	int real_out = dup(STDOUT_FILENO), real_err = dup(STDERR_FILENO);
	dup2(fileno(out), STDOUT_FILENO);
	dup2(fileno(err), STDERR_FILENO);
	int status = cli_main(program, argc, argv);
	fflush(stdout);
	fflush(stderr);
	dup2(real_out, STDOUT_FILENO);
	dup2(real_err, STDERR_FILENO);
	close(real_out);
	close(real_err);
	read_back(out, out_text, sizeof out_text);
	read_back(err, err_text, sizeof err_text);
	return status;
}

static void assert_sees(const struct cli_program *program, const char *line, const char *wanted)
{
	int status = run(program, line);
	if (status != CLI_OK)
		fail_msg("%s: status %d, %s", line, status, err_text);
	assert_string_equal(seen, wanted);
}

static void assert_usage(const struct cli_program *program, const char *line, const char *sentence)
{
	assert_int_equal(run(program, line), CLI_USAGE);
	assert_string_equal(seen, "");
	assert_string_equal(out_text, "");
	if (!strstr(err_text, sentence))
		fail_msg("%s: \"%s\" does not say \"%s\"", line, err_text, sentence);
}

static void test_options_in_every_spelling(void **state)
{
	(void)state;
	assert_sees(&tool, "start", "start");
	assert_sees(&tool, "start --config a.toml --all", "start config=a.toml all");
	assert_sees(&tool, "start --config=a.toml", "start config=a.toml");
	assert_sees(&tool, "start --config=", "start config=");
	assert_sees(&tool, "start -c a.toml -p 7", "start config=a.toml port=7");
	assert_sees(&tool, "start -ca.toml", "start config=a.toml");
	assert_sees(&tool, "start -ap7", "start all port=7");
	assert_sees(&tool, "start --model a --model=b --model c", "start model=a model=b model=c");
	assert_sees(&tool, "start --all -a", "start all");
	assert_sees(&tool, "start --config --all", "start config=--all"); /* an option's value may begin with a dash */
	assert_sees(&tool, "models pull x -a y", "pull all x y");
	assert_sees(&tool, "models pull -- -x --all", "pull -x --all");
	assert_sees(&tool, "models pull -", "pull -");
}

static void test_status_of_the_command_is_the_status(void **state)
{
	(void)state;
	assert_int_equal(run(&tool, "models list"), CLI_NETWORK);
}

static void test_mistakes_are_usage_errors_with_a_hint(void **state)
{
	(void)state;
	assert_usage(&tool, "start --prot 1", "there is no option --prot. Did you mean --port?");
	assert_usage(&tool, "start --prot 1", "Try `tool start --help`.");
	assert_usage(&tool, "start --zzzzzzz", "there is no option --zzzzzzz.");
	assert_usage(&tool, "start -z", "there is no option -z.");
	assert_usage(&tool, "start --config", "--config needs a value: --config PATH.");
	assert_usage(&tool, "start -c", "--config needs a value");
	assert_usage(&tool, "start --all=yes", "--all takes no value.");
	assert_usage(&tool, "start -c a --config b", "--config was given more than once.");
	assert_usage(&tool, "start x", "`x` is one argument too many.");
	assert_usage(&tool, "models pull", "ID is missing.");
	assert_usage(&tool, "models list a b", "`b` is one argument too many.");
	assert_usage(&tool, "strat", "there is no command `strat`. Did you mean `start`?");
	assert_usage(&tool, "sta", "Did you mean `start`?");
	assert_usage(&tool, "models pul x", "there is no command `models pul`. Did you mean `models pull`?");
	assert_usage(&tool, "unrelated", "there is no command `unrelated`.");
	assert_usage(&tool, "help unrelated", "there is no command `unrelated`.");
	assert_usage(&tool, "start --port 0", "--port must be a whole number from 1 to 65535, not `0`.");
	assert_usage(&tool, "start --port 65536", "not `65536`");
	assert_usage(&tool, "start --port 1x", "not `1x`");
	assert_usage(&server, "chekc", "Did you mean `check`?");
}

static void assert_help(const struct cli_program *program, const char *line, int status, const char *text)
{
	assert_int_equal(run(program, line), status);
	assert_string_equal(seen, "");
	if (!strstr(out_text, text))
		fail_msg("%s: no \"%s\" in:\n%s", line, text, out_text);
}

static void test_help_of_the_program(void **state)
{
	(void)state;
	static const char *const lines[] = {"--help", "-h", "help"};
	for (size_t i = 0; i < 3; i++) {
		assert_help(&tool, lines[i], CLI_OK, "Usage: tool COMMAND [OPTIONS]\n");
		assert_help(&tool, lines[i], CLI_OK, "  models pull                 Fetch a model.\n");
		assert_string_equal(err_text, "");
	}
	assert_help(&tool, "", CLI_USAGE, "Usage: tool COMMAND");
	assert_string_equal(err_text, "tool: a command is needed.\nTry `tool --help`.\n");
	assert_help(&tool, "models", CLI_USAGE, "Usage: tool models COMMAND");
	assert_string_equal(err_text, "tool: `models` needs one of its commands.\nTry `tool --help`.\n");
	assert_usage(&tool, "--frob", "there is no option --frob before a command.");
	assert_help(&tool, "models --help", CLI_OK, "Usage: tool models COMMAND");
	assert_help(&tool, "help models", CLI_OK, "  models list ");
	assert_null(strstr(out_text, "Start it."));
}

static void test_help_of_each_command_has_options_and_an_example(void **state)
{
	(void)state;
	static const char *const lines[] = {"start --help", "start -h", "help start", "start --all --help extra"};
	for (size_t i = 0; i < 4; i++) {
		assert_help(&tool, lines[i], CLI_OK,
		            "Usage: tool start [OPTIONS]\n\nStart it.\n\nA paragraph.\n\nAnother \\ paragraph.\n.with a dot\n");
		assert_help(&tool, lines[i], CLI_OK, "  -p, --port N                Port.\n");
		assert_help(&tool, lines[i], CLI_OK, "      --model ID ...          Model; may be repeated.\n");
		assert_help(&tool, lines[i], CLI_OK,
		            "      --an-option-with-a-rather-long-name\n                              Help on the next line.\n");
		assert_help(&tool, lines[i], CLI_OK, "  -h, --help                  Show this help and exit.\n");
		assert_help(&tool, lines[i], CLI_OK, "\nExamples:\n  tool start --port 9\n  tool start -a\n");
	}
	for (char *line = out_text, *end; (end = strchr(line, '\n')); line = end + 1)
		assert_true(end - line <= 80);
	assert_help(&tool, "models pull --help", CLI_OK, "Usage: tool models pull [OPTIONS] ID [NAME...]\n");
	assert_help(&tool, "models list --help", CLI_OK, "Examples:\n  tool models list\n");
}

static void test_version(void **state)
{
	(void)state;
	assert_int_equal(run(&tool, "--version"), CLI_OK);
	assert_string_equal(out_text, "tool 1.2.3\n");
	assert_int_equal(run(&one, "-V"), CLI_OK);
	assert_string_equal(out_text, "one 1\n");
}

static void test_a_program_without_commands(void **state)
{
	(void)state;
	assert_sees(&one, "", "unnamed");
	assert_sees(&one, "-a file", "unnamed all file");
	assert_sees(&one, "help", "unnamed help");
	assert_usage(&one, "--al", "Did you mean --all?");
	assert_usage(&one, "--al", "Try `one --help`.");
	assert_help(&one, "--help", CLI_OK, "Usage: one [OPTIONS] [FILE]\n\nDo the one thing.\n");
}

static void test_a_program_with_an_unnamed_command_beside_others(void **state)
{
	(void)state;
	assert_sees(&server, "", "unnamed");
	assert_sees(&server, "-a", "unnamed all");
	assert_int_equal(run(&server, "check"), CLI_NETWORK);
	assert_help(&server, "--help", CLI_OK, "       server [OPTIONS]\n");
	assert_help(&server, "--help", CLI_OK, "  check ");
	assert_help(&server, "--help", CLI_OK, "Without a command: Serve.\n\nOptions:\n");
}

static void test_man_page(void **state)
{
	(void)state;
	struct buf page;
	buf_init(&page, 1u << 16);
	setenv("SOURCE_DATE_EPOCH", "1767323046", 1);
	cli_man_page(&tool, &page);
	unsetenv("SOURCE_DATE_EPOCH");
	buf_append_byte(&page, '\0');
	assert_false(page.failed);
	static const char *const parts[] = {
	    ".Dd January 2, 2026\n.Dt TOOL 1\n.Os Darkbloom 1.2.3\n.Sh NAME\n.Nm tool\n.Nd Does \"things\"\n",
	    ".Sh SYNOPSIS\n.Nm\n.Cm \"\\&start\"\n",
	    ".Ss \"\\&models pull\"\n",
	    ".It Fl c , Fl \\-config Ar \"\\&PATH\"\n",
	    "Another \\e paragraph.\n\\&.with a dot\n",
	    "tool start --port 9\ntool start -a\n",
	    ".Sh EXIT STATUS\n",
	};
	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
		if (!strstr(page.at, parts[i]))
			fail_msg("no \"%s\" in:\n%s", parts[i], page.at);
	buf_free(&page);
	assert_int_equal(run(&tool, "--man"), CLI_OK);
	assert_true(str_starts(str_of(out_text), STR(".Dd ")));
	assert_non_null(strstr(out_text, "\n.Dt TOOL 1\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_options_in_every_spelling),
	    cmocka_unit_test(test_status_of_the_command_is_the_status),
	    cmocka_unit_test(test_mistakes_are_usage_errors_with_a_hint),
	    cmocka_unit_test(test_help_of_the_program),
	    cmocka_unit_test(test_help_of_each_command_has_options_and_an_example),
	    cmocka_unit_test(test_version),
	    cmocka_unit_test(test_a_program_without_commands),
	    cmocka_unit_test(test_a_program_with_an_unnamed_command_beside_others),
	    cmocka_unit_test(test_man_page),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
