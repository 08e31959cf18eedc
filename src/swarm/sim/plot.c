#include "swarm/sim/chart.h"
#include "swarm/sim/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { POINTS = SIM_SERIES > 101 ? SIM_SERIES : 101 };

struct points {
	double x[POINTS], y[CHART_MAX_LINES][POINTS];
};

static enum db_err write_file(const char *path, const struct buf *text, struct error *error)
{
	FILE *file = fopen(path, "w");
	bool ok = file && !text->failed && fwrite(text->at, 1, text->len, file) == text->len;
	if (file && fclose(file))
		ok = false;
	return ok ? DB_OK : error_set(error, DB_E_IO, "%s cannot be written", path);
}

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
	enum db_err err = write_file(path, &svg, error);
	buf_free(&svg);
	return err;
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

/* By percentile: 101 points. */
static enum db_err plot_curve(const struct chart *form, const struct sim_scenario *scenario, const struct sim_summary *runs,
                              size_t count, size_t offset, double scale, const char *what, const char *dir,
                              struct points *points, struct error *error)
{
	struct chart chart = *form;
	chart.subtitle = scenario->about;
	for (int i = 0; i <= 100; i++)
		points->x[i] = i;
	for (size_t run = 0; run < count; run++) {
		const double *curve = (const double *)(const void *)((const char *)&runs[run] + offset);
		for (int i = 0; i <= 100; i++)
			points->y[run][i] = curve[i] * scale;
		add_line(&chart, &runs[run], points, 101);
	}
	return write_chart(&chart, scenario, what, dir, error);
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

struct curve {
	struct chart form;
	size_t offset;
	double scale;
	const char *what;
};

#define CURVE(member, scale, what, ...)                                                                                        \
	{                                                                                                                          \
		{__VA_ARGS__}, offsetof(struct sim_summary, member), scale, what                                                       \
	}

static const struct curve percentiles[] = {
    CURVE(ttft_curve, 0.001, "ttft", .title = "Time to the first token, by percentile", .y_label = "seconds", .log_y = true,
          .x_label = "share of the requests that had to wait no longer, %"),
    CURVE(gap_curve, 1, "gaps", .title = "Time between tokens, by percentile", .y_label = "milliseconds", .log_y = true,
          .x_label = "share of the gaps that were no longer, %"),
    CURVE(tenant_curve, 100, "fairness", .title = "Answers that met the goal, by tenant", .y_label = "% of its requests",
          .y_most = 100, .x_label = "share of the tenants that fared no better, %"),
};

static const struct curve over_time[] = {
    CURVE(ttft_p99_series, 0.001, "ttft-over-time", .title = "p99 of the time to the first token, over time",
          .y_label = "seconds", .log_y = true),
    CURVE(good_series, 1, "goodput", .title = "Answers that met the goal, by the time they were asked for",
          .y_label = "requests a second"),
    CURVE(busy_series, 100, "utilisation", .title = "Machines at work", .y_label = "% of their time", .y_most = 100),
    CURVE(queue_series, 1, "queue", .title = "Requests that wait in the coordinator", .y_label = "requests"),
    CURVE(loads_series, 1, "loads", .title = "Loads of models so far", .y_label = "loads"),
    CURVE(wasted_series, 100, "wasted", .title = "Tokens worked off for nothing so far", .y_label = "% of all tokens"),
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

enum db_err sim_report_plots(const struct sim_scenario *scenario, const struct sim_summary *runs, size_t count, const char *dir,
                             struct error *error)
{
	struct points *points = calloc(1, sizeof *points);
	enum db_err err = DB_OK;
	if (!points)
		return error_set(error, DB_E_NOMEM, "out of memory");
	if (count > CHART_MAX_LINES)
		count = CHART_MAX_LINES;
	(void)mkdir(dir, 0777);
	for (size_t i = 0; i < COUNT(percentiles) && !err; i++)
		err = plot_curve(&percentiles[i].form, scenario, runs, count, percentiles[i].offset, percentiles[i].scale,
		                 percentiles[i].what, dir, points, error);
	for (size_t i = 0; i < COUNT(over_time) && !err; i++)
		err = plot_series(&over_time[i].form, scenario, runs, count, over_time[i].offset, over_time[i].scale, over_time[i].what,
		                  dir, points, error);
	free(points);
	return err;
}

/* --- one page with all of it --- */

static void put_escaped(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] == '<' || text.at[i] == '&')
			(void)buf_append_c(out, text.at[i] == '<' ? "&lt;" : "&amp;");
		else
			(void)buf_append_byte(out, text.at[i]);
	}
}

enum db_err sim_report_page(const struct sim_scenario *scenario, struct str table, const char *dir, struct error *error)
{
	char path[1024];
	struct buf page;
	int len = snprintf(path, sizeof path, "%s/%s.html", dir, scenario->name);
	if (len < 0 || (size_t)len >= sizeof path)
		return error_set(error, DB_E_LIMIT, "the name of the folder is too long");
	buf_init(&page, 1 << 20);
	(void)buf_append_c(&page,
	                   "<!doctype html><meta charset=\"utf-8\"><meta name=\"color-scheme\" content=\"light dark\"><title>");
	put_escaped(&page, str_of(scenario->name));
	(void)buf_append_c(&page, "</title>\n<style>body{max-width:60rem;margin:2rem auto;font-family:system-ui,sans-serif}"
	                          "pre{overflow-x:auto}img{max-width:100%;margin:.5rem 0}</style>\n<pre>");
	put_escaped(&page, table);
	(void)buf_append_c(&page, "</pre>\n");
	for (size_t i = 0; i < COUNT(percentiles) + COUNT(over_time); i++) {
		const struct curve *curve = i < COUNT(percentiles) ? &percentiles[i] : &over_time[i - COUNT(percentiles)];
		(void)buf_printf(&page, "<img src=\"%s-%s.svg\" alt=\"%s\">\n", scenario->name, curve->what, curve->form.title);
	}
	enum db_err err = write_file(path, &page, error);
	buf_free(&page);
	return err;
}
