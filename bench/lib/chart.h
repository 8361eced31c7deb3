/* bench/lib/chart.h: series over time as an SVG: a panel for each, one below the other.
 * Errors: none: see measure.h. */
#ifndef LOQUAT_BENCH_CHART_H
#define LOQUAT_BENCH_CHART_H

#include "bench/lib/watch.h"

enum { CHART_LINES_MAX = 3 };

struct chart_line {
    const char *name; /* NULL: none */
    size_t column;    /* of struct watch_sample */
};
struct chart_panel {
    const char *title;
    double scale; /* what one unit of the axis is, in those of the samples */
    double bound; /* drawn as a dashed line, in units of the axis; 0: none */
    struct chart_line lines[CHART_LINES_MAX];
};
void chart_write(const struct watch *watch, const char *path, const char *title,
                 const struct chart_panel *panels, size_t count);

#endif
