#include "bench/lib/chart.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

enum { WIDTH = 860, PANEL = 130, PLOT = 84, LEFT = 70, RIGHT = 150, TOP = 40, HEAD = 20 };

static const char *const colours[CHART_LINES_MAX] = {"#1f6feb", "#d1242f", "#1a7f37"};

/* The next number that is good to read. */
static double round_up(double value)
{
    if (value <= 0)
        return 1;
    double power = pow(10, floor(log10(value)));
    for (int i = 0; i < 6; i++) {
        static const double steps[] = {1, 1.5, 2, 3, 5, 7.5};
        if (steps[i] * power >= value)
            return steps[i] * power;
    }
    return 10 * power;
}

static double top_of(const struct watch *watch, const struct chart_panel *panel)
{
    double top = panel->bound;
    for (size_t l = 0; l < CHART_LINES_MAX && panel->lines[l].name != NULL; l++)
        top = fmax(top, watch_quantile(watch, panel->lines[l].column, 0, 1, 1) / panel->scale);
    return round_up(top);
}

static void draw_line(FILE *file, const struct watch *watch, const struct chart_panel *panel,
                      size_t line, double top, double y)
{
    double end = watch->samples[watch->n - 1].at_s, plot = WIDTH - LEFT - RIGHT;
    fprintf(file, "<polyline fill='none' stroke='%s' stroke-width='1.4' points='", colours[line]);
    for (size_t i = 0; i < watch->n; i++) {
        double value = watch_value(&watch->samples[i], panel->lines[line].column) / panel->scale;
        fprintf(file, "%.1f,%.1f ", LEFT + watch->samples[i].at_s / end * plot,
                y + PLOT * (1 - value / top));
    }
    fprintf(file, "'/>\n<text x='%d' y='%.0f' fill='%s'>%s</text>\n", WIDTH - RIGHT + 10,
            y + 14 + 18 * (double)line, colours[line], panel->lines[line].name);
}

static void draw_panel(FILE *file, const struct watch *watch, const struct chart_panel *panel,
                       double y)
{
    double top = top_of(watch, panel);
    fprintf(file, "<text x='%d' y='%.0f' font-weight='bold'>%s</text>\n", LEFT, y - 6,
            panel->title);
    for (int half = 0; half <= 2; half++) {
        double at = y + PLOT * (1 - half / 2.0);
        fprintf(file,
                "<path d='M%d %.1fH%d' stroke='#d0d7de'/><text x='%d' y='%.1f' "
                "text-anchor='end' fill='#57606a'>%g</text>\n",
                LEFT, at, WIDTH - RIGHT, LEFT - 8, at + 4, top * half / 2);
    }
    if (panel->bound > 0) {
        double at = y + PLOT * (1 - panel->bound / top);
        fprintf(file,
                "<path d='M%d %.1fH%d' stroke='#9a6700' stroke-dasharray='5 4'/>"
                "<text x='%d' y='%.1f' fill='#9a6700'>at most %g</text>\n",
                LEFT, at, WIDTH - RIGHT, WIDTH - RIGHT + 10, y + PLOT, panel->bound);
    }
    for (size_t l = 0; l < CHART_LINES_MAX && panel->lines[l].name != NULL; l++)
        draw_line(file, watch, panel, l, top, y);
}

void chart_write(const struct watch *watch, const char *path, const char *title,
                 const struct chart_panel *panels, size_t count)
{
    FILE *file = fopen(path, "we");
    if (file == NULL)
        bench_fail("%s: %s", path, strerror(errno));
    double height = TOP + PANEL * (double)count + 20, end = watch->samples[watch->n - 1].at_s;
    fprintf(file,
            "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%.0f' "
            "font-family='sans-serif' font-size='12'>\n<rect width='100%%' height='100%%' "
            "fill='white'/>\n<text x='%d' y='22' font-size='15'>%s</text>\n",
            WIDTH, height, LEFT, title);
    for (size_t i = 0; i < count; i++)
        draw_panel(file, watch, &panels[i], TOP + HEAD + PANEL * (double)i);
    for (int part = 0; part <= 4; part++)
        fprintf(file,
                "<text x='%.0f' y='%.0f' text-anchor='middle' fill='#57606a'>%.3g %s</text>\n",
                LEFT + (WIDTH - LEFT - RIGHT) * part / 4.0, height - 8,
                end * part / 4 / (end > 600 ? 60 : 1), end > 600 ? "min" : "s");
    fputs("</svg>\n", file);
    if (fclose(file) != 0)
        bench_fail("%s: %s", path, strerror(errno));
}
