/* Line charts as SVG that is readable on light and on dark pages. Thread: one at a time. */
#ifndef SWARM_SIM_CHART_H
#define SWARM_SIM_CHART_H

#include "core/buf.h"

#define CHART_MAX_LINES 16

struct chart_line {
	const char *name;
	const double *x, *y;
	size_t count;
	bool dashed, strong;
};

struct chart {
	const char *title, *subtitle, *x_label, *y_label;
	struct chart_line lines[CHART_MAX_LINES];
	size_t line_count;
	bool log_y;    /* values at or below 0 are left out */
	double y_most; /* the axis ends there; 0: where the lines end */
};

void chart_write(const struct chart *chart, struct buf *out);

#endif
