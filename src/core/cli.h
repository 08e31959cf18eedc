/* Command lines: a table of commands with options, from which parsing, --help, errors and man pages come.
 * Thread: start-up only. */
#ifndef CORE_CLI_H
#define CORE_CLI_H

#include "core/buf.h"
#include "core/error.h"

struct cli_option {
	const char *name;  /* "coordinator-url", given as --coordinator-url */
	char letter;       /* 'c' for -c, or 0 */
	const char *value; /* name of the value for the help ("URL"); NULL for a switch */
	bool repeat;       /* may be given more than once */
	const char *help;
};

struct cli_args; /* the parsed line of one command; borrowed by `run` */

struct cli_command {
	const char *name;                 /* "models pull"; NULL or "" for the program without a subcommand */
	const char *arguments;            /* "ID [NAME...]" (it is checked how many are given) or NULL for none */
	const char *summary;              /* one line */
	const char *details;              /* paragraphs, may be NULL */
	const char *example;              /* one or more lines, required */
	const struct cli_option *options; /* ends with .name == NULL */
	int (*run)(const struct cli_args *args);
};

struct cli_program {
	const char *name, *summary, *version;
	const struct cli_command *commands; /* ends with .run == NULL */
};

/* Exit statuses (provider-node 2.1). */
enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_CONFIG = 3, CLI_AUTH = 4, CLI_NETWORK = 5, CLI_HARDWARE = 6 };

/* Parses, handles --help (-h, `help COMMAND`), --version (-V) and --man (the man page), runs the command; the value is the
 * process's exit status. */
int cli_main(const struct cli_program *program, int argc, char **argv);

const char *cli_value(const struct cli_args *args, const char *option);                           /* last value, or NULL */
size_t cli_values(const struct cli_args *args, const char *option, const char **out, size_t max); /* all, in order */
bool cli_flag(const struct cli_args *args, const char *option);
size_t cli_arg_count(const struct cli_args *args);
const char *cli_arg(const struct cli_args *args, size_t index); /* NULL past the end */
/* Integer option in [min, max]; `fallback` when absent; on bad input prints a sentence and returns false. */
bool cli_int(const struct cli_args *args, const char *option, int64_t fallback, int64_t min, int64_t max, int64_t *out);

/* Appends a man page (mdoc) of the program, section 1. */
void cli_man_page(const struct cli_program *program, struct buf *out);

#endif
