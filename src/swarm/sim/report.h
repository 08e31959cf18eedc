/* What a comparison prints: a table for people, JSON for programs, curves as SVG. Thread: one at a time. */
#ifndef SWARM_SIM_REPORT_H
#define SWARM_SIM_REPORT_H

#include "core/buf.h"
#include "swarm/sim/measure.h"

void sim_report_table(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_summary *runs,
                      size_t count, struct buf *out);
void sim_report_json(const struct sim_scenario *scenario, const struct sim_trace *trace, const struct sim_summary *runs,
                     size_t count, struct buf *out);
/* Writes DIR/<scenario>-<what>.svg, each with one line for each policy. DB_E_IO when a file cannot be written. */
enum db_err sim_report_plots(const struct sim_scenario *scenario, const struct sim_summary *runs, size_t count, const char *dir,
                             struct error *error);
/* Writes DIR/<scenario>.html: the table and the curves beside it. DB_E_IO. */
enum db_err sim_report_page(const struct sim_scenario *scenario, struct str table, const char *dir, struct error *error);

#endif
