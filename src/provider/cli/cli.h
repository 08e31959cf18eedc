/* The subcommands of `darkbloom`, one file each. Every run_* takes the parsed line and returns the exit status. */
#ifndef PROVIDER_CLI_H
#define PROVIDER_CLI_H

#include "core/cli.h"
#include "core/error.h"

int run_start(const struct cli_args *args);
int run_status(const struct cli_args *args);
int run_chat(const struct cli_args *args);
int run_login(const struct cli_args *args);
int run_logout(const struct cli_args *args);
int run_whoami(const struct cli_args *args);
int run_verify(const struct cli_args *args);
int run_models_list(const struct cli_args *args);
int run_models_pull(const struct cli_args *args);
int run_models_verify(const struct cli_args *args);
int run_cache_status(const struct cli_args *args);
int run_cache_erase(const struct cli_args *args);
int run_cache_settings(const struct cli_args *args);

extern const struct cli_option start_options[], status_options[], chat_options[], models_list_options[], models_pull_options[],
    models_verify_options[], cache_status_options[], cache_erase_options[], cache_settings_options[], login_options[],
    logout_options[], whoami_options[], verify_options[];

/* Shared by the commands. */

#define PROVIDER_STATE_DIR_ENV "DARKBLOOM_STATE_DIR"
/* --state-dir, else the environment, else <home>/.darkbloom. */
void provider_state_dir(const struct cli_args *args, char *out, size_t size);
/* --models-dir or the default. */
void provider_models_dir(const struct cli_args *args, char *out, size_t size);

/* A progress bar on a terminal, a line every ten percent elsewhere; to stderr. */
struct progress {
	const char *label;
	int last_percent;
	bool terminal;
};
void progress_prepare(struct progress *progress, const char *label); /* nothing is shown before it is known to begin */
void progress_begin(struct progress *progress, const char *label);   /* ... and shown as begun */
void progress_show(struct progress *progress, double fraction);
void progress_end(struct progress *progress);
void progress_abandon(struct progress *progress); /* what follows on stderr begins a line of its own */

#endif
