#include "swarm/sim/chart.h"
#include "swarm/sim/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { POINTS = SIM_SERIES > 101 ? SIM_SERIES : 101 };

struct points {
	double x[POINTS], y[CHART_MAX_LINES][POINTS];
};

static enum db_err write_chart(const struct chart *chart, const struct sim_scenario *scenario, const char *what,
                               const char *dir, struct error *error)
{
	char path[1024];
	struct buf svg;
	int len = snprintf(path, sizeof path, "%s/%s-%s.svg", dir, scenario->name, what);
	if (len < 0 || (size_t)len >= sizeof path)
		return error_set(error, DB_E_LIMIT, "the name of the folder is too long");
	buf_init(&svg, 4 << 20);
	chart_write(chart, &svg);
	FILE *file = fopen(path, "w");
	bool ok = file && !svg.failed && fwrite(svg.at, 1, svg.len, file) == svg.len;
	if (file && fclose(file))
		ok = false;
	buf_free(&svg);
	return ok ? DB_OK : error_set(error, DB_E_IO, "%s cannot be written", path);
}

static void add_line(struct chart *chart, const struct sim_summary *run, const struct points *points, size_t count)
{
	size_t at = chart->line_count;
	if (at == CHART_MAX_LINES)
		return;
	chart->lines[chart->line_count++] = (struct chart_line){.name = run->policy,
	                                                        .x = points->x,
	                                                        .y = points->y[at],
	                                                        .count = count,
	                                                        .strong = str_is(str_of(run->policy), "ours"),
	                                                        .dashed = str_is(str_of(run->policy), "oracle")};
}

static enum db_err plot_ttft(const struct sim_scenario *scenario, const struct sim_summary *runs, size_t count, const char *dir,
                             struct points *points, struct error *error)
{
	struct chart chart = {.title = "Time to the first token, by percentile",
	                      .subtitle = scenario->about,
	                      .x_label = "share of the requests that had to wait no longer, %",
	                      .y_label = "seconds",
	                      .log_y = true};
	for (int i = 0; i <= 100; i++)
		points->x[i] = i;
	for (size_t run = 0; run < count; run++) {
		for (int i = 0; i <= 100; i++)
			points->y[run][i] = (i == 100 ? runs[run].ttft_p999 : runs[run].ttft_curve[i]) / 1000;
		add_line(&chart, &runs[run], points, 101);
	}
	return write_chart(&chart, scenario, "ttft", dir, error);
}

static enum db_err plot_series(const struct chart *form, const struct sim_scenario *scenario, const struct sim_summary *runs,
                               size_t count, size_t offset, double scale, const char *what, const char *dir,
                               struct points *points, struct error *error)
{
	struct chart chart = *form;
	chart.subtitle = scenario->about;
	chart.x_label = "seconds";
	for (size_t i = 0; i < SIM_SERIES; i++)
		points->x[i] = (double)i * scenario->seconds / SIM_SERIES;
	for (size_t run = 0; run < count; run++) {
		const double *series = (const double *)(const void *)((const char *)&runs[run] + offset);
		for (size_t i = 0; i < SIM_SERIES; i++)
			points->y[run][i] = series[i] * scale;
		add_line(&chart, &runs[run], points, SIM_SERIES);
	}
	return write_chart(&chart, scenario, what, dir, error);
}

enum db_err sim_report_plots(const struct sim_scenario *scenario, const struct sim_summary *runs, size_t count, const char *dir,
                             struct error *error)
{
	static const struct {
		struct chart form;
		size_t offset;
		double scale;
		const char *what;
	} curves[] = {
	    {{.title = "p99 of the time to the first token, over time", .y_label = "seconds", .log_y = true},
	     offsetof(struct sim_summary, ttft_p99_series),
	     0.001,
	     "ttft-over-time"},
	    {{.title = "Answers that met the goal, by the time they were asked for", .y_label = "requests a second"},
	     offsetof(struct sim_summary, good_series),
	     1,
	     "goodput"},
	    {{.title = "Machines at work", .y_label = "% of their time", .y_most = 100},
	     offsetof(struct sim_summary, busy_series),
	     100,
	     "utilisation"},
	    {{.title = "Requests that wait in the coordinator", .y_label = "requests"},
	     offsetof(struct sim_summary, queue_series),
	     1,
	     "queue"},
	};
	struct points *points = calloc(1, sizeof *points);
	if (!points)
		return error_set(error, DB_E_NOMEM, "out of memory");
	if (count > CHART_MAX_LINES)
		count = CHART_MAX_LINES;
	(void)mkdir(dir, 0777);
	enum db_err err = plot_ttft(scenario, runs, count, dir, points, error);
	for (size_t i = 0; i < sizeof curves / sizeof curves[0] && !err; i++)
		err = plot_series(&curves[i].form, scenario, runs, count, curves[i].offset, curves[i].scale, curves[i].what, dir,
		                  points, error);
	free(points);
	return err;
}
