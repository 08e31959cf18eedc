#include "swarm/simulate.h"

#include <stdio.h>
#include <stdlib.h>

#include "swarm/sim/diary.h"
#include "swarm/sim/report.h"
#include "swarm/sim/world.h"

#define MAX_RUNS 16

const struct cli_option swarm_simulate_options[] = {
    {.name = "policies",
     .value = "LIST",
     .help = "which to compare: random, round-robin, least-loaded, chapter, ours, oracle (default: these), scan"},
    {.name = "plot", .value = "DIR", .help = "write a page with the table and curves there (HTML, SVG)"},
    {.name = "json", .help = "print JSON in place of a table"},
    {.name = "seed", .value = "N", .help = "in place of the scenario's"},
    {.name = "compare-scan", .help = "compare every decision of ours with a look at every machine"},
    {.name = "no-hedge", .help = "ask no second machine"},
    {.name = "all-well", .help = "leave out all that happens to machines"},
    {.name = "diary", .value = "FILE", .help = "write what befell each request there (CSV), under the last of the policies"},
    {.name = NULL},
};

static size_t read_policies(const char *list, const struct sim_policy **out)
{
	struct str rest = str_of(list), name;
	size_t count = 0;
	if (!list) {
		while (sim_policies[count]) {
			out[count] = sim_policies[count];
			count++;
		}
		return count;
	}
	while (rest.len && count < MAX_RUNS) {
		rest = str_cut(rest, ',', &name);
		out[count] = sim_policy_named(str_trim(name));
		if (!out[count++]) {
			fprintf(stderr,
			        "darkbloom-swarm: there is no policy '%.*s': --policies takes names of the --help, with commas between\n",
			        STR_ARG(name));
			return 0;
		}
	}
	return count;
}

static enum db_err write_report(const char *dir, const struct sim_scenario *scenario, const struct sim_trace *trace,
                                const struct sim_summary *runs, size_t count, struct error *error)
{
	struct buf table;
	buf_init(&table, 4 << 20);
	sim_report_table(scenario, trace, runs, count, &table);
	enum db_err err = sim_report_plots(scenario, runs, count, dir, error);
	if (!err)
		err = sim_report_page(scenario, buf_str(&table), dir, error);
	buf_free(&table);
	return err;
}

static int print(const struct cli_args *args, const struct sim_scenario *scenario, const struct sim_trace *trace,
                 const struct sim_summary *runs, size_t count)
{
	const char *dir = cli_value(args, "plot");
	struct error error;
	struct buf text;
	buf_init(&text, 4 << 20);
	if (cli_flag(args, "json"))
		sim_report_json(scenario, trace, runs, count, &text);
	else
		sim_report_table(scenario, trace, runs, count, &text);
	printf("%.*s", STR_ARG(buf_str(&text)));
	buf_free(&text);
	int status = CLI_OK;
	for (size_t i = 0; i < count; i++)
		status = sim_broken_rule(&runs[i]) ? CLI_FAILED : status;
	if (!dir || !write_report(dir, scenario, trace, runs, count, &error))
		return status;
	fprintf(stderr, "darkbloom-swarm: %s\n", error.text);
	return CLI_FAILED;
}

static enum db_err write_diary(const char *path, struct str text, struct error *error)
{
	FILE *file = fopen(path, "w");
	bool ok = file && fwrite(text.at, 1, text.len, file) == text.len;
	if (file && fclose(file))
		ok = false;
	return ok ? DB_OK : error_set(error, DB_E_IO, "%s cannot be written", path);
}

int swarm_simulate(const struct cli_args *args)
{
	const struct sim_policy *policies[MAX_RUNS];
	struct sim_scenario *scenario = calloc(1, sizeof *scenario);
	struct sim_summary *runs = calloc(MAX_RUNS, sizeof *runs);
	struct sim_trace trace = {0};
	struct buf lines;
	struct sim_diary diary = {.out = &lines};
	const char *diary_path = cli_value(args, "diary");
	struct error error;
	int64_t seed = -1;
	int status = CLI_FAILED;
	buf_init(&lines, (size_t)1 << 31);
	size_t count = read_policies(cli_value(args, "policies"), policies);
	if (!scenario || !runs || !count || !cli_int(args, "seed", -1, 0, INT64_MAX, &seed)) {
		status = CLI_USAGE;
		goto out;
	}
	if (sim_scenario_load(cli_arg(args, 0), scenario, &error)) {
		fprintf(stderr, "darkbloom-swarm: %s\n", error.text);
		status = CLI_CONFIG;
		goto out;
	}
	if (seed >= 0)
		scenario->seed = (uint64_t)seed;
	scenario->hedge = scenario->hedge && !cli_flag(args, "no-hedge");
	scenario->happening_count = cli_flag(args, "all-well") ? 0 : scenario->happening_count;
	scenario->audit = cli_flag(args, "compare-scan");
	enum db_err err = sim_trace_make(scenario, &trace, &error);
	for (size_t i = 0; i < count && !err; i++) {
		scenario->diary = diary_path && i + 1 == count ? &diary : NULL;
		err = sim_run(scenario, &trace, policies[i], &runs[i], &error);
	}
	if (!err && diary_path)
		err = write_diary(diary_path, buf_str(&lines), &error);
	if (err)
		fprintf(stderr, "darkbloom-swarm: %s\n", error.text);
	else
		status = print(args, scenario, &trace, runs, count);
out:
	sim_trace_free(&trace);
	buf_free(&lines);
	free(scenario);
	free(runs);
	return status;
}
