#include "provider/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "provider/models/models.h"
#include "provider/platform/platform.h"

#define BAR_WIDTH 30

void provider_state_dir(const struct cli_args *args, char *out, size_t size)
{
	const char *given = cli_value(args, "state-dir");
	if (!given)
		given = getenv(PROVIDER_STATE_DIR_ENV);
	if (given && given[0])
		str_copy(str_of(given), out, size);
	else
		platform_home_path(".darkbloom", out, size);
}

void provider_models_dir(const struct cli_args *args, char *out, size_t size)
{
	const char *given = cli_value(args, "models-dir");
	if (given && given[0])
		str_copy(str_of(given), out, size);
	else
		models_default_dir(out, size);
}

void progress_prepare(struct progress *progress, const char *label)
{
	*progress = (struct progress){.label = label, .last_percent = -1, .terminal = isatty(STDERR_FILENO) == 1};
}

void progress_begin(struct progress *progress, const char *label)
{
	progress_prepare(progress, label);
	progress_show(progress, 0);
}

void progress_show(struct progress *progress, double fraction)
{
	int percent = fraction <= 0 ? 0 : fraction >= 1 ? 100 : (int)(fraction * 100);
	if (percent == progress->last_percent ||
	    (!progress->terminal && percent / 10 == progress->last_percent / 10 && progress->last_percent >= 0))
		return;
	progress->last_percent = percent;
	if (!progress->terminal) {
		fprintf(stderr, "%s: %d%%\n", progress->label, percent);
		return;
	}
	char bar[BAR_WIDTH + 1];
	for (int i = 0; i < BAR_WIDTH; i++)
		bar[i] = i < percent * BAR_WIDTH / 100 ? '#' : '.';
	bar[BAR_WIDTH] = '\0';
	fprintf(stderr, "\r%s [%s] %3d%%", progress->label, bar, percent);
	fflush(stderr);
}

void progress_end(struct progress *progress)
{
	progress_show(progress, 1);
	if (progress->terminal)
		fputc('\n', stderr);
}

void progress_abandon(struct progress *progress)
{
	if (progress->terminal && progress->last_percent >= 0)
		fputc('\n', stderr);
}
