#include "swarm/sim/chart.h"

#include <math.h>

#define WIDTH          860.0
#define HEIGHT         440.0
#define LEFT           68.0
#define RIGHT          176.0 /* where the lines are named */
#define TOP            86.0
#define SUBTITLE_CHARS 112 /* of a line */
#define BOTTOM         52.0
#define TICKS          6
#define ROW            20.0
#define PALETTE        8

struct frame {
	double x0, x1, y0, y1; /* of the data; y as logarithms on a logarithmic axis */
	bool log_y;
};

static const char style[] =
    "<style>"
    ".b{fill:#fff}.t{fill:#1c2024;font:600 17px system-ui,sans-serif}.s{fill:#60646c;font:13px system-ui,sans-serif}"
    ".a{fill:#60646c;font:12px system-ui,sans-serif}.n{fill:#1c2024;font:13px system-ui,sans-serif}"
    ".g{stroke:#e8e8ec;stroke-width:1}.x{stroke:#b9bbc6;stroke-width:1}"
    "path{fill:none;stroke-width:1.7;stroke-linejoin:round}.k{stroke-width:3}.d{stroke-dasharray:6 4}"
    ".c0{stroke:#8b8d98}.c1{stroke:#12a594}.c2{stroke:#8e4ec6}.c3{stroke:#e5484d}.c4{stroke:#0b68cb}.c5{stroke:#c98500}"
    ".c6{stroke:#30a46c}.c7{stroke:#d6409f}"
    "@media(prefers-color-scheme:dark){.b{fill:#111113}.t,.n{fill:#edeef0}.s,.a{fill:#b0b4ba}.g{stroke:#272a2d}.x{stroke:#"
    "5a6169}"
    ".c0{stroke:#a0a2ab}.c1{stroke:#0bd8b6}.c2{stroke:#bf7af0}.c3{stroke:#ff6369}.c4{stroke:#70b8ff}.c5{stroke:#ffca16}"
    ".c6{stroke:#3dd68c}.c7{stroke:#ff8dcc}}"
    "</style>";

static void put_text(struct buf *out, const char *class, double x, double y, const char *anchor, const char *text)
{
	(void)buf_printf(out, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class, x, y, anchor);
	for (; *text; text++) {
		if (*text == '<' || *text == '&')
			(void)buf_append_c(out, *text == '<' ? "&lt;" : "&amp;");
		else
			(void)buf_append_byte(out, *text);
	}
	(void)buf_append_c(out, "</text>\n");
}

/* 1, 2 or 5 times a power of ten, so that about TICKS of them make up the span. */
static double step_of(double span)
{
	double raw = span / TICKS, power = pow(10, floor(log10(raw))), lead = raw / power;
	return power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
}

static bool shown(const struct chart *chart, double y)
{
	return isfinite(y) && (!chart->log_y || y > 0);
}

static struct frame frame_of(const struct chart *chart)
{
	struct frame frame = {INFINITY, -INFINITY, INFINITY, -INFINITY, chart->log_y};
	for (size_t i = 0; i < chart->line_count; i++) {
		const struct chart_line *line = &chart->lines[i];
		for (size_t at = 0; at < line->count; at++) {
			if (!shown(chart, line->y[at]))
				continue;
			double y = chart->log_y ? log10(line->y[at]) : line->y[at];
			frame.x0 = fmin(frame.x0, line->x[at]);
			frame.x1 = fmax(frame.x1, line->x[at]);
			frame.y0 = fmin(frame.y0, y);
			frame.y1 = fmax(frame.y1, y);
		}
	}
	if (!(frame.x1 > frame.x0))
		frame = (struct frame){0, 1, 0, 1, chart->log_y};
	if (chart->y_most > 0)
		frame.y1 = chart->log_y ? log10(chart->y_most) : chart->y_most;
	if (chart->log_y) {
		frame.y0 = floor(frame.y0 * 2) / 2;
		frame.y1 = ceil(frame.y1 * 2) / 2;
	} else {
		frame.y0 = fmin(frame.y0, 0);
		double step = step_of(frame.y1 > frame.y0 ? frame.y1 - frame.y0 : 1);
		frame.y1 = chart->y_most > 0 ? frame.y1 : ceil(frame.y1 / step) * step;
	}
	if (!(frame.y1 > frame.y0))
		frame.y1 = frame.y0 + 1;
	return frame;
}

static double at_x(const struct frame *frame, double x)
{
	return LEFT + (x - frame->x0) / (frame->x1 - frame->x0) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const struct frame *frame, double y)
{
	double scaled = frame->log_y ? log10(y) : y;
	scaled = fmin(fmax(scaled, frame->y0), frame->y1);
	return HEIGHT - BOTTOM - (scaled - frame->y0) / (frame->y1 - frame->y0) * (HEIGHT - TOP - BOTTOM);
}

static const char *number(double value, char text[32])
{
	struct buf out;
	buf_init(&out, 31);
	if (fabs(value) >= 10000)
		(void)buf_printf(&out, "%gk", value / 1000);
	else
		(void)buf_printf(&out, "%.4g", value);
	(void)str_copy(buf_str(&out), text, 32);
	buf_free(&out);
	return text;
}

static void put_y_line(struct buf *out, const struct frame *frame, double value)
{
	char text[32];
	double y = at_y(frame, value);
	(void)buf_printf(out, "<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", LEFT, WIDTH - RIGHT, y, y);
	put_text(out, "a", LEFT - 8, y + 4, "end", number(value, text));
}

static void put_axes(const struct chart *chart, const struct frame *frame, struct buf *out)
{
	char text[32];
	if (frame->log_y) {
		static const double leads[] = {1, 2, 5};
		for (double power = floor(frame->y0); power <= frame->y1; power++)
			for (int i = 0; i < 3; i++)
				if (power + log10(leads[i]) >= frame->y0 - 1e-9 && power + log10(leads[i]) <= frame->y1 + 1e-9)
					put_y_line(out, frame, leads[i] * pow(10, power));
	} else {
		double step = step_of(frame->y1 - frame->y0);
		for (double value = ceil(frame->y0 / step) * step; value <= frame->y1 + step / 1e6; value += step)
			put_y_line(out, frame, value);
	}
	double step = step_of(frame->x1 - frame->x0);
	for (double value = ceil(frame->x0 / step) * step; value <= frame->x1 + step / 1e6; value += step)
		put_text(out, "a", at_x(frame, value), HEIGHT - BOTTOM + 18, "middle", number(value, text));
	(void)buf_printf(out, "<line class=\"x\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", LEFT, WIDTH - RIGHT,
	                 HEIGHT - BOTTOM, HEIGHT - BOTTOM);
	put_text(out, "a", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "middle", chart->x_label);
	put_text(out, "a", 12, TOP - 12, "start", chart->y_label);
}

static const char *class_of(const struct chart_line *line)
{
	return line->strong ? line->dashed ? " k d" : " k" : line->dashed ? " d" : "";
}

static void put_line(const struct chart *chart, const struct frame *frame, size_t index, struct buf *out)
{
	const struct chart_line *line = &chart->lines[index];
	bool begun = false;
	(void)buf_printf(out, "<path class=\"c%zu%s\" d=\"", index % PALETTE, class_of(line));
	for (size_t at = 0; at < line->count; at++) {
		if (!shown(chart, line->y[at]))
			continue;
		(void)buf_printf(out, "%c%.1f %.1f", begun ? 'L' : 'M', at_x(frame, line->x[at]), at_y(frame, line->y[at]));
		begun = true;
	}
	(void)buf_append_c(out, "\"/>\n");
	double y = TOP + 10 + ROW * (double)index;
	(void)buf_printf(out, "<path class=\"c%zu%s\" d=\"M%.1f %.1fh24\"/>\n", index % PALETTE, class_of(line), WIDTH - RIGHT + 16,
	                 y - 4);
	put_text(out, "n", WIDTH - RIGHT + 48, y, "start", line->name);
}

/* In two lines where it is longer than the picture is wide. */
static void put_subtitle(struct buf *out, const char *text)
{
	char first[SUBTITLE_CHARS + 1];
	size_t cut = strlen(text);
	if (cut > SUBTITLE_CHARS)
		for (cut = SUBTITLE_CHARS; cut > SUBTITLE_CHARS / 2 && text[cut] != ' ';)
			cut--;
	memcpy(first, text, cut);
	first[cut] = 0;
	put_text(out, "s", 12, 44, "start", first);
	if (text[cut])
		put_text(out, "s", 12, 60, "start", text + cut + (text[cut] == ' '));
}

void chart_write(const struct chart *chart, struct buf *out)
{
	struct frame frame = frame_of(chart);
	(void)buf_printf(
	    out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"%g\" height=\"%g\" role=\"img\">\n",
	    WIDTH, HEIGHT, WIDTH, HEIGHT);
	(void)buf_append_c(out, style);
	(void)buf_printf(out, "\n<rect class=\"b\" width=\"%g\" height=\"%g\" rx=\"8\"/>\n", WIDTH, HEIGHT);
	put_text(out, "t", 12, 26, "start", chart->title);
	put_subtitle(out, chart->subtitle);
	put_axes(chart, &frame, out);
	for (size_t i = 0; i < chart->line_count && i < CHART_MAX_LINES; i++)
		put_line(chart, &frame, i, out);
	(void)buf_append_c(out, "</svg>\n");
}
