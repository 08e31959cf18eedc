#include "core/cli_internal.h"
#include "core/clock.h"

#include <stdlib.h>

#define WIDTH        80
#define OPTION_WIDTH 30 /* a longer option has its help on the next line */

void cli_append_full_name(const struct cli_program *program, const struct cli_command *command, struct buf *out)
{
	buf_append_c(out, program->name);
	if (command && cli_command_name(command)[0])
		buf_printf(out, " %s", cli_command_name(command));
}

/* --- plain text --- */

static void append_spaces(struct buf *out, size_t count)
{
	for (size_t i = 0; i < count; i++)
		buf_append_byte(out, ' ');
}

/* Fills lines up to WIDTH; `column` is where the first line already stands. Line ends in the text stay. */
static void append_wrapped(struct buf *out, struct str text, size_t indent, size_t column)
{
	struct str line, word;
	while (text.at) {
		text = str_cut(text, '\n', &line);
		bool first = true;
		while (line.at) {
			line = str_cut(line, ' ', &word);
			if (word.len == 0)
				continue;
			if (!first && column + 1 + word.len > WIDTH) {
				buf_append_byte(out, '\n');
				column = 0;
				first = true;
			}
			if (column < indent) {
				append_spaces(out, indent - column);
				column = indent;
			}
			if (!first) {
				buf_append_byte(out, ' ');
				column++;
			}
			buf_append_str(out, word);
			column += word.len;
			first = false;
		}
		buf_append_byte(out, '\n');
		column = 0;
	}
}

static void append_entry(struct buf *out, struct str name, const char *help)
{
	size_t column = 2 + name.len;
	append_spaces(out, 2);
	buf_append_str(out, name);
	if (column + 2 > OPTION_WIDTH) {
		buf_append_byte(out, '\n');
		column = 0;
	}
	append_wrapped(out, str_of(help), OPTION_WIDTH, column);
}

static void append_option(struct buf *out, const struct cli_option *option)
{
	struct buf name;
	buf_init(&name, 256);
	if (option->letter)
		buf_printf(&name, "-%c, ", option->letter);
	else
		append_spaces(&name, 4);
	buf_printf(&name, "--%s%s%s%s", option->name, option->value ? " " : "", option->value ? option->value : "",
	           option->repeat ? " ..." : "");
	append_entry(out, buf_str(&name), option->help);
	buf_free(&name);
}

static void append_options(struct buf *out, const struct cli_command *command)
{
	static const struct cli_option help = {.name = "help", .letter = 'h', .help = "Show this help and exit."};
	buf_append_c(out, "\nOptions:\n");
	CLI_EACH_OPTION(option, command)
	{
		append_option(out, option);
	}
	append_option(out, &help);
}

static void append_example(struct buf *out, const char *example)
{
	struct str rest = str_of(example), line;
	buf_append_c(out, "\nExamples:\n");
	while (rest.at) {
		rest = str_cut(rest, '\n', &line);
		if (line.len > 0)
			buf_printf(out, "  %.*s\n", STR_ARG(line));
	}
}

void cli_command_help(const struct cli_program *program, const struct cli_command *command, struct buf *out)
{
	buf_append_c(out, "Usage: ");
	cli_append_full_name(program, command, out);
	buf_printf(out, " [OPTIONS]%s%s\n\n", command->arguments ? " " : "", command->arguments ? command->arguments : "");
	append_wrapped(out, str_of(command->summary), 0, 0);
	if (command->details) {
		buf_append_byte(out, '\n');
		append_wrapped(out, str_of(command->details), 0, 0);
	}
	append_options(out, command);
	append_example(out, command->example);
}

void cli_program_help(const struct cli_program *program, struct str group, struct buf *out)
{
	const struct cli_command *unnamed = group.len ? NULL : cli_unnamed_command(program);
	buf_printf(out, "Usage: %s%s%.*s COMMAND [OPTIONS]\n", program->name, group.len ? " " : "", STR_ARG(group));
	if (unnamed)
		buf_printf(out, "       %s [OPTIONS]%s%s\n", program->name, unnamed->arguments ? " " : "",
		           unnamed->arguments ? unnamed->arguments : "");
	buf_append_byte(out, '\n');
	append_wrapped(out, str_of(program->summary), 0, 0);
	buf_append_c(out, "\nCommands:\n");
	CLI_EACH_COMMAND(command, program)
	{
		struct str name = str_of(cli_command_name(command)), head;
		(void)str_cut(name, ' ', &head);
		if (command != unnamed && (group.len == 0 || str_eq(head, group)))
			append_entry(out, name, command->summary);
	}
	if (unnamed) {
		buf_append_c(out, "\nWithout a command: ");
		append_wrapped(out, str_of(unnamed->summary), 0, 19);
		append_options(out, unnamed);
		append_example(out, unnamed->example);
	}
	buf_printf(out, "\n`%s COMMAND --help` shows a command's options and examples; `%s --version` the version.\n",
	           program->name, program->name);
}

/* --- mdoc --- */

/* A word or line of running text: backslashes are spelled out, and nothing at a line's start is taken for a request. */
static void man_text(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.at[i];
		bool line_start = out->len == 0 || out->at[out->len - 1] == '\n';
		if (line_start && (c == '.' || c == '\'' || c == ' '))
			buf_append_c(out, "\\&");
		if (c == '\\')
			buf_append_c(out, "\\e");
		else
			buf_append_byte(out, c);
	}
}

/* Text among the arguments of a macro: quotes would group words, and short words could be read as macros. */
static void man_argument(struct buf *out, const char *text)
{
	buf_append_c(out, " \"\\&");
	for (const char *c = text; *c; c++) {
		if (*c == '\\')
			buf_append_c(out, "\\e");
		else if (*c == '"')
			buf_append_c(out, "\\(dq");
		else
			buf_append_byte(out, *c == '\n' ? ' ' : *c);
	}
	buf_append_byte(out, '"');
}

/* Blank lines between paragraphs become .Pp. */
static void man_paragraphs(struct buf *out, const char *text)
{
	struct str rest = str_of(text), line;
	while (rest.at) {
		rest = str_cut(rest, '\n', &line);
		if (str_trim(line).len == 0) {
			if (rest.len > 0)
				buf_append_c(out, ".Pp\n");
			continue;
		}
		man_text(out, str_trim(line));
		buf_append_byte(out, '\n');
	}
}

static void man_option(struct buf *out, const struct cli_option *option)
{
	buf_append_c(out, ".It");
	if (option->letter)
		buf_printf(out, " Fl %c ,", option->letter);
	buf_printf(out, " Fl \\-%s", option->name);
	if (option->value) {
		buf_append_c(out, " Ar");
		man_argument(out, option->value);
	}
	if (option->repeat)
		buf_append_c(out, " No ...");
	buf_append_byte(out, '\n');
	man_paragraphs(out, option->help);
}

static void man_synopsis(struct buf *out, const struct cli_command *command)
{
	buf_append_c(out, ".Nm\n");
	if (cli_command_name(command)[0]) {
		buf_append_c(out, ".Cm");
		man_argument(out, cli_command_name(command));
		buf_append_byte(out, '\n');
	}
	buf_append_c(out, ".Op Ar options\n");
	if (command->arguments) {
		buf_append_c(out, ".Ar");
		man_argument(out, command->arguments);
		buf_append_byte(out, '\n');
	}
}

static void man_command(struct buf *out, const struct cli_program *program, const struct cli_command *command)
{
	buf_append_c(out, ".Ss");
	man_argument(out, cli_command_name(command)[0] ? cli_command_name(command) : program->name);
	buf_append_byte(out, '\n');
	man_paragraphs(out, command->summary);
	if (command->details) {
		buf_append_c(out, ".Pp\n");
		man_paragraphs(out, command->details);
	}
	buf_append_c(out, ".Bl -tag -width Ds\n");
	CLI_EACH_OPTION(option, command)
	{
		man_option(out, option);
	}
	buf_append_c(
	    out,
	    ".It Fl h , Fl \\-help\nShow the help of the command and exit.\n.El\n.Pp\nExamples:\n.Bd -literal -offset indent\n");
	struct str rest = str_of(command->example), line;
	while (rest.at) {
		rest = str_cut(rest, '\n', &line);
		man_text(out, line);
		buf_append_byte(out, '\n');
	}
	buf_append_c(out, ".Ed\n");
}

static void man_upper(struct buf *out, const char *text)
{
	for (const char *c = text; *c; c++)
		buf_append_byte(out, *c >= 'a' && *c <= 'z' ? (char)(*c - 32) : *c);
}

/* The day the page is made, or the day that reproducible builds ask for. */
static void man_date(struct buf *out)
{
	static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
	                                     "July",    "August",   "September", "October", "November", "December"};
	char now[CLOCK_RFC3339_SIZE];
	int64_t seconds;
	const char *fixed = getenv("SOURCE_DATE_EPOCH");
	if (!fixed || !str_to_i64(str_of(fixed), &seconds) || seconds < 0 || seconds > INT64_MAX / 1000000)
		seconds = clock_wall_us() / 1000000;
	clock_format_rfc3339(seconds * 1000000, now);
	uint64_t month = 1, day = 1;
	str_to_u64((struct str){now + 5, 2}, &month);
	str_to_u64((struct str){now + 8, 2}, &day);
	buf_printf(out, ".Dd %s %llu, %.4s\n", months[month - 1], (unsigned long long)day, now);
}

void cli_man_page(const struct cli_program *program, struct buf *out)
{
	static const char *const statuses[] = {
	    [CLI_OK] = "Success.",
	    [CLI_FAILED] = "The command failed; the reason is on standard error.",
	    [CLI_USAGE] = "The command line was wrong.",
	    [CLI_CONFIG] = "The configuration was wrong.",
	    [CLI_AUTH] = "Authentication failed.",
	    [CLI_NETWORK] = "The network or the other side could not be reached.",
	    [CLI_HARDWARE] = "The hardware is not able to do what was asked.",
	};
	man_date(out);
	buf_append_c(out, ".Dt ");
	man_upper(out, program->name);
	buf_printf(out, " 1\n.Os Darkbloom %s\n.Sh NAME\n.Nm %s\n.Nd ", program->version, program->name);
	struct str summary = str_of(program->summary);
	man_text(out, str_ends(summary, STR(".")) ? str_sub(summary, 0, summary.len - 1) : summary);
	buf_append_c(out, "\n.Sh SYNOPSIS\n");
	CLI_EACH_COMMAND(command, program)
	{
		man_synopsis(out, command);
	}
	buf_append_c(out, ".Sh DESCRIPTION\n");
	man_paragraphs(out, program->summary);
	buf_append_c(out, ".Sh COMMANDS\n");
	CLI_EACH_COMMAND(command, program)
	{
		man_command(out, program, command);
	}
	buf_append_c(out, ".Sh EXIT STATUS\n.Bl -tag -width Ds -compact\n");
	for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
		buf_printf(out, ".It %zu\n%s\n", i, statuses[i]);
	buf_append_c(out, ".El\n");
}
