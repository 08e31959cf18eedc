/* Shared by the files of the command-line reader; not for anyone else. */
#ifndef CORE_CLI_INTERNAL_H
#define CORE_CLI_INTERNAL_H

#include "core/cli.h"

#include "core/str.h"

/* Options are optional: a command without any may leave the table NULL. */
#define CLI_EACH_OPTION(it, command)  for (const struct cli_option *it = (command)->options; it && it->name; it++)
#define CLI_EACH_COMMAND(it, program) for (const struct cli_command *it = (program)->commands; it->run; it++)

static inline const char *cli_command_name(const struct cli_command *command)
{
	return command->name ? command->name : "";
}

/* The command that runs when no command is named, or NULL. */
static inline const struct cli_command *cli_unnamed_command(const struct cli_program *program)
{
	CLI_EACH_COMMAND(command, program)
	{
		if (cli_command_name(command)[0] == '\0')
			return command;
	}
	return NULL;
}

/* "darkbloom models pull". */
void cli_append_full_name(const struct cli_program *program, const struct cli_command *command, struct buf *out);
/* The program's own page when command is NULL; `group` limits its list to commands that begin with that word. */
void cli_program_help(const struct cli_program *program, struct str group, struct buf *out);
void cli_command_help(const struct cli_program *program, const struct cli_command *command, struct buf *out);

#endif
