#include "core/cli_internal.h"
#include "core/suggest.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define HELP_MAX 65536

struct given {
	const struct cli_option *option;
	const char *value; /* NULL for a switch */
};

struct cli_args {
	const struct cli_program *program;
	const struct cli_command *command;
	struct given *given;
	size_t given_count;
	const char **arguments;
	size_t argument_count;
	bool help;
};

/* --- sentences for the person at the keyboard --- */

static void complain(const struct cli_program *program, const struct cli_command *command, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void complain(const struct cli_program *program, const struct cli_command *command, const char *format, ...)
{
	struct buf name;
	buf_init(&name, 256);
	cli_append_full_name(program, command, &name);
	va_list args;
	fprintf(stderr, "%s: ", program->name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nTry `%.*s --help`.\n", STR_ARG(buf_str(&name)));
	buf_free(&name);
}

static int print_help(const struct cli_program *program, const struct cli_command *command, struct str group)
{
	struct buf text;
	buf_init(&text, HELP_MAX);
	if (command)
		cli_command_help(program, command, &text);
	else
		cli_program_help(program, group, &text);
	fwrite(text.at, 1, text.len, stdout);
	int status = text.failed ? CLI_FAILED : CLI_OK;
	buf_free(&text);
	return status;
}

static int print_man_page(const struct cli_program *program)
{
	struct buf text;
	buf_init(&text, 1 << 20);
	cli_man_page(program, &text);
	fwrite(text.at, 1, text.len, stdout);
	buf_free(&text);
	return CLI_OK;
}

/* --- which command --- */

/* How many leading words of the line name this command; 0 for none. */
static size_t words_matched(const struct cli_command *command, int argc, char **argv)
{
	size_t words = 0;
	struct str rest = str_of(cli_command_name(command)), word;
	while (rest.len > 0) {
		rest = str_cut(rest, ' ', &word);
		if (words >= (size_t)argc || !str_is(word, argv[words]))
			return 0;
		words++;
	}
	return words;
}

/* The command whose name takes most words of the line, or NULL. */
static const struct cli_command *match_command(const struct cli_program *program, int argc, char **argv, size_t *words)
{
	const struct cli_command *best = NULL;
	*words = 0;
	CLI_EACH_COMMAND(command, program)
	{
		size_t matched = words_matched(command, argc, argv);
		if (matched > *words) {
			best = command;
			*words = matched;
		}
	}
	return best;
}

static bool is_group(const struct cli_program *program, struct str word)
{
	CLI_EACH_COMMAND(command, program)
	{
		struct str head, rest = str_cut(str_of(cli_command_name(command)), ' ', &head);
		if (rest.at && str_eq(head, word))
			return true;
	}
	return false;
}

static int refuse_command(const struct cli_program *program, int argc, char **argv)
{
	char typed[128];
	bool two = argc > 1 && is_group(program, str_of(argv[0])) && argv[1][0] != '-';
	(void)snprintf(typed, sizeof typed, "%.60s%s%.60s", argv[0], two ? " " : "", two ? argv[1] : "");
	struct suggest suggest;
	suggest_begin(&suggest, str_of(typed));
	CLI_EACH_COMMAND(command, program)
	{
		suggest_offer(&suggest, str_of(cli_command_name(command)));
	}
	if (suggest.best.len > 0)
		complain(program, NULL, "there is no command `%s`. Did you mean `%.*s`?", typed, STR_ARG(suggest.best));
	else
		complain(program, NULL, "there is no command `%s`.", typed);
	return CLI_USAGE;
}

/* --- options --- */

static const struct cli_option *option_named(const struct cli_command *command, struct str name)
{
	CLI_EACH_OPTION(option, command)
	{
		if (str_is(name, option->name))
			return option;
	}
	return NULL;
}

static const struct cli_option *option_lettered(const struct cli_command *command, char letter)
{
	CLI_EACH_OPTION(option, command)
	{
		if (option->letter && option->letter == letter)
			return option;
	}
	return NULL;
}

static bool refuse_option(const struct cli_args *args, struct str name)
{
	struct suggest suggest;
	suggest_begin(&suggest, name);
	CLI_EACH_OPTION(option, args->command)
	{
		suggest_offer(&suggest, str_of(option->name));
	}
	suggest_offer(&suggest, STR("help"));
	if (suggest.best.len > 0)
		complain(args->program, args->command, "there is no option --%.*s. Did you mean --%.*s?", STR_ARG(name),
		         STR_ARG(suggest.best));
	else
		complain(args->program, args->command, "there is no option --%.*s.", STR_ARG(name));
	return false;
}

static bool record(struct cli_args *args, const struct cli_option *option, const char *value)
{
	for (size_t i = 0; i < args->given_count; i++)
		if (args->given[i].option == option && !option->repeat && option->value) {
			complain(args->program, args->command, "--%s was given more than once.", option->name);
			return false;
		}
	args->given[args->given_count++] = (struct given){option, value};
	return true;
}

/* The value of an option: attached to it, or the next word of the line. */
static bool record_with_value(struct cli_args *args, const struct cli_option *option, const char *attached, int argc,
                              char **argv, int *at)
{
	if (attached)
		return record(args, option, attached);
	if (*at + 1 < argc)
		return record(args, option, argv[++*at]);
	complain(args->program, args->command, "--%s needs a value: --%s %s.", option->name, option->name, option->value);
	return false;
}

static bool parse_long(struct cli_args *args, int argc, char **argv, int *at)
{
	struct str name, value = str_cut(str_of(argv[*at] + 2), '=', &name);
	const struct cli_option *option = option_named(args->command, name);
	if (!option && str_is(name, "help") && !value.at) {
		args->help = true;
		return true;
	}
	if (!option)
		return refuse_option(args, name);
	if (option->value)
		return record_with_value(args, option, value.at, argc, argv, at);
	if (value.at) {
		complain(args->program, args->command, "--%s takes no value.", option->name);
		return false;
	}
	return record(args, option, NULL);
}

/* "-v", "-abc" (switches), "-c VALUE" and "-cVALUE". */
static bool parse_letters(struct cli_args *args, int argc, char **argv, int *at)
{
	for (const char *letter = argv[*at] + 1; *letter; letter++) {
		const struct cli_option *option = option_lettered(args->command, *letter);
		if (!option && *letter == 'h') {
			args->help = true;
			continue;
		}
		if (!option) {
			complain(args->program, args->command, "there is no option -%c.", *letter);
			return false;
		}
		if (option->value)
			return record_with_value(args, option, letter[1] ? letter + 1 : NULL, argc, argv, at);
		if (!record(args, option, NULL))
			return false;
	}
	return true;
}

static bool parse_line(struct cli_args *args, int argc, char **argv)
{
	bool only_arguments = false;
	for (int at = 0; at < argc; at++) {
		const char *word = argv[at];
		bool ok = true;
		if (only_arguments || word[0] != '-' || word[1] == '\0')
			args->arguments[args->argument_count++] = word;
		else if (strcmp(word, "--") == 0)
			only_arguments = true;
		else if (word[1] == '-')
			ok = parse_long(args, argc, argv, &at);
		else
			ok = parse_letters(args, argc, argv, &at);
		if (!ok)
			return false;
	}
	return true;
}

/* The pattern "MODEL [PROMPT...]" says how many arguments must and may be given. */
static bool check_argument_count(const struct cli_args *args)
{
	size_t least = 0, most = 0;
	struct str rest = str_of(args->command->arguments), word, missing = STR_NONE;
	while (rest.len > 0) {
		rest = str_cut(rest, ' ', &word);
		if (word.len == 0)
			continue;
		if (word.at[0] != '[' && least++ == args->argument_count)
			missing = word;
		most = str_contains_nocase(word, STR("...")) || most == SIZE_MAX ? SIZE_MAX : most + 1;
	}
	if (missing.at) {
		complain(args->program, args->command, "%.*s is missing.", STR_ARG(missing));
		return false;
	}
	if (args->argument_count > most) {
		complain(args->program, args->command, "`%s` is one argument too many.", args->arguments[most]);
		return false;
	}
	return true;
}

static int run_command(const struct cli_program *program, const struct cli_command *command, int argc, char **argv)
{
	int status = CLI_FAILED;
	struct cli_args args = {.program = program, .command = command};
	/* Each word gives at most as many options as it has letters, and never more than that. */
	size_t letters = 1;
	for (int i = 0; i < argc; i++)
		letters += strlen(argv[i]) + 1;
	args.given = calloc(letters, sizeof *args.given);
	args.arguments = calloc((size_t)argc + 1, sizeof *args.arguments);
	if (!args.given || !args.arguments)
		complain(program, command, "there is not enough memory.");
	else if (!parse_line(&args, argc, argv))
		status = CLI_USAGE;
	else if (args.help)
		status = print_help(program, command, STR_NONE);
	else if (!check_argument_count(&args))
		status = CLI_USAGE;
	else
		status = command->run(&args);
	free(args.given);
	free(args.arguments);
	return status;
}

static bool is_help_option(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* A line that begins with no command's name: a group of commands, the program's unnamed command, or a mistake. */
static int run_unnamed(const struct cli_program *program, int argc, char **argv, bool help)
{
	const char *first = argc > 0 ? argv[0] : "", *second = argc > 1 ? argv[1] : "";
	if (is_group(program, str_of(first))) {
		bool asked = help || is_help_option(second);
		if (!asked && second[0] != '\0')
			return refuse_command(program, argc, argv);
		int status = print_help(program, NULL, str_of(first));
		if (asked)
			return status;
		complain(program, NULL, "`%s` needs one of its commands.", first);
		return CLI_USAGE;
	}
	const struct cli_command *unnamed = cli_unnamed_command(program);
	bool several = program->commands[0].run && program->commands[1].run;
	bool asked = help || (several && is_help_option(first)), no_word = first[0] == '\0' || first[0] == '-';
	if (unnamed && !asked && (no_word || unnamed->arguments || !several))
		return run_command(program, unnamed, argc, argv);
	if (!no_word)
		return refuse_command(program, argc, argv);
	if (first[0] == '-' && !asked && !is_help_option(first)) {
		complain(program, NULL, "there is no option %s before a command.", first);
		return CLI_USAGE;
	}
	int status = print_help(program, NULL, STR_NONE);
	if (asked || is_help_option(first))
		return status;
	complain(program, NULL, "a command is needed.");
	return CLI_USAGE;
}

int cli_main(const struct cli_program *program, int argc, char **argv)
{
	argv += argc > 0;
	argc -= argc > 0;
	if (argc > 0 && (strcmp(argv[0], "--version") == 0 || strcmp(argv[0], "-V") == 0)) {
		printf("%s %s\n", program->name, program->version);
		return CLI_OK;
	}
	if (argc > 0 && strcmp(argv[0], "--man") == 0)
		return print_man_page(program);
	bool help = argc > 0 && strcmp(argv[0], "help") == 0 && program->commands[0].run && program->commands[1].run;
	argv += help;
	argc -= help;
	size_t words;
	const struct cli_command *command = match_command(program, argc, argv, &words);
	if (!command)
		return run_unnamed(program, argc, argv, help);
	if (help)
		return print_help(program, command, STR_NONE);
	return run_command(program, command, argc - (int)words, argv + words);
}

/* --- what the command reads --- */

static size_t find_given(const struct cli_args *args, const char *option, size_t from)
{
	while (from < args->given_count && strcmp(args->given[from].option->name, option) != 0)
		from++;
	return from;
}

const char *cli_value(const struct cli_args *args, const char *option)
{
	const char *value = NULL;
	for (size_t i = find_given(args, option, 0); i < args->given_count; i = find_given(args, option, i + 1))
		value = args->given[i].value;
	return value;
}

size_t cli_values(const struct cli_args *args, const char *option, const char **out, size_t max)
{
	size_t count = 0;
	for (size_t i = find_given(args, option, 0); i < args->given_count && count < max; i = find_given(args, option, i + 1))
		out[count++] = args->given[i].value;
	return count;
}

bool cli_flag(const struct cli_args *args, const char *option)
{
	return find_given(args, option, 0) < args->given_count;
}

size_t cli_arg_count(const struct cli_args *args)
{
	return args->argument_count;
}

const char *cli_arg(const struct cli_args *args, size_t index)
{
	return index < args->argument_count ? args->arguments[index] : NULL;
}

bool cli_int(const struct cli_args *args, const char *option, int64_t fallback, int64_t min, int64_t max, int64_t *out)
{
	const char *text = cli_value(args, option);
	int64_t value = fallback;
	if (text && (!str_to_i64(str_of(text), &value) || value < min || value > max)) {
		complain(args->program, args->command, "--%s must be a whole number from %lld to %lld, not `%s`.", option,
		         (long long)min, (long long)max, text);
		return false;
	}
	*out = value;
	return true;
}
